//! What the stable names of phases and conditions mean for somebody who has never seen the program.
//!
//! The core says what is the case and what to do; this page of words adds what is waited for, what is at risk and what ends it. A
//! name that is missing here (from a newer daemon) is shown as it is.

use crate::rotation::health::Phase;

/// What a reason's code means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meaning {
    /// Who or what is waited for, in few words.
    pub(super) waits_for: &'static str,
    /// What may be lost while it lasts; empty where all is as planned.
    pub(super) risk: &'static str,
    /// What ends it; empty where all is as planned.
    pub(super) end: &'static str,
}

const fn planned(waits_for: &'static str) -> Meaning {
    Meaning { waits_for, risk: "", end: "" }
}

const fn told(waits_for: &'static str, risk: &'static str, end: &'static str) -> Meaning {
    Meaning { waits_for, risk, end }
}

const FAIL_NOW: &str = "consumers that read this token now fail";
const NO_ROTATION: &str = "nothing now; the current token is not refreshed and ends when its life is over";
const NOT_CARED_FOR: &str = "nobody refreshes what the entry holds: a token there ends when its life is over";
const BOTH_LIVE: &str =
    "no call fails; the old token stays alive, and a copy of it in wrong hands stays usable, until it is revoked or ends";

/// The meaning of a code; `None` for one that this binary does not know.
pub(super) fn meaning(code: &str) -> Option<Meaning> {
    Some(match code {
        "rest" => planned("its refresh point"),
        "idle" => planned("nothing"),
        "looking" => planned("an answer"),
        "acting" => planned("nothing"),
        "retrying" | "mint_retrying" => planned("the next try"),
        "paced" => planned("its turn"),
        "attempt_elsewhere" => planned("another process"),
        "not_accepted_yet" => planned("the provider"),
        "propagating" => planned("the window"),
        "revoking" => planned("a second look"),
        "surplus_waiting" => planned("the next rotation"),
        "revoke_waiting" => planned("the revoke gate"),
        "revoke_unproven" => planned("proof of the revoke"),
        code => return held(code).or_else(|| broken(code)).or_else(|| noted(code)),
    })
}

/// A person or a third party is waited for; consumers go on.
fn held(code: &str) -> Option<Meaning> {
    Some(match code {
        "held" => told("`evertoken release`", NO_ROTATION, "`evertoken release`"),
        "frozen" => told("`evertoken release`", NO_ROTATION, "`evertoken release`, once nobody else writes the entry"),
        "slot_occupied" => told("a person", NO_ROTATION, "the foreign version's label is gone and the token is released"),
        "foreign_rotation" => told("a person", NO_ROTATION, "the other rotation is off"),
        "newer_record" => told("an upgrade", NO_ROTATION, "an evertoken that knows this record"),
        "damaged_record" => told("a person", NO_ROTATION, "a readable record, or a new adoption"),
        "not_adopted" => told("`evertoken adopt`", NOT_CARED_FOR, "`evertoken adopt`"),
        "not_adoptable" => told("a fit token", NOT_CARED_FOR, "a token in the entry that fits the configuration"),
        "entry_empty" => told("a first token", "consumers of this entry find no token", "a token in the entry"),
        "entry_unreadable" => told("a person", NOT_CARED_FOR, "a `payload` setting that fits the entry, or the reverse"),
        "wrong_identity" => told("a person", NO_ROTATION, "a configuration that fits the token, or the reverse"),
        "never_expires" => told("nothing", "a leak of this token has no end by itself", "a token that expires, put into the entry"),
        "gate_waiting" => told("acknowledgements", BOTH_LIVE, "every named consumer has confirmed the new token"),
        "breaker" => told("`breaker close`", BOTH_LIVE, "`evertoken breaker close`"),
        "business_integration" => told("the client", BOTH_LIVE, "the client removes the app, or the token ends by itself"),
        "old_token_gone" => told("the old one's end", BOTH_LIVE, "the old token ends by itself"),
        "revoke_failing" => told("the next try", BOTH_LIVE, "a revoke that is seen to have worked, or the old token's own end"),
        _ => return None,
    })
}

/// Consumers fail, or nothing can go on.
fn broken(code: &str) -> Option<Meaning> {
    Some(match code {
        "token_dead" | "dead" => told("a new token", FAIL_NOW, "a living token in the entry"),
        "expired" => told("a new token", FAIL_NOW, "a living token in the entry"),
        "entry_emptied" => told("a token", FAIL_NOW, "a token in the entry"),
        "entry_garbled" => told("a good token", FAIL_NOW, "a good token in the entry"),
        "foreign_token" => told("a good token", FAIL_NOW, "a good token in the entry"),
        "entry_missing" => told("the entry", FAIL_NOW, "the entry is there and holds a token"),
        "entry_deleting" => told("a person", FAIL_NOW, "the secret is restored, or the token is no longer configured"),
        _ => return None,
    })
}

/// Something lasts longer than it should, or should be known.
fn noted(code: &str) -> Option<Meaning> {
    Some(match code {
        "failing" => told(
            "the next try",
            "consumers go on with the current token; this step and those after it wait, and if it lasts the token ends unrefreshed",
            "a try that succeeds",
        ),
        "sink_failing" => told(
            "the sink",
            "readers of this sink go on with what it holds and fail when that ends; the old token stays alive for them",
            "a write of the sink that is read back; then the window begins",
        ),
        "quarantined" => told(
            "a fit token",
            "nothing now: consumers go on with the current token, which ends when its life is over; no consumer was given the rejected one",
            "a refresh that brings a token that is fit",
        ),
        "mint_failing" => told("the next try", NO_ROTATION, "a refresh that succeeds; tries go on by themselves"),
        "spool" => told("room in the spool", NO_ROTATION, "a spool that can take a token"),
        "no_provider_date" => told("a Date", BOTH_LIVE, "an answer of the provider that carries its Date"),
        "overdue" => told("the refresh", NO_ROTATION, "the refresh"),
        "unaccounted" => told(
            "its end",
            "a token that nobody holds may be alive; the current token is not affected",
            "the lost token's own end, by the time that is named",
        ),
        "clock_suspect" => told("a right clock", "times by the host's clock, such as those shown here, are off", "the host's clock is set"),
        _ => return None,
    })
}

/// What an effect of the core does, by its name; `None` for one that this binary does not know.
pub(super) fn effect(name: &str) -> Option<&'static str> {
    Some(match name {
        "prove" => "proves that the entry can be written beside its current value without changing that",
        "record" => "writes down in the entry how far the rotation is",
        "refresh" => "asks the provider for a new token",
        "stage" => "puts the new token into the store beside the current one",
        "drop_captured" => "forgets the sealed copy of a token that is safe in the store",
        "mark_retiring" => "marks the old token, so that it stays findable",
        "promote" => "makes the new token the one that consumers read",
        "publish" => "writes the current token to a sink",
        "unmark" => "takes a mark off that has done its work",
        "revoke" => "revokes the old token: every condition of the gate holds",
        "open_breaker" => "forbids every revoke of the fleet until a person has looked",
        _ => return None,
    })
}

/// What a phase means, and what comes after it.
pub(super) const fn phase(phase: Phase) -> (&'static str, &'static str) {
    match phase {
        Phase::Unknown => ("The entry has not been read since the start.", "It is read next."),
        Phase::Unadopted => {
            ("evertoken does not care for this entry yet: nothing is refreshed, written or revoked.", "`evertoken adopt` takes it over.")
        }
        Phase::Rest => {
            ("Every place holds the current token and no rotation is under way.", "The next rotation begins at the refresh point.")
        }
        Phase::Intent => {
            ("It is on record that a new token is to be minted; the current one is in use.", "The provider is asked for the new token.")
        }
        Phase::Captured => ("The new token was received and lies sealed on this host.", "It is put into the store beside the current one."),
        Phase::Staged => ("The new token is in the store beside the current one; nobody reads it.", "It is checked and tried."),
        Phase::Verified => ("The new token is what it should be and works.", "The old one is marked, so that it stays findable."),
        Phase::Marked => ("The old token is marked to be found after it is replaced.", "The new token is made current."),
        Phase::Promoted => ("Consumers of the store read the new token; the old one still works.", "Every sink is written and read back."),
        Phase::Propagating => (
            "Every place holds the new token; consumers move to it and the old one still works.",
            "When the window is over and every gate agrees, the old token is revoked.",
        ),
        Phase::Revoking => (
            "Consumers have had their time: the old token may be revoked.",
            "All is looked at once more, and if nothing speaks against it the old token is revoked.",
        ),
        Phase::Checked => (
            "The revoke was made.",
            "The provider is asked whether the old token is dead and the new one alive; then the token is at rest.",
        ),
        Phase::Surplus => (
            "A second token that we hold is alive and nobody needs it.",
            "It is revoked by the same gate as any other; the current token is not touched.",
        ),
        Phase::Quarantined => (
            "A new token was not what it should be, so it was not put to use; the current one goes on.",
            "It is revoked, and another is minted later.",
        ),
        Phase::Frozen => (
            "evertoken stepped aside, because somebody else works on this entry or its record cannot be read: it only looks.",
            "A person settles it as described below, then `evertoken release`.",
        ),
        Phase::NeedsHuman => ("evertoken cannot mend this by itself; it goes on looking.", "A person acts as described below."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::layout::columns;
    use crate::rotation::plan::Severity;

    /// The codes that the core gives, with the severity, from its source: a code without words here is a bug.
    fn codes() -> Vec<(Severity, String)> {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/src/rotation");
        let plans = std::fs::read_dir(format!("{root}/plan")).unwrap().map(|entry| entry.unwrap().path());
        let files = plans.chain([format!("{root}/health.rs").into()]).filter(|path| path.extension().is_some_and(|end| end == "rs"));
        let mut found = Vec::new();
        for text in files.map(|path| std::fs::read_to_string(path).unwrap()) {
            for (call, severity) in [("calm", Severity::Calm), ("attention", Severity::Attention), ("critical", Severity::Critical)] {
                for after in text.split(&format!("Reason::{call}(")).skip(1) {
                    if let Some((code, _)) = after.trim_start().strip_prefix('"').and_then(|code| code.split_once('"')) {
                        found.push((severity, code.to_owned()));
                    }
                }
            }
        }
        found
    }

    #[test]
    fn every_code_of_the_core_has_words() {
        let codes = codes();
        assert!(codes.len() > 30, "the search found {}", codes.len());
        for (severity, code) in codes
            .into_iter()
            .chain(["dead", "expired", "overdue", "unaccounted", "clock_suspect"].map(|code| (Severity::Attention, code.to_owned())))
        {
            let meaning = meaning(&code).unwrap_or_else(|| panic!("{code} has no words"));
            assert!(columns(meaning.waits_for) <= 20, "{code}");
            assert_eq!(severity > Severity::Calm, !meaning.risk.is_empty() && !meaning.end.is_empty(), "{code}");
        }
        assert_eq!(meaning("word of a newer one"), None);
    }

    #[test]
    fn every_effect_of_the_core_has_words() {
        let text = include_str!("../rotation/plan/step.rs");
        let (_, body) = text.split_once("pub const fn name(&self) -> &'static str {").unwrap();
        let (body, _) = body.split_once("\n    }\n").unwrap();
        let names: Vec<&str> = body.lines().filter_map(|line| line.split('"').nth(1)).collect();
        assert!(names.len() > 10, "the search found {names:?}");
        names.into_iter().for_each(|name| assert!(effect(name).is_some(), "{name} has no words"));
        assert_eq!(effect("effect of a newer one"), None);
    }

    #[test]
    fn every_phase_is_two_sentences() {
        for each in Phase::ALL {
            let (means, next) = phase(each);
            assert!(means.ends_with('.') && next.ends_with('.') && means != next, "{each:?}");
        }
    }
}

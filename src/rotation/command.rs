//! What a person may tell a token: changes of the record, decided here, committed like everything else.

use super::evidence::Evidence;
use super::policy::Policy;
use super::record::{Record, Said};
use super::token::Expiry;

/// A person's command to one token.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Rotate now.
    Rotate,
    /// No refresh and no revoke until released.
    Hold {
        /// Why, for whoever reads it later.
        why: String,
    },
    /// Ends hold and freeze.
    Release,
    /// Close the rows about lost tokens: all tokens of the user were revoked at this time (then adopted anew).
    RevokedAll {
        /// When.
        at: jiff::Timestamp,
    },
}

/// What a command comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// This record has to be committed.
    Commit(Box<Record>, String),
    /// It is so already.
    Already(String),
    /// Not possible, and why.
    Refused(String),
}

/// Decides a command.
#[must_use]
pub fn decide(evidence: &Evidence, policy: &Policy, command: &Command) -> Answer {
    let Some(record) = evidence.record() else {
        return Answer::Refused(format!("{} is not adopted: `evertoken adopt {}` first", policy.token, policy.token));
    };
    let now = evidence.clock.provider_now();
    let mut next = record.next(&evidence.writer);
    match command {
        Command::Rotate => {
            if let Some(said) = record.hold.as_ref().or(record.frozen.as_ref()) {
                return Answer::Refused(format!(
                    "held since {}: {}; `evertoken release {}` first",
                    super::time::whole(said.at),
                    said.why,
                    policy.token
                ));
            }
            if record.current.expires == Expiry::Never {
                return Answer::Refused(
                    "the token never expires: refreshing it would put an end to it; it is watched, not rotated".to_owned(),
                );
            }
            if let Some(rotation) = &record.rotation {
                return Answer::Already(format!("rotation {} is under way", rotation.id));
            }
            if record.request.is_some() {
                return Answer::Already("a rotation is requested already".to_owned());
            }
            next.request = Some(Said { at: now, why: "requested by a person".to_owned() });
            // Whoever asks now does not want to wait for what failed before.
            next.backoff = None;
            Answer::Commit(Box::new(next), "rotation requested".to_owned())
        }
        Command::Hold { why } => {
            if record.hold.is_some() {
                return Answer::Already("held already".to_owned());
            }
            if !is_fit_to_show(why) {
                let text = "the reason is shown in status, log and record for everybody to read: it may hold no control characters, nothing that \
                            looks like a token or secret, and 200 characters at most";
                return Answer::Refused(text.to_owned());
            }
            next.hold = Some(Said { at: now, why: why.clone() });
            Answer::Commit(Box::new(next), format!("held: {why}"))
        }
        Command::Release => {
            if record.hold.is_none() && record.frozen.is_none() {
                return Answer::Already("nothing holds it; it is looked at afresh".to_owned());
            }
            next.hold = None;
            next.frozen = None;
            next.foreign_edits.clear();
            Answer::Commit(Box::new(next), "released".to_owned())
        }
        Command::RevokedAll { at } => {
            if *at > now {
                return Answer::Refused(format!("{at} has not come yet: give the time at which all tokens of the user were revoked"));
            }
            // If all of them were revoked then, the current one cannot be older and alive.
            let alive = evidence.look(record.current.fingerprint).is_some_and(|seen| seen.value.introspection.valid);
            if alive && record.current.issued_at < *at {
                return Answer::Refused(format!(
                    "the current token was made at {} and is alive, so not all tokens of the user were revoked at {at}; nothing was closed",
                    record.current.issued_at
                ));
            }
            next.unaccounted.retain(|row| row.since > *at);
            let closed = record.unaccounted.len() - next.unaccounted.len();
            if closed == 0 {
                return Answer::Already("no lost token is on the books from before that time".to_owned());
            }
            Answer::Commit(Box::new(next), format!("{closed} lost token(s) closed: all tokens of the user were revoked at {at}"))
        }
    }
}

/// Whether a person's words may stand where everybody reads them.
fn is_fit_to_show(text: &str) -> bool {
    let long_word = |word: &str| word.chars().filter(char::is_ascii_alphanumeric).count() >= 30;
    text.chars().count() <= 200 && !text.chars().any(char::is_control) && !text.split_whitespace().any(long_word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rotation::evidence::StoreEvidence;
    use crate::rotation::testing::{NOW, policy, record};
    use crate::rotation::time::{Boot, Clock};

    fn evidence(record: Option<Record>) -> Evidence {
        let clock = Clock { wall: NOW, boot: Boot::ZERO, provider: None };
        let mut evidence = Evidence::new(clock, "me".into(), &[], Vec::new());
        evidence.store.answered(StoreEvidence { record: record.map(Ok), ..StoreEvidence::default() }, Boot::ZERO);
        evidence
    }

    #[test]
    fn a_hold_is_set_once_and_keeps_a_rotation_from_being_asked_for() {
        let Answer::Commit(held, _) = decide(&evidence(Some(record())), &policy(), &Command::Hold { why: "audit".into() }) else {
            panic!()
        };
        assert_eq!((held.number, held.writer.as_str()), (8, "me"));
        let evidence = evidence(Some(*held));
        assert!(matches!(decide(&evidence, &policy(), &Command::Hold { why: String::new() }), Answer::Already(_)));
        assert!(matches!(decide(&evidence, &policy(), &Command::Rotate), Answer::Refused(_)));
        assert!(matches!(decide(&evidence, &policy(), &Command::Release), Answer::Commit(..)));
    }

    #[test]
    fn what_looks_like_a_secret_is_no_reason_to_hold() {
        for why in ["EAAGm0PX4ZCpsBAKZCq7xyz0123456789abcdefGH", "a\u{1b}[2J", &"word ".repeat(50)] {
            let answer = decide(&evidence(Some(record())), &policy(), &Command::Hold { why: why.to_owned() });
            assert!(matches!(answer, Answer::Refused(_)), "{why:?}");
        }
    }

    #[test]
    fn a_rotation_is_asked_for_once_and_never_for_a_permanent_token() {
        let Answer::Commit(asked, _) = decide(&evidence(Some(record())), &policy(), &Command::Rotate) else { panic!() };
        assert!(matches!(decide(&evidence(Some(*asked)), &policy(), &Command::Rotate), Answer::Already(_)));
        let mut permanent = record();
        permanent.current.expires = Expiry::Never;
        assert!(matches!(decide(&evidence(Some(permanent)), &policy(), &Command::Rotate), Answer::Refused(_)));
        assert!(matches!(decide(&evidence(None), &policy(), &Command::Rotate), Answer::Refused(_)));
    }

    #[test]
    fn only_rows_from_before_the_great_revoke_are_closed() {
        let mut record = record();
        for (attempt, since) in [(1, NOW), (2, crate::rotation::time::later(NOW, jiff::SignedDuration::from_hours(1)))] {
            record.unaccounted.push(crate::rotation::record::Unaccounted {
                rotation: "r".into(),
                attempt,
                since,
                bound: since,
                why: String::new(),
            });
        }
        let Answer::Commit(closed, _) = decide(&evidence(Some(record)), &policy(), &Command::RevokedAll { at: NOW }) else { panic!() };
        assert_eq!(closed.unaccounted.len(), 1);
    }
}

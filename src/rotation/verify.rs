//! Is a minted token fit to replace the old one?
//!
//! A new token is stored beside the current one, looked at through the provider, and promoted only when this says so: storing
//! first and checking later is how others re-issued in endless loops.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::policy::Policy;
use super::record::Known;
use super::schedule::fitted;
use super::token::{Expiry, GranularScopes, Introspection};

/// The verdict on a new token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may replace the old one; what is odd about it is named.
    Accept {
        /// What people should know.
        warnings: Vec<String>,
    },
    /// Not yet: what may pass by itself.
    NotYet {
        /// What is in the way.
        why: String,
    },
    /// Never.
    Reject {
        /// Every reason, one line each.
        reasons: Vec<String>,
    },
}

/// Whether a token speaks for the app and the system user that it should.
///
/// # Errors
/// Each mismatch, one line.
pub fn identity(policy: &Policy, look: &Introspection) -> Result<(), Vec<String>> {
    let mut reasons = Vec::new();
    let mut expect = |what: &str, expected: &str, found: Option<&str>| {
        if found != Some(expected) {
            reasons.push(format!("{what} is {}, expected {expected}", found.unwrap_or("not stated")));
        }
    };
    expect("app_id", &policy.app_id, look.app_id.as_deref());
    expect("user_id", &policy.system_user_id, look.user_id.as_deref());
    expect("type", "SYSTEM_USER", look.kind.as_deref());
    if reasons.is_empty() { Ok(()) } else { Err(reasons) }
}

/// Whether a token may be taken over as current: alive, the right identity, the configured scopes.
///
/// # Errors
/// Each reason why not, one line.
pub fn adoptable(policy: &Policy, look: &Introspection) -> Result<(), Vec<String>> {
    let mut reasons = identity(policy, look).err().unwrap_or_default();
    if !look.valid {
        reasons.insert(0, format!("the provider says it is dead ({})", death(look)));
    }
    reasons.extend(missing_scopes(policy.required_scopes.as_ref().unwrap_or(&BTreeSet::new()), &look.scopes));
    if reasons.is_empty() { Ok(()) } else { Err(reasons) }
}

/// Whether `new` may replace `base`. `now` is the provider's time.
#[must_use]
pub fn successor(policy: &Policy, base: &Known, new: &Introspection, now: Timestamp) -> Verdict {
    if !new.valid {
        return Verdict::NotYet { why: format!("the provider does not accept it yet ({})", death(new)) };
    }
    let mut reasons = identity(policy, new).err().unwrap_or_default();
    let mut wanted = base.scopes.clone();
    wanted.extend(policy.required_scopes.iter().flatten().cloned());
    reasons.extend(missing_scopes(&wanted, &new.scopes));
    reasons.extend(missing_targets(&base.granular, &new.granular));
    let mut warnings: Vec<String> = new
        .scopes
        .difference(&base.scopes)
        .filter(|_| !base.scopes.is_empty())
        .map(|scope| format!("it holds {scope}, which the old one did not"))
        .collect();

    let min_life = fitted(policy.min_life, base.life());
    match (new.expires, base.expires) {
        (None, _) => reasons.push("the provider does not say when it ends".to_owned()),
        (Some(Expiry::At(at)), old) => {
            if at.duration_since(now) < min_life {
                reasons.push(format!("it ends at {at}, sooner than min_life ({}) from now", whole_seconds(min_life)));
            }
            if Expiry::At(at) < old {
                reasons.push(format!("it ends at {at}, before the old one"));
            }
        }
        // A token without an end where one with an end was expected: better than none, so it waits until the old one is about to end.
        (Some(Expiry::Never), Expiry::At(old)) => {
            let last_resort = fitted(SignedDuration::from_hours(7 * 24), base.life());
            if reasons.is_empty() && old.duration_since(now) > last_resort {
                return Verdict::NotYet {
                    why: "it never expires, which is not what was asked for; it is promoted only when the old one is about to end"
                        .to_owned(),
                };
            }
            warnings.push("it never expires".to_owned());
        }
        (Some(Expiry::Never), Expiry::Never) => {}
    }
    if reasons.is_empty() { Verdict::Accept { warnings } } else { Verdict::Reject { reasons } }
}

fn missing_scopes(wanted: &BTreeSet<String>, held: &BTreeSet<String>) -> Vec<String> {
    wanted.difference(held).map(|scope| format!("scope {scope} is missing")).collect()
}

/// Targets that the old token could reach and the new one cannot. A scope without targets reaches all of them. Meta has been seen
/// to leave a granted scope out of the granular list altogether, which counts as all targets too: plain scopes are compared anyway.
fn missing_targets(old: &GranularScopes, new: &GranularScopes) -> Vec<String> {
    let mut reasons = Vec::new();
    for (scope, targets) in old {
        let Some(Some(held)) = new.get(scope) else { continue };
        match targets {
            None => reasons.push(format!("scope {scope} is limited to {} targets, before it was not", held.len())),
            Some(targets) => reasons.extend(targets.difference(held).map(|target| format!("scope {scope} no longer reaches {target}"))),
        }
    }
    reasons
}

/// A dead token's error in short.
#[must_use]
pub fn death(look: &Introspection) -> String {
    match (look.error_code, look.error_subcode) {
        (Some(code), Some(subcode)) => format!("Graph {code}/{subcode}"),
        (Some(code), None) => format!("Graph {code}"),
        (None, _) => "no reason given".to_owned(),
    }
}

fn whole_seconds(duration: SignedDuration) -> String {
    format!("{:#}", SignedDuration::from_secs(duration.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rotation::testing::{NOW, known, look, policy};
    use crate::rotation::time::later;

    const DAY: SignedDuration = SignedDuration::from_hours(24);

    fn verdict(change: impl FnOnce(&mut Introspection)) -> Verdict {
        let mut new = look();
        change(&mut new);
        successor(&policy(), &known("old"), &new, NOW)
    }

    fn reasons(change: impl FnOnce(&mut Introspection)) -> Vec<String> {
        match verdict(change) {
            Verdict::Reject { reasons } => reasons,
            other @ (Verdict::Accept { .. } | Verdict::NotYet { .. }) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_good_successor_is_accepted() {
        assert_eq!(verdict(|_| ()), Verdict::Accept { warnings: vec![] });
    }

    #[test]
    fn what_passes_by_itself_is_waited_for() {
        assert!(matches!(verdict(|new| new.valid = false), Verdict::NotYet { .. }));
        assert!(matches!(verdict(|new| new.expires = Some(Expiry::Never)), Verdict::NotYet { .. }));
    }

    #[test]
    fn each_mismatch_is_a_reason_of_its_own() {
        assert_eq!(reasons(|new| new.app_id = Some("9".into())), ["app_id is 9, expected 1234567890"]);
        assert_eq!(reasons(|new| new.user_id = None), ["user_id is not stated, expected 10001"]);
        assert_eq!(reasons(|new| new.kind = Some("PAGE".into())), ["type is PAGE, expected SYSTEM_USER"]);
        assert_eq!(reasons(|new| new.scopes.clear()).len(), 2);
        assert_eq!(reasons(|new| new.expires = None), ["the provider does not say when it ends"]);
        assert_eq!(reasons(|new| new.expires = Some(Expiry::At(later(NOW, DAY * 6)))).len(), 2, "too short and before the old one");
    }

    #[test]
    fn targets_may_grow_but_not_shrink() {
        let mut base = known("old");
        base.granular = [("ads_read".to_owned(), Some(["1".to_owned(), "2".to_owned()].into()))].into();
        let mut new = look();
        for (granular, fit) in [(None, true), (Some(None), true), (Some(Some(vec!["1", "2", "3"])), true), (Some(Some(vec!["1"])), false)] {
            new.granular = granular
                .map(|targets| ("ads_read".to_owned(), targets.map(|list| list.into_iter().map(str::to_owned).collect())))
                .into_iter()
                .collect();
            assert_eq!(matches!(successor(&policy(), &base, &new, NOW), Verdict::Accept { .. }), fit, "{new:?}");
        }
        base.granular = [("ads_read".to_owned(), None)].into();
        assert!(matches!(successor(&policy(), &base, &new, NOW), Verdict::Reject { .. }), "all targets became one");
    }

    #[test]
    fn more_scopes_are_named_but_accepted() {
        let Verdict::Accept { warnings } = verdict(|new| {
            new.scopes.insert("ads_read".to_owned());
        }) else {
            panic!("rejected")
        };
        assert_eq!(warnings, ["it holds ads_read, which the old one did not"]);
    }

    #[test]
    fn a_token_without_end_is_taken_when_the_old_one_is_about_to_end() {
        let mut new = look();
        new.expires = Some(Expiry::Never);
        let late = later(known("old").expires.at().unwrap(), -DAY);
        assert_eq!(successor(&policy(), &known("old"), &new, late), Verdict::Accept { warnings: vec!["it never expires".to_owned()] });
    }

    #[test]
    fn only_a_living_token_of_the_right_user_is_adopted() {
        assert_eq!(adoptable(&policy(), &look()), Ok(()));
        let dead = Introspection { valid: false, error_code: Some(190), error_subcode: Some(463), ..look() };
        assert_eq!(adoptable(&policy(), &dead), Err(vec!["the provider says it is dead (Graph 190/463)".to_owned()]));
        let mut strict = policy();
        strict.required_scopes = Some(["ads_management".to_owned()].into());
        assert_eq!(adoptable(&strict, &look()), Err(vec!["scope ads_management is missing".to_owned()]));
    }
}

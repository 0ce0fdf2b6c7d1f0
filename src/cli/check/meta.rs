//! What Meta says of an app and of a token.

use jiff::{SignedDuration, Timestamp};

use super::super::bar::short;
use super::super::layout::instant;
use super::finding::{Section, remedy_at_meta};
use crate::clock;
use crate::config::settings::{self, TokenSettings};
use crate::config::{display_duration, life_conflicts};
use crate::graph::Provider as _;
use crate::graph::client::GraphClient;
use crate::rotation::fault::{Fault, FaultClass};
use crate::rotation::policy::Policy;
use crate::rotation::record::Record;
use crate::rotation::schedule::{fitted, refresh_due};
use crate::rotation::time::later;
use crate::rotation::token::{Expiry, Introspection, Token};
use crate::rotation::verify::adoptable;

/// From this difference on clocks are told of.
const OFFSET_ODD: SignedDuration = SignedDuration::from_secs(30);
/// From this difference on AWS refuses signatures, and times in logs mislead.
const OFFSET_MAX: SignedDuration = SignedDuration::from_mins(5);

/// Whether Meta accepts an app's id and secret, serves the version asked for, and agrees on the time. False when it is no use asking
/// for the app's tokens.
pub(super) async fn app(name: &str, app: &settings::App, client: &GraphClient, section: &mut Section) -> bool {
    let asked = clock::wall();
    let answer = client.introspect_app().await;
    let answered = clock::wall();
    let good = match &answer.result {
        Ok(look) if look.valid && look.app_id.as_deref() == Some(app.id.as_str()) => {
            section.fine("Meta accepts its id and secret");
            true
        }
        Ok(look) => {
            let found = look.app_id.as_deref().map_or_else(|| "no app".to_owned(), |id| format!("app {id}"));
            let state = if look.valid { "valid" } else { "not valid" };
            let what = format!("Meta says that its id and secret are {state} and belong to {found}, not {}", app.id);
            section.error(what, format!("compare [apps.{name}] id and secret with the app's dashboard at Meta"));
            false
        }
        Err(fault) => {
            section.error(format!("Meta could not be asked about it: {fault}"), remedy_at_meta(fault, name));
            false
        }
    };
    if let Some(served) = client.served_version() {
        version(name, app, &served, section);
    }
    let reached = answer.result.as_ref().err().is_none_or(|fault| fault.class != FaultClass::Unreachable);
    match answer.date {
        Some(date) => offset(date, asked, answered, section),
        None if reached => section.error(
            "its answers carry no Date, without which no old token is ever revoked: the window is timed by Meta's clock alone",
            "take out the proxy that strips it",
        ),
        None => {}
    }
    good
}

fn version(name: &str, app: &settings::App, served: &str, section: &mut Section) {
    if served == app.graph_version {
        section.fine(format!("Meta serves {served}, as asked"));
    } else {
        section.warning(
            format!("Meta answers with {served} where {} was asked for, which it no longer serves", app.graph_version),
            format!("read Meta's changelog, then set [apps.{name}] graph_version = \"{served}\" or later"),
        );
    }
}

/// The provider's `Date` is in whole seconds and was made somewhere between question and answer.
fn offset(date: Timestamp, asked: Timestamp, answered: Timestamp, section: &mut Section) {
    let second = SignedDuration::from_secs(1);
    let (ahead, behind) = (asked.duration_since(date) - second, date.duration_since(answered));
    let (by, where_to) = if ahead > behind { (ahead, "ahead of") } else { (behind, "behind") };
    if by <= OFFSET_ODD {
        section.fine("the clock of this host agrees with Meta's");
        return;
    }
    let what = format!("the clock of this host is {} {where_to} Meta's", display_duration(SignedDuration::from_secs(by.as_secs())));
    let remedy = "let a time service set it (`timedatectl set-ntp true`)";
    if by > OFFSET_MAX {
        section.error(format!("{what}; AWS refuses calls that are 5m off"), remedy);
    } else {
        section.warning(what, remedy);
    }
}

/// What a token's own introspection is held against.
pub(super) struct Subject<'a> {
    pub(super) app: &'a str,
    pub(super) policy: &'a Policy,
    pub(super) settings: &'a TokenSettings,
    pub(super) record: Option<&'a Record>,
}

/// Asks about the current token, and lets it call. The fault, where the app had better be left alone.
pub(super) async fn token(subject: &Subject<'_>, token: &Token, client: &GraphClient, section: &mut Section) -> Result<(), Fault> {
    let asked = |fault: Fault, what: &str, section: &mut Section| {
        section.error(format!("{what}: {fault}"), remedy_at_meta(&fault, subject.app));
        if fault.class == FaultClass::Throttled { Err(fault) } else { Ok(()) }
    };
    let answer = client.introspect(token).await;
    let look = match answer.result {
        Ok(look) => look,
        Err(fault) => return asked(fault, "Meta could not be asked about its token", section),
    };
    let fit = fitness(subject, token, &look, section);
    life(subject, token, &look, answer.date.unwrap_or_else(clock::wall), section);
    if !fit {
        return Ok(());
    }
    match client.me(token).await.result {
        Ok(me) if me.id.as_deref() != Some(subject.settings.system_user_id.as_str()) => {
            let found = me.id.unwrap_or_else(|| "nobody".to_owned());
            section.error(
                format!("a call with it and its proof speaks for {found}, not for {}", subject.settings.system_user_id),
                "put the token of that system user into the entry, or mend system_user_id (ids of users differ from app to app)",
            );
        }
        Ok(me) if me.client_business_id.is_some() => section.warning(
            "it is a token of Facebook Login for Business: a refresh replaces it, and none of them is ever revoked",
            "nothing, if that is meant; else generate a token of a system user",
        ),
        Ok(_) => section.fine("a call with it and its proof works"),
        Err(fault) => return asked(fault, "a call with it and its proof fails", section),
    }
    Ok(())
}

/// Whether it is alive, of the right app and user, and holds its scopes: those configured, else those of its record.
fn fitness(subject: &Subject<'_>, token: &Token, look: &Introspection, section: &mut Section) -> bool {
    let mut policy = subject.policy.clone();
    policy.required_scopes = policy.required_scopes.or_else(|| subject.record.map(|record| record.current.scopes.clone()));
    match adoptable(&policy, look) {
        Ok(()) => {
            section.fine(format!("token {} is valid, of the right app and system user, with its scopes", token.fingerprint()));
            true
        }
        Err(reasons) => {
            for reason in reasons {
                let remedy = remedy_of(&reason, subject);
                section.error(format!("token {}: {reason}", token.fingerprint()), remedy);
            }
            false
        }
    }
}

fn remedy_of(reason: &str, subject: &Subject<'_>) -> String {
    let name = &subject.policy.token;
    if reason.starts_with("scope ") {
        format!("generate a token with that scope and put it into the entry, or take the scope out of [tokens.{name}] required_scopes")
    } else if reason.starts_with("app_id") {
        format!("name the app that it belongs to in [tokens.{name}] app, or put a token of this app into the entry")
    } else if reason.starts_with("user_id") {
        format!("mend [tokens.{name}] system_user_id, or put the token of that system user into the entry")
    } else if reason.starts_with("type") {
        "put the token of a system user into the entry: others cannot be refreshed this way".to_owned()
    } else {
        "generate a new token in Business settings (System users) and put it into the entry".to_owned()
    }
}

/// When it ends, and whether the wishes fit so long a life.
fn life(subject: &Subject<'_>, token: &Token, look: &Introspection, now: Timestamp, section: &mut Section) {
    if !look.valid {
        return;
    }
    let expires = match look.expires {
        Some(Expiry::At(at)) => at,
        Some(Expiry::Never) => {
            let remedy = "nothing, if that is meant; else generate one with an expiry of 60 days";
            return section.warning("it never expires, so it is watched and not rotated", remedy);
        }
        None => {
            let remedy = "put a token into the entry whose end Meta tells; without it nothing can be planned";
            return section.error("Meta does not say when it ends", remedy);
        }
    };
    section.fine(format!("it lives until {}, for {} from now", instant(expires), short(expires.duration_since(now))));
    let known = subject.record.map(|record| &record.current).filter(|current| current.fingerprint == token.fingerprint());
    let Some(issued) = known.map(|current| current.issued_at).or(look.issued_at) else { return };
    let life = SignedDuration::from_secs(expires.duration_since(issued).as_secs());
    section.fine(outlook(subject, token, (issued, life), now));
    for conflict in life_conflicts(&subject.settings.schedule, &subject.settings.propagation, life) {
        section.warning(conflict.to_string(), conflict.fix());
    }
}

/// The window that will hold, against the caches that it must outlast and the life that it must fit into; when the refresh comes, and what
/// is next.
fn outlook(subject: &Subject<'_>, token: &Token, (issued, life): (Timestamp, SignedDuration), now: Timestamp) -> String {
    let due = refresh_due(subject.policy, issued, life, &token.fingerprint().whole());
    let left = SignedDuration::from_secs(later(issued, life).duration_since(due).as_secs());
    let propagation = &subject.settings.propagation;
    let (window, ttl) = (display_duration(fitted(propagation.window, life)), display_duration(propagation.consumer_ttl));
    let next = if subject.record.is_none() {
        "adoption".to_owned()
    } else if subject.record.is_some_and(|record| record.rotation.is_some()) {
        "the rotation that is under way".to_owned()
    } else if due > now {
        format!("the refresh, {} from now", short(due.duration_since(now)))
    } else {
        "the refresh, which is due".to_owned()
    };
    let left = short(left);
    format!(
        "it is refreshed at {}, {left} before its end; the old one is revoked {window} after publication (consumer_ttl is {ttl}), by that window \
         alone, as no consumers are configured that acknowledge; next is {next}",
        instant(due)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Severity;

    fn told(date_s: i64) -> (Severity, String) {
        let at = |second| Timestamp::from_second(1_000_000 + second).unwrap();
        let mut section = Section::new("app");
        offset(at(date_s), at(0), at(2), &mut section);
        section.findings.pop().map(|finding| (finding.severity, finding.what)).unwrap()
    }

    #[test]
    fn clocks_are_compared_with_the_time_that_the_call_took() {
        for (date, severity, part) in [
            (0, Severity::Fine, "agrees"),
            (-31, Severity::Fine, "agrees"),
            (-32, Severity::Warning, "31s ahead of"),
            (32, Severity::Fine, "agrees"),
            (33, Severity::Warning, "31s behind"),
            (303, Severity::Error, "5m1s behind"),
            (-400, Severity::Error, "ahead of"),
        ] {
            let (found, what) = told(date);
            assert!(found == severity && what.contains(part), "{date}: {found:?} {what}");
        }
    }
}

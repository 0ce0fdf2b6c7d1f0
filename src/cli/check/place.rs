//! What a store has to say of one entry.

use super::finding::{Section, remedy_at_aws, remedy_at_store};
use crate::config::settings::EntryRef;
use crate::rotation::payload::PayloadRule;
use crate::rotation::token::{Fingerprint, Token};
use crate::store::{Held, Looked, SecretStore, Severity};

/// What an entry is to its token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The token and its record live there.
    Store,
    /// The token is published there too.
    Sink,
}

/// Examines an entry and looks at it. `None` when it cannot be looked at, which is told.
pub(super) async fn look(place: &EntryRef, role: Role, store: Option<&dyn SecretStore>, section: &mut Section) -> Option<Looked> {
    let Some(store) = store else {
        section.error(format!("{place}: the store cannot be used"), format!("see what is said of store {}", place.store));
        return None;
    };
    let failed = |fault: &crate::rotation::fault::Fault, section: &mut Section| {
        section.error(format!("{place}: {fault}"), remedy_at_store(fault, place.store.as_str()));
    };
    match store.examine(&place.entry).await {
        Ok(findings) => {
            let broken = findings.iter().any(|finding| finding.severity == Severity::Error);
            let looked = store.look(&place.entry).await;
            // An empty sink is filled by the daemon, so it is no trouble of the kind that an empty store is: see [`sink`].
            let empty_sink = role == Role::Sink && looked.as_ref().is_ok_and(|looked| looked.current.is_none());
            for finding in findings.into_iter().filter(|finding| !(empty_sink && finding.severity == Severity::Warning)) {
                let refused = if finding.severity == Severity::Error { remedy_at_aws(&finding.what) } else { None };
                section.take(finding.severity, format!("{place}: {}", finding.what), refused.unwrap_or(finding.remedy));
            }
            if let Err(fault) = &looked
                && !broken
            {
                failed(fault, section);
            }
            looked.ok()
        }
        Err(fault) => {
            failed(&fault, section);
            None
        }
    }
}

/// The token that consumers of the entry read.
pub(super) fn token(place: &EntryRef, rule: &PayloadRule, held: &Held, section: &mut Section) -> Option<Token> {
    match rule.extract(&held.payload) {
        Ok(token) => Some(token),
        Err(why) => {
            let remedy = "put the token there in the form that `payload` names, or name another form";
            section.error(format!("{place}: what it holds cannot be read as a token: {why}"), remedy);
            None
        }
    }
}

/// Whether a sink holds what the store holds.
pub(super) fn sink(place: &EntryRef, rule: &PayloadRule, looked: &Looked, wanted: Fingerprint, managed: bool, section: &mut Section) {
    let fills = if managed { "the daemon publishes the store's token there" } else { "adopting the token fills it" };
    if looked.record.is_some() {
        let remedy = "give every token an entry of its own; a sink is nobody's store";
        section.error(format!("{place}: this sink holds the record of a token that is managed there"), remedy);
    }
    match looked.current.as_ref().map(|held| rule.extract(&held.payload)) {
        None => section.warning(format!("{place}: the sink is empty"), fills),
        Some(Ok(token)) if token.fingerprint() == wanted => section.fine(format!("{place}: the sink holds the store's token")),
        Some(Ok(token)) => {
            section.warning(format!("{place}: the sink holds token {}, the store {wanted}", token.fingerprint()), fills);
        }
        Some(Err(why)) => section.warning(
            format!("{place}: what the sink holds cannot be read as a token ({why}), and will be replaced"),
            "save it first if anybody needs it",
        ),
    }
}

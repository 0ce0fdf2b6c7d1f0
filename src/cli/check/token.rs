//! Every token: its places, its record, what Meta says of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::super::terminal::Progress;
use super::finding::Section;
use super::meta::{self, Subject};
use super::place::{self, Role};
use super::world::World;
use crate::app::policy;
use crate::config::settings::{Adopt, TokenSettings};
use crate::rotation::record::{Record, RecordError};
use crate::store::{Looked, SecretStore};

/// Tokens looked at side by side: enough to wait for nobody in vain, too few to press a store or an app.
const SIDE_BY_SIDE: usize = 8;

/// What became of one token.
struct Checked {
    section: Section,
    /// Its places by their identity (an ARN, a path), for what only shows when all are seen.
    places: Vec<(String, String)>,
}

/// Looks at all of them; the sections in the order of their names, with one more where entries collide.
pub(super) async fn all(world: &Arc<World>, progress: &mut Progress) -> Vec<Section> {
    let names: Vec<String> = world.settings.tokens.keys().map(ToString::to_string).collect();
    let mut left = names.iter();
    let mut running = JoinSet::new();
    let mut checked: BTreeMap<String, Checked> = BTreeMap::new();
    loop {
        while running.len() < SIDE_BY_SIDE
            && let Some(name) = left.next()
        {
            let (world, name) = (world.clone(), name.clone());
            running.spawn(async move { (name.clone(), one(&world, &name).await) });
        }
        progress.say(&format!("looking at tokens: {} of {}", checked.len(), names.len()));
        match running.join_next().await {
            None => break,
            Some(Ok((name, found))) => drop(checked.insert(name, found)),
            // A panic is told by its hook; the token's section says that it is missing.
            Some(Err(_panicked)) => {}
        }
    }
    for name in &names {
        checked.entry(name.clone()).or_insert_with(|| {
            let mut section = Section::new(format!("token {name}"));
            section.error("looking at it failed in this program", "report this with what RUST_LOG=debug shows");
            Checked { section, places: Vec::new() }
        });
    }
    let places = checked.iter().flat_map(|(name, found)| found.places.iter().map(move |place| (name.as_str(), place)));
    let collisions = collisions(places);
    checked.into_values().map(|found| found.section).chain(collisions).collect()
}

async fn one(world: &World, name: &str) -> Checked {
    let mut section = Section::new(format!("token {name}"));
    let mut places = Vec::new();
    let (Some(settings), Some(policy)) =
        (world.settings.tokens.get(name), world.settings.tokens.get(name).and_then(|token| policy(&world.settings, name, token)))
    else {
        return Checked { section, places };
    };
    let store = |name: &str| world.setup.store(name).map(|store| &**store as &dyn SecretStore);
    let Some(looked) = place::look(&settings.store, Role::Store, store(settings.store.store.as_str()), &mut section).await else {
        return Checked { section, places };
    };
    places.push((looked.identity.clone(), settings.store.to_string()));
    let record = record(name, settings, &looked, &mut section);
    let current = looked.current.as_ref().and_then(|held| place::token(&settings.store, &settings.payload, held, &mut section));
    if let Some(current) = &current {
        moved(name, current.fingerprint(), record.as_ref(), &mut section);
        match world.setup.client(settings.app.as_str()).filter(|_| world.asks(settings.app.as_str())) {
            Some(client) => {
                let subject = Subject { app: settings.app.as_str(), policy: &policy, settings, record: record.as_ref() };
                if meta::token(&subject, current, client, &mut section).await.is_err() {
                    world.leave_alone(settings.app.as_str());
                }
            }
            None => section.warning(
                format!("Meta was not asked about token {}", current.fingerprint()),
                format!("mend what is said of app {} or of its other tokens, then check again", settings.app),
            ),
        }
    }
    for sink in &settings.sinks {
        let Some(there) = place::look(sink, Role::Sink, store(sink.store.as_str()), &mut section).await else { continue };
        places.push((there.identity.clone(), sink.to_string()));
        if let Some(current) = &current {
            place::sink(sink, &settings.payload, &there, current.fingerprint(), record.is_some(), &mut section);
        }
    }
    Checked { section, places }
}

/// Whether the token is managed, and what its record says that a person should know.
fn record(name: &str, settings: &TokenSettings, looked: &Looked, section: &mut Section) -> Option<Record> {
    let Some(stored) = &looked.record else {
        match settings.adopt {
            Adopt::Auto => section.fine("not managed yet: `evertoken run` adopts it at first sight"),
            Adopt::Ask if looked.current.is_some() => section.warning("not managed yet", format!("`evertoken adopt {name}`")),
            Adopt::Ask => section.warning("not managed yet, and the entry is empty", format!("`evertoken adopt {name} --token-file PATH`")),
        }
        return None;
    };
    match Record::decode(stored.number, &stored.bytes) {
        Ok(record) => {
            section.fine(format!("managed: record {}, epoch {}", record.number, record.epoch));
            if let Some(hold) = &record.hold {
                let what = format!("held since {}: {}; it is neither refreshed nor revoked", hold.at, hold.why);
                section.warning(what, format!("`evertoken release {name}` when that is over"));
            }
            if let Some(frozen) = &record.frozen {
                section
                    .warning(format!("frozen since {}: {}", frozen.at, frozen.why), format!("mend that, then `evertoken release {name}`"));
            }
            for lost in &record.unaccounted {
                section.warning(
                    format!("a token may have been minted on {} that nobody holds; it ends by {}", lost.since, lost.bound),
                    "nothing: it ends by itself; `evertoken ledger close` if all tokens of the user were revoked since",
                );
            }
            Some(record)
        }
        Err(error @ RecordError::Newer { .. }) => {
            section.error(error.to_string(), "upgrade this evertoken; until then it only observes");
            None
        }
        Err(error @ RecordError::Damaged { .. }) => {
            let remedy = format!(
                "remove the label evertoken-state-{} (or the file record/{} of the entry), then `evertoken adopt {name}`; the token itself is not touched",
                stored.number, stored.number
            );
            section.error(error.to_string(), remedy);
            None
        }
    }
}

/// Whether somebody else put another token into the entry. During a rotation two tokens are right.
fn moved(name: &str, current: crate::rotation::token::Fingerprint, record: Option<&Record>, section: &mut Section) {
    let Some(record) = record.filter(|record| record.rotation.is_none() && record.current.fingerprint != current) else { return };
    section.warning(
        format!("the entry holds token {current}, the record speaks of {}: somebody changed it", record.current.fingerprint),
        format!("nothing, if it is good: the daemon takes it over or says why not (`evertoken explain {name}`)"),
    );
}

/// Entries that several configured places turn out to be.
fn collisions<'a>(places: impl Iterator<Item = (&'a str, &'a (String, String))>) -> Option<Section> {
    let mut by_identity: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, (identity, place)) in places.filter(|(_, (identity, _))| !identity.is_empty()) {
        by_identity.entry(identity).or_default().push(format!("token {name} ({place})"));
    }
    let mut section = Section::new("entries");
    for (identity, holders) in by_identity.into_iter().filter(|(_, holders)| holders.len() > 1) {
        section.error(
            format!("{identity} is meant by {}", holders.join(" and ")),
            "give each an entry of its own: two would overwrite each other's token and revoke it",
        );
    }
    (!section.findings.is_empty()).then_some(section)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_names_of_one_entry_are_found() {
        let place = |identity: &str, place: &str| (identity.to_owned(), place.to_owned());
        let (one, other, third, none) = (place("arn:1", "a:x"), place("arn:1", "b:x"), place("arn:2", "a:y"), place("", "a:z"));
        let section = collisions([("one", &one), ("two", &other), ("two", &third), ("one", &none), ("two", &none)].into_iter()).unwrap();
        let [finding] = section.findings.as_slice() else { panic!("{section:?}") };
        assert_eq!(finding.what, "arn:1 is meant by token one (a:x) and token two (b:x)");
        assert!(collisions([("one", &one), ("two", &third)].into_iter()).is_none());
    }
}

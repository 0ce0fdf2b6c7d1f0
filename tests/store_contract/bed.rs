//! What a case needs of a store under test, and how the list is run.

use std::sync::Arc;

use async_trait::async_trait;
use evertoken::rotation::fault::{Certainty, Fault, FaultClass};
use evertoken::rotation::payload::Payload;
use evertoken::rotation::slot::SlotId;
use evertoken::store::{Held, SecretStore, Written};
use futures_case::Case;

use crate::cases::CASES;

/// A store under test with its surroundings.
#[async_trait]
pub(crate) trait Bed: Send + Sync {
    /// The store.
    fn store(&self) -> Arc<dyn SecretStore>;
    /// The same store as another process sees it: nothing cached, nothing shared.
    fn other(&self) -> Arc<dyn SecretStore>;
    /// A name that no entry has.
    fn fresh_name(&self) -> String;
    /// An entry that is there and holds nothing.
    async fn empty(&self) -> String;
    /// What somebody else does who edits the entry by hand.
    async fn overwrite(&self, entry: &str, text: &str);
    /// An entry that is scheduled for deletion, where the store knows such a thing.
    async fn deleting(&self) -> Option<String>;
    /// An entry that holds `text` and is rotated by something else, where the store knows such a thing.
    async fn rotated_by_others(&self, text: &str) -> Option<String>;
    /// Whether a sink's entry is made by `publish`.
    fn publish_makes_entries(&self) -> bool;
    /// How many swaps the readers watch.
    fn swaps(&self) -> usize;
    /// What a consumer reads, by the means that consumers have; `None` when there is nothing.
    async fn consume(&self, entry: &str) -> Option<String>;
}

/// Futures of cases, named in one place.
pub(crate) mod futures_case {
    use std::pin::Pin;
    use std::sync::Arc;

    use super::Bed;

    /// A case: its name, and what it does with a bed. It panics when the promise is broken.
    pub(crate) type Case = (&'static str, fn(Arc<dyn Bed>) -> Pin<Box<dyn Future<Output = ()> + Send>>);
}

/// An entry that holds `text`.
pub(crate) async fn seeded(bed: &dyn Bed, text: &str) -> (String, Held) {
    let entry = bed.fresh_name();
    assert_eq!(bed.store().install(&entry, &Payload::new(text), true).await.unwrap(), Written::Done);
    let held = bed.store().current(&entry).await.unwrap().unwrap();
    assert_eq!(held.payload.expose(), text);
    (entry, held)
}

/// A staged slot's name, as the rotation makes it.
pub(crate) fn slot(number: u32) -> SlotId {
    SlotId::staged("contract", "rotation", number)
}

/// What consumers read, through the store.
pub(crate) async fn now(bed: &dyn Bed, entry: &str) -> String {
    let held = bed.other().current(entry).await.unwrap().unwrap();
    assert_eq!(bed.consume(entry).await.as_deref(), Some(held.payload.expose()), "the store's current is what consumers read");
    held.payload.expose().to_owned()
}

/// Asserts a refusal of this class, before anything was done.
#[track_caller]
pub(crate) fn assert_refused<T: std::fmt::Debug>(result: Result<T, Fault>, class: FaultClass) {
    let fault = result.expect_err("a refusal");
    assert_eq!((fault.class, fault.certainty), (class, Certainty::NotDone), "{fault}");
    assert!(!fault.what.is_empty() && !fault.what.contains('\n'), "one line for people: {:?}", fault.what);
}

/// Runs the list. Cases named in `divergent` must fail, because the thing under the store (not the store) is known to differ from
/// the real one there; the text says how.
pub(crate) async fn run(bed: Arc<dyn Bed>, divergent: &[(&str, &str)]) {
    let mut wrong = Vec::new();
    for (name, reason) in divergent {
        if !CASES.iter().any(|(case, _)| case == name) {
            wrong.push(format!("{name}: listed as divergent ({reason}) but no such case"));
        }
    }
    for (name, case) in CASES as &[Case] {
        let outcome = tokio::spawn(case(Arc::clone(&bed))).await;
        let reason = divergent.iter().find(|(case, _)| case == name).map(|(_, reason)| reason);
        match (outcome, reason) {
            (Ok(()), None) | (Err(_), Some(_)) => {}
            (Ok(()), Some(reason)) => wrong.push(format!("{name}: passes now, so it is no divergence any more ({reason})")),
            (Err(_), None) => wrong.push(format!("{name}: broken, see the panic above")),
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), CASES.len(), wrong.join("\n"));
}

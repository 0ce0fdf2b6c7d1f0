//! Where tokens live: the trait that every store implements.
//!
//! A store keeps, for each *entry*, the payload that consumers read (*current*), payloads on their way in (*staged*), payloads on
//! their way out (*retiring*), and the record of the rotation (token-free bytes under a number). Every change is compare-and-set
//! or create-if-absent, so any number of writers is harmless (I5), and every change may be repeated: the second time it is `Done`
//! again or a conflict, never a second effect.
//!
//! An error tells whether the change may have happened ([`Fault::certainty`]); an unknown one is resolved by looking. Nothing
//! here retries on its own: retries are decisions of the plan.

use async_trait::async_trait;

use crate::rotation::fault::Fault;
use crate::rotation::payload::Payload;
use crate::rotation::slot::SlotId;

pub mod aws;
pub mod file;

/// One look at an entry.
#[derive(Debug, Clone, Default)]
pub struct Looked {
    /// The entry's name for good: an ARN, or the store's path and the entry. Goes into ids that we derive.
    pub identity: String,
    /// Whether the entry is there.
    pub presence: Presence,
    /// What consumers read now; `None` where the entry is empty.
    pub current: Option<Held>,
    /// Slots that carry our staged mark.
    pub staged: Vec<SlotId>,
    /// Slots that carry our retiring mark.
    pub retiring: Vec<SlotId>,
    /// The record with the highest number.
    pub record: Option<RecordBytes>,
    /// Set when something else rotates this entry by itself (AWS: `RotationEnabled`, or a version under `AWSPENDING`): says what.
    pub foreign_rotation: Option<String>,
}

/// A payload together with the slot that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Where.
    pub slot: SlotId,
    /// What.
    pub payload: Payload,
}

/// Whether an entry is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Presence {
    /// It is there.
    Present,
    /// It is not there.
    #[default]
    Absent,
    /// It is there but scheduled for deletion.
    Deleting,
}

/// A record as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordBytes {
    /// Its number; of two writers of one number the second gets [`Written::Conflict`].
    pub number: u64,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// What became of a conditional change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It stands now (or stood already, from an earlier try of the same change).
    Done,
    /// Somebody else was first: what was to be replaced is no longer there, or the name holds other bytes.
    Conflict,
}

/// The mark that a slot carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// On its way in.
    Staged,
    /// On its way out.
    Retiring,
}

/// A place for tokens. Implementations are proven by one contract suite (`tests/store_contract`).
#[async_trait]
pub trait SecretStore: Send + Sync {
    /// The kind, as in the configuration (`aws-secrets-manager`, `file`).
    fn kind(&self) -> &'static str;

    /// Everything of an entry that a decision needs, in as few calls as the store allows: marks, the current payload, the highest
    /// record. What is immutable may come from a cache; the current slot and its payload never do.
    ///
    /// # Errors
    /// When the store cannot be reached or refuses. A missing entry is no error.
    async fn look(&self, entry: &str) -> Result<Looked, Fault>;

    /// Only what consumers read now, in one call.
    ///
    /// # Errors
    /// When the store cannot be reached or refuses. An empty or missing entry is `None`.
    async fn current(&self, entry: &str) -> Result<Option<Held>, Fault>;

    /// The payload of one slot, read from the store and not from a cache; `None` when there is no such slot.
    ///
    /// # Errors
    /// When the store cannot be reached or refuses.
    async fn read(&self, entry: &str, slot: &SlotId) -> Result<Option<Payload>, Fault>;

    /// Commits record `number`, the next after the highest seen, and only then lets go of its predecessor.
    /// With `read_back` the committed bytes are read again and compared before `Done` is said.
    ///
    /// # Errors
    /// When the store cannot be reached or refuses.
    async fn write_record(&self, entry: &str, record: &RecordBytes, read_back: bool) -> Result<Written, Fault>;

    /// Puts a payload beside the current one under a name of ours, marked staged, and never makes it current.
    /// `Conflict` when the name already holds other bytes.
    ///
    /// # Errors
    /// When the store cannot be reached or refuses.
    async fn stage(&self, entry: &str, slot: &SlotId, payload: &Payload) -> Result<Written, Fault>;

    /// Puts the retiring mark on a slot, so that it outlives its time as current. `Conflict` when the slot is gone.
    ///
    /// # Errors
    /// When the store cannot be reached or refuses.
    async fn mark_retiring(&self, entry: &str, slot: &SlotId) -> Result<Written, Fault>;

    /// Makes `to` current if and only if `from` is current now. `Conflict` otherwise; when `to` is current already, `Done`
    /// where the store can tell without another call, else `Conflict` (the next look tells).
    ///
    /// # Errors
    /// When the store cannot be reached or refuses.
    async fn promote(&self, entry: &str, from: &SlotId, to: &SlotId) -> Result<Written, Fault>;

    /// Takes a mark off a slot. `Done` also when it was not there.
    ///
    /// # Errors
    /// When the store cannot be reached or refuses.
    async fn unmark(&self, entry: &str, slot: &SlotId, mark: Mark) -> Result<Written, Fault>;

    /// Puts a payload into an *empty* entry and makes it current: the one write that is not beside a current one. With `create`
    /// the entry itself is created where it is missing. `Conflict` when something is current already.
    ///
    /// # Errors
    /// When the store cannot be reached or refuses, or the entry is missing and `create` is false ([`FaultClass::Missing`]).
    ///
    /// [`FaultClass::Missing`]: crate::rotation::fault::FaultClass::Missing
    async fn install(&self, entry: &str, payload: &Payload, create: bool) -> Result<Written, Fault>;

    /// Replaces what consumers of a *sink* read: `expected` is the slot seen current (`None`: the entry was empty), so a paused
    /// writer cannot put an older token over a newer one. A missing folder of a file store is made; a missing AWS secret is not.
    ///
    /// # Errors
    /// When the store cannot be reached or refuses.
    async fn publish(&self, entry: &str, expected: Option<&SlotId>, payload: &Payload) -> Result<Written, Fault>;

    /// Proves, without changing what anyone reads, that this store may be managed: the entry is there, it may be described and
    /// read, nothing else rotates it. Each finding is one line for people.
    ///
    /// # Errors
    /// When the store cannot be reached or refuses.
    async fn examine(&self, entry: &str) -> Result<Vec<Finding>, Fault>;

    /// Gives what consumers read its configured mode and group again, where somebody has changed them: what was so, in one line, or `None`
    /// where nothing was to be done. Stores whose access is not theirs to give have nothing to do.
    ///
    /// # Errors
    /// When it cannot be changed.
    async fn mend_access(&self, _entry: &str) -> Result<Option<String>, Fault> {
        Ok(None)
    }

    /// Proves, once, before the first record goes to an entry, that a put under a mark of ours does not change what consumers read
    /// (AWS: byte-equal to the current value under a custom label; if that moved `AWSCURRENT`, it is moved back). `Conflict` means
    /// that it did move, or that the entry is empty: do not manage this entry.
    ///
    /// # Errors
    /// When the store cannot be reached or refuses.
    async fn prove_beside(&self, entry: &str) -> Result<Written, Fault>;
}

/// One thing that `check` has to say of an entry or of anything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// What was found, one line.
    pub what: String,
    /// What to do about it, one line; empty where all is well.
    pub remedy: String,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Fine,
    /// Works, with a risk that is named.
    Warning,
    /// Does not work.
    Error,
}

//! Tokens in files: `<dir>/<entry>/token` is what a reader sees, with exactly the payload's bytes, the store's mode and group.
//!
//! What is ours lies beside it in `<dir>/<entry>/.evertoken/` (0700): `lock`, `record/<n>`, `staged/<slot>`, `retiring/<first eight
//! digits of the fingerprint>` and `slots` (names of contents). As a sink an entry holds nothing there but the lock.
//!
//! Compare-and-set is a comparison under flock(2), then one rename(2): a reader never sees a torn or missing file, whoever is
//! killed at whatever system call leaves the old file or the new one, and what he left half-written is removed by the next
//! writer. Folders that others may write to, foreign owners and symlinks below `dir` are refused, because there somebody else
//! could choose what is published or where it goes.
//!
//! A promoted payload keeps the name it was staged under; one that anybody else put has the name `fp-<SHA-256>`, so an entry that is
//! a sink only has such names. Every name `fp-…` is understood beside a given one.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use nix::unistd::{Gid, Group as SystemGroup};

use self::folder::Access;
use self::locked::Locked;
use self::view::{Entered, View};
use super::{Finding, Held, Looked, Mark, RecordBytes, SecretStore, Written};
use crate::rotation::fault::{Certainty, Fault, FaultClass};
use crate::rotation::payload::Payload;
use crate::rotation::slot::SlotId;

mod examine;
mod folder;
mod locked;
mod slots;
mod view;

/// How often and how long to knock at a lock that somebody holds: five seconds in all. A holder needs milliseconds, unless he was
/// stopped or the disk hangs; then the entry waits, not the daemon.
const LOCK_TRIES: u32 = 250;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// A store of files below one folder.
#[derive(Debug, Clone)]
pub struct FileStore {
    root: Arc<Path>,
    access: Access,
}

/// The group that published files get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileGroup {
    /// By number.
    Id(u32),
    /// By name, looked up once.
    Name(String),
}

/// Why a file store cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum FileStoreError {
    /// The folder is given by a path that means something else in another working folder.
    #[error("the store's dir {} is not absolute", .0.display())]
    Relative(PathBuf),
    /// Mode bits that a secret file must not have.
    #[error("the store's mode {0:04o} is refused: the owner reads and may write, others at most read (0600, 0640, 0644)")]
    Mode(u32),
    /// The host knows no such group.
    #[error("the host has no group {0:?}")]
    NoSuchGroup(String),
    /// The host's groups cannot be read.
    #[error("the group {name:?} cannot be looked up")]
    GroupLookup {
        /// The group's name.
        name: String,
        /// What the host said.
        #[source]
        source: nix::Error,
    },
}

/// An entry's place: the root, and the names of the folders below it, each checked.
#[derive(Debug, Clone)]
struct Place {
    root: Arc<Path>,
    parts: Vec<String>,
    access: Access,
}

impl FileStore {
    /// A store below `dir`, which need not be there yet. Published files get `mode` and, where given, `group`.
    ///
    /// # Errors
    /// When `dir` is relative, `mode` is not fit for a secret, or the group is not known to the host.
    pub fn new(dir: &Path, mode: u32, group: Option<&FileGroup>) -> Result<Self, FileStoreError> {
        if !dir.is_absolute() {
            return Err(FileStoreError::Relative(dir.to_path_buf()));
        }
        if mode & !0o644 != 0 || mode & 0o400 == 0 {
            return Err(FileStoreError::Mode(mode));
        }
        let group = group.map(FileGroup::lookup).transpose()?;
        Ok(Self { root: Arc::from(dir), access: Access { mode, group } })
    }

    fn place(&self, entry: &str) -> Result<Place, Fault> {
        let parts: Vec<String> = entry.split('/').map(str::to_owned).collect();
        // A leading dot covers "..", and keeps entries out of our own folders.
        let fine = |part: &String| (1..=255).contains(&part.len()) && !part.starts_with('.') && !part.contains(|c: char| c.is_control());
        if parts.iter().all(fine) {
            return Ok(Place { root: Arc::clone(&self.root), parts, access: self.access });
        }
        let what = format!("the entry {entry:?} is refused: each part between \"/\" is 1 to 255 bytes long and starts with no dot");
        Err(Fault::new(Certainty::NotDone, FaultClass::BadRequest, what))
    }

    fn identity(&self, entry: &str) -> String {
        format!("file:{}/{entry}", self.root.display())
    }

    /// Runs `work` under the entry's lock, off the event loop.
    async fn locked<T, W>(&self, entry: &str, make: bool, work: W) -> Result<T, Fault>
    where
        T: Send + 'static,
        W: FnOnce(&Locked) -> Result<T, Fault> + Send + 'static,
    {
        let place = self.place(entry)?;
        match knock(move || Locked::enter(&place, make)).await? {
            Entered::With(locked) => blocking(move || work(&locked)).await,
            Entered::Without(_) => {
                let what = format!("the folder {} is missing", self.root.join(entry).display());
                Err(Fault::new(Certainty::NotDone, FaultClass::Missing, what))
            }
            Entered::Busy => Err(self.busy(entry)),
        }
    }

    fn busy(&self, entry: &str) -> Fault {
        let lock = self.root.join(entry).join(".evertoken/lock");
        let what = format!("another process has held {} for five seconds; `fuser {0}` names it", lock.display());
        Fault::new(Certainty::NotDone, FaultClass::Unreachable, what)
    }
}

impl FileGroup {
    fn lookup(&self) -> Result<Gid, FileStoreError> {
        match self {
            Self::Id(id) => Ok(Gid::from_raw(*id)),
            Self::Name(name) => match SystemGroup::from_name(name) {
                Ok(Some(group)) => Ok(group.gid),
                Ok(None) => Err(FileStoreError::NoSuchGroup(name.clone())),
                Err(source) => Err(FileStoreError::GroupLookup { name: name.clone(), source }),
            },
        }
    }
}

impl From<&str> for FileGroup {
    /// Digits are a number, everything else a name.
    fn from(text: &str) -> Self {
        text.parse().map_or_else(|_name| Self::Name(text.to_owned()), Self::Id)
    }
}

impl fmt::Display for FileGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

#[async_trait]
impl SecretStore for FileStore {
    fn kind(&self) -> &'static str {
        "file"
    }

    async fn look(&self, entry: &str) -> Result<Looked, Fault> {
        let (place, identity) = (self.place(entry)?, self.identity(entry));
        match knock(move || View::enter(&place)).await? {
            Entered::With(view) | Entered::Without(Some(view)) => blocking(move || view.look(identity)).await,
            Entered::Without(None) => Ok(Looked { identity, ..Looked::default() }),
            Entered::Busy => Err(self.busy(entry)),
        }
    }

    async fn current(&self, entry: &str) -> Result<Option<Held>, Fault> {
        let place = self.place(entry)?;
        blocking(move || View::open(&place)?.map_or(Ok(None), |view| view.current())).await
    }

    async fn read(&self, entry: &str, slot: &SlotId) -> Result<Option<Payload>, Fault> {
        let (place, slot) = (self.place(entry)?, slot.clone());
        blocking(move || View::open(&place)?.map_or(Ok(None), |view| view.read(&slot))).await
    }

    async fn write_record(&self, entry: &str, record: &RecordBytes, read_back: bool) -> Result<Written, Fault> {
        let record = record.clone();
        self.locked(entry, false, move |locked| locked.write_record(&record, read_back)).await
    }

    async fn stage(&self, entry: &str, slot: &SlotId, payload: &Payload) -> Result<Written, Fault> {
        let (slot, payload) = (slot.clone(), payload.clone());
        self.locked(entry, false, move |locked| locked.stage(&slot, &payload)).await
    }

    async fn mark_retiring(&self, entry: &str, slot: &SlotId) -> Result<Written, Fault> {
        let slot = slot.clone();
        self.locked(entry, false, move |locked| locked.mark_retiring(&slot)).await
    }

    async fn promote(&self, entry: &str, from: &SlotId, to: &SlotId) -> Result<Written, Fault> {
        let (from, to) = (from.clone(), to.clone());
        self.locked(entry, false, move |locked| locked.promote(&from, &to)).await
    }

    async fn unmark(&self, entry: &str, slot: &SlotId, mark: Mark) -> Result<Written, Fault> {
        let slot = slot.clone();
        self.locked(entry, false, move |locked| locked.unmark(&slot, mark)).await
    }

    async fn install(&self, entry: &str, payload: &Payload, create: bool) -> Result<Written, Fault> {
        let payload = payload.clone();
        self.locked(entry, create, move |locked| locked.install(&payload)).await
    }

    async fn publish(&self, entry: &str, expected: Option<&SlotId>, payload: &Payload) -> Result<Written, Fault> {
        let (expected, payload) = (expected.cloned(), payload.clone());
        self.locked(entry, true, move |locked| locked.publish(expected.as_ref(), &payload)).await
    }

    async fn examine(&self, entry: &str) -> Result<Vec<Finding>, Fault> {
        let place = self.place(entry)?;
        blocking(move || examine::examine(&place)).await
    }

    async fn mend_access(&self, entry: &str) -> Result<Option<String>, Fault> {
        let place = self.place(entry)?;
        blocking(move || View::open(&place)?.map_or(Ok(None), |view| view.mend_access(place.access))).await
    }

    async fn prove_beside(&self, entry: &str) -> Result<Written, Fault> {
        self.locked(entry, false, Locked::prove_beside).await
    }
}

/// Tries for the lock until it is had, or five seconds are over.
async fn knock<T, E>(enter: E) -> Result<Entered<T>, Fault>
where
    T: Send + 'static,
    E: Fn() -> Result<Entered<T>, Fault> + Send + Sync + 'static,
{
    let enter = Arc::new(enter);
    for _try in 1..LOCK_TRIES {
        let once = Arc::clone(&enter);
        match blocking(move || once()).await? {
            Entered::Busy => tokio::time::sleep(LOCK_PAUSE).await,
            entered @ (Entered::With(_) | Entered::Without(_)) => return Ok(entered),
        }
    }
    blocking(move || enter()).await
}

/// File work on the pool for such work. It goes on to its end even when nobody waits any more, so a change is never cut in two.
async fn blocking<T, W>(work: W) -> Result<T, Fault>
where
    T: Send + 'static,
    W: FnOnce() -> Result<T, Fault> + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|gone| {
        let how = if gone.is_panic() { "panicked" } else { "was cancelled at shutdown" };
        Err(Fault::new(Certainty::Unknown, FaultClass::Transient, format!("the file store's work {how}")))
    })
}

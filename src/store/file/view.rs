//! What can be read of an entry. Everything here blocks.

use std::fs::{File, TryLockError};

use zeroize::Zeroizing;

use super::Place;
use super::folder::{Access, Folder, io_fault};
use super::slots::Slots;
use crate::rotation::fault::{Certainty, Fault, FaultClass};
use crate::rotation::payload::Payload;
use crate::rotation::slot::SlotId;
use crate::rotation::token::Fingerprint;
use crate::store::{Held, Looked, Presence, RecordBytes};

pub(super) const TOKEN: &str = "token";
pub(super) const PRIVATE: &str = ".evertoken";
pub(super) const LOCK: &str = "lock";
pub(super) const SLOTS: &str = "slots";
pub(super) const RECORD: &str = "record";
pub(super) const STAGED: &str = "staged";
pub(super) const RETIRING: &str = "retiring";

/// An attempt to come in under the lock.
#[derive(Debug)]
pub(super) enum Entered<T> {
    /// The entry's folder, or for a look its private one, is not there, hence neither is a lock.
    Without(Option<View>),
    /// Somebody else holds the lock.
    Busy,
    /// In.
    With(T),
}

/// What can be read of an entry.
#[derive(Debug)]
pub(super) struct View {
    pub(super) folder: Folder,
    pub(super) private: Option<Folder>,
    /// Held shared by a look at an entry that others change, so that it sees one state and not the middle of a change.
    pub(super) _lock: Option<File>,
}

impl View {
    /// Opens an entry to read one file of it, which needs no lock; `None` when its folder is missing.
    pub(super) fn open(place: &Place) -> Result<Option<Self>, Fault> {
        let Some(mut folder) = Folder::root(&place.root)? else { return Ok(None) };
        for part in &place.parts {
            let Some(child) = folder.child(part)? else { return Ok(None) };
            folder = child;
        }
        let private = folder.child(PRIVATE)?;
        Ok(Some(Self { folder, private, _lock: None }))
    }

    /// Opens an entry to read it as a whole.
    pub(super) fn enter(place: &Place) -> Result<Entered<Self>, Fault> {
        let Some(view) = Self::open(place)? else { return Ok(Entered::Without(None)) };
        let lock = view.private.as_ref().map(|private| private.lock_file(LOCK, false)).transpose()?.flatten();
        let Some(lock) = lock else { return Ok(Entered::Without(Some(view))) };
        match lock.try_lock_shared() {
            Ok(()) => Ok(Entered::With(Self { _lock: Some(lock), ..view })),
            Err(TryLockError::WouldBlock) => Ok(Entered::Busy),
            Err(TryLockError::Error(error)) => Err(io_fault(&error, "lock", view.folder.path(), Certainty::NotDone)),
        }
    }

    pub(super) fn current(&self) -> Result<Option<Held>, Fault> {
        let Some(payload) = self.token()? else { return Ok(None) };
        Ok(Some(Held { slot: self.slots()?.name(fingerprint(&payload)), payload }))
    }

    /// An empty file counts as an empty entry: that is what `touch` and a cut-short foreign write leave.
    pub(super) fn token(&self) -> Result<Option<Payload>, Fault> {
        Ok(text(&self.folder, TOKEN)?.filter(|payload| !payload.expose().is_empty()))
    }

    pub(super) fn slots(&self) -> Result<Slots, Fault> {
        let Some(private) = &self.private else { return Ok(Slots::default()) };
        Ok(text(private, SLOTS)?.map(|lines| Slots::parse(lines.expose())).unwrap_or_default())
    }

    /// A slot's payload. The search goes the way that payloads go, so that one which moves meanwhile is met.
    pub(super) fn read(&self, slot: &SlotId) -> Result<Option<Payload>, Fault> {
        if let Some(staged) = self.staged(slot)? {
            return Ok(Some(staged));
        }
        let slots = self.slots()?;
        if let Some(token) = self.token()?.filter(|token| slots.is(slot, fingerprint(token))) {
            return Ok(Some(token));
        }
        match slots.content(slot) {
            Some(content) => Ok(self.retiring(content)?.filter(|payload| fingerprint(payload) == content)),
            None => Ok(None),
        }
    }

    pub(super) fn staged(&self, slot: &SlotId) -> Result<Option<Payload>, Fault> {
        let Some(folder) = self.private_child(STAGED)? else { return Ok(None) };
        if is_file_name(slot) { text(&folder, slot.as_str()) } else { Ok(None) }
    }

    pub(super) fn retiring(&self, content: Fingerprint) -> Result<Option<Payload>, Fault> {
        let Some(folder) = self.private_child(RETIRING)? else { return Ok(None) };
        text(&folder, &content.short8())
    }

    pub(super) fn private_child(&self, name: &str) -> Result<Option<Folder>, Fault> {
        self.private.as_ref().map_or(Ok(None), |private| private.child(name))
    }

    pub(super) fn private_names(&self, name: &str) -> Result<Vec<String>, Fault> {
        self.private_child(name)?.map_or_else(|| Ok(Vec::new()), |folder| folder.names())
    }

    /// Fingerprints of what is on its way out.
    pub(super) fn retiring_contents(&self) -> Result<Vec<Fingerprint>, Fault> {
        let Some(folder) = self.private_child(RETIRING)? else { return Ok(Vec::new()) };
        let contents = folder.names()?.into_iter().map(|name| text(&folder, &name));
        contents.filter_map(|content| content.map(|found| found.as_ref().map(fingerprint)).transpose()).collect()
    }

    pub(super) fn record_numbers(&self) -> Result<Vec<u64>, Fault> {
        Ok(self.private_names(RECORD)?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    pub(super) fn record(&self, number: u64) -> Result<Option<Zeroizing<Vec<u8>>>, Fault> {
        self.private_child(RECORD)?.map_or(Ok(None), |folder| folder.read(&number.to_string()))
    }

    pub(super) fn look(&self, identity: String) -> Result<Looked, Fault> {
        let slots = self.slots()?;
        let record = match self.record_numbers()?.into_iter().max() {
            Some(number) => self.record(number)?.map(|bytes| RecordBytes { number, bytes: bytes.to_vec() }),
            None => None,
        };
        Ok(Looked {
            identity,
            presence: Presence::Present,
            current: self.current()?,
            staged: self.private_names(STAGED)?.into_iter().map(SlotId::new).collect(),
            retiring: self.retiring_contents()?.into_iter().map(|content| slots.name(content)).collect(),
            record,
            foreign_rotation: None,
        })
    }

    /// Gives the published file its mode and group. It needs no lock: whoever publishes meanwhile gives his own file the same.
    pub(super) fn mend_access(&self, access: Access) -> Result<Option<String>, Fault> {
        let Some((mode, group)) = self.published_access()? else { return Ok(None) };
        if access.is(mode, group) {
            return Ok(None);
        }
        self.folder.give(TOKEN, access)?;
        Ok(Some(format!("{} had mode {mode:04o} and group {group}", self.folder.path().join(TOKEN).display())))
    }

    /// Permission bits and group of the published file.
    pub(super) fn published_access(&self) -> Result<Option<(u32, u32)>, Fault> {
        Ok(self.folder.stat(TOKEN)?.map(|stat| (stat.st_mode & 0o7777, stat.st_gid)))
    }
}

pub(super) fn text(folder: &Folder, name: &str) -> Result<Option<Payload>, Fault> {
    let Some(mut bytes) = folder.read(name)? else { return Ok(None) };
    match String::from_utf8(std::mem::take(&mut *bytes)) {
        Ok(text) => Ok(Some(Payload::new(text))),
        Err(not_text) => {
            drop(Zeroizing::new(not_text.into_bytes()));
            let what = format!("{} is not UTF-8 text, so it cannot hold a token", folder.path().join(name).display());
            Err(Fault::new(Certainty::NotDone, FaultClass::BadRequest, what))
        }
    }
}

pub(super) fn fingerprint(payload: &Payload) -> Fingerprint {
    Fingerprint::of(payload.expose())
}

/// Whether a slot's name is safe as a file's.
pub(super) fn is_file_name(slot: &SlotId) -> bool {
    let name = slot.as_str();
    (1..=128).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

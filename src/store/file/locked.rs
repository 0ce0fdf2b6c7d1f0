//! An entry under its lock: every change. Everything here blocks.
//!
//! The order of the small steps is what a crash may cut: a name is written before the content that it is for, a copy of the old
//! token before the new one takes its place, a record before its predecessor goes.

use std::fs::TryLockError;
use std::os::fd::AsFd;

use nix::sys::stat::fstat;

use super::Place;
use super::folder::{Access, FILE_BYTES_MAX, Folder, io_fault};
use super::view::{Entered, LOCK, PRIVATE, RECORD, RETIRING, SLOTS, STAGED, TOKEN, View, fingerprint, is_file_name, text};
use crate::rotation::fault::{Certainty, Fault, FaultClass};
use crate::rotation::payload::Payload;
use crate::rotation::slot::SlotId;
use crate::rotation::token::Fingerprint;
use crate::store::{Mark, RecordBytes, Written};

/// An entry whose lock is held, until it is dropped.
#[derive(Debug)]
pub(super) struct Locked {
    view: View,
    private: Folder,
    access: Access,
}

impl Locked {
    /// Comes in to change something; with `make` the folders are made where they are missing.
    pub(super) fn enter(place: &Place, make: bool) -> Result<Entered<Self>, Fault> {
        let folder = if make {
            let mut folder = Folder::root_made(&place.root, place.access)?;
            for part in &place.parts {
                folder = folder.child_made(part, place.access)?;
            }
            folder
        } else {
            let Some(view) = View::open(place)? else { return Ok(Entered::Without(None)) };
            view.folder
        };
        let private = folder.child_made(PRIVATE, Access::PRIVATE)?;
        let lock = private.lock_file(LOCK, true)?.ok_or_else(|| missing(&folder))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Entered::Busy),
            Err(TryLockError::Error(error)) => return Err(io_fault(&error, "lock", folder.path(), Certainty::NotDone)),
        }
        // A lock on a file that somebody removed meanwhile is a lock on nothing: come again.
        if private.lock_file(LOCK, false)?.is_none_or(|now| !same_file(&lock, &now)) {
            return Ok(Entered::Busy);
        }
        let again = folder.child(PRIVATE)?;
        Ok(Entered::With(Self { view: View { folder, private: again, _lock: Some(lock) }, private, access: place.access }))
    }

    pub(super) fn stage(&self, slot: &SlotId, payload: &Payload) -> Result<Written, Fault> {
        fits(payload.expose().as_bytes())?;
        if !is_file_name(slot) {
            let what = format!("the slot name {:?} cannot be a file name: letters, digits, '-' and '_' only, 128 at most", slot.as_str());
            return Err(Fault::new(Certainty::NotDone, FaultClass::BadRequest, what));
        }
        self.base()?;
        if self.view.slots()?.content(slot).is_some_and(|content| content != fingerprint(payload)) {
            return Ok(Written::Conflict);
        }
        let folder = self.private.child_made(STAGED, Access::PRIVATE)?;
        match text(&folder, slot.as_str())? {
            Some(there) if there == *payload => folder.sync().map(|()| Written::Done),
            Some(_other) => Ok(Written::Conflict),
            None => self.put(&folder, slot.as_str(), payload).map(|()| Written::Done),
        }
    }

    pub(super) fn write_record(&self, record: &RecordBytes, read_back: bool) -> Result<Written, Fault> {
        fits(&record.bytes)?;
        self.base()?;
        let folder = self.private.child_made(RECORD, Access::PRIVATE)?;
        let name = record.number.to_string();
        match folder.read(&name)? {
            Some(there) if *there == record.bytes => folder.sync()?,
            Some(_other) => return Ok(Written::Conflict),
            // A writer that slept while others went on must not bring a number back that was let go.
            None if self.view.record_numbers()?.into_iter().any(|number| number > record.number) => return Ok(Written::Conflict),
            None => folder.put(&name, &record.bytes, Access::PRIVATE, &self.private)?,
        }
        if read_back && folder.read(&name)?.is_none_or(|there| *there != record.bytes) {
            return Ok(Written::Conflict);
        }
        for older in self.view.record_numbers()?.into_iter().filter(|number| *number < record.number) {
            // Only the highest counts, so one that stays does no harm and goes at the next write.
            folder.remove(&older.to_string()).ok();
        }
        Ok(Written::Done)
    }

    pub(super) fn mark_retiring(&self, slot: &SlotId) -> Result<Written, Fault> {
        let Some(payload) = self.view.read(slot)? else { return Ok(Written::Conflict) };
        self.keep(slot, &payload)
    }

    /// Keeps a payload under the retiring mark, its name first.
    fn keep(&self, slot: &SlotId, payload: &Payload) -> Result<Written, Fault> {
        let content = fingerprint(payload);
        self.name(content, slot)?;
        let folder = self.private.child_made(RETIRING, Access::PRIVATE)?;
        match text(&folder, &content.short8())? {
            Some(there) if there == *payload => folder.sync().map(|()| Written::Done),
            // Two tokens that share eight digits: one in four thousand million; the older one has to go first.
            Some(_other) => Ok(Written::Conflict),
            None => self.put(&folder, &content.short8(), payload).map(|()| Written::Done),
        }
    }

    fn name(&self, content: Fingerprint, slot: &SlotId) -> Result<(), Fault> {
        let mut kept = self.view.retiring_contents()?;
        kept.extend(self.view.token()?.as_ref().map(fingerprint));
        kept.push(content);
        let (old, new) = (self.view.slots()?, self.view.slots()?.with(content, slot, &kept));
        if new == old { Ok(()) } else { self.private.put(SLOTS, new.text().as_bytes(), Access::PRIVATE, &self.private) }
    }

    pub(super) fn promote(&self, from: &SlotId, to: &SlotId) -> Result<Written, Fault> {
        let Some(current) = self.view.token()? else { return Ok(Written::Conflict) };
        let slots = self.view.slots()?;
        if slots.is(to, fingerprint(&current)) {
            return self.view.folder.sync().map(|()| Written::Done);
        }
        if !slots.is(from, fingerprint(&current)) {
            return Ok(Written::Conflict);
        }
        let Some(next) = self.view.read(to)? else { return Ok(Written::Conflict) };
        if self.keep(from, &current)? == Written::Conflict {
            return Ok(Written::Conflict);
        }
        self.name(fingerprint(&next), to)?;
        self.publish_bytes(&next)
    }

    pub(super) fn unmark(&self, slot: &SlotId, mark: Mark) -> Result<Written, Fault> {
        let (folder, name) = match mark {
            Mark::Staged => (self.view.private_child(STAGED)?, is_file_name(slot).then(|| slot.as_str().to_owned())),
            Mark::Retiring => (self.view.private_child(RETIRING)?, self.retiring_name(slot)?),
        };
        if let (Some(folder), Some(name)) = (folder, name) {
            folder.remove(&name)?;
            folder.sync()?;
        }
        Ok(Written::Done)
    }

    /// The file that keeps a retiring slot, if it is this slot's indeed.
    fn retiring_name(&self, slot: &SlotId) -> Result<Option<String>, Fault> {
        let Some(content) = self.view.slots()?.content(slot) else { return Ok(None) };
        let kept = self.view.retiring(content)?.filter(|payload| fingerprint(payload) == content);
        Ok(kept.map(|_payload| content.short8()))
    }

    pub(super) fn install(&self, payload: &Payload) -> Result<Written, Fault> {
        match self.view.token()? {
            Some(current) if current == *payload => self.view.folder.sync().map(|()| Written::Done),
            Some(_other) => Ok(Written::Conflict),
            None => self.publish_bytes(payload),
        }
    }

    pub(super) fn publish(&self, expected: Option<&SlotId>, payload: &Payload) -> Result<Written, Fault> {
        let current = self.view.token()?;
        let as_expected = match (&current, expected) {
            (Some(current), _) if current == payload => return self.view.folder.sync().map(|()| Written::Done),
            (None, None) => true,
            (Some(current), Some(expected)) => self.view.slots()?.is(expected, fingerprint(current)),
            (None, Some(_)) | (Some(_), None) => false,
        };
        if as_expected { self.publish_bytes(payload) } else { Ok(Written::Conflict) }
    }

    fn publish_bytes(&self, payload: &Payload) -> Result<Written, Fault> {
        fits(payload.expose().as_bytes())?;
        if payload.expose().is_empty() {
            let what = format!("refused to publish an empty file in {}", self.view.folder.path().display());
            return Err(Fault::new(Certainty::NotDone, FaultClass::BadRequest, what));
        }
        self.view.folder.put(TOKEN, payload.expose().as_bytes(), self.access, &self.private)?;
        Ok(Written::Done)
    }

    pub(super) fn prove_beside(&self) -> Result<Written, Fault> {
        let Some(current) = self.view.token()? else { return Ok(Written::Conflict) };
        self.private.prove_writable(current.expose().as_bytes(), self.access)?;
        Ok(if self.view.token()?.as_ref() == Some(&current) { Written::Done } else { Written::Conflict })
    }

    fn put(&self, folder: &Folder, name: &str, payload: &Payload) -> Result<(), Fault> {
        folder.put(name, payload.expose().as_bytes(), Access::PRIVATE, &self.private)
    }

    /// Nothing of ours goes into an entry that has no token yet, as in the other stores: `install` comes first.
    fn base(&self) -> Result<(), Fault> {
        if self.view.token()?.is_some() { Ok(()) } else { Err(missing(&self.view.folder)) }
    }
}

fn fits(bytes: &[u8]) -> Result<(), Fault> {
    if bytes.len() <= FILE_BYTES_MAX {
        return Ok(());
    }
    let what = format!("{} bytes are more than the {FILE_BYTES_MAX} that an entry may hold", bytes.len());
    Err(Fault::new(Certainty::NotDone, FaultClass::Limit, what))
}

fn same_file(one: impl AsFd, other: impl AsFd) -> bool {
    match (fstat(one), fstat(other)) {
        (Ok(one), Ok(other)) => (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino),
        (Err(_), _) | (_, Err(_)) => false,
    }
}

fn missing(folder: &Folder) -> Fault {
    let what = format!("{} holds no token yet; `evertoken adopt` puts the first one there", folder.path().join(TOKEN).display());
    Fault::new(Certainty::NotDone, FaultClass::Missing, what)
}

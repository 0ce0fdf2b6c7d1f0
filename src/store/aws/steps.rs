//! What the store's operations are made of: changes that take more than one call, and how each ends when it is cut.

use super::client::Version;
use super::fault::{Failed, Refusal};
use super::known::{self, Known};
use super::labels::{CURRENT, Description, PROBE, install_id, is_version_id, mark_label, sink_id, state_label};
use super::{AwsStore, absent, deleting, unfilled, unknown};
use crate::rotation::fault::{Certainty, Fault, FaultClass};
use crate::rotation::payload::Payload;
use crate::rotation::slot::SlotId;
use crate::rotation::token::Fingerprint;
use crate::store::{Mark, RecordBytes, Written};

impl AwsStore {
    /// A secret that is there and not being deleted, seen just now.
    pub(super) async fn described(&self, entry: &str) -> Result<Description, Fault> {
        let described = self.calls.describe(entry).await?.ok_or_else(|| absent(entry))?;
        if described.deleting { Err(deleting(entry)) } else { Ok(described) }
    }

    /// What is known of a secret that holds a token. Nothing may be put into one that holds none: it would become current.
    pub(super) async fn filled(&self, entry: &str) -> Result<Known, Fault> {
        if let Some(known) = self.known.recall(entry) {
            return Ok(known);
        }
        let described = self.described(entry).await?;
        if described.holder(CURRENT).is_none() {
            return Err(unfilled(entry));
        }
        let known = Known { records: described.records(), arn: described.arn, record: None };
        self.known.remember(entry, known.clone());
        Ok(known)
    }

    /// The ARN, for changes that AWS itself refuses on a secret without a token.
    pub(super) async fn arn(&self, entry: &str) -> Result<String, Fault> {
        match self.known.recall(entry) {
            Some(known) => Ok(known.arn),
            None => Ok(self.described(entry).await?.arn),
        }
    }

    /// Puts a payload under a label of ours; `Conflict` where the id holds other bytes.
    pub(super) async fn put(&self, entry: &str, arn: &str, id: &SlotId, label: &str, payload: &Payload) -> Result<Written, Fault> {
        match self.calls.put(arn, id, label, payload).await {
            Ok(()) => Ok(Written::Done),
            Err(Failed { refusal: Refusal::Exists, .. }) => Ok(Written::Conflict),
            Err(failed) => Err(self.gone(entry, failed)),
        }
    }

    /// A refusal because the secret is not there under the remembered ARN makes us ask again next time.
    pub(super) fn gone(&self, entry: &str, failed: Failed) -> Fault {
        if failed.fault.class == FaultClass::Missing {
            self.known.forget(entry);
        }
        failed.fault
    }

    /// Takes a label off a version where leaving it would do no harm.
    pub(super) async fn drop_label(&self, arn: &str, label: &str, version: &SlotId) -> bool {
        match self.calls.move_label(arn, label, Some(version.as_str()), None).await {
            Ok(()) | Err(Failed { refusal: Refusal::InvalidParameter | Refusal::NotFound, .. }) => true,
            Err(Failed { refusal: Refusal::Exists | Refusal::Other, .. }) => false,
        }
    }

    /// The record under the highest number, from memory where that very version was read before.
    pub(super) async fn latest_record(&self, entry: &str, described: &Description) -> Result<Option<(String, RecordBytes)>, Fault> {
        let Some((number, version)) = described.records().pop() else { return Ok(None) };
        let remembered = self.known.recall(entry).filter(|known| known.arn == described.arn).and_then(|known| known.record);
        if let Some(record) = remembered.filter(|(at, record)| *at == version && record.number == number) {
            return Ok(Some(record));
        }
        let Some(read) = self.calls.get_version(&described.arn, &version).await? else {
            let what = format!("record {number} of {entry:?} is labelled but its version {version} cannot be read yet");
            return Err(Fault::new(Certainty::NotDone, FaultClass::Transient, what));
        };
        Ok(Some((version, RecordBytes { number, bytes: read.payload.expose().as_bytes().to_vec() })))
    }

    /// Lets go of the predecessors of a committed record. One that stays is tried again at the next write.
    pub(super) async fn let_go(&self, entry: &str, known: Known, id: &SlotId, record: &RecordBytes) {
        let mut records = Vec::new();
        for (number, version) in known.records.into_iter().filter(|(number, _version)| *number < record.number) {
            if !self.drop_label(&known.arn, &state_label(number), &SlotId::new(&version)).await {
                records.push((number, version));
            }
        }
        records.push((record.number, id.as_str().to_owned()));
        let record = known::kept(id.as_str(), record);
        self.known.remember(entry, Known { arn: known.arn, records, record });
    }

    pub(super) async fn read_back(&self, entry: &str, arn: &str, id: &SlotId, text: &Payload) -> Result<Written, Fault> {
        match self.calls.get_version(arn, id.as_str()).await.map_err(|failed| unknown(failed.fault))? {
            Some(read) if read.payload == *text => Ok(Written::Done),
            Some(_other) => Ok(Written::Conflict),
            None => {
                let what = format!("version {id} of {entry:?} was written but cannot be read yet");
                Err(Fault::new(Certainty::Unknown, FaultClass::Transient, what))
            }
        }
    }

    /// Puts the first payload into a secret that has none, under a label of ours: whoever is first becomes current by AWS's own
    /// rule, and whoever is second stays beside and takes his label off again.
    pub(super) async fn fill(&self, entry: &str, arn: &str, payload: &Payload) -> Result<Written, Fault> {
        let id = install_id(arn, Fingerprint::of(payload.expose()));
        let label = mark_label(Mark::Staged, &id);
        if self.put(entry, arn, &id, &label, payload).await? == Written::Conflict {
            return Ok(Written::Conflict);
        }
        let described = self.described(entry).await.map_err(unknown)?;
        let written = match described.holder(CURRENT) {
            Some(holder) if holder == id.as_str() => Written::Done,
            Some(_other) => Written::Conflict,
            // The rule did not hold; a move that takes the label from nobody fails where somebody has it.
            None => match self.calls.move_label(arn, CURRENT, None, Some(id.as_str())).await {
                Ok(()) => Written::Done,
                Err(Failed { refusal: Refusal::InvalidParameter, .. }) => Written::Conflict,
                Err(failed) => return Err(unknown(failed.fault)),
            },
        };
        self.drop_label(arn, &label, &id).await;
        Ok(written)
    }

    /// Whether `AWSCURRENT` is on `slot`, asked after AWS refused to move it there.
    pub(super) async fn is_current(&self, entry: &str, slot: &SlotId) -> Result<bool, Fault> {
        Ok(self.described(entry).await?.holder(CURRENT) == Some(slot.as_str()))
    }

    pub(super) async fn publish_over(&self, entry: &str, expected: &SlotId, payload: &Payload) -> Result<Written, Fault> {
        let known = match self.filled(entry).await {
            Ok(known) => known,
            Err(fault) if fault.class == FaultClass::Missing => {
                // Nothing is current, so `expected` is not; or there is no such secret, which is told.
                return self.described(entry).await.map(|_empty| Written::Conflict);
            }
            Err(fault) => return Err(fault),
        };
        let id = sink_id(&known.arn, expected, Fingerprint::of(payload.expose()));
        let label = mark_label(Mark::Staged, &id);
        if !is_version_id(expected) || self.put(entry, &known.arn, &id, &label, payload).await? == Written::Conflict {
            return Ok(Written::Conflict);
        }
        let written = match self.calls.move_label(&known.arn, CURRENT, Some(expected.as_str()), Some(id.as_str())).await {
            Ok(()) => Written::Done,
            Err(Failed { refusal: Refusal::InvalidParameter | Refusal::NotFound, .. }) => {
                if self.is_current(entry, &id).await? {
                    Written::Done
                } else {
                    Written::Conflict
                }
            }
            Err(failed) => return Err(self.gone(entry, failed)),
        };
        self.drop_label(&known.arn, &label, &id).await;
        Ok(written)
    }

    /// Puts `AWSCURRENT` back where it was before the probe took it.
    pub(super) async fn undo_probe(&self, entry: &str, current: &Version, probe: &SlotId) -> Result<Written, Fault> {
        let back = self.calls.move_label(&current.arn, CURRENT, Some(probe.as_str()), Some(current.id.as_str())).await;
        back.map_err(|failed| {
            let fault = failed.fault;
            let what = format!("AWSCURRENT of {entry:?} went to a version of the same content and could not be moved back: {}", fault.what);
            Fault { certainty: Certainty::Unknown, what, ..fault }
        })?;
        self.drop_label(&current.arn, PROBE, probe).await;
        Ok(Written::Conflict)
    }
}

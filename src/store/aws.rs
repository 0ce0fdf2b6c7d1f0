//! Tokens in AWS Secrets Manager.
//!
//! A secret's versions are immutable and named by whoever writes them; labels (staging labels) move between versions, and
//! UpdateSecretVersionStage with `RemoveFromVersionId` moves one only if it is where it was said to be. Everything here is built
//! on these two facts:
//!
//! | what | version id | label |
//! |---|---|---|
//! | staged payload | the slot's name | `evertoken-staged-<last 8 of the id>` |
//! | record n | UUIDv5 of ARN and n | `evertoken-state-<n>`, dropped from n-1 after n is committed |
//! | payload on its way out | as it was | `evertoken-retiring-<last 8 of the id>` |
//! | publication to a sink | UUIDv5 of ARN, what it replaces, and content | `evertoken-staged-…` until it is current |
//! | first payload of an empty secret | UUIDv5 of ARN and content | `evertoken-staged-…` until it is current |
//! | proof before the first record | drawn | `evertoken-probe`, until the answer is known |
//!
//! AWS gives AWSCURRENT to a put that names no label, and to the first version of a secret whatever it names. So every put names
//! exactly one label of ours, and nothing is put beside a token that is not there; `install` uses the second rule, which makes it
//! safe against a writer who is first. Reads name their label or version. AWSPENDING is native rotation's: where it is, or where
//! rotation is enabled, a look says so and the secret is not managed.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use secrecy::SecretString;

pub use self::client::AwsHttp;
use self::client::{Calls, Version};
use self::fault::{Failed, Refusal};
use self::known::{Cache, Known};
use self::labels::{CURRENT, PROBE, install_id, is_version_id, mark_label, probe_id, record_id, state_label};
use super::{Finding, Held, Looked, Mark, Presence, RecordBytes, SecretStore, Written};
use crate::rotation::fault::{Certainty, Fault, FaultClass};
use crate::rotation::payload::Payload;
use crate::rotation::slot::SlotId;
use crate::rotation::token::Fingerprint;

mod client;
mod examine;
mod fault;
mod known;
mod labels;
mod steps;

/// AWS's limit on a secret's value, in bytes.
const PAYLOAD_BYTES_MAX: usize = 65_536;

/// Called after each call with the action's name and `ok` or the fault's class.
pub type Observer = Arc<dyn Fn(&'static str, &'static str) + Send + Sync>;

/// Where a store's secrets are and as whom they are used. What is not given comes from AWS's default chain (environment, profile,
/// web identity, container, instance).
#[derive(Debug, Clone, Default)]
pub struct AwsSettings {
    /// The region, such as `eu-west-1`.
    pub region: Option<String>,
    /// A role to assume, for secrets that lie in another account.
    pub role_arn: Option<String>,
    /// The external id that the role's trust policy asks for.
    pub external_id: Option<String>,
    /// A profile of the shared configuration files.
    pub profile: Option<String>,
    /// Another address of Secrets Manager: an interface endpoint, or an emulator.
    pub endpoint_url: Option<String>,
    /// A key in place of the chain's, for rehearsals against an emulator, which takes any.
    pub fixed_key: Option<FixedKey>,
}

/// An access key that is given and not looked for.
#[derive(Debug, Clone)]
pub struct FixedKey {
    /// Its id.
    pub id: String,
    /// Its secret.
    pub secret: SecretString,
}

/// Why the HTTP client for AWS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum AwsStoreError {
    /// No usable certificate in the file of own authorities.
    #[error("the file of own certificate authorities holds no usable certificate in PEM form")]
    Certificate,
    /// The proxy's URL is none. It may hold a password, so it is not repeated.
    #[error("the proxy for AWS is not given by a URL such as http://proxy.internal:3128")]
    Proxy,
    /// The TLS configuration was refused.
    #[error("TLS towards AWS cannot be set up")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Secrets Manager of one account and region as a store. An entry is a secret's name or full ARN.
pub struct AwsStore {
    calls: Calls,
    known: Cache,
}

impl AwsStore {
    /// A store. No call is made and no credential looked for before the first use.
    #[must_use]
    pub fn new(settings: AwsSettings, http: &AwsHttp) -> Self {
        Self { calls: Calls::new(settings, http.clone()), known: Cache::default() }
    }

    /// The same store, with every call reported to `observer`.
    #[must_use]
    pub fn observed(mut self, observer: Observer) -> Self {
        self.calls.observe(observer);
        self
    }
}

impl fmt::Debug for AwsStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AwsStore")
    }
}

#[async_trait]
impl SecretStore for AwsStore {
    fn kind(&self) -> &'static str {
        "aws-secrets-manager"
    }

    async fn look(&self, entry: &str) -> Result<Looked, Fault> {
        let Some(described) = self.calls.describe(entry).await? else {
            self.known.forget(entry);
            return Ok(Looked { identity: entry.to_owned(), ..Looked::default() });
        };
        let mut looked = Looked {
            identity: described.arn.clone(),
            presence: if described.deleting { Presence::Deleting } else { Presence::Present },
            staged: described.marked(Mark::Staged),
            retiring: described.marked(Mark::Retiring),
            foreign_rotation: described.foreign_rotation(),
            ..Looked::default()
        };
        if described.deleting || described.holder(CURRENT).is_none() {
            self.known.forget(entry);
            return Ok(looked);
        }
        let current = async { self.calls.get_stage(&described.arn, CURRENT).await.map_err(Fault::from) };
        let (current, record) = tokio::try_join!(current, self.latest_record(entry, &described))?;
        looked.current = current.map(held);
        let known = Known {
            records: described.records(),
            record: record.as_ref().and_then(|(version, record)| known::kept(version, record)),
            arn: described.arn,
        };
        self.known.remember(entry, known);
        looked.record = record.map(|(_version, record)| record);
        Ok(looked)
    }

    async fn current(&self, entry: &str) -> Result<Option<Held>, Fault> {
        Ok(self.calls.get_stage(entry, CURRENT).await?.map(held))
    }

    async fn read(&self, entry: &str, slot: &SlotId) -> Result<Option<Payload>, Fault> {
        if !is_version_id(slot) {
            return Ok(None);
        }
        Ok(self.calls.get_version(entry, slot.as_str()).await?.map(|version| version.payload))
    }

    async fn write_record(&self, entry: &str, record: &RecordBytes, read_back: bool) -> Result<Written, Fault> {
        let text = Payload::new(std::str::from_utf8(&record.bytes).map_err(|_utf8| refused("a record is text"))?);
        fits(&text)?;
        let known = self.filled(entry).await?;
        if known.records.iter().any(|(number, _version)| *number > record.number) {
            return Ok(Written::Conflict);
        }
        let id = record_id(&known.arn, record.number);
        if self.put(entry, &known.arn, &id, &state_label(record.number), &text).await? == Written::Conflict {
            // What is remembered is older than what stands.
            self.known.forget(entry);
            return Ok(Written::Conflict);
        }
        if read_back && self.read_back(entry, &known.arn, &id, &text).await? == Written::Conflict {
            self.known.forget(entry);
            return Ok(Written::Conflict);
        }
        self.let_go(entry, known, &id, record).await;
        Ok(Written::Done)
    }

    async fn stage(&self, entry: &str, slot: &SlotId, payload: &Payload) -> Result<Written, Fault> {
        fits(payload)?;
        if !is_version_id(slot) {
            return Err(refused(format!("{:?} cannot be a version's id: 32 to 64 letters, digits and '-'", slot.as_str())));
        }
        let known = self.filled(entry).await?;
        self.put(entry, &known.arn, slot, &mark_label(Mark::Staged, slot), payload).await
    }

    async fn mark_retiring(&self, entry: &str, slot: &SlotId) -> Result<Written, Fault> {
        let arn = self.arn(entry).await?;
        if !is_version_id(slot) {
            return Ok(Written::Conflict);
        }
        let label = mark_label(Mark::Retiring, slot);
        match self.calls.move_label(&arn, &label, None, Some(slot.as_str())).await {
            Ok(()) => Ok(Written::Done),
            Err(Failed { refusal: Refusal::InvalidParameter | Refusal::NotFound, .. }) => {
                let marked = self.described(entry).await?.holder(&label) == Some(slot.as_str());
                Ok(if marked { Written::Done } else { Written::Conflict })
            }
            Err(failed) => Err(self.gone(entry, failed)),
        }
    }

    async fn promote(&self, entry: &str, from: &SlotId, to: &SlotId) -> Result<Written, Fault> {
        let arn = self.arn(entry).await?;
        if !is_version_id(from) || !is_version_id(to) {
            return Ok(Written::Conflict);
        }
        match self.calls.move_label(&arn, CURRENT, Some(from.as_str()), Some(to.as_str())).await {
            Ok(()) => Ok(Written::Done),
            Err(Failed { refusal: Refusal::InvalidParameter, .. }) => Ok(Written::Conflict),
            // No such version, or no such secret: only the second is a fault.
            Err(Failed { refusal: Refusal::NotFound, .. }) => self.described(entry).await.map(|_there| Written::Conflict),
            Err(failed) => Err(self.gone(entry, failed)),
        }
    }

    async fn unmark(&self, entry: &str, slot: &SlotId, mark: Mark) -> Result<Written, Fault> {
        let arn = self.arn(entry).await?;
        if !is_version_id(slot) {
            return Ok(Written::Done);
        }
        match self.calls.move_label(&arn, &mark_label(mark, slot), Some(slot.as_str()), None).await {
            Ok(()) | Err(Failed { refusal: Refusal::InvalidParameter, .. }) => Ok(Written::Done),
            Err(Failed { refusal: Refusal::NotFound, .. }) => self.described(entry).await.map(|_there| Written::Done),
            Err(failed) => Err(self.gone(entry, failed)),
        }
    }

    async fn install(&self, entry: &str, payload: &Payload, create: bool) -> Result<Written, Fault> {
        fits(payload)?;
        let Some(described) = self.calls.describe(entry).await? else {
            if !create {
                return Err(absent(entry));
            }
            return match self.calls.create(entry, &install_id(entry, Fingerprint::of(payload.expose())), payload).await {
                Ok(()) => Ok(Written::Done),
                Err(Failed { refusal: Refusal::Exists, .. }) => Ok(Written::Conflict),
                Err(failed) => Err(failed.fault),
            };
        };
        if described.deleting {
            return Err(deleting(entry));
        }
        match described.holder(CURRENT) {
            Some(_version) => Ok(Written::Conflict),
            None => self.fill(entry, &described.arn, payload).await,
        }
    }

    async fn publish(&self, entry: &str, expected: Option<&SlotId>, payload: &Payload) -> Result<Written, Fault> {
        fits(payload)?;
        match expected {
            Some(expected) => self.publish_over(entry, expected, payload).await,
            None => self.install(entry, payload, false).await,
        }
    }

    async fn examine(&self, entry: &str) -> Result<Vec<Finding>, Fault> {
        examine::examine(&self.calls, entry).await
    }

    async fn prove_beside(&self, entry: &str) -> Result<Written, Fault> {
        let before = self.described(entry).await?;
        let Some(current) = self.calls.get_stage(entry, CURRENT).await? else { return Ok(Written::Conflict) };
        if before.holder(CURRENT) != Some(current.id.as_str()) {
            return Err(unclear(entry, Certainty::NotDone));
        }
        let probe = probe_id();
        if self.put(entry, &current.arn, &probe, PROBE, &current.payload).await? == Written::Conflict {
            return Ok(Written::Conflict);
        }
        let after = self.described(entry).await.map_err(unknown)?;
        let holder = after.holder(CURRENT);
        if holder == Some(probe.as_str()) {
            return self.undo_probe(entry, &current, &probe).await;
        }
        // A description that does not show the probe yet is older than the put and proves nothing.
        let proved = holder == Some(current.id.as_str()) && after.holder(PROBE) == Some(probe.as_str());
        self.drop_label(&current.arn, PROBE, &probe).await;
        if proved { Ok(Written::Done) } else { Err(unclear(entry, Certainty::Unknown)) }
    }
}

fn held(version: Version) -> Held {
    Held { slot: version.id, payload: version.payload }
}

fn fits(payload: &Payload) -> Result<(), Fault> {
    match payload.expose().len() {
        0 => Err(refused("nothing to write: the payload is empty")),
        1..=PAYLOAD_BYTES_MAX => Ok(()),
        size => {
            let what = format!("{size} bytes are more than the {PAYLOAD_BYTES_MAX} that an AWS secret may hold");
            Err(Fault::new(Certainty::NotDone, FaultClass::Limit, what))
        }
    }
}

fn refused(what: impl Into<String>) -> Fault {
    Fault::new(Certainty::NotDone, FaultClass::BadRequest, what)
}

fn absent(entry: &str) -> Fault {
    Fault::new(Certainty::NotDone, FaultClass::Missing, format!("there is no secret {entry:?} in this account and region"))
}

fn deleting(entry: &str) -> Fault {
    let what = format!("the secret {entry:?} is scheduled for deletion; `aws secretsmanager restore-secret` takes that back");
    Fault::new(Certainty::NotDone, FaultClass::Missing, what)
}

fn unfilled(entry: &str) -> Fault {
    let what = format!("the secret {entry:?} holds no token yet; `evertoken adopt` puts the first one there");
    Fault::new(Certainty::NotDone, FaultClass::Missing, what)
}

fn unclear(entry: &str, certainty: Certainty) -> Fault {
    let what = format!("what AWS shows of {entry:?} is not settled yet, or somebody else changes it; the proof is made again");
    Fault::new(certainty, FaultClass::Transient, what)
}

/// A failure after an earlier call of the same change was made: the change may stand.
fn unknown(fault: Fault) -> Fault {
    Fault { certainty: Certainty::Unknown, ..fault }
}

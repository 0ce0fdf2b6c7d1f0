//! What was read so far: each field by itself, there or not, so that what is wrong with one hides nothing that concerns the others.
//!
//! The rules look at this and not at the settings, from which a token with one wrong field drops out as a whole.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::SignedDuration;

use super::secret_ref::SecretRef;
use super::settings::{AppName, AwsSecretsManager, EntryRef, Propagation, Schedule, Settings, StoreName};

/// Everything of all files. Apps, stores and tokens stand under their names as written, also those that are wrong.
pub(super) struct Draft {
    /// What is right as a whole; used only when nothing was reported.
    pub(super) settings: Settings,
    pub(super) apps: BTreeMap<String, AppDraft>,
    pub(super) stores: BTreeMap<String, StoreDraft>,
    pub(super) tokens: BTreeMap<String, TokenDraft>,
    /// What tokens share.
    pub(super) timing: Timing,
    /// Whether a misspelt `[apps]` was probably meant to hold some, and the same of `[stores]`.
    pub(super) misspelt: (bool, bool),
    /// Whether `[tokens]` of some file could not be read as a whole.
    pub(super) broken: bool,
}

/// Of an app what rules want to know.
#[derive(Default)]
pub(super) struct AppDraft {
    pub(super) secret: Option<SecretRef>,
    pub(super) secret_previous: Option<SecretRef>,
}

/// Of a store what rules want to know.
pub(super) enum StoreDraft {
    Aws {
        aws: AwsSecretsManager,
        /// Whether something in it is wrong: then it is not known which account and region it leads to.
        flawed: bool,
    },
    File {
        dir: Option<PathBuf>,
    },
    /// Its kind is not known.
    Unknown,
}

/// Of a token what rules want to know.
pub(super) struct TokenDraft {
    pub(super) app: Option<AppName>,
    pub(super) system_user_id: Option<String>,
    pub(super) store: EntryDraft,
    /// Each under its place in the array.
    pub(super) sinks: Vec<(usize, EntryDraft)>,
    /// Whether the token is one key of a JSON secret.
    pub(super) keyed: bool,
    pub(super) timing: Timing,
}

/// An entry of a store.
#[derive(Default)]
pub(super) struct EntryDraft {
    pub(super) store: Option<StoreName>,
    pub(super) entry: Option<String>,
}

impl EntryDraft {
    pub(super) fn whole(&self) -> Option<EntryRef> {
        Some(EntryRef { store: self.store.clone()?, entry: self.entry.clone()? })
    }
}

/// Durations and fractions. `None` is what was written and is wrong, so that no rule can say anything of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    pub(super) refresh_at: Option<f64>,
    pub(super) jitter: Option<f64>,
    pub(super) min_life: Option<SignedDuration>,
    pub(super) window: Option<SignedDuration>,
    pub(super) consumer_ttl: Option<SignedDuration>,
    /// `None` also where nobody wrote one.
    pub(super) audit_interval: Option<SignedDuration>,
}

impl Default for Timing {
    fn default() -> Self {
        let Schedule { refresh_at, jitter, audit_interval, min_life } = Schedule::default();
        let Propagation { window, consumer_ttl } = Propagation::default();
        Self {
            refresh_at: Some(refresh_at),
            jitter: Some(jitter),
            min_life: Some(min_life),
            window: Some(window),
            consumer_ttl: Some(consumer_ttl),
            audit_interval,
        }
    }
}

impl Timing {
    /// The schedule, with the default in place of what is wrong.
    pub(super) fn schedule(&self) -> Schedule {
        let usual = Schedule::default();
        Schedule {
            refresh_at: self.refresh_at.unwrap_or(usual.refresh_at),
            jitter: self.jitter.unwrap_or(usual.jitter),
            audit_interval: self.audit_interval,
            min_life: self.min_life.unwrap_or(usual.min_life),
        }
    }

    /// The propagation, with the default in place of what is wrong.
    pub(super) fn propagation(&self) -> Propagation {
        let usual = Propagation::default();
        Propagation { window: self.window.unwrap_or(usual.window), consumer_ttl: self.consumer_ttl.unwrap_or(usual.consumer_ttl) }
    }
}

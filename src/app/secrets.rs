//! Apps' secrets: read where they lie, put into force without touching what runs.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use secrecy::SecretString;

use super::{SetupError, Shared};
use crate::config::secret_ref::{Resolved, SecretRef, secret_from};
use crate::daemon::fleet::{App, AppKeys};
use crate::graph::client::GraphClient;
use crate::spool::SpoolKey;
use crate::store::SecretStore;

/// How long a secret that lies in a store is waited for at the start and at a reload.
const SECRET_WITHIN: Duration = Duration::from_secs(10);

/// A secret: read, or why it cannot be had for now. What is wrong on this host is an error, what a store does not give is not.
pub(super) async fn secret(
    app: &str,
    key: &'static str,
    reference: &SecretRef,
    stores: &BTreeMap<String, Arc<dyn SecretStore>>,
    shared: &Shared,
) -> Result<Result<SecretString, String>, SetupError> {
    let resolved =
        reference.resolve_local(&shared.environment).map_err(|source| SetupError::Secret { app: app.to_owned(), key, source })?;
    let entry = match resolved {
        Resolved::Here(read) => {
            if let Some(warning) = read.warning {
                tracing::warn!(event = "config.secret", app, "[apps.{app}] {key}: {warning}");
            }
            return Ok(Ok(read.secret));
        }
        Resolved::InStore(entry) => entry,
    };
    let Some(store) = stores.get(entry.store.as_str()) else { return Ok(Err(format!("there is no store {}", entry.store))) };
    let held = match tokio::time::timeout(SECRET_WITHIN, store.current(&entry.entry)).await {
        Err(_elapsed) => return Ok(Err(format!("{entry} did not answer in time"))),
        Ok(Err(fault)) => return Ok(Err(format!("{entry}: {fault}"))),
        Ok(Ok(None)) => return Ok(Err(format!("{entry} is empty"))),
        Ok(Ok(Some(held))) => held,
    };
    secret_from(held.payload.expose().as_bytes(), &entry.to_string()).map(Ok).map_err(|source| SetupError::Secret {
        app: app.to_owned(),
        key,
        source,
    })
}

/// The former secret: without it only older spool slots stay closed.
pub(super) async fn secret_or_nothing(
    app: &str,
    reference: &SecretRef,
    stores: &BTreeMap<String, Arc<dyn SecretStore>>,
    shared: &Shared,
) -> Result<Option<SecretString>, SetupError> {
    Ok(secret(app, "secret_previous", reference, stores, shared).await?.ok())
}

/// Puts the secret in place that was read now. Keys that were in force stay able to open.
pub(super) fn take_keys(app: &App, client: &GraphClient, secret: SecretString, previous: Option<SecretString>) -> Result<(), SetupError> {
    let seal = SpoolKey::derive(&secret).map_err(SetupError::Spool)?;
    let mut keys = app.keys.write().unwrap_or_else(PoisonError::into_inner);
    let mut open = std::mem::take(&mut keys.open);
    if keys.seal.id() != seal.id() {
        open.push(keys.seal.clone());
        client.replace_secret(secret.clone());
    }
    if let Some(previous) = previous {
        open.push(SpoolKey::derive(&previous).map_err(SetupError::Spool)?);
    }
    open.retain(|key| key.id() != seal.id());
    open.dedup_by(|one, other| one.id() == other.id());
    *keys = AppKeys { secret, seal, open };
    Ok(())
}

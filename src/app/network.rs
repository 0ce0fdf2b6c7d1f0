//! How calls leave this host: the proxy and the certificate authorities that a configuration names.

use std::path::Path;
use std::sync::Arc;

use super::{SetupError, USER_AGENT};
use crate::config::Settings;
use crate::graph::client::{Transport, TransportSettings};

/// Whether calls can leave this host as configured, without one.
///
/// # Errors
/// When the file of own certificate authorities cannot be used, or the proxy.
pub fn network(settings: &Settings) -> Result<(), SetupError> {
    transport(settings).map(drop)
}

pub(super) fn transport(settings: &Settings) -> Result<Arc<Transport>, SetupError> {
    let proxy = settings.network.proxy.as_ref().map(|url| url.as_str().to_owned());
    let settings =
        TransportSettings { proxy, ca_pem: authorities(settings)?, user_agent: USER_AGENT.to_owned(), ..TransportSettings::default() };
    Transport::new(settings).map_err(SetupError::Transport)
}

/// Longest file of certificate authorities that is read; all of the public ones take a fortieth of it.
const AUTHORITIES_BYTES_MAX: u64 = 8 << 20;

pub(super) fn authorities(settings: &Settings) -> Result<Option<Vec<u8>>, SetupError> {
    let Some(path) = settings.network.ca_file.as_deref() else { return Ok(None) };
    let failed = |source| SetupError::Authorities { path: display(path), source };
    // Looked at before it is opened, because opening a pipe that nobody writes to would wait for ever.
    let found = path.metadata().map_err(failed)?;
    if !found.is_file() || found.len() > AUTHORITIES_BYTES_MAX {
        return Err(failed(std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is no regular file of a fitting size")));
    }
    std::fs::read(path).map(Some).map_err(failed)
}

fn display(path: &Path) -> String {
    path.display().to_string()
}

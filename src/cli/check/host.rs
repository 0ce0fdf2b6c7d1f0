//! What this host has to give: secrets, the state directory, the two doors.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use super::finding::Section;
use crate::admin::AdminError;
use crate::app::{self, SetupError};
use crate::config::secret_ref::{SecretError, SecretRef};
use crate::config::{Environment, Settings, settings};
use crate::daemon::control::client::{ControlClient, status_at};
use crate::daemon::control::{ControlError, server};
use crate::state_dir::{self, Standing};
use crate::store::Severity;

/// Tokens of another daemon that are named: enough to know it by.
const NAMED_MAX: usize = 5;

/// Whether a daemon runs, by its control socket.
pub(super) enum Daemon {
    /// It answers.
    Runs,
    /// None answers.
    Absent,
    /// Something is there and cannot be asked.
    Odd(ControlError),
}

impl Daemon {
    pub(super) async fn find(socket: &Path) -> Self {
        match ControlClient::connect(socket).await {
            Ok(_client) => Self::Runs,
            Err(ControlError::NoDaemon(_)) => Self::Absent,
            Err(error) => Self::Odd(error),
        }
    }

    pub(super) const fn runs(&self) -> bool {
        matches!(self, Self::Runs)
    }
}

/// An app's secrets, as far as they are on this host.
/// What is not here may be where the configuration goes, so offline that is a warning; what is here and holds no secret is an error
/// everywhere.
pub(super) fn secrets(name: &str, app: &settings::App, environment: &Environment, offline: bool) -> Section {
    let mut section = Section::new(format!("app {name}"));
    let previous = app.secret_previous.as_ref().map(|reference| ("secret_previous", reference));
    for (key, reference) in std::iter::once(("secret", &app.secret)).chain(previous) {
        let SecretRef::Local(local) = reference else { continue };
        match local.read(environment) {
            Ok(read) => match read.warning {
                None => section.fine(format!("its {key} can be read")),
                Some(warning) => {
                    let (what, remedy) = warning.rsplit_once(": ").unwrap_or((&warning, ""));
                    section.warning(format!("{key}: {what}"), remedy);
                }
            },
            Err(error) => {
                let absent = match error {
                    SecretError::Unreadable { .. } | SecretError::Unset(_) | SecretError::NoCredentials(_) => true,
                    SecretError::NotAFile(_) | SecretError::Shape { .. } => false,
                };
                let severity = if offline && absent { Severity::Warning } else { Severity::Error };
                section.take(severity, format!("{key}: {}", super::super::chain(&error)), error.remedy());
            }
        }
    }
    section
}

/// The file of own certificate authorities, where one is configured. Nothing is said of a good one that is tried at once by calls.
pub(super) fn network(settings: &Settings) -> Section {
    let mut section = Section::new("network");
    let Some(path) = &settings.network.ca_file else { return section };
    let what = |error: &SetupError| super::super::chain(error);
    match app::network(settings) {
        Ok(()) => section.fine(format!("ca_file {} holds certificates", path.display())),
        Err(error @ SetupError::Authorities { .. }) if !path.is_file() || std::fs::File::open(path).is_err() => {
            section.warning(what(&error), "put the PEM file there, readable for evertoken's user, before it starts");
        }
        Err(error) => section.error(
            format!("ca_file {}: {}", path.display(), what(&error)),
            "put certificates there in PEM form (-----BEGIN CERTIFICATE-----), or delete ca_file",
        ),
    }
    section
}

/// The state directory.
pub(super) fn state_dir(settings: &Settings, daemon: &Daemon) -> Section {
    let mut section = Section::new("state directory");
    let path = &settings.daemon.state_dir;
    let shown = path.display();
    match state_dir::look(path) {
        Ok(Standing::Missing) => section.fine(format!("{shown} is not there yet; `evertoken run` makes it")),
        Ok(Standing::Free) => section.fine(format!("{shown} is this user's alone, and nobody works in it")),
        Ok(Standing::Held { by, daemon: true }) if daemon.runs() => {
            section.fine(format!("{shown} is this user's alone, and the daemon works in it: {by}"));
        }
        Ok(Standing::Held { by, daemon: true }) => section.error(
            format!("{by} works in {shown} and could not be asked on {}", settings.daemon.control_socket.display()),
            "look at its log, and whether control_socket is the same in its configuration",
        ),
        Ok(Standing::Held { by, daemon: false }) => {
            section.fine(format!("{shown} is this user's alone, and a command works in it: {by}"));
        }
        Err(error) => section.failure(&error),
    }
    section
}

/// The control socket and the HTTP listener.
pub(super) async fn doors(settings: &Settings, daemon: &Daemon) -> Section {
    let mut section = Section::new("doors");
    let socket = &settings.daemon.control_socket;
    match daemon {
        Daemon::Runs => section.fine(format!("a daemon answers on {}", socket.display())),
        Daemon::Odd(error) => section.failure(error),
        // The folder of the default one is made with the state directory.
        Daemon::Absent if socket.parent() == Some(&settings.daemon.state_dir) && !settings.daemon.state_dir.exists() => {
            section.fine(format!("{} can be made", socket.display()));
        }
        Daemon::Absent => match server::look(socket) {
            Ok(()) => section.fine(format!("no daemon runs; {} can be made", socket.display())),
            Err(error) => section.failure(&error),
        },
    }
    match settings.http.listen {
        None => section.fine("[http] listen is off"),
        Some(address) => http(address, daemon, &mut section).await,
    }
    section
}

async fn http(address: SocketAddr, daemon: &Daemon, section: &mut Section) {
    match bindable(address) {
        Ok(()) if daemon.runs() && address.port() != 0 => {
            section.warning(format!("a daemon runs, and nothing listens on {address}"), "[http] changed since its start: start it anew");
        }
        Ok(()) => section.fine(format!("{address} is free to listen on")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => match status_at(&format!("http://{}", reachable(address))).await {
            Ok(_) if daemon.runs() => section.fine(format!("the daemon serves {address}")),
            Ok(status) => {
                let names: Vec<&str> = status.tokens.iter().take(NAMED_MAX).map(|token| token.name.as_str()).collect();
                section.error(
                    format!(
                        "another evertoken daemon serves {address}, with {} token(s) ({}), and not with this control_socket",
                        status.tokens.len(),
                        names.join(", ")
                    ),
                    "name that daemon's configuration with --config, stop it, or set [http] listen to another address",
                );
            }
            Err(_no_evertoken) => section.failure(&AdminError::InUse(address)),
        },
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => section.failure(&AdminError::NotOurs(address)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => section.failure(&AdminError::NotPermitted(address)),
        Err(error) => section.error(format!("cannot listen on {address}: {error}"), "set [http] listen to another address or to \"off\""),
    }
}

/// Bound but not listened on, so that a daemon which starts at this moment is not in the way of anything.
fn bindable(address: SocketAddr) -> io::Result<()> {
    let socket = if address.is_ipv4() { tokio::net::TcpSocket::new_v4() } else { tokio::net::TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)
}

/// What listens on every address is reached over loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(at) if at.ip().is_unspecified() => SocketAddr::from(([127, 0, 0, 1], at.port())),
        SocketAddr::V6(at) if at.ip().is_unspecified() => SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, at.port())),
        SocketAddr::V4(_) | SocketAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_somebody_listens_on_cannot_be_had_and_looking_takes_none() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        assert_eq!(bindable(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(taken);
        bindable(address).unwrap();
        std::net::TcpListener::bind(address).unwrap();
    }
}

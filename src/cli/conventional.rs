//! Where a daemon's things lie when the configuration does not say and this shell was not told: a unit has `$STATE_DIRECTORY` and
//! `$RUNTIME_DIRECTORY` from systemd, and a person beside it has neither.

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use crate::config::{Environment, Settings};
use crate::state_dir::{self, Standing};

/// As the unit and the image have them.
const STATE_DIR: &str = "var/lib/evertoken";
const SOCKET: &str = "run/evertoken/control.sock";

/// Puts the conventional places into the settings where nothing else is said and they are a daemon's; `root` is `/`.
pub(super) fn settle(settings: &mut Settings, environment: &Environment, root: &Path) {
    let daemon = &mut settings.daemon;
    if daemon.control_socket != daemon.state_dir.join("control.sock") || environment.runtime_directory.is_some() {
        return;
    }
    let (state_dir, socket) = (root.join(STATE_DIR), root.join(SOCKET));
    let unsaid = environment.state_directory.is_none() && std::path::absolute("evertoken-state").is_ok_and(|path| path == daemon.state_dir);
    if unsaid && !daemon.state_dir.exists() && state_dir.is_dir() {
        daemon.control_socket = if is_of_owner(&socket, &state_dir) { socket } else { state_dir.join("control.sock") };
        daemon.state_dir = state_dir;
    } else if !daemon.control_socket.exists() && is_of_owner(&socket, &daemon.state_dir) && is_served_by_holder(&socket, &daemon.state_dir)
    {
        daemon.control_socket = socket;
    }
}

/// The places that were looked at for a socket, for people.
pub(super) fn tried(socket: &Path) -> String {
    let conventional = PathBuf::from("/").join(SOCKET);
    if socket == conventional { socket.display().to_string() } else { format!("{} or {}", socket.display(), conventional.display()) }
}

/// Anybody else could make people's orders his own.
fn is_of_owner(socket: &Path, state_dir: &Path) -> bool {
    let owner = state_dir::owner(state_dir).map(|(uid, _gid)| uid);
    std::fs::symlink_metadata(socket).is_ok_and(|found| found.uid() == 0 || Some(found.uid()) == owner)
}

/// Another daemon of this host may serve it: it must be the one that holds this state directory.
fn is_served_by_holder(socket: &Path, state_dir: &Path) -> bool {
    let Ok(Standing::Held { by, daemon: true }) = state_dir::look(state_dir) else { return false };
    let served = UnixStream::connect(socket).ok().and_then(|stream| getsockopt(&stream, PeerCredentials).ok());
    served.is_some_and(|peer| by == format!("run (process {})", peer.pid()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state_dir::{Holder, StateDir};
    use std::os::unix::net::UnixListener;

    fn settings(folder: &Path, daemon: &str) -> Settings {
        let mut file = tempfile::NamedTempFile::new_in(folder).unwrap();
        let text = format!(
            "{daemon}\n[apps.acme]\nid = \"1\"\nsecret = {{ env = \"SECRET\" }}\n[stores.disk]\nkind = \"file\"\ndir = \"/srv/tokens\"\n\
             [tokens.bot]\napp = \"acme\"\nsystem_user_id = \"10001\"\nstore = {{ name = \"disk\", entry = \"bot\" }}\n"
        );
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        crate::config::load(file.path(), &Environment::default()).unwrap().settings
    }

    fn host() -> tempfile::TempDir {
        let host = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(host.path().join("run/evertoken")).unwrap();
        std::fs::create_dir_all(host.path().join("var/lib")).unwrap();
        host
    }

    #[test]
    fn where_nothing_is_said_the_unit_s_places_are_looked_at() {
        let host = host();
        let mut settings = settings(host.path(), "");
        let said = settings.clone();
        settle(&mut settings, &Environment::default(), host.path());
        assert_eq!(settings.daemon, said.daemon, "there is nothing");
        let _state = StateDir::lock(&host.path().join(STATE_DIR), Holder::Run).unwrap();
        let _socket = UnixListener::bind(host.path().join(SOCKET)).unwrap();
        settle(&mut settings, &Environment::default(), host.path());
        assert_eq!(settings.daemon.state_dir, host.path().join(STATE_DIR));
        assert_eq!(settings.daemon.control_socket, host.path().join(SOCKET));
    }

    #[test]
    fn a_socket_of_another_daemon_is_not_taken() {
        let host = host();
        let state_dir = host.path().join("state");
        let mut settings = settings(host.path(), &format!("[daemon]\nstate_dir = {:?}", state_dir.display().to_string()));
        let said = settings.clone();
        let _socket = UnixListener::bind(host.path().join(SOCKET)).unwrap();
        settle(&mut settings, &Environment::default(), host.path());
        assert_eq!(settings.daemon, said.daemon, "nobody holds the state directory");
        let _state = StateDir::lock(&state_dir, Holder::Run).unwrap();
        settle(&mut settings, &Environment::default(), host.path());
        assert_eq!(settings.daemon.control_socket, host.path().join(SOCKET), "its holder serves the socket");
    }
}

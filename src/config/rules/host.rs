//! Paths on the host.

use std::path::PathBuf;

use super::table_path;
use crate::config::draft::{Draft, StoreDraft};
use crate::config::mistake::{Position, Report, Wrong};
use crate::config::read::values::absolute;
use crate::config::settings::Settings;

/// Longest path of a Unix socket: `sun_path` has 108 bytes with its NUL (unix(7)).
const SOCKET_PATH_MAX: usize = 107;

/// What lies in the state dir is the daemon's own; what lies in a store is read by others, and a cleaner of one would hit the other.
pub(super) fn state_lies_apart_from_stores(draft: &Draft, start: &Position, report: &Report) {
    let state = absolute(&draft.settings.daemon.state_dir);
    for (name, store) in &draft.stores {
        let StoreDraft::File { dir: Some(dir) } = store else { continue };
        let dir: PathBuf = absolute(dir);
        let what = if dir.starts_with(&state) {
            format!("the store {name} ({}) lies in the state_dir {}", dir.display(), state.display())
        } else if state.starts_with(&dir) {
            format!("the state_dir {} lies in the store {name} ({})", state.display(), dir.display())
        } else {
            continue;
        };
        let path = format!("{}.dir", table_path("stores", name));
        let (position, key) = report.position(&[path]).unwrap_or_else(|| (start.clone(), String::new()));
        report.mistake(&position, key, Wrong::new(what, "let them lie apart, as in /var/lib/evertoken and /run/evertoken/tokens"));
    }
}

pub(super) fn socket_path_fits(settings: &Settings, start: &Position, report: &Report) {
    let path = &settings.daemon.control_socket;
    let length = absolute(path).as_os_str().len();
    if length > SOCKET_PATH_MAX {
        let found = report.position(&["daemon.control_socket", "daemon.state_dir"]);
        let (position, key) = found.unwrap_or_else(|| (start.clone(), "[daemon] control_socket".to_owned()));
        let what = format!("the path of the control socket {} is {length} bytes long, and a host takes {SOCKET_PATH_MAX}", path.display());
        report.mistake(&position, key, Wrong::new(what, "write a shorter control_socket"));
    }
}

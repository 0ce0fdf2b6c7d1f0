//! The state directory: whose it is, how open it is, and who works in it.
//!
//! One process at a time holds its lock. A daemon gives way only to another daemon; a command that acts alone is short, so a daemon
//! waits for it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a command waits for another one.
const COMMAND_PATIENCE: Duration = Duration::from_secs(5);
/// How long a daemon waits for a command.
const RUN_PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);

/// Who works in a state directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// `evertoken run`.
    Run,
    /// A command that acts alone.
    Command,
}

impl Holder {
    const fn word(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Command => "command",
        }
    }
}

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// It cannot be made or looked at.
    #[error("the state directory {} cannot be used; create it, owned by the user that runs evertoken, mode 0700", path.display())]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// It belongs to somebody else.
    #[error("the state directory {} belongs to uid {owner}, and this is uid {uid}: run as its owner, or `chown {uid} {}`", path.display(), path.display())]
    Owner {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who we are.
        uid: u32,
    },
    /// Others may enter it.
    #[error("the state directory {} has mode {mode:04o}, so that others can get at it: `chmod 0700 {}`", path.display(), path.display())]
    Loose {
        /// The directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Somebody else works in it.
    #[error("the state directory {} is in use by {by}: {remedy}", path.display())]
    Held {
        /// The directory.
        path: PathBuf,
        /// Who holds it, as it says itself.
        by: String,
        /// What to do.
        remedy: &'static str,
        /// Whether it is a daemon.
        daemon: bool,
    },
}

/// A locked state directory; given back on drop.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

impl StateDir {
    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the directory if it is missing, checks whose it is, and locks it.
    ///
    /// # Errors
    /// When it cannot be made, is another user's, is open to others, or stays locked by another process for longer than is waited.
    pub fn lock(path: &Path, holder: Holder) -> Result<Self, StateDirError> {
        prepare(path)?;
        let unusable = |source| StateDirError::Unusable { path: path.to_owned(), source };
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path.join("lock")).map_err(unusable)?;
        let patience = match holder {
            Holder::Run => RUN_PATIENCE,
            Holder::Command => COMMAND_PATIENCE,
        };
        let mut waited = Duration::ZERO;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(source)) => return Err(unusable(source)),
                Err(TryLockError::WouldBlock) => {}
            }
            let by = said(&mut file);
            let daemon = by.starts_with(Holder::Run.word());
            let gives_way = match holder {
                Holder::Run => daemon,
                // A daemon that has just started opens its socket in a moment: the caller asks it there.
                Holder::Command => daemon,
            };
            if gives_way || waited >= patience {
                let remedy = if daemon { "stop it first, or give this one a state_dir of its own" } else { "wait for it, or end it" };
                return Err(StateDirError::Held { path: path.to_owned(), by, remedy, daemon });
            }
            #[expect(clippy::disallowed_methods, reason = "before the runtime exists; flock has no timed form")]
            std::thread::sleep(PAUSE);
            waited += PAUSE;
        }
        let says = format!("{} (process {})\n", holder.word(), std::process::id());
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(says.as_bytes())).map_err(unusable)?;
        Ok(Self { path: path.to_owned(), _lock: file })
    }
}

/// What the holder of a lock says of itself.
fn said(file: &mut File) -> String {
    let mut text = String::new();
    if file.rewind().and_then(|()| file.read_to_string(&mut text)).is_err() || text.trim().is_empty() {
        return "another process".to_owned();
    }
    text.trim().to_owned()
}

fn prepare(path: &Path) -> Result<(), StateDirError> {
    let unusable = |source| StateDirError::Unusable { path: path.to_owned(), source };
    match std::fs::DirBuilder::new().mode(0o700).recursive(false).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(source) => return Err(unusable(source)),
    }
    let data = std::fs::metadata(path).map_err(unusable)?;
    if !data.is_dir() {
        return Err(unusable(io::Error::from(io::ErrorKind::NotADirectory)));
    }
    let uid = nix::unistd::geteuid().as_raw();
    if data.uid() != uid {
        return Err(StateDirError::Owner { path: path.to_owned(), owner: data.uid(), uid });
    }
    if data.mode() & 0o077 != 0 {
        return Err(StateDirError::Loose { path: path.to_owned(), mode: data.mode() & 0o7777 });
    }
    Ok(())
}

/// Who owns a state directory, where it exists.
#[must_use]
pub fn owner(path: &Path) -> Option<(u32, u32)> {
    std::fs::metadata(path).ok().map(|data| (data.uid(), data.gid()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn one_daemon_at_a_time_and_it_says_who() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let held = StateDir::lock(&path, Holder::Run).unwrap();
        let error = StateDir::lock(&path, Holder::Run).unwrap_err();
        assert!(error.to_string().contains(&format!("run (process {})", std::process::id())), "{error}");
        assert!(matches!(StateDir::lock(&path, Holder::Command), Err(StateDirError::Held { daemon: true, .. })));
        drop(held);
        StateDir::lock(&path, Holder::Command).unwrap();
    }

    #[test]
    fn a_daemon_waits_for_a_command() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let command = StateDir::lock(&path, Holder::Command).unwrap();
        let waiting = std::thread::spawn({
            let path = path.clone();
            move || StateDir::lock(&path, Holder::Run).map(|_| ())
        });
        std::thread::yield_now();
        drop(command);
        waiting.join().unwrap().unwrap();
    }

    #[test]
    fn an_open_directory_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let error = StateDir::lock(folder.path(), Holder::Run).unwrap_err();
        assert!(error.to_string().contains("chmod 0700"), "{error}");
    }
}

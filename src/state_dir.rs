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
/// How long a lock must be held under a daemon's name until it is believed: whoever took it just now has not said its own name yet, and
/// a look holds it for an instant.
const DAEMON_BELIEVED: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(100);
/// The file that the lock is on.
const LOCK: &str = "lock";

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
    #[error("the state directory {} cannot be used: create it, owned by the user that runs evertoken, mode 0700", path.display())]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// It belongs to somebody else.
    #[error("the state directory {} belongs to uid {owner}, and this is uid {uid}: run evertoken as that user, or, if that user runs none, `chown -R {uid} {}`", path.display(), path.display())]
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
    holder: Holder,
    /// Both are held open, so that nothing else gets their inodes while they are compared.
    dir: File,
    lock: File,
}

/// How a state directory was lost under the process that holds it.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// The path leads nowhere, or to something else.
    #[error("the state directory {} was {how} under this process", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// `deleted` or `replaced`.
        how: &'static str,
    },
    /// The same of the file that the lock is on.
    #[error("the lock of the state directory {} was {how} under this process", path.display())]
    Lock {
        /// The directory.
        path: PathBuf,
        /// `deleted` or `replaced`.
        how: &'static str,
    },
    /// It is not known.
    #[error("the state directory {} cannot be looked at", path.display())]
    Unseen {
        /// The directory.
        path: PathBuf,
        /// What the host said.
        #[source]
        source: io::Error,
    },
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
        let patience = match holder {
            Holder::Run => RUN_PATIENCE,
            Holder::Command => COMMAND_PATIENCE,
        };
        let mut waited = Duration::ZERO;
        loop {
            let held = match Self::try_lock(path, holder) {
                Err(StateDirError::Held { path, by, remedy, daemon }) => StateDirError::Held { path, by, remedy, daemon },
                decided @ (Ok(_) | Err(_)) => return decided,
            };
            let daemon = matches!(held, StateDirError::Held { daemon: true, .. });
            // Nobody waits for a daemon: another one gives way, a command asks it over its socket.
            if (daemon && waited >= DAEMON_BELIEVED) || waited >= patience {
                return Err(held);
            }
            #[expect(clippy::disallowed_methods, reason = "before the runtime exists; flock has no timed form")]
            std::thread::sleep(PAUSE);
            waited += PAUSE;
        }
    }

    /// Whether the directory and its lock are still those that were locked.
    ///
    /// # Errors
    /// [`Lost`]: from then on another process may work there.
    pub fn check(&self) -> Result<(), Lost> {
        let path = || self.path.clone();
        let unseen = |source| Lost::Unseen { path: path(), source };
        if let Some(how) = changed(&self.dir, &self.path).map_err(unseen)? {
            return Err(Lost::Directory { path: path(), how });
        }
        match changed(&self.lock, &self.path.join(LOCK)).map_err(unseen)? {
            Some(how) => Err(Lost::Lock { path: path(), how }),
            None => Ok(()),
        }
    }

    /// Makes what was lost again and takes the lock, if that can be done at once.
    ///
    /// # Errors
    /// As [`Self::lock`].
    pub fn retake(&self) -> Result<Self, StateDirError> {
        Self::try_lock(&self.path, self.holder)
    }

    fn try_lock(path: &Path, holder: Holder) -> Result<Self, StateDirError> {
        prepare(path)?;
        let unusable = |source| StateDirError::Unusable { path: path.to_owned(), source };
        let dir = File::open(path).map_err(unusable)?;
        let file = path.join(LOCK);
        let mut lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&file).map_err(unusable)?;
        match lock.try_lock() {
            // A lock on a file that was removed meanwhile is a lock on nothing.
            Ok(()) if changed(&lock, &file).map_err(unusable)?.is_none() => {}
            Ok(()) => return Err(held(path, "another process".to_owned())),
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
            Err(TryLockError::WouldBlock) => return Err(held(path, said(&mut lock))),
        }
        let says = format!("{} (process {})\n", holder.word(), std::process::id());
        lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| lock.write_all(says.as_bytes())).map_err(unusable)?;
        Ok(Self { path: path.to_owned(), holder, dir, lock })
    }
}

fn held(path: &Path, by: String) -> StateDirError {
    let daemon = by.starts_with(Holder::Run.word());
    let remedy = if daemon { "stop it first, or give this one a state_dir of its own" } else { "wait for it, or end it" };
    StateDirError::Held { path: path.to_owned(), by, remedy, daemon }
}

/// What became of the path of an open file, where it does not lead to that file any more.
fn changed(open: &File, path: &Path) -> io::Result<Option<&'static str>> {
    let ours = open.metadata()?;
    match std::fs::metadata(path) {
        Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => Ok(None),
        Ok(_other) => Ok(Some("replaced")),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(Some("deleted")),
        Err(error) => Err(error),
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
    ours(path, &data)
}

/// Whether it is a directory, of this user and closed to others.
fn ours(path: &Path, data: &std::fs::Metadata) -> Result<(), StateDirError> {
    if !data.is_dir() {
        return Err(StateDirError::Unusable { path: path.to_owned(), source: io::Error::from(io::ErrorKind::NotADirectory) });
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

/// How a state directory stands, for whoever only looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is not there and can be made.
    Missing,
    /// Nobody works in it.
    Free,
    /// Somebody works in it.
    Held {
        /// Who, as it says itself.
        by: String,
        /// Whether it is a daemon.
        daemon: bool,
    },
}

/// Looks at a state directory: makes nothing, and holds its lock for no longer than it takes to see whether somebody else does.
///
/// # Errors
/// When it could not be locked, for another reason than that somebody works in it.
pub fn look(path: &Path) -> Result<Standing, StateDirError> {
    let unusable = |source| StateDirError::Unusable { path: path.to_owned(), source };
    let data = match std::fs::metadata(path) {
        Ok(data) => data,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
            nix::unistd::access(above, nix::unistd::AccessFlags::W_OK | nix::unistd::AccessFlags::X_OK)
                .map_err(|errno| unusable(errno.into()))?;
            return Ok(Standing::Missing);
        }
        Err(error) => return Err(unusable(error)),
    };
    ours(path, &data)?;
    let mut file = match File::open(path.join(LOCK)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Standing::Free),
        Err(error) => return Err(unusable(error)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Standing::Free),
        Err(TryLockError::Error(source)) => Err(unusable(source)),
        Err(TryLockError::WouldBlock) => {
            let by = said(&mut file);
            let daemon = by.starts_with(Holder::Run.word());
            Ok(Standing::Held { by, daemon })
        }
    }
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
    fn what_is_lost_is_noticed_and_taken_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let mut held = StateDir::lock(&path, Holder::Run).unwrap();
        held.check().unwrap();

        std::fs::remove_file(path.join("lock")).unwrap();
        assert!(matches!(held.check(), Err(Lost::Lock { how: "deleted", .. })));
        held = held.retake().unwrap();
        held.check().unwrap();
        assert!(matches!(StateDir::lock(&path, Holder::Run), Err(StateDirError::Held { daemon: true, .. })));

        std::fs::remove_dir_all(&path).unwrap();
        assert!(matches!(held.check(), Err(Lost::Directory { how: "deleted", .. })));
        std::fs::create_dir(&path).unwrap();
        assert!(matches!(held.check(), Err(Lost::Directory { how: "replaced", .. })));
        assert!(matches!(held.retake(), Err(StateDirError::Loose { .. })), "what others may enter is not worked in");
        std::fs::remove_dir(&path).unwrap();

        let other = StateDir::lock(&path, Holder::Run).unwrap();
        assert!(matches!(held.retake(), Err(StateDirError::Held { daemon: true, .. })));
        drop(other);
        held = held.retake().unwrap();
        held.check().unwrap();
    }

    #[test]
    fn an_open_directory_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let error = StateDir::lock(folder.path(), Holder::Run).unwrap_err();
        assert!(error.to_string().contains("chmod 0700"), "{error}");
    }
}

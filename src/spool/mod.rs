//! The sealed spool: where a token lies between the provider's answer and the store.
//!
//! A refresh cannot be asked for twice: the answer is the only copy of the new token, so it is put on disk before anything else
//! is tried with it. Each token has one slot of fixed size whose blocks were allocated and written beforehand, so that a capture
//! is one overwrite and one `fdatasync` and works on a full disk (on a file system that overwrites in place; btrfs, ZFS and the
//! like always need fresh blocks). The content is sealed with a key that only the app's secret gives.
//!
//! What the spool says is evidence, never permission: a slot that is lost delays work, nothing else. A slot that is damaged or
//! that no key opens is never overwritten. A damaged one is set aside by a rename, because nothing will ever read it; one that waits for its
//! key, or for the version that wrote it, stays until it is read, or a person takes it away. After a failed `fdatasync` the kernel may have dropped
//! the page and forgotten the error, so it is never repeated: that slot takes nothing more until the program starts again.
//!
//! All functions block; the daemon calls them on the blocking pool.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{fs, io};

use nix::errno::Errno;
use nix::fcntl::{OFlag, posix_fallocate};
use secrecy::SecretString;
use zeroize::Zeroizing;

mod sealed;

pub use sealed::{Binding, SlotContent, SpoolKey};
use sealed::{CLEARED, SLOT_BYTES};

/// Longest text that a slot holds, in bytes.
pub const TEXT_BYTES_MAX: usize = 16 * 1024;

/// Stands between a token's name and a number in the names of slots that were set aside.
const SET_ASIDE: &str = ".damaged-";

/// Why the spool could not do what was asked. Never holds a text or a key.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// A token's name that cannot be a file's name.
    #[error("{0:?} cannot name a spool slot")]
    Name(String),
    /// The operating system refused.
    #[error("spool: cannot {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The folder belongs to somebody else or is open to others.
    #[error("spool: {} must be a folder of this user alone (mode 0700), and is not (owner {owner}, mode {mode:04o})", path.display())]
    Loose {
        /// The folder.
        path: PathBuf,
        /// Its owner's uid.
        owner: u32,
        /// Its permission bits.
        mode: u32,
    },
    /// Longer than a slot.
    #[error("the text is {0} bytes long, more than the {TEXT_BYTES_MAX} that a spool slot holds")]
    TextTooLong(usize),
    /// The names of entry and rotation are longer than the header.
    #[error("the names of entry and rotation take {0} bytes, more than the header of a spool slot holds")]
    BindingTooLong(usize),
    /// Something is in the slot: a token that is not staged yet, a locked or a damaged one. It was not touched.
    #[error("the spool slot of {0} is not empty")]
    Occupied(String),
    /// An earlier write to this slot failed, so that nobody knows what the disk holds. Until the next start it is only read.
    #[error("the spool slot of {0} takes nothing more until the next start, because an earlier write to it failed")]
    Broken(String),
    /// The cryptographic library or the system's source of randomness failed.
    #[error("the spool could not derive a key or seal a text")]
    Seal,
}

/// One line of [`Spool::list`].
#[derive(Debug)]
pub struct Listed {
    /// Whose slot.
    pub token: String,
    /// What it holds, as far as it shows without a key: `Empty`, `Locked` or `Damaged`.
    pub content: SlotContent,
    /// Whether an earlier write to it failed since the start.
    pub broken: bool,
    /// Names of damaged slots that were set aside.
    pub set_aside: Vec<String>,
}

/// The slots of all tokens.
#[derive(Debug)]
pub struct Spool {
    dir: PathBuf,
    broken: Mutex<BTreeSet<String>>,
}

impl Spool {
    /// Opens the spool under a state folder, and makes its folder where it is missing.
    ///
    /// # Errors
    /// [`SpoolError::Io`] when the folder cannot be made or looked at, [`SpoolError::Loose`] when others may enter it.
    pub fn open(state_dir: &Path) -> Result<Self, SpoolError> {
        let dir = state_dir.join("spool");
        // Where there is no state directory somebody only looks, and nothing is made.
        if state_dir.is_dir() {
            make(&dir)?;
        }
        Ok(Self { dir, broken: Mutex::default() })
    }

    /// Where a token's slot lies, for people.
    #[must_use]
    pub fn slot(&self, token: &str) -> PathBuf {
        self.dir.join(token)
    }

    /// Makes the slot of a token, every block of it written, so that a later capture needs no space. A slot that is there already
    /// stays as it is.
    ///
    /// # Errors
    /// [`SpoolError::Name`], or [`SpoolError::Io`] (a full disk shows here, before anything is minted).
    pub fn allocate(&self, token: &str) -> Result<(), SpoolError> {
        let path = self.path(token)?;
        if path.try_exists().map_err(failed("look at", &path))? {
            return Ok(());
        }
        make(&self.dir)?;
        let new = self.dir.join(format!(".{token}.new"));
        let mut file = open_options().create(true).truncate(true).open(&new).map_err(failed("make", &new))?;
        match posix_fallocate(&file, 0, SLOT_BYTES as _) {
            // Not every file system offers it; the zeroes below take the blocks as well.
            Ok(()) | Err(Errno::EOPNOTSUPP | Errno::EINVAL) => (),
            Err(errno) => return Err(failed("allocate", &new)(errno.into())),
        }
        file.write_all(&[0; SLOT_BYTES]).and_then(|()| file.sync_all()).map_err(failed("fill", &new))?;
        fs::rename(&new, &path).map_err(failed("rename", &new))?;
        self.sync_dir()
    }

    /// Seals a text into a token's slot. When this returns, it is on the disk. The slot is made where it is missing.
    ///
    /// # Errors
    /// [`SpoolError::Occupied`] when something is in it (nothing was touched); [`SpoolError::Io`] when writing failed, after which
    /// the slot is [`SpoolError::Broken`]; the others by their names.
    pub fn capture(&self, token: &str, binding: &Binding, text: &SecretString, key: &SpoolKey) -> Result<(), SpoolError> {
        let bytes = sealed::seal(token, binding, text, key)?;
        self.allocate(token)?;
        let (file, path) = self.open_slot(token)?;
        self.refuse_broken(token)?;
        match sealed::open(token, &slot_bytes(&file, &path)?, &[]) {
            SlotContent::Empty => self.commit(token, &file, &bytes),
            SlotContent::Holds { .. } | SlotContent::Locked { .. } | SlotContent::Damaged { .. } => {
                Err(SpoolError::Occupied(token.to_owned()))
            }
        }
    }

    /// What a token's slot holds. A slot that was never made is empty.
    ///
    /// # Errors
    /// [`SpoolError::Name`] or [`SpoolError::Io`]; bad content is no error.
    pub fn read(&self, token: &str, keys: &[SpoolKey]) -> Result<SlotContent, SpoolError> {
        match self.open_slot(token) {
            Ok((file, path)) => Ok(sealed::open(token, &slot_bytes(&file, &path)?, keys)),
            Err(SpoolError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(SlotContent::Empty),
            Err(error) => Err(error),
        }
    }

    /// Empties a token's slot once its text is safe elsewhere. First the mark, so that a crash between the two writes shows as
    /// empty and not as damage, then the rest.
    ///
    /// # Errors
    /// [`SpoolError::Occupied`] for a damaged slot (it was not touched), [`SpoolError::Broken`], [`SpoolError::Io`].
    pub fn clear(&self, token: &str) -> Result<(), SpoolError> {
        let (file, path) = match self.open_slot(token) {
            Err(SpoolError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        self.refuse_broken(token)?;
        if matches!(sealed::open(token, &slot_bytes(&file, &path)?, &[]), SlotContent::Damaged { .. }) {
            return Err(SpoolError::Occupied(token.to_owned()));
        }
        self.commit(token, &file, CLEARED)?;
        let mut empty = vec![0; SLOT_BYTES];
        empty.splice(..CLEARED.len(), CLEARED.iter().copied());
        self.commit(token, &file, &empty)
    }

    /// Takes a damaged slot out of use and keeps its bytes under another name, which is returned.
    ///
    /// # Errors
    /// [`SpoolError::Name`], [`SpoolError::Io`] (also when there is no slot).
    pub fn set_aside(&self, token: &str) -> Result<String, SpoolError> {
        let path = self.path(token)?;
        let mut number = 1_u32;
        let kept = loop {
            let kept = self.dir.join(format!("{token}{SET_ASIDE}{number}"));
            // A link never replaces what is there, so nothing that was kept can be lost.
            match fs::hard_link(&path, &kept) {
                Ok(()) => break kept,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => number = number.saturating_add(1),
                Err(error) => return Err(failed("set aside", &path)(error)),
            }
        };
        self.sync_dir()?;
        fs::remove_file(&path).map_err(failed("set aside", &path))?;
        self.sync_dir()?;
        self.broken().remove(token);
        Ok(kept.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default())
    }

    /// All slots, by token, also of tokens that are no longer configured.
    ///
    /// # Errors
    /// [`SpoolError::Io`].
    pub fn list(&self) -> Result<Vec<Listed>, SpoolError> {
        let mut slots: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for entry in fs::read_dir(&self.dir).map_err(failed("list", &self.dir))? {
            let name = entry.map_err(failed("list", &self.dir))?.file_name().to_string_lossy().into_owned();
            match name.split_once(SET_ASIDE) {
                _ if name.starts_with('.') => (),
                Some((token, _)) => slots.entry(token.to_owned()).or_default().push(name.clone()),
                None => drop(slots.entry(name).or_default()),
            }
        }
        let listed = slots.into_iter().map(|(token, mut set_aside)| {
            set_aside.sort();
            let content = self.read(&token, &[])?;
            Ok(Listed { broken: self.broken().contains(&token), content, set_aside, token })
        });
        listed.collect()
    }

    /// Overwrites the beginning of a slot and waits for the disk. Whatever fails, the slot is broken from then on.
    fn commit(&self, token: &str, file: &File, bytes: &[u8]) -> Result<(), SpoolError> {
        file.write_all_at(bytes, 0).and_then(|()| file.sync_data()).map_err(|source| {
            self.broken().insert(token.to_owned());
            SpoolError::Io { doing: "write", path: self.dir.join(token), source }
        })
    }

    fn refuse_broken(&self, token: &str) -> Result<(), SpoolError> {
        if self.broken().contains(token) { Err(SpoolError::Broken(token.to_owned())) } else { Ok(()) }
    }

    fn broken(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a slot under an advisory lock that ends with the file.
    fn open_slot(&self, token: &str) -> Result<(File, PathBuf), SpoolError> {
        let path = self.path(token)?;
        let file = open_options().open(&path).map_err(failed("open", &path))?;
        file.lock().map_err(failed("lock", &path))?;
        Ok((file, path))
    }

    fn path(&self, token: &str) -> Result<PathBuf, SpoolError> {
        let plain = token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-@+=".contains(&byte));
        if token.is_empty() || token.len() > 200 || !plain || token.starts_with('.') || token.contains(SET_ASIDE) {
            return Err(SpoolError::Name(token.chars().take(80).collect()));
        }
        Ok(self.dir.join(token))
    }

    fn sync_dir(&self) -> Result<(), SpoolError> {
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(failed("sync", &self.dir))
    }
}

/// Makes the spool's folder where it is missing: also later, when somebody has deleted it under the running program.
fn make(dir: &Path) -> Result<(), SpoolError> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed("make", dir)(error)),
        Ok(()) | Err(_) => (),
    }
    let found = fs::symlink_metadata(dir).map_err(failed("look at", dir))?;
    if !found.is_dir() || found.mode() & 0o077 != 0 || found.uid() != nix::unistd::geteuid().as_raw() {
        return Err(SpoolError::Loose { path: dir.to_owned(), owner: found.uid(), mode: found.mode() & 0o7777 });
    }
    Ok(())
}

fn slot_bytes(file: &File, path: &Path) -> Result<Zeroizing<Vec<u8>>, SpoolError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(SLOT_BYTES + 1));
    file.take(SLOT_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed("read", path))?;
    Ok(bytes)
}

fn open_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits());
    options
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SpoolError {
    move |source| SpoolError::Io { doing, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SpoolKey {
        SpoolKey::derive(&SecretString::from("s")).unwrap()
    }

    fn binding() -> Binding {
        Binding { identity: "arn".into(), rotation: "r".into(), attempt: 1 }
    }

    /// `/dev/full` refuses the write, `/dev/null` takes it and refuses the `fdatasync`: either way nothing is tried again.
    #[test]
    fn a_failed_write_or_sync_breaks_the_slot_until_the_next_start() {
        for device in ["/dev/full", "/dev/null"] {
            let state = tempfile::tempdir().unwrap();
            let spool = Spool::open(state.path()).unwrap();
            spool.allocate("bot").unwrap();
            let file = OpenOptions::new().write(true).open(device).unwrap();
            assert!(matches!(spool.commit("bot", &file, b"x"), Err(SpoolError::Io { .. })), "{device}");
            let captured = spool.capture("bot", &binding(), &SecretString::from("t"), &key());
            assert!(matches!(captured, Err(SpoolError::Broken(_))), "{device}");
            assert!(matches!(spool.clear("bot"), Err(SpoolError::Broken(_))), "{device}");
            assert!(matches!(spool.read("bot", &[]).unwrap(), SlotContent::Empty), "still readable");
            assert!(spool.list().unwrap()[0].broken);
            spool.capture("cat", &binding(), &SecretString::from("t"), &key()).expect("another token's slot is not touched");
            let restarted = Spool::open(state.path()).unwrap();
            restarted.capture("bot", &binding(), &SecretString::from("t"), &key()).unwrap();
        }
    }
}

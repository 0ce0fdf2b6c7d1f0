//! One folder of a file store, held open: every name below it is resolved from the open descriptor and never through a link, so
//! a folder that is swapped for a symlink between a check and a use changes nothing.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fsync, unlinkat};
use zeroize::Zeroizing;

use crate::rotation::fault::{Certainty, Fault, FaultClass};

/// Longest content of any file here, in bytes: that of an AWS secret, so that an entry can move between stores, and a bound on
/// what a foreign writer can make us read.
pub(super) const FILE_BYTES_MAX: usize = 65_536;

/// Who may read what is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Access {
    /// Permission bits of a file; a folder gets the search bit wherever there is a read bit.
    pub(super) mode: u32,
    /// The group, where it is not the process's own.
    pub(super) group: Option<Gid>,
}

impl Access {
    /// For what only the daemon may see.
    pub(super) const PRIVATE: Self = Self { mode: 0o600, group: None };

    /// Whether a file's permission bits and group are these.
    pub(super) fn is(self, mode: u32, group: u32) -> bool {
        mode == self.mode && self.group.is_none_or(|wanted| wanted.as_raw() == group)
    }

    const fn folder_mode(self) -> u32 {
        self.mode | 0o700 | (self.mode & 0o444) >> 2
    }
}

/// An open folder and its path (for messages only).
#[derive(Debug)]
pub(super) struct Folder {
    fd: OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// Opens the root of a store. It alone may be reached through links (`/var/run`); `None` when it is missing.
    pub(super) fn root(path: &Path) -> Result<Option<Self>, Fault> {
        match open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()) {
            Ok(fd) => Self { fd, path: path.to_path_buf() }.checked().map(Some),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(fault(errno, "open the folder", path, Certainty::NotDone)),
        }
    }

    /// Opens the root of a store, making it and its parents where they are missing.
    pub(super) fn root_made(path: &Path, access: Access) -> Result<Self, Fault> {
        if let Some(root) = Self::root(path)? {
            return Ok(root);
        }
        if let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) {
            std::fs::create_dir_all(parent).map_err(|error| io_fault(&error, "make the folder", parent, Certainty::NotDone))?;
            let fd = open(parent, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
                .map_err(|errno| fault(errno, "open the folder", parent, Certainty::NotDone))?;
            return Self { fd, path: parent.to_path_buf() }.child_made(name, access);
        }
        Err(fault(Errno::ENOENT, "make the folder", path, Certainty::NotDone))
    }

    /// Opens a folder below this one; `None` when it is missing.
    pub(super) fn child(&self, name: &str) -> Result<Option<Self>, Fault> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let path = self.path.join(name);
        match openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => Self { fd, path }.checked().map(Some),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(fault(errno, "open the folder", &path, Certainty::NotDone)),
        }
    }

    /// Opens a folder below this one, making it where it is missing.
    pub(super) fn child_made(&self, name: &str, access: Access) -> Result<Self, Fault> {
        let path = self.path.join(name);
        let failed = |errno| fault(errno, "make the folder", &path, Certainty::NotDone);
        match mkdirat(&self.fd, name, Mode::S_IRWXU) {
            Ok(()) => {
                let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let fd = openat(&self.fd, name, flags, Mode::empty()).map_err(failed)?;
                apply(&fd, access.group, access.folder_mode()).map_err(failed)?;
                self.sync()?;
                Self { fd, path }.checked()
            }
            Err(Errno::EEXIST) => self.child(name)?.ok_or_else(|| failed(Errno::ENOENT)),
            Err(errno) => Err(failed(errno)),
        }
    }

    /// Refuses a folder in which somebody else could put files of his own.
    fn checked(self) -> Result<Self, Fault> {
        let stat = fstat(&self.fd).map_err(|errno| fault(errno, "look at the folder", &self.path, Certainty::NotDone))?;
        owned(&stat, &self.path)?;
        if stat.st_mode & 0o022 != 0 && stat.st_mode & 0o1000 == 0 {
            let path = self.path.display();
            return Err(denied(format!("{path} may be written by others (mode {:o}); run: chmod go-w {path}", stat.st_mode & 0o7777)));
        }
        Ok(self)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The content of a file; `None` when it is missing.
    pub(super) fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, Fault> {
        let Some((mut file, stat)) = self.open_file(name)? else { return Ok(None) };
        let path = self.path.join(name);
        // One allocation of the right size: a growing buffer would leave copies of a token behind.
        let size = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
        if size > FILE_BYTES_MAX {
            let what = format!("{} is {size} bytes long, more than the {FILE_BYTES_MAX} that an entry may hold", path.display());
            return Err(Fault::new(Certainty::NotDone, FaultClass::Limit, what));
        }
        let mut bytes = Zeroizing::new(vec![0; size]);
        file.read_exact(&mut bytes).map_err(|error| io_fault(&error, "read", &path, Certainty::NotDone))?;
        Ok(Some(bytes))
    }

    /// The state of a file; `None` when it is missing.
    pub(super) fn stat(&self, name: &str) -> Result<Option<FileStat>, Fault> {
        Ok(self.open_file(name)?.map(|(_file, stat)| stat))
    }

    /// Gives a file its mode and group.
    pub(super) fn give(&self, name: &str, access: Access) -> Result<(), Fault> {
        let Some((file, _stat)) = self.open_file(name)? else { return Ok(()) };
        apply(&file, access.group, access.mode)
            .map_err(|errno| fault(errno, "change mode and group of", &self.path.join(name), Certainty::NotDone))
    }

    fn open_file(&self, name: &str) -> Result<Option<(File, FileStat)>, Fault> {
        let path = self.path.join(name);
        // Without O_NONBLOCK a FIFO in the file's place would hold this thread for ever.
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = match openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(fault(errno, "open", &path, Certainty::NotDone)),
        };
        let stat = fstat(&file).map_err(|errno| fault(errno, "look at", &path, Certainty::NotDone))?;
        if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
            return Err(denied(format!("{} is not a plain file; remove it", path.display())));
        }
        owned(&stat, &path)?;
        Ok(Some((file, stat)))
    }

    /// The file that a lock is taken on, made where it is missing.
    pub(super) fn lock_file(&self, name: &str, make: bool) -> Result<Option<File>, Fault> {
        let mut flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        flags.set(OFlag::O_CREAT, make);
        match openat(&self.fd, name, flags, Mode::S_IRUSR | Mode::S_IWUSR) {
            Ok(fd) => Ok(Some(File::from(fd))),
            Err(Errno::ENOENT) if !make => Ok(None),
            Err(errno) => Err(fault(errno, "open the lock", &self.path.join(name), Certainty::NotDone)),
        }
    }

    /// Names of the files here, sorted.
    pub(super) fn names(&self) -> Result<Vec<String>, Fault> {
        let failed = |error: std::io::Error| io_fault(&error, "list", &self.path, Certainty::NotDone);
        let mut names = Vec::new();
        for file in std::fs::read_dir(&self.path).map_err(failed)? {
            // A name that is not UTF-8 is none of ours.
            names.extend(file.map_err(failed)?.file_name().into_string().ok());
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Puts a file here in one step: written and synced under a scratch name in `scratch`, renamed onto its own, the folder synced.
    /// A reader sees the old file or the new one, and so does whoever comes after a crash. Callers hold the entry's lock, which is
    /// what makes the one scratch name enough and a left-over one safe to remove.
    pub(super) fn put(&self, name: &str, bytes: &[u8], access: Access, scratch: &Self) -> Result<(), Fault> {
        let path = self.path.join(name);
        let written = scratch.write_scratch(bytes, access).and_then(|()| renameat(&scratch.fd, SCRATCH, &self.fd, name));
        if let Err(errno) = written {
            // Best effort: the next write removes it first.
            scratch.remove(SCRATCH).ok();
            return Err(fault(errno, "write", &path, Certainty::NotDone));
        }
        self.sync()
    }

    /// Proves that a file can be written and synced here, and leaves nothing behind.
    pub(super) fn prove_writable(&self, bytes: &[u8], access: Access) -> Result<(), Fault> {
        let written = self.write_scratch(bytes, access);
        self.remove(SCRATCH).ok();
        written.map_err(|errno| fault(errno, "write in", &self.path, Certainty::NotDone))
    }

    fn write_scratch(&self, bytes: &[u8], access: Access) -> Result<(), Errno> {
        match unlinkat(&self.fd, SCRATCH, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut file = File::from(openat(&self.fd, SCRATCH, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
        file.write_all(bytes).map_err(|error| errno_of(&error))?;
        apply(&file, access.group, access.mode)?;
        // Never repeated on an error: the kernel may have dropped the page and would call the second one a success.
        fsync(&file)
    }

    /// Removes a file; one that is missing is as good as removed.
    pub(super) fn remove(&self, name: &str) -> Result<(), Fault> {
        match unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(fault(errno, "remove", &self.path.join(name), Certainty::NotDone)),
        }
    }

    /// Makes the names in this folder durable. A failure leaves it open whether the change before it survives a crash.
    pub(super) fn sync(&self) -> Result<(), Fault> {
        fsync(&self.fd).map_err(|errno| fault(errno, "sync the folder", &self.path, Certainty::Unknown))
    }
}

const SCRATCH: &str = "scratch";

fn apply(fd: impl AsFd, group: Option<Gid>, mode: u32) -> Result<(), Errno> {
    if group.is_some() {
        fchown(&fd, None, group)?;
    }
    // After the change of group, which clears bits; explicit because the umask cut what the file was made with.
    fchmod(fd, Mode::from_bits_truncate(mode))
}

fn owned(stat: &FileStat, path: &Path) -> Result<(), Fault> {
    let (owner, own) = (Uid::from_raw(stat.st_uid), Uid::effective());
    if owner == own || owner.is_root() {
        return Ok(());
    }
    let path = path.display();
    Err(denied(format!("{path} belongs to uid {owner} and not to uid {own} that evertoken runs as; run: chown {own} {path}")))
}

/// A refusal of ours, before anything was done.
pub(super) fn denied(what: impl Into<String>) -> Fault {
    Fault::new(Certainty::NotDone, FaultClass::Denied, what)
}

fn errno_of(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

pub(super) fn io_fault(error: &std::io::Error, doing: &str, path: &Path, certainty: Certainty) -> Fault {
    fault(errno_of(error), doing, path, certainty)
}

fn fault(errno: Errno, doing: &str, path: &Path, certainty: Certainty) -> Fault {
    #[expect(clippy::wildcard_enum_match_arm, reason = "of some 130 error numbers these have a meaning of their own here")]
    let (class, advice) = match errno {
        Errno::ENOSPC | Errno::EDQUOT => (FaultClass::Limit, "free space or inodes there"),
        Errno::EMFILE | Errno::ENFILE => (FaultClass::Limit, "raise the limit of open files"),
        Errno::ENAMETOOLONG | Errno::EFBIG => (FaultClass::Limit, "use a shorter entry"),
        Errno::EROFS => (FaultClass::Denied, "mount it writable, or add it to ReadWritePaths= of the unit"),
        Errno::EACCES | Errno::EPERM => {
            (FaultClass::Denied, "let the daemon's user read and write there, and be a member of the store's group")
        }
        Errno::ELOOP | Errno::ENOTDIR => {
            (FaultClass::Denied, "a symlink or a file stands where a folder of the store should be: remove it")
        }
        Errno::EISDIR => (FaultClass::Denied, "a folder stands where a file of the store should be: remove it"),
        Errno::ENOENT => (FaultClass::Missing, "it was removed meanwhile"),
        _ => (FaultClass::Transient, "look at the kernel's log and the disk"),
    };
    Fault::new(certainty, class, format!("cannot {doing} {}: {} ({advice})", path.display(), errno.desc()))
}

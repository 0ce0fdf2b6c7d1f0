//! Secrets by reference: where a secret is, and how it is read from this host.
//!
//! The one place, beside the composition root, that reads the environment. A secret is read when it is used, never when the
//! configuration is: a configuration can be checked by somebody who may not see the secrets.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::settings::EntryRef;

/// Longest secret that is taken, in bytes. Meta's are 32 characters.
pub const SECRET_BYTES_MAX: usize = 4096;

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretRef {
    /// On this host.
    Local(LocalSecret),
    /// In an entry of a store, where its caller reads it.
    Store(EntryRef),
}

/// Where on this host a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalSecret {
    /// In a file. Symbolic links are followed: Kubernetes mounts secrets as such.
    File(PathBuf),
    /// In a variable of the environment.
    Env(String),
    /// A systemd credential (`LoadCredential=`): the file of this name in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
}

/// What systemd (or whoever started the process) said of folders.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Environment {
    /// The first folder of `$STATE_DIRECTORY`.
    pub state_directory: Option<PathBuf>,
    /// The first folder of `$RUNTIME_DIRECTORY`.
    pub runtime_directory: Option<PathBuf>,
    /// `$CREDENTIALS_DIRECTORY`.
    pub credentials_directory: Option<PathBuf>,
}

impl Environment {
    /// What this process was started with.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one home of the environment beside the composition root")]
    pub fn of_process() -> Self {
        Self::from_lookup(|name| std::env::var_os(name))
    }

    /// What a lookup by name gives. `$STATE_DIRECTORY` and `$RUNTIME_DIRECTORY` may be lists with colons between (systemd.exec(5)):
    /// the first counts. Empty ones count as unset.
    #[must_use]
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>) -> Self {
        let first = |name| lookup(name).and_then(|list| std::env::split_paths(&list).next()).filter(|path| !path.as_os_str().is_empty());
        let whole = |name| lookup(name).map(PathBuf::from).filter(|path| !path.as_os_str().is_empty());
        Self {
            state_directory: first("STATE_DIRECTORY"),
            runtime_directory: first("RUNTIME_DIRECTORY"),
            credentials_directory: whole("CREDENTIALS_DIRECTORY"),
        }
    }
}

/// Why a secret could not be read. The operator's to mend; never holds any of the secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be opened or read.
    #[error("the secret file {} cannot be read", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// The path leads to a folder, a pipe or a device.
    #[error("{} is no regular file", .0.display())]
    NotAFile(PathBuf),
    /// The variable is not set.
    #[error("the variable {0} is not set")]
    Unset(String),
    /// A systemd credential is asked for where there are none.
    #[error("the credential {0:?} needs $CREDENTIALS_DIRECTORY, which systemd sets for a unit with LoadCredential= or SetCredential=")]
    NoCredentials(String),
    /// What was read cannot be a secret.
    #[error("{place} holds no secret")]
    Shape {
        /// Where it was read.
        place: String,
        /// Why not.
        #[source]
        source: SecretShapeError,
    },
}

impl SecretError {
    /// What to do about it, one line.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Unreadable { path, source } if source.kind() == io::ErrorKind::PermissionDenied => {
                let (uid, path) = (nix::unistd::geteuid(), path.display());
                format!("let uid {uid} read it: `chown {uid} {path}` and `chmod 0600 {path}`, and let it into the folders above")
            }
            Self::Unreadable { .. } => {
                "put the app secret there (App settings, Basic, in the app's dashboard), with mode 0600, or name another file".to_owned()
            }
            Self::NotAFile(_) => "name the file that holds the secret alone".to_owned(),
            Self::Unset(name) => format!("set {name} for evertoken; for a unit, by EnvironmentFile= with mode 0600"),
            Self::NoCredentials(name) => {
                format!(
                    "start evertoken by its unit, with LoadCredential={name}:PATH; by hand, `systemd-run -p LoadCredential={name}:PATH`"
                )
            }
            Self::Shape { .. } => "put the secret there alone, in one line".to_owned(),
        }
    }
}

/// Why a text cannot be a secret. Never holds the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretShapeError {
    /// Nothing, or nothing but a line end.
    #[error("it is empty")]
    Empty,
    /// Longer than any app secret.
    #[error("it is longer than {SECRET_BYTES_MAX} bytes")]
    TooLong,
    /// A blank, a control character, or one outside ASCII.
    #[error("it holds a blank, a control character or a character outside ASCII at byte {0}")]
    Character(usize),
}

/// A secret that was read, and what is dubious about its place.
#[derive(Debug)]
pub struct ReadSecret {
    /// The secret.
    pub secret: SecretString,
    /// For people, one line.
    pub warning: Option<String>,
}

/// What became of a reference on this host.
#[derive(Debug)]
pub enum Resolved<'a> {
    /// It was read.
    Here(ReadSecret),
    /// It is in a store: the caller reads the entry and passes what it holds to [`secret_from`].
    InStore(&'a EntryRef),
}

impl SecretRef {
    /// Reads the secret if it is on this host.
    ///
    /// # Errors
    /// As [`LocalSecret::read`].
    pub fn resolve_local(&self, environment: &Environment) -> Result<Resolved<'_>, SecretError> {
        match self {
            Self::Local(local) => local.read(environment).map(Resolved::Here),
            Self::Store(entry) => Ok(Resolved::InStore(entry)),
        }
    }
}

impl LocalSecret {
    /// Reads the secret.
    ///
    /// # Errors
    /// When it is not there, cannot be read, or cannot be a secret.
    pub fn read(&self, environment: &Environment) -> Result<ReadSecret, SecretError> {
        match self {
            Self::File(path) => read_file(path),
            Self::Env(name) => {
                #[expect(clippy::disallowed_methods, reason = "the one home of the environment beside the composition root")]
                let value = std::env::var_os(name).ok_or_else(|| SecretError::Unset(name.clone()))?;
                let place = format!("the variable {name}");
                Ok(ReadSecret { secret: secret_from(value.as_encoded_bytes(), &place)?, warning: None })
            }
            Self::Credential(name) => {
                let folder = environment.credentials_directory.as_ref().ok_or_else(|| SecretError::NoCredentials(name.clone()))?;
                // systemd guards that folder itself; its files' modes say nothing.
                read_file(&folder.join(name)).map(|read| ReadSecret { warning: None, ..read })
            }
        }
    }
}

fn read_file(path: &Path) -> Result<ReadSecret, SecretError> {
    let unreadable = |source| SecretError::Unreadable { path: path.to_owned(), source };
    // Looked at before it is opened, because opening a pipe that nobody writes to would wait for ever.
    if !path.metadata().map_err(unreadable)?.is_file() {
        return Err(SecretError::NotAFile(path.to_owned()));
    }
    let file = File::open(path).map_err(unreadable)?;
    let found = file.metadata().map_err(unreadable)?;
    let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(SECRET_BYTES_MAX + 4));
    file.take(SECRET_BYTES_MAX as u64 + 3).read_to_end(&mut bytes).map_err(unreadable)?;
    let secret = secret_from(&bytes, &format!("the secret file {}", path.display()))?;
    let warning = exposed(found.mode(), found.uid(), &|| belongs_to_us(found.gid())).then(|| {
        let (shown, mode) = (path.display(), found.mode() & 0o7777);
        let remedy = if found.uid() == nix::unistd::geteuid().as_raw() {
            format!("chmod 0600 {shown}")
        } else {
            "let it be root's with mode 0440 and a group of this process (in Kubernetes defaultMode 0440 with fsGroup), or this user's with mode 0600"
                .to_owned()
        };
        format!("the secret file {shown} has the mode {mode:04o}, so others than evertoken have access to it: {remedy}")
    });
    Ok(ReadSecret { secret, warning })
}

/// Whether a file of this mode and owner is open to more than this process needs. What root lets our own group read, and nobody else,
/// is how Kubernetes hands out secrets.
fn exposed(mode: u32, owner: u32, group_is_ours: &dyn Fn() -> bool) -> bool {
    let handed_to_us = owner == 0 && mode & 0o037 == 0 && group_is_ours();
    mode & 0o077 != 0 && !handed_to_us
}

fn belongs_to_us(group: u32) -> bool {
    let extra = nix::unistd::getgroups().unwrap_or_default();
    nix::unistd::getegid().as_raw() == group || extra.iter().any(|own| own.as_raw() == group)
}

/// Takes what was read at `place` as a secret. One line end at its end, as editors leave it, is not part of it.
///
/// # Errors
/// When it is empty, too long, or holds anything but printable ASCII without blanks.
pub fn secret_from(bytes: &[u8], place: &str) -> Result<SecretString, SecretError> {
    let wrong = |source| SecretError::Shape { place: place.to_owned(), source };
    let bytes = bytes.strip_suffix(b"\n").map_or(bytes, |line| line.strip_suffix(b"\r").unwrap_or(line));
    if bytes.is_empty() {
        return Err(wrong(SecretShapeError::Empty));
    }
    if bytes.len() > SECRET_BYTES_MAX {
        return Err(wrong(SecretShapeError::TooLong));
    }
    if let Some(at) = bytes.iter().position(|byte| !byte.is_ascii_graphic()) {
        return Err(wrong(SecretShapeError::Character(at)));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| wrong(SecretShapeError::Character(error.valid_up_to())))?;
    Ok(SecretString::from(text))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    use secrecy::ExposeSecret;

    use super::*;

    fn file(content: &[u8], mode: u32) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        file.as_file().set_permissions(Permissions::from_mode(mode)).unwrap();
        file
    }

    fn read(path: &Path) -> Result<ReadSecret, SecretError> {
        LocalSecret::File(path.to_owned()).read(&Environment::default())
    }

    fn shape(content: &[u8]) -> SecretShapeError {
        match read(file(content, 0o600).path()).unwrap_err() {
            SecretError::Shape { source, .. } => source,
            other @ (SecretError::Unreadable { .. } | SecretError::NotAFile(_) | SecretError::Unset(_) | SecretError::NoCredentials(_)) => {
                panic!("{other:?}")
            }
        }
    }

    #[test]
    fn a_file_gives_its_secret_without_the_line_end() {
        for content in [&b"s3cret"[..], b"s3cret\n", b"s3cret\r\n"] {
            let found = read(file(content, 0o600).path()).unwrap();
            assert_eq!(found.secret.expose_secret(), "s3cret");
            assert_eq!(found.warning, None);
            assert!(!format!("{found:?}").contains("s3cret"));
        }
        let longest = "x".repeat(SECRET_BYTES_MAX);
        assert_eq!(read(file(format!("{longest}\r\n").as_bytes(), 0o600).path()).unwrap().secret.expose_secret(), longest);
    }

    #[test]
    fn what_cannot_be_a_secret_is_refused() {
        assert_eq!(shape(b""), SecretShapeError::Empty);
        assert_eq!(shape(b"\n"), SecretShapeError::Empty);
        assert_eq!(shape(b"a\n\n"), SecretShapeError::Character(1));
        assert_eq!(shape(b"a b"), SecretShapeError::Character(1));
        assert_eq!(shape(b"\xff"), SecretShapeError::Character(0));
        assert_eq!(shape(&[b'x'; SECRET_BYTES_MAX + 1]), SecretShapeError::TooLong);
        assert_eq!(shape(&[b'x'; SECRET_BYTES_MAX * 2]), SecretShapeError::TooLong);
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(read(folder.path()), Err(SecretError::NotAFile(_))));
        assert!(matches!(read(&folder.path().join("none")), Err(SecretError::Unreadable { .. })));
    }

    #[test]
    fn a_pipe_does_not_hang() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(read(&pipe), Err(SecretError::NotAFile(_))));
    }

    #[test]
    fn a_loose_mode_warns_and_a_link_is_followed() {
        let loose = file(b"s3cret", 0o644);
        assert!(read(loose.path()).unwrap().warning.unwrap().contains("0644"));
        let folder = tempfile::tempdir().unwrap();
        let tight = file(b"s3cret", 0o400);
        std::os::unix::fs::symlink(tight.path(), folder.path().join("..data")).unwrap();
        assert_eq!(read(&folder.path().join("..data")).unwrap().warning, None);
    }

    #[test]
    fn what_root_hands_to_our_group_alone_is_not_exposed() {
        let (ours, theirs) = (|| true, || false);
        for (mode, owner, exposed_to_us, exposed_to_them) in [
            (0o440, 0, false, true),
            (0o640, 0, false, true),
            (0o444, 0, true, true),
            (0o460, 0, true, true),
            (0o640, 1000, true, true),
            (0o600, 1000, false, false),
            (0o400, 0, false, false),
        ] {
            assert_eq!(exposed(mode, owner, &ours), exposed_to_us, "{mode:o} of {owner}");
            assert_eq!(exposed(mode, owner, &theirs), exposed_to_them, "{mode:o} of {owner}");
        }
    }

    #[test]
    fn a_credential_lies_in_systemds_folder() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = File::create_new(folder.path().join("acme")).unwrap();
        file.write_all(b"s3cret\n").unwrap();
        let credential = LocalSecret::Credential("acme".to_owned());
        let environment = Environment { credentials_directory: Some(folder.path().to_owned()), ..Environment::default() };
        assert_eq!(credential.read(&environment).unwrap().secret.expose_secret(), "s3cret");
        assert!(matches!(credential.read(&Environment::default()), Err(SecretError::NoCredentials(_))));
    }

    #[test]
    fn a_variable_that_is_not_set_is_named() {
        let error = LocalSecret::Env("EVERTOKEN_TEST_NOT_SET".to_owned()).read(&Environment::default()).unwrap_err();
        assert_eq!(error.to_string(), "the variable EVERTOKEN_TEST_NOT_SET is not set");
        // Cargo sets this one for every test.
        assert!(LocalSecret::Env("CARGO_PKG_NAME".to_owned()).read(&Environment::default()).is_ok());
    }

    #[test]
    fn the_first_of_a_list_of_folders_counts() {
        let environment = Environment::from_lookup(|name| match name {
            "STATE_DIRECTORY" => Some("/var/lib/a:/var/lib/b".into()),
            "RUNTIME_DIRECTORY" => Some("".into()),
            _ => None,
        });
        assert_eq!(environment.state_directory.as_deref(), Some(Path::new("/var/lib/a")));
        assert_eq!(environment.runtime_directory, None);
    }
}

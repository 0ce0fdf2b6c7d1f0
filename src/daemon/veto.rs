//! The breaker's veto on disk, so that a restart does not lift it. It can only forbid: a lost or unreadable file leaves the canary.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::rotation::breaker::Veto;

/// Where the veto is kept.
#[derive(Debug, Clone)]
pub struct VetoFile(PathBuf);

impl VetoFile {
    /// In a state directory.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self(state_dir.join("breaker.json"))
    }

    /// The veto that an earlier process left. One that cannot be read is a veto too: somebody wrote it for a reason.
    #[must_use]
    pub fn read(&self) -> Option<Veto> {
        let text = match std::fs::read_to_string(&self.0) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => return Some(unreadable(&error.to_string())),
        };
        Some(serde_json::from_str(&text).unwrap_or_else(|error| unreadable(&error.to_string())))
    }

    /// Keeps or lifts a veto. A failure is told: the veto then lasts only as long as this process.
    pub fn write(&self, veto: Option<&Veto>) {
        let result = match veto {
            None => match std::fs::remove_file(&self.0) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
            Some(veto) => self.keep(veto),
        };
        if let Err(error) = result {
            tracing::error!(event = "breaker.not_kept", alert = true, path = %self.0.display(), %error, "the breaker's state could not be kept: a restart would forget it");
        }
    }

    fn keep(&self, veto: &Veto) -> std::io::Result<()> {
        let bytes = serde_json::to_vec(veto)?;
        let beside = self.0.with_extension("new");
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).open(&beside)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, &self.0)?;
        self.0.parent().map_or(Ok(()), |folder| std::fs::File::open(folder)?.sync_all())
    }
}

fn unreadable(why: &str) -> Veto {
    Veto { at: crate::clock::wall(), why: format!("breaker.json in the state directory cannot be read ({why})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_veto_outlives_the_process_and_a_damaged_one_still_forbids() {
        let folder = tempfile::tempdir().unwrap();
        let file = VetoFile::new(folder.path());
        assert_eq!(file.read(), None);
        let veto = Veto { at: jiff::Timestamp::UNIX_EPOCH, why: "test".into() };
        file.write(Some(&veto));
        assert_eq!(file.read(), Some(veto));
        std::fs::OpenOptions::new().write(true).truncate(true).open(folder.path().join("breaker.json")).unwrap();
        assert!(file.read().unwrap().why.contains("cannot be read"));
        file.write(None);
        file.write(None);
        assert_eq!(file.read(), None);
    }
}

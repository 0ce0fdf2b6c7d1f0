//! journald's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL): one datagram an entry, `KEY=value` lines, and a length before
//! values that hold a line end. Entries are bounded well under the socket's default buffer, so the protocol's detour through a
//! sealed memory file is never needed.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use tracing::Level;

use super::logging::{Record, plain};
use super::writer::Destination;

const SOCKET: &str = "/run/systemd/journal/socket";

/// The journal's socket. Not connected, so that a restart of journald is no event.
#[derive(Debug)]
pub(super) struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Journal {
    /// `None` where there is no journal.
    pub(super) fn connect() -> Option<Self> {
        Self::at(Path::new(SOCKET))
    }

    fn at(path: &Path) -> Option<Self> {
        let socket = UnixDatagram::unbound().ok()?;
        path.try_exists().ok().filter(|exists| *exists)?;
        Some(Self { socket, path: path.to_owned() })
    }
}

impl Destination for Journal {
    fn send(&mut self, entry: &[u8]) -> io::Result<()> {
        self.socket.send_to(entry, &self.path).map(drop)
    }

    fn resume(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Renders a record as one entry.
pub(super) fn entry(record: &Record) -> Vec<u8> {
    let mut entry = Vec::with_capacity(512);
    put(&mut entry, "PRIORITY", priority(record.level));
    put(&mut entry, "SYSLOG_IDENTIFIER", "evertoken");
    put(&mut entry, "TARGET", record.target);
    let text = record.get("message").or_else(|| record.get("event"));
    put(&mut entry, "MESSAGE", &text.map(plain).unwrap_or_default());
    for (key, value) in record.fields().filter(|(key, _)| *key != "message") {
        put(&mut entry, &field_name(key), &plain(value));
    }
    entry
}

fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

/// journald takes A to Z, digits and underscores, at most 64 of them.
fn field_name(key: &str) -> String {
    let letters = key.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' });
    "EVERTOKEN_".chars().chain(letters).take(64).collect()
}

fn put(entry: &mut Vec<u8>, key: &str, value: &str) {
    entry.extend_from_slice(key.as_bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn an_entry_arrives_as_one_datagram_in_the_native_protocol() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        assert!(Journal::at(&path).is_none(), "no socket, no journal");
        let server = UnixDatagram::bind(&path).unwrap();
        let mut journal = Journal::at(&path).unwrap();

        let mut record = Record::new(jiff::Timestamp::UNIX_EPOCH, Level::WARN, "evertoken::daemon");
        record.put("message", Value::from("two\nlines"));
        record.put("event", Value::from("token.overdue"));
        record.put("rotation.id", Value::from(7));
        journal.send(&entry(&record)).unwrap();

        let mut received = vec![0_u8; 4096];
        let length = server.recv(&mut received).unwrap();
        let expected: &[u8] = b"PRIORITY=4\nSYSLOG_IDENTIFIER=evertoken\nTARGET=evertoken::daemon\nMESSAGE\n\x09\0\0\0\0\0\0\0two\nlines\n\
            EVERTOKEN_EVENT=token.overdue\nEVERTOKEN_ROTATION_ID=7\n";
        assert_eq!(String::from_utf8_lossy(&received[..length]), String::from_utf8_lossy(expected));

        drop(server);
        std::fs::remove_file(&path).unwrap();
        assert!(journal.send(b"MESSAGE=x\n").is_err());
        let server = UnixDatagram::bind(&path).unwrap();
        journal.send(b"MESSAGE=y\n").expect("a journald that was restarted is found again");
        assert_eq!(server.recv(&mut received).unwrap(), 10);
    }
}

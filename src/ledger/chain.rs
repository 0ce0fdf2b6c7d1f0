//! The chain of hashes through the ledger: each row ends in a hash over the hash of the row before it and its own bytes.
//!
//! **The rule.** A row's line is `BODY,"chain":"HASH"}`. `HASH` is the SHA-256, in 64 lowercase hex digits, of the hash of the row before
//! it (as those 64 digits; 64 zeros for the first row) followed by `BODY`. What is hashed is bytes, not meaning, so no two writers
//! need agree on how JSON is put into one form, and `sha256sum` can check a row. The rule is of no schema: rows of a newer
//! version are checked by it too. The row before is the one that was written before, in whatever file: the chain crosses months.
//!
//! **What it shows.** A row changed, deleted, inserted, copied or moved does not fit the row before it, or the row after it does not fit it.
//! What it cannot show by itself is an end that was cut off at a row's border, or a whole ledger that was written anew: whoever may write
//! the file can compute hashes too. A key would not change that: one that the daemon can use is one that root on the
//! same host can use, and a reader would need it as well. What helps is the newest hash known *elsewhere*. So the daemon says it in
//! its log (`ledger.head`) with every step that matters, and `audit verify --head` demands it. For a ledger that is cut off
//! or written anew after that, the log must be forged too, in the place where it was sent.
//!
//! **A torn end is not a cut one.** A row counts, and its hash is told, only when it is on the disk. So what a crash tears off was never told, and
//! the row that [`super::Repair`] leaves states how many bytes went, their hash, and after which row: no told head is missing then.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// What stands between a row's body and its hash.
const KEY: &[u8] = b",\"chain\":\"";
/// What ends the line.
const END: &[u8] = b"\"}";
/// Hex digits of a hash.
const DIGITS: usize = 64;

/// The hash of one row, over everything up to it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChainHash([u8; DIGITS / 2]);

impl ChainHash {
    /// What stands before the first row.
    pub const NONE: Self = Self([0; DIGITS / 2]);

    /// The hash of the row with this body, after the row with this hash.
    pub(super) fn then(self, body: &[u8]) -> Self {
        Self(Sha256::new().chain_update(self.to_string()).chain_update(body).finalize().into())
    }
}

impl fmt::Display for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no hash of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no head of a ledger: it has 64 hex digits, as a `ledger.head` line of the log shows it")]
pub struct NotAHash;

impl FromStr for ChainHash {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Self, NotAHash> {
        Self::read(text.to_ascii_lowercase().as_bytes()).ok_or(NotAHash)
    }
}

impl ChainHash {
    /// From its digits, lowercase only: of one hash there is one text.
    fn read(digits: &[u8]) -> Option<Self> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let (pairs, []) = digits.as_chunks::<2>() else { return None };
        let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect::<Option<Vec<u8>>>()?;
        bytes.try_into().ok().map(Self)
    }
}

/// A row's JSON object with its hash as the last key, and that hash.
pub(super) fn sealed(mut object: Vec<u8>, before: ChainHash) -> (Vec<u8>, ChainHash) {
    // The closing brace moves behind the hash.
    object.pop();
    let hash = before.then(&object);
    object.extend_from_slice(KEY);
    object.extend_from_slice(hash.to_string().as_bytes());
    object.extend_from_slice(END);
    (object, hash)
}

/// A line's body and the hash that it states; `None` for a row from before there was a chain.
pub(super) fn split(line: &[u8]) -> Option<(&[u8], ChainHash)> {
    let line = line.strip_suffix(END)?;
    let (rest, digits) = line.split_at_checked(line.len().checked_sub(DIGITS)?)?;
    Some((rest.strip_suffix(KEY)?, ChainHash::read(digits)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf '%s%s' "$(printf 0%.0s $(seq 64))" '{"seq":1' | sha256sum`
    #[test]
    fn the_rule_is_the_documented_one() {
        let (line, hash) = sealed(b"{\"seq\":1}".to_vec(), ChainHash::NONE);
        assert_eq!(hash.to_string(), "edd7bbf300ddb9d140940b17b11365df850931012f4a356f7a5c3015e0f0d0f2");
        assert_eq!(String::from_utf8(line.clone()).unwrap(), format!("{{\"seq\":1,\"chain\":\"{hash}\"}}"));
        assert_eq!(split(&line), Some((&b"{\"seq\":1"[..], hash)));
    }

    #[test]
    fn what_is_no_hash_is_none() {
        assert_eq!(split(b"{\"seq\":1}"), None);
        assert_eq!(split(b""), None);
        let upper = format!("{{\"seq\":1,\"chain\":\"{}\"}}", "A".repeat(64));
        assert_eq!(split(upper.as_bytes()), None, "of one row there is one line");
        assert_eq!("A".repeat(64).parse::<ChainHash>().unwrap().to_string(), "a".repeat(64));
        assert!("a".repeat(63).parse::<ChainHash>().is_err() && "é".repeat(32).parse::<ChainHash>().is_err());
    }
}

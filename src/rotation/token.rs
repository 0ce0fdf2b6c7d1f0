//! A token, what identifies it to people, and what the provider says of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// Longest token that is accepted, in bytes: what a spool slot holds beside its header.
pub const TOKEN_BYTES_MAX: usize = 15 * 1024;

/// An access token: opaque, never printed, never serialized. Its memory is wiped on drop.
///
/// The shape is checked once, here, because a token goes into URLs, files and log-free comparisons: printable ASCII without
/// blanks. Meta promises nothing more of it ("opaque, variable length, format may change").
#[derive(Clone)]
pub struct Token {
    text: SecretString,
    fingerprint: Fingerprint,
}

/// Why a text cannot be a token. Never holds the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenShapeError {
    /// Nothing was there.
    #[error("the token is empty")]
    Empty,
    /// Longer than a spool slot can hold.
    #[error("the token is {0} bytes long, more than the {TOKEN_BYTES_MAX} that fit a spool slot")]
    TooLong(usize),
    /// A blank, a control character, or a character outside ASCII.
    #[error("the token holds a blank, a control character or a character outside ASCII at byte {0}")]
    Character(usize),
}

impl Token {
    /// Takes a text as a token.
    ///
    /// # Errors
    /// When the text is empty, too long, or holds anything but printable ASCII without blanks.
    pub fn new(text: impl Into<String>) -> Result<Self, TokenShapeError> {
        let text = SecretString::from(text.into());
        let plain = text.expose_secret();
        if plain.is_empty() {
            return Err(TokenShapeError::Empty);
        }
        if plain.len() > TOKEN_BYTES_MAX {
            return Err(TokenShapeError::TooLong(plain.len()));
        }
        if let Some(at) = plain.bytes().position(|byte| !byte.is_ascii_graphic()) {
            return Err(TokenShapeError::Character(at));
        }
        let fingerprint = Fingerprint::of(plain);
        Ok(Self { text, fingerprint })
    }

    /// The token itself, for the one place that sends or stores it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }

    /// What may be shown of it.
    #[must_use]
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.fingerprint)
    }
}

/// The SHA-256 of a token. Compared whole, shown as its first 16 hex digits. Not keyed: a token carries well over 128 bits of
/// entropy, so the digest cannot be turned back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of a text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }

    /// All 64 hex digits, for records.
    #[must_use]
    pub fn whole(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The first eight hex digits, for names of files and labels.
    #[must_use]
    pub fn short8(&self) -> String {
        self.0.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(8).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// A text that is not 64 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint is 64 hex digits")]
pub struct FingerprintParseError;

impl FromStr for Fingerprint {
    type Err = FingerprintParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != 64 || !text.is_ascii() {
            return Err(FingerprintParseError);
        }
        let mut digest = [0_u8; 32];
        for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_utf8| FingerprintParseError)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_digit| FingerprintParseError)?;
        }
        Ok(Self(digest))
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.whole())
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// When a token ends. `Never` is later than every date: Meta writes it as `expires_at: 0` on a valid token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expiry {
    /// At this instant of the provider's clock.
    At(Timestamp),
    /// Not by itself.
    Never,
}

impl Expiry {
    /// The instant, where there is one.
    #[must_use]
    pub const fn at(self) -> Option<Timestamp> {
        match self {
            Self::At(at) => Some(at),
            Self::Never => None,
        }
    }
}

/// For each granular scope its targets; `None` means all targets (Meta omits `target_ids` then).
pub type GranularScopes = BTreeMap<String, Option<BTreeSet<String>>>;

/// What `debug_token` says of one token. Every field but `valid` may be missing in a real answer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Introspection {
    /// `is_valid`. Tested before anything else: a dead token may show `expires_at: 0`.
    pub valid: bool,
    /// The app that the token belongs to.
    pub app_id: Option<String>,
    /// The app-scoped id of the user that the token speaks for.
    pub user_id: Option<String>,
    /// `SYSTEM_USER`, `USER`, `PAGE`, `APP`; never a closed set.
    pub kind: Option<String>,
    /// Granted permissions.
    pub scopes: BTreeSet<String>,
    /// Granted permissions with their targets.
    pub granular: GranularScopes,
    /// When it was made.
    pub issued_at: Option<Timestamp>,
    /// When it ends. `None` when the answer had no (or an absurd) `expires_at`.
    pub expires: Option<Expiry>,
    /// When access to data ends; `None` when not applicable (0 for system users).
    pub data_access_expires_at: Option<Timestamp>,
    /// Graph's code for a dead token (190 mostly).
    pub error_code: Option<i64>,
    /// Graph's subcode for a dead token (463 expired, 466 invalidated, ...).
    pub error_subcode: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_printable_ascii_and_never_shows_itself() {
        let token = Token::new("EAATESTTOKEN").unwrap();
        assert!(!format!("{token:?}").contains("EAATEST"));
        assert_eq!(Token::new("").unwrap_err(), TokenShapeError::Empty);
        assert_eq!(Token::new("EAA\n").unwrap_err(), TokenShapeError::Character(3));
        assert_eq!(Token::new("EA A").unwrap_err(), TokenShapeError::Character(2));
        assert_eq!(Token::new("E\u{e9}").unwrap_err(), TokenShapeError::Character(1));
        assert_eq!(Token::new("x".repeat(TOKEN_BYTES_MAX + 1)).unwrap_err(), TokenShapeError::TooLong(TOKEN_BYTES_MAX + 1));
    }

    #[test]
    fn a_fingerprint_is_the_sha256_and_survives_its_text() {
        let fingerprint = Fingerprint::of("abc");
        assert_eq!(fingerprint.to_string(), "ba7816bf8f01cfea");
        assert_eq!(fingerprint.short8(), "ba7816bf");
        assert_eq!(fingerprint.whole().parse::<Fingerprint>().unwrap(), fingerprint);
        assert!("ba78".parse::<Fingerprint>().is_err());
        assert!("zz".repeat(32).parse::<Fingerprint>().is_err());
    }

    #[test]
    fn never_is_later_than_any_date() {
        assert!(Expiry::Never > Expiry::At(Timestamp::MAX));
    }
}

//! What stands in a secret's entry, and how the token is found in it and put into it.
//!
//! Staged bytes are the bytes that consumers will read, so rendering happens once, before staging, and holds no time stamp: a
//! retry is byte-equal.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// The whole content of an entry as consumers read it. Never printed, wiped on drop.
#[derive(Clone)]
pub struct Payload(SecretString);

impl Payload {
    /// Takes a content.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(SecretString::from(text.into()))
    }

    /// The content itself, for the one place that stores or parses it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for Payload {}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.expose().len())
    }
}

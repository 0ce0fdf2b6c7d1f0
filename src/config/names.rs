//! The names that people give to apps, stores and tokens.

use std::borrow::Borrow;
use std::fmt;

/// Whether a text may name an app, a store or a token: it goes into file names, labels and commands.
fn is_name(text: &str) -> bool {
    let mut characters = text.chars();
    characters.next().is_some_and(|c| c.is_ascii_alphanumeric())
        && characters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
        && text.len() <= NAME_BYTES_MAX
}

/// Longest name, in bytes: it is part of file names beside other words, and a file name has 255.
pub const NAME_BYTES_MAX: usize = 128;

macro_rules! name {
    ($(#[$docs:meta])* $name:ident) => {
        $(#[$docs])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Takes a text as a name: `[A-Za-z0-9][A-Za-z0-9._-]*`, at most [`NAME_BYTES_MAX`] bytes.
            #[must_use]
            pub fn new(text: &str) -> Option<Self> {
                is_name(text).then(|| Self(text.to_owned()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name! {
    /// The configured name of an app.
    AppName
}
name! {
    /// The configured name of a store.
    StoreName
}
name! {
    /// The configured name of a token.
    TokenName
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        for name in ["a", "whatsapp-bot", "A.b_c-9", "0"] {
            assert!(TokenName::new(name).is_some(), "{name}");
        }
        for name in ["", ".a", "-a", "a b", "a/b", "\u{e9}", "a\n", &"a".repeat(129)] {
            assert!(TokenName::new(name).is_none(), "{name}");
        }
    }
}

//! `appsecret_proof`: shows that whoever uses a token also holds the secret of the app that issued it.
//!
//! Meta's Login Security page: the lower-case hex of HMAC-SHA256 with the app secret as key and the access token as message. The
//! proof is bound to that one token, so it changes with it. The form with `appsecret_time` is not used: it fails on a host whose
//! clock is five minutes off, and a rotation must not.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;

use crate::rotation::token::Token;

/// The proof of one token, 64 hex digits. Kept like a secret: with the token it opens what "Require App Secret" closes.
#[must_use]
pub fn appsecret_proof(app_secret: &SecretString, token: &Token) -> SecretString {
    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length: longer ones are hashed, shorter ones padded (RFC 2104)")]
    let mut mac = Hmac::<Sha256>::new_from_slice(app_secret.expose_secret().as_bytes()).expect("a key of any length");
    mac.update(token.expose().as_bytes());
    let mut hex = String::with_capacity(64);
    for byte in mac.finalize().into_bytes() {
        let _written = write!(hex, "{byte:02x}");
    }
    hex.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(secret: &str, token: &str) -> String {
        appsecret_proof(&secret.to_owned().into(), &Token::new(token).unwrap()).expose_secret().to_owned()
    }

    #[test]
    fn the_known_vectors_hold() {
        let secret = "app-secret-0123456789abcdef";
        assert_eq!(proof(secret, "EAATESTTOKEN"), "a199ca5614ecbbd9fab10ad4ef4667b3c98264eb8c5885797b58dff1e301395e");
        // The timed form is the same function over `token|time`, which pins the function a second time.
        assert_eq!(proof(secret, "EAATESTTOKEN|1760000000"), "a493598c825e0fc920b23d52e56cd327eec8431d112c0fa0905a005a87f6b355");
    }

    #[test]
    fn a_key_of_any_length_works() {
        assert_eq!(proof("", "t").len(), 64);
        assert_ne!(proof(&"k".repeat(200), "t"), proof(&"k".repeat(201), "t"));
    }
}

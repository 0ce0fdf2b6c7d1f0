//! Makes text that the other side wrote fit for a log line.
//!
//! Meta's messages can echo what was sent ("Malformed access token …"), and a hostile answer can hold anything. A message is
//! therefore cut, freed of control characters, and refused as a whole when it repeats a piece of a secret of this very call;
//! of what remains, every word that looks like a token, a digest or a URL is struck out, whoever it belongs to.

/// The longest message that is passed on, in characters.
const MESSAGE_MAX: usize = 300;

/// A run of this many letters and digits is no word of any language.
const WORD_MAX: usize = 32;

/// A repeated piece of this many bytes betrays a secret. A shorter one could be chance.
const PIECE: usize = 10;

/// What stands for a struck word.
const STRUCK: &str = "[redacted]";

/// The secrets that went out with one call.
pub(super) struct Sent<'a>(Vec<&'a str>);

impl<'a> Sent<'a> {
    /// Takes the secrets of one call. Of an app token (`id|secret`) only what follows the bar is secret.
    pub(super) fn new(secrets: &[&'a str]) -> Self {
        Self(secrets.iter().map(|secret| secret.split_once('|').map_or(*secret, |(_id, secret)| secret)).collect())
    }

    /// The message in a form that may be shown; `None` when it repeats a secret or nothing is left.
    pub(super) fn message(&self, text: &str) -> Option<String> {
        if self.0.iter().any(|secret| repeats(text, secret)) {
            return None;
        }
        let cut: String = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(MESSAGE_MAX).collect();
        let words: Vec<&str> = cut.split_whitespace().map(|word| if suspicious(word) { STRUCK } else { word }).collect();
        (!words.is_empty()).then(|| words.join(" "))
    }

    /// A name or an id: letters, digits and a few marks, short; `None` for anything else.
    pub(super) fn name(&self, text: &str) -> Option<String> {
        let plain = (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-+/=.".contains(&byte));
        (plain && !text.starts_with("EAA") && !self.0.iter().any(|secret| repeats(text, secret))).then(|| text.to_owned())
    }
}

/// Whether `text` holds the secret or a piece of it.
fn repeats(text: &str, secret: &str) -> bool {
    if secret.is_empty() {
        return false;
    }
    let piece = PIECE.min(secret.len());
    text.as_bytes().windows(piece).any(|window| secret.as_bytes().windows(piece).any(|held| held == window))
}

/// Whether a word may be a secret, or a URL that carries one.
fn suspicious(word: &str) -> bool {
    let named = ["://", "access_token=", "client_secret=", "exchange_token=", "appsecret_proof=", "input_token=", "revoke_token="];
    let mut runs = word.split(|letter: char| !letter.is_ascii_alphanumeric());
    named.iter().any(|name| word.contains(name))
        || runs.any(|run| run.len() >= WORD_MAX || (run.len() >= 8 && (run.starts_with("EAA") || run.starts_with("IGQ"))))
        || word.split_once('|').is_some_and(|(id, _secret)| id.bytes().last().is_some_and(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_messages_pass_with_their_digits_and_dates() {
        let text = "Error validating access token: Session has expired on Wednesday, 16-Nov-22 07:45:51 PST.";
        assert_eq!(Sent::new(&["EAAsecretsecret"]).message(text).as_deref(), Some(text));
        assert_eq!(Sent::new(&[]).message("(#4) Application\u{0} request\nlimit").as_deref(), Some("(#4) Application request limit"));
    }

    #[test]
    fn a_message_with_a_piece_of_what_was_sent_is_withheld() {
        let sent = Sent::new(&["EAAabcdefghijklmnop", "123456789012345|0123456789abcdef", "tiny"]);
        for text in ["Malformed access token EAAabcdefghijklmnop", "token xx..bcdefghijklm..", "secret 0123456789abcdef", "it was tiny"] {
            assert_eq!(sent.message(text), None, "{text}");
        }
        // The id in front of the bar is no secret.
        assert!(sent.message("has not authorized application 123456789012345").is_some());
        assert_eq!(Sent::new(&[""]).message("fine").as_deref(), Some("fine"));
    }

    #[test]
    fn words_that_look_like_secrets_or_urls_are_struck() {
        let sent = Sent::new(&[]);
        for word in [
            "EAAforeign123",
            "IGQforeign123",
            "https://graph.facebook.com/x?y=z",
            "access_token=abc",
            "a199ca5614ecbbd9fab10ad4ef4667b3c98264eb8c5885797b58dff1e301395e",
            "\"123|abcdef\"",
        ] {
            assert_eq!(sent.message(&format!("see {word} there")).as_deref(), Some("see [redacted] there"));
        }
    }

    #[test]
    fn a_message_is_cut_and_an_empty_one_is_none() {
        assert!(Sent::new(&[]).message(&"word ".repeat(10_000)).is_some_and(|text| text.chars().count() <= MESSAGE_MAX));
        assert_eq!(Sent::new(&[]).message(" \n\t "), None);
        assert!(Sent::new(&[]).message(&"\u{1f512} ".repeat(500)).is_some());
    }

    #[test]
    fn a_name_is_short_and_plain() {
        let sent = Sent::new(&["EAAabcdefghijklmnop"]);
        assert_eq!(sent.name("AbC_-123=").as_deref(), Some("AbC_-123="));
        for odd in ["", "a b", "a\n", "\u{e9}", "EAAxyz", "bcdefghijklmn", "a".repeat(65).as_str()] {
            assert_eq!(sent.name(odd), None, "{odd}");
        }
    }
}

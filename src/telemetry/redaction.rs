//! The net under the log: masks what looks like a Meta token or carries a secret's name.
//!
//! Nothing should ever fall into it, because secrets have types that cannot be printed and URLs are stripped where errors are
//! made. So a hit is a defect of the program, and is counted.

use std::borrow::Cow;

/// What stands in the place of a secret.
pub const MASK: &str = "[redacted]";

/// Meta's tokens begin like this.
const TOKEN_START: &str = "EAA";
/// Shorter words of base 62 that begin like a token are no tokens.
const TOKEN_CHARS_MIN: usize = 40;
/// Shorter pairs around a bar are no app tokens.
const APP_ID_DIGITS_MIN: usize = 6;
const APP_SECRET_CHARS_MIN: usize = 16;
/// Parameters of Graph calls and names of fields whose values are secrets.
const SECRET_NAMES: [&str; 8] =
    ["access_token", "client_secret", "appsecret_proof", "app_secret", "fb_exchange_token", "input_token", "revoke_token", "authorization"];

/// Masks the value of a field, whole where the field itself has a secret's name. Gives the number of hits.
pub(crate) fn redact_field<'a>(name: &str, value: &'a str) -> (Cow<'a, str>, u64) {
    if SECRET_NAMES.contains(&name) && value != MASK {
        return (Cow::Borrowed(MASK), 1);
    }
    redact(value)
}

/// Masks everything in a text that looks like a secret. Gives the number of hits.
#[must_use]
pub fn redact(text: &str) -> (Cow<'_, str>, u64) {
    let mut masked = String::new();
    let mut copied = 0;
    let mut hits = 0_u64;
    let mut at = 0;
    while let Some(rest) = text.get(at..) {
        let Some(letter) = rest.chars().next() else { break };
        match secret_at(rest) {
            Some((skip, length)) => {
                masked.push_str(text.get(copied..at.saturating_add(skip)).unwrap_or_default());
                masked.push_str(MASK);
                at = at.saturating_add(skip).saturating_add(length);
                copied = at;
                hits = hits.saturating_add(1);
            }
            None => at = at.saturating_add(letter.len_utf8()),
        }
    }
    if hits == 0 {
        return (Cow::Borrowed(text), 0);
    }
    masked.push_str(text.get(copied..).unwrap_or_default());
    (Cow::Owned(masked), hits)
}

/// When a secret begins at the start of the text: how many bytes stay before it, and how long it is.
fn secret_at(text: &str) -> Option<(usize, usize)> {
    if text.starts_with(TOKEN_START) {
        let length = span(text, |byte| byte.is_ascii_alphanumeric());
        return (length >= TOKEN_CHARS_MIN).then_some((0, length));
    }
    if let Some(found) = app_token_at(text) {
        return Some(found);
    }
    let name = SECRET_NAMES.iter().find(|name| starts_with(text, name))?;
    let after = text.get(name.len()..)?;
    let sign = value_sign(after)?;
    let value = after.get(sign..)?;
    // "authorization: Bearer X" and the like have a word before the secret.
    let scheme = ["Bearer ", "OAuth ", "Basic "].iter().find(|scheme| starts_with(value, scheme)).map_or(0, |scheme| scheme.len());
    let value = value.get(scheme..)?;
    if value.starts_with(MASK) {
        return None;
    }
    let length = span(value, |byte| !byte.is_ascii_whitespace() && !b"&\"'\\,;)}]><".contains(&byte));
    (length > 0).then_some((name.len().saturating_add(sign).saturating_add(scheme), length))
}

/// An app token is the app's id, a bar and the app's secret: the id stays.
fn app_token_at(text: &str) -> Option<(usize, usize)> {
    let digits = span(text, |byte| byte.is_ascii_digit());
    let after = text.get(digits..).filter(|_| digits >= APP_ID_DIGITS_MIN)?;
    let bar = ["|", "%7C", "%7c"].iter().find(|bar| after.starts_with(**bar))?.len();
    let secret = span(after.get(bar..)?, |byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    (secret >= APP_SECRET_CHARS_MIN).then_some((digits.saturating_add(bar), secret))
}

/// The length of what stands between a name and its value: `=`, `%3D`, or a colon with quotes, as in JSON inside JSON.
fn value_sign(text: &str) -> Option<usize> {
    let quotes = span(text, |byte| b"\"'\\".contains(&byte));
    let rest = text.get(quotes..)?;
    let blanks = span(rest, |byte| byte == b' ');
    let rest = rest.get(blanks..)?;
    let sign = ["=", ":", "%3D", "%3d"].iter().find(|sign| rest.starts_with(**sign))?.len();
    let opening = span(rest.get(sign..)?, |byte| b" \"'\\".contains(&byte));
    Some(quotes.saturating_add(blanks).saturating_add(sign).saturating_add(opening))
}

fn span(text: &str, belongs: impl Fn(u8) -> bool) -> usize {
    // Every set that is asked for ends before a character outside ASCII or takes all of its bytes.
    text.bytes().take_while(|byte| belongs(*byte)).count()
}

fn starts_with(text: &str, start: &str) -> bool {
    text.as_bytes().get(..start.len()).is_some_and(|found| found.eq_ignore_ascii_case(start.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> String {
        format!("EAA{}", "Gm0PX4ZCpsBA".repeat(8))
    }

    #[test]
    fn tokens_and_named_secrets_are_masked_and_the_rest_stays() {
        let token = token();
        for (text, expected) in [
            (format!("a {token} b"), "a [redacted] b"),
            (format!("x\"{token}\\\""), "x\"[redacted]\\\""),
            ("https://graph.facebook.com/me?access_token=abc|def&x=1".into(), "https://graph.facebook.com/me?access_token=[redacted]&x=1"),
            (
                "client_secret=s appsecret_proof=p&input_token=t".into(),
                "client_secret=[redacted] appsecret_proof=[redacted]&input_token=[redacted]",
            ),
            ("app token 1234567890|0123456789abcdef0123456789abcdef.".into(), "app token 1234567890|[redacted]."),
            ("1234567890%7C0123456789abcdef-x".into(), "1234567890%7C[redacted]"),
            ("access_token%3Dabc".into(), "access_token%3D[redacted]"),
            (r#"{"access_token":"abc","a":1}"#.into(), r#"{"access_token":"[redacted]","a":1}"#),
            (r#"{\"access_token\": \"abc\"}"#.into(), r#"{\"access_token\": \"[redacted]\"}"#),
            ("Authorization: Bearer abc.def x".into(), "Authorization: Bearer [redacted] x"),
            ("ACCESS_TOKEN=\u{e9}\u{e9} z".into(), "ACCESS_TOKEN=[redacted] z"),
        ] {
            let (masked, hits) = redact(&text);
            assert_eq!(masked, expected);
            assert!(hits > 0);
            assert_eq!(redact(&masked), (Cow::Borrowed(&*masked), 0), "masking is stable");
        }
    }

    #[test]
    fn what_people_need_is_not_masked() {
        for text in [
            "token=whatsapp-bot rotation_id=0193",
            "EAATEST",
            "12|34 1234567|short 2026-11-25",
            "the access_token is missing",
            "",
            "\u{e9}access_token",
            "EAA",
        ] {
            assert_eq!(redact(text), (Cow::Borrowed(text), 0));
        }
        assert_eq!(redact_field("access_token", "x"), (Cow::Borrowed(MASK), 1));
        assert_eq!(redact_field("token", "bot"), (Cow::Borrowed("bot"), 0));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic_and_no_token_passes(before in ".{0,40}", after in ".{0,40}") {
            let text = format!("{before}{}{after}", token());
            let (masked, hits) = redact(&text);
            proptest::prop_assert!(hits > 0);
            proptest::prop_assert!(!masked.contains(&token()));
        }
    }
}

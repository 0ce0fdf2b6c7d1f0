//! What stands in a secret's entry, and how the token is found in it and put into it.
//!
//! Staged bytes are the bytes that consumers will read, so rendering happens once, before staging, and holds no time stamp: a
//! retry is byte-equal.

use std::collections::BTreeMap;
use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde_json::value::RawValue;

use super::evidence::Content;
use super::token::{Fingerprint, Token};

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

/// How a token stands in its entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PayloadRule {
    /// The token alone.
    Raw,
    /// A JSON object: `access_token`, `app_id`, `system_user_id`, `fingerprint`.
    Json,
    /// One key of a JSON object; everything else in it is kept byte for byte.
    Key(String),
    /// A text with `{{token}}` and other placeholders.
    Template(String),
}

/// What a payload is made of beside the token.
#[derive(Debug, Clone)]
pub struct Ingredients {
    /// The app.
    pub app_id: String,
    /// The system user.
    pub system_user_id: String,
    /// The token's `appsecret_proof`.
    pub proof: SecretString,
}

/// A payload that cannot be read or made. Never holds any of its text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PayloadError(String);

impl PayloadRule {
    /// The token in a payload.
    ///
    /// # Errors
    /// When there is none, or what is there cannot be a token.
    pub fn extract(&self, payload: &Payload) -> Result<Token, PayloadError> {
        let text = payload.expose();
        let found = match self {
            // People paste tokens with a line end behind them; consumers that read raw tokens strip it, and so do we.
            Self::Raw => text.trim().to_owned(),
            Self::Json => string_at(text, "access_token")?,
            Self::Key(key) => string_at(text, key)?,
            Self::Template(template) => match_template(template, text)?,
        };
        Token::new(found).map_err(|error| PayloadError(error.to_string()))
    }

    /// What a payload shows, as far as decisions need it.
    #[must_use]
    pub fn content(&self, payload: &Payload) -> (Content, Option<Token>) {
        let digest = Fingerprint::of(payload.expose());
        match self.extract(payload) {
            Ok(token) => (Content::Token { token: token.fingerprint(), payload: digest }, Some(token)),
            Err(error) => (Content::Unreadable { why: error.0, payload: digest }, None),
        }
    }

    /// What sinks are given of what the entry holds: the same bytes, save that a raw token loses the line end that a person's tool put
    /// behind it. A sink promises the token's exact bytes.
    #[must_use]
    pub fn published(&self, held: Payload) -> Payload {
        match self {
            Self::Raw if held.expose().trim() != held.expose() => Payload::new(held.expose().trim()),
            Self::Raw | Self::Json | Self::Key(_) | Self::Template(_) => held,
        }
    }

    /// The payload for a token. `base` is what the entry holds now; only [`Self::Key`] keeps anything of it.
    ///
    /// # Errors
    /// When the base is needed and is not a JSON object that holds the key.
    pub fn render(&self, token: &Token, ingredients: &Ingredients, base: Option<&Payload>) -> Result<Payload, PayloadError> {
        let values = [
            ("token", token.expose().to_owned()),
            ("appsecret_proof", ingredients.proof.expose_secret().to_owned()),
            ("fingerprint", token.fingerprint().to_string()),
            ("app_id", ingredients.app_id.clone()),
            ("system_user_id", ingredients.system_user_id.clone()),
        ];
        match self {
            Self::Raw => Ok(Payload::new(token.expose())),
            Self::Json => Ok(Payload::new(
                serde_json::json!({
                    "access_token": token.expose(),
                    "app_id": ingredients.app_id,
                    "system_user_id": ingredients.system_user_id,
                    "fingerprint": token.fingerprint().to_string(),
                })
                .to_string(),
            )),
            Self::Key(key) => {
                let base = base.ok_or_else(|| PayloadError(format!("there is no JSON object to put {key:?} into")))?.expose();
                let (from, to) = span_of(base, key)?;
                let (Some(before), Some(after)) = (base.get(..from), base.get(to..)) else {
                    return Err(PayloadError("the JSON object changed while it was read".to_owned()));
                };
                Ok(Payload::new(format!("{before}{}{after}", serde_json::Value::from(token.expose()))))
            }
            Self::Template(template) => {
                let mut text = template.clone();
                for (name, value) in values {
                    text = text.replace(&format!("{{{{{name}}}}}"), &value);
                }
                Ok(Payload::new(text))
            }
        }
    }
}

/// The raw text of each top-level key. Duplicate keys make a patch ambiguous, so they are refused.
fn object(text: &str) -> Result<BTreeMap<String, &RawValue>, PayloadError> {
    struct Unique<'a>(BTreeMap<String, &'a RawValue>);
    impl<'de: 'a, 'a> serde::Deserialize<'de> for Unique<'a> {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Visitor;
            impl<'de> serde::de::Visitor<'de> for Visitor {
                type Value = BTreeMap<String, &'de RawValue>;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a JSON object")
                }
                fn visit_map<A: serde::de::MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
                    let mut map = BTreeMap::new();
                    while let Some((key, value)) = entries.next_entry::<String, &'de RawValue>()? {
                        if map.insert(key, value).is_some() {
                            return Err(serde::de::Error::custom("duplicate key"));
                        }
                    }
                    Ok(map)
                }
            }
            deserializer.deserialize_map(Visitor).map(Unique)
        }
    }
    serde_json::from_str::<Unique<'_>>(text).map(|unique| unique.0).map_err(|error| {
        PayloadError(format!("it is not a JSON object with unique keys ({:?} at column {})", error.classify(), error.column()))
    })
}

fn string_at(text: &str, key: &str) -> Result<String, PayloadError> {
    let object = object(text)?;
    let value = object.get(key).ok_or_else(|| PayloadError(format!("the JSON object has no key {key:?}")))?;
    serde_json::from_str(value.get()).map_err(|_other| PayloadError(format!("the key {key:?} does not hold a string")))
}

/// Where the value of a key stands in the text.
fn span_of(text: &str, key: &str) -> Result<(usize, usize), PayloadError> {
    let object = object(text)?;
    let value = object.get(key).ok_or_else(|| PayloadError(format!("the JSON object has no key {key:?}")))?.get();
    // The raw value borrows from the text, so the distance of their addresses is its offset.
    let from = (value.as_ptr() as usize).wrapping_sub(text.as_ptr() as usize);
    Ok((from, from + value.len()))
}

/// Finds the token in a text made from a template: literals must match, a token ends where the next literal begins.
fn match_template(template: &str, text: &str) -> Result<String, PayloadError> {
    let mismatch = || PayloadError("it does not look like the configured template".to_owned());
    let mut token: Option<String> = None;
    let mut rest = text;
    let mut pieces = template.split("{{");
    rest = rest.strip_prefix(pieces.next().unwrap_or_default()).ok_or_else(mismatch)?;
    let pieces: Vec<&str> = pieces.collect();
    for (place, piece) in pieces.iter().enumerate() {
        let (name, literal) = piece.split_once("}}").ok_or_else(mismatch)?;
        let end = if literal.is_empty() {
            if place + 1 != pieces.len() {
                return Err(mismatch());
            }
            rest.len()
        } else {
            rest.find(literal).ok_or_else(mismatch)?
        };
        let value = rest.get(..end).unwrap_or_default();
        if name == "token" {
            if token.as_deref().is_some_and(|known| known != value) {
                return Err(mismatch());
            }
            token = Some(value.to_owned());
        }
        rest = rest.get(end + literal.len()..).unwrap_or_default();
    }
    if rest.is_empty() { token.ok_or_else(mismatch) } else { Err(mismatch()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        Token::new("EAAnew|1").unwrap()
    }

    fn ingredients() -> Ingredients {
        Ingredients { app_id: "123".into(), system_user_id: "10001".into(), proof: SecretString::from("f".repeat(64)) }
    }

    fn round_trip(rule: &PayloadRule, base: Option<&str>) -> String {
        let payload = rule.render(&token(), &ingredients(), base.map(Payload::new).as_ref()).unwrap();
        assert_eq!(rule.extract(&payload).unwrap().expose(), token().expose());
        payload.expose().to_owned()
    }

    #[test]
    fn sinks_get_a_raw_token_without_the_line_end_that_somebody_pasted() {
        assert_eq!(PayloadRule::Raw.published(Payload::new("EAAnew|1\r\n")).expose(), "EAAnew|1");
        assert_eq!(PayloadRule::Key("a".into()).published(Payload::new("{\"a\":1}\n")).expose(), "{\"a\":1}\n");
    }

    #[test]
    fn every_rule_finds_the_token_that_it_wrote() {
        assert_eq!(round_trip(&PayloadRule::Raw, None), "EAAnew|1");
        assert!(round_trip(&PayloadRule::Json, None).contains("\"app_id\":\"123\""));
        let template = "T={{token}}\nP={{appsecret_proof}}\nU={{system_user_id}}";
        assert_eq!(round_trip(&PayloadRule::Template(template.into()), None), format!("T=EAAnew|1\nP={}\nU=10001", "f".repeat(64)));
        assert_eq!(round_trip(&PayloadRule::Template("{{token}}".into()), None), "EAAnew|1");
    }

    #[test]
    fn a_key_is_patched_and_every_other_byte_kept() {
        let base = "{ \"a\": 1.50,\n  \"META\" : \"old\\n\",\t\"z\":{\"META\":\"inner\"} }";
        assert_eq!(
            round_trip(&PayloadRule::Key("META".into()), Some(base)),
            "{ \"a\": 1.50,\n  \"META\" : \"EAAnew|1\",\t\"z\":{\"META\":\"inner\"} }"
        );
    }

    #[test]
    fn a_payload_without_a_token_says_why_without_its_text() {
        let says = |rule: &PayloadRule, text: &str| rule.extract(&Payload::new(text)).unwrap_err().to_string();
        let key = PayloadRule::Key("META".into());
        assert_eq!(says(&PayloadRule::Raw, " \n"), "the token is empty");
        assert_eq!(says(&key, "{\"b\":1}"), "the JSON object has no key \"META\"");
        assert_eq!(says(&key, "{\"META\":1}"), "the key \"META\" does not hold a string");
        assert!(says(&key, "secret").contains("not a JSON object"));
        assert!(says(&key, "{\"META\":\"a\",\"META\":\"b\"}").contains("unique keys"));
        assert!(says(&PayloadRule::Template("T={{token}};".into()), "T=abc").contains("template"));
        assert!(key.render(&token(), &ingredients(), None).is_err());
        assert!(key.render(&token(), &ingredients(), Some(&Payload::new("[]"))).is_err());
    }

    #[test]
    fn a_pasted_line_end_is_not_part_of_a_raw_token() {
        assert_eq!(PayloadRule::Raw.extract(&Payload::new("EAA\r\n")).unwrap().expose(), "EAA");
    }
}

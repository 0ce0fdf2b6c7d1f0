//! What a simulated service is: requests in, answers out, no waiting.

use hyper::body::Bytes;
use hyper::{HeaderMap, Method};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::journal::Entry;

/// A simulated service. State lies behind the service's own lock; time is an argument; nothing here blocks.
pub trait Service: Send + Sync + 'static {
    /// The name of the call, by which fault rules and the journal know it: `refresh`, `GetSecretValue`.
    fn call_name(&self, request: &Request) -> String;

    /// A parameter of the call, for rules that apply to some calls only.
    fn parameter(&self, request: &Request, name: &str) -> Option<String> {
        request.query(name).map(str::to_owned)
    }

    /// Told of every call as it comes, before any fault: what a service judges of its clients.
    fn received(&self, _request: &Request, _now: Timestamp) {}

    /// The effect and the answer, at once.
    fn answer(&self, request: &Request, now: Timestamp) -> Response;

    /// Adds what every answer carries (`Date`, request ids). Called for scripted answers too, so it must not replace what is there.
    fn dress(&self, request: &Request, response: &mut Response, now: Timestamp);

    /// Told when a call is over, with what became of its answer.
    fn settled(&self, _entry: &Entry) {}

    /// The service's own part of the control plane: `path` is what follows `/_control/`.
    ///
    /// # Errors
    /// [`ControlError::NotFound`] for a path that is not served, [`ControlError::Invalid`] for a body that makes no sense.
    fn control(&self, method: &Method, path: &str, body: &Value, now: Timestamp) -> Result<Value, ControlError>;
}

/// Why a control request was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// No such path and method.
    #[error("no such control endpoint")]
    NotFound,
    /// The body, or what it names, makes no sense; says why.
    #[error("{0}")]
    Invalid(String),
}

/// A request, read whole.
pub struct Request {
    /// The method.
    pub method: Method,
    /// The path as sent, without the query.
    pub path: String,
    /// The query as sent, without `?`.
    pub raw_query: String,
    /// The query's pairs in order, decoded.
    pub pairs: Vec<(String, String)>,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Request {
    /// The first query parameter of that name.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first header of that name, if it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The headers in order; a name may come twice.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// What the journal should keep about the call (fingerprints, codes), never a secret.
    pub notes: Map<String, Value>,
}

impl Response {
    /// A JSON answer.
    #[must_use]
    pub fn json(status: u16, body: &Value) -> Self {
        Self::raw(status, "application/json; charset=UTF-8", body.to_string())
    }

    /// An answer of any type.
    #[must_use]
    pub fn raw(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: vec![("content-type".into(), content_type.into())], body: body.into(), notes: Map::new() }
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Adds a note for the journal.
    #[must_use]
    pub fn with_note(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.notes.insert(name.to_owned(), value.into());
        self
    }

    /// Adds a header unless one of that name is there.
    pub fn default_header(&mut self, name: &str, value: impl Into<String>) {
        if !self.headers.iter().any(|(there, _)| there.eq_ignore_ascii_case(name)) {
            self.headers.push((name.to_owned(), value.into()));
        }
    }
}

/// The pairs of a query or of a form body, decoded (`+` is a blank, bytes that are no UTF-8 are replaced).
#[must_use]
pub fn form_pairs(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent_decoded(key), percent_decoded(value))
        })
        .collect()
}

fn percent_decoded(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => match tail.split_first_chunk::<2>().and_then(|(digits, after)| Some((hex_byte(*digits)?, after))) {
                Some((value, after)) => {
                    rest = after;
                    value
                }
                None => b'%',
            },
            plain => plain,
        });
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn hex_byte([high, low]: [u8; 2]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_forms() {
        let pairs = form_pairs("a=1%7C2&b=x+y%2B&&c&d=%zz%4&e=%C3%A9=");
        let expected = [("a", "1|2"), ("b", "x y+"), ("c", ""), ("d", "%zz%4"), ("e", "é=")];
        assert_eq!(pairs, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn dressing_keeps_what_is_there() {
        let mut response = Response::raw(200, "text/plain", "x").with_header("Date", "scripted");
        response.default_header("date", "real");
        response.default_header("x-id", "1");
        assert_eq!(response.headers.len(), 3);
        assert_eq!(response.headers[1].1, "scripted");
    }
}

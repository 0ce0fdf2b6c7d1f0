//! The commands' side of the control socket, and the reading of a daemon elsewhere.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::http::uri::{Authority, PathAndQuery};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use zeroize::Zeroizing;

use super::{ORDERS, OrderRequest, Refusal, Replies, server};
use crate::daemon::wake::Reply;
use crate::rotation::health::{STATUS_SCHEMA, StatusDocument};

const STATUS: &str = "/v1/status";
/// How long a daemon may take to take a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// How long a status may take.
const STATUS_WITHIN: Duration = Duration::from_secs(30);
/// How long an order may take: an adoption waits for the provider and the store.
const ORDER_WITHIN: Duration = Duration::from_mins(10);
/// Longest answer that is read; ten thousand tokens take a tenth of it.
const ANSWER_MAX: usize = 256 * 1024 * 1024;

/// Why a daemon could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nothing listens.
    #[error(
        "no daemon listens on {0}: start one with `evertoken run`; if one runs, [daemon] control_socket differs between its configuration and this one"
    )]
    NoDaemon(PathBuf),
    /// The socket is another user's.
    #[error("the daemon that serves {0} is another user's: run this as that user or as root")]
    NotYours(PathBuf),
    /// The path does not fit.
    #[error("the path {0} is too long for a socket (107 bytes at most): set [daemon] control_socket to a shorter one")]
    TooLong(PathBuf),
    /// It does not take the connection.
    #[error("{0} takes no connection within 2 s: the daemon hangs or is overloaded; look at its log")]
    NoAnswer(String),
    /// The connection failed.
    #[error("{0} cannot be reached")]
    Unreachable(String, #[source] io::Error),
    /// The connection ended.
    #[error("the connection ended before the answer came; what was ordered may have been done: see `evertoken status`")]
    CutOff(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The answer takes too long.
    #[error("no answer within {} s; what was ordered goes on: see `evertoken status`", .0.as_secs())]
    Late(Duration),
    /// The daemon did not take the order.
    #[error("the daemon says: {0}")]
    Refused(String),
    /// It is no answer of a daemon.
    #[error("the answer is not that of an evertoken daemon of this version")]
    Strange(#[source] serde_json::Error),
    /// It answers in a newer format.
    #[error("the daemon answers in format {0}, this program reads {STATUS_SCHEMA}: use the daemon's own version")]
    Newer(u32),
    /// Not a URL that can be read.
    #[error("{0}: give the address of a daemon's HTTP listener as http://HOST:PORT")]
    Url(String),
}

/// A running daemon, by its socket.
#[derive(Debug, Clone)]
pub struct ControlClient {
    path: PathBuf,
}

impl ControlClient {
    /// Finds the daemon that serves a socket.
    ///
    /// # Errors
    /// When none does, or it is another user's.
    pub async fn connect(path: &Path) -> Result<Self, ControlError> {
        if !server::fits(path) {
            return Err(ControlError::TooLong(path.to_owned()));
        }
        let client = Self { path: path.to_owned() };
        client.open().await.map(|_stream| client)
    }

    /// Orders something and waits until it is done, for every token that is meant.
    ///
    /// # Errors
    /// When the daemon could not be asked or did not take the order. What failed for a token is a [`Reply`].
    pub async fn order(&self, request: OrderRequest) -> Result<Vec<Reply>, ControlError> {
        // It may hold a token, so the bytes are wiped when they have been sent.
        let bytes = Zeroizing::new(serde_json::to_vec(&request).map_err(ControlError::Strange)?);
        let request =
            Request::builder().method(Method::POST).uri(ORDERS).header(HOST, "localhost").header(CONTENT_TYPE, "application/json");
        let request = request.body(Full::new(Bytes::from_owner(bytes))).map_err(|error| ControlError::CutOff(Box::new(error)))?;
        let answer: Replies = ask(self.open().await?, request, ORDER_WITHIN).await.map_err(|error| self.ours(error))?;
        Ok(answer.replies)
    }

    /// The status of all tokens.
    ///
    /// # Errors
    /// When the daemon could not be asked.
    pub async fn status(&self) -> Result<StatusDocument, ControlError> {
        let request = get(STATUS, "localhost")?;
        readable(ask(self.open().await?, request, STATUS_WITHIN).await.map_err(|error| self.ours(error))?)
    }

    async fn open(&self) -> Result<UnixStream, ControlError> {
        let name = || self.path.display().to_string();
        let opened = tokio::time::timeout(CONNECT_WITHIN, UnixStream::connect(&self.path)).await;
        opened.map_err(|_elapsed| ControlError::NoAnswer(name()))?.map_err(|error| {
            let kind = error.kind();
            if kind == io::ErrorKind::NotFound || kind == io::ErrorKind::ConnectionRefused {
                ControlError::NoDaemon(self.path.clone())
            } else if kind == io::ErrorKind::PermissionDenied {
                ControlError::NotYours(self.path.clone())
            } else {
                ControlError::Unreachable(name(), error)
            }
        })
    }

    /// A daemon turns strangers away without a word of JSON.
    fn ours(&self, error: Unanswered) -> ControlError {
        match error {
            Unanswered::Forbidden => ControlError::NotYours(self.path.clone()),
            Unanswered::Other(error) => error,
        }
    }
}

/// The status of a daemon elsewhere, by the address of its HTTP listener.
///
/// # Errors
/// When it could not be asked.
pub async fn status_at(url: &str) -> Result<StatusDocument, ControlError> {
    let (authority, path) = target(url).ok_or_else(|| ControlError::Url(url.to_owned()))?;
    let name = authority.to_string();
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let opened = tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect((host.as_str(), authority.port_u16().unwrap_or(80)))).await;
    let stream = opened.map_err(|_elapsed| ControlError::NoAnswer(name.clone()))?;
    let stream = stream.map_err(|error| ControlError::Unreachable(name.clone(), error))?;
    let answer = ask(stream, get(&path, &name)?, STATUS_WITHIN).await.map_err(|error| match error {
        Unanswered::Forbidden => ControlError::Refused(format!("{name} is not a name that it answers to")),
        Unanswered::Other(error) => error,
    })?;
    readable(answer)
}

/// Host and path of the status. A user's name in a URL would be sent nowhere, so it is refused.
fn target(url: &str) -> Option<(Authority, String)> {
    let parts = url.parse::<Uri>().ok()?.into_parts();
    let authority = parts.authority.filter(|authority| !authority.as_str().contains('@'))?;
    if parts.scheme.as_ref().map(hyper::http::uri::Scheme::as_str) != Some("http") {
        return None;
    }
    let base = parts.path_and_query.as_ref().map_or("", PathAndQuery::path).trim_end_matches('/');
    Some((authority, if base.ends_with(STATUS) { base.to_owned() } else { format!("{base}{STATUS}") }))
}

fn get(path: &str, host: &str) -> Result<Request<Full<Bytes>>, ControlError> {
    let request = Request::builder().uri(path).header(HOST, host).body(Full::default());
    request.map_err(|error| ControlError::CutOff(Box::new(error)))
}

/// A document of a format that this program reads.
fn readable(document: serde_json::Value) -> Result<StatusDocument, ControlError> {
    let schema = document.get("schema_version").and_then(serde_json::Value::as_u64).and_then(|schema| u32::try_from(schema).ok());
    if let Some(newer) = schema.filter(|schema| *schema > STATUS_SCHEMA) {
        return Err(ControlError::Newer(newer));
    }
    serde_json::from_value(document).map_err(ControlError::Strange)
}

enum Unanswered {
    Forbidden,
    Other(ControlError),
}

async fn ask<S, T>(stream: S, request: Request<Full<Bytes>>, within: Duration) -> Result<T, Unanswered>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: DeserializeOwned,
{
    let answered = tokio::time::timeout(within, exchange(stream, request)).await;
    let (status, body) = answered
        .map_err(|_elapsed| Unanswered::Other(ControlError::Late(within)))?
        .map_err(|error| Unanswered::Other(ControlError::CutOff(error)))?;
    if status == StatusCode::FORBIDDEN {
        return Err(Unanswered::Forbidden);
    }
    let other = |error| Unanswered::Other(ControlError::Strange(error));
    if status.is_success() {
        return serde_json::from_slice(&body).map_err(other);
    }
    let refused = serde_json::from_slice::<Refusal>(&body).map_or_else(|_no_json| format!("HTTP {status}"), |refusal| refusal.error);
    Err(Unanswered::Other(ControlError::Refused(refused)))
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, ANSWER_MAX).collect().await?.to_bytes();
        Ok((head.status, body))
    };
    let mut answer = std::pin::pin!(answer);
    // The connection ends when it has delivered the answer; until then it must be driven.
    tokio::select! {
        answered = &mut answer => answered,
        ended = connection => match ended {
            Ok(()) => answer.await,
            Err(error) => Err(error.into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_leads_to_the_status() {
        let path = |url| target(url).map(|(authority, path)| format!("{authority} {path}"));
        for url in ["http://host:9469", "http://host:9469/", "http://host:9469/v1/status"] {
            assert_eq!(path(url).as_deref(), Some("host:9469 /v1/status"), "{url}");
        }
        assert_eq!(path("http://[::1]:1/evertoken/").as_deref(), Some("[::1]:1 /evertoken/v1/status"));
        for url in ["https://host", "host:9469", "http://me:secret@host", "", "unix:/x"] {
            assert!(path(url).is_none(), "{url}");
        }
    }

    #[test]
    fn a_newer_format_is_told() {
        let error = readable(serde_json::json!({ "schema_version": 2, "tokens": "other" })).unwrap_err();
        assert!(matches!(error, ControlError::Newer(2)));
        assert!(matches!(readable(serde_json::json!([])).unwrap_err(), ControlError::Strange(_)));
    }
}

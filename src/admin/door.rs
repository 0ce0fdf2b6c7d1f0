//! What every listener of this process has in common: HTTP/1.1, a bounded number of connections, a bounded time for each.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

/// Connections at one time; further ones are closed at once.
pub const CONNECTIONS_MAX: usize = 64;
/// How long a client may take to send a request's head.
pub const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// The pause after a connection could not be accepted: descriptors run out for a while, not for ever.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// Where connections come from.
pub trait Door: Send + Sync {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection; `None` for one that was turned away.
    fn accept(&self) -> impl Future<Output = io::Result<Option<Self::Stream>>> + Send;
}

/// Who answers.
pub trait Respond: Send + Sync + 'static {
    /// The answer to a request.
    fn respond(&self, request: Request<Incoming>) -> impl Future<Output = Response<Full<Bytes>>> + Send;
}

/// Serves a door until this future is dropped, and every connection with it. A connection serves one request and is closed when it
/// has lasted `lasts`, whatever its state.
pub async fn serve<D: Door, R: Respond>(door: D, responder: Arc<R>, lasts: Duration) {
    let mut connections: JoinSet<()> = JoinSet::new();
    loop {
        tokio::select! {
            Some(_ended) = connections.join_next(), if !connections.is_empty() => {}
            accepted = door.accept() => match accepted {
                Ok(Some(stream)) => {
                    // One that has ended and was not collected yet must not cost the next one its place.
                    while connections.try_join_next().is_some() {}
                    if connections.len() < CONNECTIONS_MAX {
                        connections.spawn(one(stream, responder.clone(), lasts));
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(event = "admin.accept_failed", "a connection could not be accepted: {error}; goes on in a second");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            },
        }
    }
}

async fn one<S, R>(stream: S, responder: Arc<R>, lasts: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    R: Respond,
{
    let service = service_fn(move |request| {
        let responder = responder.clone();
        async move { Ok::<_, Infallible>(responder.respond(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(lasts, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(event = "admin.connection", "a connection ended early: {error}"),
        Err(_elapsed) => tracing::debug!(event = "admin.connection", "a connection lasted too long and was closed"),
    }
}

//! What every listener of this process has in common: HTTP/1.1, a bounded number of connections, a bounded time for each.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{AbortHandle, JoinSet};

/// Connections at one time. Who comes when all are taken gets the place of the one that has kept its own the longest without a use for
/// it: a probe sends its request at once, and must not wait for clients that only hold connections.
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

/// What a connection does with its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Use {
    /// No request has come yet.
    Idle,
    /// The answer is being made.
    Asked,
    /// The answer is on its way, at the client's own speed.
    Answered,
}

/// One connection.
struct Held {
    task: AbortHandle,
    used: Arc<AtomicU8>,
}

impl Held {
    fn is(&self, what: Use) -> bool {
        self.used.load(Ordering::Relaxed) == what as u8
    }
}

/// Serves a door until this future is dropped, and every connection with it. A connection serves one request and is closed when it
/// has lasted `lasts`, whatever its state.
pub async fn serve<D: Door, R: Respond>(door: D, responder: Arc<R>, lasts: Duration) {
    let mut connections: JoinSet<()> = JoinSet::new();
    // The oldest first.
    let mut held: VecDeque<Held> = VecDeque::new();
    loop {
        tokio::select! {
            Some(_ended) = connections.join_next(), if !connections.is_empty() => {}
            accepted = door.accept() => match accepted {
                Ok(Some(stream)) => {
                    // One that has ended and was not collected yet must not cost the next one its place.
                    while connections.try_join_next().is_some() {}
                    held.retain(|held| !held.task.is_finished());
                    if held.len() < CONNECTIONS_MAX || make_way(&mut held) {
                        let used = Arc::new(AtomicU8::new(Use::Idle as u8));
                        let task = connections.spawn(one(stream, responder.clone(), used.clone(), lasts));
                        held.push_back(Held { task, used });
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

/// Ends the oldest connection that sends nothing, or else the oldest whose client is slow to read. One whose answer is being made is
/// never ended: an order may be under way there.
fn make_way(held: &mut VecDeque<Held>) -> bool {
    let useless = held.iter().position(|held| held.is(Use::Idle)).or_else(|| held.iter().position(|held| held.is(Use::Answered)));
    let Some(ended) = useless.and_then(|at| held.remove(at)) else { return false };
    ended.task.abort();
    true
}

async fn one<S, R>(stream: S, responder: Arc<R>, used: Arc<AtomicU8>, lasts: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    R: Respond,
{
    let service = service_fn(move |request| {
        let (responder, used) = (responder.clone(), used.clone());
        async move {
            used.store(Use::Asked as u8, Ordering::Relaxed);
            let response = responder.respond(request).await;
            used.store(Use::Answered as u8, Ordering::Relaxed);
            Ok::<_, Infallible>(response)
        }
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

//! The HTTP/1.1 server that all simulators share: the listener, the way of a call through its faults, and the shutdown.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::body::{Dropped, Playback};
use super::call::Call;
use super::control::{HeldCall, Simulator};
use super::fault::Rules;
use super::journal::{Entry, Journal};
use super::service::{Request, Response, Service, form_pairs};
use super::socket::{Ending, Socket};
use super::virtual_clock::VirtualClock;

/// Longest request body that is read.
const REQUEST_BYTES_MAX: usize = 1 << 20;

/// Why a simulator cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is not on loopback. A simulator has no authentication and answers with tokens.
    #[error("a simulator listens on loopback only, not on {0}")]
    NotLoopback(IpAddr),
    /// The address cannot be bound.
    #[error("cannot listen on {addr}")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// What the handlers of all connections share.
pub(super) struct Shared {
    pub(super) service: Arc<dyn Service>,
    pub(super) clock: Arc<VirtualClock>,
    pub(super) rules: Mutex<Rules>,
    pub(super) journal: Mutex<Journal>,
    pub(super) held: Mutex<Vec<(HeldCall, oneshot::Sender<()>)>>,
    /// Bumped at each change of journal and held calls, for those who wait for one.
    pub(super) changes: watch::Sender<u64>,
}

impl Shared {
    pub(super) fn new(service: Arc<dyn Service>, clock: Arc<VirtualClock>) -> Self {
        let (changes, _) = watch::channel(0);
        Self { service, clock, rules: Mutex::default(), journal: Mutex::default(), held: Mutex::default(), changes }
    }

    pub(super) fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    pub(super) fn amend(&self, seq: u64, change: impl FnOnce(&mut Entry)) -> Option<Entry> {
        let entry = lock(&self.journal).amend(seq, change);
        self.changed();
        entry
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A simulator that listens. Dropping it closes the listener and every connection; rules and journal stay with [`Simulator`], which
/// can listen again.
pub struct Running {
    addr: SocketAddr,
    simulator: Simulator,
    accepting: JoinHandle<()>,
}

impl Running {
    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The control plane, in-process.
    #[must_use]
    pub fn simulator(&self) -> &Simulator {
        &self.simulator
    }

    /// Closes the listener and every connection, and waits until that is done.
    pub async fn stop(mut self) {
        self.accepting.abort();
        if let Err(ended) = (&mut self.accepting).await
            && ended.is_panic()
        {
            tracing::error!("a simulator's listener panicked");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Starts a simulator of `service`: [`Simulator::new`] and [`Simulator::listen`] in one.
///
/// # Errors
/// As [`Simulator::listen`].
pub async fn start(service: Arc<dyn Service>, clock: Arc<VirtualClock>, listen: SocketAddr) -> Result<Running, StartError> {
    Simulator::new(service, clock).listen(listen).await
}

impl Simulator {
    /// Listens on `addr`, whose port may be 0 for a free one, on the current tokio runtime.
    ///
    /// # Errors
    /// When the address is not on loopback, or cannot be bound.
    pub async fn listen(&self, addr: SocketAddr) -> Result<Running, StartError> {
        if !addr.ip().is_loopback() {
            return Err(StartError::NotLoopback(addr.ip()));
        }
        let listener = TcpListener::bind(addr).await.map_err(|source| StartError::Bind { addr, source })?;
        let addr = listener.local_addr().map_err(|source| StartError::Bind { addr, source })?;
        let accepting = tokio::spawn(accept(listener, Arc::clone(&self.shared)));
        Ok(Running { addr, simulator: self.clone(), accepting })
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _peer)) => {
                    if stream.set_nodelay(true).is_err() {
                        continue;
                    }
                    let shared = Arc::clone(&shared);
                    connections.spawn(async move {
                        let ending = Ending::default();
                        let socket = Socket::new(stream, ending.clone());
                        let answer = service_fn(move |request| answer(Arc::clone(&shared), ending.clone(), request));
                        let connection = http1::Builder::new()
                            .auto_date_header(false)
                            .timer(TokioTimer::new())
                            .serve_connection(TokioIo::new(socket), answer);
                        // Scripted drops and clients that go away end here too; the journal has them.
                        if let Err(error) = connection.await {
                            tracing::debug!(%error, "a connection to the simulator ended early");
                        }
                    });
                }
                // Out of descriptors, most likely: others must close first.
                Err(_busy) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_ended) = connections.join_next() => {}
        }
    }
}

async fn answer(shared: Arc<Shared>, ending: Ending, request: hyper::Request<Incoming>) -> Result<hyper::Response<Playback>, Dropped> {
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, REQUEST_BYTES_MAX).collect().await else {
        return Ok(assemble(&Response::raw(413, "text/plain", "the body is too long or broken off"), |body| Playback::whole(body, None)));
    };
    let raw_query = parts.uri.query().unwrap_or_default().to_owned();
    let request = Request {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        pairs: form_pairs(&raw_query),
        raw_query,
        headers: parts.headers,
        body: body.to_bytes(),
    };
    if let Some(path) = request.path.strip_prefix("/_control/") {
        let response = Simulator { shared }.serve_control(path, &request).await;
        return Ok(assemble(&response, |body| Playback::whole(body, None)));
    }
    let call = Call::open(shared, request);
    if call.ends_in_reset() {
        ending.by_reset();
    }
    if call.outlives_client() {
        // Hyper drops this future with its connection; the task goes on.
        return tokio::spawn(call.run()).await.unwrap_or(Err(Dropped));
    }
    call.run().await
}

pub(super) fn assemble(response: &Response, body: impl FnOnce(Bytes) -> Playback) -> hyper::Response<Playback> {
    let mut headers = HeaderMap::new();
    for (name, value) in &response.headers {
        // Framing is the server's: a wrong length is the fault `truncate`, not a header.
        if ["content-length", "transfer-encoding"].iter().any(|framing| name.eq_ignore_ascii_case(framing)) {
            continue;
        }
        // What a script wants to send and HTTP cannot is left out.
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value.as_bytes())) {
            headers.append(name, value);
        }
    }
    let mut assembled = hyper::Response::new(body(Bytes::from(response.body.clone())));
    *assembled.status_mut() = StatusCode::from_u16(response.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *assembled.headers_mut() = headers;
    assembled
}

/// The body of a request as JSON; null when it is empty.
pub(super) fn json_body(request: &Request) -> Result<Value, serde_json::Error> {
    if request.body.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&request.body) }
}

//! The HTTP/1.1 server that all simulators share: the listener, the way of a call through its faults, and the shutdown.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_LENGTH, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Map, Value};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::body::{Dropped, Playback};
use super::control::{HeldCall, Simulator};
use super::fault::{Fault, ReplyAt, Rules, Stage};
use super::journal::{AppliedFault, Entry, Journal, Outcome};
use super::service::{Request, Response, Service, form_pairs};
use super::virtual_clock::VirtualClock;

/// Longest request body that is read.
const REQUEST_BYTES_MAX: usize = 1 << 20;
/// Size of a piece of an endless body.
const ENDLESS_PIECE: usize = 64 * 1024;
/// How long sent bytes get to leave before the connection is cut, so that the client sees them.
const FLUSH_TIME: Duration = Duration::from_millis(20);

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

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    fn amend(&self, seq: u64, change: impl FnOnce(&mut Entry)) -> Option<Entry> {
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
                        let answer = service_fn(move |request| answer(Arc::clone(&shared), request));
                        let connection = http1::Builder::new()
                            .auto_date_header(false)
                            .timer(TokioTimer::new())
                            .serve_connection(TokioIo::new(stream), answer);
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

async fn answer(shared: Arc<Shared>, request: hyper::Request<Incoming>) -> Result<hyper::Response<Playback>, Dropped> {
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
    Call::open(shared, request).run().await
}

/// A call on its way.
struct Call {
    shared: Arc<Shared>,
    request: Request,
    name: String,
    faults: Vec<Fault>,
    guard: CallGuard,
}

impl Call {
    fn open(shared: Arc<Shared>, request: Request) -> Self {
        let name = shared.service.call_name(&request);
        let struck = lock(&shared.rules).strike(&name, |param| shared.service.parameter(&request, param));
        let seq = lock(&shared.journal).open(Entry {
            seq: 0,
            call: name.clone(),
            method: request.method.to_string(),
            path: request.path.clone(),
            received_at: shared.clock.now(),
            settled_at: None,
            performed: false,
            status: None,
            outcome: Outcome::Open,
            faults: struck.iter().map(|(rule, fault)| AppliedFault { rule: *rule, kind: fault.kind() }).collect(),
            notes: Map::new(),
        });
        shared.service.received(&request, shared.clock.now());
        shared.changed();
        let guard = CallGuard { shared: Arc::clone(&shared), seq, outcome: Outcome::ClientGone };
        Self { shared, request, name, faults: struck.into_iter().map(|(_, fault)| fault).collect(), guard }
    }

    async fn run(self) -> Result<hyper::Response<Playback>, Dropped> {
        if self.stopped_at(Stage::Received).await {
            return self.cut(Stage::Received);
        }
        let mut response = self.scripted(ReplyAt::Received).unwrap_or_else(|| self.perform());
        if self.stopped_at(Stage::Answered).await {
            return self.cut(Stage::Answered);
        }
        if let Some(scripted) = self.scripted(ReplyAt::Answered) {
            response = scripted;
        }
        self.shared.service.dress(&self.request, &mut response, self.shared.clock.now());
        self.rewrite_headers(&mut response);
        self.shared.amend(self.guard.seq, |entry| {
            entry.status = Some(response.status);
            entry.notes.append(&mut response.notes.clone());
        });
        Ok(self.send(response))
    }

    fn perform(&self) -> Response {
        let response = self.shared.service.answer(&self.request, self.shared.clock.now());
        self.shared.amend(self.guard.seq, |entry| {
            entry.performed = true;
            entry.status = Some(response.status);
            entry.notes.append(&mut response.notes.clone());
        });
        response
    }

    /// Waits as the script says; true when the connection is to be dropped here.
    async fn stopped_at(&self, stage: Stage) -> bool {
        for fault in &self.faults {
            match fault {
                Fault::Hold { at } if *at == stage => self.guard.hold(&self.name, stage).await,
                Fault::Delay { at, ms } if *at == stage => tokio::time::sleep(Duration::from_millis(*ms)).await,
                Fault::Drop { at } if *at == stage => return true,
                Fault::Hold { .. }
                | Fault::Delay { .. }
                | Fault::Drop { .. }
                | Fault::Reply { .. }
                | Fault::Redirect { .. }
                | Fault::Headers { .. }
                | Fault::Truncate { .. }
                | Fault::Slow { .. }
                | Fault::Endless { .. } => {}
            }
        }
        false
    }

    fn cut(self, stage: Stage) -> Result<hyper::Response<Playback>, Dropped> {
        self.guard.dropped(stage);
        Err(Dropped)
    }

    fn scripted(&self, place: ReplyAt) -> Option<Response> {
        self.faults.iter().find_map(|fault| match fault {
            Fault::Reply { at, status, headers, body, body_bytes } if *at == place => Some(Response {
                status: *status,
                headers: headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
                body: body_bytes.clone().unwrap_or_else(|| body.clone().into_bytes()),
                notes: Map::new(),
            }),
            Fault::Redirect { location, status } if place == ReplyAt::Received => {
                Some(Response::raw(*status, "text/html", "").with_header("location", location.as_str()))
            }
            Fault::Hold { .. }
            | Fault::Delay { .. }
            | Fault::Drop { .. }
            | Fault::Reply { .. }
            | Fault::Redirect { .. }
            | Fault::Headers { .. }
            | Fault::Truncate { .. }
            | Fault::Slow { .. }
            | Fault::Endless { .. } => None,
        })
    }

    fn rewrite_headers(&self, response: &mut Response) {
        for fault in &self.faults {
            if let Fault::Headers { set } = fault {
                for (name, value) in set {
                    response.headers.retain(|(there, _)| !there.eq_ignore_ascii_case(name));
                    response.headers.extend(value.iter().map(|value| (name.clone(), value.clone())));
                }
            }
        }
    }

    fn send(self, response: Response) -> hyper::Response<Playback> {
        let half = response.body.len() / 2;
        let pace = self.faults.iter().find_map(|fault| match fault {
            Fault::Drop { at: Stage::Body } => Some(Pace::Cut(half)),
            Fault::Truncate { bytes } => Some(Pace::Cut(*bytes)),
            Fault::Hold { at: Stage::Body } => Some(Pace::HoldAt(half)),
            Fault::Delay { at: Stage::Body, ms } => Some(Pace::Slow { bytes: half.max(1), every: Duration::from_millis(*ms) }),
            Fault::Slow { bytes, every_ms } => Some(Pace::Slow { bytes: (*bytes).max(1), every: Duration::from_millis(*every_ms) }),
            Fault::Endless { bytes } => Some(Pace::Endless(bytes.unwrap_or(u64::MAX))),
            Fault::Hold { .. }
            | Fault::Delay { .. }
            | Fault::Drop { .. }
            | Fault::Reply { .. }
            | Fault::Redirect { .. }
            | Fault::Headers { .. } => None,
        });
        let Self { guard, name, .. } = self;
        let Some(pace) = pace else {
            return assemble(&response, |body| Playback::whole(body, Some(guard)));
        };
        let promise = (!matches!(pace, Pace::Endless(_))).then_some(response.body.len());
        let mut sent = assemble(&response, |body| {
            let (pieces, playback) = mpsc::channel(1);
            tokio::spawn(pace.play(body, pieces, guard, name));
            Playback::pieces(playback)
        });
        if let Some(length) = promise {
            sent.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        sent
    }
}

/// How a body leaves, when not at once.
enum Pace {
    Cut(usize),
    HoldAt(usize),
    Slow { bytes: usize, every: Duration },
    Endless(u64),
}

impl Pace {
    /// Sends the pieces. A failed send means that the client went away, and the guard, dropped, says so.
    async fn play(self, mut body: Bytes, pieces: mpsc::Sender<Result<Bytes, Dropped>>, guard: CallGuard, call: String) {
        let sent = match self {
            Self::Cut(at) => {
                let sent = pieces.send(Ok(body.split_to(at.min(body.len())))).await;
                tokio::time::sleep(FLUSH_TIME).await;
                guard.dropped(Stage::Body);
                drop(pieces.send(Err(Dropped)).await);
                return drop(sent);
            }
            Self::HoldAt(at) => {
                let sent = pieces.send(Ok(body.split_to(at))).await;
                tokio::select! {
                    () = guard.hold(&call, Stage::Body) => {}
                    () = pieces.closed() => return,
                }
                if sent.is_ok() { pieces.send(Ok(body)).await } else { sent }
            }
            Self::Slow { bytes, every } => {
                let mut sent = Ok(());
                while sent.is_ok() && !body.is_empty() {
                    tokio::time::sleep(every).await;
                    sent = pieces.send(Ok(body.split_to(bytes.min(body.len())))).await;
                }
                sent
            }
            Self::Endless(mut left) => {
                let blanks = Bytes::from(vec![b' '; ENDLESS_PIECE]);
                let mut sent = pieces.send(Ok(body)).await;
                while sent.is_ok() && left > 0 {
                    let piece = usize::try_from(left).map_or(ENDLESS_PIECE, |left| left.min(ENDLESS_PIECE));
                    left -= piece as u64;
                    sent = pieces.send(Ok(blanks.slice(..piece))).await;
                }
                sent
            }
        };
        if sent.is_ok() {
            guard.answered();
        }
    }
}

fn assemble(response: &Response, body: impl FnOnce(Bytes) -> Playback) -> hyper::Response<Playback> {
    let mut headers = HeaderMap::new();
    for (name, value) in &response.headers {
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

/// Settles a call in the journal, at the latest when it is dropped: then the client went away.
pub(super) struct CallGuard {
    shared: Arc<Shared>,
    seq: u64,
    outcome: Outcome,
}

impl CallGuard {
    /// The whole answer was handed to the connection.
    pub(super) fn answered(mut self) {
        self.outcome = Outcome::Answered;
    }

    fn dropped(mut self, stage: Stage) {
        self.outcome = Outcome::Dropped(stage);
    }

    /// Holds the call until it is released.
    async fn hold(&self, call: &str, at: Stage) {
        let (release, released) = oneshot::channel();
        let held = HeldCall { id: self.seq, call: call.to_owned(), at, since: self.shared.clock.now() };
        lock(&self.shared.held).push((held, release));
        self.shared.changed();
        let _unlisted = Unlist { shared: &self.shared, seq: self.seq };
        released.await.unwrap_or(());
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        let (now, outcome) = (self.shared.clock.now(), self.outcome);
        let entry = self.shared.amend(self.seq, |entry| {
            entry.settled_at = Some(now);
            entry.outcome = outcome;
        });
        if let Some(entry) = entry {
            self.shared.service.settled(&entry);
        }
    }
}

/// Takes a held call off the list when it goes on, or when its client goes away.
struct Unlist<'a> {
    shared: &'a Shared,
    seq: u64,
}

impl Drop for Unlist<'_> {
    fn drop(&mut self) {
        lock(&self.shared.held).retain(|(held, _)| held.id != self.seq);
        self.shared.changed();
    }
}

/// The body of a request as JSON; null when it is empty.
pub(super) fn json_body(request: &Request) -> Result<Value, serde_json::Error> {
    if request.body.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&request.body) }
}

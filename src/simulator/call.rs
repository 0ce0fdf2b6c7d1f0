//! The way of a call: through the faults that hit it, to the service, and back; and its entry in the journal.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use hyper::header::{CONTENT_LENGTH, HeaderValue};
use serde_json::Map;
use tokio::sync::{mpsc, oneshot};

use super::body::{Dropped, Playback};
use super::control::HeldCall;
use super::fault::{Fault, ReplyAt, Stage};
use super::journal::{AppliedFault, Entry, Outcome};
use super::server::{Shared, assemble, lock};
use super::service::{Request, Response};

/// Size of a piece of an endless body.
const ENDLESS_PIECE: usize = 64 * 1024;
/// How long sent bytes get to leave before the connection is cut, so that the client sees them.
const FLUSH_TIME: Duration = Duration::from_millis(20);

/// A call on its way.
pub(super) struct Call {
    shared: Arc<Shared>,
    request: Request,
    name: String,
    faults: Vec<Fault>,
    guard: CallGuard,
}

impl Call {
    pub(super) fn open(shared: Arc<Shared>, request: Request) -> Self {
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

    /// Whether the call is performed even when its client has gone away meanwhile.
    pub(super) fn outlives_client(&self) -> bool {
        self.faults.contains(&Fault::Outlive)
    }

    /// Whether the call's connection ends in a reset.
    pub(super) fn ends_in_reset(&self) -> bool {
        self.faults.contains(&Fault::Reset)
    }

    pub(super) async fn run(self) -> Result<hyper::Response<Playback>, Dropped> {
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
                | Fault::Outlive
                | Fault::Reset
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
            | Fault::Outlive
            | Fault::Reset
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
            | Fault::Headers { .. }
            | Fault::Outlive
            | Fault::Reset => None,
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

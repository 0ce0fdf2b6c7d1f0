//! A response body that can come late, in pieces, or not to its end.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::sync::mpsc;

use super::call::CallGuard;

/// The connection ends here, by script.
#[derive(Debug, thiserror::Error)]
#[error("the connection was dropped by a scripted fault")]
pub(super) struct Dropped;

/// A body.
pub(super) struct Playback {
    source: Source,
    /// Settles the call in the journal; a drop before the end means that the client went away.
    guard: Option<CallGuard>,
}

enum Source {
    Whole(Option<Bytes>),
    /// Pieces as a task sends them.
    Pieces(mpsc::Receiver<Result<Bytes, Dropped>>),
}

impl Playback {
    /// All at once.
    pub(super) fn whole(body: Bytes, guard: Option<CallGuard>) -> Self {
        Self { source: Source::Whole(Some(body).filter(|body| !body.is_empty())), guard }.settled_if_over()
    }

    /// As the other end of the channel says; the sender settles the call.
    pub(super) fn pieces(pieces: mpsc::Receiver<Result<Bytes, Dropped>>) -> Self {
        Self { source: Source::Pieces(pieces), guard: None }
    }

    fn settled_if_over(mut self) -> Self {
        if self.is_end_stream() {
            self.settle();
        }
        self
    }

    fn settle(&mut self) {
        if let Some(guard) = self.guard.take() {
            guard.answered();
        }
    }
}

impl Body for Playback {
    type Data = Bytes;
    type Error = Dropped;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Dropped>>> {
        match &mut self.source {
            Source::Whole(body) => {
                let body = body.take();
                self.settle();
                Poll::Ready(body.map(|body| Ok(Frame::data(body))))
            }
            Source::Pieces(pieces) => Poll::Ready(ready!(pieces.poll_recv(cx)).map(|piece| piece.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Whole(body) => body.is_none(),
            Source::Pieces(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Whole(body) => SizeHint::with_exact(body.as_ref().map_or(0, |body| body.len() as u64)),
            Source::Pieces(_) => SizeHint::default(),
        }
    }
}

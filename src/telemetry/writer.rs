//! The bounded queue between the program and wherever its log lines go.
//!
//! `tracing-appender` has such a queue, but counts lines and not bytes, forgets lines whose write failed, and on a full pipe prints
//! its own complaint to standard output when it is dropped, which blocks for ever where that is the same pipe.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;

/// How many bytes may wait. The batch that is being written comes on top.
const QUEUE_BYTES_MAX: usize = 1024 * 1024;
/// How long a drop of the guard waits for the last lines.
const FLUSH_TIME_MAX: Duration = Duration::from_secs(1);

/// Where lines go.
pub(super) trait Destination: Send {
    /// Takes one whole line (or datagram).
    fn send(&mut self, line: &[u8]) -> io::Result<()>;
    /// Called before the next line after one that failed, which may be there in part.
    fn resume(&mut self) -> io::Result<()>;
}

impl Destination for File {
    fn send(&mut self, line: &[u8]) -> io::Result<()> {
        self.write_all(line)
    }

    fn resume(&mut self) -> io::Result<()> {
        self.write_all(b"\n")
    }
}

/// Counted whatever happens to the lines; exported as metrics.
#[derive(Debug, Clone, Default)]
pub struct LogCounts {
    /// Lines that were never written.
    pub dropped: Counter,
    /// Values in which something that looks like a secret was masked.
    pub redacted: Counter,
}

/// The program's end of the queue. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct LossyWriter(Arc<Shared>);

/// Ends logging: on drop the queue is closed and what waits in it is written, for at most a second.
#[derive(Debug)]
#[must_use = "dropping it ends logging"]
pub struct Guard(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    finished: Condvar,
    counts: LogCounts,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    lost: u64,
    closed: bool,
    finished: bool,
}

impl LossyWriter {
    /// Starts the thread that empties the queue. `notice` makes the line that tells how many were lost.
    pub(super) fn start(destination: Box<dyn Destination>, notice: impl Fn(u64) -> Vec<u8> + Send + 'static) -> io::Result<(Self, Guard)> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        thread::Builder::new().name("log-writer".into()).spawn(move || theirs.run(destination, notice))?;
        Ok((Self(Arc::clone(&shared)), Guard(shared)))
    }

    /// Puts a line into the queue, or counts it as lost. Never waits for the destination.
    pub(super) fn push(&self, line: Vec<u8>) {
        let mut queue = self.0.lock();
        if queue.closed || queue.bytes.saturating_add(line.len()) > QUEUE_BYTES_MAX {
            queue.lost = queue.lost.saturating_add(1);
            self.0.counts.dropped.inc();
            return;
        }
        queue.bytes = queue.bytes.saturating_add(line.len());
        queue.lines.push_back(line);
        drop(queue);
        self.0.filled.notify_one();
    }

    pub(super) fn counts(&self) -> &LogCounts {
        &self.0.counts
    }
}

impl Guard {
    /// What was dropped and masked so far.
    #[must_use]
    pub fn counts(&self) -> LogCounts {
        self.0.counts.clone()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.closed = true;
        self.0.filled.notify_one();
        // A destination that blocks keeps its thread; the process may end without it.
        drop(self.0.finished.wait_timeout_while(queue, FLUSH_TIME_MAX, |queue| !queue.finished));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, mut destination: Box<dyn Destination>, notice: impl Fn(u64) -> Vec<u8>) {
        let mut lost = 0_u64;
        let mut torn = false;
        loop {
            let mut queue = self.lock();
            while queue.lines.is_empty() && !queue.closed {
                queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            let batch = std::mem::take(&mut queue.lines);
            queue.bytes = 0;
            // Lines are lost only while others wait before them, so the notice belongs behind the batch.
            lost = lost.saturating_add(std::mem::take(&mut queue.lost));
            let last = queue.closed;
            drop(queue);

            let mut written = false;
            for line in &batch {
                if (torn && destination.resume().is_err()) || destination.send(line).is_err() {
                    torn = true;
                    lost = lost.saturating_add(1);
                    self.counts.dropped.inc();
                } else {
                    torn = false;
                    written = true;
                }
            }
            if lost > 0 && written && destination.send(&notice(lost)).is_ok() {
                lost = 0;
            }
            if last {
                break;
            }
        }
        self.lock().finished = true;
        self.finished.notify_all();
    }
}

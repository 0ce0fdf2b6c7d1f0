//! Work on the disk, off the loop: an fsync may take seconds on a busy host, and the loop must turn.

use crate::clock;

/// Does blocking work on the blocking pool, and says in one line why it could not be done. A simulation, which lives on one thread
/// and in its own time, does it at once: only so does a seed replay.
///
/// # Errors
/// What the work failed with, or that it panicked.
pub(super) async fn on_disk<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, String>
where
    T: Send + 'static,
    E: std::error::Error + Send + 'static,
{
    let done = if clock::is_simulated() { work() } else { tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())? };
    done.map_err(|error| in_full(&error))
}

/// An error with all its causes, in one line.
pub(super) fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

//! Signals: one thread reads them and wakes the loop. Handlers are registered before any I/O, so that a signal during the start is
//! kept and not lost.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGPIPE, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use super::wake::{Wake, Waker};

/// Registered handlers, not yet heard by anyone.
pub struct Registered {
    signals: Signals,
}

/// Registers the handlers. A second SIGTERM or SIGINT ends the process at once with exit code 1.
///
/// # Errors
/// When the operating system refuses a handler.
pub fn register() -> std::io::Result<Registered> {
    let asked_before = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // The order matters: the first signal finds the flag down and raises it, the second finds it up and ends the process.
        signal_hook::flag::register_conditional_shutdown(signal, 1, asked_before.clone())?;
        signal_hook::flag::register(signal, asked_before.clone())?;
    }
    // A log reader that went away must not end the daemon.
    signal_hook::flag::register(SIGPIPE, Arc::new(AtomicBool::new(false)))?;
    Ok(Registered { signals: Signals::new([SIGTERM, SIGINT, SIGHUP])? })
}

impl Registered {
    /// Starts the thread that turns signals into wakes.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn listen(mut self, waker: Waker, stopping: Arc<dyn Fn() + Send + Sync>) -> std::io::Result<Handle> {
        let handle = self.signals.handle();
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in self.signals.forever() {
                let wake = if signal == SIGHUP { Wake::Reload } else { Wake::Stop };
                if matches!(wake, Wake::Stop) {
                    // Whoever is in the middle of something hears of it even before the loop does.
                    stopping();
                }
                if waker.blocking_send(wake).is_err() {
                    return;
                }
            }
        })?;
        Ok(handle)
    }
}

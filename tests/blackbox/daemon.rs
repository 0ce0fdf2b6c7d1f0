//! The daemon as a process of its own: the binary that users run.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use evertoken::clock;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// What a process said, line by line; it grows while the process lives and stays when it is gone.
#[derive(Clone, Default)]
pub(crate) struct Transcript(Arc<Mutex<Vec<String>>>);

impl Transcript {
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// The lines that are log events, in order.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.lines().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Whether such an event was logged.
    pub(crate) fn has(&self, event: &str) -> bool {
        self.events().iter().any(|seen| seen["event"] == event)
    }

    fn follow(&self, source: impl std::io::Read + Send + 'static) {
        let lines = self.0.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(source).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
    }
}

/// A running daemon; killed on drop.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) log: Transcript,
}

impl Daemon {
    /// Starts `evertoken ARGUMENTS` with an environment of its own: nothing of the host's shines through.
    pub(crate) fn start(config: &Path, arguments: &[&str], environment: &[(&str, &str)], log: Transcript) -> Self {
        let mut child = command(config, arguments, environment).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        log.follow(child.stderr.take().unwrap());
        log.follow(child.stdout.take().unwrap());
        Self { child, log }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end; none when it takes longer.
    pub(crate) async fn until_ended(&mut self, limit: Duration) -> Option<ExitStatus> {
        let begun = clock::boot();
        loop {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            if clock::boot().since(begun).unsigned_abs() > limit {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// As the machine does it: no warning, nothing flushed.
    pub(crate) async fn sigkill(mut self) {
        self.child.kill().unwrap();
        self.until_ended(Duration::from_secs(10)).await.expect("a process survived SIGKILL");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The binary with an environment of its own.
pub(crate) fn command(config: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evertoken"));
    command.env_clear().arg("--config").arg(config).args(arguments).envs(environment.iter().copied()).stdin(Stdio::null());
    command
}

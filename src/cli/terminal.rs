//! Printing and asking. A reader that went away (`| head`) is no error.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

/// Prints to standard output.
pub(super) fn say(text: &str) {
    let mut out = io::stdout().lock();
    drop(
        out.write_all(text.as_bytes())
            .and_then(|()| if text.ends_with('\n') { Ok(()) } else { out.write_all(b"\n") })
            .and_then(|()| out.flush()),
    );
}

/// Prints to standard error.
pub(super) fn complain(text: &str) {
    let mut out = io::stderr().lock();
    drop(writeln!(out, "{}", text.trim_end()));
}

/// Asks a question that is answered with yes or no; `None` where nobody can answer.
pub(super) fn confirm(question: &str) -> Option<bool> {
    if !io::stdin().is_terminal() {
        return None;
    }
    drop(write!(io::stderr().lock(), "{question} [y/N] "));
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).ok()?;
    Some(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Whether standard output is a terminal.
pub(super) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// How many columns the terminal has, as far as it says.
pub(super) fn width() -> Option<usize> {
    terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0))
}

/// A line on standard error that says what is being waited for; on a terminal only, and gone when this is dropped.
pub(super) struct Progress {
    terminal: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { terminal: io::stderr().is_terminal() }
    }

    pub(super) fn say(&mut self, text: &str) {
        self.write(&format!("{text} ..."));
    }

    fn write(&self, text: &str) {
        if self.terminal {
            let mut out = io::stderr().lock();
            drop(write!(out, "\r\u{1b}[2K{text}").and_then(|()| out.flush()));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.write("");
    }
}

//! Prints every figure that README and docs claim, and writes them to `docs/figures.md`: `scripts/figures.sh`.
//!
//! What is measured is the release binary, as a process of its own, against `evertoken simulate`, which is another; this program
//! only drives and reads `/proc`. Compared is within one run, because machines are noisy: the peer is a Python script that makes the
//! same kinds of calls to the same simulators.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark speaks to people")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

mod daemon;
mod measure;
mod process;
mod report;
mod world;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("figures: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let options = Options::read()?;
    let figures = measure::all(&options)?;
    let page = report::page(&options, &figures)?;
    print!("{page}");
    if let Some(path) = &options.write {
        report::write(path, &page)?;
        eprintln!("written to {}", path.display());
    }
    Ok(())
}

/// What to measure, and how long.
pub(crate) struct Options {
    /// The release binary.
    pub(crate) program: PathBuf,
    /// The Python that has requests and boto3.
    pub(crate) python: Option<PathBuf>,
    /// Where the page goes.
    pub(crate) write: Option<PathBuf>,
    /// A shorter run: fewer tokens due at once and a shorter rest.
    pub(crate) quick: bool,
}

impl Options {
    fn read() -> Result<Self> {
        let mut options = Self { program: PathBuf::from("target/release/evertoken"), python: None, write: None, quick: false };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--quick" => options.quick = true,
                // Cargo says this to every benchmark.
                "--bench" => {}
                "--program" => options.program = words.next().context("--program PATH")?.into(),
                "--python" => options.python = Some(words.next().context("--python PATH")?.into()),
                "--write" => options.write = Some(words.next().context("--write PATH")?.into()),
                other => bail!("{other} is not known: --quick --program PATH --python PATH --write PATH"),
            }
        }
        options.program = absolute(&options.program)?;
        Ok(options)
    }

    /// How long an idle daemon is watched.
    pub(crate) const fn rest(&self) -> Duration {
        Duration::from_secs(if self.quick { 30 } else { 300 })
    }

    /// Refreshes and store writes a second of the fleet whose memory is looked at: the defaults, or ten times as many.
    pub(crate) const fn pace(&self) -> (u32, u32) {
        if self.quick { (10, 100) } else { (1, 10) }
    }

    /// How many tokens become due at once.
    pub(crate) const fn burst(&self) -> usize {
        if self.quick { 100 } else { 1000 }
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::fs::canonicalize(path).with_context(|| format!("{} is not there: cargo build --release", path.display()))
}

//! What the kernel knows of a process.

use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// CPU time that a process and all its threads, also those that have ended, have used.
pub(crate) fn cpu(pid: u32) -> Result<Duration> {
    let clock = clock_getcpuclockid(Pid::from_raw(i32::try_from(pid)?)).context("the process has no CPU clock")?;
    Ok(clock_gettime(clock)?.into())
}

/// The part of it that was spent in the kernel, in steps of 10 ms.
pub(crate) fn kernel_cpu(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // proc_pid_stat(5): stime is field 15; the name, field 2, may hold blanks and ends with the last bracket.
    let ticks = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(12)).context("/proc/PID/stat is cut")?;
    Ok(Duration::from_millis(ticks.parse::<u64>()? * 10))
}

/// A line of `/proc/PID/status` that is a number of KiB, such as `VmRSS`.
pub(crate) fn kib(pid: u32, name: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next()).with_context(|| format!("/proc/{pid}/status has no {name}"))?;
    Ok(number.parse()?)
}

/// Lets the peak of resident memory start anew from what is resident now.
pub(crate) fn forget_peak(pid: u32) -> Result<()> {
    use std::io::Write as _;
    let mut file = std::fs::OpenOptions::new().write(true).open(format!("/proc/{pid}/clear_refs"))?;
    Ok(file.write_all(b"5")?)
}

/// Lets the machine work for that long.
pub(crate) fn pause(length: Duration) {
    #[expect(clippy::disallowed_methods, reason = "a benchmark watches a process over real time")]
    std::thread::sleep(length);
}

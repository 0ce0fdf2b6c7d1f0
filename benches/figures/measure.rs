//! The measurements, each on a fresh world and a fresh state directory.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use evertoken::clock;
use serde::Deserialize;
use serde_json::json;

use crate::Options;
use crate::daemon::{Daemon, Host, Plan};
use crate::process::{cpu, forget_peak, kernel_cpu, kib, pause};
use crate::world::{Calls, DAYS_60, World};

/// Starts that are measured.
const STARTS: usize = 25;
/// The fleet of the figures about memory and rest.
const FLEET: usize = 100;
/// Half of a life, which is when a token becomes due here (no jitter).
const DUE: i64 = DAYS_60 / 2;
/// After a rotation: until threads that have nothing to do have ended.
const SETTLE: Duration = Duration::from_secs(15);

/// Everything that was measured.
pub(crate) struct Figures {
    pub(crate) start: Start,
    pub(crate) rotation: Calls,
    pub(crate) rest: Rest,
    pub(crate) audits: Audits,
    pub(crate) burst: Burst,
    pub(crate) python: Option<Python>,
}

/// From before the fork to `READY=1`.
pub(crate) struct Start {
    pub(crate) ready: Vec<Duration>,
    /// The same process made to print its version and end.
    pub(crate) floor: Vec<Duration>,
    /// CPU used when it was ready.
    pub(crate) cpu: Vec<Duration>,
}

/// A fleet at rest after its first rotation.
pub(crate) struct Rest {
    pub(crate) tokens: usize,
    pub(crate) pace: (u32, u32),
    pub(crate) at_start_kib: u64,
    pub(crate) resident_kib: u64,
    pub(crate) anonymous_kib: u64,
    pub(crate) file_kib: u64,
    pub(crate) threads: u64,
    pub(crate) watched: Duration,
    pub(crate) cpu: Duration,
    pub(crate) calls: Calls,
}

/// What looks at tokens that stay as they are cost.
pub(crate) struct Audits {
    pub(crate) looks: usize,
    pub(crate) calls: usize,
    pub(crate) cpu: Duration,
}

/// Many tokens due at once.
pub(crate) struct Burst {
    pub(crate) tokens: usize,
    pub(crate) took: Duration,
    pub(crate) cpu: Duration,
    /// The part of it spent in the kernel.
    pub(crate) kernel: Duration,
    pub(crate) calls: Calls,
    pub(crate) peak_kib: u64,
}

/// The peer.
#[derive(Deserialize)]
pub(crate) struct Python {
    pub(crate) rotations: usize,
    pub(crate) calls: usize,
    pub(crate) cpu_s: f64,
    pub(crate) kernel_s: f64,
    pub(crate) wall_s: f64,
    pub(crate) start_cpu_s: f64,
    pub(crate) peak_kib: u64,
}

/// Measures everything.
pub(crate) fn all(options: &Options) -> Result<Figures> {
    eprintln!("1/6 exec to ready");
    let start = start(&options.program)?;
    eprintln!("2/6 one clean rotation");
    let rotation = rotation(&options.program)?;
    eprintln!("3/6 {FLEET} tokens rotate, then rest for {:?}", options.rest());
    let rest = rest(options)?;
    eprintln!("4/6 audits");
    let audits = audits(&options.program)?;
    eprintln!("5/6 {} tokens due at once", options.burst());
    let burst = burst(options)?;
    let python = match &options.python {
        Some(python) => {
            eprintln!("6/6 the same calls by a Python script");
            Some(peer(options, python, &burst)?)
        }
        None => None,
    };
    Ok(Figures { start, rotation, rest, audits, burst, python })
}

fn start(program: &Path) -> Result<Start> {
    let world = World::start(program, FLEET, DAYS_60, 0)?;
    let host = Host::new(&world, &Plan::default())?;
    let mut start = Start { ready: Vec::new(), floor: Vec::new(), cpu: Vec::new() };
    for _ in 0..STARTS {
        let begun = clock::boot();
        let ended = Command::new(program).arg("--version").stdout(Stdio::null()).status()?;
        start.floor.push(clock::boot().since(begun).unsigned_abs());
        ensure!(ended.success(), "{} --version failed", program.display());
        let daemon = host.start(program)?;
        start.cpu.push(cpu(daemon.pid())?);
        start.ready.push(daemon.ready_after);
    }
    Ok(start)
}

/// Calls of a rotation of one token from due to the old token's end, and nothing else.
fn rotation(program: &Path) -> Result<Calls> {
    let mut world = World::start(program, 1, DAYS_60, DUE - 8)?;
    let host = Host::new(&world, &Plan { window: "4s", tick: "* * * * * *", ..Plan::default() })?;
    let daemon = adopted(&mut world, &host, program)?;
    world.calls()?;
    daemon.events("rotation.completed", 1, Duration::from_secs(60))?;
    world.quiet(Duration::from_secs(20))
}

fn rest(options: &Options) -> Result<Rest> {
    let pace = options.pace();
    let lead = if options.quick { 20 } else { 120 };
    let mut world = World::start(&options.program, FLEET, DAYS_60, DUE - lead)?;
    let host = Host::new(&world, &Plan { pace, ..Plan::default() })?;
    let daemon = adopted(&mut world, &host, &options.program)?;
    let at_start_kib = kib(daemon.pid(), "VmRSS")?;
    daemon.events("propagation.waiting", FLEET, Duration::from_secs(400))?;
    world.quiet(Duration::from_secs(30))?;
    pause(SETTLE);
    world.calls()?;
    let pid = daemon.pid();
    let (resident_kib, anonymous_kib, file_kib) = (kib(pid, "VmRSS")?, kib(pid, "RssAnon")?, kib(pid, "RssFile")?);
    let threads = kib(pid, "Threads")?;
    let before = cpu(pid)?;
    pause(options.rest());
    let used = cpu(pid)?.saturating_sub(before);
    let calls = world.calls()?;
    let watched = options.rest();
    Ok(Rest { tokens: FLEET, pace, at_start_kib, resident_kib, anonymous_kib, file_kib, threads, watched, cpu: used, calls })
}

fn audits(program: &Path) -> Result<Audits> {
    let mut world = World::start(program, FLEET, DAYS_60, 0)?;
    let host = Host::new(&world, &Plan { audit_interval: Some("5s"), ..Plan::default() })?;
    let daemon = host.start(program)?;
    daemon.events("token.adopted", FLEET, Duration::from_secs(60))?;
    pause(Duration::from_secs(10));
    world.calls()?;
    let before = cpu(daemon.pid())?;
    pause(Duration::from_secs(20));
    let used = cpu(daemon.pid())?.saturating_sub(before);
    let calls = world.calls()?;
    let looks = calls.get("introspect").copied().unwrap_or(0);
    Ok(Audits { looks, calls: calls.values().sum(), cpu: used })
}

/// From the first intent to the last publication in every place. The window is long, so nothing is revoked in it.
fn burst(options: &Options) -> Result<Burst> {
    let tokens = options.burst();
    let lead = 20 + i64::try_from(tokens / 20)?;
    let mut world = World::start(&options.program, tokens, DAYS_60, DUE - lead)?;
    let host = Host::new(&world, &Plan::default())?;
    let daemon = adopted(&mut world, &host, &options.program)?;
    world.calls()?;
    let pid = daemon.pid();
    forget_peak(pid)?;
    let (before, kernel_before) = (cpu(pid)?, kernel_cpu(pid)?);
    let (begun, _) = daemon.events("rotation.started", 1, Duration::from_secs(180))?;
    let (_, ended) = daemon.events("propagation.waiting", tokens, Duration::from_secs(600))?;
    let (used, kernel) = (cpu(pid)?.saturating_sub(before), kernel_cpu(pid)?.saturating_sub(kernel_before));
    let peak_kib = kib(pid, "VmHWM")?;
    let calls = world.calls()?;
    Ok(Burst { tokens, took: ended.since(begun).unsigned_abs(), cpu: used, kernel, calls, peak_kib })
}

/// A daemon that has taken over every token and filled every sink.
fn adopted(world: &mut World, host: &Host, program: &Path) -> Result<Daemon> {
    let daemon = host.start(program)?;
    daemon.events("token.adopted", world.tokens.len(), Duration::from_secs(180))?;
    world.quiet(Duration::from_secs(60))?;
    ensure!(daemon.told("rotation.started") == 0, "a rotation began before all tokens were adopted: this machine is too busy");
    Ok(daemon)
}

/// The calls of the burst, by the same kinds and in the same proportion, made by requests and boto3.
fn peer(options: &Options, python: &Path, burst: &Burst) -> Result<Python> {
    let rotations = if options.quick { 50 } else { 200 };
    let world = World::start(&options.program, rotations, DAYS_60, DUE)?;
    let each: Calls = burst.calls.iter().map(|(kind, calls)| (kind.clone(), (calls + burst.tokens / 2) / burst.tokens)).collect();
    let tokens: Vec<_> =
        world.tokens.iter().map(|token| json!({ "user": token.user, "text": token.text, "secret": token.secret })).collect();
    let task = json!({
        "graph": world.graph.url(),
        "manager": world.manager.url(),
        "app": crate::world::APP,
        "app_secret": crate::world::APP_SECRET,
        "calls": each,
        "tokens": tokens,
    });
    let mut child = Command::new(python)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/python/rotate.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    serde_json::to_writer(child.stdin.take().context("no input of the script")?, &task)?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "the Python script failed");
    Ok(serde_json::from_slice(&output.stdout)?)
}

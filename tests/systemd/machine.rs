//! A machine whose PID 1 is a real systemd: this host's own files below an overlay, in systemd-nspawn (see `boot.sh`).

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// A boot takes one to two seconds; a host that is doing other things is given a minute.
const BOOT_LOOKS: u32 = 600;
const BOOT_LOOK_EVERY: Duration = Duration::from_millis(100);

/// A booted machine; it dies with this value, and with the thread that made it.
pub(crate) struct Machine {
    nspawn: Child,
    init: u32,
    _scratch: tempfile::TempDir,
}

impl Machine {
    /// Boots, or says why that is not possible here.
    ///
    /// Where `CI` is set it must be possible.
    pub(crate) fn boot() -> Option<Self> {
        if let Some(why) = obstacle() {
            skip(&why);
            return None;
        }
        let scratch = tempfile::tempdir().unwrap();
        let mut nspawn = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh"])
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/systemd/boot.sh"))
            .arg(scratch.path())
            .arg(env!("CARGO_BIN_EXE_evertoken"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let console = console(&mut nspawn);
        let mut machine = Self { nspawn, init: 0, _scratch: scratch };
        let mut seen = String::new();
        for _ in 0..BOOT_LOOKS {
            if machine.is_up() {
                return Some(machine);
            }
            match console.recv_timeout(BOOT_LOOK_EVERY) {
                Ok(line) => seen.push_str(&format!("{line}\n")),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        panic!("the machine did not boot; its console said:\n{seen}");
    }

    fn is_up(&mut self) -> bool {
        let Some(init) = init_below(self.nspawn.id()) else { return false };
        self.init = init;
        self.try_sh("systemctl is-active --quiet basic.target").0
    }

    /// Runs a shell script as root inside; it must succeed. Gives what it wrote.
    pub(crate) fn sh(&self, script: &str) -> String {
        let (fine, output) = self.try_sh(script);
        assert!(fine, "{script}\nfailed:\n{output}\nthe journal:\n{}", self.try_sh("journalctl --no-pager | tail -n 60").1);
        output
    }

    /// Runs a shell script as root inside: whether it succeeded, and what it wrote.
    pub(crate) fn try_sh(&self, script: &str) -> (bool, String) {
        let output = self.enter().args(["sh", "-euc", script]).stdin(Stdio::null()).output().unwrap();
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        (output.status.success(), text.trim().to_owned())
    }

    /// Waits inside until a shell condition holds.
    pub(crate) fn until(&self, seconds: u32, condition: &str) {
        let waited = format!("for _ in $(seq {seconds}0); do if {condition}; then exit 0; fi; sleep 0.1; done; exit 1");
        self.sh(&waited);
    }

    /// Puts a file there, root's.
    pub(crate) fn install(&self, path: &str, mode: &str, content: &str) {
        let mut install = self.enter().args(["install", "-D", "-m", mode, "/dev/stdin", path]).stdin(Stdio::piped()).spawn().unwrap();
        install.stdin.take().unwrap().write_all(content.as_bytes()).unwrap();
        assert!(install.wait().unwrap().success(), "{path} could not be installed");
    }

    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        // Not its cgroup and user namespaces: those are the host's.
        command.args(["--target", &self.init.to_string(), "--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd"]);
        command
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // unshare takes the whole machine with it, and its mounts end with their namespace.
        self.nspawn.kill().ok();
        self.nspawn.wait().ok();
    }
}

/// What keeps a machine from booting here.
fn obstacle() -> Option<String> {
    if !nix::unistd::Uid::effective().is_root() {
        return Some("booting a systemd needs root".to_owned());
    }
    let missing = |program: &&str| !Path::new("/usr/bin").join(program).exists();
    let missing = ["systemd-nspawn", "nsenter", "unshare", "setpriv"].into_iter().find(missing)?;
    Some(format!("{missing} is missing: run scripts/setup first"))
}

/// Says why a test does not run here; in CI it must.
#[expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a test asks whether it runs in CI, and says what it skips")]
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "{why}");
    println!("SKIPPED: {why}");
}

/// The lines of the machine's console. The thread goes on reading, because a full pipe would stop the machine.
fn console(nspawn: &mut Child) -> Receiver<String> {
    let (lines, received) = channel();
    let (stdout, stderr) = (nspawn.stdout.take().unwrap(), nspawn.stderr.take().unwrap());
    let errors = lines.clone();
    std::thread::spawn(move || BufReader::new(stdout).lines().map_while(Result::ok).for_each(|line| drop(lines.send(line))));
    std::thread::spawn(move || BufReader::new(stderr).lines().map_while(Result::ok).for_each(|line| drop(errors.send(line))));
    received
}

/// The machine's PID 1, by the host's number: the process named systemd below `pid`.
fn init_below(pid: u32) -> Option<u32> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    if std::fs::read_to_string(proc.join("comm")).ok()?.trim() == "systemd" {
        return Some(pid);
    }
    let children = std::fs::read_to_string(proc.join(format!("task/{pid}/children"))).ok()?;
    children.split_whitespace().filter_map(|child| child.parse().ok()).find_map(init_below)
}

//! systemd/evertoken.service and its drop-ins under a real systemd, in a machine of their own: what is installed there are the files
//! of this repository as they are, the binary, and `evertoken simulate` for Meta and AWS.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::process::Command;

use self::machine::Machine;

#[path = "systemd/machine.rs"]
mod machine;

const UNIT: &str = include_str!("../systemd/evertoken.service");
const SYSUSERS: &str = include_str!("../systemd/evertoken.sysusers");
/// Drop-ins for every systemd; the growth of restarts is for newer ones than may be here.
const DROP_INS: [(&str, &str); 3] = [
    ("credentials", include_str!("../systemd/drop-ins/credentials.conf")),
    ("aws-credentials", include_str!("../systemd/drop-ins/aws-credentials.conf")),
    ("readers", include_str!("../systemd/drop-ins/readers.conf")),
];
const CONFIGURATION: &str = r#"
[daemon]
state_dir = "/var/lib/evertoken"
control_socket = "/run/evertoken/control.sock"
[log]
format = "journald"
[apps.acme]
id = "1234567890"
secret = { credential = "acme" }
graph_url = "http://127.0.0.1:9480"
[stores.prod]
kind = "aws-secrets-manager"
region = "eu-west-1"
endpoint_url = "http://127.0.0.1:9481"
[stores.disk]
kind = "file"
dir = "/run/evertoken/tokens"
mode = "0640"
group = "bot"
[tokens.whatsapp-bot]
app = "acme"
system_user_id = "10001"
store = { name = "prod", entry = "meta/whatsapp-bot" }
sinks = [{ name = "disk", entry = "whatsapp-bot" }]
adopt = "auto"
"#;
/// Of the simulated world.
const APP_SECRET: &str = "app-secret-0123456789abcdef";
const AWS_SECRET: &str = "aws-secret-0123456789abcdefghijklmnopqrs";
const TOKEN: &str = "/run/evertoken/tokens/whatsapp-bot/token";

/// What systemd itself says of the sandbox: 1.5 or better of 10, which leaves little but the network that it needs.
#[test]
fn the_sandbox_passes_systemds_own_analysis() {
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/evertoken.service");
    let analysis = Command::new("systemd-analyze").args(["security", "--offline=true", "--threshold=15", "--no-pager", unit]).output();
    match analysis {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout)),
        Err(error) => machine::skip(&format!("systemd-analyze cannot be run ({error}): run scripts/setup first")),
    }
}

#[test]
fn it_starts_rotates_reloads_and_stops() {
    let Some(machine) = installed() else { return };
    assert_eq!(machine.sh("systemd-analyze verify evertoken.service 2>&1"), "", "every line is known and fine");
    machine.sh("systemd-run --quiet --unit=simulators evertoken simulate");
    machine.until(10, "journalctl --quiet --unit=simulators | grep -q whatsapp-bot");

    // Returns when the daemon said READY.
    machine.sh("systemctl start evertoken");
    assert_eq!(machine.sh("systemctl show -P WatchdogUSec evertoken"), "2min");
    machine.until(20, &format!("test -s {TOKEN}"));
    let first = machine.sh(&format!("cat {TOKEN}"));
    holds_what_it_needs_and_no_more(&machine);

    machine.sh("evertoken rotate whatsapp-bot --yes");
    machine.until(20, &format!("test \"$(cat {TOKEN})\" != '{first}'"));
    let second = machine.sh(&format!("setpriv --reuid=nobody --regid=bot --clear-groups cat {TOKEN}"));
    assert!(machine.sh(&format!("setpriv --reuid=nobody --regid=nogroup --clear-groups cat {TOKEN} 2>&1 || true")).contains("ermission"));

    reloads(&machine);

    machine.sh("timeout 20 systemctl stop evertoken");
    assert_eq!(machine.sh("systemctl show -P Result evertoken; systemctl show -P ExecMainStatus evertoken"), "success\n0");
    assert_eq!(machine.sh(&format!("cat {TOKEN}")), second, "a stop takes no token away from its readers");

    for event in ["daemon.started", "daemon.ready", "config.reloaded", "daemon.stopping"] {
        machine.sh(&format!("journalctl --quiet EVERTOKEN_EVENT={event} | grep -q ."));
    }
    for secret in [APP_SECRET, AWS_SECRET, &first, &second] {
        let (found, lines) = machine.try_sh(&format!("journalctl --output=export --unit=evertoken --all | grep -aF '{secret}'"));
        assert!(!found, "a secret is in the journal: {lines}");
    }
}

/// The process as the kernel shows it, and the modes of what it left on disk.
fn holds_what_it_needs_and_no_more(machine: &Machine) {
    let status = machine.sh("cat /proc/$(systemctl show -P MainPID evertoken)/status");
    for line in ["CapBnd:\t0000000000000000", "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(line), "{line} in\n{status}");
    }
    let environment = machine.sh("tr '\\0' '\\n' < /proc/$(systemctl show -P MainPID evertoken)/environ");
    assert!(!environment.contains(APP_SECRET) && !environment.contains(AWS_SECRET), "secrets come as files");
    let modes = machine.sh(&format!(
        "stat -c '%a %U %G' /var/lib/evertoken /run/evertoken /run/evertoken/control.sock {TOKEN}
        find /var/lib/evertoken -perm /077 | head"
    ));
    assert_eq!(modes, "700 evertoken evertoken\n755 evertoken evertoken\n600 evertoken evertoken\n640 evertoken bot");
}

fn reloads(machine: &Machine) {
    let pid = machine.sh("systemctl show -P MainPID evertoken");
    machine.sh("systemctl reload evertoken");
    machine.until(10, "journalctl --quiet EVERTOKEN_EVENT=config.reloaded | grep -q .");

    machine.install("/etc/evertoken/evertoken.toml", "0644", &CONFIGURATION.replace("system_user_id", "sistem_user_id"));
    let (fine, _) = machine.try_sh("systemctl reload evertoken");
    assert!(!fine, "a configuration with mistakes is refused aloud");
    assert!(machine.sh("journalctl --unit=evertoken").contains("system_user_id"), "the journal says what is wrong with it");
    machine.sh("systemctl is-active evertoken");
    assert_eq!(machine.sh("systemctl show -P MainPID evertoken"), pid);
    machine.install("/etc/evertoken/evertoken.toml", "0644", CONFIGURATION);
}

/// Stopped in the middle of whatever it does, the process neither turns its loop nor dies of itself.
#[test]
fn a_hung_daemon_is_killed_and_started_again() {
    let Some(machine) = installed() else { return };
    drop_in(&machine, "WatchdogSec=2s\nRestartSec=100ms");
    machine.sh("systemctl start evertoken");
    let hung = machine.sh("systemctl show -P MainPID evertoken");
    // Twice the watchdog's time: fed by an idle loop, it does not bark.
    machine.sh("sleep 4");
    assert_eq!(machine.sh("systemctl show -P MainPID evertoken"), hung);

    machine.sh(&format!("kill -STOP {hung}"));
    machine.until(20, "test $(systemctl show -P NRestarts evertoken) = 1 && systemctl is-active --quiet evertoken");
    assert_ne!(machine.sh("systemctl show -P MainPID evertoken"), hung);
    assert!(machine.sh("journalctl --unit=evertoken").contains("Watchdog timeout"));
}

/// Neither an absent provider and store nor a mistake that somebody mends an hour later leaves it dead.
#[test]
fn it_starts_without_a_network_and_after_a_mistake_is_mended() {
    let Some(machine) = installed() else { return };
    drop_in(&machine, "RestartSec=100ms");
    machine.sh("timeout 20 systemctl start evertoken");
    machine.sh("systemctl is-active evertoken");
    machine.sh("systemctl stop evertoken");

    machine.install("/etc/evertoken/evertoken.toml", "0644", &CONFIGURATION.replace("1234567890", "not a number"));
    machine.sh("systemctl start --no-block evertoken");
    // More often than systemd's default limit, which would have given it up.
    machine.until(30, "test $(systemctl show -P NRestarts evertoken) -ge 7");
    machine.install("/etc/evertoken/evertoken.toml", "0644", CONFIGURATION);
    machine.until(20, "systemctl is-active --quiet evertoken");
}

/// A machine with the unit, its user, its drop-ins and its configuration; nothing is started.
fn installed() -> Option<Machine> {
    let machine = Machine::boot()?;
    machine.install("/usr/lib/sysusers.d/evertoken.conf", "0644", SYSUSERS);
    machine.install("/etc/systemd/system/evertoken.service", "0644", UNIT);
    for (name, drop_in) in DROP_INS {
        machine.install(&format!("/etc/systemd/system/evertoken.service.d/{name}.conf"), "0644", drop_in);
    }
    machine.install("/usr/share/doc/evertoken/systemd.md", "0644", include_str!("../docs/systemd.md"));
    machine.install("/etc/evertoken/evertoken.toml", "0644", CONFIGURATION);
    machine.install("/etc/evertoken/credentials/acme", "0600", &format!("{APP_SECRET}\n"));
    let keys = format!("[default]\naws_access_key_id = AKIATEST\naws_secret_access_key = {AWS_SECRET}\n");
    machine.install("/etc/evertoken/credentials/aws", "0600", &keys);
    machine.sh("systemd-sysusers evertoken.conf; groupadd --system bot; systemctl daemon-reload");
    Some(machine)
}

/// docs/systemd.md's way to keep a credential encrypted on disk.
#[test]
fn a_credential_may_be_encrypted() {
    let Some(machine) = installed() else { return };
    machine.sh("cd /etc/evertoken/credentials
        systemd-creds encrypt --with-key=host --name=acme acme acme.cred 2>/dev/null
        rm acme
        sed -i 's|^LoadCredential=.*|LoadCredentialEncrypted=acme:/etc/evertoken/credentials/acme.cred|' \\
            /etc/systemd/system/evertoken.service.d/credentials.conf
        systemctl daemon-reload
        systemctl start evertoken");
    let pid = machine.sh("systemctl show -P MainPID evertoken");
    assert_eq!(machine.sh(&format!("cat /proc/{pid}/root/run/credentials/evertoken.service/acme")), APP_SECRET);
    machine.sh("! grep -r app-secret /etc/evertoken");
}

fn drop_in(machine: &Machine, service: &str) {
    machine.install("/etc/systemd/system/evertoken.service.d/test.conf", "0644", &format!("[Service]\n{service}\n"));
    machine.sh("systemctl daemon-reload");
}

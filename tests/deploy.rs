//! The files in deploy/: the image is built and run, the manifest is checked against Kubernetes' own schemas, and the configuration
//! inside it by the code that will read it.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use evertoken::config::settings::Store;
use evertoken::config::{Environment, Settings, load};
use evertoken::simulator::graph::knobs::Knobs;
use evertoken::simulator::graph::{Graph, serve_on};
use evertoken::simulator::secrets_manager::SecretsManager;
use evertoken::simulator::server::{Running, start};
use evertoken::simulator::virtual_clock::VirtualClock;

use self::image::Image;

#[path = "deploy/image.rs"]
mod image;

const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// Of the simulated world.
const APP_SECRET: &str = "app-secret-0123456789abcdef";

/// Nothing in it names a folder of the daemon's own: those are the image's.
const CONFIGURATION: &str = r#"
[http]
listen = "off"
[apps.acme]
id = "1234567890"
secret = { file = "/etc/evertoken/acme.secret" }
graph_url = "URL"
[stores.disk]
kind = "file"
dir = "/run/evertoken/tokens"
group = "65532"
[tokens.bot]
app = "acme"
system_user_id = "10001"
store = { name = "disk", entry = "bot" }
"#;

const SIDECAR: &str = include_str!("../deploy/kubernetes/sidecar.yaml");

#[test]
fn the_manifest_passes_kubernetes_schemas_and_yamllint() {
    let Some(venv) = tool_or_skip(&target().join("manifests-venv/bin"), "run scripts/setup first") else { return };
    let manifest = root().join("deploy/kubernetes/sidecar.yaml");
    let mut schemas = Command::new(venv.join("kubernetes-validate"));
    fine(schemas.args(["--strict", "-k", "1.34"]).arg(&manifest));
    let rules = "{extends: default, rules: {line-length: {max: 140}}}";
    fine(Command::new(venv.join("yamllint")).args(["--strict", "-d", rules]).arg(&manifest));
}

#[test]
fn the_manifests_configuration_is_accepted() {
    let (settings, warnings) = sidecar_settings();
    // The kubelet asks the pod's address, so the one warning is that others can, too; docs/kubernetes.md says what to do about it.
    assert!(matches!(warnings.as_slice(), [only] if only.contains("[http] listen")), "{warnings:?}");
    assert_eq!(settings.tokens.len(), 1);
}

/// What stands in the configuration and again in the pod must be the same.
#[test]
fn the_pod_fits_its_configuration() {
    let (settings, _) = sidecar_settings();
    let token = settings.tokens.values().next().unwrap();
    let sink = token.sinks.first().unwrap();
    let Some(Store::File(file)) = settings.stores.get(&sink.store) else { panic!("the sink is a file") };

    let published = file.dir.join(&sink.entry).join("token");
    assert_eq!(value_of("value"), published.display().to_string(), "META_TOKEN_FILE is where the token is published");
    assert!(SIDECAR.contains(&format!("until [ -s {} ]", published.display())), "the bot waits for that file");
    assert_eq!(value_of("fsGroup"), file.group.clone().unwrap(), "the bot reads by the pod's group");
    assert_eq!(file.mode, 0o640);

    let mounts: Vec<&str> = SIDECAR.lines().filter_map(|line| line.trim().strip_prefix("mountPath: ")).collect();
    let lies_below_a_mount = |path: &Path| mounts.iter().any(|mount| path.starts_with(mount) && path != Path::new(mount));
    for path in [&settings.daemon.state_dir, &settings.daemon.control_socket, &file.dir] {
        assert!(lies_below_a_mount(path), "{} is on no volume; the root file system is read-only", path.display());
    }
    assert!(!settings.daemon.control_socket.starts_with("/run/meta"), "the bot must not see the control socket");

    let listen = settings.http.listen.unwrap();
    assert_eq!(value_of("containerPort"), listen.port().to_string());
    assert!(listen.ip().is_unspecified(), "the kubelet comes to the pod's address");
}

/// Without a shell, a C library, `/etc/passwd` or anything else but a bundle of authorities.
#[tokio::test]
async fn the_image_holds_a_daemon_that_works() {
    let Some(image) = Image::built(None) else { return };
    assert_eq!(image.inspect("{{.OCIv1.Config.User}}"), "65532:65532");
    assert_eq!(image.inspect("{{.OCIv1.Config.Entrypoint}} {{.OCIv1.Config.Cmd}}"), "[/usr/bin/evertoken] [run]");

    let graph = Arc::new(Graph::sample(Knobs::default()));
    let clock = Arc::new(VirtualClock::new());
    let issued = graph.issue(Graph::sample_token(), clock.now());
    let server = serve_on(graph, clock, ANY_PORT).await.unwrap();
    image.give("evertoken.toml", &CONFIGURATION.replace("URL", &by_name(&server)));
    image.give("acme.secret", APP_SECRET);
    image.give("first.token", &issued.text);
    // The server answers on this thread meanwhile.
    let published = tokio::task::spawn_blocking(move || rehearse(&image)).await.unwrap();
    assert_eq!(published, issued.text);
}

/// Commands in the container, from an empty file store to a token that is managed and proven, and which is returned. Name lookups, the
/// image's folders and a group by number are used on the way.
fn rehearse(image: &Image) -> String {
    assert_eq!(image.says(&["--version"]), concat!("evertoken ", env!("CARGO_PKG_VERSION")));
    for arguments in
        [&["check", "--offline"][..], &["adopt", "bot", "--token-file", "/etc/evertoken/first.token", "--create", "--yes"], &["check"]]
    {
        let (fine, said) = image.run(arguments);
        assert!(fine, "{arguments:?}: {said}");
    }
    readable_by_its_group(&image.file("run/evertoken/tokens/bot/token"))
}

/// Two images that differ in their bundles, and a server whose certificate only one of them can trust.
#[test]
fn the_image_trusts_the_authorities_of_its_bundle() {
    let own = root().join("tests/graph_tls/ca.pem");
    for (bundle, says) in [(None, "UnknownIssuer"), (Some(own.as_path()), "HTTP 200: the body is not JSON")] {
        let Some(image) = Image::built(bundle) else { return };
        let server = TlsServer::start();
        image.give("evertoken.toml", &CONFIGURATION.replace("URL", &server.url));
        image.give("acme.secret", APP_SECRET);
        let said = image.says(&["check"]);
        assert!(said.contains(says), "{said}");
    }
}

/// The manifest's configuration over volumes as the kubelet makes them, with the image's user. Only Meta and AWS are simulated.
#[tokio::test]
async fn the_sidecar_publishes_what_the_bot_may_read() {
    let Some(image) = Image::built(None) else { return };
    let clock = Arc::new(VirtualClock::new());
    let graph = Arc::new(Graph::sample(Knobs::default()));
    let issued = graph.issue(Graph::sample_token(), clock.now());
    let aws = Arc::new(SecretsManager::new("eu-west-1"));
    aws.create("meta/acme-bot", Some(&issued.text), clock.now()).unwrap();
    let graph = serve_on(graph, clock.clone(), ANY_PORT).await.unwrap();
    let aws = start(aws, clock, ANY_PORT).await.unwrap();

    let configuration = embedded(SIDECAR, "evertoken.toml")
        .replace("[apps.acme]\n", &format!("[apps.acme]\ngraph_url = \"{}\"\n", by_name(&graph)))
        .replace("[stores.aws]\n", &format!("[stores.aws]\nendpoint_url = \"{}\"\n", by_name(&aws)));
    image.give("evertoken.toml", &configuration);
    image.give("secrets/app-secret", APP_SECRET);
    let tokens = image.empty_dir("tokens");
    let state = format!("{}:/var/lib/evertoken", image.empty_dir("state").display());
    let shared = format!("{}:/run/meta", tokens.display());
    let published = tokio::task::spawn_blocking(move || {
        let keys = ["--env", "AWS_ACCESS_KEY_ID=AKIATEST", "--env", "AWS_SECRET_ACCESS_KEY=secret"];
        let volumes = ["--volume", &state, "--volume", &shared];
        let once = ["run", "--once", "--config", "/etc/evertoken/evertoken.toml"];
        let (fine, said) = image.run_with(&[keys, volumes].concat(), &once);
        assert!(fine, "{said}");
        readable_by_its_group(&tokens.join("tokens/acme-bot/token"))
    });
    assert_eq!(published.await.unwrap(), issued.text);
}

/// The content of a published file, which its group may read and nobody else, in folders that the group may pass.
fn readable_by_its_group(token: &Path) -> String {
    let access = |path: &Path| {
        let data = std::fs::metadata(path).unwrap();
        (data.mode() & 0o777, data.uid(), data.gid())
    };
    assert_eq!(access(token), (0o640, 65532, 65532));
    for folder in token.ancestors().skip(1).take(2) {
        assert_eq!(access(folder), (0o750, 65532, 65532), "{}", folder.display());
    }
    std::fs::read_to_string(token).unwrap()
}

/// A server with a certificate for localhost that tests/graph_tls/ca.pem signed, and a page in place of an answer.
struct TlsServer {
    server: Child,
    url: String,
}

impl TlsServer {
    fn start() -> Self {
        let tls = root().join("tests/graph_tls");
        let mut server = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-www"])
            .arg("-cert")
            .arg(tls.join("server.pem"))
            .arg("-key")
            .arg(tls.join("server.key"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| line.unwrap().strip_prefix("ACCEPT 127.0.0.1:").map(str::to_owned)).unwrap();
        Self { server, url: format!("https://localhost:{port}") }
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.server.kill().ok();
        self.server.wait().ok();
    }
}

fn by_name(server: &Running) -> String {
    format!("http://localhost:{}", server.addr().port())
}

/// The settings of the manifest's ConfigMap, and what is dubious about them.
fn sidecar_settings() -> (Settings, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("evertoken.toml");
    place(&path, &embedded(SIDECAR, "evertoken.toml"));
    let loaded = load(&path, &Environment::default()).unwrap_or_else(|error| panic!("{error}"));
    (loaded.settings, loaded.warnings.iter().map(ToString::to_string).collect())
}

/// The text of a block scalar: the lines below `key: |`, without their common indentation.
fn embedded(yaml: &str, key: &str) -> String {
    let mut lines = yaml.lines().skip_while(|line| line.trim() != format!("{key}: |"));
    let depth = lines.next().unwrap().find(|c| c != ' ').unwrap() + 2;
    let inside = lines.take_while(|line| line.trim().is_empty() || line.starts_with(&" ".repeat(depth)));
    inside.map(|line| format!("{}\n", line.get(depth..).unwrap_or_default())).collect()
}

/// What follows the first `key: ` of the manifest.
fn value_of(key: &str) -> String {
    let prefix = format!("{key}: ");
    let value = SIDECAR.lines().find_map(|line| line.trim().trim_start_matches("- ").strip_prefix(prefix.as_str()));
    value.unwrap_or_else(|| panic!("the manifest has no {key}")).to_owned()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn target() -> PathBuf {
    variable("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

#[expect(clippy::disallowed_methods, reason = "a test asks where it runs; no product code does")]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// The path if it is there. In CI it must be.
fn tool_or_skip(path: &Path, remedy: &str) -> Option<PathBuf> {
    if path.exists() { Some(path.to_owned()) } else { skip(&format!("{} is missing: {remedy}", path.display())) }
}

#[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
fn skip<T>(why: &str) -> Option<T> {
    assert!(variable("CI").is_none(), "{why}");
    println!("SKIPPED: {why}");
    None
}

/// Runs a command that must succeed; what it wrote to its standard output.
fn fine(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", text_of(&output));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn text_of(output: &Output) -> String {
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    text.trim().to_owned()
}

#[expect(clippy::disallowed_methods, reason = "a test's own scratch files")]
fn place(path: &Path, content: &str) {
    std::fs::write(path, content).unwrap();
}

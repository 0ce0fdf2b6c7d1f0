//! The files in deploy/: the image is built and run, the manifest is checked against Kubernetes' own schemas, and the configuration
//! inside it by the code that will read it.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use evertoken::config::settings::Store;
use evertoken::config::{Environment, Settings, load};
use evertoken::simulator::graph::knobs::Knobs;
use evertoken::simulator::graph::{Graph, serve_on};
use evertoken::simulator::virtual_clock::VirtualClock;

/// Nothing in it names a folder of the daemon's own: those are the image's.
const CONFIGURATION: &str = r#"
[http]
listen = "off"
[apps.acme]
id = "1234567890"
secret = { file = "/etc/evertoken/acme.secret" }
graph_url = "http://localhost:PORT"
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
    let Some(venv) = tool_or_skip(&target().join("manifests-venv/bin"), "run scripts/manifests.sh first") else { return };
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
async fn the_image_holds_a_daemon_that_reaches_what_it_must() {
    let Some(image) = Image::built() else { return };
    assert_eq!(image.inspect("{{.OCIv1.Config.User}}"), "65532:65532");
    assert_eq!(image.inspect("{{.OCIv1.Config.Entrypoint}} {{.OCIv1.Config.Cmd}}"), "[/usr/bin/evertoken] [run]");

    let graph = Arc::new(Graph::sample(Knobs::default()));
    let clock = Arc::new(VirtualClock::new());
    let issued = graph.issue(Graph::sample_token(), clock.now());
    let server = serve_on(graph, clock, SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    image.configure(server.addr().port(), &issued.text);
    // The server answers on this thread meanwhile.
    let published = tokio::task::spawn_blocking(move || rehearse(&image)).await.unwrap();
    assert_eq!(published, issued.text);
}

/// Commands in the container, from an empty file store to a token that is managed and proven, and which is returned. Name lookups, the
/// image's folders and a group by number are used on the way.
fn rehearse(image: &Image) -> String {
    assert_eq!(image.run(&["--version"]).1, concat!("evertoken ", env!("CARGO_PKG_VERSION")));
    for arguments in
        [&["check", "--offline"][..], &["adopt", "bot", "--token-file", "/etc/evertoken/first.token", "--create", "--yes"], &["check"]]
    {
        let (fine, said) = image.run(arguments);
        assert!(fine, "{arguments:?}: {said}");
    }
    let published = image.file("run/evertoken/tokens/bot/token");
    let access = std::fs::metadata(&published).unwrap();
    assert_eq!((access.mode() & 0o7777, access.uid(), access.gid()), (0o640, 65532, 65532));
    std::fs::read_to_string(published).unwrap()
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

/// The image in a storage of its own, and a container made from it.
struct Image {
    folder: tempfile::TempDir,
    container: String,
}

impl Image {
    /// Builds the static binary as far as it is not built yet, and the image. The first build takes minutes, so it is only asked for
    /// where somebody did it before, or in CI.
    fn built() -> Option<Self> {
        tool_or_skip(Path::new("/usr/bin/buildah"), "run scripts/apt.sh first")?;
        tool_or_skip(&target().join("static"), "run scripts/static.sh first")?;
        if !nix::unistd::Uid::effective().is_root() {
            return skip("building an image without a daemon needs root");
        }
        let binary = fine(Command::new(root().join("scripts/static.sh")).stderr(Stdio::inherit()));
        let mut image = Self { folder: tempfile::tempdir().unwrap(), container: String::new() };
        let mut build = Command::new(root().join("deploy/image.sh"));
        fine(build.args(["evertoken-test", &binary]).env("EVERTOKEN_BUILDAH", image.buildah().join(" ")));
        image.container = image.do_buildah(&["from", "--pull-never", "localhost/evertoken-test"]);
        Some(image)
    }

    /// Gives the container a configuration that knows the simulated Graph by name, not by address, and the secrets for it.
    fn configure(&self, port: u16, token: &str) {
        let etc = self.folder.path().join("etc");
        std::fs::create_dir(&etc).unwrap();
        place(&etc.join("evertoken.toml"), &CONFIGURATION.replace("PORT", &port.to_string()));
        for (name, secret) in [("acme.secret", "app-secret-0123456789abcdef"), ("first.token", token)] {
            let path = etc.join(name);
            place(&path, secret);
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
            std::os::unix::fs::chown(&path, Some(65532), Some(65532)).unwrap();
        }
    }

    /// A file of the container, as the host sees it.
    fn file(&self, path: &str) -> PathBuf {
        PathBuf::from(self.do_buildah(&["mount", &self.container])).join(path)
    }

    fn buildah(&self) -> Vec<String> {
        let folder = self.folder.path().display();
        ["buildah", "--storage-driver", "vfs", "--root"]
            .map(str::to_owned)
            .into_iter()
            .chain([format!("{folder}/storage"), "--runroot".to_owned(), format!("{folder}/run")])
            .collect()
    }

    fn do_buildah(&self, arguments: &[&str]) -> String {
        let command = self.buildah();
        fine(Command::new(&command[0]).args(&command[1..]).args(arguments))
    }

    fn inspect(&self, template: &str) -> String {
        self.do_buildah(&["inspect", "--type", "image", "--format", template, "localhost/evertoken-test"])
    }

    /// Runs evertoken in the container: whether it succeeded, and what it wrote.
    fn run(&self, arguments: &[&str]) -> (bool, String) {
        let command = self.buildah();
        let config = format!("{}:/etc/evertoken:ro", self.folder.path().join("etc").display());
        let mut run = Command::new(&command[0]);
        run.args(&command[1..]).args(["run", "--isolation", "chroot", "--volume", &config, &self.container, "--", "/usr/bin/evertoken"]);
        let output = run.args(arguments).output().unwrap();
        (output.status.success(), text_of(&output))
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // Containers of the vfs driver may stay mounted, which would keep the folder from being removed.
        let command = self.buildah();
        drop(Command::new(&command[0]).args(&command[1..]).args(["rm", "--all"]).output());
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn target() -> PathBuf {
    variable("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

#[expect(clippy::disallowed_methods, reason = "a test asks where it runs; no product code does")]
fn variable(name: &str) -> Option<std::ffi::OsString> {
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

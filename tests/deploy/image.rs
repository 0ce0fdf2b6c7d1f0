//! The image, built and run by buildah.

use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{fine, place, root, skip, target, text_of, tool_or_skip};

/// Whom the image runs as.
const USER: u32 = 65532;
const NAME: &str = "localhost/evertoken-test";

/// The image in a storage of its own, and a container made from it.
pub(crate) struct Image {
    folder: tempfile::TempDir,
    container: String,
}

impl Image {
    /// Builds the static binary as far as it is not built yet, and the image, with the host's certificate authorities or others. The
    /// first build takes minutes, so it is only asked for where somebody did it before, or in CI.
    pub(crate) fn built(authorities: Option<&Path>) -> Option<Self> {
        tool_or_skip(Path::new("/usr/bin/buildah"), "run scripts/setup first")?;
        tool_or_skip(&target().join("static"), "run scripts/setup first")?;
        if !nix::unistd::Uid::effective().is_root() {
            return skip("building an image without a daemon needs root");
        }
        let binary = fine(Command::new(root().join("scripts/static.sh")).stderr(Stdio::inherit()));
        let mut image = Self { folder: tempfile::tempdir().unwrap(), container: String::new() };
        let mut build = Command::new(root().join("deploy/image.sh"));
        build.args([NAME, &binary]).env("EVERTOKEN_BUILDAH", image.command().join(" "));
        if let Some(bundle) = authorities {
            build.env("EVERTOKEN_AUTHORITIES", bundle);
        }
        fine(&mut build);
        image.container = image.buildah(&["from", "--pull-never", NAME]);
        Some(image)
    }

    /// What the image says of itself.
    pub(crate) fn inspect(&self, template: &str) -> String {
        self.buildah(&["inspect", "--type", "image", "--format", template, NAME])
    }

    /// Puts a file below the container's /etc/evertoken, for the container's user alone.
    pub(crate) fn give(&self, name: &str, content: &str) {
        let path = self.folder.path().join("etc").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        place(&path, content);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        chown(&path, Some(USER), Some(USER)).unwrap();
    }

    /// A volume as the kubelet makes an emptyDir of a pod with an fsGroup: root's, open to all, its group inherited.
    pub(crate) fn empty_dir(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        chown(&path, Some(0), Some(USER)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o2777)).unwrap();
        path
    }

    /// Runs evertoken in the container: whether it succeeded, and what it wrote.
    pub(crate) fn run(&self, arguments: &[&str]) -> (bool, String) {
        self.run_with(&[], arguments)
    }

    /// What a command that changes nothing writes to its standard output. buildah was seen to lose all of it, once in some hundred
    /// runs on a busy host, so it is asked again.
    pub(crate) fn says(&self, arguments: &[&str]) -> String {
        let ask = |_| self.command_to_run(&[], arguments).output().unwrap().stdout;
        let said = (0..3).map(ask).find(|said| !said.is_empty()).unwrap_or_default();
        String::from_utf8(said).unwrap().trim().to_owned()
    }

    /// As `run`, with options of `buildah run`.
    pub(crate) fn run_with(&self, options: &[&str], arguments: &[&str]) -> (bool, String) {
        let output = self.command_to_run(options, arguments).output().unwrap();
        (output.status.success(), text_of(&output))
    }

    fn command_to_run(&self, options: &[&str], arguments: &[&str]) -> Command {
        let command = self.command();
        let config = format!("{}:/etc/evertoken:ro", self.folder.path().join("etc").display());
        let mut run = Command::new(&command[0]);
        run.args(&command[1..]).args(["run", "--isolation", "chroot", "--volume", &config]).args(options);
        run.args([&self.container, "--", "/usr/bin/evertoken"]).args(arguments);
        run
    }

    /// A file of the container, as the host sees it.
    pub(crate) fn file(&self, path: &str) -> PathBuf {
        PathBuf::from(self.buildah(&["mount", &self.container])).join(path)
    }

    fn buildah(&self, arguments: &[&str]) -> String {
        let command = self.command();
        fine(Command::new(&command[0]).args(&command[1..]).args(arguments))
    }

    fn command(&self) -> [String; 7] {
        let folder = self.folder.path().display();
        let (storage, run) = (format!("{folder}/storage"), format!("{folder}/run"));
        ["buildah", "--storage-driver", "vfs", "--root", &storage, "--runroot", &run].map(str::to_owned)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // Containers of the vfs driver may stay mounted, which would keep the folder from being removed.
        let command = self.command();
        drop(Command::new(&command[0]).args(&command[1..]).args(["rm", "--all"]).output());
    }
}

//! The daemon's side of the control socket.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::{BODY_MAX, ORDERS, OrderRequest, Refusal, Replies};
use crate::admin::door::{self, Door, Respond};
use crate::admin::routes::{json, method_not_allowed};
use crate::admin::{self, Shown, Snapshot};
use crate::daemon::wake::{Order, Reply, Wake, Waker};

/// How long a connection lasts: longer than a client waits for an order.
pub(in crate::daemon) const LASTS: Duration = Duration::from_mins(15);
/// How long a body may take.
const BODY_WITHIN: Duration = Duration::from_secs(10);
/// What a stranger gets to read.
const TURNED_AWAY: &[u8] = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// Why the control socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The folder is missing or cannot be looked at.
    #[error("the folder of the control socket {0} cannot be used: create it, or set [daemon] control_socket to a path in another one")]
    Folder(PathBuf, #[source] io::Error),
    /// Others could put a socket of their own in our place.
    #[error(
        "others can write to the folder of the control socket {0} (mode {1:o}): chmod go-w it, or set [daemon] control_socket elsewhere"
    )]
    LooseFolder(PathBuf, u32),
    /// Something else than a socket lies there.
    #[error("{0} is there and is no socket: remove it, or set [daemon] control_socket to another path")]
    NotASocket(PathBuf),
    /// Another daemon serves it.
    #[error("another daemon serves {0}: stop it, or set [daemon] control_socket to a path of its own for each")]
    Served(PathBuf),
    /// The path does not fit.
    #[error("the path {0} is too long for a socket (107 bytes at most): set [daemon] control_socket to a shorter one")]
    TooLong(PathBuf),
    /// Anything else.
    #[error("the control socket {0} cannot be made")]
    Bind(PathBuf, #[source] io::Error),
}

/// The bound socket. Its file goes when this is dropped, if it is still this one.
#[derive(Debug)]
pub struct ControlListener {
    listener: UnixListener,
    owner: u32,
    placed: Placed,
}

/// Where a socket was bound, and which file that made.
#[derive(Debug, Clone)]
pub(in crate::daemon) struct Placed {
    path: PathBuf,
    inode: (u64, u64),
}

impl Placed {
    /// Whether the path still leads to that file. While its listener lives, no other file gets its inode.
    pub(in crate::daemon) fn is_there(&self) -> bool {
        std::fs::symlink_metadata(&self.path).is_ok_and(|there| (there.dev(), there.ino()) == self.inode)
    }
}

impl ControlListener {
    /// The path that it was bound to.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.placed.path
    }

    pub(in crate::daemon) fn placed(&self) -> Placed {
        self.placed.clone()
    }
}

/// Binds the socket. A stale one is removed; the caller holds the lock of the state directory, so that no daemon of the same
/// configuration is about to serve it.
///
/// # Errors
/// As [`BindError`] says.
pub fn bind(path: &Path) -> Result<ControlListener, BindError> {
    fit(path)?;
    check_folder(path)?;
    remove_stale(path)?;
    let failed = |error| BindError::Bind(path.to_owned(), error);
    let listener = UnixListener::bind(path).map_err(failed)?;
    // Between the two lines the umask rules; whoever slips in is asked for his uid all the same.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    let made = std::fs::symlink_metadata(path).map_err(failed)?;
    let placed = Placed { path: path.to_owned(), inode: (made.dev(), made.ino()) };
    Ok(ControlListener { listener, owner: nix::unistd::geteuid().as_raw(), placed })
}

/// Whether the socket could be bound here, looked at only.
///
/// # Errors
/// As [`BindError`] says.
pub fn look(path: &Path) -> Result<(), BindError> {
    fit(path)?;
    check_folder(path)?;
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => Err(BindError::NotASocket(path.to_owned())),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// `sun_path` of Linux has 108 bytes, the last of which is zero.
pub(super) fn fits(path: &Path) -> bool {
    path.as_os_str().len() < 108
}

fn fit(path: &Path) -> Result<(), BindError> {
    if fits(path) { Ok(()) } else { Err(BindError::TooLong(path.to_owned())) }
}

fn check_folder(path: &Path) -> Result<(), BindError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let found = std::fs::metadata(folder).map_err(|error| BindError::Folder(path.to_owned(), error))?;
    let mode = found.mode() & 0o7777;
    if mode & 0o022 != 0 { Err(BindError::LooseFolder(path.to_owned(), mode)) } else { Ok(()) }
}

fn remove_stale(path: &Path) -> Result<(), BindError> {
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(BindError::Bind(path.to_owned(), error)),
    };
    if !found.file_type().is_socket() {
        return Err(BindError::NotASocket(path.to_owned()));
    }
    // A daemon with another state directory may have been given the same socket.
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(BindError::Served(path.to_owned()));
    }
    std::fs::remove_file(path).map_err(|error| BindError::Bind(path.to_owned(), error))
}

impl Drop for ControlListener {
    fn drop(&mut self) {
        if self.placed.is_there()
            && let Err(error) = std::fs::remove_file(&self.placed.path)
        {
            tracing::debug!(event = "control.left", "the control socket {} stays behind: {error}", self.placed.path.display());
        }
    }
}

/// Serves until dropped. Orders that were taken are carried out all the same.
pub async fn serve(listener: ControlListener, waker: Waker, snapshot: Arc<dyn Snapshot>) {
    door::serve(listener, Arc::new(Control { waker, shown: Shown::new(snapshot) }), LASTS).await;
}

impl Door for ControlListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<Option<UnixStream>> {
        let (stream, _) = self.listener.accept().await?;
        let uid = match stream.peer_cred() {
            Ok(peer) if peer.uid() == 0 || peer.uid() == self.owner => return Ok(Some(stream)),
            Ok(peer) => Some(peer.uid()),
            Err(_unknown) => None,
        };
        tracing::warn!(
            event = "control.refused",
            uid,
            "a user who is neither the daemon's nor root was turned away from the control socket"
        );
        // It is told as far as that goes at once; nobody waits for a stranger.
        drop(stream.try_write(TURNED_AWAY));
        Ok(None)
    }
}

struct Control {
    waker: Waker,
    shown: Shown,
}

impl Respond for Control {
    async fn respond(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        if head.uri.path() != ORDERS {
            return admin::respond(&self.shown, &head.method, head.uri.path(), head.uri.query(), &head.headers).await;
        }
        if head.method != Method::POST {
            return method_not_allowed("POST");
        }
        let order = match tokio::time::timeout(BODY_WITHIN, read_order(body)).await {
            Ok(Ok(order)) => order,
            Ok(Err(why)) => return refuse(StatusCode::BAD_REQUEST, why),
            Err(_elapsed) => return refuse(StatusCode::REQUEST_TIMEOUT, "the order did not come in time"),
        };
        tracing::info!(event = "control.ordered", verb = order.verb.name(), select = %order.select, "a person ordered {}", order.verb.name());
        // On its own, so that a client who goes away does not call it back half-way.
        match tokio::spawn(carry_out(self.waker.clone(), order)).await {
            Ok(Some(replies)) => json(StatusCode::OK, &Replies { replies }),
            Ok(None) | Err(_) => refuse(StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping; try again when it runs"),
        }
    }
}

async fn carry_out(waker: Waker, order: Order) -> Option<Vec<Reply>> {
    let (answer, replies) = oneshot::channel();
    waker.send(Wake::Order(order, answer)).await.ok()?;
    replies.await.ok()
}

/// Reads an order. It may hold a token, so the buffer is as large as it may get, never moved, and wiped.
async fn read_order(mut body: Incoming) -> Result<Order, String> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(BODY_MAX));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("the order was cut off: {error}"))?;
        let Some(data) = frame.data_ref() else { continue };
        if bytes.len() + data.len() > BODY_MAX {
            return Err(format!("an order has {BODY_MAX} bytes at most"));
        }
        bytes.extend_from_slice(data);
    }
    // serde_json quotes what it stumbles over, which may be a piece of a token: only the place is told.
    let malformed = |error: serde_json::Error| match error.classify() {
        serde_json::error::Category::Data => format!("this is no order (line {}, column {})", error.line(), error.column()),
        serde_json::error::Category::Io | serde_json::error::Category::Syntax | serde_json::error::Category::Eof => {
            format!("this is no JSON (line {}, column {})", error.line(), error.column())
        }
    };
    let request: OrderRequest = serde_json::from_slice(&bytes).map_err(malformed)?;
    request.order().map_err(str::to_owned)
}

fn refuse(status: StatusCode, error: impl Into<String>) -> Response<Full<Bytes>> {
    json(status, &Refusal { error: error.into() })
}

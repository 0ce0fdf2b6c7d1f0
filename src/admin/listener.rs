//! The listener on TCP.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode};
use tokio::net::{TcpListener, TcpStream};

use super::door::{self, Door, Respond};
use super::{Shown, Snapshot, host, respond, routes};

/// How long a connection lasts, a slow reader's included.
const LASTS: Duration = Duration::from_secs(30);

/// Why the admin listener cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Something listens there already.
    #[error("{0} is in use by another program: stop that one, or set [http] listen to another address or to \"off\"")]
    InUse(SocketAddr),
    /// The address belongs to no interface.
    #[error("{0} is not an address of this host: set [http] listen to one that is, 127.0.0.1 for this host only")]
    NotOurs(SocketAddr),
    /// The port is privileged.
    #[error("listening on {0} is not permitted: set [http] listen to a port from 1024 on")]
    NotPermitted(SocketAddr),
    /// Anything else.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
}

/// A bound address.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// The address, with the port that was found where 0 was asked for.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Binds the address.
///
/// # Errors
/// As [`AdminError`] says.
pub async fn bind(address: SocketAddr) -> Result<Listener, AdminError> {
    let bound = async {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Listener { listener, address })
    };
    bound.await.map_err(|error: io::Error| {
        let kind = error.kind();
        if kind == io::ErrorKind::AddrInUse {
            AdminError::InUse(address)
        } else if kind == io::ErrorKind::AddrNotAvailable {
            AdminError::NotOurs(address)
        } else if kind == io::ErrorKind::PermissionDenied {
            AdminError::NotPermitted(address)
        } else {
            AdminError::Listen { address, source: error }
        }
    })
}

/// Serves until dropped.
pub async fn serve(listener: Listener, snapshot: Arc<dyn Snapshot>) {
    // What comes in over an address that maps IPv4 into IPv6 is loopback too.
    let loopback = listener.address.ip().to_canonical().is_loopback();
    door::serve(listener, Arc::new(Tcp { shown: Shown::new(snapshot), loopback }), LASTS).await;
}

impl Door for Listener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<Option<TcpStream>> {
        self.listener.accept().await.map(|(stream, _)| Some(stream))
    }
}

struct Tcp {
    shown: Shown,
    loopback: bool,
}

impl Respond for Tcp {
    async fn respond(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, _body) = request.into_parts();
        if self.loopback
            && let Some(why) = host::refusal(&head.uri, &head.headers)
        {
            return routes::plain(StatusCode::FORBIDDEN, why);
        }
        respond(&self.shown, &head.method, head.uri.path(), head.uri.query(), &head.headers).await
    }
}

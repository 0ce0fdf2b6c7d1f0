//! The one boundary to the network: what leaves, how long it may take, and how much of an answer is read.
//!
//! Two clients, because a refresh must be sent at most once: *once* has no pool (a stale pooled connection is the usual cause of
//! a request whose fate is unknown), *pooled* serves the calls without an effect. Neither retries, follows redirects (a redirect
//! would carry the secrets of the URL elsewhere), reads proxies from the environment, or asks for compression. Roots of trust are
//! loaded at the first call over TLS, off the event loop; calls on a loopback address without TLS never load them.
//!
//! An error of reqwest never leaves this file, and its URL is cut off first.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap, HeaderValue};
use reqwest::{Certificate, Client, Proxy, Response, redirect, retry};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::sync::OnceCell;
use zeroize::Zeroizing;

use super::url::{GraphBase, GraphUrl};

/// The longest body that is read, in bytes. The largest honest answer is an introspection with a few hundred targets.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// How long calls may take, body included.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// Name resolution, TCP and TLS.
    pub connect: Duration,
    /// A refresh.
    pub refresh: Duration,
    /// Any other call.
    pub other: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), refresh: Duration::from_secs(15), other: Duration::from_secs(30) }
    }
}

/// How calls leave this host, the same for all apps.
#[derive(Default)]
pub struct TransportSettings {
    /// A proxy for calls that leave the host; none unless set. May hold a password, so it is never shown.
    pub proxy: Option<String>,
    /// PEM of roots that are trusted beside those of the system.
    pub ca_pem: Option<Vec<u8>>,
    /// `User-Agent`.
    pub user_agent: String,
    /// How long calls may take.
    pub deadlines: Deadlines,
}

/// Why calls cannot leave like this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TransportSettingsError {
    /// The proxy is no URL.
    #[error("the proxy is not a URL of the form http://host:port")]
    Proxy,
    /// The file of roots is no PEM, or holds no certificate.
    #[error("the file of certificate authorities holds no PEM certificate that can be read")]
    Authorities,
    /// The user agent holds a character that a header cannot.
    #[error("the user agent holds a character that a header cannot hold")]
    UserAgent,
}

/// Sends calls. Made once and shared by the clients of all apps, because each set of roots costs memory.
pub struct Transport {
    proxy: Option<Proxy>,
    roots: Vec<Certificate>,
    user_agent: HeaderValue,
    deadlines: Deadlines,
    plain: Clients,
    loopback_tls: Clients,
    network: Clients,
}

/// The clients of one route, each built at its first call.
#[derive(Default)]
struct Clients {
    once: OnceCell<Client>,
    pooled: OnceCell<Client>,
}

/// Which client carries a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carrier {
    /// No pool: for a call that must not be sent twice.
    Once,
    /// Pooled connections.
    Pooled,
}

/// Where calls go, as far as the client differs by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Plain,
    LoopbackTls,
    Network,
}

impl Route {
    fn of(base: &GraphBase) -> Self {
        match (base.is_plain(), base.is_loopback()) {
            (true, _) => Self::Plain,
            (false, true) => Self::LoopbackTls,
            (false, false) => Self::Network,
        }
    }
}

/// What became of sending a call.
pub(super) enum Delivery {
    /// No connection came about, so nothing was sent.
    NotSent(String),
    /// It may have been sent, and no answer came.
    Lost(String),
    /// An answer began.
    Answered(Received),
}

/// An answer, the body perhaps lost on the way.
pub(super) struct Received {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Result<Zeroizing<Vec<u8>>, String>,
}

impl Transport {
    /// Prepares to send; connects and loads nothing yet.
    ///
    /// # Errors
    /// When the proxy is no URL, the roots are no PEM, or the user agent is no header value.
    pub fn new(settings: TransportSettings) -> Result<Arc<Self>, TransportSettingsError> {
        let proxy = settings.proxy.map(Proxy::all).transpose().map_err(|_url| TransportSettingsError::Proxy)?;
        let roots = match settings.ca_pem {
            None => Vec::new(),
            Some(pem) => read_roots(&pem).filter(|roots| !roots.is_empty()).ok_or(TransportSettingsError::Authorities)?,
        };
        let user_agent = HeaderValue::from_str(&settings.user_agent).map_err(|_character| TransportSettingsError::UserAgent)?;
        Ok(Arc::new(Self {
            proxy,
            roots,
            user_agent,
            deadlines: settings.deadlines,
            plain: Clients::default(),
            loopback_tls: Clients::default(),
            network: Clients::default(),
        }))
    }

    /// How long calls may take.
    pub(super) const fn deadlines(&self) -> &Deadlines {
        &self.deadlines
    }

    /// Sends one GET and reads its answer, all within the deadline.
    pub(super) async fn get(&self, base: &GraphBase, url: GraphUrl, carrier: Carrier, deadline: Duration) -> Delivery {
        let client = match self.client(Route::of(base), carrier).await {
            Ok(client) => client,
            Err(what) => return Delivery::NotSent(what),
        };
        match client.get(url.into_inner()).timeout(deadline).send().await {
            Ok(response) => {
                let (status, headers) = (response.status().as_u16(), response.headers().clone());
                Delivery::Answered(Received { status, headers, body: read_body(response).await })
            }
            Err(error) if error.is_connect() => Delivery::NotSent(format!("no connection: {}", cause(error))),
            Err(error) => Delivery::Lost(format!("no answer: {}", cause(error))),
        }
    }

    async fn client(&self, route: Route, carrier: Carrier) -> Result<&Client, String> {
        let clients = match route {
            Route::Plain => &self.plain,
            Route::LoopbackTls => &self.loopback_tls,
            Route::Network => &self.network,
        };
        let cell = match carrier {
            Carrier::Once => &clients.once,
            Carrier::Pooled => &clients.pooled,
        };
        cell.get_or_try_init(|| self.build(route, carrier)).await
    }

    /// Builds a client. Reading the system's roots takes tens of milliseconds, hence the blocking pool.
    async fn build(&self, route: Route, carrier: Carrier) -> Result<Client, String> {
        let mut builder = Client::builder()
            .http1_only()
            .retry(retry::never())
            .redirect(redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .user_agent(self.user_agent.clone())
            .default_headers(HeaderMap::from_iter([
                (ACCEPT, HeaderValue::from_static("application/json")),
                (ACCEPT_ENCODING, HeaderValue::from_static("identity")),
            ]))
            .connect_timeout(self.deadlines.connect)
            .pool_max_idle_per_host(match carrier {
                Carrier::Once => 0,
                Carrier::Pooled => 2,
            });
        match (route, &self.proxy) {
            (Route::Network, Some(proxy)) => builder = builder.proxy(proxy.clone()),
            (Route::Plain | Route::LoopbackTls | Route::Network, _) => {}
        }
        builder = match route {
            Route::Plain => builder.tls_certs_only([]),
            Route::LoopbackTls | Route::Network => builder.tls_certs_merge(self.roots.clone()),
        };
        // An error only says that another part of the process was first with the same provider.
        let _standing = rustls::crypto::ring::default_provider().install_default();
        let built = match route {
            Route::Plain => builder.build(),
            Route::LoopbackTls | Route::Network => {
                tokio::task::spawn_blocking(move || builder.build()).await.map_err(|_cancelled| "the process is ending".to_owned())?
            }
        };
        built.map_err(|error| format!("the HTTP client cannot be built: {}", cause(error)))
    }
}

/// The certificates of a PEM file, each tried as a root: reqwest itself would find fault with one at the first call only.
fn read_roots(pem: &[u8]) -> Option<Vec<Certificate>> {
    let mut trial = RootCertStore::empty();
    CertificateDer::pem_slice_iter(pem)
        .map(|certificate| {
            let certificate = certificate.ok()?;
            trial.add(certificate.clone()).ok()?;
            Certificate::from_der(&certificate).ok()
        })
        .collect()
}

/// Reads a body up to the cap. The text of the error is ours.
async fn read_body(mut response: Response) -> Result<Zeroizing<Vec<u8>>, String> {
    let encoded =
        response.headers().get_all(CONTENT_ENCODING).iter().any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"));
    if encoded {
        return Err("the body is compressed, which was not asked for".to_owned());
    }
    let too_long = || format!("the body is longer than {} KiB", BODY_BYTES_MAX / 1024);
    let announced = response.content_length().unwrap_or(0);
    if announced > BODY_BYTES_MAX as u64 {
        return Err(too_long());
    }
    // All at once where the length is known: a growing buffer leaves unwiped copies behind.
    let mut body = Zeroizing::new(Vec::with_capacity(usize::try_from(announced).unwrap_or(0).max(4096)));
    loop {
        match response.chunk().await {
            Ok(None) => return Ok(body),
            Ok(Some(chunk)) if body.len() + chunk.len() > BODY_BYTES_MAX => return Err(too_long()),
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Err(error) => return Err(format!("the body broke off: {}", cause(error))),
        }
    }
}

/// The innermost cause of an error in its own words, without the URL.
fn cause(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return "the deadline passed".to_owned();
    }
    let error = error.without_url();
    let mut innermost = error.source();
    while let Some(next) = innermost.and_then(std::error::Error::source) {
        innermost = Some(next);
    }
    innermost.map_or_else(|| error.to_string(), ToString::to_string)
}

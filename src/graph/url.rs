//! The URLs of the calls, built in one place because nearly every one carries a secret.
//!
//! Meta documents `oauth/access_token` and `oauth/revoke` with everything in the query, so a secret in a URL cannot be avoided;
//! it can be kept from being shown. [`GraphUrl`] has neither `Display` nor `Debug`, and only the transport opens it.

use std::net::IpAddr;

use reqwest::Url;

/// A call of ours. Its name stands in logs, errors and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `oauth/access_token` with `fb_exchange_token`.
    Refresh,
    /// `oauth/access_token` with `client_credentials`.
    AppToken,
    /// `oauth/revoke`.
    Revoke,
    /// `debug_token`.
    DebugToken,
    /// `me`.
    Me,
}

impl Endpoint {
    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refresh => "refresh",
            Self::AppToken => "app_token",
            Self::Revoke => "revoke",
            Self::DebugToken => "debug_token",
            Self::Me => "me",
        }
    }

    /// Whether the app's id and secret are the credential of the call.
    pub(super) const fn is_oauth(self) -> bool {
        matches!(self, Self::Refresh | Self::AppToken | Self::Revoke)
    }

    const fn path(self) -> &'static str {
        match self {
            Self::Refresh | Self::AppToken => "oauth/access_token",
            Self::Revoke => "oauth/revoke",
            Self::DebugToken => "debug_token",
            Self::Me => "me",
        }
    }
}

/// A URL with its secrets. Never shown.
pub(super) struct GraphUrl(Url);

impl GraphUrl {
    /// Opens it, for the one place that sends.
    pub(super) fn into_inner(self) -> Url {
        self.0
    }
}

/// Where an app's calls go.
#[derive(Debug, Clone)]
pub struct GraphBase {
    url: Url,
    version: String,
    loopback: bool,
}

/// Why calls cannot go there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphBaseError {
    /// The text is no URL, or holds more than scheme, host, port and path.
    #[error("graph_url must be a URL like https://graph.facebook.com, without user, query or fragment")]
    Url,
    /// Secrets would cross a network in the clear.
    #[error("graph_url must be https, or http on a loopback address")]
    Scheme,
    /// Calls without a version are served by whatever version Meta likes.
    #[error("graph_version must be of the form v26.0")]
    Version,
}

impl GraphBase {
    /// Takes the base URL and the version of the API.
    ///
    /// # Errors
    /// When the URL is none, would send secrets in the clear over a network, or the version is not of the form `v26.0`.
    pub fn new(base_url: &str, version: &str) -> Result<Self, GraphBaseError> {
        let url = Url::parse(base_url).map_err(|_syntax| GraphBaseError::Url)?;
        let bare = url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
        let host = url.host_str().filter(|_| bare).ok_or(GraphBaseError::Url)?;
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let loopback = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
        match url.scheme() {
            "https" => {}
            "http" if loopback => {}
            _ => return Err(GraphBaseError::Scheme),
        }
        if !is_version(version) {
            return Err(GraphBaseError::Version);
        }
        Ok(Self { url, version: version.to_owned(), loopback })
    }

    /// The version that is asked for.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whether calls stay on this host, so that no proxy may see them.
    pub(super) const fn is_loopback(&self) -> bool {
        self.loopback
    }

    /// Whether calls go without TLS.
    pub(super) fn is_plain(&self) -> bool {
        self.url.scheme() == "http"
    }

    /// The URL of one call.
    pub(super) fn url(&self, endpoint: Endpoint, query: &[(&str, &str)]) -> GraphUrl {
        let mut url = self.url.clone();
        url.set_path(&format!("{}/{}/{}", self.url.path().trim_end_matches('/'), self.version, endpoint.path()));
        url.query_pairs_mut().extend_pairs(query);
        GraphUrl(url)
    }
}

/// `v`, digits, a point, digits: Meta's own rule for the version segment.
pub(super) fn is_version(text: &str) -> bool {
    let digits = |part: &str| (1..=4).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    text.strip_prefix('v').and_then(|numbers| numbers.split_once('.')).is_some_and(|(major, minor)| digits(major) && digits(minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_the_version_and_an_encoded_query() {
        for base in ["https://graph.facebook.com", "https://graph.facebook.com/"] {
            let base = GraphBase::new(base, "v26.0").unwrap();
            let url = base.url(Endpoint::DebugToken, &[("input_token", "a&b=c d"), ("access_token", "1|x")]).into_inner();
            assert_eq!(url.as_str(), "https://graph.facebook.com/v26.0/debug_token?input_token=a%26b%3Dc+d&access_token=1%7Cx");
        }
        let below = GraphBase::new("http://127.0.0.1:9/graph", "v26.0").unwrap();
        assert_eq!(below.url(Endpoint::Me, &[]).into_inner().path(), "/graph/v26.0/me");
    }

    #[test]
    fn secrets_never_cross_a_network_in_the_clear() {
        for plain in ["http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1"] {
            assert!(GraphBase::new(plain, "v1.0").unwrap().is_plain());
        }
        for bad in ["http://graph.facebook.com", "http://10.0.0.1", "ftp://127.0.0.1", "http://127.0.0.1.example.com", "unix:/x"] {
            assert!(matches!(GraphBase::new(bad, "v1.0"), Err(GraphBaseError::Scheme | GraphBaseError::Url)), "{bad}");
        }
        for bad in ["graph.facebook.com", "", "https://u@h", "https://u:p@h", "https://h?x=1", "https://h#x"] {
            assert_eq!(GraphBase::new(bad, "v1.0").unwrap_err(), GraphBaseError::Url, "{bad}");
        }
    }

    #[test]
    fn a_version_is_never_missing() {
        for bad in ["", "26.0", "v26", "v26.", "v.0", "v26.0/..", "V26.0", "v26.0.1", "v99999.0"] {
            assert_eq!(GraphBase::new("https://h", bad).unwrap_err(), GraphBaseError::Version, "{bad}");
        }
    }
}

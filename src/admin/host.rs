//! What a listener on loopback refuses: requests that were not meant for this host, or that do not come from it.

use std::net::IpAddr;

use hyper::HeaderMap;
use hyper::http::Uri;
use hyper::http::uri::Authority;

/// Why a request that came in over loopback is refused; `None` when it is not.
///
/// A missing `Host` passes: probes that speak HTTP/1.0 send none, and a browser always sends one.
pub(super) fn refusal(uri: &Uri, headers: &HeaderMap) -> Option<&'static str> {
    if headers.keys().any(|name| name == "forwarded" || name.as_str().starts_with("x-forwarded-")) {
        return Some("this listens for its own host only, and the request was forwarded from elsewhere\n");
    }
    let hosts = headers.get_all(hyper::header::HOST).iter().map(|host| host.to_str().ok().and_then(|host| host.parse().ok()));
    let mut named = hosts.chain(uri.authority().cloned().map(Some));
    let foreign = |host: Option<Authority>| host.is_none_or(|host| !is_local(host.host()));
    named.any(foreign).then_some("this listens for its own host only: say localhost, 127.0.0.1 or [::1]\n")
}

/// A name can be made to lead anywhere; an address of the loopback net cannot.
fn is_local(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(headers: &[(&'static str, &str)], uri: &str) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        refusal(&uri.parse().unwrap(), &map).is_some()
    }

    #[test]
    fn only_this_hosts_names_pass() {
        for (host, pass) in [
            ("localhost", true),
            ("LOCALHOST:9469", true),
            ("127.0.0.1", true),
            ("127.0.0.1:1", true),
            ("[::1]:9469", true),
            ("127.9.9.9", true),
            ("evil.example", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("10.0.0.1", false),
            ("localhost:x:y", false),
            ("", false),
        ] {
            assert_eq!(refused(&[("host", host)], "/"), !pass, "{host:?}");
        }
        assert!(!refused(&[], "/"), "HTTP/1.0 without a host");
    }

    #[test]
    fn a_second_name_or_an_absolute_target_gets_nobody_in() {
        assert!(refused(&[("host", "localhost"), ("host", "evil.example")], "/"));
        assert!(refused(&[("host", "localhost")], "http://evil.example/metrics"));
        assert!(!refused(&[("host", "localhost")], "http://127.0.0.1:9469/metrics"));
    }

    #[test]
    fn what_was_forwarded_is_refused() {
        for name in ["x-forwarded-for", "forwarded", "x-forwarded-host"] {
            assert!(refused(&[("host", "localhost"), (name, "127.0.0.1")], "/"), "{name}");
        }
    }
}

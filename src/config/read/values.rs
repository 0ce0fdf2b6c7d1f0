//! Single values: addresses, paths, names, versions, each checked where it stands.

use std::net::{IpAddr, SocketAddr};
use std::path::{Component, Path, PathBuf};

use reqwest::Url;

use crate::config::mistake::{Wrong, looks_secret, may_show, name_character, passes_for_secret, shown};

/// A service that secrets are sent to: https, or http where the packets never leave the host.
pub(super) fn service_url(text: &str) -> Result<Url, Wrong> {
    let url = bare_url(text, "write an address as in \"https://graph.facebook.com\"")?;
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err(Wrong::new(
            format!("{} would carry secrets in plain text over the network", shown_url(&url)),
            "write https://, or an address on loopback (127.0.0.0/8, [::1], localhost)",
        )),
        _ => Err(Wrong::new(format!("{} is neither https nor http", shown_url(&url)), "write https://")),
    }
}

/// A proxy. Calls are encrypted inside it, so plain http to it is fine.
pub(super) fn proxy_url(text: &str) -> Result<Url, Wrong> {
    let url = bare_url(text, "write an address as in \"http://proxy.internal:3128\"")?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Wrong::new(format!("{} is neither http nor https", shown_url(&url)), "write http:// or https://"));
    }
    if url.path() != "/" {
        return Err(Wrong::new(format!("{} has a path", shown_url(&url)), "write a proxy as scheme, host and port only"));
    }
    Ok(url)
}

fn bare_url(text: &str, fix: &str) -> Result<Url, Wrong> {
    // What is no URL may be anything, so it is not repeated; a parser's error tells nothing of it.
    let url = Url::parse(text).map_err(|error| Wrong::new(format!("the value is no URL ({error})"), fix))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Wrong::new("the URL holds a user or a password, and secrets may stand here by reference only", "write it without"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(Wrong::new("the URL has a query or a fragment", "write it without"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(Wrong::new("the value names no host", fix));
    }
    Ok(url)
}

/// Scheme, host and port: a path may hold a secret.
fn shown_url(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    if may_show(host, |c| name_character(c) || matches!(c, '[' | ']' | ':')) {
        format!("\"{}://{host}{port}\"", url.scheme())
    } else {
        "the value".to_owned()
    }
}

fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

pub(super) fn listen(text: &str) -> Result<Option<SocketAddr>, Wrong> {
    if text == "off" {
        return Ok(None);
    }
    let fix = if text.starts_with("localhost") {
        "write 127.0.0.1 or [::1] for localhost"
    } else {
        "write address and port, as in \"127.0.0.1:9469\", or \"off\""
    };
    let rest = text.strip_prefix("localhost").unwrap_or(text);
    let plain = rest.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | ':' | '[' | ']' | '*'));
    text.parse().map(Some).map_err(|_no_address| Wrong::new(format!("{} is no address with a port", shown(text, |_| plain)), fix))
}

/// An entry is told of wherever its token is, so a token or an app secret must not pass for one.
pub(super) fn entry(text: &str) -> Result<String, Wrong> {
    let hex = text.len() == 32 && text.chars().all(|c| c.is_ascii_hexdigit());
    if hex || text.split('/').any(|part| part.starts_with("EAA") && looks_secret(part)) {
        return Err(Wrong::new("the value looks like a secret, not like the name of one", "name the entry that holds it"));
    }
    Ok(text.to_owned())
}

/// An id that Meta gives: digits.
pub(super) fn digits(text: &str) -> Result<String, Wrong> {
    if !text.is_empty() && text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(
        format!("{} is no id of Meta's", shown(text, |c| c.is_ascii_digit() || matches!(c, ' ' | '-' | '_' | '.'))),
        "write its digits, as in \"1234567890\"",
    ))
}

pub(super) fn graph_version(text: &str) -> Result<String, Wrong> {
    let number = |part: &str| !part.is_empty() && part.len() <= 4 && part.bytes().all(|byte| byte.is_ascii_digit());
    let parts = text.strip_prefix('v').and_then(|rest| rest.split_once('.'));
    if parts.is_some_and(|(major, minor)| number(major) && number(minor)) {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(
        format!("{} is no version of the Graph API", shown(text, |c| c.is_ascii_digit() || matches!(c, 'v' | 'V' | '.'))),
        "write it as in \"v26.0\"",
    ))
}

pub(super) fn region(text: &str) -> Result<String, Wrong> {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.contains('-') && text.len() <= 32 && text.chars().all(fine) {
        return Ok(text.to_owned());
    }
    // Words, and a number by itself: what mixes them may be a password.
    let word = |part: &str| part.chars().all(|c| c.is_ascii_alphabetic()) || part.len() == 1;
    let plain = text.split(['-', '_', ' ']).all(word);
    Err(Wrong::new(format!("{} is no AWS region", shown(text, |_| plain)), "write it as in \"eu-west-1\""))
}

pub(super) fn role_arn(text: &str) -> Result<String, Wrong> {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let fine = match parts.as_slice() {
        ["arn", partition, "iam", "", account, role] => {
            partition.starts_with("aws") && account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit()) && is_role(role)
        }
        _ => false,
    };
    if fine {
        return Ok(text.to_owned());
    }
    Err(Wrong::new("the value is no ARN of an IAM role", "write it as in \"arn:aws:iam::111122223333:role/evertoken\""))
}

fn is_role(resource: &str) -> bool {
    resource.strip_prefix("role/").is_some_and(|name| !name.is_empty() && name.chars().all(|c| c.is_ascii_graphic()))
}

/// A word without blanks: a group, a profile.
pub(super) fn plain(text: &str) -> Result<String, Wrong> {
    if text.is_empty() || text.len() > 256 || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Wrong::new("the value is empty, too long, or holds a blank", "write one word"));
    }
    if passes_for_secret(text) {
        return Err(Wrong::new("the value looks like a secret, not like a name", "write the name"));
    }
    Ok(text.to_owned())
}

/// What a role's owner wants to see (AWS: 2 to 1224 characters of `[\w+=,.@:/-]`). Its owner may treat it as a secret: not shown.
pub(super) fn external_id(text: &str) -> Result<String, Wrong> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "_+=,.@:/-".contains(c);
    if (2..=1224).contains(&text.len()) && text.chars().all(fine) {
        return Ok(text.to_owned());
    }
    Err(Wrong::new("the value is no external id", "write 2 to 1224 letters, digits or any of _+=,.@:/-"))
}

/// Permission bits of a published token: the owner reads and may write, the group at most reads, others nothing.
pub(super) fn mode(text: &str) -> Result<u32, Wrong> {
    let fix = "write \"0640\", or \"0600\" where one user reads";
    let octal = (3..=4).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    let bits = if octal { u32::from_str_radix(text, 8).ok() } else { None };
    let bits = bits.ok_or_else(|| {
        Wrong::new(format!("{} is no octal mode", shown(text, |c| c.is_ascii_digit() || matches!(c, 'r' | 'w' | 'x' | '-'))), fix)
    })?;
    if bits & 0o007 != 0 {
        return Err(Wrong::new(format!("the mode {bits:04o} lets everybody on the host have the tokens"), fix));
    }
    if bits & 0o020 != 0 {
        return Err(Wrong::new(format!("the mode {bits:04o} lets the group change tokens"), fix));
    }
    if bits & !0o640 != 0 || bits & 0o400 == 0 {
        return Err(Wrong::new(format!("the mode {bits:04o} does not suit a file that the owner writes and readers read"), fix));
    }
    Ok(bits)
}

/// A path; a relative one starts at the folder of the file that names it.
pub(super) fn path(text: &str, folder: &Path) -> Result<PathBuf, Wrong> {
    if text.is_empty() || text.contains('\0') {
        return Err(Wrong::new("the path is empty or holds a NUL", "write an absolute path"));
    }
    // A path is told of later on, so what is none must not pass for one.
    if passes_for_secret(text) && !text.contains('/') {
        return Err(Wrong::new("the value looks like a secret, not like a path", "write the path, as in ./NAME beside this file"));
    }
    Ok(absolute(&folder.join(text)))
}

/// The path from the root, without `.` and `..`. Links are not looked at: what they lead to may change.
pub(in crate::config) fn absolute(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_no_working_folder| path.to_owned());
    whole.components().fold(PathBuf::new(), |mut clean, part| {
        match part {
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => clean.push(part),
        }
        clean
    })
}

const PLACEHOLDERS: [&str; 5] = ["token", "appsecret_proof", "fingerprint", "app_id", "system_user_id"];

/// A template from which the token can be read back: it holds `{{token}}`, knows every placeholder, and each value ends where a
/// literal begins that no value can hold.
pub(super) fn template(text: &str) -> Result<String, Wrong> {
    let known = PLACEHOLDERS.map(|name| format!("{{{{{name}}}}}")).join(" ");
    let mut pieces = text.split("{{");
    let opens = pieces.next().unwrap_or_default();
    if opens.contains("}}") {
        return Err(Wrong::new("\"}}\" stands without a \"{{\" before it", format!("known placeholders: {known}")));
    }
    let mut names = Vec::new();
    let pieces: Vec<&str> = pieces.collect();
    for (at, piece) in pieces.iter().enumerate() {
        let Some((name, literal)) = piece.split_once("}}") else {
            return Err(Wrong::new("a \"{{\" is not closed", format!("known placeholders: {known}")));
        };
        if !PLACEHOLDERS.contains(&name) {
            return Err(Wrong::new(
                format!("the placeholder {} is not known", shown(name, |c| c.is_ascii_lowercase() || matches!(c, '_' | ' '))),
                format!("known placeholders: {known}"),
            ));
        }
        names.push(name);
        let last = at + 1 == pieces.len();
        if literal.is_empty() && !last {
            let what = format!("nothing stands between {{{{{name}}}}} and the next placeholder, so their values cannot be told apart");
            return Err(Wrong::new(what, "put a line end or another separator between them"));
        }
        if literal.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            let what = format!("the text after {{{{{name}}}}} begins with a letter or digit, which the value could hold as well");
            return Err(Wrong::new(what, "put a line end or another separator between them"));
        }
    }
    if !names.contains(&"token") {
        return Err(Wrong::new("the template does not hold {{token}}", "put {{token}} where the token belongs"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_stays_on_loopback() {
        for url in ["https://graph.facebook.com", "http://127.0.0.1:4566", "http://127.9.9.9", "http://[::1]:1", "http://localhost:80/x"] {
            assert!(service_url(url).is_ok(), "{url}");
        }
        for url in
            ["http://graph.facebook.com", "http://127.0.0.1.evil.net", "http://localhost.evil", "ftp://localhost", "graph", "https://"]
        {
            assert!(service_url(url).is_err(), "{url}");
        }
        assert!(service_url("http://0.0.0.0").is_err());
        assert!(service_url("https://h/?access_token=x").is_err());
    }

    #[test]
    fn a_password_in_a_url_is_refused_and_not_shown() {
        for url in ["http://u:hunter2@proxy:3128", "http://u:hunter2@:99999", "hunter2@proxy"] {
            let wrong = proxy_url(url).unwrap_err();
            assert!(!format!("{wrong:?}").contains("hunter2"), "{wrong:?}");
        }
        assert!(proxy_url("http://proxy.internal:3128").is_ok());
    }

    #[test]
    fn a_mode_keeps_others_out() {
        assert_eq!(mode("0640").unwrap(), 0o640);
        assert_eq!(mode("600").unwrap(), 0o600);
        for text in ["0644", "0660", "0700", "0777", "4640", "0040", "0000", "640x", "9", "", "rw-r-----"] {
            assert!(mode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_template_can_be_read_back() {
        for text in ["{{token}}", "T={{token}}\nP={{appsecret_proof}}\n", "{{app_id}}|{{token}}"] {
            assert!(template(text).is_ok(), "{text}");
        }
        for (text, why) in [
            ("T=", "does not hold"),
            ("{{app_id}}", "does not hold"),
            ("{{tokn}}", "not known"),
            ("{{token}}{{app_id}}", "nothing stands between"),
            ("{{token}}x", "letter or digit"),
            ("{{token", "not closed"),
            ("}}{{token}}", "without"),
        ] {
            assert!(template(text).unwrap_err().what.contains(why), "{text}");
        }
    }

    #[test]
    fn versions_regions_roles_and_ids() {
        assert!(graph_version("v26.0").is_ok());
        for text in ["26.0", "v26", "v26.", "v.0", "v26.0.1", "v26.x", "V26.0"] {
            assert!(graph_version(text).is_err(), "{text}");
        }
        assert!(region("eu-west-1").is_ok() && region("Europe").is_err() && region("eu west").is_err());
        assert!(role_arn("arn:aws:iam::111122223333:role/evertoken").is_ok());
        assert!(role_arn("arn:aws:iam::111122223333:user/x").is_err() && role_arn("evertoken").is_err());
        assert!(digits("10001").is_ok() && digits("").is_err() && digits("1e3").is_err());
        assert!(!digits("EAATESTTOKEN1").unwrap_err().what.contains("EAA"));
    }

    #[test]
    fn paths_start_at_the_file_that_names_them() {
        assert_eq!(path("../x/./y", Path::new("/etc/evertoken")).unwrap(), Path::new("/etc/x/y"));
        assert_eq!(path("/a", Path::new("/etc")).unwrap(), Path::new("/a"));
        assert_eq!(absolute(Path::new("/../..")), Path::new("/"));
        assert!(path("", Path::new("/etc")).is_err());
    }
}

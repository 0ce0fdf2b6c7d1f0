//! What was found, grouped by what it is about.

use crate::config::{ConfigError, Loaded, Mistake};
use crate::rotation::fault::{Fault, FaultClass};
use crate::store::{Finding, Severity};

/// The findings about one thing.
#[derive(Debug)]
pub(super) struct Section {
    /// What they are about: `configuration`, `app acme`, `token bot`.
    pub(super) subject: String,
    pub(super) findings: Vec<Finding>,
}

impl Section {
    pub(super) fn new(subject: impl Into<String>) -> Self {
        Self { subject: subject.into(), findings: Vec::new() }
    }

    pub(super) fn fine(&mut self, what: impl Into<String>) {
        self.take(Severity::Fine, what, "");
    }

    pub(super) fn warning(&mut self, what: impl Into<String>, remedy: impl Into<String>) {
        self.take(Severity::Warning, what, remedy);
    }

    pub(super) fn error(&mut self, what: impl Into<String>, remedy: impl Into<String>) {
        self.take(Severity::Error, what, remedy);
    }

    pub(super) fn take(&mut self, severity: Severity, what: impl Into<String>, remedy: impl Into<String>) {
        self.findings.push(Finding { severity, what: what.into(), remedy: remedy.into() });
    }

    /// An error whose text ends with its remedy after a colon, as those about this host's own things do.
    pub(super) fn failure(&mut self, error: &dyn std::error::Error) {
        let text = error.to_string();
        let (what, remedy) = text.split_once(": ").unwrap_or((&text, ""));
        let causes: String = std::iter::successors(error.source(), |cause| cause.source()).map(|cause| format!(": {cause}")).collect();
        self.error(format!("{what}{causes}"), remedy);
    }

    pub(super) fn worst(&self) -> Severity {
        self.findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Fine)
    }

    /// Errors become warnings: what is missing on this host need not be missing where the configuration goes.
    pub(super) fn soften(&mut self) {
        for finding in &mut self.findings {
            finding.severity = finding.severity.min(Severity::Warning);
        }
    }
}

/// The name of a severity, as printed.
pub(super) const fn name(severity: Severity) -> &'static str {
    match severity {
        Severity::Fine => "fine",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

/// A configuration that may be used.
pub(super) fn configuration(loaded: &Loaded) -> Section {
    let mut section = Section::new("configuration");
    let settings = &loaded.settings;
    let files: Vec<String> = loaded.files.iter().map(|file| file.display().to_string()).collect();
    let count = |count: usize, one: &str| if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") };
    section.fine(format!(
        "{} with {} and {}, in {}",
        count(settings.tokens.len(), "token"),
        count(settings.apps.len(), "app"),
        count(settings.stores.len(), "store"),
        files.join(", ")
    ));
    if settings.tokens.is_empty() {
        section.warning("there is no token to look after", "add a table [tokens.NAME]");
    }
    loaded.warnings.iter().for_each(|warning| section.take(Severity::Warning, place(warning), warning.fix.clone()));
    section
}

/// A configuration that may not.
pub(super) fn mistakes(error: &ConfigError) -> Section {
    let mut section = Section::new("configuration");
    error.mistakes.iter().for_each(|mistake| section.error(place(mistake), mistake.fix.clone()));
    section
}

/// A mistake without its fix.
fn place(mistake: &Mistake) -> String {
    Mistake { fix: String::new(), ..mistake.clone() }.to_string()
}

/// What to do about a call to Meta that failed for app `app`.
pub(super) fn remedy_at_meta(fault: &Fault, app: &str) -> String {
    match fault.class {
        FaultClass::Unreachable => {
            "look at this host's way to it: DNS, firewall, [network] proxy (a proxy in the environment is not used), graph_url".to_owned()
        }
        FaultClass::Transient => "nothing to mend here: check again when Meta is well".to_owned(),
        FaultClass::Throttled => fault.wait.map_or_else(
            || "leave the app alone for a while, then check again".to_owned(),
            |wait| format!("leave the app alone for {}, then check again", crate::config::display_duration(wait)),
        ),
        FaultClass::TokenDead => "give the entry a living token (`evertoken adopt --token-file` where it is empty)".to_owned(),
        FaultClass::AppCredential => {
            format!("compare [apps.{app}] id and secret with the app's dashboard at Meta (App settings, Basic)")
        }
        FaultClass::Permission => "give the app or its system user the permission that is named".to_owned(),
        FaultClass::Policy => "a person must clear this in Meta's dashboard or Business Suite".to_owned(),
        FaultClass::BadRequest => format!("look at graph_url and graph_version of [apps.{app}]"),
        FaultClass::Denied | FaultClass::Missing | FaultClass::Limit => "see what it says".to_owned(),
    }
}

/// What to do about a refusal of AWS's or a want of credentials, by the text that says which call was refused and how. Several troubles
/// of different people are of one class, so the class alone would give most of them a wrong remedy.
pub(super) fn remedy_at_aws(what: &str) -> Option<String> {
    if what.contains("for want of AWS credentials") {
        return Some(if what.contains("AssumeRole") {
            "allow sts:AssumeRole on role_arn to evertoken's identity, and let that role's trust policy name it (with external_id, where set)"
                .to_owned()
        } else if what.to_lowercase().contains("expired") {
            RENEW.to_owned()
        } else {
            "give this process AWS credentials: a role of its pod, task or instance; a profile; or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
                .to_owned()
        });
    }
    let (call, rest) = what.split_once(" was refused: ")?;
    let (action, entry) = call.split_once(" on ")?;
    let code = rest.split(' ').next().unwrap_or_default();
    match code {
        "ExpiredToken" | "ExpiredTokenException" => Some(RENEW.to_owned()),
        "UnrecognizedClientException" | "InvalidClientTokenId" => {
            Some("the access key is not known there: look whether it was deleted, and at the region".to_owned())
        }
        "InvalidSignatureException" | "SignatureDoesNotMatch" => {
            Some("the secret access key does not belong to the key id, or the clock of this host is off".to_owned())
        }
        "DecryptionFailure" | "EncryptionFailure" => Some(ALLOW_KEY.to_owned()),
        "AccessDeniedException" | "AccessDenied" if rest.to_lowercase().contains("kms") => Some(ALLOW_KEY.to_owned()),
        "AccessDeniedException" | "AccessDenied" => {
            Some(format!("allow secretsmanager:{action} on {entry} to evertoken's identity (docs/aws.md has the policy)"))
        }
        _ => None,
    }
}

const RENEW: &str =
    "the AWS credentials have expired: log in anew, or give evertoken some that renew themselves (a role of its pod, task or instance)";
const ALLOW_KEY: &str =
    "allow kms:Decrypt and kms:GenerateDataKey on the secret's key to evertoken's identity, also in the key's own policy";

/// What to do about a call to a store that failed.
pub(super) fn remedy_at_store(fault: &Fault, store: &str) -> String {
    if let Some(remedy) = remedy_at_aws(&fault.what) {
        return remedy;
    }
    match fault.class {
        FaultClass::Unreachable | FaultClass::Transient => {
            format!("look at the way to it: DNS, firewall, [network] proxy, region and endpoint_url of [stores.{store}]")
        }
        FaultClass::Throttled => "check again in a while, or give the account's other users a slower pace".to_owned(),
        FaultClass::Denied => {
            format!("give evertoken what [stores.{store}] needs: credentials and the policy of docs/aws.md, or the folder's owner and mode")
        }
        FaultClass::Missing => "create the entry, or name another in the configuration".to_owned(),
        FaultClass::BadRequest => format!("look at [stores.{store}] and the entry's name"),
        FaultClass::Limit => "make room: see what it says".to_owned(),
        FaultClass::TokenDead | FaultClass::AppCredential | FaultClass::Permission | FaultClass::Policy => "see what it says".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_apart_from_its_remedy() {
        let mut section = Section::new("http");
        section.failure(&crate::admin::AdminError::InUse(([127, 0, 0, 1], 9469).into()));
        let [finding] = section.findings.as_slice() else { panic!("{section:?}") };
        assert_eq!(finding.what, "127.0.0.1:9469 is in use by another program");
        assert!(finding.remedy.starts_with("stop that one"), "{finding:?}");
    }

    #[test]
    fn each_trouble_with_aws_has_its_own_remedy() {
        for (what, remedy) in [
            ("DescribeSecret on \"a\" was not sent, most likely for want of AWS credentials: no providers in chain", "AWS_ACCESS_KEY_ID"),
            ("DescribeSecret on \"a\" was not sent, most likely for want of AWS credentials: sts:AssumeRole denied", "sts:AssumeRole"),
            ("DescribeSecret on \"a\" was refused: ExpiredTokenException (HTTP 400): x", "expired"),
            ("GetSecretValue on \"a\" was refused: AccessDeniedException (HTTP 400): no", "secretsmanager:GetSecretValue on \"a\""),
            ("GetSecretValue on \"a\" was refused: AccessDeniedException (HTTP 400): Access to KMS is not allowed", "kms:Decrypt"),
            ("PutSecretValue on \"a\" was refused: EncryptionFailure (HTTP 400): x", "kms:GenerateDataKey"),
            ("GetSecretValue on \"a\" was refused: UnrecognizedClientException (HTTP 400): x", "not known there"),
        ] {
            assert!(remedy_at_aws(what).unwrap().contains(remedy), "{what}");
        }
        assert_eq!(remedy_at_aws("GetSecretValue on \"a\" could not connect: refused"), None);
    }

    #[test]
    fn softened_nothing_is_an_error_any_more() {
        let mut section = Section::new("x");
        section.fine("a");
        section.error("b", "c");
        section.soften();
        assert_eq!(section.worst(), Severity::Warning);
        assert_eq!(section.findings.first().map(|finding| finding.severity), Some(Severity::Fine));
    }
}

//! What is allowed on the network but dubious.

use super::table_path;
use crate::config::mistake::{Report, Wrong};
use crate::config::settings::{AUDIT_INTERVAL, Settings};

/// An app's audits an hour that the default interval stays under; more take an explicit interval.
const AUDITS_PER_HOUR: f64 = 60.0;

pub(super) fn warn_of_listening(settings: &Settings, report: &Report) {
    if let Some(listen) = settings.http.listen
        && !listen.ip().is_loopback()
    {
        let what = format!("{listen} is not on loopback, and whoever reaches it sees names, fingerprints and expiry of all tokens");
        report.warning_at(&["http.listen"], Wrong::new(what, "let a firewall or network policy admit only your monitoring"));
    }
}

/// An explicit interval is obeyed, whatever it costs of the app's rate limit.
pub(super) fn warn_of_audit_pace(settings: &Settings, report: &Report) {
    for name in settings.apps.keys() {
        let tokens: Vec<_> = settings.tokens.values().filter(|token| token.app == *name).collect();
        let explicit = tokens.iter().filter_map(|token| token.schedule.audit_interval);
        let audits: f64 = explicit.map(|interval| 3600.0 / interval.as_secs_f64()).sum();
        let count = u32::try_from(tokens.len()).map_or(f64::MAX, f64::from);
        let limit = AUDITS_PER_HOUR.max(count / 24.0);
        if audits > limit {
            let what = format!("its tokens ask for {audits:.0} audits an hour, more than the {limit:.0} that the default stays under");
            let fix = format!(
                "delete audit_interval (then it is {} or what the app can bear), or write a longer one",
                crate::config::duration::display(AUDIT_INTERVAL)
            );
            report.warning_at(&[&table_path("apps", name.as_str())], Wrong::new(what, fix));
        }
    }
}

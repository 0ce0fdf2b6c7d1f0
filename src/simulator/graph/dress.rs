//! The headers that all of Graph's answers carry.

use jiff::Timestamp;
use serde_json::json;

use super::knobs::{Knobs, Usage};
use super::state::{later, random_digits};
use crate::simulator::service::Response;

/// Adds the headers, leaving alone what a script has set.
pub(super) fn dress(knobs: &Knobs, version: &str, response: &mut Response, now: Timestamp) {
    response.default_header("facebook-api-version", version);
    response.default_header("x-fb-trace-id", random_digits(11));
    response.default_header("x-fb-request-id", format!("A{}", random_digits(22)));
    response.default_header("x-fb-rev", "1041234567");
    response.default_header("x-fb-debug", random_digits(86));
    response.default_header("cache-control", "private, no-cache, no-store, must-revalidate");
    response.default_header("pragma", "no-cache");
    response.default_header("expires", "Sat, 01 Jan 2000 00:00:00 GMT");
    response.default_header("strict-transport-security", "max-age=15552000; preload");
    response.default_header("vary", "Accept-Encoding");
    add_usage(response, &knobs.usage);
    let date = &knobs.date;
    if let Some(raw) = &date.raw {
        response.default_header("date", raw.as_str());
    } else if !date.missing {
        response.default_header("date", http_date(date.frozen_at.unwrap_or_else(|| later(now, date.shift_s))));
    }
}

fn http_date(at: Timestamp) -> String {
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// Adds the usage headers that are set. Mind the units: the ad account's are seconds, the business use case's minutes.
pub(super) fn add_usage(response: &mut Response, usage: &Usage) {
    if let Some(percent) = usage.app_percent {
        response.default_header("x-app-usage", json!({ "call_count": percent, "total_time": 25, "total_cputime": 25 }).to_string());
    }
    if usage.ad_account_percent.is_some() || usage.ad_account_reset_s.is_some() {
        let (percent, reset) = (usage.ad_account_percent.unwrap_or(100.0), usage.ad_account_reset_s.unwrap_or(0));
        let value = json!({ "acc_id_util_pct": percent, "reset_time_duration": reset, "ads_api_access_tier": "standard_access" });
        response.default_header("x-ad-account-usage", value.to_string());
    }
    if usage.business_percent.is_some() || usage.business_regain_min.is_some() {
        let (percent, regain) = (usage.business_percent.unwrap_or(100), usage.business_regain_min.unwrap_or(0));
        let entry = json!([{
            "type": "whatsapp_business_management", "call_count": percent, "total_cputime": 25, "total_time": 25,
            "estimated_time_to_regain_access": regain,
        }]);
        let twin = if usage.duplicate_keys { format!(r#","2":{entry}"#) } else { String::new() };
        response.default_header("x-business-use-case-usage", format!(r#"{{"2":{entry}{twin}}}"#));
    }
    if let Some(wait) = &usage.retry_after {
        response.default_header("retry-after", wait.as_str());
    }
    for (name, value) in &usage.other {
        response.default_header(name, value.as_str());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_http_dates() {
        assert_eq!(http_date("1994-11-06T08:49:37.9Z".parse().unwrap()), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}

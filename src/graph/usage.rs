//! What the headers of an answer say of the pace: how hard the app is pressed, and how long to stay away.
//!
//! Meta's rate-limit page knows four headers with percentages and three with times, in two units: `X-Business-Use-Case-Usage`
//! counts minutes, `X-Ad-Account-Usage` and `Retry-After` seconds. Meta's own sample repeats keys within one object, so the
//! values are collected as they are met, in whatever nesting, and the worst one counts.

use std::fmt;

use jiff::fmt::rfc2822::DateTimeParser;
use jiff::{SignedDuration, Timestamp};
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::Usage;

/// The longest wait that is believed: anything above is a defect of the header.
pub const WAIT_MAX: SignedDuration = SignedDuration::from_hours(6);

/// The headers whose values are percentages (and times).
const USAGE_HEADERS: [&str; 5] =
    ["x-app-usage", "x-page-usage", "x-ad-account-usage", "x-business-use-case-usage", "x-fb-ads-insights-throttle"];

/// The keys that hold a percentage.
const PERCENT_KEYS: [&str; 5] = ["call_count", "total_time", "total_cputime", "acc_id_util_pct", "app_id_util_pct"];

/// What the headers of one answer said of time and pace.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Pace {
    /// The `Date` header.
    pub(super) date: Option<Timestamp>,
    /// The usage headers.
    pub(super) usage: Usage,
    /// `Retry-After` alone.
    pub(super) retry_after: Option<SignedDuration>,
}

impl Pace {
    /// Reads the headers of an answer. What cannot be read is left out.
    pub(super) fn read(headers: &HeaderMap) -> Self {
        let date = headers.get(DATE).and_then(|value| value.to_str().ok()).and_then(http_date);
        let retry_after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(|text| wait_of(text, date));
        let mut usage = Usage { percent: None, regain_after: retry_after };
        for value in USAGE_HEADERS.iter().flat_map(|name| headers.get_all(*name)) {
            for (key, number) in numbers(value.as_bytes()) {
                if PERCENT_KEYS.contains(&key.as_str()) {
                    usage.percent = Some(usage.percent.map_or(number, |highest| highest.max(number)));
                }
                let seconds = match key.as_str() {
                    "estimated_time_to_regain_access" => number * 60.0,
                    "reset_time_duration" => number,
                    _ => continue,
                };
                usage.regain_after = usage.regain_after.max(believed(seconds));
            }
        }
        Self { date, usage, retry_after }
    }

    /// How long to stay away after a throttle code, where the answer says so. Where it does not, the caller decides: a pause that
    /// nobody stated must fit the life of the token that it keeps waiting.
    pub(super) fn throttle_wait(&self) -> Option<SignedDuration> {
        self.usage.regain_after
    }
}

/// A date as HTTP writes it (RFC 9110, 5.6.7: the preferred form is that of RFC 5322). The two obsolete forms are not read.
#[must_use]
pub fn http_date(text: &str) -> Option<Timestamp> {
    DateTimeParser::new().parse_timestamp(text.trim()).ok()
}

/// `Retry-After`: seconds, or a date, which is measured from the answer's own `Date`.
fn wait_of(text: &str, date: Option<Timestamp>) -> Option<SignedDuration> {
    match text.trim().parse::<f64>() {
        Ok(seconds) => believed(seconds),
        Err(_no_number) => believed(http_date(text)?.duration_since(date?).as_secs_f64()),
    }
}

/// A wait in seconds, capped; nothing for none, a negative one, or what is no number.
fn believed(seconds: f64) -> Option<SignedDuration> {
    // The cap comes after the test for a number: the smaller of NaN and a number is the number.
    let seconds = if seconds.is_finite() { seconds.min(WAIT_MAX.as_secs_f64()) } else { return None };
    SignedDuration::try_from_secs_f64(seconds).ok().filter(|wait| wait.is_positive())
}

/// Every number in a JSON text with the key it stands under, in whatever depth. Broken JSON yields what came before the break.
fn numbers(json: &[u8]) -> Vec<(String, f64)> {
    let mut found = Vec::new();
    let mut reader = serde_json::Deserializer::from_slice(json);
    let _broken = Walk { key: "", found: &mut found }.deserialize(&mut reader);
    found
}

/// Walks through one JSON value. Unlike a map it keeps values of repeated keys.
struct Walk<'a> {
    key: &'a str,
    found: &'a mut Vec<(String, f64)>,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_f64<E>(self, number: f64) -> Result<(), E> {
        if number.is_finite() {
            self.found.push((self.key.to_owned(), number));
        }
        Ok(())
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<(), E> {
        self.visit_f64(number as f64)
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<(), E> {
        self.visit_f64(number as f64)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        match text.trim().parse() {
            Ok(number) => self.visit_f64(number),
            Err(_no_number) => Ok(()),
        }
    }

    fn visit_bool<E>(self, _truth: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while entries.next_element_seed(Walk { key: self.key, found: &mut *self.found })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(key) = entries.next_key::<String>()? {
            entries.next_value_seed(Walk { key: &key, found: &mut *self.found })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::{HeaderName, HeaderValue};

    fn pace(headers: &[(&str, &str)]) -> Pace {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        Pace::read(&map)
    }

    fn secs(seconds: i64) -> Option<SignedDuration> {
        Some(SignedDuration::from_secs(seconds))
    }

    #[test]
    fn a_date_is_read_as_http_writes_it() {
        let date = http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(date.as_second(), 784_111_777);
        assert_eq!(pace(&[("date", "Sun, 06 Nov 1994 08:49:37 GMT")]).date, Some(date));
        for broken in ["", "yesterday", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun, 99 Nov 1994 08:49:37 GMT", "784111777"] {
            assert_eq!(http_date(broken), None, "{broken}");
        }
    }

    #[test]
    fn each_header_has_its_own_unit() {
        let app = pace(&[("x-app-usage", r#"{"call_count":28,"total_time":25,"total_cputime":31}"#)]);
        assert_eq!((app.usage.percent, app.usage.regain_after), (Some(31.0), None));
        let page = pace(&[("x-page-usage", r#"{"call_count":"101"}"#)]);
        assert_eq!(page.usage.percent, Some(101.0));
        let ads = pace(&[("x-ad-account-usage", r#"{"acc_id_util_pct":9.67,"reset_time_duration":100,"ads_api_access_tier":"x"}"#)]);
        assert_eq!((ads.usage.percent, ads.usage.regain_after), (Some(9.67), secs(100)));
        let buc =
            pace(&[("x-business-use-case-usage", r#"{"1":[{"type":"pages","call_count":100,"estimated_time_to_regain_access":19}]}"#)]);
        assert_eq!((buc.usage.percent, buc.usage.regain_after), (Some(100.0), secs(19 * 60)));
        let retry = pace(&[("retry-after", "60")]);
        assert_eq!((retry.retry_after, retry.throttle_wait()), (secs(60), secs(60)));
    }

    #[test]
    fn the_worst_of_repeated_keys_and_headers_counts() {
        let seen = pace(&[
            (
                "x-business-use-case-usage",
                r#"{"1":[{"call_count":90,"call_count":3,"estimated_time_to_regain_access":5},{"call_count":1}],
                    "1":[{"call_count":2,"estimated_time_to_regain_access":0}],"2":[]}"#
                    .replace('\n', " ")
                    .as_str(),
            ),
            ("x-app-usage", r#"{"call_count":10}"#),
            ("x-app-usage", r#"{"call_count":95}"#),
            ("retry-after", "30"),
        ]);
        assert_eq!(seen.usage, Usage { percent: Some(95.0), regain_after: secs(300) });
    }

    #[test]
    fn a_date_in_retry_after_is_measured_from_the_answers_date() {
        let seen = pace(&[("date", "Sun, 06 Nov 1994 08:49:37 GMT"), ("retry-after", "Sun, 06 Nov 1994 08:51:37 GMT")]);
        assert_eq!(seen.retry_after, secs(120));
        assert_eq!(pace(&[("retry-after", "Sun, 06 Nov 1994 08:51:37 GMT")]).retry_after, None);
    }

    #[test]
    fn absurd_and_broken_headers_do_no_harm() {
        assert_eq!(pace(&[]).throttle_wait(), None);
        for text in ["-5", "NaN", "inf", "0", "soon", ""] {
            let seen = pace(&[("retry-after", text)]);
            assert_eq!(seen.retry_after, None, "{text}");
        }
        assert_eq!(pace(&[("retry-after", "1e300")]).retry_after, Some(WAIT_MAX));
        let days = r#"{"1":[{"estimated_time_to_regain_access":999999999}]}"#;
        assert_eq!(pace(&[("x-business-use-case-usage", days)]).throttle_wait(), Some(WAIT_MAX));
        let bomb = "[".repeat(5000);
        for text in ["{", "[1,", "nonsense", r#"{"call_count":}"#, r#"{"call_count":1e999}"#, bomb.as_str()] {
            assert_eq!(pace(&[("x-app-usage", text)]).usage.percent, None, "{text}");
        }
        // What came before the break still counts.
        assert_eq!(pace(&[("x-app-usage", r#"{"call_count":99,"total_time":"#)]).usage.percent, Some(99.0));
    }
}

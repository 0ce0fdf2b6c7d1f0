//! The page for people: one HTML document without script, link or form, that loads itself anew.

use std::fmt::{self, Display, Write as _};

use jiff::{SignedDuration, Timestamp};

use super::DaemonFacts;
use crate::rotation::health::{StatusDocument, TokenStatus};
use crate::rotation::plan::Severity;

/// Tokens on the page; more than anyone reads. The whole list is in `/v1/status`.
const ROWS_MAX: usize = 500;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem;max-width:90rem;color:#222;background:#fff}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.4rem .8rem;border-bottom:1px solid #ddd}\
.critical td:first-child{border-left:6px solid #b00020}.attention td:first-child{border-left:6px solid #c77700}\
.calm td:first-child{border-left:6px solid #2e7d32}small{color:#666}p.bad{color:#b00020}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}th,td{border-color:#444}small{color:#999}}";

/// The page.
pub(super) fn render(document: &StatusDocument, facts: &DaemonFacts) -> String {
    let mut page = String::new();
    // Writing into a string cannot fail.
    let _infallible: fmt::Result = write(&mut page, document, facts);
    page
}

fn write(page: &mut String, document: &StatusDocument, facts: &DaemonFacts) -> fmt::Result {
    let now = document.generated_at;
    let verdict = match document.severity(now) {
        Severity::Calm => "all is well",
        Severity::Attention => "a person should look",
        Severity::Critical => "consumers fail or will soon",
    };
    write!(
        page,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"10\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>evertoken: {verdict}</title><style>{STYLE}</style></head><body>\
         <h1>evertoken: {verdict}</h1><p>{} of {} tokens. <small>{}; loads itself every 10 s</small></p>",
        document.tokens.len(),
        facts.configured,
        minute(now),
    )?;
    if document.breaker.open {
        let why = document.breaker.why.as_deref().unwrap_or_default();
        write!(
            page,
            "<p class=\"bad\">The breaker is open, nothing is revoked until <code>evertoken breaker close</code>: {}</p>",
            Text(why)
        )?;
    }
    if !facts.config_taken {
        page.push_str("<p class=\"bad\">The last reload of the configuration was refused; the one before it is in force.</p>");
    }
    for condition in &document.conditions {
        write!(page, "<p class=\"bad\">The daemon: {}</p>", Text(&condition.message))?;
    }
    page.push_str("<table><thead><tr><th>token<th>phase<th>time left<th>next<th>what to know</tr></thead><tbody>");
    for token in document.tokens.iter().take(ROWS_MAX) {
        row(page, token, now)?;
    }
    page.push_str("</tbody></table>");
    if let Some(more) = document.tokens.len().checked_sub(ROWS_MAX).filter(|more| *more > 0) {
        write!(page, "<p>and {more} more, none worse than these: see <code>/v1/status</code></p>")?;
    }
    page.push_str("</body></html>\n");
    Ok(())
}

fn row(page: &mut String, token: &TokenStatus, now: Timestamp) -> fmt::Result {
    let severity = match token.severity(now) {
        Severity::Calm => "calm",
        Severity::Attention => "attention",
        Severity::Critical => "critical",
    };
    write!(page, "<tr class=\"{severity}\"><td>{}<br><small>{severity}</small>", Text(&token.name))?;
    write!(page, "<td>{}", token.phase.name())?;
    let dead = token.conditions.iter().any(|condition| matches!(condition.reason.as_str(), "dead" | "token_dead"));
    match (token.time_left(now).filter(|_| !dead), token.current.as_ref().and_then(|current| current.expires_at)) {
        (Some(left), Some(end)) => write!(page, "<td>{}<br><small>until {}</small>", coarse(left), minute(end))?,
        _ if dead => page.push_str("<td>dead"),
        _ if token.current.is_some() => page.push_str("<td>no end known"),
        _ => page.push_str("<td>not seen"),
    }
    write!(page, "<td>{}<br><small>{}</small>", Text(&token.next_action.what), when(token.next_action.at, now))?;
    page.push_str("<td>");
    // The calm ones say that all is as planned, which the row's colour says already.
    for condition in token.conditions.iter().filter(|condition| condition.severity() > Severity::Calm) {
        write!(page, "<div><b>{}</b> {}</div>", Text(&condition.reason), Text(&condition.message))?;
    }
    if let Some(error) = &token.last_error {
        write!(page, "<div><small>last failure, {} ({}): {}</small></div>", Text(&error.step), Text(&error.class), Text(&error.message))?;
    }
    page.push_str("</tr>");
    Ok(())
}

fn when(at: Timestamp, now: Timestamp) -> String {
    if at <= now { "now".to_owned() } else { format!("in {}", coarse(at.duration_since(now))) }
}

fn minute(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// The two largest units: what a person wants to know of a duration.
fn coarse(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// Text that others wrote, so that it stays text.
struct Text<'a>(&'a str);

impl Display for Text<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '&' => out.write_str("&amp;")?,
                '<' => out.write_str("&lt;")?,
                '>' => out.write_str("&gt;")?,
                '"' => out.write_str("&quot;")?,
                '\'' => out.write_str("&#39;")?,
                plain => out.write_char(plain)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text() {
        assert_eq!(Text("<b a='\"'>&é").to_string(), "&lt;b a=&#39;&quot;&#39;&gt;&amp;é");
    }

    #[test]
    fn durations_show_their_two_largest_units() {
        for (seconds, text) in [(0, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3_660, "1 h 1 min"), (90_000, "1 d 1 h")] {
            assert_eq!(coarse(SignedDuration::from_secs(seconds)), text);
        }
    }
}

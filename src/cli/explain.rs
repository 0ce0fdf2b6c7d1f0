//! `evertoken explain`: everything that is known of one token, in sentences.

use jiff::{SignedDuration, Timestamp};

use super::bar::{Life, from, until};
use super::layout::{TableOptions, instant, plain, wrapped};
use super::meaning;
use super::status::{Next, grievances, told, waits_for, why};
use crate::config::display_duration;
use crate::rotation::health::{Condition, ConjunctStatus, Lifetime, SinkStatus, StatusDocument, TokenStatus, UnaccountedStatus, Window};
use crate::rotation::plan::Severity;

/// What `explain` prints of one token of a document.
#[must_use]
pub fn text(document: &StatusDocument, token: &TokenStatus, options: &TableOptions) -> String {
    let page = Page { token, now: document.generated_at, options };
    let mut text = page.head();
    text += &page.phase();
    if document.breaker.open {
        let why = document.breaker.why.as_deref().unwrap_or("no reason is known");
        text +=
            &page.section("Breaker", [format!("open for the whole fleet: nothing is revoked until `evertoken breaker close`. Why: {why}")]);
    }
    text += &page.conditions();
    for row in &token.unaccounted {
        text += &page.unaccounted(row);
    }
    text += &page.section("Current token", page.current());
    text += &page.section("Token to be revoked", page.previous());
    text += &page.section("Window between publish and revoke", page.window());
    text += &page.section("Revoke gate (all must hold)", page.gate());
    text += &page.section("Places besides the store", page.sinks());
    text += &page.section("Last failure that is not overcome", page.last_error());
    text
}

/// What comes after a phase while a person holds the token.
const UNTIL_RELEASED: &str = "Nothing until `evertoken release`: no refresh, no revoke. It is only looked at.";

/// One token's page.
struct Page<'a> {
    token: &'a TokenStatus,
    now: Timestamp,
    options: &'a TableOptions,
}

impl Page<'_> {
    fn head(&self) -> String {
        let severity = self.token.severity(self.now);
        let verdict = match severity {
            Severity::Calm => "well",
            Severity::Attention => "a person should look",
            Severity::Critical => "consumers fail or will soon",
        };
        let TokenStatus { name, app_id, system_user_id, .. } = self.token;
        let head = format!("{}: {verdict}", plain(name));
        let about = format!("app {app_id}, system user {system_user_id}, as of {}", instant(self.now));
        let head = self.options.paint(severity, wrapped("", &head, self.options).trim_end());
        format!("{head}\n{}", wrapped("", &plain(&about), self.options))
    }

    fn phase(&self) -> String {
        let token = self.token;
        let (means, comes) = meaning::phase(token.phase);
        let next = Next::of(token, self.now);
        let held = token.next_action.waiting_for.iter().any(|code| code == "held");
        let look = token.next_action.next_look_at.filter(|at| *at > self.now && *at < next.at);
        let rotation = token.rotation_id.as_ref().map(|id| match token.attempt {
            Some(attempt) => format!("rotation {id}, attempt {attempt}"),
            None => format!("rotation {id}"),
        });
        let lines = [
            Some(format!("{}. {means}", token.phase.name())),
            Some(format!("Then: {}", if held { UNTIL_RELEASED } else { comes })),
            Some(format!("Next: {} ({})", next.phrase(self.now), instant(next.at.max(self.now)))),
            look.map(|at| format!("Looks again: {}", until(at, self.now))),
            Some(format!("Why: {}", why(token))),
            Some(format!("Waits for: {} ({})", waits_for(token), token.next_action.waiting_for.join(", "))),
            rotation,
        ];
        self.section("Phase", lines.into_iter().flatten())
    }

    /// A heading and its lines; nothing where there are none.
    fn section(&self, title: &str, lines: impl IntoIterator<Item = String>) -> String {
        let body: String = lines.into_iter().map(|line| wrapped("  ", &plain(&line), self.options)).collect();
        if body.is_empty() { body } else { format!("\n{}\n{body}", self.options.bold(title)) }
    }

    fn conditions(&self) -> String {
        let worse = grievances(self.token, self.now);
        if worse.is_empty() {
            let calm = self.token.conditions.iter().map(|condition| format!("{}: {}", condition.kind, condition.message));
            return self.section("What to know", calm);
        }
        let block = |mut condition: Condition| {
            // The core sends readers of a table to this page.
            condition.message = condition.message.replace("see `evertoken explain`", "see the rest of this page");
            let severity = condition.severity();
            let head = format!("{} ({})", condition_name(&condition.kind), condition.reason);
            let head = wrapped(&format!("{} ", self.options.mark(severity)), &plain(&head), self.options);
            format!("\n{}\n{}", self.options.paint(severity, head.trim_end()), told(&condition, self.options))
        };
        // Each lost token has a section of its own, which says more.
        worse.into_iter().filter(|condition| condition.reason != "unaccounted" || self.token.unaccounted.is_empty()).map(block).collect()
    }

    fn current(&self) -> Vec<String> {
        let Some(current) = &self.token.current else { return vec!["none has been seen".to_owned()] };
        let Lifetime { fingerprint, issued_at, expires_at, refresh_due, data_access_expires_at } = current;
        let life = Life::of(self.token, self.now);
        let bar = life.bar(self.options);
        let left = format!("{bar}{}{}", if bar.is_empty() { "" } else { " " }, life.figure());
        let ends = expires_at.map_or_else(|| "no end is stated".to_owned(), |at| format!("ends {}", instant(at)));
        let lines = [
            Some(format!("fingerprint {fingerprint}")),
            Some(format!("left: {left}; {ends}")),
            issued_at.map(|at| format!("issued {}", instant(at))),
            refresh_due.map(|at| format!("refresh due {} ({})", instant(at), from(at, self.now))),
            data_access_expires_at.map(|at| format!("access to data ends {} ({})", instant(at), from(at, self.now))),
        ];
        lines.into_iter().flatten().collect()
    }

    fn previous(&self) -> Vec<String> {
        let Some(previous) = &self.token.previous else { return Vec::new() };
        let lines = [
            Some(format!("fingerprint {}", previous.fingerprint)),
            previous.expires_at.map(|at| format!("ends by itself {} ({})", instant(at), from(at, self.now))),
            Some(previous.revoke_not_before.map_or_else(
                || "not revoked yet: its window has not begun, a place is still being written".to_owned(),
                |at| format!("not revoked before {} ({})", instant(at), from(at, self.now)),
            )),
        ];
        lines.into_iter().flatten().collect()
    }

    fn window(&self) -> Vec<String> {
        let Some(Window { configured_seconds, effective_seconds, consumer_ttl_seconds }) = self.token.window else { return Vec::new() };
        let span = |seconds| display_duration(SignedDuration::from_secs(seconds));
        let (set, is, ttl) = (span(configured_seconds), span(effective_seconds), span(consumer_ttl_seconds));
        let window = if effective_seconds < configured_seconds {
            format!("{is} for this token: the configured {set} are cut to a quarter of its life")
        } else {
            format!("{is}, as configured")
        };
        let ttl = if effective_seconds < consumer_ttl_seconds.saturating_mul(2) {
            format!(
                "consumers may keep a token for {ttl} (consumer_ttl), and the window is shorter than twice that: one may still call with the \
                 old token when it is revoked. To do: make consumers reload sooner, or give the token a longer life"
            )
        } else {
            format!("consumers read anew within {ttl} (consumer_ttl), so the window leaves them time")
        };
        vec![window, ttl]
    }

    fn gate(&self) -> Vec<String> {
        let line = |conjunct: &ConjunctStatus| format!("{} {}: {}", self.options.tick(Some(conjunct.holds)), conjunct.name, conjunct.value);
        self.token.gate.iter().map(line).collect()
    }

    fn sinks(&self) -> Vec<String> {
        let line = |sink: &SinkStatus| {
            let says = match sink.in_sync {
                Some(true) => "holds the current token",
                Some(false) => "does not hold the current token",
                None => "not read yet",
            };
            let holds = sink.holds.as_ref().map(|token| {
                let ends = sink.holds_until.map(|at| format!(", which ends {} ({})", instant(at), from(at, self.now))).unwrap_or_default();
                format!("; its readers have token {token}{ends}")
            });
            let holds = holds.unwrap_or_default();
            let trouble = sink.last_error.as_ref().map(|error| format!("; failed last: {error}")).unwrap_or_default();
            format!("{} {}: {says}{holds}{trouble}", self.options.tick(sink.in_sync), sink.name)
        };
        self.token.sinks.iter().map(line).collect()
    }

    /// What happened, what is at risk, what ends it, what to do, what not to do.
    fn unaccounted(&self, row: &UnaccountedStatus) -> String {
        let TokenStatus { name, app_id, system_user_id, .. } = self.token;
        let lines = [
            format!(
                "What happened: a refresh at {} may have created a token for system user {system_user_id} and app {app_id} that nobody \
                 holds (rotation {}, attempt {}). Why: {}.",
                instant(row.since),
                row.rotation_id,
                row.attempt,
                row.why.as_deref().unwrap_or("its answer did not come, or could not be used")
            ),
            "At risk: nothing that consumers notice; the current token is not affected. Nobody knows the lost token, but it may be alive."
                .to_owned(),
            format!("What ends it: its own end, {} at the latest ({}).", instant(row.ends_by), from(row.ends_by, self.now)),
            format!(
                "What to do: nothing. To end it at once, revoke all tokens of the system user in Meta's business settings, put a new one into \
                 the entry immediately (it is taken over at sight), and say so: `evertoken ledger close {name} --revoked-all-at TIME`."
            ),
            "What not to do: do not revoke all tokens unless a new one can be made at once, since that kills the current token as well and \
             consumers fail until then. Do not rotate to get rid of it: a rotation ends only tokens that are held."
                .to_owned(),
        ];
        self.section("A token may exist that nobody holds", lines)
    }

    fn last_error(&self) -> Vec<String> {
        let Some(error) = &self.token.last_error else { return Vec::new() };
        let code = match (error.code, error.subcode) {
            (Some(code), Some(subcode)) => Some(format!("code {code}, subcode {subcode}")),
            (Some(code), None) => Some(format!("code {code}")),
            (None, _) => None,
        };
        let trace = error.trace_id.as_ref().map(|id| format!("trace id {id} (tell it to the provider's support)"));
        let lines = [Some(format!("{}: {}", error.step, error.message)), Some(format!("class {}", error.class)), code, trace];
        lines.into_iter().flatten().collect()
    }
}

/// The condition's kind as words: `RefreshOverdue` is "Refresh overdue".
fn condition_name(kind: &str) -> String {
    let mut name = String::new();
    for letter in kind.chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push(' ');
            name.extend(letter.to_lowercase());
        } else {
            name.push(letter);
        }
    }
    name
}

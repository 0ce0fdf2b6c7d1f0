//! `evertoken status` and `evertoken plan`: what is the case with all tokens, what happens next and when, and what a person should do.
//!
//! Times are reckoned from the document's own `generated_at`, so one document always gives the same text.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::bar::{Life, until};
use super::layout::{TableOptions, cut_middle, instant, plain, thousands, wrapped};
use super::meaning::{effect, meaning};
use super::table::{Cell, Column, Shape, render};
use crate::rotation::health::{Condition, NextAction, StatusDocument, TokenStatus};
use crate::rotation::plan::Severity;

/// Tokens in a table for people; the worst are the ones that count.
const ROWS_MAX: usize = 50;

const COLUMNS: [Column; 7] = [
    Column { title: "", least: 1, spare: 0, shape: Shape::Prose },
    Column { title: "TOKEN", least: 14, spare: 0, shape: Shape::Name },
    Column { title: "PHASE", least: 11, spare: 2, shape: Shape::Prose },
    Column { title: "LIFE", least: 10, spare: 4, shape: Shape::Prose },
    Column { title: "LEFT", least: 8, spare: 1, shape: Shape::Figure },
    Column { title: "NEXT", least: 21, spare: 0, shape: Shape::Prose },
    Column { title: "WAITS FOR", least: 12, spare: 3, shape: Shape::Prose },
];

/// What `status` prints: a line on the whole, a table, the worst first, and a paragraph for each token that a person must know of.
#[must_use]
pub fn table(document: &StatusDocument, options: &TableOptions) -> String {
    let now = document.generated_at;
    let shown = worst(document);
    let mut text = summary(document, options);
    if shown.is_empty() {
        text.push_str("No token is configured.\n");
        return text;
    }
    text.push('\n');
    let rows: Vec<Vec<Cell>> = shown.iter().map(|token| row(token, now, options)).collect();
    text.push_str(&render(&COLUMNS, &rows, options));
    let rest: Vec<&TokenStatus> = document.tokens.iter().skip(shown.len()).collect();
    if !rest.is_empty() {
        text.push_str(&more(&rest, now, options));
    }
    text.push_str(&paragraphs(shown, now, options));
    text
}

/// What `plan` prints: for each token what would be done next, when and why. Nothing is changed by asking.
#[must_use]
pub fn plan(document: &StatusDocument, options: &TableOptions) -> String {
    const COLUMNS: [Column; 4] = [
        Column { title: "TOKEN", least: 12, spare: 0, shape: Shape::Name },
        Column { title: "NEXT", least: 21, spare: 0, shape: Shape::Prose },
        Column { title: "AT", least: 20, spare: 1, shape: Shape::Prose },
        Column { title: "WHY", least: 20, spare: 2, shape: Shape::Prose },
    ];
    let now = document.generated_at;
    let row = |token: &TokenStatus| {
        let next = Next::of(token, now);
        vec![
            Cell::painted(plain(&token.name), token.severity(now)),
            Cell::new(next.phrase(now)),
            Cell::new(instant(next.at.max(now))),
            Cell::new(why(token)),
        ]
    };
    let rows: Vec<Vec<Cell>> = document.tokens.iter().map(row).collect();
    if rows.is_empty() {
        return "No token is configured.\n".to_owned();
    }
    format!("{}\nNothing was changed.\n", render(&COLUMNS, &rows, options))
}

fn worst(document: &StatusDocument) -> &[TokenStatus] {
    document.tokens.get(..ROWS_MAX).unwrap_or(&document.tokens)
}

/// One line: how many, how many of them are not well, the breaker, and as of when.
fn summary(document: &StatusDocument, options: &TableOptions) -> String {
    let now = document.generated_at;
    let count = |severity| document.tokens.iter().filter(|token| token.severity(now) == severity).count();
    let (critical, attention) = (count(Severity::Critical), count(Severity::Attention));
    let mut parts = vec![counted(document.tokens.len(), "token")];
    match (critical, attention) {
        (0, 0) if document.severity(now) == Severity::Calm && !document.tokens.is_empty() => parts.push("all well".to_owned()),
        (0, 0) => {}
        (0, attention) => parts.push(format!("{} to look at", thousands_of(attention))),
        (critical, 0) => parts.push(format!("{} critical", thousands_of(critical))),
        (critical, attention) => {
            parts.push(format!("{} critical", thousands_of(critical)));
            parts.push(format!("{} more to look at", thousands_of(attention)));
        }
    }
    parts.push(if document.breaker.open { "breaker OPEN" } else { "breaker closed" }.to_owned());
    parts.push(format!("as of {}", instant(now)));
    // Lines are broken between the parts and not inside of them.
    let parts: Vec<String> = parts.into_iter().map(|part| part.replace(' ', "\u{a0}")).collect();
    let mut text = options.bold(wrapped("", &parts.join(", "), options).trim_end()) + "\n";
    if document.breaker.open {
        let why = plain(document.breaker.why.as_deref().unwrap_or("no reason is known"));
        let told = format!("Nothing is revoked until `evertoken breaker close`. It opened because: {why}");
        text.push_str(&options.paint(Severity::Attention, wrapped("", &told, options).trim_end()));
        text.push('\n');
    }
    for condition in &document.conditions {
        let told = format!("The daemon: {}", plain(&condition.message));
        text.push_str(&options.paint(condition.severity(), wrapped("", &told, options).trim_end()));
        text.push('\n');
    }
    text
}

fn thousands_of(count: usize) -> String {
    thousands(i128::try_from(count).unwrap_or(i128::MAX))
}

fn counted(count: usize, noun: &str) -> String {
    format!("{} {noun}{}", thousands_of(count), if count == 1 { "" } else { "s" })
}

fn row(token: &TokenStatus, now: Timestamp, options: &TableOptions) -> Vec<Cell> {
    let severity = token.severity(now);
    let life = Life::of(token, now);
    vec![
        Cell::painted(options.mark(severity), severity),
        Cell::painted(plain(&token.name), severity),
        Cell::new(token.phase.name()),
        Cell::painted(life.bar(options), severity),
        Cell::new(life.figure()),
        Cell::new(Next::of(token, now).phrase(now)),
        Cell::new(waits_for(token)),
    ]
}

/// What a token waits for, in words where there are any.
pub(super) fn waits_for(token: &TokenStatus) -> String {
    let words = |code: &String| meaning(code).map_or_else(|| plain(code).replace('_', " "), |meaning| meaning.waits_for.to_owned());
    token.next_action.waiting_for.iter().map(words).collect::<Vec<_>>().join(", ")
}

/// Why that is next: the core's sentence, or what the step does that is taken now.
pub(super) fn why(token: &TokenStatus) -> String {
    let NextAction { what, waiting_for, .. } = &token.next_action;
    let acting = waiting_for.iter().any(|code| code == "acting");
    effect(what).filter(|_| acting).map_or_else(|| plain(what), str::to_owned)
}

/// The next thing that changes something, as far as it is known; else the next look.
pub(super) struct Next {
    what: String,
    /// When.
    pub(super) at: Timestamp,
}

impl Next {
    pub(super) fn of(token: &TokenStatus, now: Timestamp) -> Self {
        let action = &token.next_action;
        let code = action.waiting_for.first().map(String::as_str).unwrap_or_default();
        // A token at rest is looked at long before it is refreshed. People want to know of the refresh.
        let ahead = |at: Option<Timestamp>| at.filter(|at| *at > now);
        let refresh = ahead(token.current.as_ref().and_then(|current| current.refresh_due));
        let window = ahead(token.previous.as_ref().and_then(|previous| previous.revoke_not_before));
        let (what, at) = match (code, refresh, window) {
            ("rest", Some(at), _) => ("refresh", at),
            ("propagating", _, Some(at)) => ("revoke", at),
            ("revoking", ..) => ("revoke", action.at),
            ("paced", ..) => ("refresh", action.at),
            ("retrying" | "failing" | "sink_failing", ..) => ("tries again", action.at),
            ("acting", ..) => return Self { what: plain(&action.what).replace('_', " "), at: action.at },
            _ => ("looks again", action.at),
        };
        Self { what: what.to_owned(), at }
    }

    pub(super) fn phrase(&self, now: Timestamp) -> String {
        format!("{} {}", self.what, until(self.at, now))
    }
}

/// What the table has no room for, by phase, the most frequent first.
fn more(rest: &[&TokenStatus], now: Timestamp, options: &TableOptions) -> String {
    let mut phases: BTreeMap<&str, usize> = BTreeMap::new();
    for token in rest {
        *phases.entry(token.phase.name()).or_default() += 1;
    }
    let mut phases: Vec<(&str, usize)> = phases.into_iter().collect();
    phases.sort_by_key(|(name, count)| (std::cmp::Reverse(*count), *name));
    let list: Vec<String> = phases.into_iter().map(|(name, count)| format!("{} {name}", thousands_of(count))).collect();
    let ill = rest.iter().filter(|token| !token.healthy(now)).count();
    let ill = if ill == 0 { String::new() } else { format!("; {} of them to look at", thousands_of(ill)) };
    wrapped(&format!("{} ", options.ellipsis()), &format!("and {} more: {}{ill}", thousands_of(rest.len()), list.join(", ")), options)
}

/// A paragraph for each token that is not well; tokens of which the same is to be said share one.
fn paragraphs(shown: &[TokenStatus], now: Timestamp, options: &TableOptions) -> String {
    let mut groups: Vec<(Vec<Condition>, Vec<&TokenStatus>)> = Vec::new();
    for token in shown.iter().filter(|token| !token.healthy(now)) {
        let found = grievances(token, now);
        match groups.iter_mut().find(|(conditions, _)| *conditions == found) {
            Some((_, tokens)) => tokens.push(token),
            None => groups.push((found, vec![token])),
        }
    }
    let paragraph = |(conditions, tokens): (Vec<Condition>, Vec<&TokenStatus>)| {
        let severity = tokens.iter().map(|token| token.severity(now)).max().unwrap_or(Severity::Calm);
        let room = options.columns().saturating_sub(2);
        let names = match tokens.as_slice() {
            [only] => cut_middle(&plain(&only.name), room, options),
            several => {
                let names: Vec<String> = several.iter().map(|token| plain(&token.name)).collect();
                wrapped("  ", &names.join(", "), options).trim().to_owned()
            }
        };
        let head = options.paint(severity, &format!("{} {names}", options.mark(severity)));
        let body: String = conditions.iter().map(|condition| told(condition, options)).collect();
        format!("\n{head}\n{body}")
    };
    groups.into_iter().map(paragraph).collect()
}

/// What is not well about a token: its conditions, the worst first, each said once.
pub(super) fn grievances(token: &TokenStatus, now: Timestamp) -> Vec<Condition> {
    let mut found: Vec<Condition> = token.conditions.iter().filter(|condition| condition.severity() > Severity::Calm).cloned().collect();
    let has = |found: &[Condition], code: &str| found.iter().any(|condition| condition.reason == code);
    if has(&found, "token_dead") {
        found.retain(|condition| condition.reason != "dead");
    }
    // A token may have ended since its status was made.
    if token.ended(now) && !["expired", "dead", "token_dead"].iter().any(|code| has(&found, code)) {
        let end = token.current.as_ref().and_then(|current| current.expires_at).map(instant).unwrap_or_default();
        found.push(Condition {
            kind: "Ready".to_owned(),
            status: "False".to_owned(),
            reason: "expired".to_owned(),
            message: format!("the current token has ended, at {end}"),
            severity: "critical".to_owned(),
        });
    }
    found.sort_by_key(|condition| std::cmp::Reverse(condition.severity()));
    found
}

/// What is the case, what is at risk, what ends it, what to do.
pub(super) fn told(condition: &Condition, options: &TableOptions) -> String {
    let (what, remedy) = parts(&condition.message);
    let known = meaning(&condition.reason);
    let fields = [
        ("  What:  ", what),
        ("  Risk:  ", known.map(|known| known.risk).unwrap_or_default()),
        ("  Ends:  ", known.map(|known| known.end).unwrap_or_default()),
        ("  To do: ", remedy.unwrap_or_else(|| own_remedy(&condition.reason))),
    ];
    fields.into_iter().filter(|(_, text)| !text.is_empty()).map(|(lead, text)| wrapped(lead, &plain(text), options)).collect()
}

/// What to do where the core names nothing, because it tells the same as another condition or was not asked.
fn own_remedy(code: &str) -> &'static str {
    match code {
        "dead" | "expired" => {
            "see that the daemon runs: it mends this where the store still holds a living token. Else make a new one in Meta's business \
             settings and give it: `evertoken adopt --token-file PATH`"
        }
        _ => "",
    }
}

/// A condition's message as the core puts it together: what is the case, then what to do about it.
fn parts(message: &str) -> (&str, Option<&str>) {
    message.rsplit_once(". To do: ").map_or((message, None), |(what, remedy)| (what, Some(remedy)))
}

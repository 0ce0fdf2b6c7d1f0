//! From a `tracing` event to a line.
//!
//! A line is flat: the event's fields and those of the spans around it, the inner winning. Values keep their types. Everything
//! is bounded, and every text goes through the net in [`super::redaction`] before any format sees it.

use std::fmt::Write as _;
use std::{fmt, panic, thread};

use jiff::Timestamp;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record as Values};
use tracing::{Event, Level, Subscriber, error};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::journald;
use super::redaction::redact_field;
use super::writer::{LogCounts, LossyWriter};
use crate::clock;

/// Longest text of one field, in bytes.
const TEXT_BYTES_MAX: usize = 8 * 1024;
/// Most bytes of all fields of a line.
const RECORD_BYTES_MAX: usize = 32 * 1024;
/// These come first in a line, in this order.
const LEADING: [&str; 4] = ["event", "token", "rotation_id", "step"];

#[derive(Debug, Clone, Copy)]
pub(super) enum Format {
    Text,
    Json,
    Journald,
}

impl Format {
    fn render(self, record: &Record) -> Vec<u8> {
        match self {
            Self::Text => text_line(record).into_bytes(),
            Self::Json => json_line(record).into_bytes(),
            Self::Journald => journald::entry(record),
        }
    }
}

/// The line that tells of lost ones.
pub(super) fn lost_notice(format: Format, lost: u64) -> Vec<u8> {
    let mut record = Record::new(clock::wall(), Level::WARN, "evertoken::telemetry");
    record.put("event", Value::from("log.dropped"));
    record.put("lines", Value::from(lost));
    record.put("message", Value::from("log lines were dropped because their reader was too slow or gone"));
    format.render(&record)
}

/// Sends panics through the log: where, and in which thread. Never what they say, which may be anything.
pub fn install_panic_hook() {
    panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = thread::current();
        let thread = thread.name().unwrap_or("unnamed");
        error!(
            target: "evertoken::panic", event = "panic", alert = true, location = place, thread,
            "a thread panicked; what it said is withheld, because it may hold a secret"
        );
    }));
}

/// Turns events into lines and hands them to the writer.
pub(super) struct EventLayer {
    format: Format,
    writer: LossyWriter,
}

/// Fields of a span, kept with it.
struct SpanFields(Vec<(&'static str, Value)>);

impl EventLayer {
    pub(super) const fn new(format: Format, writer: LossyWriter) -> Self {
        Self { format, writer }
    }
}

impl<S: Subscriber + for<'lookup> LookupSpan<'lookup>> Layer<S> for EventLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Vec::new();
            attributes.record(&mut Collect { counts: self.writer.counts(), put: |key, value| fields.push((key, value)) });
            span.extensions_mut().insert(SpanFields(fields));
        }
    }

    fn on_record(&self, id: &Id, values: &Values<'_>, context: Context<'_, S>) {
        let mut late = Vec::new();
        // Collected before the lock: a `Debug` that panics in here would otherwise meet it again in the panic hook.
        values.record(&mut Collect { counts: self.writer.counts(), put: |key, value| late.push((key, value)) });
        if let Some(span) = context.span(id)
            && let Some(SpanFields(fields)) = span.extensions_mut().get_mut()
        {
            fields.retain(|(known, _)| late.iter().all(|(key, _)| key != known));
            fields.append(&mut late);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        let mut record = Record::new(clock::wall(), *metadata.level(), metadata.target());
        event.record(&mut Collect { counts: self.writer.counts(), put: |key, value| record.put(key, value) });
        // From the event outwards: what is there already stays.
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(SpanFields(fields)) = span.extensions().get() {
                fields.iter().for_each(|(key, value)| record.put(key, value.clone()));
            }
        }
        self.writer.push(self.format.render(&record));
    }
}

/// One line before it has a format.
#[derive(Debug)]
pub(super) struct Record {
    at: Timestamp,
    pub(super) level: Level,
    pub(super) target: &'static str,
    fields: Vec<(&'static str, Value)>,
    bytes: usize,
}

impl Record {
    pub(super) const fn new(at: Timestamp, level: Level, target: &'static str) -> Self {
        Self { at, level, target, fields: Vec::new(), bytes: 0 }
    }

    /// Adds a field, unless one of that name is there or the line is full.
    pub(super) fn put(&mut self, key: &'static str, value: Value) {
        if self.get(key).is_some() || matches!(key, "timestamp" | "level" | "target") {
            return;
        }
        let bytes = key.len().saturating_add(value.as_str().map_or(32, str::len));
        if self.bytes.saturating_add(bytes) > RECORD_BYTES_MAX {
            return;
        }
        self.bytes = self.bytes.saturating_add(bytes);
        self.fields.push((key, value));
    }

    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.fields.iter().find(|(known, _)| *known == key).map(|(_, value)| value)
    }

    /// All fields, the well-known ones first.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        let leading = LEADING.into_iter().filter_map(|key| Some((key, self.get(key)?)));
        leading.chain(self.fields.iter().filter(|(key, _)| !LEADING.contains(key)).map(|(key, value)| (*key, value)))
    }
}

/// Visits typed fields; texts are masked, then bounded.
struct Collect<'a, P> {
    counts: &'a LogCounts,
    put: P,
}

impl<P: FnMut(&'static str, Value)> Collect<'_, P> {
    fn text(&mut self, field: &Field, text: &str) {
        let (text, hits) = redact_field(field.name(), text);
        self.counts.redacted.inc_by(hits);
        (self.put)(field.name(), Value::from(bounded(&text)));
    }
}

impl<P: FnMut(&'static str, Value)> Visit for Collect<'_, P> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, &format!("{value:?}"));
    }

    fn record_error(&mut self, field: &Field, error: &(dyn std::error::Error + 'static)) {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            // Writing into a string cannot fail.
            let _written = write!(text, ": {cause}");
            source = cause.source();
        }
        self.text(field, &text);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        (self.put)(field.name(), Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        (self.put)(field.name(), Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        (self.put)(field.name(), Value::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        (self.put)(field.name(), Value::from(value));
    }
}

fn bounded(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or(text)
}

/// A value without quotes.
pub(super) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn json_line(record: &Record) -> String {
    // A map would sort its keys or cost a dependency; what people read should begin with what they look for.
    let mut line = format!("{{\"timestamp\":\"{:.6}\",\"level\":\"{}\"", record.at, record.level);
    if record.get("event").is_none() {
        push_json(&mut line, "target", &Value::from(record.target));
    }
    record.fields().for_each(|(key, value)| push_json(&mut line, key, value));
    line.push_str("}\n");
    line
}

fn push_json(line: &mut String, key: &str, value: &Value) {
    let _written = write!(line, ",{}:{value}", Value::from(key));
}

fn text_line(record: &Record) -> String {
    let event = record.get("event").map_or_else(|| record.target.to_owned(), plain);
    let mut line = format!("{:.3} {:5} {}", record.at, record.level.as_str(), printable(&event));
    if let Some(message) = record.get("message") {
        let _written = write!(line, ": {}", printable(&plain(message)));
    }
    for (key, value) in record.fields().filter(|(key, _)| !matches!(*key, "event" | "message")) {
        let value = plain(value);
        let quoted = value.is_empty() || value.chars().any(|letter| letter.is_whitespace() || matches!(letter, '"' | '='));
        let _written = if quoted { write!(line, " {key}={:?}", value) } else { write!(line, " {key}={}", printable(&value)) };
    }
    line.push('\n');
    line
}

/// Without control characters, so that no value can forge a line or talk to the terminal.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() { shown.extend(letter.escape_default()) } else { shown.push(letter) }
    }
    shown
}

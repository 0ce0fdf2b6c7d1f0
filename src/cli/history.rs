//! `evertoken history`: what the ledger says, one line a row, the newest last.

use super::layout::{TableOptions, instant, plain, wrapped};
use super::table::{Cell, Column, Shape, render};
use crate::ledger::{History, Row};

const COLUMNS: [Column; 6] = [
    Column { title: "TIME", least: 20, spare: 0, shape: Shape::Prose },
    Column { title: "TOKEN", least: 10, spare: 2, shape: Shape::Name },
    Column { title: "EVENT", least: 18, spare: 0, shape: Shape::Prose },
    Column { title: "FINGERPRINT", least: 16, spare: 3, shape: Shape::Prose },
    Column { title: "ROTATION", least: 8, spare: 4, shape: Shape::Prose },
    Column { title: "WHAT", least: 16, spare: 1, shape: Shape::Flow },
];

/// Hex digits of a rotation's id that tell it from others.
const ROTATION_DIGITS: usize = 8;

/// The rows for people, then what could not be read. The token's column is left out where all rows are of one.
#[must_use]
pub fn table(history: &History, options: &TableOptions) -> String {
    let mut text = if history.rows.is_empty() {
        "The ledger has no rows of this.\n".to_owned()
    } else {
        let one = history.rows.iter().all(|row| history.rows.first().is_some_and(|first| first.token == row.token));
        let shown = |at: usize| !one || COLUMNS.get(at).is_none_or(|column| column.title != "TOKEN");
        let rows: Vec<Vec<Cell>> = history.rows.iter().map(|row| keep(cells(row), shown)).collect();
        render(&keep(COLUMNS.into(), shown), &rows, options)
    };
    for note in &history.notes {
        text.push_str(&wrapped("note: ", &plain(note), options));
    }
    text
}

/// The rows as a JSON array, whole. What could not be read is not in it: it is for standard error.
///
/// # Errors
/// When a row cannot be put into JSON, which its types rule out.
pub fn json(history: &History) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(&history.rows).map(|text| text + "\n")
}

fn keep<T>(list: Vec<T>, shown: impl Fn(usize) -> bool) -> Vec<T> {
    list.into_iter().enumerate().filter(|(at, _)| shown(*at)).map(|(_, each)| each).collect()
}

fn cells(row: &Row) -> Vec<Cell> {
    let rotation: String = row.rotation_id.iter().flat_map(|id| id.chars()).take(ROTATION_DIGITS).collect();
    vec![
        Cell::new(instant(row.at)),
        Cell::new(plain(&row.token)),
        Cell::new(plain(&row.event)),
        Cell::new(row.fingerprint.map(|token| token.to_string()).unwrap_or_default()),
        Cell::new(plain(&rotation)),
        Cell::new(plain(&message(row))),
    ]
}

/// What the row says in words; where it has none, all that it says.
fn message(row: &Row) -> String {
    if let Some(serde_json::Value::String(message)) = row.fields.get("message") {
        return message.clone();
    }
    let field = |(key, value): (&String, &serde_json::Value)| match value.as_str() {
        Some(text) => format!("{key}={text}"),
        None => format!("{key}={value}"),
    };
    row.fields.iter().map(field).collect::<Vec<_>>().join(" ")
}

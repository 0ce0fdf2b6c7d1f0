//! A table that fits: columns are narrowed as far as they allow, then those that can be done without are left out.

use super::layout::{TableOptions, columns, cut_end, cut_middle, lines};
use crate::rotation::plan::Severity;

/// Blanks between two columns.
const GAP: usize = 2;

/// A column of a table.
pub(super) struct Column {
    /// Its heading.
    pub(super) title: &'static str,
    /// It is not made narrower than this.
    pub(super) least: usize,
    /// The highest is left out first where the width does not suffice; zero stays.
    pub(super) spare: u8,
    /// How what does not fit is cut, and where the rest stands.
    pub(super) shape: Shape,
}

/// How a column's text is placed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// To the left, cut in the middle.
    Name,
    /// To the left, cut at the end.
    Prose,
    /// To the right.
    Figure,
    /// To the left; what does not fit goes on below. For the last column.
    Flow,
}

/// One field of a row.
pub(super) struct Cell {
    text: String,
    paint: Option<Severity>,
}

impl Cell {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), paint: None }
    }

    pub(super) fn painted(text: impl Into<String>, severity: Severity) -> Self {
        Self { text: text.into(), paint: Some(severity) }
    }
}

/// The table with its headings; every row has one cell for each column.
pub(super) fn render(list: &[Column], rows: &[Vec<Cell>], options: &TableOptions) -> String {
    let widths = widths(list, rows, options.columns());
    let title = |column: &Column, width: usize| options.bold(&placed(column.title, column.shape, width, options));
    let head = line(list.iter().zip(&widths).filter_map(|(column, width)| Some(title(column, (*width)?))));
    let body = rows.iter().flat_map(|row| block(list, row, &widths, options));
    std::iter::once(head).chain(body).collect()
}

/// The lines of one row: one, or more where a column flows.
fn block(list: &[Column], row: &[Cell], widths: &[Option<usize>], options: &TableOptions) -> Vec<String> {
    let shown = || row.iter().zip(list).zip(widths).filter_map(|((cell, column), width)| Some((cell, column.shape, (*width)?)));
    let fields: Vec<Vec<String>> = shown()
        .map(|(cell, shape, width)| match shape {
            Shape::Flow => lines(&cell.text, width),
            Shape::Name | Shape::Prose | Shape::Figure => vec![cell.text.clone()],
        })
        .collect();
    let height = fields.iter().map(Vec::len).max().unwrap_or(0);
    let field = |at: usize, texts: &Vec<String>, (cell, shape, width): (&Cell, Shape, usize)| {
        let text = placed(texts.get(at).map_or("", String::as_str), shape, width, options);
        cell.paint.map_or_else(|| text.clone(), |severity| options.paint(severity, &text))
    };
    (0..height).map(|at| line(fields.iter().zip(shown()).map(|(texts, column)| field(at, texts, column)))).collect()
}

fn line(fields: impl Iterator<Item = String>) -> String {
    let fields: Vec<String> = fields.collect();
    format!("{}\n", fields.join(&" ".repeat(GAP)).trim_end())
}

fn placed(text: &str, shape: Shape, width: usize, options: &TableOptions) -> String {
    let text = if shape == Shape::Name { cut_middle(text, width, options) } else { cut_end(text, width, options) };
    let pad = " ".repeat(width.saturating_sub(columns(&text)));
    if shape == Shape::Figure { format!("{pad}{text}") } else { format!("{text}{pad}") }
}

/// The width of each column; `None` for one that is left out.
fn widths(list: &[Column], rows: &[Vec<Cell>], room: usize) -> Vec<Option<usize>> {
    let natural = |(at, column): (usize, &Column)| {
        let texts = rows.iter().filter_map(|row| row.get(at)).map(|cell| columns(&cell.text));
        texts.chain([columns(column.title)]).max()
    };
    let mut widths: Vec<Option<usize>> = list.iter().enumerate().map(natural).collect();
    let total = |widths: &[Option<usize>]| {
        let shown = widths.iter().flatten();
        shown.clone().sum::<usize>() + GAP * shown.count().saturating_sub(1)
    };
    let narrowest = |widths: &[Option<usize>]| -> Vec<Option<usize>> {
        widths.iter().zip(list).map(|(width, column)| width.map(|width| width.min(column.least))).collect()
    };
    while total(&narrowest(&widths)) > room {
        let spare = (0..list.len()).filter(|at| widths.get(*at).is_some_and(Option::is_some));
        let Some(out) = spare.filter_map(|at| Some((list.get(at)?.spare, at))).max().filter(|(spare, _)| *spare > 0) else { break };
        if let Some(width) = widths.get_mut(out.1) {
            *width = None;
        }
    }
    // The widest gives first, so that no column is starved for another's sake.
    while total(&widths) > room {
        let shown = widths.iter_mut().zip(list).filter_map(|(width, column)| Some((width.as_mut()?, column.least)));
        let Some((widest, _)) = shown.filter(|(width, least)| **width > *least).max_by_key(|(width, _)| **width) else { break };
        *widest -= 1;
    }
    widths
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] = [
        Column { title: "TOKEN", least: 6, spare: 0, shape: Shape::Name },
        Column { title: "LEFT", least: 4, spare: 1, shape: Shape::Figure },
        Column { title: "WHY", least: 10, spare: 2, shape: Shape::Prose },
    ];

    fn rows() -> Vec<Vec<Cell>> {
        vec![
            vec![
                Cell::painted("a-name-of-forty-columns-which-is-far-too-long", Severity::Critical),
                Cell::new("1 d"),
                Cell::new("because"),
            ],
            vec![Cell::new("b"), Cell::new("23.4 d"), Cell::new("the window of the consumers runs")],
        ]
    }

    #[test]
    fn a_table_fits_and_leaves_out_what_can_be_done_without() {
        let wide = render(&COLUMNS, &rows(), &TableOptions { width: 60, ..TableOptions::default() });
        assert_eq!(
            wide,
            "TOKEN                        LEFT  WHY\n\
             a-name-of-fo…far-too-long     1 d  because\n\
             b                          23.4 d  the window of the consum…\n"
        );
        for width in 40..120 {
            let text = render(&COLUMNS, &rows(), &TableOptions { width, ..TableOptions::default() });
            assert!(text.lines().all(|line| columns(line) <= width), "{width}\n{text}");
        }
    }

    #[test]
    fn colour_takes_no_width() {
        let options = TableOptions { width: 60, color: true, unicode: true };
        let painted = render(&COLUMNS, &rows(), &options);
        assert!(painted.contains("\u{1b}[31m"), "{painted:?}");
        let bare = ["\u{1b}[31m", "\u{1b}[1m", "\u{1b}[0m"].iter().fold(painted, |text, code| text.replace(code, ""));
        let trimmed: Vec<&str> = bare.lines().map(str::trim_end).collect();
        let plain = render(&COLUMNS, &rows(), &TableOptions { color: false, ..options });
        assert_eq!(trimmed, plain.lines().collect::<Vec<_>>());
    }
}

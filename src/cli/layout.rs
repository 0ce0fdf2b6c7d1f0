//! Text on a terminal: what fits, what is cut, what is painted.
//!
//! Everything here is a pure function of its arguments; the environment is read by the caller. Widths are columns of a terminal and
//! not bytes or letters, so that a name in any script keeps a table straight. Text that others wrote (names, a provider's message)
//! cannot move the cursor: see [`plain`].

use jiff::Timestamp;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::rotation::plan::Severity;

/// What is piped has no width: nothing is cut or broken but where a line of its own begins.
const UNBOUNDED: usize = 1 << 20;
/// Narrower terminals get lines of this width.
const WIDTH_MIN: usize = 40;

/// How text is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableOptions {
    /// Columns that a line may have.
    pub width: usize,
    /// Whether severities are painted.
    pub color: bool,
    /// Whether blocks, ticks and an ellipsis may be used; else ASCII stands in.
    pub unicode: bool,
}

impl Default for TableOptions {
    fn default() -> Self {
        Self { width: 100, color: false, unicode: true }
    }
}

impl TableOptions {
    /// What fits the environment: colours on a terminal only, and neither under `NO_COLOR` (any value but the empty one) nor on a
    /// `dumb` one; Unicode where the locale's character set (`LC_ALL`, else `LC_CTYPE`, else `LANG`) is UTF-8. `width` is the
    /// terminal's, `None` where it is not known; what goes to another program is not broken into lines of a width, unless `COLUMNS` says.
    #[must_use]
    pub fn of(terminal: bool, width: Option<usize>, variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let dumb = set("TERM").is_some_and(|term| term == "dumb");
        let unknown = if terminal { Self::default().width } else { UNBOUNDED };
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default().to_ascii_lowercase();
        Self {
            width: width.or_else(|| set("COLUMNS")?.parse().ok()).filter(|width| *width > 0).unwrap_or(unknown),
            color: terminal && !dumb && set("NO_COLOR").is_none(),
            unicode: !dumb && (locale.contains("utf-8") || locale.contains("utf8")),
        }
    }

    /// The width that is laid out for.
    pub(super) fn columns(&self) -> usize {
        self.width.max(WIDTH_MIN)
    }

    /// What stands for a severity where there is no colour.
    pub(super) const fn mark(&self, severity: Severity) -> &'static str {
        match (severity, self.unicode) {
            (Severity::Calm, _) => " ",
            (Severity::Attention, _) => "!",
            (Severity::Critical, true) => "✗",
            (Severity::Critical, false) => "X",
        }
    }

    /// Yes, no, or not known.
    pub(super) const fn tick(&self, holds: Option<bool>) -> &'static str {
        match (holds, self.unicode) {
            (Some(true), true) => "✓",
            (Some(false), true) => "✗",
            (Some(true), false) => "+",
            (Some(false), false) => "-",
            (None, _) => "?",
        }
    }

    /// What stands for text that was left out.
    pub(super) const fn ellipsis(&self) -> &'static str {
        if self.unicode { "…" } else { ".." }
    }

    /// Text in a severity's colour, where there is colour.
    pub(super) fn paint(&self, severity: Severity, text: &str) -> String {
        let code = match severity {
            Severity::Calm => "32",
            Severity::Attention => "33",
            Severity::Critical => "31",
        };
        self.escape(code, text)
    }

    /// Text in bold, where there is colour.
    pub(super) fn bold(&self, text: &str) -> String {
        self.escape("1", text)
    }

    fn escape(&self, code: &str, text: &str) -> String {
        if self.color && !text.trim().is_empty() { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Text in which nothing commands the terminal: control characters and marks of writing direction become `?`, line ends a blank.
pub(super) fn plain(text: &str) -> String {
    let tame = |letter: char| match letter {
        '\n' | '\r' | '\t' => ' ',
        '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '?',
        letter if letter.is_control() => '?',
        letter => letter,
    };
    text.chars().map(tame).collect()
}

/// Columns that a text takes.
pub(super) fn columns(text: &str) -> usize {
    text.width()
}

/// The text, cut in its middle to at most `width` columns: the ends of a name tell it from others.
pub(super) fn cut_middle(text: &str, width: usize, options: &TableOptions) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let Some(room) = width.checked_sub(columns(options.ellipsis())) else { return head(text.chars(), width) };
    let end = room / 2;
    let start = head(text.chars(), room - end);
    let tail: String = head(text.chars().rev(), end).chars().rev().collect();
    format!("{start}{}{tail}", options.ellipsis())
}

/// The text, cut at its end to at most `width` columns.
pub(super) fn cut_end(text: &str, width: usize, options: &TableOptions) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let Some(room) = width.checked_sub(columns(options.ellipsis())) else { return head(text.chars(), width) };
    format!("{}{}", head(text.chars(), room).trim_end(), options.ellipsis())
}

fn head(letters: impl Iterator<Item = char>, width: usize) -> String {
    let mut used = 0;
    letters
        .take_while(|letter| {
            used += letter.width().unwrap_or(0);
            used <= width
        })
        .collect()
}

/// Lines of at most the options' width: the first begins with `lead`, the others with as many blanks.
pub(super) fn wrapped(lead: &str, text: &str, options: &TableOptions) -> String {
    let indent = columns(lead);
    let blank = " ".repeat(indent);
    let line = |(at, line): (usize, String)| format!("{}{line}", if at == 0 { lead } else { &blank }).trim_end().to_owned() + "\n";
    lines(text, options.columns().saturating_sub(indent)).into_iter().enumerate().map(line).collect()
}

/// The text in lines of at most `width` columns, at least one line. A word that is longer than a line is broken;
/// one with no-break spaces stays whole where it fits, and they come out as blanks.
pub(super) fn lines(text: &str, width: usize) -> Vec<String> {
    // Any letter fits two columns.
    let width = width.max(2);
    let mut done = Vec::new();
    let mut line = String::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        if !line.is_empty() && columns(&line) + 1 + columns(word) > width {
            done.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        let mut rest = word;
        while columns(rest) > width {
            let piece = head(rest.chars(), width);
            let Some((_, after)) = rest.split_at_checked(piece.len()).filter(|_| !piece.is_empty()) else { break };
            done.push(piece);
            rest = after;
        }
        line.push_str(rest);
    }
    done.push(line);
    done.into_iter().map(|line| line.replace('\u{a0}', " ")).collect()
}

/// A number with its thousands set apart.
pub(super) fn thousands(number: impl Into<i128>) -> String {
    let digits = number.into().to_string();
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// An instant, in UTC wherever the reader is, to the second.
pub(super) fn instant(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASCII: TableOptions = TableOptions { width: 60, color: false, unicode: false };

    #[test]
    fn the_environment_decides_on_colour_and_characters() {
        let of = |terminal, list: &[(&str, &str)]| {
            TableOptions::of(terminal, None, |name| list.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
        };
        assert_eq!(of(true, &[("LANG", "de_DE.UTF-8")]), TableOptions { width: 100, color: true, unicode: true });
        assert_eq!(of(false, &[("LANG", "en_US.utf8"), ("COLUMNS", "72")]), TableOptions { width: 72, color: false, unicode: true });
        assert!(!of(true, &[("LC_ALL", "C"), ("LANG", "en_US.UTF-8")]).unicode, "LC_ALL stands above LANG");
        assert!(of(true, &[("LC_ALL", ""), ("LANG", "en_US.UTF-8")]).unicode, "an empty variable is none");
        assert!(!of(true, &[("NO_COLOR", "1")]).color);
        assert!(of(true, &[("NO_COLOR", "")]).color);
        assert_eq!(of(true, &[("TERM", "dumb"), ("LANG", "C.UTF-8")]), TableOptions { width: 100, color: false, unicode: false });
        assert_eq!(of(true, &[("COLUMNS", "0")]).width, 100);
        let piped = of(false, &[]);
        assert_eq!(wrapped("To do: ", &"word ".repeat(400), &piped).lines().count(), 1, "what is piped is not broken");
    }

    #[test]
    fn names_are_cut_in_the_middle_by_columns() {
        assert_eq!(cut_middle("whatsapp-bot-emea", 9, &TableOptions::default()), "what…emea");
        assert_eq!(cut_middle("whatsapp-bot-emea", 9, &ASCII), "what..mea");
        assert_eq!(cut_middle("日本語の名前です", 7, &TableOptions::default()), "日…す");
        assert_eq!(cut_middle("short", 5, &ASCII), "short");
        assert_eq!(cut_middle("name", 1, &ASCII), "n");
        assert_eq!(cut_end("the window ends", 11, &ASCII), "the windo..");
    }

    #[test]
    fn wrapping_breaks_between_words_and_inside_longer_ones() {
        let options = TableOptions { width: 40, ..ASCII };
        assert_eq!(
            wrapped("To do: ", "run `evertoken adopt bot` and look again", &options),
            "To do: run `evertoken adopt bot` and\n       look again\n"
        );
        let long = "x".repeat(70);
        let text = wrapped("  ", &format!("a {long} b"), &options);
        assert!(text.lines().all(|line| columns(line) <= 40), "{text}");
        assert_eq!(text.split_whitespace().collect::<String>(), format!("a{long}b"));
        assert_eq!(wrapped("x ", "", &options), "x\n");
    }

    #[test]
    fn text_of_others_cannot_command_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\nc\u{202e}d\u{7}"), "a?[2Jb c?d?");
    }

    #[test]
    fn thousands_are_set_apart() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567"), (-100, "-100"), (-12_345, "-12,345")] {
            assert_eq!(thousands(number), text);
        }
    }
}

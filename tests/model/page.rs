//! The counts on docs/proof.md: one row for each setting, written by the tests and held by them.

use std::io::{Read as _, Seek as _, Write as _};

use crate::explore::Found;
use crate::settings::Named;

/// What the page says of a setting.
pub(crate) struct Row {
    start: String,
    whole: String,
}

impl Row {
    pub(crate) fn of(named: &Named, found: &Found) -> Self {
        let left = &named.setting.left;
        let may = [
            (left.crashes, "kill"),
            (left.lost, "lost answer"),
            (left.failures, "clean failure"),
            (left.late, "late request"),
            (left.stalls, "pause"),
            (left.edits, "edit of the entry"),
            (left.sink_edits, "edit of a sink"),
            (left.same, "same string"),
            (left.unfit, "unfit token"),
            (left.lies, "revoke without effect"),
            (left.deaths, "token ended by the provider"),
            (left.trips, "opened breaker"),
            (left.holds, "hold"),
            (u8::from(named.setting.gate), "gate that confirms when it likes"),
        ];
        let plural = |count: usize, what: &str| match what.split_once(" of ") {
            _ if count == 1 => format!("{count} {what}"),
            Some((head, rest)) => format!("{count} {head}s of {rest}"),
            None => format!("{count} {what}s"),
        };
        let may: Vec<String> = may.iter().filter(|(count, _)| *count > 0).map(|(count, what)| plural(usize::from(*count), what)).collect();
        let may = if may.is_empty() { "nothing".to_owned() } else { may.join(", ") };
        let setting = format!(
            "{}, {}, {}",
            plural(named.setting.rotators, "rotator"),
            plural(named.setting.sinks, "sink"),
            plural(usize::from(left.rotations), "rotation")
        );
        let start = format!("| {} |", named.name);
        let whole =
            format!("{start} {setting} | {may} | {} | {} | {} |", thousands(found.states), thousands(found.transitions), found.depth);
        Self { start, whole }
    }

    /// The page holds this very row. With `UPDATE_GOLDEN=1` it is put there.
    pub(crate) fn is_on_the_page(&self) {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/proof.md");
        let mut file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        // Tests run beside each other, each with a row of its own.
        file.lock().unwrap();
        let mut page = String::new();
        file.read_to_string(&mut page).unwrap();
        let row = page.lines().find(|line| line.starts_with(&self.start)).unwrap_or_else(|| panic!("no row {} on the page", self.start));
        if asked_to_write() {
            let page = page.replace(row, &self.whole);
            file.set_len(0).unwrap();
            file.rewind().unwrap();
            return file.write_all(page.as_bytes()).unwrap();
        }
        assert_eq!(row, self.whole, "docs/proof.md says something else; UPDATE_GOLDEN=1 writes it anew");
    }
}

/// A page is this text. With `UPDATE_GOLDEN=1` it becomes it.
pub(crate) fn is_the_page(name: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let mut file = std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap();
    let mut page = String::new();
    file.read_to_string(&mut page).unwrap();
    if asked_to_write() && page != text {
        file.set_len(0).unwrap();
        file.rewind().unwrap();
        return file.write_all(text.as_bytes()).unwrap();
    }
    assert!(page == text, "{name} says something else; UPDATE_GOLDEN=1 writes it anew:\n{text}");
}

#[expect(clippy::disallowed_methods, reason = "a test is told by the environment to write what it compares with")]
fn asked_to_write() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some()
}

fn thousands(count: usize) -> String {
    let digits = count.to_string();
    let (head, tail) = digits.split_at(digits.len() % 3);
    let groups = tail.as_bytes().chunks(3).map(|group| String::from_utf8_lossy(group).into_owned());
    std::iter::once(head.to_owned()).filter(|head| !head.is_empty()).chain(groups).collect::<Vec<_>>().join(",")
}

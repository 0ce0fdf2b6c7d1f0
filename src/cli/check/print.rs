//! Findings on the terminal and as JSON.

use serde::Serialize;

use super::super::layout::{TableOptions, plain, wrapped};
use super::super::show::options;
use super::super::{Failure, terminal};
use super::finding::{Section, name};
use crate::rotation::plan;
use crate::store::{Finding, Severity};

/// From this many sections on, those in which all is well are one line.
const SECTIONS_WHOLE: usize = 24;

/// One finding, for programs.
#[derive(Serialize)]
struct Row<'a> {
    subject: &'a str,
    severity: &'static str,
    what: &'a str,
    remedy: &'a str,
}

/// Everything, for programs.
#[derive(Serialize)]
struct Document<'a> {
    schema_version: u32,
    errors: usize,
    warnings: usize,
    findings: Vec<Row<'a>>,
}

pub(super) fn json(sections: &[Section]) -> Result<(), Failure> {
    let each = sections.iter().flat_map(|section| section.findings.iter().map(move |finding| (&section.subject, finding)));
    let rows = each.map(|(subject, Finding { severity, what, remedy })| Row { subject, severity: name(*severity), what, remedy });
    let document = Document {
        schema_version: 1,
        errors: count(sections, Severity::Error),
        warnings: count(sections, Severity::Warning),
        findings: rows.collect(),
    };
    terminal::say(&serde_json::to_string_pretty(&document).map_err(|error| Failure::error(error.to_string()))?);
    Ok(())
}

pub(super) fn table(sections: &[Section]) {
    terminal::say(&text(sections, &options()));
}

fn text(sections: &[Section], options: &TableOptions) -> String {
    let short = sections.len() >= SECTIONS_WHOLE;
    let mut text = String::new();
    let mut well = 0;
    for section in sections.iter().filter(|section| !section.findings.is_empty()) {
        if short && section.worst() == Severity::Fine {
            well += 1;
            continue;
        }
        text += &format!("{}\n", options.bold(&plain(&section.subject)));
        section.findings.iter().for_each(|finding| text += &line(finding, options));
    }
    if well > 0 {
        text += &format!("All is well with {well} others; -o json shows them too.\n");
    }
    text + "\n" + &summary(sections, options)
}

fn line(finding: &Finding, options: &TableOptions) -> String {
    let word = name(finding.severity);
    let body = wrapped(&format!("  {word:<8}"), &plain(&finding.what), options);
    let mut text = body.replacen(word, &options.paint(paint(finding.severity), word), 1);
    if !finding.remedy.is_empty() {
        text += &wrapped("          To do: ", &plain(&finding.remedy), options);
    }
    text
}

fn summary(sections: &[Section], options: &TableOptions) -> String {
    let (errors, warnings) = (count(sections, Severity::Error), count(sections, Severity::Warning));
    let several = |count: usize, word: &str| if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") };
    let (text, severity) = match (errors, warnings) {
        (0, 0) => ("All is well.".to_owned(), Severity::Fine),
        (0, _) => (several(warnings, "warning"), Severity::Warning),
        _ => (format!("{}, {}", several(errors, "error"), several(warnings, "warning")), Severity::Error),
    };
    options.paint(paint(severity), &text) + "\n"
}

const fn paint(severity: Severity) -> plan::Severity {
    match severity {
        Severity::Fine => plan::Severity::Calm,
        Severity::Warning => plan::Severity::Attention,
        Severity::Error => plan::Severity::Critical,
    }
}

fn count(sections: &[Section], severity: Severity) -> usize {
    sections.iter().flat_map(|section| &section.findings).filter(|finding| finding.severity == severity).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sections() -> Vec<Section> {
        let mut app = Section::new("app acme");
        app.fine("Meta accepts its id and secret");
        app.error("the clock of this host is seven minutes ahead of the one of Meta, which is too much by far", "start chronyd");
        vec![app]
    }

    #[test]
    fn findings_are_grouped_aligned_and_counted() {
        let options = TableOptions { width: 60, ..TableOptions::default() };
        assert_eq!(
            text(&sections(), &options),
            "app acme\n  \
               fine    Meta accepts its id and secret\n  \
               error   the clock of this host is seven minutes ahead of\n          \
                       the one of Meta, which is too much by far\n          \
                       To do: start chronyd\n\n\
             1 error, 0 warnings\n"
        );
    }

    #[test]
    fn many_that_are_well_are_one_line() {
        let mut many = sections();
        for at in 0..SECTIONS_WHOLE {
            let mut section = Section::new(format!("token {at}"));
            section.fine("well");
            many.push(section);
        }
        let text = text(&many, &TableOptions::default());
        assert!(text.contains("All is well with 24 others") && text.contains("app acme") && !text.contains("token 3"), "{text}");
    }
}

//! `[stores.NAME]`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::apps::required;
use super::values;
use crate::config::cursor::{Table, word};
use crate::config::draft::StoreDraft;
use crate::config::file::Syntax;
use crate::config::mistake::Wrong;
use crate::config::settings::{AwsSecretsManager, FileSettings, Store};

#[derive(Clone, Copy)]
enum Kind {
    Aws,
    File,
}

const KINDS: [(&str, Kind); 2] = [("aws-secrets-manager", Kind::Aws), ("file", Kind::File)];

/// The keys of the other kind are known too: they get a reason instead of "unknown".
const AWS_KEYS: [&str; 5] = ["region", "role_arn", "external_id", "profile", "endpoint_url"];
const FILE_KEYS: [&str; 3] = ["dir", "mode", "group"];

pub(super) fn store(table: Table<'_>, known: &BTreeSet<String>, syntax: Syntax) -> (StoreDraft, Option<Store>) {
    let mut table = table;
    let before = table.report.count();
    let fix = "write kind = \"aws-secrets-manager\" or kind = \"file\"";
    let kind = required(&mut table, "kind", known, syntax, fix, |value| value.text(|text| word(text, &KINDS)));
    match kind {
        Some(Kind::Aws) => {
            let aws = aws(&mut table, known);
            refuse(&mut table, &FILE_KEYS, "file");
            let report = table.report;
            table.finish(known);
            (StoreDraft::Aws { aws: aws.clone(), flawed: report.count() > before }, Some(Store::AwsSecretsManager(aws)))
        }
        Some(Kind::File) => {
            let file = file(&mut table, known, syntax);
            refuse(&mut table, &AWS_KEYS, "aws-secrets-manager");
            table.finish(known);
            (StoreDraft::File { dir: file.dir.clone() }, file.whole().map(Store::File))
        }
        // Which keys are right depends on the kind; their values can be told of all the same.
        None => {
            aws(&mut table, known);
            file(&mut table, known, Syntax::Broken);
            table.finish(known);
            (StoreDraft::Unknown, None)
        }
    }
}

fn aws(table: &mut Table<'_>, known: &BTreeSet<String>) -> AwsSecretsManager {
    let store = AwsSecretsManager {
        region: table.text("region", values::region),
        role_arn: table.text("role_arn", values::role_arn),
        external_id: table.text("external_id", values::external_id),
        profile: table.text("profile", values::plain),
        endpoint_url: table.text("endpoint_url", values::service_url),
    };
    if table.holds("external_id") && !table.holds("role_arn") && !table.misspelt("role_arn", known) {
        table.wrong(Wrong::new("external_id is only sent along with role_arn", "write the role_arn to assume, or delete external_id"));
    }
    store
}

/// A file store of which parts may be wrong.
struct FileDraft {
    dir: Option<PathBuf>,
    mode: Option<u32>,
    group: Option<String>,
}

impl FileDraft {
    fn whole(self) -> Option<FileSettings> {
        Some(FileSettings { dir: self.dir?, mode: self.mode.unwrap_or(FileSettings::DEFAULT_MODE), group: self.group })
    }
}

fn file(table: &mut Table<'_>, known: &BTreeSet<String>, syntax: Syntax) -> FileDraft {
    let folder = table.source.folder();
    let fix = "write dir = \"/run/evertoken/tokens\"";
    let dir = required(table, "dir", known, syntax, fix, |value| value.text(|text| values::path(text, folder)));
    let mode = table.text("mode", values::mode);
    let group = table.text("group", values::plain);
    FileDraft { dir, mode, group }
}

fn refuse(table: &mut Table<'_>, keys: &[&'static str], kind: &str) {
    for key in keys {
        table.foreign(key, Wrong::new(format!("this is a key of the kind {kind:?}"), "delete it, or change the kind"));
    }
}

//! `[stores.NAME]`.

use std::collections::BTreeSet;

use super::apps::required;
use super::values;
use crate::config::cursor::{Table, word};
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

pub(super) fn store(table: Table<'_>, known: &BTreeSet<String>, syntax: Syntax) -> Option<Store> {
    let mut table = table;
    let fix = "write kind = \"aws-secrets-manager\" or kind = \"file\"";
    let kind = required(&mut table, "kind", syntax, fix, |value| value.text(|text| word(text, &KINDS)));
    match kind {
        Some(Kind::Aws) => aws(table, known).map(Store::AwsSecretsManager),
        Some(Kind::File) => file(table, known, syntax).map(Store::File),
        // Which keys are right depends on the kind.
        None => None,
    }
}

fn aws(table: Table<'_>, known: &BTreeSet<String>) -> Option<AwsSecretsManager> {
    let mut table = table;
    let store = AwsSecretsManager {
        region: table.text("region", values::region),
        role_arn: table.text("role_arn", values::role_arn),
        external_id: table.text("external_id", values::external_id),
        profile: table.text("profile", values::plain),
        endpoint_url: table.text("endpoint_url", values::service_url),
    };
    if table.holds("external_id") && !table.holds("role_arn") {
        table.wrong(Wrong::new("external_id is only sent along with role_arn", "write the role_arn to assume, or delete external_id"));
    }
    refuse(&mut table, &FILE_KEYS, "file");
    table.finish(known);
    Some(store)
}

fn file(table: Table<'_>, known: &BTreeSet<String>, syntax: Syntax) -> Option<FileSettings> {
    let mut table = table;
    let folder = table.source.folder();
    let fix = "write dir = \"/run/evertoken/tokens\"";
    let dir = required(&mut table, "dir", syntax, fix, |value| value.text(|text| values::path(text, folder)));
    let mode = table.text("mode", values::mode);
    let group = table.text("group", values::plain);
    refuse(&mut table, &AWS_KEYS, "aws-secrets-manager");
    table.finish(known);
    Some(FileSettings { dir: dir?, mode: mode.unwrap_or(FileSettings::DEFAULT_MODE), group })
}

fn refuse(table: &mut Table<'_>, keys: &[&'static str], kind: &str) {
    for key in keys {
        table.foreign(key, Wrong::new(format!("this is a key of the kind {kind:?}"), "delete it, or change the kind"));
    }
}

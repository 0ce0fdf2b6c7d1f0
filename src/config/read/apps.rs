//! `[apps.NAME]`.

use std::collections::BTreeSet;

use super::values;
use crate::config::cursor::{Table, Value};
use crate::config::draft::AppDraft;
use crate::config::file::Syntax;
use crate::config::mistake::{Wrong, passes_for_secret};
use crate::config::secret_ref::{LocalSecret, SecretRef};
use crate::config::settings::{App, AppToken};

const APP_TOKENS: [(&str, AppToken); 2] = [("composed", AppToken::Composed), ("fetched", AppToken::Fetched)];

pub(super) fn app(name: &str, table: Table<'_>, known: &BTreeSet<String>, syntax: Syntax) -> (AppDraft, Option<App>) {
    let mut table = table;
    let id = required(&mut table, "id", known, syntax, "write the app's id, as in id = \"1234567890\"", |value| value.text(values::digits));
    let fix = format!("write secret = {{ file = \"/etc/evertoken/{name}.secret\" }}");
    let secret = required(&mut table, "secret", known, syntax, &fix, |value| secret_ref(value, name, known));
    let secret_previous = table.value("secret_previous").and_then(|value| secret_ref(value, name, known));
    let graph_url = table.text("graph_url", values::service_url);
    let graph_version = table.text("graph_version", values::graph_version);
    let app_token = table.word("app_token", &APP_TOKENS);
    table.finish(known);
    let draft = AppDraft { secret: secret.clone(), secret_previous: secret_previous.clone() };
    let whole = || {
        Some(App {
            id: id?,
            secret: secret?,
            secret_previous,
            graph_url: graph_url.or_else(App::default_graph_url)?,
            graph_version: graph_version.unwrap_or_else(|| App::DEFAULT_GRAPH_VERSION.to_owned()),
            app_token: app_token.unwrap_or_default(),
        })
    };
    (draft, whole())
}

/// A value that must be there. In a file that is no TOML it may only have been lost, and a misspelt key is told of as such, so nothing
/// is said then.
pub(super) fn required<'a, T>(
    table: &mut Table<'a>,
    key: &'static str,
    known: &BTreeSet<String>,
    syntax: Syntax,
    fix: &str,
    read: impl FnOnce(Value<'a>) -> Option<T>,
) -> Option<T> {
    let value = table.value(key);
    if value.is_none() && syntax == Syntax::Fine && !table.misspelt(key, known) {
        table.missing(key, fix);
    }
    value.and_then(read)
}

/// A secret by reference. Nothing that stands here is ever shown: people paste the secret itself.
fn secret_ref(value: Value<'_>, name: &str, known: &BTreeSet<String>) -> Option<SecretRef> {
    let fix = format!(
        "put it into a file that only evertoken's user can read, and write {} = {{ file = \"/etc/evertoken/{name}.secret\" }}",
        value.key()
    );
    if !value.is_table() {
        value.wrong(Wrong::new("a secret may stand here by reference only (its value is not shown)", fix));
        return None;
    }
    let key = value.key().to_owned();
    let mut table = value.table()?;
    let folder = table.source.folder();
    let no_path = |_wrong| Wrong::new("the value is no path", "write the path of a file");
    let file = table.text("file", |text| values::path(text, folder).map_err(no_path).map(LocalSecret::File).map(SecretRef::Local));
    let env = table.text("env", |text| variable(text).map(LocalSecret::Env).map(SecretRef::Local));
    let credential = table.text("credential", |text| credential(text).map(LocalSecret::Credential).map(SecretRef::Local));
    let store = table.table("store").and_then(|table| super::tokens::entry(table, known, Syntax::Fine).whole()).map(SecretRef::Store);
    let given = ["file", "env", "credential", "store"].into_iter().filter(|key| table.holds(key)).count();
    let one_of = "write one of { file = \"PATH\" }, { env = \"NAME\" }, { credential = \"NAME\" }, { store = { name = \"STORE\", entry = \"ENTRY\" } }";
    match given {
        0 => table.wrong(Wrong::new(format!("{key} names no place"), one_of)),
        1 => {}
        _ => table.wrong(Wrong::new(format!("{key} names {given} places"), one_of)),
    }
    table.finish(known);
    if given == 1 { file.or(env).or(credential).or(store) } else { None }
}

fn variable(text: &str) -> Result<String, Wrong> {
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !text.is_empty() && text.chars().all(fine) && !text.starts_with(|c: char| c.is_ascii_digit()) && !passes_for_secret(text) {
        return Ok(text.to_owned());
    }
    Err(Wrong::new("the value is no name of a variable", "write its name, as in \"ACME_SECRET\""))
}

/// systemd's rule: a file name.
fn credential(text: &str) -> Result<String, Wrong> {
    let fine = |c: char| !c.is_control() && c != '/';
    if (1..=255).contains(&text.len()) && text.chars().all(fine) && text != "." && text != ".." && !passes_for_secret(text) {
        return Ok(text.to_owned());
    }
    Err(Wrong::new("the value is no name of a credential", "write the name that LoadCredential= gives it"))
}

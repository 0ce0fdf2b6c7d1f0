//! Entries: each suits its store, and belongs to one token only.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{places, stored_secrets};
use crate::config::draft::{Draft, StoreDraft};
use crate::config::mistake::{Report, Wrong, may_show, name_character, shown};
use crate::config::secret_ref::SecretRef;
use crate::config::settings::{AwsSecretsManager, EntryRef};

pub(super) fn suit_their_stores(draft: &Draft, report: &Report) {
    let written =
        draft.tokens.iter().flat_map(|(name, token)| places(name, token)).filter_map(|(path, entry)| Some((path, entry.whole()?)));
    for (path, entry) in written.chain(stored_secrets(draft).map(|(path, entry)| (path, entry.clone()))) {
        let checked = match draft.stores.get(entry.store.as_str()) {
            Some(StoreDraft::File { .. }) => file_entry(&entry.entry),
            Some(StoreDraft::Aws { aws, .. }) => aws_entry(&entry.entry, aws),
            Some(StoreDraft::Unknown) | None => Ok(()),
        };
        if let Err(wrong) = checked {
            report.mistake_at(&[&format!("{path}.entry")], wrong);
        }
    }
}

/// An entry as it may be repeated.
fn shown_entry(entry: &str) -> String {
    shown(entry, |c| name_character(c) || matches!(c, '/' | '+' | '=' | '@' | ' '))
}

/// As the file store takes it. A leading dot covers "..", and keeps entries out of the store's own folders.
fn file_entry(entry: &str) -> Result<(), Wrong> {
    if entry.starts_with('/') {
        return Err(Wrong::new(format!("{} is an absolute path", shown_entry(entry)), "write it relative to the store's dir"));
    }
    let fine = |part: &str| (1..=255).contains(&part.len()) && !part.starts_with('.') && !part.contains(|c: char| c.is_control());
    if entry.split('/').all(fine) {
        return Ok(());
    }
    let what = format!("{} leads out of the store or names no folder", shown_entry(entry));
    Err(Wrong::new(what, "write names with \"/\" between them, each of 1 to 255 bytes and with no dot in front"))
}

/// As Secrets Manager takes it (CreateSecret, `Name`): 1 to 512 of `A-Za-z0-9/_+=.@-`, or a whole ARN.
fn aws_entry(entry: &str, store: &AwsSecretsManager) -> Result<(), Wrong> {
    let Some(parts) = AwsEntry::of(entry) else {
        let fix = "write arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME, or the name alone";
        return Err(Wrong::new("the value is no ARN of a secret", fix));
    };
    let fine = |c: char| name_character(c) || matches!(c, '/' | '+' | '=' | '@');
    if !(1..=512).contains(&parts.name.len()) || !parts.name.chars().all(fine) {
        return Err(Wrong::new(
            format!("{} is no name of a secret", shown_entry(entry)),
            "write 1 to 512 letters, digits or any of /_+=.@-",
        ));
    }
    if let (Some(region), Some(own)) = (parts.region, store.region.as_deref())
        && region != own
    {
        let region = if may_show(region, name_character) { region } else { "another region" };
        return Err(Wrong::new(format!("the secret lies in {region}, its store in {own}"), "name a store of that region"));
    }
    Ok(())
}

/// An entry of Secrets Manager, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct AwsEntry<'a> {
    region: Option<&'a str>,
    account: Option<&'a str>,
    /// As written.
    name: &'a str,
    /// Without the hyphen and the six characters that AWS adds to the name in a whole ARN. An ARN may also be written without them
    /// (and its name may look as if it had them), so both count.
    bare: Option<&'a str>,
}

impl<'a> AwsEntry<'a> {
    fn of(entry: &'a str) -> Option<Self> {
        if !entry.starts_with("arn:") {
            return Some(Self { region: None, account: None, name: entry, bare: None });
        }
        let parts: Vec<&str> = entry.splitn(7, ':').collect();
        match parts.as_slice() {
            ["arn", _, "secretsmanager", region, account, "secret", name] => {
                let added = |end: &str| end.strip_prefix('-').is_some_and(|end| end.chars().all(|c| c.is_ascii_alphanumeric()));
                let split = name.len().checked_sub(7).and_then(|at| name.split_at_checked(at));
                let bare = split.filter(|(bare, end)| !bare.is_empty() && added(end)).map(|(bare, _)| bare);
                Some(Self { region: Some(region), account: Some(account), name, bare })
            }
            _ => None,
        }
    }

    /// Whether both may be the name of one secret. Two whole ARNs that end differently are two secrets.
    fn names_what(&self, other: &Self) -> bool {
        self.name == other.name || self.bare == Some(other.name) || other.bare == Some(self.name)
    }
}

/// A place where something is written: which token's (or app's), and where that stands.
#[derive(Debug, Clone)]
struct Claim<'a> {
    token: &'a str,
    path: String,
    entry: EntryRef,
    keyed: bool,
}

/// Every place that a token is written to, by what two references to one entry have in common.
fn claims(draft: &Draft) -> BTreeMap<String, Vec<Claim<'_>>> {
    let mut claims: BTreeMap<String, Vec<Claim<'_>>> = BTreeMap::new();
    for (token, wish) in &draft.tokens {
        for (path, entry) in places(token, wish) {
            let Some(entry) = entry.whole() else { continue };
            for key in common(draft, &entry) {
                claims.entry(key).or_default().push(Claim { token, path: path.clone(), entry: entry.clone(), keyed: wish.keyed });
            }
        }
    }
    claims
}

/// Two writers of one entry would undo each other's work for ever.
pub(super) fn belong_to_one_token(draft: &Draft, report: &Report) {
    let claims = claims(draft);
    let mut told = std::collections::BTreeSet::new();
    for group in claims.values() {
        for (at, claim) in group.iter().enumerate() {
            // A token's own second claim on an entry is the same mistake as its first one on another's.
            let before = || group.iter().take(at).filter(|first| same(draft, &first.entry, &claim.entry));
            let first = before().find(|first| first.token == claim.token).or_else(|| before().next());
            if let Some(first) = first
                && told.insert(claim.path.clone())
            {
                refuse(first, claim, report);
            }
        }
    }
    let files: BTreeMap<PathBuf, &Claim<'_>> =
        claims.values().flatten().filter_map(|claim| Some((file_path(draft, &claim.entry)?, claim))).collect();
    for (path, inner) in &files {
        for above in path.ancestors().skip(1) {
            if let (Some(outer), true) = (files.get(above), path.starts_with(above.join("token"))) {
                let what = format!("this entry lies below the file that the token {} is published in", outer.token);
                report.mistake_at(&[&format!("{}.entry", inner.path)], Wrong::new(what, "name another entry"));
            }
        }
    }
}

fn refuse(first: &Claim<'_>, second: &Claim<'_>, report: &Report) {
    let at = format!("{}.entry", second.path);
    let wrong = if first.token == second.token {
        let twice = if first.path.ends_with(".store") { "this sink is the token's own store" } else { "this sink is named twice" };
        Wrong::new(twice, "delete it")
    } else if first.keyed || second.keyed {
        let what = format!("the token {} is in this entry already, and two tokens in one JSON secret are refused", first.token);
        Wrong::new(what, "give each a secret of its own: a version that one of them stages would carry the other's old token")
    } else {
        let place = report.position(&[&format!("{}.entry", first.path)]);
        let place = place.map_or_else(String::new, |(place, _)| format!(" ({}:{})", place.file.display(), place.line));
        Wrong::new(format!("the token {} is written to this entry already{place}", first.token), "give each token an entry of its own")
    };
    report.mistake_at(&[&at], wrong);
}

/// An app secret in an entry that a rotation overwrites would be gone after the first one.
pub(super) fn hold_no_app_secret(draft: &Draft, report: &Report) {
    let written = claims(draft);
    let mut told: Vec<&EntryRef> = Vec::new();
    for (path, secret) in stored_secrets(draft) {
        let claims = common(draft, secret).into_iter().filter_map(|key| written.get(&key)).flatten();
        let Some(claim) = claims.into_iter().find(|claim| same(draft, &claim.entry, secret)) else { continue };
        // As `secret_previous` the entry of `secret` is told of as such.
        if !told.iter().any(|told| same(draft, told, secret)) {
            let what = format!("the token {} is written to this entry, so the app's secret cannot be kept there", claim.token);
            report.mistake_at(&[&format!("{path}.entry")], Wrong::new(what, "give the app's secret an entry of its own"));
        }
        told.push(secret);
    }
}

/// Whether two secrets lie in one entry of a store, however that is written.
pub(super) fn same_stored(draft: &Draft, one: &SecretRef, other: &SecretRef) -> bool {
    match (one, other) {
        (SecretRef::Store(one), SecretRef::Store(other)) => same(draft, one, other),
        (SecretRef::Store(_) | SecretRef::Local(_), _) => false,
    }
}

/// What two references to one entry have in common, however they are written: one of these.
fn common(draft: &Draft, entry: &EntryRef) -> Vec<String> {
    match draft.stores.get(entry.store.as_str()) {
        Some(StoreDraft::Aws { .. }) => {
            AwsEntry::of(&entry.entry).into_iter().flat_map(|entry| [Some(entry.name), entry.bare]).flatten().map(str::to_owned).collect()
        }
        Some(StoreDraft::File { .. } | StoreDraft::Unknown) => {
            vec![file_path(draft, entry).map_or_else(|| entry.to_string(), |path| path.display().to_string())]
        }
        None => Vec::new(),
    }
}

fn file_path(draft: &Draft, entry: &EntryRef) -> Option<PathBuf> {
    match draft.stores.get(entry.store.as_str())? {
        StoreDraft::File { dir } => Some(dir.as_ref()?.join(&entry.entry)),
        StoreDraft::Aws { .. } | StoreDraft::Unknown => None,
    }
}

/// Whether two references lead to one entry, as far as the configuration tells. What it leaves open (a region or account that comes
/// from the host) counts as the same, because writing it down ends the doubt; what is wrong in it leads nowhere.
fn same(draft: &Draft, one: &EntryRef, other: &EntryRef) -> bool {
    let same_store = one.store == other.store;
    match (draft.stores.get(one.store.as_str()), draft.stores.get(other.store.as_str())) {
        (Some(StoreDraft::Aws { aws: first, flawed }), Some(StoreDraft::Aws { aws: second, flawed: also })) => {
            (same_store || !(*flawed || *also)) && same_secret((first, &one.entry), (second, &other.entry), same_store)
        }
        (Some(StoreDraft::File { dir: Some(_) }), Some(StoreDraft::File { dir: Some(_) })) => {
            file_path(draft, one) == file_path(draft, other)
        }
        (Some(_), Some(_)) => one == other,
        (None, _) | (_, None) => false,
    }
}

fn same_secret(one: (&AwsSecretsManager, &str), other: (&AwsSecretsManager, &str), same_store: bool) -> bool {
    let (Some(first), Some(second)) = (AwsEntry::of(one.1), AwsEntry::of(other.1)) else { return false };
    let agree = |one: Option<&str>, other: Option<&str>| one.is_none() || other.is_none() || one == other;
    let named = first.names_what(&second) && agree(first.region, second.region) && agree(first.account, second.account);
    if same_store || !named {
        return named;
    }
    let (one, other) = (one.0, other.0);
    // Another profile or role is mostly another account; only ARNs and roles could tell.
    let accounts = match (first.account.or_else(|| account_of(one)), second.account.or_else(|| account_of(other))) {
        (Some(first), Some(second)) => first == second,
        _ => account_of(one) == account_of(other) && one.profile == other.profile,
    };
    let regions = agree(first.region.or(one.region.as_deref()), second.region.or(other.region.as_deref()));
    regions && accounts && one.endpoint_url == other.endpoint_url
}

fn account_of(store: &AwsSecretsManager) -> Option<&str> {
    store.role_arn.as_deref().and_then(|arn| arn.split(':').nth(4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_is_taken_apart() {
        let whole = AwsEntry::of("arn:aws:secretsmanager:eu-west-1:111122223333:secret:meta/bot-AbCdEf").unwrap();
        assert_eq!((whole.region, whole.account, whole.bare), (Some("eu-west-1"), Some("111122223333"), Some("meta/bot")));
        assert_eq!(AwsEntry::of("arn:aws:s3:::bucket"), None);
        assert_eq!(AwsEntry::of("meta/bot").unwrap().name, "meta/bot");
        let arn = |name: &str| format!("arn:aws:secretsmanager:eu-west-1:111122223333:secret:{name}");
        let same = |one: &str, other: &str| AwsEntry::of(one).unwrap().names_what(&AwsEntry::of(other).unwrap());
        assert!(same(&arn("my-bottle"), "my-bottle"), "an ARN without what AWS adds");
        assert!(same(&arn("my-bottle-AbCdEf"), &arn("my-bottle")) && same("my-bottle", &arn("my-bottle-AbCdEf")));
        assert!(!same(&arn("my-AbCdEf"), &arn("my-GhIjKl")) && !same(&arn("my-bottle"), &arn("my-kettle")) && !same("a", "b"));
    }

    #[test]
    fn an_entry_stays_in_its_store() {
        assert!(file_entry("a/b").is_ok());
        for entry in ["", "/a", "a//b", "a/", "../a", "a/../b", "./a", ".evertoken", "a\n", &"x".repeat(256)] {
            assert!(file_entry(entry).is_err(), "{entry}");
        }
        let store = AwsSecretsManager { region: Some("eu-west-1".into()), ..AwsSecretsManager::default() };
        assert!(aws_entry("meta/bot", &store).is_ok());
        for entry in ["", "a b", "arn:aws:s3:::x", "arn:aws:secretsmanager:us-east-1:111122223333:secret:x-AbCdEf", &"x".repeat(513)] {
            assert!(aws_entry(entry, &store).is_err(), "{entry}");
        }
    }

    #[test]
    fn two_stores_may_be_one_place() {
        let plain = AwsSecretsManager { region: Some("eu-west-1".into()), ..AwsSecretsManager::default() };
        let elsewhere = AwsSecretsManager { region: Some("us-east-1".into()), ..AwsSecretsManager::default() };
        let client = AwsSecretsManager { role_arn: Some("arn:aws:iam::111122223333:role/x".into()), ..plain.clone() };
        let open = AwsSecretsManager::default();
        let arn = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:a-AbCdEf";
        assert!(same_secret((&plain, "a"), (&plain, "a"), false));
        assert!(same_secret((&plain, "a"), (&open, "a"), false), "the region that is left open may be the same");
        assert!(same_secret((&plain, arn), (&plain, "a"), true));
        assert!(same_secret((&plain, arn), (&client, arn), false));
        assert!(!same_secret((&plain, "a"), (&elsewhere, "a"), false));
        assert!(!same_secret((&plain, "a"), (&client, "a"), false), "a client's account");
        assert!(same_secret((&plain, arn), (&client, "a"), false), "the ARN names the account that the role is of");
        assert!(!same_secret((&plain, "a"), (&plain, "b"), true));
    }
}

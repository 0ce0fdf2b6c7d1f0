//! Entries: each suits its store, and belongs to one token only.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{places, stored_secrets};
use crate::config::mistake::{Report, Wrong, shown};
use crate::config::settings::{AwsSecretsManager, EntryRef, Settings, Store, TokenName};
use crate::rotation::payload::PayloadRule;

pub(super) fn suit_their_stores(settings: &Settings, report: &Report) {
    let written = settings.tokens.iter().flat_map(|(name, token)| places(name, token));
    for (path, entry) in written.chain(stored_secrets(settings)) {
        let checked = match settings.stores.get(&entry.store) {
            Some(Store::File(_)) => file_entry(&entry.entry),
            Some(Store::AwsSecretsManager(store)) => aws_entry(&entry.entry, store),
            None => Ok(()),
        };
        if let Err(wrong) = checked {
            report.mistake_at(&[&format!("{path}.entry")], wrong);
        }
    }
}

/// As the file store takes it. A leading dot covers "..", and keeps entries out of the store's own folders.
fn file_entry(entry: &str) -> Result<(), Wrong> {
    if entry.starts_with('/') {
        return Err(Wrong::new(format!("the entry {} is an absolute path", shown(entry)), "write it relative to the store's dir"));
    }
    let fine = |part: &str| (1..=255).contains(&part.len()) && !part.starts_with('.') && !part.contains(|c: char| c.is_control());
    if entry.split('/').all(fine) {
        return Ok(());
    }
    let what = format!("the entry {} leads out of the store or names no folder", shown(entry));
    Err(Wrong::new(what, "write names with \"/\" between them, each of 1 to 255 bytes and with no dot in front"))
}

/// As Secrets Manager takes it (CreateSecret, `Name`): 1 to 512 of `A-Za-z0-9/_+=.@-`, or a whole ARN.
fn aws_entry(entry: &str, store: &AwsSecretsManager) -> Result<(), Wrong> {
    let Some(AwsEntry { region, name, .. }) = AwsEntry::of(entry) else {
        let fix = "write arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME, or the name alone";
        return Err(Wrong::new(format!("{} is no ARN of a secret", shown(entry)), fix));
    };
    if let (Some(region), Some(own)) = (region, store.region.as_deref())
        && region != own
    {
        return Err(Wrong::new(format!("the secret lies in {region}, its store in {own}"), "name a store of that region"));
    }
    let fine = |c: char| c.is_ascii_alphanumeric() || "/_+=.@-".contains(c);
    if (1..=512).contains(&name.len()) && name.chars().all(fine) {
        return Ok(());
    }
    Err(Wrong::new(format!("{} is no name of a secret", shown(entry)), "write 1 to 512 letters, digits or any of /_+=.@-"))
}

/// An entry of Secrets Manager, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct AwsEntry<'a> {
    region: Option<&'a str>,
    account: Option<&'a str>,
    name: &'a str,
}

impl<'a> AwsEntry<'a> {
    fn of(entry: &'a str) -> Option<Self> {
        if !entry.starts_with("arn:") {
            return Some(Self { region: None, account: None, name: entry });
        }
        let parts: Vec<&str> = entry.splitn(7, ':').collect();
        match parts.as_slice() {
            // A whole ARN ends in a hyphen and six characters that AWS adds to the name.
            ["arn", _, "secretsmanager", region, account, "secret", name] => {
                let bare = name.len().checked_sub(7).and_then(|at| name.split_at_checked(at)).filter(|(_, end)| end.starts_with('-'));
                Some(Self { region: Some(region), account: Some(account), name: bare.map_or(*name, |(bare, _)| bare) })
            }
            _ => None,
        }
    }
}

/// A place where something is written: which token's (or app's), and where that stands.
#[derive(Debug, Clone)]
struct Claim<'a> {
    token: &'a TokenName,
    path: String,
    entry: &'a EntryRef,
    keyed: bool,
}

/// Two writers of one entry would undo each other's work for ever.
pub(super) fn belong_to_one_token(settings: &Settings, report: &Report) {
    let mut claims: BTreeMap<String, Vec<Claim<'_>>> = BTreeMap::new();
    for (token, wish) in &settings.tokens {
        let keyed = matches!(wish.payload, PayloadRule::Key(_));
        for (path, entry) in places(token, wish) {
            let claim = Claim { token, path, entry, keyed };
            let Some(group) = group(settings, entry) else { continue };
            let others = claims.entry(group).or_default();
            if let Some(first) = others.iter().find(|first| same(settings, first.entry, entry)) {
                refuse(first, &claim, report);
            }
            others.push(claim);
        }
    }
    let files: BTreeMap<PathBuf, &Claim<'_>> =
        claims.values().flatten().filter_map(|claim| Some((file_path(settings, claim.entry)?, claim))).collect();
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
pub(super) fn hold_no_app_secret(settings: &Settings, report: &Report) {
    let mut written: BTreeMap<String, Vec<(&TokenName, &EntryRef)>> = BTreeMap::new();
    for (name, token) in &settings.tokens {
        for (_, entry) in places(name, token) {
            if let Some(group) = group(settings, entry) {
                written.entry(group).or_default().push((name, entry));
            }
        }
    }
    for (path, secret) in stored_secrets(settings) {
        let others = group(settings, secret).and_then(|group| written.get(&group));
        if let Some((token, _)) = others.into_iter().flatten().find(|(_, entry)| same(settings, entry, secret)) {
            let what = format!("the token {token} is written to this entry, so the app's secret cannot be kept there");
            report.mistake_at(&[&format!("{path}.entry")], Wrong::new(what, "give the app's secret an entry of its own"));
        }
    }
}

/// What two references to one entry have in common, however they are written.
fn group(settings: &Settings, entry: &EntryRef) -> Option<String> {
    match settings.stores.get(&entry.store)? {
        Store::File(_) => file_path(settings, entry).map(|path| path.display().to_string()),
        Store::AwsSecretsManager(_) => AwsEntry::of(&entry.entry).map(|entry| entry.name.to_owned()),
    }
}

fn file_path(settings: &Settings, entry: &EntryRef) -> Option<PathBuf> {
    match settings.stores.get(&entry.store)? {
        Store::File(store) => Some(store.dir.join(&entry.entry)),
        Store::AwsSecretsManager(_) => None,
    }
}

/// Whether two references lead to one entry, as far as the configuration tells. What it leaves open (a region or account that comes
/// from the host) counts as the same, because writing it down ends the doubt.
fn same(settings: &Settings, one: &EntryRef, other: &EntryRef) -> bool {
    match (settings.stores.get(&one.store), settings.stores.get(&other.store)) {
        (Some(Store::File(_)), Some(Store::File(_))) => file_path(settings, one) == file_path(settings, other),
        (Some(Store::AwsSecretsManager(first)), Some(Store::AwsSecretsManager(second))) => {
            same_secret((first, &one.entry), (second, &other.entry), one.store == other.store)
        }
        _ => false,
    }
}

fn same_secret(one: (&AwsSecretsManager, &str), other: (&AwsSecretsManager, &str), same_store: bool) -> bool {
    let (Some(first), Some(second)) = (AwsEntry::of(one.1), AwsEntry::of(other.1)) else { return false };
    let agree = |one: Option<&str>, other: Option<&str>| one.is_none() || other.is_none() || one == other;
    let named = first.name == second.name && agree(first.region, second.region) && agree(first.account, second.account);
    if same_store || !named {
        return named;
    }
    let (one, other) = (one.0, other.0);
    // Another profile is mostly another account; only ARNs could tell.
    let accounts = (first.account.is_some() && first.account == second.account)
        || (account_of(one) == account_of(other) && one.profile == other.profile);
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
        assert_eq!((whole.region, whole.account, whole.name), (Some("eu-west-1"), Some("111122223333"), "meta/bot"));
        assert_eq!(AwsEntry::of("arn:aws:s3:::bucket"), None);
        assert_eq!(AwsEntry::of("meta/bot").unwrap().name, "meta/bot");
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
        assert!(!same_secret((&plain, "a"), (&plain, "b"), true));
    }
}

//! The simulated Secrets Manager, asked by the real AWS SDK and by plain requests: each rule, each knob, each act of a person.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod raw_http;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::retry::RetryConfig;
use aws_sdk_secretsmanager::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_secretsmanager::primitives::Blob;
use evertoken::simulator::fault::{Fault, ReplyAt, Rule, Stage, fingerprint};
use evertoken::simulator::secrets_manager::{
    Action, CURRENT, Denial, ErrorType, Kms, LABELS_MAX, PENDING, PREVIOUS, Pruning, Quota, SecretsManager, VERSIONS_MAX,
};
use evertoken::simulator::server::{Running, start};
use evertoken::simulator::virtual_clock::VirtualClock;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

const REGION: &str = "eu-west-1";
const NAME: &str = "meta/whatsapp-bot";
const LIMIT: Duration = Duration::from_secs(10);

struct World {
    running: Running,
    sm: Arc<SecretsManager>,
    client: Client,
}

impl World {
    /// A simulator that listens, and a client for it. The clock stands still, so that the test alone moves it.
    async fn empty() -> Self {
        let sm = Arc::new(SecretsManager::new(REGION));
        let clock = Arc::new(VirtualClock::new());
        clock.set_rate(0.0);
        let running = start(sm.clone(), clock, (Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let client = client(&running.url(), REGION);
        Self { running, sm, client }
    }

    /// With one secret, whose first version holds `one`.
    async fn with_secret() -> Self {
        let world = Self::empty().await;
        world.sm.create(NAME, Some("one"), world.now()).unwrap();
        world
    }

    fn now(&self) -> Timestamp {
        self.running.simulator().clock().now()
    }

    fn pass(&self, time: SignedDuration) {
        self.running.simulator().clock().advance(time);
    }

    fn holder(&self, label: &str) -> Option<String> {
        self.sm.dump(NAME, false, self.now()).unwrap().labelled(label).map(|version| version.id.clone())
    }

    fn current(&self) -> String {
        self.holder(CURRENT).unwrap()
    }

    fn labels(&self, version: &str) -> Option<Vec<String>> {
        let dump = self.sm.dump(NAME, false, self.now()).unwrap();
        dump.versions.into_iter().find(|found| found.id == version).map(|found| found.labels.into_iter().collect())
    }

    async fn put(&self, token: &str, value: &str, labels: &[&str]) -> Result<Vec<String>, (String, String)> {
        let labels = (!labels.is_empty()).then(|| labels.iter().map(|&label| label.to_owned()).collect());
        let call = self.client.put_secret_value().secret_id(NAME).client_request_token(token).secret_string(value);
        match call.set_version_stages(labels).send().await {
            Ok(answer) => {
                assert_eq!(answer.version_id(), Some(token));
                Ok(answer.version_stages().to_vec())
            }
            Err(error) => Err(refused(error)),
        }
    }

    async fn move_label(&self, label: &str, to: Option<&str>, from: Option<&str>) -> Result<(), (String, String)> {
        let call = self.client.update_secret_version_stage().secret_id(NAME).version_stage(label);
        let call = call.set_move_to_version_id(to.map(str::to_owned)).set_remove_from_version_id(from.map(str::to_owned));
        call.send().await.map(drop).map_err(refused)
    }

    async fn read(&self, label: &str) -> Result<String, (String, String)> {
        let answer = self.client.get_secret_value().secret_id(NAME).version_stage(label).send().await.map_err(refused)?;
        Ok(answer.secret_string().unwrap().to_owned())
    }
}

fn client(url: &str, region: &'static str) -> Client {
    let config = aws_sdk_secretsmanager::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(region))
        .credentials_provider(Credentials::new("AKIDEXAMPLE", "wJalrXUtnFEMI", None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .endpoint_url(url);
    Client::from_conf(config.build())
}

/// The error's type and text.
fn refused<E: ProvideErrorMetadata + std::error::Error + 'static, R: std::fmt::Debug>(error: SdkError<E, R>) -> (String, String) {
    let SdkError::ServiceError(refusal) = error else { panic!("no answer of the service: {error:?}") };
    let error = refusal.into_err();
    (error.code().unwrap_or_default().to_owned(), error.message().unwrap_or_default().to_owned())
}

fn id(n: u32) -> String {
    format!("00000000-0000-4000-8000-{n:012}")
}

fn said<T>(result: Result<T, (String, String)>, code: &str, text: &str) {
    let Err(error) = result else { panic!("{code} was expected") };
    assert_eq!(error.0, code, "{}", error.1);
    assert!(error.1.contains(text), "{}", error.1);
}

// --- Putting ---

#[tokio::test]
async fn the_first_version_is_current_whatever_its_label() {
    let world = World::empty().await;
    world.client.create_secret().name(NAME).send().await.unwrap();
    let described = world.client.describe_secret().secret_id(NAME).send().await.unwrap();
    assert!(described.version_ids_to_stages().is_none());
    said(world.read(CURRENT).await, "ResourceNotFoundException", "for staging label: AWSCURRENT");
    assert_eq!(world.put(&id(1), "one", &["mine"]).await.unwrap(), [CURRENT, "mine"]);
}

#[tokio::test]
async fn a_put_without_labels_moves_current_and_previous() {
    let world = World::with_secret().await;
    let first = world.current();
    assert_eq!(world.put(&id(2), "two", &[]).await.unwrap(), [CURRENT]);
    assert_eq!(world.labels(&first).unwrap(), [PREVIOUS]);
    world.put(&id(3), "three", &[CURRENT, "mine"]).await.unwrap();
    assert_eq!(world.labels(&id(2)).unwrap(), [PREVIOUS]);
    assert_eq!(world.labels(&first).unwrap(), [""; 0]);
    assert_eq!(world.read(CURRENT).await.unwrap(), "three");
    assert_eq!(world.read(PREVIOUS).await.unwrap(), "two");
}

#[tokio::test]
async fn a_put_under_a_label_of_ones_own_moves_that_label_alone() {
    let world = World::with_secret().await;
    world.put(&id(2), "two", &["mine", "other"]).await.unwrap();
    world.put(&id(3), "three", &["mine"]).await.unwrap();
    assert_eq!(world.read(CURRENT).await.unwrap(), "one");
    assert_eq!(world.labels(&id(2)).unwrap(), ["other"]);
    assert_eq!(world.holder("mine"), Some(id(3)));
    assert_eq!(world.holder(PREVIOUS), None);
}

#[tokio::test]
async fn a_put_is_idempotent_by_token_and_content() {
    let world = World::with_secret().await;
    let first = world.put(&id(2), "two", &["mine"]).await.unwrap();
    assert_eq!(world.put(&id(2), "two", &["mine"]).await.unwrap(), first);
    let text = format!("You can't use ClientRequestToken {} because that value is already in use", id(2));
    said(world.put(&id(2), "changed", &["mine"]).await, "ResourceExistsException", &text);
    assert_eq!(world.read("mine").await.unwrap(), "two");
    // A repeated put does nothing: not even its labels come back.
    world.move_label("mine", None, Some(&id(2))).await.unwrap();
    assert_eq!(world.put(&id(2), "two", &["mine"]).await.unwrap(), [""; 0]);
    // The same bytes as binary are another content.
    let binary = world.client.put_secret_value().secret_id(NAME).client_request_token(id(2)).secret_binary(Blob::new("two"));
    said(binary.send().await.map_err(refused), "ResourceExistsException", "");
}

#[tokio::test]
async fn a_put_without_labels_takes_pending_off_the_version_it_displaces() {
    let world = World::with_secret().await;
    world.put(&id(2), "two", &[PENDING, "mine"]).await.unwrap();
    world.move_label(CURRENT, Some(&id(2)), Some(&world.current())).await.unwrap();
    assert_eq!(world.labels(&id(2)).unwrap(), [CURRENT, PENDING, "mine"]);
    world.put(&id(3), "three", &[]).await.unwrap();
    assert_eq!(world.labels(&id(2)).unwrap(), [PREVIOUS, "mine"]);
}

#[tokio::test]
async fn tokens_and_values_have_their_lengths() {
    let world = World::with_secret().await;
    said(world.put("short", "two", &[]).await, "InvalidParameterException", "must be 32-64 characters");
    said(world.put(&"x".repeat(65), "two", &[]).await, "InvalidParameterException", "must be 32-64 characters");
    said(world.put(&id(2), "", &[]).await, "ValidationException", "secretString");
    said(world.put(&id(2), &"x".repeat(65_537), &[]).await, "ValidationException", "less than or equal to 65536");
    world.put(&id(2), &"ä".repeat(32_768), &[]).await.unwrap();
    said(world.put(&id(3), "x", &["l".repeat(257).as_str()]).await, "ValidationException", "versionStages");
    let none = world.client.put_secret_value().secret_id(NAME).client_request_token(id(4)).send().await;
    said(none.map_err(refused), "InvalidRequestException", "either SecretString or SecretBinary");
    let both = world.client.put_secret_value().secret_id(NAME).secret_string("x").secret_binary(Blob::new("x")).send().await;
    said(both.map_err(refused), "InvalidParameterException", "both");
}

#[tokio::test]
async fn twenty_labels_across_all_versions_are_the_limit() {
    let world = World::with_secret().await;
    world.put(&id(2), "two", &[]).await.unwrap();
    let labels: Vec<String> = (0..LABELS_MAX - 2).map(|n| format!("label-{n}")).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    world.put(&id(3), "three", &labels).await.unwrap();
    let text = "maximum number of staging labels";
    said(world.put(&id(4), "four", &["one-more"]).await, "LimitExceededException", text);
    assert_eq!(world.labels(&id(4)), None, "a refused put leaves nothing");
    said(world.move_label("one-more", Some(&id(2)), None).await, "LimitExceededException", text);
    world.put(&id(4), "four", &["label-0"]).await.unwrap();
}

#[tokio::test]
async fn versions_without_labels_go_beyond_100_and_after_a_day() {
    let world = World::with_secret().await;
    world.sm.turn(|knobs| knobs.writes_per_second = None);
    let first = world.current();
    for n in 2..=VERSIONS_MAX {
        world.put(&id(u32::try_from(n).unwrap()), &n.to_string(), &[]).await.unwrap();
    }
    said(world.put(&id(200), "young", &[]).await, "LimitExceededException", "maximum number of versions");
    world.pass(SignedDuration::from_hours(24));
    world.put(&id(200), "old enough", &[]).await.unwrap();
    assert_eq!(world.labels(&first), None);
    assert!(world.labels(&id(2)).is_some());
    assert_eq!(world.holder(PREVIOUS), Some(id(100)));
}

// --- Moving labels ---

#[tokio::test]
async fn a_move_names_the_version_that_holds_the_label() {
    let world = World::with_secret().await;
    let first = world.current();
    world.put(&id(2), "two", &["mine"]).await.unwrap();
    let text = format!("RemoveFromVersionId can't be empty. Staging label AWSCURRENT is currently attached to version {first}");
    said(world.move_label(CURRENT, Some(&id(2)), None).await, "InvalidParameterException", &text);
    said(world.move_label(CURRENT, Some(&id(2)), Some(&id(2))).await, "InvalidParameterException", "must be set to the version");
    said(world.move_label("mine", Some(&first), None).await, "InvalidParameterException", "mine is currently attached");
    said(world.move_label("mine", None, Some(&first)).await, "InvalidParameterException", "must be set to the version");
    said(world.move_label("nowhere", Some(&first), Some(&id(2))).await, "InvalidParameterException", "must be set to the version");
    said(world.move_label("mine", Some(&id(9)), Some(&id(2))).await, "ResourceNotFoundException", &id(9));
    said(world.move_label("mine", None, None).await, "InvalidParameterException", "MoveToVersionId or RemoveFromVersionId");
    assert_eq!((world.current(), world.holder("mine")), (first.clone(), Some(id(2))));
    world.move_label("mine", Some(&first), Some(&id(2))).await.unwrap();
    world.move_label("new", Some(&first), None).await.unwrap();
    world.move_label("new", Some(&first), None).await.unwrap();
    assert_eq!(world.labels(&first).unwrap(), [CURRENT, "mine", "new"]);
}

#[tokio::test]
async fn a_promotion_moves_previous_and_is_refused_the_second_time() {
    let world = World::with_secret().await;
    let first = world.current();
    world.put(&id(2), "two", &["mine"]).await.unwrap();
    world.move_label(CURRENT, Some(&id(2)), Some(&first)).await.unwrap();
    assert_eq!(world.labels(&id(2)).unwrap(), [CURRENT, "mine"]);
    assert_eq!(world.labels(&first).unwrap(), [PREVIOUS]);
    said(world.move_label(CURRENT, Some(&id(2)), Some(&first)).await, "InvalidParameterException", "must be set to the version");
    // Back again: AWSPREVIOUS goes to the version that is left now.
    world.move_label(CURRENT, Some(&first), Some(&id(2))).await.unwrap();
    assert_eq!(world.labels(&id(2)).unwrap(), [PREVIOUS, "mine"]);
    assert_eq!(world.labels(&first).unwrap(), [CURRENT]);
}

#[tokio::test]
async fn current_cannot_be_removed() {
    let world = World::with_secret().await;
    said(world.move_label(CURRENT, None, Some(&world.current())).await, "InvalidParameterException", "only move staging label AWSCURRENT");
}

// --- Reading ---

#[tokio::test]
async fn what_has_no_label_is_not_described_and_listed_only_on_demand() {
    let world = World::with_secret().await;
    let first = world.current();
    world.put(&id(2), "two", &[]).await.unwrap();
    world.put(&id(3), "three", &[]).await.unwrap();
    let described = world.client.describe_secret().secret_id(NAME).send().await.unwrap();
    let ids: BTreeSet<_> = described.version_ids_to_stages().unwrap().keys().cloned().collect();
    assert_eq!(ids, [id(2), id(3)].into());
    assert_eq!(described.rotation_enabled(), None);
    assert_eq!(described.name(), Some(NAME));
    let listed = world.client.list_secret_version_ids().secret_id(NAME).send().await.unwrap();
    assert_eq!(listed.versions().len(), 2);
    let call = world.client.list_secret_version_ids().secret_id(NAME).include_deprecated(true).max_results(2);
    let page = call.clone().send().await.unwrap();
    assert_eq!(page.versions()[0].version_id(), Some(first.as_str()));
    assert!(page.versions()[0].version_stages().is_empty());
    assert_eq!(page.versions()[1].kms_key_ids(), ["DefaultEncryptionKey"]);
    let rest = call.clone().next_token(page.next_token().unwrap()).send().await.unwrap();
    assert_eq!((rest.versions().len(), rest.next_token()), (1, None));
    said(call.next_token("x").send().await.map_err(refused), "InvalidNextTokenException", "");
}

#[tokio::test]
async fn a_value_is_read_by_label_or_by_id() {
    let world = World::with_secret().await;
    let first = world.current();
    world.put(&id(2), "two", &[]).await.unwrap();
    let get = || world.client.get_secret_value().secret_id(NAME);
    assert_eq!(get().send().await.unwrap().secret_string(), Some("two"));
    let old = get().version_id(&first).send().await.unwrap();
    assert_eq!((old.secret_string(), old.version_stages()), (Some("one"), &[PREVIOUS.to_owned()][..]));
    let crossed = get().version_id(&first).version_stage(CURRENT).send().await;
    said(crossed.map_err(refused), "InvalidRequestException", "not associated");
    said(get().version_id(id(9)).send().await.map_err(refused), "ResourceNotFoundException", &format!("for VersionId: {}", id(9)));
    said(get().version_stage("mine").send().await.map_err(refused), "ResourceNotFoundException", "for staging label: mine");
    let binary = world.client.put_secret_value().secret_id(NAME).client_request_token(id(3)).secret_binary(Blob::new([0, 255]));
    binary.send().await.unwrap();
    let read = get().send().await.unwrap();
    assert_eq!((read.secret_binary().unwrap().as_ref(), read.secret_string()), (&[0, 255][..], None));
}

#[tokio::test]
async fn a_secret_is_found_by_name_arn_and_partial_arn() {
    let world = World::with_secret().await;
    let arn = world.client.describe_secret().secret_id(NAME).send().await.unwrap().arn().unwrap().to_owned();
    let partial = arn.rsplit_once('-').unwrap().0.to_owned();
    assert_eq!(partial, format!("arn:aws:secretsmanager:{REGION}:111122223333:secret:{NAME}"));
    assert_eq!(arn.len(), partial.len() + 7);
    for found in [&arn, &partial] {
        assert_eq!(world.client.describe_secret().secret_id(found).send().await.unwrap().name(), Some(NAME));
    }
    let wrong = format!("{partial}-aaaaaa");
    for missing in [wrong.as_str(), "meta/whatsapp", &arn.replace(REGION, "us-east-1")] {
        let call = world.client.describe_secret().secret_id(missing).send().await;
        said(call.map_err(refused), "ResourceNotFoundException", "Secrets Manager can't find the specified secret.");
    }
}

// --- The secret itself ---

#[tokio::test]
async fn creating_is_idempotent_and_names_are_checked() {
    let world = World::empty().await;
    let create = |name: &str, token: String| world.client.create_secret().name(name).client_request_token(token).secret_string("one");
    let first = create(NAME, id(1)).send().await.unwrap();
    let again = create(NAME, id(1)).send().await.unwrap();
    assert_eq!((again.arn(), again.version_id()), (first.arn(), Some(id(1).as_str())));
    let other = create(NAME, id(2)).send().await;
    said(other.map_err(refused), "ResourceExistsException", &format!("the secret {NAME} already exists"));
    said(create("with blank", id(3)).send().await.map_err(refused), "ValidationException", "Invalid name");
    create("Az09/_+=.@-", id(3)).send().await.unwrap();
}

#[tokio::test]
async fn an_update_moves_current_and_fails_for_a_used_token() {
    let world = World::with_secret().await;
    let first = world.current();
    let update = || world.client.update_secret().secret_id(NAME).client_request_token(id(2));
    let answer = update().secret_string("two").send().await.unwrap();
    assert_eq!(answer.version_id(), Some(id(2).as_str()));
    assert_eq!((world.current(), world.holder(PREVIOUS)), (id(2), Some(first)));
    said(update().secret_string("two").send().await.map_err(refused), "ResourceExistsException", "already in use");
    let answer = update().description("a bot").send().await.unwrap();
    assert_eq!(answer.version_id(), None);
    assert_eq!(world.client.describe_secret().secret_id(NAME).send().await.unwrap().description(), Some("a bot"));
}

#[tokio::test]
async fn a_secret_marked_for_deletion_is_closed_until_restored() {
    let world = World::with_secret().await;
    let first = world.current();
    world.client.delete_secret().secret_id(NAME).recovery_window_in_days(7).send().await.unwrap();
    let text = "because it was marked for deletion";
    said(world.read(CURRENT).await, "InvalidRequestException", text);
    said(world.put(&id(2), "two", &[]).await, "InvalidRequestException", text);
    said(world.move_label("mine", Some(&first), None).await, "InvalidRequestException", text);
    said(world.client.update_secret().secret_id(NAME).description("x").send().await.map_err(refused), "InvalidRequestException", text);
    let create = world.client.create_secret().name(NAME).send().await;
    said(create.map_err(refused), "InvalidRequestException", "already scheduled for deletion");
    assert!(world.client.describe_secret().secret_id(NAME).send().await.unwrap().deleted_date().is_some());
    world.client.restore_secret().secret_id(NAME).send().await.unwrap();
    assert_eq!(world.read(CURRENT).await.unwrap(), "one");
    let short = world.client.delete_secret().secret_id(NAME).recovery_window_in_days(6).send().await;
    said(short.map_err(refused), "InvalidParameterException", "between 7 and 30");
}

#[tokio::test]
async fn a_deleted_secret_goes_when_its_time_is_over_or_at_once() {
    let world = World::with_secret().await;
    world.client.delete_secret().secret_id(NAME).send().await.unwrap();
    world.pass(SignedDuration::from_hours(24 * 30));
    said(world.read(CURRENT).await, "ResourceNotFoundException", "can't find the specified secret.");
    let old = world.sm.create(NAME, Some("again"), world.now()).unwrap();
    world.client.delete_secret().secret_id(NAME).force_delete_without_recovery(true).send().await.unwrap();
    said(world.read(CURRENT).await, "ResourceNotFoundException", "");
    world.client.delete_secret().secret_id(NAME).force_delete_without_recovery(true).send().await.unwrap();
    said(world.client.delete_secret().secret_id(NAME).send().await.map_err(refused), "ResourceNotFoundException", "");
    assert_ne!(world.sm.create(NAME, None, world.now()).unwrap(), old, "a name that comes again has another ARN");
}

// --- Who may call, and how often ---

const SIGNED: &str = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260101/eu-west-1/secretsmanager/aws4_request, \
    SignedHeaders=host;x-amz-date;x-amz-target, Signature=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

async fn raw(world: &World, target: &str, authorization: Option<&str>, body: &str) -> (u16, String) {
    let headers = [
        ("content-type", "application/x-amz-json-1.1"),
        ("x-amz-date", "20260101T000000Z"),
        ("x-amz-target", target),
        ("authorization", authorization.unwrap_or_default()),
    ];
    let headers = if authorization.is_some() { &headers[..] } else { &headers[..3] };
    let answer = raw_http::call(world.running.addr(), "POST", "/", headers, body).await.unwrap();
    assert_eq!(answer.header("content-type"), Some("application/x-amz-json-1.1"));
    assert_eq!(answer.header("x-amzn-requestid").unwrap().len(), 36);
    assert!(answer.header("date").unwrap().ends_with(" GMT"));
    (answer.status, answer.json()["__type"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_request_must_be_signed_for_this_region_service_and_day() {
    let world = World::with_secret().await;
    let body = json!({ "SecretId": NAME }).to_string();
    let describe = "secretsmanager.DescribeSecret";
    assert_eq!(raw(&world, describe, Some(SIGNED), &body).await, (200, String::new()));
    for (authorization, error) in [
        (None, "MissingAuthenticationTokenException"),
        (Some("Bearer x".to_owned()), "IncompleteSignatureException"),
        (Some(SIGNED.replace("Signature=", "Sig=")), "IncompleteSignatureException"),
        (Some(SIGNED.replace("cdef01", "CDEF01")), "IncompleteSignatureException"),
        (Some(SIGNED.replace("host;", "")), "InvalidSignatureException"),
        (Some(SIGNED.replace("eu-west-1", "us-east-1")), "InvalidSignatureException"),
        (Some(SIGNED.replace("/secretsmanager/", "/s3/")), "InvalidSignatureException"),
        (Some(SIGNED.replace("20260101", "20260102")), "InvalidSignatureException"),
        (Some(SIGNED.replace("AKIDEXAMPLE/", "")), "IncompleteSignatureException"),
    ] {
        let answer = raw(&world, describe, authorization.as_deref(), &body).await;
        assert_eq!(answer, (400, error.to_owned()), "{authorization:?}");
    }
    world.sm.turn(|knobs| knobs.max_skew_s = Some(300));
    assert_eq!(raw(&world, describe, Some(SIGNED), &body).await.1, "InvalidSignatureException");
    world.running.simulator().clock().set("2026-01-01T00:04:00Z".parse().unwrap());
    assert_eq!(raw(&world, describe, Some(SIGNED), &body).await.0, 200);
    let elsewhere = client(&world.running.url(), "us-east-1").describe_secret().secret_id(NAME).send().await;
    said(elsewhere.map_err(refused), "InvalidSignatureException", "us-east-1");
}

#[tokio::test]
async fn what_cannot_be_understood_is_refused() {
    let world = World::with_secret().await;
    for (target, body, error) in [
        ("secretsmanager.Nonsense", "{}", "UnknownOperationException"),
        ("DescribeSecret", "{}", "UnknownOperationException"),
        ("secretsmanager.DescribeSecret", "{", "SerializationException"),
        ("secretsmanager.DescribeSecret", r#"{"SecretId":7}"#, "SerializationException"),
        ("secretsmanager.DescribeSecret", "{}", "ValidationException"),
        ("secretsmanager.PutSecretValue", r#"{"SecretId":"x","SecretString":"y"}"#, "InvalidRequestException"),
        ("secretsmanager.UpdateSecretVersionStage", r#"{"SecretId":"x"}"#, "ValidationException"),
    ] {
        assert_eq!(raw(&world, target, Some(SIGNED), body).await, (400, error.to_owned()), "{target} {body}");
    }
}

#[tokio::test]
async fn unknown_keys_and_denied_actions_are_refused() {
    let world = World::with_secret().await;
    world.sm.turn(|knobs| knobs.unknown_access_keys = ["AKIDEXAMPLE".to_owned()].into());
    said(world.read(CURRENT).await, "UnrecognizedClientException", "security token");
    world.sm.turn(|knobs| {
        knobs.unknown_access_keys.clear();
        knobs.deny = vec![Denial { action: Action::PutSecretValue, secret: Some(NAME.to_owned()) }];
    });
    said(world.put(&id(2), "two", &[]).await, "AccessDeniedException", "not authorized to perform: secretsmanager:PutSecretValue");
    world.sm.create("other", None, world.now()).unwrap();
    let other = world.client.put_secret_value().secret_id("other").secret_string("x").send().await;
    other.unwrap();
    world.sm.turn(|knobs| knobs.deny = vec![Denial { action: Action::GetSecretValue, secret: None }]);
    said(world.read(CURRENT).await, "AccessDeniedException", "secretsmanager:GetSecretValue");
}

#[tokio::test]
async fn kms_may_refuse() {
    let world = World::with_secret().await;
    world.sm.turn(|knobs| knobs.kms = Kms::CannotEncrypt);
    said(world.put(&id(2), "two", &[]).await, "EncryptionFailure", "can't encrypt");
    assert_eq!(world.read(CURRENT).await.unwrap(), "one");
    world.sm.turn(|knobs| knobs.kms = Kms::CannotDecrypt);
    said(world.read(CURRENT).await, "DecryptionFailure", "can't decrypt");
    world.put(&id(2), "two", &["mine"]).await.unwrap();
    said(world.put(&id(2), "two", &["mine"]).await, "DecryptionFailure", "can't decrypt");
    world.sm.turn(|knobs| knobs.kms = Kms::DeniesAccess);
    said(world.put(&id(3), "three", &[]).await, "AccessDeniedException", "Access to KMS is not allowed");
    said(world.read(CURRENT).await, "AccessDeniedException", "Access to KMS is not allowed");
    // Labels need no key.
    world.move_label("other", Some(&world.current()), None).await.unwrap();
}

#[tokio::test]
async fn more_calls_a_second_than_the_quota_are_throttled() {
    let world = World::with_secret().await;
    world.sm.turn(|knobs| knobs.writes_per_second = Some(2));
    world.put(&id(2), "two", &["mine"]).await.unwrap();
    world.move_label("mine", None, Some(&id(2))).await.unwrap();
    said(world.put(&id(3), "three", &[]).await, "ThrottlingException", "Rate exceeded");
    assert_eq!(world.labels(&id(3)), None);
    assert_eq!(world.read(CURRENT).await.unwrap(), "one", "reads have a quota of their own");
    world.pass(SignedDuration::from_millis(500));
    world.put(&id(3), "three", &[]).await.unwrap();
    said(world.put(&id(4), "four", &[]).await, "ThrottlingException", "");
    world.sm.turn(|knobs| knobs.reads_per_second = Some(0));
    said(world.read(CURRENT).await, "ThrottlingException", "");
}

#[tokio::test]
async fn calls_are_counted() {
    let world = World::with_secret().await;
    world.put(&id(2), "two", &["mine"]).await.unwrap();
    world.move_label("mine", None, Some(&id(2))).await.unwrap();
    let _refused = world.put(&id(2), "changed", &[]).await.unwrap_err();
    world.read(CURRENT).await.unwrap();
    world.client.describe_secret().secret_id(NAME).send().await.unwrap();
    world.client.list_secret_version_ids().secret_id(NAME).send().await.unwrap();
    world.sm.turn(|knobs| knobs.writes_per_second = Some(0));
    let _throttled = world.put(&id(3), "three", &[]).await.unwrap_err();
    let tally = world.sm.tally();
    assert_eq!((tally.counted(Quota::Write), tally.counted(Quota::Read), tally.counted(Quota::Other)), (3, 2, 1));
    assert_eq!(tally.calls(Action::PutSecretValue), 3);
    let refused = &tally.actions[&Action::PutSecretValue].refused;
    assert_eq!(*refused, [(ErrorType::ResourceExistsException, 1), (ErrorType::ThrottlingException, 1)].into());
    world.sm.reset_tally();
    assert_eq!(world.sm.tally().calls(Action::PutSecretValue), 0);
}

// --- Knobs of behaviour ---

#[tokio::test]
async fn reads_may_be_stale_by_kind() {
    let world = World::with_secret().await;
    let first = world.current();
    world.sm.turn(|knobs| {
        knobs.staleness.describe_ms = 5_000;
        knobs.staleness.get_ms = 2_000;
    });
    world.pass(SignedDuration::from_secs(60));
    world.put(&id(2), "two", &[]).await.unwrap();
    let described = async || world.client.describe_secret().secret_id(NAME).send().await.unwrap().version_ids_to_stages().unwrap().clone();
    let listed = async || world.client.list_secret_version_ids().secret_id(NAME).send().await.unwrap().versions().len();
    assert_eq!((world.read(CURRENT).await.unwrap(), listed().await), ("one".to_owned(), 2));
    assert_eq!(described().await, [(first, vec![CURRENT.to_owned()])].into());
    world.pass(SignedDuration::from_millis(2_000));
    assert_eq!((world.read(CURRENT).await.unwrap(), described().await.len()), ("two".to_owned(), 1));
    world.pass(SignedDuration::from_millis(3_000));
    assert_eq!(described().await.len(), 2);
    // Writes are never stale: the compare-and-set sees the truth.
    world.put(&id(3), "three", &[]).await.unwrap();
    said(world.move_label(CURRENT, Some(&id(2)), Some(&id(2))).await, "InvalidParameterException", "");
    // A secret just made is not there yet.
    world.sm.create("young", Some("x"), world.now()).unwrap();
    let young = world.client.describe_secret().secret_id("young").send().await;
    said(young.map_err(refused), "ResourceNotFoundException", "");
}

#[tokio::test]
async fn a_put_under_a_label_of_ones_own_may_move_current() {
    let world = World::with_secret().await;
    world.sm.turn(|knobs| knobs.custom_label_moves_current = true);
    assert_eq!(world.put(&id(2), "two", &["mine"]).await.unwrap(), [CURRENT, "mine"]);
}

#[tokio::test]
async fn a_repeated_put_may_attach_its_labels_again() {
    let world = World::with_secret().await;
    world.sm.turn(|knobs| knobs.retried_put_reattaches_labels = true);
    let first = world.current();
    world.put(&id(2), "two", &[]).await.unwrap();
    world.move_label(CURRENT, Some(&first), Some(&id(2))).await.unwrap();
    world.put(&id(2), "two", &[]).await.unwrap();
    assert_eq!(world.current(), id(2));
    said(world.put(&id(2), "changed", &[]).await, "ResourceExistsException", "");
}

#[tokio::test]
async fn a_displaced_version_may_lose_its_labels() {
    let world = World::with_secret().await;
    world.sm.turn(|knobs| knobs.displaced_version_loses_labels = true);
    let first = world.current();
    world.move_label("mine", Some(&first), None).await.unwrap();
    world.put(&id(2), "two", &["beside"]).await.unwrap();
    assert_eq!(world.labels(&first).unwrap(), [CURRENT, "mine"]);
    world.put(&id(3), "three", &[]).await.unwrap();
    assert_eq!(world.labels(&first).unwrap(), [PREVIOUS]);
    assert_eq!(world.labels(&id(2)).unwrap(), ["beside"]);
}

#[tokio::test]
async fn versions_may_vanish_with_their_last_label() {
    let world = World::with_secret().await;
    world.sm.turn(|knobs| knobs.pruning = Pruning::AtOnce);
    let first = world.current();
    world.put(&id(2), "two", &["mine"]).await.unwrap();
    world.move_label("mine", None, Some(&id(2))).await.unwrap();
    assert_eq!(world.labels(&id(2)), None);
    world.put(&id(3), "three", &[]).await.unwrap();
    assert!(world.labels(&first).is_some());
    world.put(&id(4), "four", &[]).await.unwrap();
    assert_eq!(world.labels(&first), None);
    // Gone for good: the same id is free again.
    world.put(&id(2), "another", &["mine"]).await.unwrap();
}

// --- The shared server's faults, seen from here ---

#[tokio::test]
async fn an_answer_lost_after_the_commit_and_one_before_it() {
    let world = World::with_secret().await;
    let simulator = world.running.simulator();
    simulator.add_rule(Rule::once("PutSecretValue", Fault::Drop { at: Stage::Answered }));
    let put =
        |n: u32| world.client.put_secret_value().secret_id(NAME).client_request_token(id(n)).secret_string("x").version_stages("mine");
    assert!(matches!(put(2).send().await, Err(SdkError::DispatchFailure(_))));
    assert_eq!(world.labels(&id(2)).unwrap(), ["mine"]);
    put(2).send().await.unwrap();
    let rule = Rule::once("PutSecretValue", Fault::Drop { at: Stage::Received }).when("VersionStages", "mine");
    simulator.add_rule(rule);
    assert!(matches!(put(3).send().await, Err(SdkError::DispatchFailure(_))));
    assert_eq!(world.labels(&id(3)), None);
    let entry = simulator.journal(0).into_iter().find(|entry| entry.call == "PutSecretValue" && entry.performed).unwrap();
    assert_eq!(entry.notes["fingerprint"], json!(fingerprint("x")));
}

#[tokio::test]
async fn an_error_may_be_scripted_before_and_after_the_effect() {
    let world = World::with_secret().await;
    let simulator = world.running.simulator();
    simulator.add_rule(Rule::once("PutSecretValue", ErrorType::InternalServiceError.scripted(ReplyAt::Answered)));
    said(world.put(&id(2), "two", &["mine"]).await, "InternalServiceError", "Scripted");
    assert_eq!(world.labels(&id(2)).unwrap(), ["mine"]);
    simulator.add_rule(Rule::once("PutSecretValue", ErrorType::ThrottlingException.scripted(ReplyAt::Received)));
    said(world.put(&id(3), "three", &["mine"]).await, "ThrottlingException", "Scripted");
    assert_eq!(world.labels(&id(3)), None);
    assert_eq!((ErrorType::InternalServiceError.status(), ErrorType::ResourceNotFoundException.status()), (500, 400));
}

#[tokio::test]
async fn a_person_may_come_between_a_held_call_and_its_effect() {
    let world = World::with_secret().await;
    let first = world.current();
    world.put(&id(2), "two", &["mine"]).await.unwrap();
    let simulator = world.running.simulator();
    simulator.add_rule(Rule::once("UpdateSecretVersionStage", Fault::Hold { at: Stage::Received }));
    let (target, from) = (id(2), first.clone());
    let promotion = world.move_label(CURRENT, Some(&target), Some(&from));
    let person = async {
        let held = simulator.wait_held("UpdateSecretVersionStage", LIMIT).await.unwrap();
        world.sm.put_as_person(NAME, "by hand", world.now()).unwrap();
        assert!(simulator.release(held.id));
    };
    let (promoted, ()) = tokio::join!(promotion, person);
    said(promoted, "InvalidParameterException", "must be set to the version");
    assert_eq!(world.read(CURRENT).await.unwrap(), "by hand");
}

// --- People and observers ---

#[tokio::test]
async fn people_act_and_the_history_tells() {
    let world = World::with_secret().await;
    let first = world.current();
    world.pass(SignedDuration::from_secs(1));
    let second = world.sm.put_as_person(NAME, "two", world.now()).unwrap();
    world.pass(SignedDuration::from_secs(1));
    world.sm.roll_back(NAME, &first, world.now()).unwrap();
    world.sm.set_pending(NAME, &second, world.now()).unwrap();
    assert_eq!(world.labels(&second).unwrap(), [PENDING, PREVIOUS]);
    world.put(&id(3), "three", &[]).await.unwrap();
    world.sm.set_rotation(NAME, true, world.now()).unwrap();
    assert_eq!(world.client.describe_secret().secret_id(NAME).send().await.unwrap().rotation_enabled(), Some(true));
    world.sm.delete(NAME, Some(7), world.now()).unwrap();
    said(world.read(CURRENT).await, "InvalidRequestException", "marked for deletion");
    world.sm.restore(NAME, world.now()).unwrap();
    world.sm.delete(NAME, None, world.now()).unwrap();
    assert!(world.sm.dump(NAME, false, world.now()).is_none());
    let history = world.sm.current_history(NAME, true);
    let told: Vec<_> = history.iter().map(|entry| (entry.by.as_str(), entry.value.as_deref())).collect();
    let expected =
        [("person", Some("one")), ("person", Some("two")), ("person", Some("one")), ("PutSecretValue", Some("three")), ("person", None)];
    assert_eq!(told, expected);
    assert_eq!(history[1].since.duration_since(history[0].since), SignedDuration::from_secs(1));
    assert_eq!(history[3].fingerprint, Some(fingerprint("three")));
    assert!(world.sm.roll_back(NAME, &first, world.now()).is_err());
}

#[tokio::test]
async fn the_control_plane_does_it_over_http() {
    let world = World::empty().await;
    let addr = world.running.addr();
    let post = async |path: &str, body: Value| raw_http::post(addr, &format!("/_control/{path}"), &body).await;
    let get = async |path: &str| raw_http::get(addr, &format!("/_control/{path}")).await;
    let created = post("create", json!({ "secret": NAME, "value": "one" })).await.json();
    let put = post("put", json!({ "secret": NAME, "value": "two" })).await.json();
    let dump = get(&format!("secrets/{NAME}")).await;
    assert!(!dump.text().contains("two"), "values only where asked for");
    let dump = dump.json();
    assert_eq!((&dump["arn"], &dump["versions"][1]["id"]), (&created["arn"], &put["version"]));
    assert_eq!(dump["versions"][1]["fingerprint"], json!(fingerprint("two")));
    let first = &dump["versions"][0]["id"];
    assert_eq!(post("roll_back", json!({ "secret": NAME, "version": first })).await.status, 200);
    assert_eq!(post("pending", json!({ "secret": NAME, "version": put["version"] })).await.status, 200);
    assert_eq!(post("rotation", json!({ "secret": NAME, "enabled": true })).await.status, 200);
    let dump = get(&format!("values/{NAME}")).await.json();
    assert_eq!(dump["versions"][0]["labels"], json!([CURRENT]));
    assert_eq!(dump["versions"][1]["labels"], json!([PENDING, PREVIOUS]));
    assert_eq!(dump["versions"][1]["value"], json!("two"));
    let history = get(&format!("history/{NAME}")).await;
    assert!(!history.text().contains("two"));
    assert_eq!(history.json()["current"].as_array().unwrap().len(), 3);
    let knobs = post("knobs", json!({ "writes_per_second": 1, "pruning": "at_once" })).await.json();
    assert_eq!((&knobs["writes_per_second"], &knobs["reads_per_second"]), (&json!(1), &json!(10_000)));
    assert_eq!(get("knobs").await.json(), knobs);
    assert_eq!(post("knobs", json!({ "writes": 1 })).await.status, 400);
    world.read(CURRENT).await.unwrap();
    assert_eq!(get("tally").await.json()["actions"]["GetSecretValue"]["calls"], json!(1));
    assert_eq!(raw_http::call(addr, "DELETE", "/_control/tally", &[], "").await.unwrap().status, 200);
    assert_eq!(get("tally").await.json()["actions"], json!({}));
    assert_eq!(post("delete", json!({ "secret": NAME, "days": 7 })).await.status, 200);
    assert_eq!(post("restore", json!({ "secret": NAME })).await.status, 200);
    assert_eq!(get("secrets").await.json()["secrets"].as_array().unwrap().len(), 1);
    for (path, body, status) in [
        ("put", json!({ "secret": NAME }), 400),
        ("put", json!({ "secret": "missing", "value": "x" }), 400),
        ("put", json!({ "secret": NAME, "valeu": "x" }), 400),
        ("dance", json!({ "secret": NAME }), 404),
    ] {
        assert_eq!(post(path, body.clone()).await.status, status, "{path} {body}");
    }
    assert_eq!(get("secrets/missing").await.status, 404);
}

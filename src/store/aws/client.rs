//! The calls that are made to Secrets Manager, each a single try.
//!
//! The SDK's own retries are off: whether a change is repeated is a decision of the plan, which counts writes and looks first.

use std::fmt;
use std::time::Duration;

use aws_config::sts::AssumeRoleProvider;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::{Credentials, SharedCredentialsProvider, SharedHttpClient, StalledStreamProtectionConfig};
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use secrecy::ExposeSecret;
use tokio::sync::OnceCell;

use super::fault::{Failed, Refusal, failed};
use super::labels::Description;
use super::{AwsSettings, AwsStoreError, Observer};
use crate::rotation::fault::{Certainty, Fault, FaultClass};
use crate::rotation::payload::Payload;
use crate::rotation::slot::SlotId;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const OPERATION_TIMEOUT: Duration = Duration::from_secs(30);

/// One HTTP client (TLS configuration and connection pool) for every store of the process.
#[derive(Clone)]
pub struct AwsHttp(SharedHttpClient);

impl AwsHttp {
    /// Trusts the host's roots and, beside them, the certificates in `ca_pem`. A proxy is used only when given here: what
    /// `HTTPS_PROXY` and its kin say is not read.
    ///
    /// # Errors
    /// When `ca_pem` holds no certificate that can be used, or `proxy` is not a proxy's URL.
    pub fn new(ca_pem: Option<&[u8]>, proxy: Option<&str>) -> Result<Self, AwsStoreError> {
        let mut trust = TrustStore::default();
        if let Some(pem) = ca_pem {
            // Checked here because the SDK's connector panics on what it cannot use.
            usable(pem)?;
            trust = trust.with_pem_certificate(pem);
        }
        let tls = TlsContext::builder().with_trust_store(trust).build().map_err(|error| AwsStoreError::Tls(Box::new(error)))?;
        let proxy = match proxy {
            Some(url) => ProxyConfig::all(url).map_err(|_hidden| AwsStoreError::Proxy)?,
            None => ProxyConfig::disabled(),
        };
        let client = Builder::new().build_with_connector_fn(move |settings, components| {
            let mut connector = Connector::builder().proxy_config(proxy.clone());
            connector.set_connector_settings(settings.cloned());
            if let Some(components) = components {
                connector.set_sleep_impl(components.sleep_impl());
            }
            connector.tls_provider(Provider::Rustls(CryptoMode::Ring)).tls_context(tls.clone()).build()
        });
        Ok(Self(client))
    }
}

impl fmt::Debug for AwsHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AwsHttp")
    }
}

fn usable(pem: &[u8]) -> Result<(), AwsStoreError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_pem| AwsStoreError::Certificate)?;
        roots.add(certificate).map_err(|_der| AwsStoreError::Certificate)?;
    }
    if roots.is_empty() { Err(AwsStoreError::Certificate) } else { Ok(()) }
}

/// Secrets Manager of one account and region. Credentials are looked for when the first call is made.
pub(super) struct Calls {
    settings: AwsSettings,
    http: AwsHttp,
    observer: Option<Observer>,
    client: OnceCell<Client>,
}

/// One version as GetSecretValue gave it.
#[derive(Debug)]
pub(super) struct Version {
    pub(super) arn: String,
    pub(super) id: SlotId,
    pub(super) payload: Payload,
}

impl Calls {
    pub(super) fn new(settings: AwsSettings, http: AwsHttp) -> Self {
        Self { settings, http, observer: None, client: OnceCell::new() }
    }

    pub(super) fn observe(&mut self, observer: Observer) {
        self.observer = Some(observer);
    }

    async fn client(&self) -> Result<&Client, Failed> {
        let client = self.client.get_or_init(|| Box::pin(connect(&self.settings, &self.http))).await;
        if client.config().region().is_some() {
            return Ok(client);
        }
        let what = "no AWS region is known; set region in the store's section, or AWS_REGION";
        Err(Failed { refusal: Refusal::Other, fault: Fault::new(Certainty::NotDone, FaultClass::BadRequest, what) })
    }

    /// Counts the call and reads its failure.
    fn told<T, E>(&self, action: &'static str, entry: &str, result: Result<T, SdkError<E, HttpResponse>>) -> Result<T, Failed>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let result = result.map_err(|error| failed(action, entry, &error));
        if let Some(observer) = &self.observer {
            observer(action, result.as_ref().map_or_else(|failed| failed.fault.class.name(), |_answer| "ok"));
        }
        result
    }

    /// `None` when there is no such secret.
    pub(super) async fn describe(&self, entry: &str) -> Result<Option<Description>, Failed> {
        let call = self.client().await?.describe_secret().secret_id(entry);
        match self.told("DescribeSecret", entry, Box::pin(call.send()).await) {
            Ok(answer) => Ok(Some(Description::new(answer).ok_or_else(|| unreadable("DescribeSecret", entry))?)),
            Err(Failed { refusal: Refusal::NotFound, .. }) => Ok(None),
            Err(failed) => Err(failed),
        }
    }

    /// The version under a label; `None` when there is no such secret or label.
    pub(super) async fn get_stage(&self, entry: &str, label: &str) -> Result<Option<Version>, Failed> {
        self.get(entry, Some(label), None).await
    }

    /// One version; `None` when it is not there.
    pub(super) async fn get_version(&self, entry: &str, version: &str) -> Result<Option<Version>, Failed> {
        self.get(entry, None, Some(version)).await
    }

    async fn get(&self, entry: &str, label: Option<&str>, version: Option<&str>) -> Result<Option<Version>, Failed> {
        let call = self.client().await?.get_secret_value().secret_id(entry);
        let call = call.set_version_stage(label.map(str::to_owned)).set_version_id(version.map(str::to_owned));
        let answer = match self.told("GetSecretValue", entry, Box::pin(call.send()).await) {
            Ok(answer) => answer,
            Err(Failed { refusal: Refusal::NotFound, .. }) => return Ok(None),
            Err(failed) => return Err(failed),
        };
        let (Some(arn), Some(id)) = (answer.arn, answer.version_id) else { return Err(unreadable("GetSecretValue", entry)) };
        let Some(text) = answer.secret_string else {
            let what = format!("{entry:?} holds binary data (SecretBinary); evertoken manages text");
            return Err(Failed { refusal: Refusal::Other, fault: Fault::new(Certainty::NotDone, FaultClass::BadRequest, what) });
        };
        Ok(Some(Version { arn, id: SlotId::new(id), payload: Payload::new(text) }))
    }

    /// Puts a version under one label of ours.
    pub(super) async fn put(&self, arn: &str, id: &SlotId, label: &str, payload: &Payload) -> Result<(), Failed> {
        let call = self.client().await?.put_secret_value().secret_id(arn).client_request_token(id.as_str());
        let call = call.version_stages(label).secret_string(payload.expose());
        let put = self.told("PutSecretValue", arn, Box::pin(call.send()).await);
        put.map(drop).map_err(|failed| without(failed, payload))
    }

    /// Makes a secret that holds a payload.
    pub(super) async fn create(&self, name: &str, id: &SlotId, payload: &Payload) -> Result<(), Failed> {
        let call = self.client().await?.create_secret().name(name).client_request_token(id.as_str()).secret_string(payload.expose());
        let created = self.told("CreateSecret", name, Box::pin(call.send()).await);
        created.map(drop).map_err(|failed| without(failed, payload))
    }

    /// Moves a label: from a version, to a version, or both at once, which AWS does as one compare-and-set.
    pub(super) async fn move_label(&self, arn: &str, label: &str, from: Option<&str>, to: Option<&str>) -> Result<(), Failed> {
        let call = self.client().await?.update_secret_version_stage().secret_id(arn).version_stage(label);
        let call = call.set_remove_from_version_id(from.map(str::to_owned)).set_move_to_version_id(to.map(str::to_owned));
        self.told("UpdateSecretVersionStage", arn, Box::pin(call.send()).await).map(drop)
    }
}

async fn connect(settings: &AwsSettings, http: &AwsHttp) -> Client {
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).operation_timeout(OPERATION_TIMEOUT).build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http.0.clone())
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    if let Some(region) = &settings.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(profile) = &settings.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(key) = &settings.fixed_key {
        loader = loader.credentials_provider(Credentials::new(&key.id, key.secret.expose_secret(), None, None, "fixed"));
    }
    let shared = Box::pin(loader.load()).await;
    let mut config = aws_sdk_secretsmanager::config::Builder::from(&shared);
    if let Some(url) = &settings.endpoint_url {
        // On the service alone: credentials go on being asked for where AWS gives them.
        config.set_endpoint_url(Some(url.clone()));
    }
    if let Some(role) = &settings.role_arn {
        config.set_credentials_provider(Some(Box::pin(assumed(role, settings, &shared)).await));
    }
    Client::from_conf(config.build())
}

async fn assumed(role: &str, settings: &AwsSettings, shared: &SdkConfig) -> SharedCredentialsProvider {
    let mut provider = AssumeRoleProvider::builder(role).session_name("evertoken").configure(shared);
    if let Some(external_id) = &settings.external_id {
        provider = provider.external_id(external_id);
    }
    match shared.credentials_provider() {
        Some(base) => SharedCredentialsProvider::new(Box::pin(provider.build_from_provider(base)).await),
        None => SharedCredentialsProvider::new(Box::pin(provider.build()).await),
    }
}

fn unreadable(action: &str, entry: &str) -> Failed {
    let what = format!("the answer to {action} on {entry:?} lacks the ARN or the version");
    Failed { refusal: Refusal::Other, fault: Fault::new(Certainty::Unknown, FaultClass::Unreachable, what) }
}

/// A refusal that repeats the value (some emulators do) is told without its words.
fn without(mut failed: Failed, payload: &Payload) -> Failed {
    let said = |line: &str| line.len() > 3 && failed.fault.what.contains(line);
    if payload.expose().lines().map(str::trim).any(said) {
        failed.fault.what = "the store refused a write with a message that repeats the value, so it is withheld".to_owned();
    }
    failed
}

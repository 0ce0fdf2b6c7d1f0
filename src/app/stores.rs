//! The stores that a configuration names.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::OnceCell;

use super::{SetupError, Shared, authorities};
use crate::config::{Settings, settings};
use crate::store::SecretStore;
use crate::store::aws::{AwsHttp, AwsSettings, AwsStore};
use crate::store::file::{FileGroup, FileStore};

pub(super) fn stores(settings: &Settings, shared: &Shared) -> Result<BTreeMap<String, Arc<dyn SecretStore>>, SetupError> {
    let http = OnceCell::<AwsHttp>::new();
    let mut stores: BTreeMap<String, Arc<dyn SecretStore>> = BTreeMap::new();
    for (name, store) in &settings.stores {
        let made: Arc<dyn SecretStore> = match store {
            settings::Store::File(file) => Arc::new(file_store(name.as_str(), file)?),
            settings::Store::AwsSecretsManager(aws) => {
                if http.get().is_none() {
                    let made = aws_http(settings)?;
                    drop(http.set(made));
                }
                let Some(http) = http.get() else { continue };
                let metrics = shared.metrics.clone();
                Arc::new(
                    AwsStore::new(aws_settings(aws), http).observed(Arc::new(move |action, outcome| metrics.aws_request(action, outcome))),
                )
            }
        };
        stores.insert(name.as_str().to_owned(), made);
    }
    Ok(stores)
}

/// Every file store that cannot be set up.
pub(super) fn obstacles(settings: &Settings) -> impl Iterator<Item = SetupError> {
    settings.stores.iter().filter_map(|(name, store)| match store {
        settings::Store::File(file) => file_store(name.as_str(), file).err(),
        settings::Store::AwsSecretsManager(_) => None,
    })
}

fn file_store(name: &str, file: &settings::FileSettings) -> Result<FileStore, SetupError> {
    let group = file.group.as_ref().map(|group| group.parse().map_or_else(|_name| FileGroup::Name(group.clone()), FileGroup::Id));
    FileStore::new(&file.dir, file.mode, group.as_ref()).map_err(|error| SetupError::FileStore(name.to_owned(), error))
}

fn aws_settings(aws: &settings::AwsSecretsManager) -> AwsSettings {
    AwsSettings {
        region: aws.region.clone(),
        role_arn: aws.role_arn.clone(),
        external_id: aws.external_id.clone(),
        profile: aws.profile.clone(),
        endpoint_url: aws.endpoint_url.as_ref().map(|url| url.as_str().trim_end_matches('/').to_owned()),
        fixed_key: None,
    }
}

fn aws_http(settings: &Settings) -> Result<AwsHttp, SetupError> {
    let ca = authorities(settings)?;
    AwsHttp::new(ca.as_deref(), settings.network.proxy.as_ref().map(reqwest::Url::as_str)).map_err(SetupError::Aws)
}

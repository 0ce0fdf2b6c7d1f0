//! The parts that everything online is asked through.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::finding::Section;
use crate::app::{Setup, SetupError, Shared};
use crate::config::Settings;
use crate::config::secret_ref::SecretRef;

/// What tokens are looked at with.
pub(super) struct World {
    pub(super) settings: Arc<Settings>,
    pub(super) setup: Setup,
    /// For each app that Meta accepts, whether it is still being asked: one that is throttled is left alone from then on.
    asked: BTreeMap<String, Arc<AtomicBool>>,
}

impl World {
    pub(super) const fn new(settings: Arc<Settings>, setup: Setup, asked: BTreeMap<String, Arc<AtomicBool>>) -> Self {
        Self { settings, setup, asked }
    }

    /// Whether Meta may be asked for this app's tokens.
    pub(super) fn asks(&self, app: &str) -> bool {
        self.asked.get(app).is_some_and(|asked| asked.load(Ordering::Relaxed))
    }

    /// Asks no more for this app.
    pub(super) fn leave_alone(&self, app: &str) {
        if let Some(asked) = self.asked.get(app) {
            asked.store(false, Ordering::Relaxed);
        }
    }
}

/// Builds what can be built, taking out what cannot: apps whose secret cannot be had, stores that cannot be set up. Each is told in
/// its app's section, or in one of its own.
pub(super) async fn build(settings: &Settings, shared: &Shared, apps: &mut BTreeMap<String, Section>) -> (Option<Setup>, Vec<Section>) {
    let mut rest = settings.clone();
    let mut broken = Vec::new();
    loop {
        let error = match Setup::build(rest.clone(), None, shared).await {
            Ok(setup) => {
                for (name, why) in setup.unread_secrets() {
                    if let Some(section) = apps.get_mut(name) {
                        section.error(
                            format!("its secret cannot be had: {why}"),
                            "see what is said of that store and entry; the daemon tries again every half minute",
                        );
                    }
                }
                return (Some(setup), broken);
            }
            Err(error) => error,
        };
        let before = (rest.apps.len(), rest.stores.len());
        match &error {
            SetupError::Secret { app, key, source } => {
                let found = settings.apps.get(app.as_str());
                let reference = found.and_then(|found| if *key == "secret" { Some(&found.secret) } else { found.secret_previous.as_ref() });
                // What is on this host was told when it was looked at.
                let told = matches!(reference, Some(SecretRef::Local(_)));
                if let Some(section) = apps.get_mut(app).filter(|_| !told) {
                    section.error(super::super::chain(&error), source.remedy());
                }
                rest.apps.retain(|name, _| name.as_str() != app);
            }
            SetupError::Graph(app, _) => {
                if let Some(section) = apps.get_mut(app) {
                    section.error(super::super::chain(&error), "write them as docs/configuration.md shows");
                }
                rest.apps.retain(|name, _| name.as_str() != app);
            }
            SetupError::FileStore(store, _) => {
                let mut section = Section::new(format!("store {store}"));
                section.error(super::super::chain(&error), "make its dir, mode and group ones that this user may use");
                broken.push(section);
                rest.stores.retain(|name, _| name.as_str() != store);
            }
            SetupError::Transport(_)
            | SetupError::Authorities { .. }
            | SetupError::Aws(_)
            | SetupError::Spool(_)
            | SetupError::Ledger(_) => {
                let mut section = Section::new("network");
                section.error(super::super::chain(&error), "mend [network]: nothing could be asked");
                broken.push(section);
                return (None, broken);
            }
        }
        // Every round takes something out, so this ends.
        if before == (rest.apps.len(), rest.stores.len()) {
            return (None, broken);
        }
    }
}

//! The app's credential: its secret, and the app token that is made of it or fetched with it.
//!
//! The composed form (`id|secret`) needs no call, but Meta has refused it for an app whose secret was otherwise valid. So it is
//! tried first, and after a 190 on it a token is fetched by `client_credentials` and kept until that one is refused too.

use std::sync::{Arc, PoisonError, RwLock};

use secrecy::{ExposeSecret as _, SecretString};

/// Where the app token comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AppTokenMode {
    /// Composed as `id|secret`; fetched only after a 190 on that.
    #[default]
    Composed,
    /// Fetched at the first need.
    Fetched,
}

/// The secret and what was fetched with it. Replaced as one, so that nothing fetched outlives its secret.
pub(super) struct Credential {
    pub(super) secret: SecretString,
    fetched: Option<Arc<SecretString>>,
}

/// Holds the app's credential.
pub(super) struct AppCredential {
    app_id: String,
    mode: AppTokenMode,
    held: RwLock<Arc<Credential>>,
    /// One fetch at a time: after a refusal many calls want the same new token.
    pub(super) fetching: tokio::sync::Mutex<()>,
}

/// An app token, and whether it was composed.
#[derive(Clone)]
pub(super) struct AppToken {
    pub(super) text: Arc<SecretString>,
    composed: bool,
}

impl AppCredential {
    pub(super) fn new(app_id: String, secret: SecretString, mode: AppTokenMode) -> Self {
        let held = RwLock::new(Arc::new(Credential { secret, fetched: None }));
        Self { app_id, mode, held, fetching: tokio::sync::Mutex::new(()) }
    }

    pub(super) fn app_id(&self) -> &str {
        &self.app_id
    }

    /// The credential as it stands now.
    pub(super) fn now(&self) -> Arc<Credential> {
        Arc::clone(&self.held.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another secret in place. Calls under way finish with the one they began with.
    pub(super) fn replace(&self, secret: SecretString) {
        self.set(Credential { secret, fetched: None });
    }

    /// The app token that needs no call: the fetched one, else (in that mode) the composed one.
    pub(super) fn at_hand(&self) -> Option<AppToken> {
        let now = self.now();
        if let Some(text) = &now.fetched {
            return Some(AppToken { text: Arc::clone(text), composed: false });
        }
        (self.mode == AppTokenMode::Composed).then(|| {
            let text = format!("{}|{}", self.app_id, now.secret.expose_secret());
            AppToken { text: Arc::new(text.into()), composed: true }
        })
    }

    /// The fetched token, unless it is the one that was just refused.
    pub(super) fn fetched_instead_of(&self, refused: Option<&AppToken>) -> Option<AppToken> {
        let fetched = self.now().fetched.clone()?;
        let same = refused.is_some_and(|refused| refused.text.expose_secret() == fetched.expose_secret());
        (!same).then_some(AppToken { text: fetched, composed: false })
    }

    /// Keeps a token that was fetched with `credential`, unless that was replaced meanwhile.
    pub(super) fn keep(&self, credential: &Arc<Credential>, fetched: SecretString) -> AppToken {
        let text = Arc::new(fetched);
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        if held.secret.expose_secret() == credential.secret.expose_secret() {
            *held = Arc::new(Credential { secret: credential.secret.clone(), fetched: Some(Arc::clone(&text)) });
        }
        AppToken { text, composed: false }
    }

    /// Forgets a fetched token that was refused.
    pub(super) fn forget(&self, refused: &AppToken) {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        let same = held.fetched.as_ref().is_some_and(|fetched| fetched.expose_secret() == refused.text.expose_secret());
        if !refused.composed && same {
            *held = Arc::new(Credential { secret: held.secret.clone(), fetched: None });
        }
    }

    fn set(&self, credential: Credential) {
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(credential);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(token: Option<AppToken>) -> Option<String> {
        token.map(|token| token.text.expose_secret().to_owned())
    }

    fn app(mode: AppTokenMode) -> AppCredential {
        AppCredential::new("12".to_owned(), "s1".to_owned().into(), mode)
    }

    #[test]
    fn the_composed_token_is_at_hand_until_one_was_fetched() {
        let app = app(AppTokenMode::Composed);
        assert_eq!(text(app.at_hand()).as_deref(), Some("12|s1"));
        let kept = app.keep(&app.now(), "12|f".to_owned().into());
        assert_eq!(text(app.at_hand()).as_deref(), Some("12|f"));
        assert_eq!(text(app.fetched_instead_of(Some(&kept))), None);
        app.forget(&kept);
        assert_eq!(text(app.at_hand()).as_deref(), Some("12|s1"));
    }

    #[test]
    fn nothing_fetched_outlives_its_secret() {
        let app = app(AppTokenMode::Fetched);
        assert!(app.at_hand().is_none());
        let before = app.now();
        app.replace("s2".to_owned().into());
        app.keep(&before, "12|old".to_owned().into());
        assert!(app.at_hand().is_none());
        app.keep(&app.now(), "12|new".to_owned().into());
        assert_eq!(text(app.at_hand()).as_deref(), Some("12|new"));
        app.replace("s3".to_owned().into());
        assert!(app.at_hand().is_none());
    }
}

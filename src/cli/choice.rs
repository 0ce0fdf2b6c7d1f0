//! Which tokens a command line means. What selects nothing is a mistake of whoever typed it, and is told before anything is asked or
//! changed, with what was probably meant.

use super::Failure;
use crate::config::{Settings, nearest};
use crate::daemon::wake::{Selector, matches};
use crate::rotation::health::Phase;

/// Names that are listed where none is near.
const LISTED: usize = 12;

/// Whether every name and pattern means one of these tokens, and the phase is one. `configured` are the names in the configuration
/// here: a daemon may not look after all of them.
pub(super) fn known<'a>(
    select: &Selector,
    tokens: impl Iterator<Item = &'a str> + Clone,
    configured: impl IntoIterator<Item = &'a str>,
) -> Result<(), Failure> {
    let idle: Vec<&str> = configured.into_iter().filter(|name| !tokens.clone().any(|token| token == *name)).collect();
    for name in &select.names {
        if tokens.clone().any(|token| matches(name, token)) {
            continue;
        }
        if let Some(token) = idle.iter().find(|token| matches(name, token)) {
            return Err(Failure::error(format!(
                "{token} is configured, and nobody looks after it: its app's secret cannot be read, or the daemon has not read this \
                 configuration. To do: see `evertoken check`, and reload the daemon (SIGHUP)"
            )));
        }
        return Err(Failure::usage(unknown("token", name, tokens)));
    }
    match &select.phase {
        Some(phase) if !Phase::ALL.iter().any(|known| known.name() == phase) => {
            Err(Failure::usage(unknown("phase", phase, Phase::ALL.iter().map(|phase| phase.name()))))
        }
        Some(_) | None => Ok(()),
    }
}

/// Whether the app is configured.
pub(super) fn known_app(select: &Selector, settings: &Settings) -> Result<(), Failure> {
    match &select.app {
        Some(app) if !settings.apps.contains_key(app.as_str()) => {
            Err(Failure::usage(unknown("app", app, settings.apps.keys().map(crate::config::settings::AppName::as_str))))
        }
        Some(_) | None => Ok(()),
    }
}

/// What is not there, and what is.
pub(super) fn unknown<'a>(kind: &str, name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let hint = match nearest(name, known.clone()) {
        Some(near) => format!("did you mean {near:?}?"),
        None => {
            let listed: Vec<&str> = known.clone().take(LISTED).collect();
            match known.count().saturating_sub(listed.len()) {
                0 if listed.is_empty() => "there is none".to_owned(),
                0 => format!("there are: {}", listed.join(", ")),
                more => format!("there are: {} and {more} more", listed.join(", ")),
            }
        }
    };
    let verb = if name.contains(['*', '?']) { "matches" } else { "is called" };
    format!("no {kind} {verb} {name:?}; {hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(select: &Selector) -> String {
        known(select, ["bot", "ads"].into_iter(), ["bot"]).unwrap_err().text
    }

    #[test]
    fn what_selects_nothing_is_told_with_what_was_meant() {
        let names = |names: &[&str]| Selector { names: names.iter().map(|name| (*name).to_owned()).collect(), ..Selector::default() };
        assert_eq!(says(&names(&["bot", "bto"])), "no token is called \"bto\"; did you mean \"bot\"?");
        assert_eq!(says(&names(&["whatsapp"])), "no token is called \"whatsapp\"; there are: bot, ads");
        assert_eq!(says(&names(&["x*"])), "no token matches \"x*\"; there are: bot, ads");
        let phase = Selector { all: true, phase: Some("rset".into()), ..Selector::default() };
        assert_eq!(says(&phase), "no phase is called \"rset\"; did you mean \"rest\"?");
        assert!(known(&names(&["b*", "ads"]), ["bot", "ads"].into_iter(), []).is_ok());
        let idle = known(&names(&["new"]), ["bot"].into_iter(), ["bot", "new"]).unwrap_err();
        assert!(idle.text.contains("nobody looks after it") && idle.exit == crate::cli::Exit::Error, "{idle:?}");
    }
}

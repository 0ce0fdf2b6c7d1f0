//! Orders of people: what concerns the fleet is done here, what concerns tokens by their own passes.

use std::collections::BTreeMap;

use secrecy::ExposeSecret as _;
use tokio::sync::oneshot;

use super::Daemon;
use crate::daemon::fleet::{Fleet, lock};
use crate::daemon::wake::{Order, Reply, Selector, Verb};
use crate::daemon::worker::Worker;
use crate::rotation::time::Boot;
use crate::rotation::token::Token;

impl Daemon {
    /// Takes an order. What concerns tokens is queued at each and obeyed by its next pass, which comes at once.
    pub(super) fn order(&mut self, order: Order, answer: oneshot::Sender<Vec<Reply>>) {
        match order.verb {
            Verb::CloseBreaker => {
                let was = self.fleet.breaker(|breaker| {
                    let was = breaker.veto().cloned();
                    // Closing what is closed would only begin with the canary again.
                    if was.is_some() {
                        breaker.close();
                    }
                    was
                });
                if let Some(veto) = &was {
                    tracing::warn!(
                        event = "breaker.closed",
                        alert = true,
                        was = veto.why.as_str(),
                        "a person closed the breaker; the next revoke is a canary again"
                    );
                }
                let text = was.map_or_else(
                    || "the breaker was closed already: nothing was changed".to_owned(),
                    |veto| format!("closed; it was open since {}: {}", veto.at, veto.why),
                );
                self.wake_all();
                drop(answer.send(vec![Reply { token: String::new(), done: true, text }]));
            }
            Verb::Reload => {
                self.reload_asked = true;
                drop(answer.send(vec![Reply { token: String::new(), done: true, text: "asked for; see the log".into() }]));
            }
            verb @ (Verb::Command(_) | Verb::Adopt { .. }) => self.order_tokens(&verb, &order.select, answer),
        }
    }

    fn order_tokens(&mut self, verb: &Verb, select: &Selector, answer: oneshot::Sender<Vec<Reply>>) {
        let phases: BTreeMap<String, &'static str> =
            lock(&self.fleet.status).iter().map(|(name, status)| (name.clone(), status.phase.name())).collect();
        let chosen: Vec<usize> = self
            .by_name
            .iter()
            .filter(|(name, token)| {
                let app = self.rows.get(**token).map_or("", |row| row.app.as_str());
                select.selects(name, app, phases.get(*name).copied().unwrap_or("unknown"))
            })
            .map(|(_, token)| *token)
            .collect();
        let mut replies = Vec::new();
        for token in chosen {
            let (reply, received) = oneshot::channel();
            if let Some(row) = self.rows.get_mut(token) {
                row.orders.push((verb.clone(), reply));
                replies.push((row.name.clone(), received));
            }
            self.planner.schedule(token, Boot::ZERO);
        }
        tokio::spawn(async move {
            let mut list = Vec::new();
            for (token, received) in replies {
                list.push(received.await.unwrap_or_else(|_dropped| Reply {
                    token,
                    done: false,
                    text: "the daemon stopped before it was done".into(),
                }));
            }
            drop(answer.send(list));
        });
    }

    fn wake_all(&mut self) {
        for token in self.by_name.values() {
            self.planner.schedule(*token, Boot::ZERO);
        }
    }
}

/// Obeys what a person ordered for one token.
pub(super) async fn obey(worker: &mut Worker, fleet: &Fleet, verb: Verb) -> Reply {
    let outcome = match verb {
        Verb::Command(command) => worker.command(fleet, &command).await,
        Verb::Adopt { token, create } => match token.map(|text| Token::new(text.expose_secret().trim())).transpose() {
            Ok(token) => worker.adopt(fleet, token, create).await,
            Err(error) => Err(error.to_string()),
        },
        Verb::CloseBreaker | Verb::Reload => Ok(String::new()),
    };
    let (done, text) = match outcome {
        Ok(text) => (true, text),
        Err(text) => (false, text),
    };
    Reply { token: worker.name().to_owned(), done, text }
}

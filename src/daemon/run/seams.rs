//! What the loop needs of the rest: workers made from a configuration, that configuration read again, and somebody who is told that
//! the loop turns.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::super::fleet::Fleet;
use super::super::worker::Worker;

/// Makes workers from the configuration in force.
pub trait Blueprint: Send + Sync {
    /// The configured tokens: name and app.
    fn tokens(&self) -> Vec<(String, String)>;
    /// A fresh worker; `None` for a name that is not configured.
    fn worker(&self, name: &str, fleet: &Fleet) -> Option<Worker>;
    /// A text that differs whenever the token's configuration does.
    fn digest(&self, name: &str) -> Option<String>;
    /// Whether something is missing that may come by itself, so that another reload is worth a try.
    fn waiting(&self) -> bool;
}

/// Reads the configuration again: a new blueprint, or all its mistakes.
pub type Reload = Box<dyn Fn() -> Reloading + Send>;

/// A reload under way: a secret that lies in a store takes time to read, and the loop goes on meanwhile.
pub type Reloading = Pin<Box<dyn Future<Output = Result<Arc<dyn Blueprint>, String>> + Send>>;

/// What tells the outside that the loop turns.
pub trait Heart: Send {
    /// The loop turned.
    fn beat(&mut self);
    /// How long the loop may rest between two turns, where somebody watches it.
    fn patience(&self) -> Option<Duration>;
    /// A reload began or ended.
    fn reloading(&mut self, begins: bool);
    /// A reload was refused or taken.
    fn reloaded(&mut self, taken: bool);
    /// The daemon stops.
    fn stopping(&mut self);
}

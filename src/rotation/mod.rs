//! The heart: from what is known about a token to the one next step. Pure, so that the same code runs in production, in a
//! simulated year, and under every fault a test can think of: no I/O, no clock, no randomness, no async (`tests/layering.rs`).
//!
//! # The shape
//!
//! ```text
//!   Evidence ──┐
//!              ├──> plan() ──> Look    find something out, then ask again
//!   Policy ────┘              Do      one effect: done, not done, or unknown; then look, then ask again
//!                             Wait    until an instant; what it waits for passes by itself
//!                             Hold    a person or a third party must act; looked at again all the same
//! ```
//!
//! [`evidence`] is all that is known, each piece with its age; [`policy`] is what the operator wants; [`plan`] is the chain of
//! rules; [`record`] is the little that must be remembered and cannot be seen, kept in the secret's own entry; [`revoke_gate`]
//! stands before the one call that cannot be taken back; [`verify`] judges a new token; [`schedule`] says when; [`command`] turns a
//! person's wish into a record; [`breaker`] is what all tokens share; [`health`] tells people.
//!
//! # The states
//!
//! No state is stored. [`health::phase`] reads it from the evidence, as [`plan`] does each time.
//!
//! ```text
//!            due, or asked for          refresh              stage              verify              mark
//!   rest ────────────────────> intent ─────────> captured ─────────> staged ─────────> verified ─────────> marked
//!    ^                           │ │                                   │                                      │ promote
//!    │      same token again     │ │ answer lost: a row of             │ unfit                                v
//!    ├───────── extended ────────┘ │ `unaccounted`, next attempt       v                                   promoted
//!    │                             └────────> intent              quarantined ─┐                              │ publish,
//!    │                                                                         │ after the window             │ read back
//!    │                     somebody else's token became current ──> surplus ───┤                              v
//!    │                                                                         v                         propagating
//!    │                                                                      revoking <── window over, ────────┘
//!    │        old dead, new alive                     revoke                   │         second full look
//!    └──────────────────────────────── checked <───────────────────────────────┘
//! ```
//!
//! Beside these: `unknown` (not looked at yet), `unadopted` (not ours yet), `frozen` (others keep writing; a newer record; another
//! rotator), `needs_human` (nothing that may be done helps). Each of the latter names the person's act that ends it.
//!
//! # The invariants
//!
//! - **I1 Current is usable.** No step makes a token invalid that the store's current value or any sink holds; when somebody else
//!   does, it is seen within an audit interval, and healed or told. `tests/simulation.rs`, `tests/worker.rs`.
//! - **I2 No token is lost unseen.** A mint is preceded by an intent that is committed and read back, so there are never more mints
//!   than intents. A token that came is in the spool, in the store, or revoked; one that may have been minted and never came is a
//!   row of [`record::Record::unaccounted`] with the day by which it has ended. `plan/tests.rs`, `tests/simulation.rs`, `tests/spool.rs`.
//! - **I3 One gate.** [`plan::Effect::Revoke`] is made in one function, and only when all eleven conjuncts of [`revoke_gate`] hold on
//!   evidence at most 60 s old. Tested beside the gate, one conjunct at a time; the one maker and the one caller in
//!   `tests/layering.rs`.
//! - **I4 Never the last one.** The same string back from a refresh means *extended*: nothing is staged, nothing is revoked. A staged
//!   token that somebody could still promote is not revoked. `plan/tests.rs`, and beside the gate.
//! - **I5 Two rotators are harmless.** Every write is compare-and-set or create-if-absent; the loser's token becomes surplus. There is
//!   no leader. `tests/store_contract/cases.rs`, `tests/simulation.rs`.
//! - **I6 No secret leaves its places.** [`token::Token`] has no text; what people see is its [`token::Fingerprint`].
//!   `tests/graph_transport.rs`, `tests/telemetry.rs`.
//! - **I7 No going back.** A token on its way out is never promoted; the epoch only grows; a record of a newer format is never
//!   written over. The only exceptions put a living token back where a dead one is current: heal, and what a person asks for. Both
//!   need an unrevoked, freshly valid token, raise the epoch and start the window anew. `plan/tests.rs`, and beside [`record`].
//! - **I8 Evidence beats memory.** Spool, ledger, the breaker's file and the host's clock may forbid an action, never permit one.
//!   Losing them delays work. `tests/ledger.rs`, `tests/spool.rs`; the veto's file is tested in `daemon/veto.rs`.
//! - **I9 Unknown is an outcome.** [`fault::Certainty`]; it is resolved by looking. An answer's body never decides whether a revoke
//!   worked. `tests/simulation.rs`, `tests/graph_client.rs`, `tests/store_contract/aws_faults.rs`.
//! - **I10 Bounded.** Every list in a record, every body, queue and retry has a limit. Tested beside [`record`]; `tests/graph_client.rs`.
//!
//! And nothing is ever given up: a back-off is capped and shown, the next try stays scheduled, and a restart mints nothing. Every
//! fixed duration fits the life seen ([`schedule::scaled`]).

pub mod breaker;
pub mod command;
pub mod evidence;
pub mod fault;
pub mod health;
pub mod payload;
pub mod plan;
pub mod policy;
pub mod record;
pub mod revoke_gate;
pub mod schedule;
pub mod slot;
#[cfg(test)]
pub(crate) mod testing;
pub mod time;
pub mod token;
pub mod verify;

//! Strict stand-ins for the services that evertoken talks to, part of the product: `evertoken simulate` and `evertoken demo` run
//! them, and so does every test. They are served over real sockets on loopback, so that timeouts, lost answers and cut bodies are real.
//!
//! A simulator is two halves. The [`service::Service`] is a synchronous state machine: a request and the time go in, an answer comes
//! out, nothing waits. The [`server`] owns everything that is about transport and is the same for all of them: the listener, the
//! [`virtual_clock::VirtualClock`], scripted faults ([`fault`]), the [`journal`] of calls, and the [`control`] plane, which tests use
//! in-process and people over HTTP under `/_control/`. So a fault means the same at each simulator, and a service cannot forget one.
//!
//! `simulator` imports nothing else of ours: it is a second reading of the provider's rules, and would prove nothing if it
//! shared code with what it judges. See docs/simulator.md.

mod body;
mod call;
pub mod control;
pub mod fault;
pub mod graph;
pub mod journal;
pub mod secrets_manager;
pub mod server;
pub mod service;
mod socket;
pub mod virtual_clock;

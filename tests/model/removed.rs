//! docs/mutants.md: for each rule that is switched off, what breaks and the shortest way there; and the rules whose absence shows
//! nothing in the model, with the reason why they stay.

use std::fmt::Write as _;

use crate::explore::explore;
use crate::machine::{Machine, Setting};
use crate::mutants::Mutant;
use crate::settings::NONE;
use crate::world::Budget;

/// A rule, how it is switched off, and where its absence shows.
struct Rule {
    rule: &'static str,
    mutant: Mutant,
    rotators: usize,
    gate: bool,
    left: Budget,
}

const fn rule(rule: &'static str, mutant: Mutant, rotators: usize, left: Budget) -> Rule {
    Rule { rule, mutant, rotators, gate: false, left }
}

/// States looked through for one rule.
const LIMIT: usize = 400_000;

const RULES: &[Rule] = &[
    rule("a record is written only after its predecessor", Mutant::RecordUncompared, 2, NONE),
    rule("a promotion compares what is current", Mutant::PromoteUncompared, 2, Budget { edits: 1, ..NONE }),
    rule("a write to a sink compares what is in it", Mutant::SinkUncompared, 1, Budget { late: 1, rotations: 2, ..NONE }),
    rule(
        "a sink is written on a look at the entry that is younger than what was read in the sink",
        Mutant::SinkOnOldLook,
        2,
        Budget { stalls: 1, ..NONE },
    ),
    rule("an intent before each mint", Mutant::NoIntent, 1, NONE),
    rule("an intent counts when it was read back", Mutant::IntentNotReadBack, 1, Budget { lost: 1, ..NONE }),
    rule("a mint whose answer was lost may have happened", Mutant::LostMintRepeated, 1, Budget { lost: 1, ..NONE }),
    rule("a mint whose answer was lost is counted", Mutant::LostMintUncounted, 1, Budget { lost: 1, ..NONE }),
    rule("a token that came is sealed before it is staged", Mutant::Unsealed, 1, Budget { crashes: 1, ..NONE }),
    rule("the spool keeps the token until it is in the store", Mutant::DroppedEarly, 1, NONE),
    rule("the old version is marked before the promotion", Mutant::Unmarked, 1, Budget { edits: 1, rotations: 2, ..NONE }),
    rule("the same string from a refresh is no new token", Mutant::SameStringStaged, 1, Budget { same: 1, ..NONE }),
    rule("a sink that lags starts the window anew before it is written", Mutant::WindowGoesOn, 1, Budget { sink_edits: 1, ..NONE }),
    rule("a propagation window", Mutant::NoWindow, 1, NONE),
    rule("the window runs on the provider's clock", Mutant::HostClock, 1, NONE),
    rule("evidence for a revoke is at most a minute old", Mutant::AnyAge, 1, Budget { sink_edits: 1, stalls: 1, ..NONE }),
    rule("what a revoke answers is not believed", Mutant::AnswerBelieved, 1, Budget { lies: 1, ..NONE }),
    rule("gate: `recorded`", Mutant::Gate("recorded"), 1, NONE),
    rule("gate: `current_valid`", Mutant::Gate("current_valid"), 1, Budget { deaths: 1, ..NONE }),
    rule("gate: `sinks_equal`", Mutant::Gate("sinks_equal"), 1, Budget { sink_edits: 1, stalls: 1, failures: 1, ..NONE }),
    rule("gate: `cannot_return`", Mutant::Gate("cannot_return"), 1, Budget { late: 1, edits: 1, ..NONE }),
    rule("gate: `breaker`", Mutant::Gate("breaker"), 1, Budget { trips: 1, ..NONE }),
    rule("gate: `not_held`", Mutant::Gate("not_held"), 1, Budget { holds: 1, ..NONE }),
];

/// Conditions of the gate whose absence shows nothing, and why they stay.
const ARGUED: &[(Rule, &str)] = &[
    (
        rule("gate: `window_over`", Mutant::Gate("window_over"), 1, Budget { edits: 1, ..NONE }),
        "`recorded` implies it: the record says so only after the window, and takes it back whenever the window starts anew. It stays \
         because a record may have been written by an older version, and because it is the one condition on which all consumers depend.",
    ),
    (
        Rule { gate: true, ..rule("gate: `gates`", Mutant::Gate("gates"), 1, NONE) },
        "`recorded` implies it too: the record says so only after the gates have confirmed. It stays for a gate that is added, or that takes \
         its word back, between the record and the revoke.",
    ),
    (
        rule("gate: `not_used_anywhere`", Mutant::Gate("not_used_anywhere"), 1, Budget { edits: 1, sink_edits: 1, ..NONE }),
        "`cannot_return` (the current slot is the recorded one) and `sinks_equal` imply it as long as equal slots hold equal tokens. It \
         stays because it compares the tokens themselves, and so needs no trust in names.",
    ),
    (
        rule("gate: `not_business_integration`", Mutant::Gate("not_business_integration"), 1, NONE),
        "It is about what kind of token it is, and the model has one kind. Tested beside the gate.",
    ),
    (
        rule("gate: `caller_is_new`", Mutant::Gate("caller_is_new"), 1, Budget { crashes: 1, ..NONE }),
        "Without both texts the call cannot be made, and the victim differs from the current token by `not_used_anywhere`. It stays \
         because it is what makes a dead new token unable to kill the old one; `src/daemon/act.rs` demands it once more.",
    ),
];

/// Steps of a trace that the page shows.
const SHOWN: usize = 5;

/// The page; a rule whose absence no longer shows, or does so all of a sudden, is a mistake.
pub(crate) fn page() -> String {
    let mut page = HEAD.to_owned();
    let mut traces = String::from("\n## The end of each way\n");
    for rule in RULES {
        let (what, way) =
            explore(&rule.machine(), LIMIT, |_, _, _| {}).broken.unwrap_or_else(|| panic!("nothing breaks without: {}", rule.rule));
        writeln!(page, "| {} | {} | {} |", rule.rule, what.split(": ").take(2).collect::<Vec<_>>().join(": "), way.len()).unwrap();
        writeln!(traces, "\nWithout \"{}\":\n\n```text", rule.rule).unwrap();
        let from = way.len().saturating_sub(SHOWN);
        way.iter().enumerate().skip(from).for_each(|(at, line)| writeln!(traces, "{:3} {line}", at + 1).unwrap());
        traces.push_str("```\n");
    }
    page.push_str(MIDDLE);
    for (rule, why) in ARGUED {
        let found = explore(&rule.machine(), LIMIT, |_, _, _| {});
        assert!(!found.cut && found.broken.is_none(), "this breaks something after all: {} {:?}", rule.rule, found.broken);
        writeln!(page, "- **{}**: {why}", rule.rule).unwrap();
    }
    page + &traces
}

impl Rule {
    fn machine(&self) -> Machine {
        Machine::new(Setting { rotators: self.rotators, sinks: 1, gate: self.gate, left: self.left }, Some(self.mutant))
    }
}

const HEAD: &str = "# Rules, switched off one at a time

Written by `tests/model.rs` (`UPDATE_GOLDEN=1 cargo nextest run --test model`), and held by it. Around the production `plan` one rule is
made void: by evidence that says of one thing what would let the rule pass, by another step in place of one, or by a store that does not
compare. Then all states are explored as in [proof.md](proof.md), whose demands the second column names. The third is the length of a
shortest way to what breaks.

| without this rule | this breaks | after steps |
|---|---|---|
";

const MIDDLE: &str = "
## Rules that others imply

Alone, the absence of each of these shows nothing in the settings that were looked through.

";

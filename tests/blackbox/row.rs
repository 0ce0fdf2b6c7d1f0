//! A row of the fault matrix, and how many of them are played at once.
//!
//! ```ignore
//! Row::new("the answer of a refresh is lost").meta(Rule::once("refresh", DROP)).mints(2..=2).run()
//! ```

use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use evertoken::simulator::fault::Rule;
use evertoken::simulator::graph::knobs::Knobs;
use evertoken::simulator::graph::violations::ViolationKind;
use tokio::sync::Semaphore;
use tokio::task::LocalSet;

use super::bed::{Bed, Service, Shape, Story, WINDOW};
use super::oracles::{Expect, judge, shown, until_rest};

/// Beds that stand at the same time: they mostly sleep.
const AT_ONCE: usize = 12;
/// O8: rest comes within the window and ten seconds after the faults have ended, pauses that scale with the life included; and as much
/// again, because two dozen debug builds may share two cores here.
const REST_WITHIN: Duration = Duration::from_secs(2 * (WINDOW.as_secs() + 10));

/// Rows that fail because the product is wrong, each with the reason. A row that passes again must leave this list.
const KNOWN_FAILING: &[(&str, &str)] = &[];

/// What goes wrong, and what is expected.
pub(crate) struct Row {
    name: String,
    shape: Shape,
    knobs: Knobs,
    rules: Vec<(Service, Rule)>,
    expect: Expect,
    starts: bool,
    rests: bool,
}

/// A row ready to be played.
pub(crate) struct Case {
    name: String,
    known_failing: Option<&'static str>,
    story: Rc<Story>,
    play: Pin<Box<dyn Future<Output = Vec<String>>>>,
}

impl Row {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            shape: Shape::default(),
            knobs: Knobs::default(),
            rules: Vec::new(),
            expect: Expect::default(),
            starts: true,
            rests: true,
        }
    }

    /// A fault at Meta.
    pub(crate) fn meta(mut self, rule: Rule) -> Self {
        self.rules.push((Service::Meta, rule));
        self
    }

    /// A fault at AWS.
    pub(crate) fn aws(mut self, rule: Rule) -> Self {
        self.rules.push((Service::Aws, rule));
        self
    }

    /// A fault at either.
    pub(crate) fn at(mut self, service: Service, rule: Rule) -> Self {
        self.rules.push((service, rule));
        self
    }

    /// Meta behaves otherwise.
    pub(crate) fn knobs(mut self, turn: impl FnOnce(&mut Knobs)) -> Self {
        turn(&mut self.knobs);
        self
    }

    pub(crate) fn shape(mut self, change: impl FnOnce(&mut Shape)) -> Self {
        change(&mut self.shape);
        self
    }

    /// How many mints there may be (1).
    pub(crate) fn mints(mut self, mints: std::ops::RangeInclusive<usize>) -> Self {
        self.expect.mints = Some(mints);
        self
    }

    /// An event of level ERROR that must be logged.
    pub(crate) fn alarm(mut self, event: &'static str) -> Self {
        self.expect.alarms.push(event);
        self
    }

    /// An event of level ERROR that may be logged.
    pub(crate) fn tolerate(mut self, event: &'static str) -> Self {
        self.expect.tolerated.push(event);
        self
    }

    pub(crate) fn violation(mut self, kind: ViolationKind) -> Self {
        self.expect.violations.push(kind);
        self
    }

    /// The row itself breaks consumers: O1 is not judged.
    pub(crate) fn outage(mut self) -> Self {
        self.expect.outage = true;
        self
    }

    /// The row itself makes a sent revoke wrong: O3 is not judged.
    pub(crate) fn revoke_unjudged(mut self) -> Self {
        self.expect.revoke_unjudged = true;
        self
    }

    /// The script starts the daemon itself.
    pub(crate) fn by_hand(mut self) -> Self {
        self.starts = false;
        self
    }

    /// The script says itself where it ends; that is no rest with a new token.
    pub(crate) fn without_rest(mut self) -> Self {
        self.rests = false;
        self
    }

    /// Nothing but the faults.
    pub(crate) fn run(self) -> Case {
        self.play(async |_bed: &mut Bed| ())
    }

    /// A script that runs once the faults are in force and the daemon is started; rest and judgement follow.
    pub(crate) fn play(self, script: impl AsyncFnOnce(&mut Bed) + 'static) -> Case {
        let story = Rc::new(Story::default());
        let told = story.clone();
        let name = self.name.clone();
        let known_failing = KNOWN_FAILING.iter().find(|(known, _)| *known == name).map(|(_, why)| *why);
        let play = Box::pin(async move {
            let mut bed = Bed::new(&self.shape, self.knobs, told).await;
            for (service, rule) in self.rules {
                bed.rule(service, rule);
            }
            if self.starts {
                bed.start();
            }
            script(&mut bed).await;
            if self.rests {
                until_rest(&bed, REST_WITHIN).await;
            }
            let shown = shown(&bed).await;
            while !bed.daemons.is_empty() {
                bed.stop().await;
            }
            judge(&bed, &self.expect, &shown)
        });
        Case { name, known_failing, story, play }
    }
}

/// Plays all rows, some at once, and fails with everything that was wrong. `EVERTOKEN_ROW` limits it to rows with that text in their
/// name.
pub(crate) async fn play(cases: Vec<Case>) {
    let wanted = wanted();
    let cases: Vec<Case> = cases.into_iter().filter(|case| wanted.as_deref().is_none_or(|wanted| case.name.contains(wanted))).collect();
    let places = Rc::new(Semaphore::new(AT_ONCE));
    let local = LocalSet::new();
    let mut failed = Vec::new();
    let count = cases.len();
    let mut playing = Vec::new();
    for case in cases {
        let places = places.clone();
        let Case { name, known_failing, story, play } = case;
        let task = local.spawn_local(async move {
            let _place = places.acquire().await;
            play.await
        });
        playing.push((name, known_failing, story, task));
    }
    local
        .run_until(async {
            for (name, known_failing, story, task) in playing {
                let wrong = task.await.unwrap_or_else(|error| vec![said(error)]);
                match (wrong.is_empty(), known_failing) {
                    (true, None) => println!("ok      {name}"),
                    (false, Some(why)) => println!("known   {name}: {why}"),
                    (true, Some(why)) => failed.push(format!("{name}: passes now, though it is known to fail: {why}")),
                    (false, None) => {
                        println!("FAILED  {name}\n{}\n{}", wrong.join("\n"), story.tell());
                        failed.push(format!("{name}: {}", wrong.join("; ")));
                    }
                }
            }
        })
        .await;
    assert!(failed.is_empty(), "{} of {count} rows failed:\n{}", failed.len(), failed.join("\n"));
}

fn said(error: tokio::task::JoinError) -> String {
    let panic = match error.try_into_panic() {
        Ok(panic) => panic,
        Err(error) => return error.to_string(),
    };
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_else(|| "a panic".to_owned())
}

#[expect(clippy::disallowed_methods, reason = "which rows to play is the caller's business")]
fn wanted() -> Option<String> {
    std::env::var("EVERTOKEN_ROW").ok()
}

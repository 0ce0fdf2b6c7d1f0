//! The daemon's own worker, observe and act code on virtual time, against a provider, a store and a sink in memory, with seeded
//! faults at every call: refused, lost before or after the effect, a crash on either side of it, people's edits, two rotators.
//!
//! A seed is about a token-year. `EVERTOKEN_SEEDS=FROM..TO` runs others than the few that every test run has.

#[cfg(test)]
#[path = "simulation/adapters.rs"]
mod adapters;
#[cfg(test)]
#[path = "simulation/world.rs"]
mod world;

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use evertoken::clock;
    use evertoken::daemon::fleet::{App, AppKeys, Fleet};
    use evertoken::daemon::pace::Pace;
    use evertoken::daemon::veto::VetoFile;
    use evertoken::daemon::worker::{Place, Worker};
    use evertoken::ledger::Ledger;
    use evertoken::rotation::health::Phase;
    use evertoken::rotation::payload::PayloadRule;
    use evertoken::rotation::policy::Policy;
    use evertoken::rotation::record::{Record, Retiree, RetireeKind};
    use evertoken::rotation::time::{Boot, later};
    use evertoken::rotation::token::Fingerprint;
    use evertoken::spool::{Spool, SpoolKey};
    use evertoken::store::SecretStore;
    use evertoken::telemetry::LogCounts;
    use evertoken::telemetry::metrics::{Build, Metrics};
    use jiff::{SignedDuration, Timestamp};
    use secrecy::SecretString;

    use crate::adapters::{Graph, Memory};
    use crate::world::{DAY, Odds, Shared, WINDOW, World};

    const BIRTH: Timestamp = Timestamp::constant(1_800_000_000, 0);

    /// One host with its state directory and the process that runs on it, if one does.
    struct Host {
        state: tempfile::TempDir,
        process: Option<Process>,
        name: String,
    }

    struct Process {
        fleet: Fleet,
        worker: Worker,
        due: Boot,
    }

    struct Simulation {
        shared: Shared,
        hosts: Vec<Host>,
        boots: u64,
        boot: Boot,
        wall: Timestamp,
    }

    impl Simulation {
        fn new(seed: u64, hosts: usize) -> Self {
            clock::stand_in(BIRTH, Boot::ZERO);
            let shared = Shared(Arc::new(Mutex::new(World::new(seed))));
            let folder = || tempfile::tempdir_in(if std::path::Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" }).unwrap();
            let hosts = (0..hosts).map(|host| Host { state: folder(), process: None, name: format!("h{host}") }).collect();
            Self { shared, hosts, boots: 0, boot: Boot::ZERO, wall: BIRTH }
        }

        fn start(&mut self, host: usize) {
            self.boots += 1;
            let Some(host) = self.hosts.get_mut(host) else { return };
            let state = host.state.path();
            let metrics = Arc::new(Metrics::new(Build { version: "0", revision: "0" }, &LogCounts::default()));
            let writer = format!("{}-{}", host.name, self.boots);
            let fleet = Fleet::new(
                writer,
                Spool::open(state).unwrap(),
                Ledger::open(state).unwrap().0,
                metrics,
                Pace::new(0.0, 0.0),
                VetoFile::new(state),
            );
            fleet.size.store(1, std::sync::atomic::Ordering::Relaxed);
            let secret = SecretString::from("s");
            let keys = AppKeys { seal: SpoolKey::derive(&secret).unwrap(), open: Vec::new(), secret };
            let app = Arc::new(App::new("acme".into(), "1234567890".into(), Arc::new(Graph(self.shared.clone())), keys));
            let place = |name: &str, sink| {
                let store: Arc<dyn SecretStore> = Arc::new(Memory { shared: self.shared.clone(), sink });
                Place { name: name.into(), store, entry: "e".into() }
            };
            let worker = Worker::new(policy(), app, place("prod", false), vec![place("disk", true)], &fleet);
            host.process = Some(Process { fleet, worker, due: self.boot });
        }

        fn advance(&mut self, by: SignedDuration) {
            self.boot = self.boot.plus(by);
            self.wall = later(self.wall, by);
            clock::stand_in(self.wall, self.boot);
            self.shared.lock().note_readable();
        }

        /// Runs the passes that are due, all hosts at once; a crash ends its process at that call.
        async fn passes(&mut self) {
            let now = self.boot;
            let running = self.hosts.iter_mut().map(|host| async {
                let Some(mut process) = host.process.take_if(|process| process.due <= now) else { return };
                let shared = self.shared.clone();
                let ended = {
                    let pass = process.worker.pass(&process.fleet);
                    tokio::pin!(pass);
                    std::future::poll_fn(|context| {
                        let polled = pass.as_mut().poll(context);
                        if std::mem::take(&mut shared.lock().crash_now) {
                            return std::task::Poll::Ready(None);
                        }
                        polled.map(Some)
                    })
                    .await
                };
                if let Some(end) = ended {
                    process.due = end.next;
                    shared.lock().tell(format!("{}: {:?}: {}", host.name, end.status.phase, end.why.text));
                    host.process = Some(process);
                } else {
                    shared.lock().tell(format!("{}: killed", host.name));
                }
            });
            join_all(running).await;
            self.check();
        }

        fn check(&self) {
            let mut world = self.shared.lock();
            let now = clock::wall();
            let accounted = world.entry.records.last_key_value().map_or(0, |(number, bytes)| {
                let record = Record::decode(*number, bytes).unwrap();
                record.unaccounted.len() + usize::from(record.rotation.is_some())
            });
            let known: Vec<Fingerprint> = world.entry.slots.values().map(|text| Fingerprint::of(text)).collect();
            let strangers =
                world.tokens.iter().filter(|token| token.by_daemon && token.works(now) && !known.contains(&token.fingerprint())).count();
            if strangers > accounted {
                world.broken.push(format!("{now} {strangers} living tokens are in no slot, {accounted} are accounted for"));
            }
            // Every commit of an intent is a record; mints never outnumber them.
            let intents =
                world.entry.records.values().filter(|bytes| String::from_utf8_lossy(bytes).contains("\"stage\":\"intent\"")).count();
            if world.mints > intents {
                let line = format!("{now} {} mints, {intents} intents", world.mints);
                world.broken.push(line);
            }
            let edited = world.last_edit.is_some_and(|at| now.duration_since(at) < SignedDuration::from_mins(10));
            let dead = |entry: &crate::world::Entry| {
                let text = entry.current.as_ref().and_then(|slot| entry.slots.get(slot));
                text.is_some_and(|text| !world.token(text).is_some_and(|token| token.works(now)))
            };
            let places: Vec<&str> = [("entry", &world.entry), ("sink", &world.sink)]
                .into_iter()
                .filter(|(_, entry)| dead(entry))
                .map(|(place, _)| place)
                .collect();
            // What the daemon froze waits for a person, and nobody comes here.
            let frozen = world
                .entry
                .records
                .last_key_value()
                .is_some_and(|(number, bytes)| Record::decode(*number, bytes).unwrap().frozen.is_some());
            if !places.is_empty() && !edited && !frozen {
                world.broken.push(format!("{now} a dead token is in {places:?}"));
            }
        }
    }

    /// All at once, in this task: they take turns at every call.
    async fn join_all(futures: impl Iterator<Item = impl Future<Output = ()>>) {
        let mut running: Vec<_> = futures.map(Box::pin).collect();
        std::future::poll_fn(|context| {
            running.retain_mut(|future| future.as_mut().poll(context).is_pending());
            if running.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }

    fn policy() -> Policy {
        Policy {
            token: "bot".into(),
            app_id: "1234567890".into(),
            system_user_id: "10001".into(),
            required_scopes: None,
            adopt_at_sight: true,
            payload: PayloadRule::Raw,
            refresh_at: 0.5,
            jitter: 0.1,
            audit_interval: SignedDuration::from_hours(24),
            min_life: DAY * 7,
            window: WINDOW,
            consumer_ttl: SignedDuration::from_mins(5),
            tick: SignedDuration::from_secs(30),
            sinks: vec!["disk".into()],
        }
    }

    /// A token-year under faults, then 40 quiet days. Returns what broke.
    async fn live(seed: u64, tally: &mut Tally) -> (Vec<String>, Vec<String>) {
        let hosts = 1 + usize::from(seed.is_multiple_of(3));
        let mut simulation = Simulation::new(seed, hosts);
        let mut dice = crate::world::Dice::new(!seed);
        let odd = |dice: &mut crate::world::Dice, least: u64| if dice.chance(3) { 0 } else { least + dice.roll(40) };
        let odds = Odds {
            refused: odd(&mut dice, 6),
            lost_before: odd(&mut dice, 10),
            lost_after: odd(&mut dice, 10),
            crash: odd(&mut dice, 15),
            person: odd(&mut dice, 60),
            same_token: odd(&mut dice, 4),
            fewer_scopes: odd(&mut dice, 4),
            revoke_lies: odd(&mut dice, 3),
        };
        {
            let mut world = simulation.shared.lock();
            world.odds = odds;
            world.people = dice.roll(8);
            world.tell(format!("seed {seed}: {hosts} hosts, {odds:?}"));
        }
        let year = later(BIRTH, DAY * 365);
        let quiet = later(year, DAY * 40);
        while simulation.wall < quiet && simulation.shared.lock().broken.is_empty() {
            for host in 0..hosts {
                if simulation.hosts.get(host).is_some_and(|host| host.process.is_none()) {
                    simulation.start(host);
                }
            }
            simulation.passes().await;
            let due = simulation.hosts.iter().filter_map(|host| host.process.as_ref()).map(|process| process.due).min();
            // A killed process starts again within a minute or an hour.
            let pause = due
                .map_or_else(|| SignedDuration::from_secs(5 + i64::try_from(dice.roll(3000)).unwrap()), |due| due.since(simulation.boot));
            // Time passes in calls too: never less than a second between two passes.
            simulation.advance(pause.max(SignedDuration::from_secs(1)).min(DAY));
            if simulation.wall >= year {
                {
                    let mut world = simulation.shared.lock();
                    world.odds = Odds::default();
                    world.people = 0;
                }
                // A person looks at what opened the breaker, and closes it.
                for process in simulation.hosts.iter().filter_map(|host| host.process.as_ref()) {
                    if process.fleet.breaker(|breaker| breaker.veto().is_some()) {
                        process.fleet.breaker(evertoken::rotation::breaker::Breaker::close);
                    }
                }
            }
        }
        at_rest(&simulation);
        let world = simulation.shared.lock();
        tally.add(&world);
        (world.broken.clone(), world.story.clone())
    }

    /// After the quiet days: one token lives, it is current, and nothing is left over but what must wait for the next rotation.
    fn at_rest(simulation: &Simulation) {
        let mut world = simulation.shared.lock();
        if !world.broken.is_empty() {
            return;
        }
        let Some((number, bytes)) = world.entry.records.last_key_value() else { return world.broken.push("no record".into()) };
        let record = Record::decode(*number, bytes).unwrap();
        let phases: Vec<Phase> =
            simulation.hosts.iter().filter_map(|host| host.process.as_ref()).map(|process| process.worker.phase()).collect();
        if record.frozen.is_some() {
            return;
        }
        if phases.iter().any(|phase| !matches!(phase, Phase::Rest | Phase::Surplus | Phase::Quarantined | Phase::Propagating)) {
            world.broken.push(format!("not at rest after the quiet days: {phases:?}"));
        }
        // What could still be promoted waits for the next rotation; what a person replaced ends by itself.
        let ready = |retiree: &&Retiree| retiree.why != RetireeKind::Left && retiree.staged_against.as_ref() != Some(&record.current.slot);
        let waiting = record.retirees.iter().filter(ready).count();
        if waiting > 1 {
            world.broken.push(format!("{waiting} tokens wait to be revoked"));
        }
    }

    fn seeds() -> std::ops::Range<u64> {
        #[expect(clippy::disallowed_methods, reason = "a test takes its seeds from the environment")]
        let asked = std::env::var("EVERTOKEN_SEEDS").unwrap_or_default();
        let (from, to) = asked.split_once("..").unwrap_or(("0", "60"));
        from.parse().unwrap()..to.parse().unwrap()
    }

    /// What the runs went through, so that a run that went through nothing is seen.
    #[derive(Default)]
    struct Tally(std::collections::BTreeMap<&'static str, usize>);

    impl Tally {
        const WORDS: [(&'static str, &'static str); 9] = [
            ("kills", ": killed"),
            ("calls refused", ": Refused"),
            ("answers lost", ": Lost"),
            ("edits by people", " a person "),
            ("revokes", " revoked "),
            ("surplus", ": Surplus: "),
            ("quarantined", "is missing"),
            ("put back", "promote"),
            ("frozen", "Frozen"),
        ];

        fn add(&mut self, world: &World) {
            *self.0.entry("mints").or_default() += world.mints;
            for (name, word) in Self::WORDS {
                *self.0.entry(name).or_default() += world.story.iter().filter(|line| line.contains(word)).count();
            }
        }
    }

    #[test]
    fn no_seed_loses_a_token_or_fails_a_consumer() {
        let mut failed = Vec::new();
        let mut tally = Tally::default();
        for seed in seeds() {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let (broken, story) = runtime.block_on(live(seed, &mut tally));
            if !broken.is_empty() {
                println!("seed {seed}:\n  {}\nbroken: {broken:#?}", story[story.len().saturating_sub(60)..].join("\n  "));
                failed.push(seed);
            }
        }
        println!("{:?}", tally.0);
        assert!(failed.is_empty(), "seeds that fail: {failed:?}");
        for (what, count) in &tally.0 {
            assert!(
                *count > 0 || seeds().count() < 60 || matches!(*what, "put back" | "frozen"),
                "no {what} in all seeds: they prove nothing of it"
            );
        }
    }
}

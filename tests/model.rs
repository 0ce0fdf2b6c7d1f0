//! All states of the rotation protocol: the production `plan` of one or two rotators in a world where everything goes wrong that
//! docs/proof.md lists, explored to the end. The page's counts are those of these tests (`UPDATE_GOLDEN=1` writes them anew).
//!
//! The small settings run with all other tests. The large ones, millions of states each:
//! `cargo test --release --test model -- --ignored --nocapture`.

#[cfg(test)]
#[path = "model/explore.rs"]
mod explore;
#[cfg(test)]
#[path = "model/machine.rs"]
mod machine;
#[cfg(test)]
#[path = "model/mutants.rs"]
mod mutants;
#[cfg(test)]
#[path = "model/page.rs"]
mod page;
#[cfg(test)]
#[path = "model/properties.rs"]
mod properties;
#[cfg(test)]
#[path = "model/removed.rs"]
mod removed;
#[cfg(test)]
#[path = "model/rotator.rs"]
mod rotator;
#[cfg(test)]
#[path = "model/settings.rs"]
mod settings;
#[cfg(test)]
#[path = "model/world.rs"]
mod world;

#[cfg(test)]
mod tests {
    use crate::explore::{Found, explore};
    use crate::machine::Machine;
    use crate::page::Row;
    use crate::settings::{LARGE, Named, SMALL};

    /// More states than any setting has: about 8 GiB.
    const LIMIT: usize = 40_000_000;

    fn explored(named: &Named) -> Found {
        let machine = Machine::new(named.setting, None);
        let begun = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        let mut told = 0;
        explore(&machine, LIMIT, |depth, states, frontier| {
            let seconds = (std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap() - begun).as_secs();
            if seconds >= told + 10 {
                told = seconds;
                println!("{}: {seconds} s, depth {depth}, {states} states, {frontier} at the frontier", named.name);
            }
        })
    }

    /// Nothing breaks, everything still leads to rest or to a person, and the page says how many states that was.
    fn holds(named: &Named) -> Found {
        let found = explored(named);
        let way = |way: &[String]| way.iter().enumerate().map(|(at, line)| format!("\n{:3} {line}", at + 1)).collect::<String>();
        if let Some((what, trace)) = &found.broken {
            panic!("{}: {what}{}", named.name, way(trace));
        }
        if let Some((count, trace)) = &found.stuck {
            panic!("{}: {count} states lead neither to rest nor to a person{}", named.name, way(trace));
        }
        assert!(!found.cut, "{}: more than {LIMIT} states", named.name);
        Row::of(named, &found).is_on_the_page();
        found
    }

    macro_rules! small {
        ($($name:ident = $place:literal),* $(,)?) => {
            $(#[test]
            fn $name() {
                holds(&SMALL[$place]);
            })*

            #[test]
            fn every_small_setting_is_explored() {
                assert_eq!([$($place),*].to_vec(), (0..SMALL.len()).collect::<Vec<_>>());
            }
        };
    }

    small! {
        one_rotator_and_what_calls_can_do = 0,
        one_rotator_and_kills_over_two_rotations = 1,
        one_rotator_late_requests_and_pauses = 2,
        one_rotator_and_people = 3,
        one_rotator_two_sinks_and_people_at_them = 4,
        one_rotator_and_the_providers_whims = 5,
        two_rotators = 6,
        one_rotator_and_what_forbids = 7,
        one_rotator_and_a_gate = 8,
    }

    #[test]
    fn every_rule_that_is_switched_off_breaks_something() {
        crate::page::is_the_page("docs/mutants.md", &crate::removed::page());
    }

    #[test]
    #[ignore = "minutes and gigabytes: for a release build"]
    fn the_large_settings() {
        let mut sum = 0;
        for named in LARGE {
            let found = holds(named);
            sum += found.states;
            println!("{}: {} states, {} transitions, depth {}: nothing broke", named.name, found.states, found.transitions, found.depth);
        }
        println!("{sum} states in all: nothing broke, and each leads to rest or to a person");
        assert!(sum >= 10_000_000);
    }
}

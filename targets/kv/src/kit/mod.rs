//! The service's modes as targets: what can be chosen about each, what it promises then, and the
//! machines' configuration.

mod paxos;
mod primary_backup;
mod protocol;
mod quorum;

use std::time::Duration;

use duress_plug::{Opt, Opts, Problem, Target};
use duress_seed::Seed;

use crate::bugs::{Bug, Mode};
use crate::config::Config;

pub use paxos::Paxos;
pub use primary_backup::PrimaryBackup;
pub use quorum::Quorum;

/// A mode of the service, as a target.
pub trait Kit: Target {
    /// The machines' own configuration.
    fn config(&self, options: &Opts, seed: Seed) -> Config;
}

/// Every mode. What is meant by no name comes first.
pub static ALL: &[&'static dyn Kit] = &[&Paxos, &Quorum, &PrimaryBackup];

/// The same, as plugs.
pub static TARGETS: &[&'static dyn Target] = &[&Paxos, &Quorum, &PrimaryBackup];

/// The mode of this name.
pub fn named(name: &str) -> Option<&'static dyn Kit> {
    ALL.iter().copied().find(|kit| kit.name() == name)
}

/// Bounds of heartbeats and timeouts inside a target, in milliseconds.
const WAITS: std::ops::RangeInclusive<u64> = 1..=60_000;

/// No target has more nodes.
const MAX_NODES: u64 = 9;

/// What registers, sets and locks ask for.
const REGISTERS: [&str; 2] = ["read", "write"];
const SETS: [&str; 1] = ["add"];
const LOCKS: [&str; 3] = ["acquire", "renew", "release"];

/// All of that.
static ALL_BUT_CAS: &[&str] = &[REGISTERS[0], REGISTERS[1], SETS[0], LOCKS[0], LOCKS[1], LOCKS[2]];
/// And compare-and-set.
static EVERYTHING: &[&str] = &[REGISTERS[0], REGISTERS[1], "cas", SETS[0], LOCKS[0], LOCKS[1], LOCKS[2]];

const fn attempt_timeout(usual: u64) -> Opt {
    Opt::millis(
        "attempt_timeout",
        WAITS,
        usual,
        "How long its clients wait for a node's answer before they ask another.",
    )
}

const fn heartbeat(whose: &'static str) -> Opt {
    Opt::millis("heartbeat", WAITS, 50, whose)
}

/// Snapshots are rare unless a scenario is about them.
const fn snapshot_every() -> Opt {
    let doc = "After how many records of its log a node writes a snapshot.";
    Opt::integer("snapshot_every", 1..=1_000_000_000, 10_000, doc)
}

/// The planted bug that the options name.
fn bug(options: &Opts) -> Option<Bug> {
    Bug::named(options.choice("bug"))
}

/// The bugs of a mode.
fn bugs(mode: Mode) -> Vec<duress_plug::Bug> {
    let fit = Bug::ALL.iter().filter(|bug| bug.modes().contains(&mode));
    fit.map(|bug| duress_plug::Bug { name: bug.name(), about: bug.description() }).collect()
}

/// A number of nodes. Its option is within bounds.
fn count(options: &Opts, name: &str) -> u16 {
    u16::try_from(options.integer(name)).unwrap_or(u16::MAX)
}

/// The least number of nodes that is more than all others together.
fn majority(nodes: u16) -> u16 {
    nodes / 2 + 1
}

/// A heartbeat must fit twice into the timeout that it prevents.
fn check_heartbeat(heartbeat: Duration, key: &'static str, timeout: Duration) -> Result<(), Problem> {
    if heartbeat * 2 <= timeout {
        return Ok(());
    }
    let message = format!(
        "target.heartbeat ({heartbeat:?}) is more than half of target.{key} ({timeout:?}), so every delay would look like a failure"
    );
    Err(Problem::new(&["heartbeat", key], message).suggest("make the heartbeat shorter or the timeout longer"))
}

#[cfg(test)]
mod tests {
    use duress_plug::{Kind, Value};

    use super::*;

    /// A choice that the configuration doesn't tell from another would be one in name only.
    #[test]
    fn every_option_changes_the_configuration() {
        for kit in ALL {
            let usual = Opts::usual(kit.options());
            let config = kit.config(&usual, Seed(1));
            assert_eq!(config.mode(), kit.name());
            assert_eq!(named(kit.name()).map(|found| found.name()), Some(kit.name()));
            for (option, value) in usual.iter() {
                let others: Vec<Value> = match option.kind {
                    Kind::Integer { least, most } => {
                        vec![Value::Integer(if *value == most.into() { least } else { most })]
                    }
                    Kind::Duration { least, .. } => vec![Value::Duration(least)],
                    Kind::Flag => vec![Value::Flag(*value != Value::Flag(true))],
                    Kind::Choice(of) => of.iter().map(|(name, _)| Value::Name(name)).filter(|v| v != value).collect(),
                    Kind::Bug => kit.bugs().iter().map(|bug| Value::Name(bug.name)).collect(),
                    other => panic!("{}: {other:?}", option.name),
                };
                assert!(!others.is_empty(), "{}", option.name);
                let mut seen = vec![config.clone()];
                for other in others {
                    let mut changed = usual.clone();
                    changed.set(option.name, other).unwrap();
                    let config = kit.config(&changed, Seed(1));
                    // Clients' patience is nothing that the machines know.
                    assert!(option.name == "attempt_timeout" || !seen.contains(&config), "{}", option.name);
                    seen.push(config);
                }
            }
        }
    }

    #[test]
    fn facts_follow_from_options() {
        for kit in ALL {
            let facts = kit.facts(&Opts::usual(kit.options())).unwrap();
            assert_eq!(facts.nodes(), kit.config(&Opts::usual(kit.options()), Seed(1)).nodes());
            assert_eq!(facts.leads, facts.serves("cas"), "{}", kit.name());
            assert!(!facts.promises.is_empty() && !facts.roles.is_empty());
        }
        let lease = Opts::with(Paxos.options(), &[("reads", "lease".into())]);
        assert_eq!(Paxos.facts(&lease).unwrap().clock_drift_ppm, Some(10_000));
        let two = Opts::with(PrimaryBackup.options(), &[("nodes", 2.into())]);
        assert_eq!((two.choice("failover"), PrimaryBackup.facts(&two).unwrap().quorum), ("fenced", None));
        let vote = Opts::with(PrimaryBackup.options(), &[("nodes", 2.into()), ("failover", "vote".into())]);
        assert_eq!(PrimaryBackup.facts(&vote).unwrap_err().options, ["failover"]);
    }
}

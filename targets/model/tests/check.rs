//! Correct configurations are clean, unsafe ones are not, and both take as many states or steps
//! as they always did: a change of a protocol shows here, and must be looked at.

use duress_kv::config::Config;
use duress_kv::primary_backup::{self, Failover};
use duress_kv::{paxos, quorum};
use duress_model::{Ask, Bounds, Outcome, check};
use duress_seed::Seed;

const SEED: Seed = Seed(1);

fn paxos(nodes: u16) -> paxos::Config {
    paxos::Config::new(nodes, SEED)
}

fn primary_backup(nodes: u16, failover: Failover) -> primary_backup::Config {
    primary_backup::Config { failover, ..primary_backup::Config::new(nodes, SEED) }
}

/// Without read repair, which changes nothing for clients and makes for more states.
fn quorum(nodes: u16, reads: u16, writes: u16) -> quorum::Config {
    quorum::Config { read_repair: false, ..quorum::Config::new(nodes, reads, writes, SEED) }
}

fn reached(config: Config, bounds: Bounds) -> (bool, usize) {
    let outcome = check(config, bounds, 2);
    assert_eq!(outcome.counterexample, None, "{outcome}");
    assert!(outcome.complete && outcome.never_seen.is_empty(), "{outcome}");
    (outcome.complete, outcome.unique_states)
}

fn broken(config: Config, bounds: Bounds) -> (Outcome, usize) {
    let outcome = check(config, bounds, 1);
    let steps = outcome.counterexample.as_ref().map_or(0, |story| story.steps.len());
    (outcome, steps)
}

#[test]
fn paxos_with_three_nodes_is_clean() {
    let bounds = Bounds { timeouts: 0, crashes: 1, ..Bounds::new(2) };
    assert_eq!(reached(Config::Paxos(paxos(3)), bounds), (true, 734));
}

//! Correct configurations are clean, unsafe ones and planted bugs are not, and each takes as many
//! states or steps as it always did: a change of a protocol shows here, and must be looked at.

use duress_kv::bugs::Bug;
use duress_kv::config::Config;
use duress_kv::primary_backup::{self, Failover};
use duress_kv::{paxos, quorum};
use duress_model::{Ask, Bounds, Outcome, Search, Stopped};
use duress_seed::Seed;

const SEED: Seed = Seed(1);

fn paxos(nodes: u16) -> Config {
    Config::Paxos(paxos::Config::new(nodes, SEED))
}

fn paxos_reading(nodes: u16, reads: paxos::Reads) -> Config {
    Config::Paxos(paxos::Config { reads, ..paxos::Config::new(nodes, SEED) })
}

fn primary_backup(nodes: u16, failover: Failover) -> Config {
    Config::PrimaryBackup(primary_backup::Config { failover, ..primary_backup::Config::new(nodes, SEED) })
}

/// Without read repair, which changes nothing for clients and makes for more states.
fn quorum_of(nodes: u16, reads: u16, writes: u16) -> quorum::Config {
    quorum::Config { read_repair: false, ..quorum::Config::new(nodes, reads, writes, SEED) }
}

fn quorum(nodes: u16, reads: u16, writes: u16) -> Config {
    Config::Quorum(quorum_of(nodes, reads, writes))
}

fn with_bug(mut config: Config, bug: Bug) -> Config {
    config.set_bug(Some(bug));
    config
}

fn bounds(operations: usize, timeouts: u8, crashes: u8) -> Bounds {
    Bounds { timeouts, crashes, ..Bounds::new(operations) }
}

fn check(config: Config, bounds: Bounds, threads: usize) -> Outcome {
    duress_model::check(config, bounds, &Search::on(threads), &mut |_| {})
}

/// Explored to the end, nothing was found, and everything that should happen did.
#[track_caller]
fn clean(config: Config, bounds: Bounds, states: usize) {
    let outcome = check(config, bounds, 2);
    assert!(outcome.complete() && outcome.never_seen.is_empty() && outcome.counterexample.is_none(), "{outcome}");
    assert_eq!(outcome.unique_states, states, "{outcome}");
}

/// Clients see something that no order of operations explains, after so many steps at least.
#[track_caller]
fn broken(config: Config, bounds: Bounds, steps: usize) -> Outcome {
    let outcome = check(config, bounds, 1);
    let story = outcome.counterexample.as_ref().unwrap_or_else(|| panic!("{outcome}"));
    assert_eq!((story.broken, story.steps.len()), ("what clients are told is linearizable", steps), "{outcome}");
    assert!(!outcome.complete());
    outcome
}

#[test]
fn paxos_is_clean() {
    clean(paxos(2), bounds(2, 2, 0), 6695);
    clean(paxos(2), bounds(2, 1, 1), 4207);
    clean(paxos(2), Bounds { overlapping_syncs: true, ..bounds(2, 1, 1) }, 9872);
    clean(paxos(3), bounds(2, 0, 1), 734);
    clean(paxos(3), Bounds { in_flight: 1, ..bounds(1, 1, 0) }, 14070);
    clean(paxos(3), Bounds { warm: false, ..bounds(1, 0, 1) }, 2258);
    let two_cas = || vec![vec![Ask::Cas], vec![Ask::Cas]];
    clean(paxos(3), Bounds { clients: two_cas(), reordering: true, ..bounds(0, 0, 0) }, 2469);
    clean(paxos(2), Bounds { clients: two_cas(), reordering: true, duplicates: 2, ..bounds(0, 0, 0) }, 1149);
}

#[test]
fn paxos_with_snapshots_and_leases_is_clean() {
    let snapshots = paxos::Config { snapshot_every: 1, ..paxos::Config::new(2, SEED) };
    clean(Config::Paxos(snapshots), bounds(2, 1, 1), 4593);
    clean(paxos_reading(2, paxos::Reads::Lease), bounds(2, 2, 0), 3209);
}

#[test]
fn primary_backup_is_clean() {
    clean(primary_backup(2, Failover::None), bounds(2, 1, 1), 1985);
    clean(primary_backup(2, Failover::Fenced), bounds(2, 1, 1), 6090);
    clean(primary_backup(3, Failover::Fenced), bounds(1, 1, 0), 17877);
    clean(primary_backup(2, Failover::Vote), bounds(2, 1, 1), 3761);
    clean(primary_backup(3, Failover::Vote), bounds(1, 1, 0), 5095);
}

#[test]
fn quorums_are_clean() {
    clean(quorum(2, 1, 2), bounds(2, 1, 1), 1351);
    clean(quorum(2, 2, 1), Bounds { reordering: true, duplicates: 1, ..bounds(2, 0, 0) }, 743);
    clean(quorum(3, 2, 2), bounds(2, 0, 0), 8770);
    let repairing = quorum::Config::new(2, 2, 2, SEED);
    clean(Config::Quorum(repairing), bounds(3, 0, 0), 858);
}

/// With clients that ask again, the modes that promise it apply a request once.
#[test]
fn requests_asked_again_are_applied_once() {
    let seeing_it_twice = || Bounds {
        clients: vec![vec![Ask::Write], vec![Ask::Read, Ask::Write, Ask::Read]],
        retries: 1,
        ..bounds(0, 0, 0)
    };
    clean(paxos(2), seeing_it_twice(), 3494);
    clean(primary_backup(2, Failover::Vote), seeing_it_twice(), 6036);
    broken(with_bug(paxos(2), Bug::RetryAppliedTwice), seeing_it_twice(), 14);
}

#[test]
fn small_quorums_miss_writes() {
    broken(quorum(2, 1, 1), bounds(2, 0, 0), 2);
    broken(quorum(3, 1, 1), bounds(2, 0, 0), 2);
}

#[test]
fn without_write_back_reads_go_backwards() {
    let config = quorum::Config { write_back: false, ..quorum_of(3, 2, 2) };
    let outcome = broken(Config::Quorum(config), bounds(3, 0, 0), 9);
    let story = outcome.counterexample.unwrap();
    assert!(story.to_string().contains("n1 tells client 2: it is a"), "{story}");
}

#[test]
fn clocks_that_differ_undo_writes() {
    let clients = vec![vec![Ask::Write], vec![Ask::Write, Ask::Read]];
    let config = quorum::Config { timestamps: quorum::Timestamps::Wall, ..quorum_of(2, 2, 2) };
    let bounds = Bounds { clients, skewed_clocks: true, ..bounds(0, 0, 0) };
    broken(Config::Quorum(config), bounds, 9);
}

#[test]
fn failover_by_timeout_splits_the_brain() {
    let outcome = broken(primary_backup(2, Failover::Timeout), bounds(2, 1, 0), 3);
    let story = outcome.counterexample.unwrap().to_string();
    let expected = "\
Broken: what clients are told is linearizable.
At first n1 is primary in term 0.
1. n2 has heard from no primary → n2 is backup in term 1; n2 is primary in term 1; n2 has applied the log up to 2
2. client 1 asks n2 to write a → n2 has applied the log up to 3; n2 tells client 1: done
3. client 2 asks n1 to read → n1 tells client 2: it is unset
No order of the operations explains what clients saw: client 1 asks n2 to write a; n2 tells client 1: done; \
                    client 2 asks n1 to read; n1 tells client 2: it is unset.";
    assert_eq!(story, expected);
}

#[test]
fn local_reads_are_stale() {
    broken(paxos_reading(3, paxos::Reads::Local), bounds(2, 0, 0), 4);
    let any = primary_backup::Config { reads: primary_backup::Reads::Any, ..primary_backup::Config::new(2, SEED) };
    broken(Config::PrimaryBackup(any), bounds(2, 0, 0), 4);
}

#[test]
fn planted_bugs_are_found() {
    broken(with_bug(paxos(2), Bug::OffByOneMajority), bounds(2, 1, 0), 5);
    let narrow = |operations, timeouts, crashes| Bounds { in_flight: 1, ..bounds(operations, timeouts, crashes) };
    broken(with_bug(paxos(3), Bug::AcceptWithoutCheckingPromise), narrow(2, 1, 0), 11);
    let one_client = Bounds { clients: vec![vec![Ask::Write, Ask::Read]], terms: 2, ..narrow(0, 1, 1) };
    broken(with_bug(paxos(3), Bug::AckBeforeDurable), one_client, 13);
    broken(with_bug(quorum(3, 2, 2), Bug::QuorumsDoNotOverlap), bounds(2, 0, 0), 6);
    let fenced = with_bug(primary_backup(2, Failover::Fenced), Bug::BackupDroppedWithoutFencing);
    broken(fenced, bounds(2, 2, 0), 5);
}

/// Bounds that cut the exploration short are told, never taken for a proof.
#[test]
fn giving_up_is_not_completing() {
    let outcome = check(paxos(3), Bounds { max_steps: 2_000, ..bounds(2, 1, 1) }, 1);
    assert!(!outcome.complete() && outcome.counterexample.is_none(), "{outcome}");
    assert!(outcome.to_string().contains("not exhaustive up to"), "{outcome}");
}

/// So are bounds of the search itself; and whoever watches sees it grow.
#[test]
fn a_search_that_is_cut_short_says_by_what() {
    let wide = || bounds(3, 2, 1);
    let mut seen = Vec::new();
    let few = Search { max_states: 1_000, ..Search::on(2) };
    let outcome = duress_model::check(paxos(3), wide(), &few, &mut |progress| seen.push(progress.unique_states));
    assert_eq!((outcome.stopped, outcome.unique_states >= 1_000), (Some(Stopped::States), true), "{outcome}");
    assert!(seen.is_sorted() && seen.last() <= Some(&outcome.unique_states), "{seen:?}");
    let short = Search { time: std::time::Duration::ZERO, ..Search::on(1) };
    let outcome = duress_model::check(paxos(3), wide(), &short, &mut |_| {});
    assert_eq!(outcome.stopped, Some(Stopped::Time), "{outcome}");
}

/// Without time-outs nobody takes over from nobody: such a proof says that it is empty.
#[test]
fn what_never_happens_is_told() {
    let outcome = check(paxos(2), Bounds { terms: 0, warm: false, ..bounds(1, 0, 0) }, 1);
    assert_eq!(outcome.never_seen.len(), 2, "{outcome}");
}

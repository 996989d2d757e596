//! Whole runs of the bundled service: what must hold holds, and what must break breaks.

mod support;

use std::time::Duration;

use duress_checkers::{Results, Verdict};
use duress_fault::{Fault, Grudge, HostHarm, Selector};
use duress_kv::primary_backup::{self, Failover};
use duress_kv::{paxos, quorum};
use duress_seed::Seed;
use duress_sim::{Crash, Network, SimPlan, SimRun, Timed, Transport};
use duress_workloads::{Chosen, lock, set};
use support::*;

fn plan(seed: u64, nodes: usize, seconds: u64) -> SimPlan {
    SimPlan::new(nodes, 5, Duration::from_secs(seconds), Seed(seed))
}

/// A network that loses, repeats and reorders.
fn rough() -> Network {
    let spike = Duration::from_millis(80);
    let mut network = Network { transport: Transport::Datagram, loss: 0.02, duplicate: 0.05, ..Network::default() };
    network.reorder = 0.05;
    network.spread = 3.0;
    network.latency.spikes = 0.005;
    network.latency.spike = spike;
    network
}

/// Every run must come to its end and none may be invalid; nearly all must be valid.
fn must_hold(seeds: u64, mut run: impl FnMut(u64) -> (SimRun, Results)) {
    let mut valid = 0;
    let mut last_doubt = String::new();
    for seed in 0..seeds {
        let (run, results) = run(seed);
        assert!(complete(&run), "{}", explain(seed, &run, &results));
        assert_ne!(results.verdict, Verdict::Invalid, "{}", explain(seed, &run, &results));
        if results.verdict == Verdict::Valid {
            valid += 1;
        } else {
            last_doubt = explain(seed, &run, &results);
        }
    }
    assert!(valid * 10 >= seeds * 9, "{valid} of {seeds} valid; the last doubt: {last_doubt}");
}

/// Some run must be invalid by the named checker. Returns the first seed.
fn must_break(seeds: u64, checker: &str, mut run: impl FnMut(u64) -> (SimRun, Results)) -> u64 {
    for seed in 0..seeds {
        let (_, results) = run(seed);
        let invalid = |report: &duress_checkers::Report| report.verdict == Verdict::Invalid;
        if results.reports.iter().any(|report| report.checker == checker && invalid(report)) {
            return seed;
        }
    }
    panic!("{checker} found nothing in {seeds} seeds");
}

fn run_registers<M: Bundled>(
    world: &mut Cluster<M>,
    plan: &SimPlan,
    config: &M::Config,
    leads: bool,
) -> (SimRun, Results) {
    let run = world.run(plan, config, &mut *registers(plan, 150));
    let results = judge(&run, &register_options(), leads);
    (run, results)
}

#[test]
fn paxos_stands_every_fault() {
    let mut world = paxos_world();
    must_hold(150, |seed| {
        let mut plan = plan(seed, 5, 3);
        plan.schedule = all_faults(&plan, true);
        plan.disk.crash = Crash::Either;
        if seed % 2 == 1 {
            plan.network = rough();
        }
        run_registers(&mut world, &plan, &paxos_config(seed, 5), true)
    });
}

#[test]
fn paxos_reads_by_lease_stand_every_fault_but_drift() {
    let mut world = paxos_world();
    must_hold(60, |seed| {
        let mut plan = plan(seed, 3, 3);
        plan.schedule = all_faults(&plan, true);
        let config = paxos::Config { reads: paxos::Reads::Lease, ..paxos_config(seed, 3) };
        run_registers(&mut world, &plan, &config, true)
    });
}

#[test]
fn paxos_reads_from_any_node_are_stale() {
    let mut world = Cluster::<paxos::Paxos>::new(Kv { sticky: false, ..Kv::logged() });
    must_break(50, "linearizable", |seed| {
        let mut plan = plan(seed, 3, 3);
        plan.schedule = common_faults(&plan, Duration::from_millis(600), true);
        let config = paxos::Config { reads: paxos::Reads::Local, ..paxos_config(seed, 3) };
        run_registers(&mut world, &plan, &config, true)
    });
}

fn quorum_config(seed: u64, read: u16, write: u16) -> quorum::Config {
    quorum::Config::new(3, read, write, Seed(seed).derive("target"))
}

#[test]
fn quorums_that_overlap_hold_and_others_are_stale() {
    let mut world = quorum_world();
    must_hold(100, |seed| {
        let mut plan = plan(seed, 3, 3);
        plan.schedule = all_faults(&plan, false);
        run_registers(&mut world, &plan, &quorum_config(seed, 2, 2), false)
    });
    must_break(20, "linearizable", |seed| {
        let mut plan = plan(seed, 3, 3);
        plan.schedule = common_faults(&plan, Duration::from_millis(600), false);
        run_registers(&mut world, &plan, &quorum_config(seed, 1, 1), false)
    });
}

/// Air traffic control: the link between the two nodes and one client's link to the primary fail,
/// the others stay.
fn air_traffic_control(seed: u64, failover: Failover, nodes: usize) -> (SimRun, Results) {
    let mut world = primary_backup_world();
    let mut plan = plan(seed, nodes, 5);
    let cut = |a: usize, b: &str| (plan.nodes[a].clone(), b.into());
    let mut links: Vec<_> = vec![cut(0, "n2"), cut(0, "c1")];
    if nodes > 2 && seed.is_multiple_of(2) {
        links.push(cut(0, "n3"));
    }
    let fault = Fault::from(Grudge::Links { links, one_way: false });
    let (at, lasts) = (Duration::from_secs(1), Duration::from_secs(3));
    plan.schedule = vec![Timed { number: 1, at, lasts, fault, when: None }];
    let seed = Seed(seed).derive("target");
    let config = primary_backup::Config { failover, ..primary_backup::Config::new(nodes as u16, seed) };
    run_registers(&mut world, &plan, &config, true)
}

#[test]
fn a_backup_that_promotes_itself_splits_the_brain() {
    must_break(5, "split-brain", |seed| air_traffic_control(seed, Failover::Timeout, 2));
}

#[test]
fn fencing_and_voting_keep_the_brain_whole() {
    must_hold(100, |seed| air_traffic_control(seed, Failover::Fenced, 2));
    must_hold(100, |seed| air_traffic_control(seed, Failover::Vote, 3));
}

#[test]
fn votes_and_fences_stand_every_fault() {
    let mut world = primary_backup_world();
    for (failover, nodes) in [(Failover::Vote, 3), (Failover::Fenced, 2)] {
        must_hold(60, |seed| {
            let mut plan = plan(seed, nodes, 3);
            plan.schedule = all_faults(&plan, true);
            let target = Seed(seed).derive("target");
            let config = primary_backup::Config { failover, ..primary_backup::Config::new(nodes as u16, target) };
            run_registers(&mut world, &plan, &config, true)
        });
    }
}

#[test]
fn what_was_acknowledged_survives_a_power_loss_of_all_nodes() {
    let mut world = paxos_world();
    let options = Chosen::new(&set::Plug, &[("rate", 200.0.into())]);
    must_hold(60, |seed| {
        let mut plan = plan(seed, 3, 3);
        let power = |number: u64, at: u64| Timed {
            number,
            at: Duration::from_millis(at),
            lasts: Duration::from_millis(100),
            fault: Fault::Hosts { who: Selector::All, harm: HostHarm::PowerLoss { torn: true } },
            when: None,
        };
        plan.schedule = vec![power(1, 700), power(2, 1900)];
        let run = world.run(&plan, &paxos_config(seed, 3), &mut *workload(&plan, &options));
        let results = judge(&run, &options, true);
        (run, results)
    });
}

#[test]
fn a_power_loss_tears_records_and_a_start_finds_out() {
    let mut world = paxos_world();
    let mut found = std::collections::BTreeMap::new();
    for seed in 0..60 {
        let mut plan = plan(seed, 3, 2);
        plan.disk.sync.high = Duration::from_millis(20);
        plan.schedule = (0..6)
            .map(|n| Timed {
                number: n,
                at: Duration::from_millis(300 * n + 100),
                lasts: Duration::from_millis(50),
                fault: Fault::Hosts { who: Selector::One, harm: HostHarm::PowerLoss { torn: true } },
                when: None,
            })
            .collect();
        let run = world.run(&plan, &paxos_config(seed, 3), &mut *registers(&plan, 400));
        for (situation, count) in run.coverage.counts() {
            if situation.what == "restart" {
                *found.entry(situation.when).or_insert(0) += count;
            }
        }
    }
    let torn = found.get("with a torn last record").copied().unwrap_or_default();
    let lost = found.get("with unsynced records lost").copied().unwrap_or_default();
    assert!(torn > 10 && lost > 10, "{found:?}");
    assert_eq!(found.get("with a damaged log"), None, "a torn batch is no damage: {found:?}");
}

/// A holder stands still past its lease, in the middle of its work.
fn paused_holder(seed: u64, fencing: bool) -> (SimRun, Results) {
    let mut world = quorum_world();
    let mut plan = plan(seed, 3, 8);
    plan.fencing = fencing;
    plan.schedule = vec![Timed {
        number: 1,
        at: Duration::from_secs(2),
        lasts: Duration::from_secs(3),
        fault: Fault::pause(Selector::Holder),
        when: None,
    }];
    let work = Duration::from_millis(200);
    let options = Chosen::new(&lock::Plug, &[("fencing", fencing.into()), ("work", work.into())]);
    let run = world.run(&plan, &quorum_config(seed, 2, 2), &mut *workload(&plan, &options));
    let results = judge(&run, &options, false);
    (run, results)
}

#[test]
fn a_paused_holder_breaks_a_lock_without_fencing() {
    let checker = "mutual-exclusion";
    must_break(5, checker, |seed| paused_holder(seed, false));
    must_hold(20, |seed| paused_holder(seed, true));
}

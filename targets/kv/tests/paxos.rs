//! Multi-Paxos under delays, loss, repetition, reordering, partitions, pauses, crashes and
//! restarts: property tests over seeds.

mod cluster;

use std::collections::BTreeMap;
use std::time::Duration;

use cluster::{
    Call, Clock, Cluster, Settings, Storm, check_registers, mixed_workload, patient, reading_workload, stale_read,
};
use duress_kv::api::{Op, Reply};
use duress_kv::paxos::{Ballot, Config, Message, Paxos, Reads, Record};
use duress_machine::{NodeId, Role};
use duress_seed::Seed;

const SEEDS: u64 = 300;
const STORM_ENDS: Duration = Duration::from_secs(6);
/// Within this time of a heal everybody agrees again and serves.
const RECOVERY: Duration = Duration::from_secs(3);

fn config(nodes: u16, seed: u64, reads: Reads) -> Config {
    Config { reads, snapshot_every: 50, ..Config::new(nodes, Seed(seed)) }
}

fn write(key: &str, value: &str) -> Op {
    Op::Write { key: key.into(), value: value.into() }
}

fn read(key: &str) -> Op {
    Op::Read { key: key.into() }
}

fn value(call: &Call) -> Option<String> {
    match call.ok() {
        Some(Reply::Value(value)) => value.as_ref().map(ToString::to_string),
        other => panic!("{call:?} gave {other:?}"),
    }
}

fn everything() -> Storm {
    Storm { partitions: true, crashes: true, pauses: true, every: Duration::from_millis(150), until: STORM_ENDS }
}

/// What a seed's world is like; which of four kinds follows from the seed.
fn world(seed: u64, nodes: u16, reads: Reads) -> Cluster<Paxos> {
    let milliseconds = Duration::from_millis;
    let (config, settings) = match seed % 4 {
        0 => (config(nodes, seed, reads), Settings::calm(seed, nodes)),
        1 => (config(nodes, seed, reads), Settings::rough(seed, nodes)),
        // A slow disk, so that crashes lose something.
        2 => {
            let sync = (milliseconds(1), milliseconds(80));
            (config(nodes, seed, reads), Settings { sync, ..Settings::calm(seed, nodes) })
        }
        // Impatient nodes on a bad network, so that leaders and candidates come thick and fast.
        _ => {
            // The lease outlasts the election timeout, so that only the grants make it safe.
            let (heartbeat, election_timeout, lease) = (milliseconds(10), milliseconds(40), milliseconds(150));
            let impatient = Config { heartbeat, election_timeout, lease, ..config(nodes, seed, reads) };
            (impatient, Settings::rough(seed, nodes))
        }
    };
    let drift = f64::from(config.max_clock_drift_ppm) / 2e6;
    let mut cluster = Cluster::new(config, settings);
    for node in cluster.node_ids() {
        let decide = |what: u64| Seed(seed).decide(&[u64::from(node.0), what]);
        // Lease reads rely on the rates of clocks; log reads on nothing.
        let rate = match reads {
            Reads::Lease => 1.0 - drift + 2.0 * drift * decide(1).unit(),
            _ if seed.is_multiple_of(3) => 0.3 + 2.0 * decide(1).unit(),
            _ => 1.0,
        };
        let default = Clock::default();
        let wall = default.wall - decide(2).between(Duration::ZERO, Duration::from_secs(100));
        cluster.set_clock(node, Clock { wall, rate, ..default });
        cluster.start(node);
    }
    cluster
}

/// What a message promises must be on its sender's disk when it is sent.
fn said_before_durable(cluster: &Cluster<Paxos>, from: NodeId, message: &Message) -> Option<String> {
    let mut promised = Ballot::default();
    let mut accepted = BTreeMap::new();
    for record in cluster.disk(from) {
        match record {
            Record::Promise { ballot } => promised = promised.max(*ballot),
            Record::Accept { ballot, first, commands, .. } => {
                promised = promised.max(*ballot);
                accepted.extend((*first..).zip(commands.iter()).map(|(slot, _)| (slot, *ballot)));
            }
            Record::Snapshot { .. } => {}
        }
    }
    match message {
        Message::Prepare { ballot, .. } | Message::Promise { ballot, .. } => {
            (promised < *ballot).then(|| format!("{ballot:?} is promised and not on disk"))
        }
        Message::Accepted { ballot, through, .. } => {
            let commit = cluster.status(from)?.commit_index;
            let lost = (commit + 1..=*through).find(|slot| accepted.get(slot) != Some(ballot));
            let kept = promised >= *ballot;
            (lost.is_some() || !kept).then(|| format!("{ballot:?} through {through}: {lost:?} is not on disk"))
        }
        _ => None,
    }
}

/// A run of a seed through a storm and the heal after it, with all that must hold of it.
fn survive(seed: u64, nodes: u16, reads: Reads) -> Cluster<Paxos> {
    let mut cluster = world(seed, nodes, reads);
    cluster.storm(everything());
    cluster.watch = Some(said_before_durable);
    for client in 0..6 {
        let think = Duration::from_millis(15);
        // A client that only reads stays with a leader that can't write any more.
        let workload = match client {
            0..4 => mixed_workload(seed, client, 3, 300),
            _ => reading_workload(seed, client, 3, 300),
        };
        cluster.add_client(NodeId(client as u16 % nodes), patient(), think, workload);
    }
    cluster.run_until(STORM_ENDS);
    cluster.stop_clients();
    cluster.heal();
    cluster.settings = Settings::calm(seed, nodes);
    let healed = cluster.now;
    let agree = |cluster: &Cluster<Paxos>| {
        let statuses: Vec<_> = cluster.node_ids().into_iter().filter_map(|node| cluster.status(node)).collect();
        statuses.iter().filter(|status| status.role == Role::Leader).count() == 1
            && statuses.iter().all(|status| status.term == statuses[0].term && status.digest == statuses[0].digest)
    };
    assert!(cluster.run_until_some(healed + RECOVERY, agree), "seed {seed}: no agreement after the heal");
    for node in cluster.node_ids() {
        let written = cluster.call_and_wait(node, patient(), write("after", "the storm"));
        assert!(written.ok().is_some(), "seed {seed}: {written:?}");
    }
    assert!(cluster.violations.is_empty(), "seed {seed}: {:?}", cluster.violations);
    cluster
}

#[test]
fn storms_leave_log_reads_linearizable() {
    let mut answered = 0;
    for seed in 0..SEEDS {
        let cluster = survive(seed, [3, 5][seed as usize % 2], Reads::Log);
        check_registers(&cluster.history).unwrap_or_else(|problem| panic!("seed {seed}: {problem}"));
        answered += cluster.history.iter().filter(|call| call.ok().is_some()).count();
    }
    assert!(answered as u64 > SEEDS * 50, "only {answered} calls were answered in {SEEDS} storms");
}

#[test]
fn storms_leave_lease_reads_linearizable() {
    for seed in 1000..1000 + SEEDS {
        let cluster = survive(seed, [3, 5][seed as usize % 2], Reads::Lease);
        check_registers(&cluster.history).unwrap_or_else(|problem| panic!("seed {seed}: {problem}"));
    }
}

#[test]
fn local_reads_go_stale() {
    let stale = (0..20).find_map(|seed| stale_read(&survive(seed, 3, Reads::Local).history));
    assert!(stale.is_some(), "twenty storms and no stale read");
}

#[test]
fn a_fresh_cluster_serves_within_a_tenth_of_a_second() {
    let mut cluster: Cluster<Paxos> = Cluster::started(Config::new(5, Seed(1)), Settings::calm(1, 5));
    let call = cluster.call_and_wait(NodeId(0), patient(), write("k", "v"));
    let (at, _) = call.completed.as_ref().expect("the call has ended");
    assert!(call.ok().is_some() && *at < Duration::from_millis(100), "{call:?}");
}

#[test]
fn one_node_is_a_cluster() {
    let mut cluster: Cluster<Paxos> = Cluster::started(config(1, 1, Reads::Log), Settings::calm(1, 1));
    assert!(cluster.call_and_wait(NodeId(0), patient(), write("k", "v")).ok().is_some());
    assert_eq!(value(&cluster.call_and_wait(NodeId(0), patient(), read("k"))).as_deref(), Some("v"));
    cluster.crash(NodeId(0));
    cluster.start(NodeId(0));
    assert_eq!(value(&cluster.call_and_wait(NodeId(0), patient(), read("k"))).as_deref(), Some("v"));
}

#[test]
fn a_returning_node_does_not_disturb_the_leader() {
    let mut cluster: Cluster<Paxos> = Cluster::started(Config::new(5, Seed(3)), Settings::calm(3, 5));
    cluster.add_client(NodeId(0), patient(), Duration::from_millis(5), mixed_workload(3, 0, 2, 100_000));
    cluster.run_until(Duration::from_secs(1));
    let before = cluster.status(NodeId(0)).expect("n1 is up");
    assert_eq!(before.role, Role::Leader);
    cluster.partition(&[NodeId(3)]);
    cluster.pause(NodeId(4));
    cluster.run_for(Duration::from_secs(10));
    cluster.heal();
    let caught_up = |cluster: &Cluster<Paxos>| {
        let commits: Vec<u64> =
            cluster.node_ids().into_iter().filter_map(|node| Some(cluster.status(node)?.commit_index)).collect();
        commits.iter().min() >= Some(&(commits[0].saturating_sub(20)))
    };
    assert!(cluster.run_until_some(cluster.now + Duration::from_millis(500), caught_up), "not caught up");
    cluster.run_for(Duration::from_secs(2));
    let after = cluster.status(NodeId(0)).expect("n1 is up");
    assert_eq!((after.role, after.term), (before.role, before.term));
}

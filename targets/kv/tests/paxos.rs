//! Multi-Paxos under delays, loss, repetition, reordering, partitions, pauses, crashes and
//! restarts: property tests over seeds.

mod cluster;

use std::time::Duration;

use cluster::{Call, Cluster, Settings, Storm, check_registers, mixed_workload, patient, stale_read};
use duress_kv::api::{Op, Reply};
use duress_kv::paxos::{Config, Paxos, Reads};
use duress_machine::{NodeId, Role};
use duress_seed::Seed;

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
    Storm { partitions: true, crashes: true, pauses: true, every: Duration::from_millis(250), until: STORM_ENDS }
}

/// A run of a seed through a storm and the heal after it, with all that must hold of it.
fn survive(seed: u64, nodes: u16, reads: Reads, rough: bool) -> Cluster<Paxos> {
    let settings = if rough { Settings::rough(seed, nodes) } else { Settings::calm(seed, nodes) };
    let mut cluster: Cluster<Paxos> = Cluster::started(config(nodes, seed, reads), settings);
    cluster.storm(everything());
    for client in 0..4 {
        let think = Duration::from_millis(15);
        let workload = mixed_workload(seed, client, 3, 300);
        cluster.add_client(NodeId(client as u16 % nodes), patient(), think, workload);
    }
    cluster.run_until(STORM_ENDS);
    cluster.stop_clients();
    cluster.heal();
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
    for seed in 0..120 {
        let cluster = survive(seed, [3, 5][seed as usize % 2], Reads::Log, seed % 3 == 0);
        check_registers(&cluster.history).unwrap_or_else(|problem| panic!("seed {seed}: {problem}"));
        answered += cluster.history.iter().filter(|call| call.ok().is_some()).count();
    }
    assert!(answered > 120 * 100, "only {answered} calls were answered");
}

#[test]
fn storms_leave_lease_reads_linearizable() {
    for seed in 1000..1120 {
        let cluster = survive(seed, [3, 5][seed as usize % 2], Reads::Lease, seed % 3 == 0);
        check_registers(&cluster.history).unwrap_or_else(|problem| panic!("seed {seed}: {problem}"));
    }
}

#[test]
fn local_reads_go_stale() {
    let stale = (0..20).find_map(|seed| stale_read(&survive(seed, 3, Reads::Local, false).history));
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

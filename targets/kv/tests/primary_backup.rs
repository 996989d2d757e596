//! The primary-backup mode under faults: what each way of taking over promises, and that the
//! naive ones break it.

mod cluster;

use std::time::Duration;

use cluster::{Cluster, Settings, Storm, Workload, check_registers, mixed_workload, patient, stale_read};
use duress_kv::api::{Op, Refusal, Reply, Response};
use duress_kv::primary_backup::{Config, Failover, PrimaryBackup, Reads, Replication};
use duress_machine::client::{Outcome, Policy};
use duress_machine::{NodeId, Role};
use duress_seed::Seed;

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn config(nodes: u16, failover: Failover, seed: u64) -> Config {
    Config { failover, ..Config::new(nodes, Seed(seed)) }
}

/// Stays with its node.
fn stubborn() -> Policy {
    Policy { roam: false, max_attempts: 1, ..patient() }
}

fn write(key: &str, value: &str) -> Op {
    Op::Write { key: key.into(), value: value.into() }
}

fn read(key: &str) -> Op {
    Op::Read { key: key.into() }
}

/// Heals again and again, as an operator would, until the cluster takes a write.
fn recover(cluster: &mut Cluster<PrimaryBackup>, what: &str) {
    let healed = cluster.now;
    for attempt in 0.. {
        cluster.heal();
        cluster.run_for(millis(500));
        let node = NodeId(attempt % cluster.settings.nodes);
        if cluster.call_and_wait(node, patient(), write("recovered", &format!("{attempt}"))).ok().is_some() {
            return;
        }
        let statuses: Vec<_> = cluster.node_ids().iter().map(|node| cluster.status(*node)).collect();
        assert!(cluster.now < healed + millis(15_000), "{what}: not available after the heal: {statuses:#?}");
    }
}

/// Four clients under a storm; then everything is healed, must become available, and every key is
/// read.
fn stormy_run(config: Config, settings: Settings, pauses: bool) -> Cluster<PrimaryBackup> {
    let what = format!("seed {}, {config:?}", settings.seed);
    let (seed, nodes) = (settings.seed, settings.nodes);
    let mut cluster = Cluster::<PrimaryBackup>::started(config, settings);
    for client in 0..4 {
        let node = NodeId((client % u64::from(nodes)) as u16);
        cluster.add_client(node, patient(), millis(10), mixed_workload(seed, client, 3, 60));
    }
    cluster.storm(Storm { partitions: true, crashes: true, pauses, every: millis(400), until: millis(6000) });
    cluster.run_until(millis(6000));
    recover(&mut cluster, &what);
    let limit = cluster.now + millis(60_000);
    assert!(cluster.run_until_some(limit, |c| c.clients_done()), "{what}: clients hang");
    for key in ["k0", "k1", "k2"] {
        let call = cluster.call_and_wait(NodeId(0), patient(), read(key));
        assert!(call.ok().is_some(), "{what}: {call:?}");
    }
    cluster
}

/// How many operations succeeded.
fn judge(cluster: &Cluster<PrimaryBackup>, what: &str) -> usize {
    assert!(cluster.violations.is_empty(), "{what}: {:?}", cluster.violations);
    if let Err(why) = check_registers(&cluster.history) {
        panic!("{what}: {why}");
    }
    cluster.history.iter().filter(|call| call.ok().is_some()).count()
}

fn safe_under_storm(failover: Failover, seeds: std::ops::Range<u64>) {
    let count = seeds.end - seeds.start;
    let mut ok = 0;
    for seed in seeds {
        let nodes = [3, 2, 5][seed as usize % 3];
        let snapshot_every = if seed % 2 == 0 { 64 } else { 10_000 };
        let config = Config { snapshot_every, ..config(nodes, failover, seed) };
        let settings = if seed % 4 == 3 { Settings::rough(seed, nodes) } else { Settings::calm(seed, nodes) };
        let cluster = stormy_run(config, settings, seed % 5 == 0);
        ok += judge(&cluster, &format!("{failover:?}, seed {seed}"));
    }
    assert!(ok as u64 > count * 50, "only {ok} operations succeeded: the test shows little");
}

#[test]
fn vote_is_linearizable_and_never_diverges() {
    safe_under_storm(Failover::Vote, 0..150);
}

#[test]
fn fenced_is_linearizable_and_never_diverges() {
    safe_under_storm(Failover::Fenced, 0..150);
}

#[test]
fn without_failover_nothing_diverges() {
    safe_under_storm(Failover::None, 0..60);
}

#[test]
fn timeout_diverges_in_a_storm_and_recovers() {
    let found = (0..40)
        .filter(|seed| {
            let cluster = stormy_run(config(3, Failover::Timeout, *seed), Settings::calm(*seed, 3), false);
            !cluster.violations.is_empty() || check_registers(&cluster.history).is_err()
        })
        .count();
    assert!(found >= 10, "only {found} of 40 runs diverged");
}

/// The primary is alone when it takes a write, and then it is gone.
fn a_write_at_a_lonely_primary(replication: Replication) -> (bool, Option<Reply>) {
    let config = Config { replication, ..config(3, Failover::Vote, 5) };
    let mut cluster = Cluster::<PrimaryBackup>::started(config, Settings::calm(5, 3));
    cluster.run_for(millis(300));
    assert!(cluster.call_and_wait(NodeId(0), stubborn(), write("k", "old")).ok().is_some());
    cluster.partition(&[NodeId(0)]);
    let acknowledged = cluster.call_and_wait(NodeId(0), stubborn(), write("k", "new")).ok().is_some();
    cluster.run_for(millis(3000));
    recover(&mut cluster, &format!("{replication:?}"));
    let value = cluster.call_and_wait(NodeId(1), patient(), read("k")).ok().cloned();
    (acknowledged, value)
}

#[test]
fn async_loses_acknowledged_writes_and_sync_does_not_acknowledge_them() {
    let old = Some(Reply::Value(Some("old".into())));
    assert_eq!(a_write_at_a_lonely_primary(Replication::Async), (true, old.clone()));
    assert_eq!(a_write_at_a_lonely_primary(Replication::Sync), (false, old));
}

/// A primary whose clock has all but stopped goes on thinking that it was heard just now.
#[test]
fn vote_reads_rely_on_no_clock() {
    let mut cluster = Cluster::<PrimaryBackup>::started(config(3, Failover::Vote, 6), Settings::calm(6, 3));
    cluster.run_for(millis(300));
    assert!(cluster.call_and_wait(NodeId(0), stubborn(), write("k", "old")).ok().is_some());
    cluster.set_rate(NodeId(0), 0.01);
    cluster.partition(&[NodeId(0)]);
    cluster.run_for(millis(2000));
    assert!(cluster.call_and_wait(NodeId(1), patient(), write("k", "new")).ok().is_some());
    assert_eq!(cluster.status(NodeId(0)).map(|status| status.role), Some(Role::Primary));
    let call = cluster.call_and_wait(NodeId(0), stubborn(), read("k"));
    assert!(call.ok().is_none(), "{call:?}");
}

#[test]
fn reads_from_any_node_are_stale() {
    let stale = (0..20)
        .filter(|seed| {
            let config = Config { reads: Reads::Any, ..config(3, Failover::Vote, *seed) };
            stale_read(&stormy_run(config, Settings::calm(*seed, 3), false).history).is_some()
        })
        .count();
    assert!(stale >= 3, "only {stale} of 20 runs had a stale read");
}

/// The air-traffic-control story: the link between the primary (n1) and its backup (n2) is cut,
/// and so is one client's way to the primary. Each side is asked to write to the same flight.
struct Story {
    /// What the client that still reaches n1 got.
    at_old: Outcome<Response>,
    /// What the client that only reaches n2 got.
    at_new: Outcome<Response>,
    cluster: Cluster<PrimaryBackup>,
}

fn story(nodes: u16, failover: Failover) -> Story {
    let mut cluster = Cluster::<PrimaryBackup>::started(config(nodes, failover, 7), Settings::calm(7, nodes));
    cluster.run_for(millis(300));
    assert!(cluster.call_and_wait(NodeId(0), stubborn(), write("flight", "filed")).ok().is_some());
    cluster.partition(&[NodeId(0)]);
    cluster.run_for(millis(3000));
    // The answer's time is generous: the question is who may answer at all.
    let patience = Policy { attempt_timeout: millis(1900), ..stubborn() };
    let ends = |cluster: &mut Cluster<PrimaryBackup>, node, value| {
        let call = cluster.call_and_wait(NodeId(node), patience, write("flight", value));
        call.completed.expect("the call was waited for").1
    };
    let at_old = ends(&mut cluster, 0, "level 310");
    let at_new = ends(&mut cluster, 1, "level 330");
    recover(&mut cluster, &format!("{failover:?}"));
    cluster.run_for(millis(500));
    Story { at_old, at_new, cluster }
}

fn is_ok(outcome: &Outcome<Response>) -> bool {
    matches!(outcome, Outcome::Ok { .. })
}

#[test]
fn timeout_has_two_primaries_and_forgets_what_one_of_them_said() {
    let mut story = story(2, Failover::Timeout);
    assert!(is_ok(&story.at_old) && is_ok(&story.at_new), "both sides serve");
    assert!(!story.cluster.violations.is_empty());
    let flight = story.cluster.call_and_wait(NodeId(0), patient(), read("flight"));
    assert_eq!(flight.ok(), Some(&Reply::Value(Some("level 330".into()))));
    let digests: Vec<_> = story.cluster.node_ids().iter().map(|n| story.cluster.status(*n).map(|s| s.digest)).collect();
    assert_eq!(digests[0], digests[1], "once healed, both have the same state");
}

#[test]
fn fenced_has_one_primary() {
    let mut story = story(2, Failover::Fenced);
    assert!(is_ok(&story.at_old) != is_ok(&story.at_new), "{:?} {:?}", story.at_old, story.at_new);
    assert!(story.cluster.violations.is_empty());
    let survives = if is_ok(&story.at_old) { "level 310" } else { "level 330" };
    let flight = story.cluster.call_and_wait(NodeId(0), patient(), read("flight"));
    assert_eq!(flight.ok(), Some(&Reply::Value(Some(survives.into()))));
}

#[test]
fn vote_has_one_primary_and_the_cut_off_one_stops() {
    let mut story = story(3, Failover::Vote);
    assert!(!is_ok(&story.at_old));
    assert!(story.cluster.violations.is_empty());
    // n2 or n3 leads, and n2 says which: a client that follows redirects gets through.
    assert!(
        is_ok(&story.at_new)
            || matches!(&story.at_new, Outcome::Failed { answer: Some(a) } if matches!(a.result, Err(Refusal::NotLeader { leader: Some(_) }))),
        "{:?}",
        story.at_new
    );
    let call = story.cluster.call_and_wait(NodeId(0), patient(), read("flight"));
    assert!(call.ok().is_some());
}

#[test]
fn every_way_survives_a_crash_of_all_nodes() {
    for failover in [Failover::None, Failover::Timeout, Failover::Fenced, Failover::Vote] {
        for seed in 0..20 {
            let what = format!("{failover:?}, seed {seed}");
            let config = Config { snapshot_every: 64, ..config(3, failover, seed) };
            let mut cluster = Cluster::<PrimaryBackup>::started(config, Settings::calm(seed, 3));
            cluster.run_for(millis(200));
            for round in 0..3 {
                for n in 0..80 {
                    let call = cluster.call_and_wait(NodeId(0), patient(), write("k", &format!("{round}.{n}")));
                    assert!(call.ok().is_some(), "{what}: {call:?}");
                }
                cluster.node_ids().into_iter().for_each(|node| cluster.crash(node));
                recover(&mut cluster, &what);
                let call = cluster.call_and_wait(NodeId(1), patient(), read("k"));
                assert_eq!(call.ok(), Some(&Reply::Value(Some(format!("{round}.79").into()))), "{what}");
            }
            judge(&cluster, &what);
        }
    }
}

#[test]
fn a_crashed_primary_is_replaced_and_rejoins_as_a_backup() {
    for failover in [Failover::Timeout, Failover::Fenced, Failover::Vote] {
        let mut cluster = Cluster::<PrimaryBackup>::started(config(3, failover, 3), Settings::calm(3, 3));
        cluster.run_for(millis(300));
        assert!(cluster.call_and_wait(NodeId(0), patient(), write("k", "before")).ok().is_some());
        cluster.crash(NodeId(0));
        let limit = cluster.now + millis(3000);
        assert!(cluster.run_until_some(limit, |c| c.leader().is_some()), "{failover:?}: nobody took over");
        assert!(cluster.call_and_wait(NodeId(1), patient(), write("k", "after")).ok().is_some());
        let view = cluster.leader().and_then(|node| cluster.status(node)).map(|status| status.term);
        cluster.start(NodeId(0));
        cluster.run_for(millis(1000));
        let statuses: Vec<_> = cluster.node_ids().iter().filter_map(|node| cluster.status(*node)).collect();
        assert_eq!(statuses[0].role, Role::Backup, "{failover:?}: {statuses:#?}");
        assert!(statuses.iter().all(|s| Some(s.term) == view && s.digest == statuses[0].digest), "{statuses:#?}");
        judge(&cluster, &format!("{failover:?}"));
    }
}

#[test]
fn a_backup_that_was_away_catches_up_from_a_snapshot() {
    for failover in [Failover::None, Failover::Timeout, Failover::Fenced, Failover::Vote] {
        let config = Config { snapshot_every: 64, ..config(3, failover, 4) };
        let mut cluster = Cluster::<PrimaryBackup>::started(config, Settings::rough(4, 3));
        cluster.run_for(millis(300));
        cluster.crash(NodeId(2));
        let writes: Workload = Box::new(|n| (n < 500).then(|| write(&format!("k{}", n % 50), &format!("{n}"))));
        cluster.add_client(NodeId(0), patient(), Duration::ZERO, writes);
        assert!(cluster.run_until_some(Duration::from_secs(300), |c| c.clients_done()));
        cluster.start(NodeId(2));
        cluster.run_for(millis(2000));
        let statuses: Vec<_> = cluster.node_ids().iter().filter_map(|node| cluster.status(*node)).collect();
        assert!(statuses.iter().all(|s| s.digest == statuses[0].digest), "{failover:?}: {statuses:#?}");
        for node in cluster.node_ids() {
            let records = cluster.disk(node).len();
            assert!(records < 400, "{failover:?}: {node}'s log has {records} records");
        }
        judge(&cluster, &format!("{failover:?}"));
    }
}

#[test]
fn a_new_cluster_serves_at_once() {
    for failover in [Failover::None, Failover::Timeout, Failover::Fenced, Failover::Vote] {
        let mut cluster = Cluster::<PrimaryBackup>::started(config(5, failover, 1), Settings::calm(1, 5));
        assert!(cluster.call_and_wait(NodeId(3), patient(), write("k", "v")).ok().is_some());
        assert!(cluster.now < millis(150), "{failover:?} took {:?}", cluster.now);
    }
}

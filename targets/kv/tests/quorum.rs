//! The quorum mode under faults: what its safe settings promise, and that each unsafe setting
//! breaks exactly that promise.

mod cluster;

use std::collections::BTreeMap;
use std::time::Duration;

use cluster::{Call, Clock, Cluster, Settings, Storm, Workload, check_registers, mixed_workload, patient, stale_read};
use duress_kv::api::{LockName, Op, Refusal, Reply, Token, Value};
use duress_kv::quorum::{Config, Quorum, Timestamps};
use duress_machine::NodeId;
use duress_machine::client::{Outcome, Policy};
use duress_seed::Seed;

/// Repeating a write that may have taken effect could write it twice.
fn once() -> Policy {
    Policy { exactly_once: false, ..patient() }
}

/// Stays with its node.
fn stubborn() -> Policy {
    Policy { roam: false, max_attempts: 1, attempt_timeout: Duration::from_secs(2), ..once() }
}

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Four clients under a storm, then everything healed; the whole history.
fn stormy_run(config: Config, settings: Settings) -> Cluster<Quorum> {
    let seed = settings.seed;
    let nodes = u64::from(settings.nodes);
    let mut cluster = Cluster::<Quorum>::started(config, settings);
    for client in 0..4 {
        let node = NodeId((client % nodes) as u16);
        cluster.add_client(node, once(), millis(5), mixed_workload(seed, client, 3, 40));
    }
    let storm = Storm { partitions: true, crashes: true, pauses: true, every: millis(150), until: millis(4000) };
    cluster.storm(storm);
    cluster.run_until(millis(4000));
    cluster.heal();
    assert!(cluster.run_until_some(millis(30_000), |c| c.clients_done()), "seed {seed}: clients hang");
    cluster
}

fn read(cluster: &mut Cluster<Quorum>, node: u16, key: &str) -> Result<Option<Value>, Option<Refusal>> {
    let call = cluster.call_and_wait(NodeId(node), stubborn(), Op::Read { key: key.into() });
    match call.completed.expect("the call was waited for").1 {
        Outcome::Ok { answer, .. } => match answer.result {
            Ok(Reply::Value(value)) => Ok(value),
            other => panic!("a read gave {other:?}"),
        },
        Outcome::Failed { answer } | Outcome::Unknown { answer } => Err(answer.and_then(|a| a.result.err())),
    }
}

fn write(cluster: &mut Cluster<Quorum>, node: u16, key: &str, value: &str) -> Outcome<duress_kv::api::Response> {
    let op = Op::Write { key: key.into(), value: value.into() };
    cluster.call_and_wait(NodeId(node), stubborn(), op).completed.expect("the call was waited for").1
}

fn is_ok(outcome: &Outcome<duress_kv::api::Response>) -> bool {
    matches!(outcome, Outcome::Ok { .. })
}

#[test]
fn intersecting_quorums_with_write_back_are_linearizable() {
    let mut ok = 0;
    for seed in 0..400 {
        let (nodes, r, w) = [(3, 2, 2), (5, 3, 3), (5, 2, 4), (5, 4, 2), (3, 3, 1), (3, 1, 3)][seed as usize % 6];
        let config = Config { read_repair: seed % 4 != 0, snapshot_every: 64, ..Config::new(nodes, r, w, Seed(seed)) };
        let cluster = stormy_run(config, Settings::rough(seed, nodes));
        if let Err(why) = check_registers(&cluster.history) {
            panic!("seed {seed}, R = {r}, W = {w}: {why}");
        }
        ok += cluster.history.iter().filter(|call| call.ok().is_some()).count();
    }
    assert!(ok > 10_000, "only {ok} operations succeeded: the test shows little");
}

#[test]
fn keys_kept_on_some_nodes_are_linearizable() {
    for seed in 0..100 {
        let config = Config { replicas: Some(3), ..Config::new(5, 2, 2, Seed(seed)) };
        let cluster = stormy_run(config, Settings::rough(seed, 5));
        if let Err(why) = check_registers(&cluster.history) {
            panic!("seed {seed}: {why}");
        }
    }
}

#[test]
fn quorums_that_do_not_intersect_give_stale_reads() {
    let seeds = 0..40;
    let stale = seeds.clone().filter(|seed| {
        let cluster = stormy_run(Config::new(3, 1, 1, Seed(*seed)), Settings::rough(*seed, 3));
        let found = stale_read(&cluster.history).is_some();
        assert!(!found || check_registers(&cluster.history).is_err(), "the two judges disagree");
        found
    });
    let stale = stale.count();
    assert!(stale >= seeds.count() / 4, "a stale read was found in {stale} runs only");
}

/// A write reaches one replica only; a reader that asks it sees the new value, and the next
/// reader, that asks the others, doesn't.
fn read_twice_around_half_a_write(write_back: bool) -> [Option<Value>; 2] {
    let config = Config { write_back, read_repair: false, ..Config::new(3, 2, 2, Seed(1)) };
    let mut cluster = Cluster::<Quorum>::started(config, Settings::calm(1, 3));
    cluster.run_for(millis(50));
    assert!(is_ok(&write(&mut cluster, 0, "k", "old")));
    cluster.run_for(millis(50));
    // n1's questions about tags are answered, but what it stores reaches nobody: cut its links
    // once it has its own record of the write.
    cluster.call(NodeId(0), stubborn(), Op::Write { key: "k".into(), value: "new".into() });
    let digest = cluster.status(NodeId(0)).map(|s| s.digest);
    let limit = cluster.now + millis(100);
    let began = cluster.run_until_some(limit, |c| c.status(NodeId(0)).map(|s| s.digest) != digest);
    assert!(began, "the write never began");
    // Messages that are on their way arrive, so crash the receivers before they do.
    cluster.crash(NodeId(1));
    cluster.crash(NodeId(2));
    cluster.partition(&[NodeId(0)]);
    cluster.run_for(millis(1000));
    cluster.start(NodeId(1));
    cluster.start(NodeId(2));
    cluster.run_for(millis(50));
    cluster.heal_links();
    cluster.partition(&[NodeId(2)]);
    let first = read(&mut cluster, 0, "k").expect("two of three replicas answer");
    cluster.heal_links();
    cluster.partition(&[NodeId(0)]);
    let second = read(&mut cluster, 1, "k").expect("two of three replicas answer");
    [first, second]
}

#[test]
fn without_write_back_reads_go_backwards() {
    assert_eq!(read_twice_around_half_a_write(true), [Some("new".into()), Some("new".into())]);
    assert_eq!(read_twice_around_half_a_write(false), [Some("new".into()), Some("old".into())]);
}

/// n1's clock runs ten seconds ahead.
fn write_after_write_with_skew(timestamps: Timestamps) -> Option<Value> {
    let config = Config { timestamps, ..Config::new(3, 2, 2, Seed(2)) };
    let mut cluster = Cluster::<Quorum>::new(config, Settings::calm(2, 3));
    let true_clock = Clock::default();
    cluster.set_clock(NodeId(0), Clock { wall: true_clock.wall + millis(10_000), ..true_clock });
    cluster.heal();
    cluster.run_for(millis(50));
    assert!(is_ok(&write(&mut cluster, 0, "k", "first")));
    cluster.run_for(millis(100));
    assert!(is_ok(&write(&mut cluster, 1, "k", "second")));
    cluster.run_for(millis(100));
    read(&mut cluster, 2, "k").expect("all replicas are up")
}

#[test]
fn wall_clock_tags_lose_writes_of_slow_clocks() {
    assert_eq!(write_after_write_with_skew(Timestamps::Logical), Some("second".into()));
    assert_eq!(write_after_write_with_skew(Timestamps::Wall), Some("first".into()));
}

#[test]
fn refusals_are_definite_only_where_nothing_can_happen() {
    let mut cluster = Cluster::<Quorum>::started(Config::new(3, 2, 2, Seed(3)), Settings::calm(3, 3));
    cluster.run_for(millis(50));
    let cas = Op::Cas { key: "k".into(), from: None, to: "v".into() };
    let call = cluster.call_and_wait(NodeId(0), stubborn(), cas);
    assert!(call.failed(), "{call:?}");
    // Alone, a node can't even learn a tag: nothing is stored.
    cluster.partition(&[NodeId(0)]);
    assert_eq!(read(&mut cluster, 0, "k"), Err(Some(Refusal::Unavailable)));
    let Outcome::Failed { answer: Some(answer) } = write(&mut cluster, 0, "k", "v") else {
        panic!("the tag query can't have been answered")
    };
    assert_eq!(answer.result, Err(Refusal::Unavailable));
    // With R = 1 it learns a tag and stores, and nobody knows what comes of it.
    let mut cluster = Cluster::<Quorum>::started(Config::new(3, 1, 3, Seed(3)), Settings::calm(3, 3));
    cluster.run_for(millis(50));
    cluster.partition(&[NodeId(0)]);
    assert!(matches!(write(&mut cluster, 0, "k", "v"), Outcome::Unknown { .. }));
}

#[test]
fn a_scan_merges_replicas_and_pages() {
    let config = Config { read_repair: false, ..Config::new(3, 2, 2, Seed(4)) };
    let mut cluster = Cluster::<Quorum>::started(config, Settings::calm(4, 3));
    let count = 5000;
    let writes: Workload =
        Box::new(move |n| (n < count).then(|| Op::Write { key: format!("s/{n:05}").into(), value: "1".into() }));
    cluster.add_client(NodeId(0), once(), Duration::ZERO, writes);
    assert!(cluster.run_until_some(Duration::from_secs(600), |c| c.clients_done()));
    cluster.call_and_wait(NodeId(1), once(), Op::Write { key: "t/other".into(), value: "1".into() });
    let call = cluster.call_and_wait(NodeId(2), once(), Op::Scan { prefix: "s/".into() });
    let Some(Reply::Entries(entries)) = call.ok() else { panic!("the scan ended with {:?}", call.completed) };
    assert_eq!(entries.len() as u64, count);
    assert!(entries.is_sorted_by(|a, b| a.0 < b.0) && entries.iter().all(|(key, _)| key.starts_with("s/")));
}

/// Acquires, holds for a while (sometimes renewing once), releases, again and again. The token is
/// taken from the history afterwards, so releases use the last one granted.
fn lock_calls(cluster: &mut Cluster<Quorum>, clients: u64, rounds: u64, lease: Duration) {
    let acquire = move || Op::Acquire { lock: "l".into(), lease };
    for client in 0..clients {
        let mut left = rounds;
        let workload: Workload = Box::new(move |_| {
            left = left.checked_sub(1)?;
            Some(acquire())
        });
        cluster.add_client(NodeId((client % 3) as u16), once(), millis(30 + client * 7), workload);
    }
}

/// Leases as their holders may count on them: from the grant's answer to a lease after the
/// question. `Err` says which two overlap or which token didn't grow.
fn check_leases(history: &[Call]) -> Result<usize, String> {
    let mut leases: BTreeMap<LockName, Vec<(Token, Duration, Duration)>> = BTreeMap::new();
    for call in history {
        if let (Op::Acquire { lock, lease }, Some(Reply::Granted(token)), Some((granted, _))) =
            (&call.op, call.ok(), &call.completed)
        {
            leases.entry(lock.clone()).or_default().push((*token, *granted, call.invoked + *lease));
        }
    }
    let mut count = 0;
    for leases in leases.values_mut() {
        leases.sort_by_key(|(_, granted, _)| *granted);
        count += leases.len();
        for pair in leases.windows(2) {
            let ((token, _, until), (next, granted, _)) = (pair[0], pair[1]);
            if until > granted {
                return Err(format!("{token:?} until {until:?} overlaps {next:?} from {granted:?}"));
            }
            if next <= token {
                return Err(format!("{next:?} was granted after {token:?}"));
            }
        }
    }
    Ok(count)
}

#[test]
fn leases_never_overlap_and_tokens_grow() {
    let mut granted = 0;
    for seed in 0..300 {
        let nodes = [3, 5][seed as usize % 2];
        let config = Config { snapshot_every: 64, ..Config::new(nodes, 2, 2, Seed(seed)) };
        let mut cluster = Cluster::<Quorum>::started(config, Settings::rough(seed, nodes));
        lock_calls(&mut cluster, 4, 40, millis(120));
        let storm = Storm { partitions: true, crashes: true, pauses: true, every: millis(150), until: millis(3000) };
        cluster.storm(storm);
        cluster.run_until(millis(3000));
        cluster.heal();
        assert!(cluster.run_until_some(millis(60_000), |c| c.clients_done()), "seed {seed}: clients hang");
        match check_leases(&cluster.history) {
            Ok(count) => granted += count,
            Err(why) => panic!("seed {seed}: {why}"),
        }
    }
    assert!(granted > 1000, "only {granted} leases were granted: the test shows little");
}

#[test]
fn a_lock_is_renewed_and_released() {
    let mut cluster = Cluster::<Quorum>::started(Config::new(3, 2, 2, Seed(5)), Settings::rough(5, 3));
    cluster.run_for(millis(100));
    let lock = || LockName::from("l");
    // A client of one's own per call is no holder: drive one client through the whole story.
    let script: Workload = Box::new(move |n| {
        Some(match n {
            0 => Op::Acquire { lock: lock(), lease: millis(300) },
            1..=9 => Op::Renew { lock: lock(), token: Token(1), lease: millis(300) },
            10 => Op::Acquire { lock: lock(), lease: millis(300) },
            11 => Op::Release { lock: lock(), token: Token(1) },
            12 => Op::Renew { lock: lock(), token: Token(1), lease: millis(300) },
            13 => Op::Acquire { lock: lock(), lease: millis(300) },
            _ => return None,
        })
    });
    cluster.add_client(NodeId(0), stubborn(), millis(60), script);
    assert!(cluster.run_until_some(millis(10_000), |c| c.clients_done()));
    let results: Vec<_> = cluster
        .history
        .iter()
        .map(|call| match &call.completed {
            Some((_, Outcome::Ok { answer, .. } | Outcome::Failed { answer: Some(answer) })) => answer.result.clone(),
            other => panic!("{:?} ended with {other:?}", call.op),
        })
        .collect();
    assert_eq!(results[0], Ok(Reply::Granted(Token(1))));
    assert!(results[1..=9].iter().all(|r| *r == Ok(Reply::Done)), "{results:?}");
    assert_eq!(results[10], Err(Refusal::LockHeld));
    assert_eq!(results[11], Ok(Reply::Done));
    assert_eq!(results[12], Err(Refusal::NotHolder));
    assert!(matches!(results[13], Ok(Reply::Granted(token)) if token > Token(1)), "{results:?}");
}

#[test]
fn the_log_is_bounded_and_the_state_survives_restarts() {
    let config = Config { snapshot_every: 100, ..Config::new(3, 2, 2, Seed(6)) };
    let mut cluster = Cluster::<Quorum>::started(config, Settings::calm(6, 3));
    let workload: Workload = Box::new(|n| {
        (n < 2000).then(|| Op::Write { key: format!("k{}", n % 10).into(), value: format!("{n}").into() })
    });
    cluster.add_client(NodeId(0), once(), Duration::ZERO, workload);
    assert!(cluster.run_until_some(Duration::from_secs(120), |c| c.clients_done()));
    cluster.run_for(millis(200));
    let digests = |c: &Cluster<Quorum>| c.node_ids().iter().map(|n| c.status(*n).map(|s| s.digest)).collect::<Vec<_>>();
    let before = digests(&cluster);
    assert!(before.iter().all(|d| *d == before[0]), "{before:?}");
    for node in cluster.node_ids() {
        assert!(cluster.disk(node).len() < 200, "{node} has {} records", cluster.disk(node).len());
        cluster.crash(node);
    }
    cluster.heal();
    cluster.run_for(millis(50));
    assert_eq!(digests(&cluster), before);
}

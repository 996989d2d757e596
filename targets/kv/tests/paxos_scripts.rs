//! Multi-Paxos in situations that are made, not met by chance.

mod cluster;

use std::time::Duration;

use cluster::{Cluster, Settings, check_registers, patient, stale_read};
use duress_kv::api::{ClientId, Op, Refusal, Reply, Request, Response};
use duress_kv::paxos::{Ballot, Config, Message, Paxos, Reads, Record, Round, Timer};
use duress_kv::store::Command;
use duress_machine::client::Policy;
use duress_machine::{Effect, Effects, Input, Machine, NodeId, Reading, RequestId, Role};
use duress_seed::Seed;

const N1: NodeId = NodeId(0);
const N2: NodeId = NodeId(1);
const N3: NodeId = NodeId(2);

fn write(key: &str, value: &str) -> Op {
    Op::Write { key: key.into(), value: value.into() }
}

fn read(key: &str) -> Op {
    Op::Read { key: key.into() }
}

/// Asks one node once.
fn stubborn() -> Policy {
    Policy { max_attempts: 1, roam: false, exactly_once: false, attempt_timeout: Duration::from_secs(1), ..patient() }
}

/// Somebody reads at n1 as fast as can be while n1, the leader, is cut off, its clocks run at
/// `rate`, and the others go on
/// and write. With `restarts`, the others are restarted when the cut comes. What is stale, if
/// anything.
fn read_at_a_deposed_leader(config: Config, rate: f64, restarts: bool) -> Option<String> {
    let mut cluster: Cluster<Paxos> = Cluster::started(config, Settings::calm(7, 3));
    assert!(cluster.call_and_wait(N1, patient(), write("k", "old")).ok().is_some());
    cluster.run_for(Duration::from_secs(1));
    assert_eq!(cluster.leader(), Some(N1));
    cluster.partition(&[N1]);
    cluster.set_rate(N1, rate);
    if restarts {
        for node in [N2, N3] {
            cluster.crash(node);
            cluster.start(node);
        }
    }
    for _ in 0..4 {
        cluster.add_client(N1, stubborn(), Duration::ZERO, Box::new(|n| (n < 5000).then(|| read("k"))));
    }
    let mut writes = 0;
    cluster.add_client(
        N2,
        Policy { attempt_timeout: Duration::from_millis(40), ..patient() },
        Duration::ZERO,
        Box::new(move |_| {
            writes += 1;
            (writes < 500).then(|| write("k", &format!("new {writes}")))
        }),
    );
    cluster.run_for(Duration::from_secs(2));
    let written = cluster.history.iter().filter(|call| !call.op.is_read() && call.ok().is_some()).count();
    assert!(written > 10, "only {written} writes while n1 was cut off");
    assert!(cluster.violations.is_empty(), "{:?}", cluster.violations);
    let stale = stale_read(&cluster.history);
    assert_eq!(stale.is_some(), check_registers(&cluster.history).is_err(), "two checks disagree: {stale:?}");
    stale
}

#[test]
fn a_deposed_leader_gives_no_stale_log_reads_whatever_its_clock() {
    for rate in [0.01, 1.0, 10.0] {
        assert_eq!(read_at_a_deposed_leader(Config::new(3, Seed(1)), rate, false), None);
    }
}

#[test]
fn a_deposed_leader_gives_no_stale_lease_reads_while_clocks_keep_their_bound() {
    let lease = Config { reads: Reads::Lease, ..Config::new(3, Seed(1)) };
    // A lease that outlasts the election timeout is safe only by what the followers granted.
    let long = Config { lease: Duration::from_millis(900), ..lease.clone() };
    for config in [lease, long] {
        for rate in [0.991, 1.0, 1.009] {
            for restarts in [false, true] {
                assert_eq!(read_at_a_deposed_leader(config.clone(), rate, restarts), None);
            }
        }
    }
}

#[test]
fn a_leader_with_a_slow_clock_gives_stale_lease_reads() {
    let config = Config { reads: Reads::Lease, ..Config::new(3, Seed(1)) };
    assert!(read_at_a_deposed_leader(config, 0.2, false).is_some(), "leases do not depend on clocks after all?");
}

#[test]
fn a_node_that_was_away_for_long_gets_a_snapshot_in_pieces() {
    let config = Config { snapshot_every: 40, ..Config::new(3, Seed(5)) };
    let mut cluster: Cluster<Paxos> = Cluster::started(config, Settings::rough(5, 3));
    assert!(cluster.call_and_wait(N1, patient(), write("k", "v")).ok().is_some());
    cluster.crash(N3);
    let big = "x".repeat(30_000);
    for i in 0..200 {
        assert!(cluster.call_and_wait(N1, patient(), write(&format!("k{i}"), &big)).ok().is_some());
    }
    let (index, digest) = cluster.status(N1).map(|status| (status.commit_index, status.digest)).expect("n1 is up");
    cluster.start(N3);
    let caught_up = |cluster: &Cluster<Paxos>| cluster.status(N3).is_some_and(|status| status.commit_index >= index);
    assert!(cluster.run_until_some(cluster.now + Duration::from_secs(2), caught_up), "{:?}", cluster.status(N3));
    assert_eq!(cluster.status(N3).map(|status| status.digest), Some(digest));
    // What it took over is on its disk.
    cluster.run_for(Duration::from_secs(1));
    cluster.partition(&[N3]);
    cluster.crash(N3);
    cluster.start(N3);
    assert_eq!(cluster.status(N3).map(|status| (status.commit_index, status.digest)), Some((index, digest)));
}

#[test]
fn a_log_cut_after_any_record_gives_a_prefix_of_what_was_committed() {
    let config = Config { snapshot_every: 60, ..Config::new(3, Seed(6)) };
    let mut cluster: Cluster<Paxos> = Cluster::started(config, Settings::calm(6, 3));
    for i in 0..100 {
        if i % 20 == 19 {
            let leader = cluster.leader().unwrap_or(N1);
            cluster.crash(leader);
            cluster.run_for(Duration::from_secs(2));
            cluster.start(leader);
        }
        assert!(cluster.call_and_wait(N1, patient(), write(&format!("k{}", i % 7), &i.to_string())).ok().is_some());
    }
    cluster.run_for(Duration::from_secs(1));
    for node in cluster.node_ids() {
        cluster.partition(&[node]);
        cluster.crash(node);
        let whole = cluster.disk(node).to_vec();
        assert!(whole.len() > 5, "{node} wrote only {} records", whole.len());
        let mut last = 0;
        for cut in 0..=whole.len() {
            cluster.set_disk(node, whole[..cut].to_vec());
            // The world compares the digest with that of the other nodes at this index.
            cluster.start(node);
            let commit = cluster.status(node).map_or(0, |status| status.commit_index);
            assert!(commit >= last, "{node} knows less after {cut} records");
            last = commit;
            cluster.crash(node);
        }
        assert!(last > 0);
        cluster.set_disk(node, whole);
        cluster.heal();
        cluster.run_for(Duration::from_secs(1));
    }
    assert!(cluster.violations.is_empty(), "{:?}", cluster.violations);
}

#[test]
fn load_is_served_with_few_messages() {
    let mut cluster: Cluster<Paxos> = Cluster::started(Config::new(5, Seed(8)), Settings::calm(8, 5));
    cluster.run_until(Duration::from_secs(1));
    for client in 0..10u64 {
        let op =
            move |n: u64| if n.is_multiple_of(2) { write(&format!("k{client}"), &n.to_string()) } else { read("k") };
        cluster.add_client(N1, patient(), Duration::ZERO, Box::new(move |n| Some(op(n))));
    }
    let before = cluster.messages;
    cluster.run_for(Duration::from_secs(2));
    let answered = cluster.history.iter().filter(|call| call.ok().is_some()).count() as u64;
    let each = (cluster.messages - before) as f64 / answered as f64;
    assert!(answered > 2000, "{answered} calls answered");
    assert!(each < 4.0, "{each:.2} messages per call");
}

#[test]
fn a_deposed_leader_calls_what_it_proposed_unknown_and_the_rest_refused() {
    let mut cluster: Cluster<Paxos> = Cluster::started(Config::new(3, Seed(9)), Settings::calm(9, 3));
    cluster.run_until(Duration::from_secs(1));
    cluster.partition(&[N1]);
    let calls: Vec<usize> = (0..6).map(|i| cluster.call(N1, stubborn(), write("k", &i.to_string()))).collect();
    let reads = cluster.call(N1, stubborn(), read("k"));
    cluster.run_for(Duration::from_millis(900));
    let unknown = calls.iter().filter(|call| cluster.history[**call].unknown()).count();
    let failed = calls.iter().filter(|call| cluster.history[**call].failed()).count();
    // Two batches were proposed, of one request each.
    assert_eq!((unknown, failed), (2, 4));
    assert!(cluster.history[reads].failed());
    assert!(calls.iter().all(|call| cluster.history[*call].completed.is_some()), "somebody still waits");
}

/// One node by itself, driven by hand; its disk is instantaneous.
struct Alone {
    node: Paxos,
    now: Duration,
    written: u64,
    answers: Vec<(RequestId, Response)>,
    sent: Vec<(NodeId, Message)>,
}

impl Alone {
    fn start(config: &Config, recovered: Vec<Record>) -> Self {
        Alone::start_as(N1, config, recovered)
    }

    fn start_as(me: NodeId, config: &Config, recovered: Vec<Record>) -> Self {
        let (now, written, answers, sent) = (Duration::from_secs(1), 0, Vec::new(), Vec::new());
        let mut alone = Alone { node: Paxos::new(config, me), now, written, answers, sent };
        alone.step(Input::Started { recovered });
        alone
    }

    fn step(&mut self, input: Input<Paxos>) {
        let reading = Reading { wall: self.now, monotonic: self.now };
        let mut effects = Effects::default();
        self.node.step(input, reading, &mut effects);
        let mut sync = false;
        for effect in effects.drain() {
            match effect {
                Effect::Append { .. } | Effect::Rewrite { .. } => self.written += 1,
                Effect::Sync => sync = true,
                Effect::Respond { id, response } => self.answers.push((id, response)),
                Effect::Send { to, message } => self.sent.push((to, message)),
                _ => {}
            }
        }
        if sync {
            self.step(Input::Durable { through: self.written });
        }
    }

    fn hear(&mut self, from: NodeId, message: Message) {
        self.step(Input::Message { from, message });
    }

    /// Whether it promises n3 this round, now.
    fn promises(&mut self, round: u64) -> bool {
        let ballot = Ballot { round, node: N3 };
        self.hear(N3, Message::Prepare { ballot, commit: 0 });
        matches!(self.sent.last(), Some((N3, Message::Promise { ballot: promised, .. })) if *promised == ballot)
    }
}

#[test]
fn no_message_makes_a_node_panic() {
    let extremes = [0, 1, 2, u64::MAX - 1, u64::MAX];
    let request = Request { client: ClientId(1), sequence: 1, op: write("k", "v") };
    let command = Command::Request { request, at: Duration::MAX };
    let mut alone = Alone::start(&Config { reads: Reads::Lease, ..Config::new(3, Seed(1)) }, Vec::new());
    for step in 0..20_000u64 {
        let pick = |what: u64| *Seed(4).decide(&[step, what]).pick(&extremes).expect("there are some");
        let node = NodeId(Seed(4).decide(&[step, 10]).below(4) as u16);
        // Rounds at the very end leave no room for the node's own campaigns; keep them rare.
        let round = if Seed(4).decide(&[step, 11]).chance(0.01) { pick(0) } else { step / 50 };
        let ballot = Ballot { round, node: NodeId(Seed(4).decide(&[step, 12]).below(3) as u16) };
        let commands = std::sync::Arc::new(vec![command.clone(); pick(1).min(3) as usize]);
        let sent = Round { number: pick(2), sent: Duration::from_nanos(pick(3)) };
        let (a, b, c) = (pick(4), pick(5), pick(6));
        let message = match Seed(4).decide(&[step, 13]).below(10) {
            0 => Message::PreVote { ballot, commit: a },
            1 => Message::PreVoted { ballot, highest_round: a, granted: b == 0 },
            2 => Message::Prepare { ballot, commit: a },
            3 => Message::Promise { ballot, first: a, commit: b, entries: vec![(ballot, command.clone())] },
            4 => Message::Reject { ballot, promised: Ballot { round: step / 50 + 1, node: ballot.node } },
            5 | 6 => Message::Accept { ballot, round: sent, commit: b, first: a.min(3), commands },
            7 => Message::Accepted { ballot, round: sent, through: a, missing_from: Some(b) },
            8 => {
                let bytes = std::sync::Arc::new(vec![0; 3]);
                Message::Snapshot { ballot, round: sent, index: a, offset: b, total: c, bytes }
            }
            _ => Message::SnapshotReceived { ballot, round: sent, index: a, received: b },
        };
        alone.step(Input::Message { from: node, message });
        if step.is_multiple_of(7) {
            alone.now += Duration::from_millis(50);
            alone.step(Input::Timer(if step.is_multiple_of(2) { Timer::Election } else { Timer::Tick }));
        }
    }
}

#[test]
fn a_log_that_makes_no_sense_keeps_the_node_out() {
    let ballot = Ballot { round: 1, node: N2 };
    let commands = std::sync::Arc::new(vec![Command::Noop]);
    let gap = Record::Accept { ballot, commit: 0, first: u64::MAX, commands };
    let half = Record::Snapshot { bytes: vec![1, 2, 3], last: false };
    let rubbish = Record::Snapshot { bytes: vec![255; 30], last: true };
    for record in [gap, half, rubbish] {
        let mut alone = Alone::start(&Config::new(1, Seed(1)), vec![record.clone()]);
        alone.now += Duration::from_secs(60);
        alone.step(Input::Timer(Timer::Election));
        let request = Request { client: ClientId(1), sequence: 1, op: read("k") };
        alone.step(Input::Request { id: RequestId(1), request });
        assert_eq!(alone.node.status(Reading { wall: alone.now, monotonic: alone.now }).role, Role::Recovering);
        assert_eq!(alone.answers[0].1.result, Err(Refusal::Unavailable), "{record:?}");
    }
}

#[test]
fn a_repetition_of_what_is_under_way_takes_over_the_answer() {
    let mut alone = Alone::start(&Config::new(1, Seed(1)), Vec::new());
    let request = Request { client: ClientId(1), sequence: 1, op: write("k", "v") };
    // Two identical requests before the disk has answered the first.
    let reading = Reading { wall: alone.now, monotonic: alone.now };
    let mut effects = Effects::default();
    alone.node.step(Input::Request { id: RequestId(1), request: request.clone() }, reading, &mut effects);
    alone.node.step(Input::Request { id: RequestId(2), request: request.clone() }, reading, &mut effects);
    alone.written += effects.as_slice().iter().filter(|effect| matches!(effect, Effect::Append { .. })).count() as u64;
    let unknown = effects.drain().find_map(|effect| match effect {
        Effect::Respond { id, response } => Some((id, response.result)),
        _ => None,
    });
    assert_eq!(unknown, Some((RequestId(1), Err(Refusal::Unknown))));
    alone.step(Input::Durable { through: alone.written });
    alone.step(Input::Request { id: RequestId(3), request });
    let results: Vec<_> = alone.answers.iter().map(|(id, response)| (*id, response.result.clone())).collect();
    assert_eq!(results, [(RequestId(2), Ok(Reply::Done)), (RequestId(3), Ok(Reply::Done))]);
    assert_eq!(alone.node.status(reading).commit_index, 1);
}

#[test]
fn a_follower_keeps_the_lease_it_granted_even_if_it_restarts() {
    let milliseconds = Duration::from_millis;
    let config = Config { reads: Reads::Lease, lease: milliseconds(900), ..Config::new(3, Seed(1)) };
    let ballot = Ballot { round: 1, node: N1 };
    let heartbeat = || Message::Accept {
        ballot,
        round: Round { number: 1, sent: Duration::ZERO },
        commit: 0,
        first: 1,
        commands: Default::default(),
    };
    let mut follower = Alone::start_as(N2, &config, Vec::new());
    follower.hear(N1, heartbeat());
    follower.now += milliseconds(899);
    assert!(!follower.promises(2), "promised another while its grant ran");
    follower.now += milliseconds(1);
    assert!(follower.promises(2));

    let mut restarted = Alone::start_as(N2, &config, vec![Record::Promise { ballot }]);
    restarted.now += milliseconds(899);
    assert!(!restarted.promises(2), "forgot in a restart that it may have granted a lease");
    restarted.now += milliseconds(1);
    assert!(restarted.promises(2));
}

#[test]
fn a_new_leader_is_not_told_of_its_predecessors_rounds() {
    let heartbeat = |ballot, number| Message::Accept {
        ballot,
        round: Round { number, sent: Duration::from_secs(number) },
        commit: 0,
        first: 1,
        commands: Default::default(),
    };
    let mut follower = Alone::start_as(N2, &Config::new(3, Seed(1)), Vec::new());
    let echoed = |follower: &Alone| match follower.sent.last() {
        Some((_, Message::Accepted { round, .. })) => round.number,
        other => panic!("no answer: {other:?}"),
    };
    follower.hear(N1, heartbeat(Ballot { round: 1, node: N1 }, 400));
    assert_eq!(echoed(&follower), 400);
    assert!(follower.promises(2));
    // The promise of the ballot came before its leader's first message.
    follower.hear(N3, heartbeat(Ballot { round: 2, node: N3 }, 5));
    assert_eq!(echoed(&follower), 5, "reads would be answered without a majority's confirmation");
}

#[test]
fn a_leader_uses_its_lease_no_longer_than_its_clock_allows() {
    let config = Config { reads: Reads::Lease, max_clock_drift_ppm: 100_000, ..Config::new(3, Seed(1)) };
    let mut leader = Alone::start(&config, Vec::new());
    let ballot = Ballot { round: 1, node: N1 };
    leader.hear(N2, Message::PreVoted { ballot, highest_round: 0, granted: true });
    leader.hear(N2, Message::Promise { ballot, first: 1, commit: 0, entries: Vec::new() });
    let sent = leader.now;
    let round = leader.sent.iter().rev().find_map(|(_, message)| match message {
        Message::Accept { round, .. } => Some(*round),
        _ => None,
    });
    // The answer takes a while: the lease runs from when the question was sent.
    leader.now += Duration::from_millis(100);
    let round = round.expect("a new leader announces itself");
    leader.hear(N2, Message::Accepted { ballot, round, through: 0, missing_from: None });
    let mut answered_after = |after: Duration| {
        leader.now = sent + after;
        let request = Request { client: ClientId(1), sequence: 1, op: read("k") };
        leader.step(Input::Request { id: RequestId(after.as_millis() as u64), request });
        leader.answers.last().is_some_and(|(id, _)| id.0 == after.as_millis() as u64)
    };
    // A lease of 200 ms, less ten percent.
    assert!(answered_after(Duration::from_millis(179)));
    assert!(!answered_after(Duration::from_millis(180)));
}

//! The rules that keep the primary-backup mode safe, one by one: too rarely decisive for a storm
//! to find each of them broken.

mod hand;

use std::time::Duration;

use duress_kv::api::{ClientId, Op, Request};
use duress_kv::primary_backup::{Config, Entry, Failover, Message, Position, PrimaryBackup, Tick};
use duress_kv::store::{Command, Store};
use duress_machine::{Effect, Input, Machine, NodeId, RequestId, Role};
use duress_seed::Seed;
use hand::{Hand, Numbers, answers, fences, sent};

const LONG: Duration = Duration::from_secs(2);

fn node(me: u16, failover: Failover) -> Hand<PrimaryBackup> {
    Hand::new(Config { failover, ..Config::new(3, Seed(1)) }, me)
}

fn noop(view: u64) -> Entry {
    Entry { view, command: Command::Noop }
}

fn append(view: u64, life: u64, active: bool, previous: Position, entries: Vec<Entry>, commit: u64) -> Message {
    let last = previous.index + entries.len() as u64;
    Message::Append { view, life, active, previous, entries, last, commit, probe: 0 }
}

fn start() -> Position {
    Position::default()
}

/// n2, brought up to date by n1 in view 0 and told that it is active.
fn in_sync_backup() -> Hand<PrimaryBackup> {
    let mut n2 = node(1, Failover::Fenced);
    n2.message(0, append(0, 1, true, start(), vec![noop(0)], 1));
    n2.durable();
    n2
}

fn write(sequence: u64) -> Request {
    Request { client: ClientId(1), sequence, op: Op::Write { key: "k".into(), value: "v".into() } }
}

fn request(hand: &mut Hand<PrimaryBackup>, sequence: u64) -> Vec<Effect<PrimaryBackup>> {
    let id = RequestId(sequence);
    let mut effects = hand.input(Input::Request { id, request: write(sequence) });
    effects.extend(hand.durable());
    effects
}

fn role(hand: &Hand<PrimaryBackup>) -> Role {
    hand.machine.status(hand.reading()).role
}

fn promise(view: u64, firm: bool, in_sync: bool, index: u64) -> Message {
    Message::Promise { view, firm, granted: true, in_sync, position: Position { view: 0, index } }
}

#[test]
fn acknowledgements_and_promises_wait_for_the_disk() {
    let mut n2 = node(1, Failover::Vote);
    let acks = |effects: &[Effect<PrimaryBackup>]| {
        sent(effects).iter().any(|(_, m)| matches!(m, Message::Ack { matched: 1, .. }))
    };
    assert!(!acks(&n2.message(0, append(0, 1, false, start(), vec![noop(0)], 0))));
    assert!(acks(&n2.durable()));
    n2.pass(LONG, Tick);
    let promises =
        |effects: &[Effect<PrimaryBackup>]| sent(effects).iter().any(|(_, m)| matches!(m, Message::Promise { .. }));
    let position = Position { view: 0, index: 1 };
    assert!(!promises(&n2.message(2, Message::ViewChange { view: 5, firm: true, position })));
    assert!(promises(&n2.durable()));
}

#[test]
fn a_node_promises_nothing_to_a_shorter_log_or_while_it_hears_a_primary() {
    let granted = |effects: &[Effect<PrimaryBackup>]| {
        sent(effects).iter().any(|(_, m)| matches!(m, Message::Promise { granted: true, .. }))
    };
    let mut n2 = node(1, Failover::Vote);
    n2.message(0, append(0, 1, false, start(), vec![noop(0), noop(0)], 0));
    n2.durable();
    let ask = |index| Message::ViewChange { view: 2, firm: false, position: Position { view: 0, index } };
    assert!(!granted(&n2.message(2, ask(2))), "it has just heard n1");
    n2.pass(Duration::from_millis(450), Tick);
    assert!(!granted(&n2.message(2, ask(1))), "n3's log is shorter");
    assert!(granted(&n2.message(2, ask(2))));
}

#[test]
fn entries_of_earlier_views_are_not_committed_by_counting() {
    let mut n1 = node(0, Failover::Vote);
    // n1's own first entry of view 0 is not committed. It restarts, and leads again.
    n1.restart();
    n1.pass(LONG, Tick);
    let view = 3;
    n1.message(1, promise(view, false, false, 0));
    n1.durable();
    n1.message(1, promise(view, true, false, 0));
    n1.durable();
    assert_eq!(role(&n1), Role::Primary);
    n1.message(1, Message::Ack { view, life: 1, matched: 1, probe: 0 });
    assert_eq!(n1.machine.status(n1.reading()).commit_index, 0);
    n1.message(1, Message::Ack { view, life: 1, matched: 2, probe: 0 });
    assert_eq!(n1.machine.status(n1.reading()).commit_index, 2);
}

#[test]
fn a_restarted_backup_does_not_believe_what_its_last_life_was_told() {
    let mut n2 = in_sync_backup();
    assert_eq!(fences(&n2.pass(LONG, Tick))[..1], [0], "in sync, it has its silent primary shut off");
    let mut n2 = in_sync_backup();
    n2.restart();
    n2.message(0, append(0, 1, true, Position { view: 0, index: 1 }, vec![], 1));
    assert_eq!(fences(&n2.pass(LONG, Tick)), [0u16; 0], "it may have been shut off and missed something");
    n2.message(0, append(0, 2, true, Position { view: 0, index: 1 }, vec![], 1));
    assert_eq!(fences(&n2.pass(LONG, Tick))[..1], [0]);
}

/// n2 has asked for n1 to be shut off, and that has happened.
fn candidate_without_its_primary() -> Hand<PrimaryBackup> {
    let mut n2 = in_sync_backup();
    n2.pass(Duration::from_millis(650), Tick);
    n2.input(Input::Fenced { node: NodeId(0) });
    n2
}

#[test]
fn fencing_the_primary_is_not_enough_while_another_node_may_follow_another() {
    let mut n2 = candidate_without_its_primary();
    n2.durable();
    assert_ne!(role(&n2), Role::Primary, "n3 has promised nothing");
    n2.message(2, promise(1, false, true, 1));
    n2.durable();
    assert_ne!(role(&n2), Role::Primary, "n3 has promised nothing firm");
    let effects = n2.message(2, promise(1, true, true, 1));
    assert_ne!(role(&n2), Role::Primary, "n1 may have been started and admitted by n3 before n3's promise");
    assert_eq!(fences(&effects), [0]);
    n2.input(Input::Fenced { node: NodeId(0) });
    n2.durable();
    assert_eq!(role(&n2), Role::Primary);
}

#[test]
fn a_new_primary_waits_for_those_that_rely_on_being_waited_for() {
    for n3_in_sync in [true, false] {
        let mut n2 = candidate_without_its_primary();
        n2.message(2, promise(1, false, n3_in_sync, 1));
        n2.durable();
        n2.message(2, promise(1, true, n3_in_sync, 1));
        n2.input(Input::Fenced { node: NodeId(0) });
        n2.durable();
        assert_eq!(role(&n2), Role::Primary);
        let answered = !answers(&request(&mut n2, 1)).is_empty();
        assert_eq!(answered, !n3_in_sync);
        let acked = n2.message(2, Message::Ack { view: 1, life: 1, matched: 3, probe: 0 });
        assert_eq!(answers(&acked).len(), usize::from(n3_in_sync));
    }
}

#[test]
fn a_backup_is_admitted_once_it_has_what_was_acknowledged() {
    let mut n1 = node(0, Failover::Fenced);
    for sequence in 1..=5 {
        assert_eq!(answers(&request(&mut n1, sequence)).len(), 1, "nobody has been admitted yet");
    }
    let told = |n1: &mut Hand<PrimaryBackup>, matched| {
        n1.message(1, Message::Ack { view: 0, life: 1, matched, probe: 0 });
        let effects = n1.pass(Duration::from_millis(50), Tick);
        let to_n2 = sent(&effects).into_iter().filter(|(to, _)| *to == 1);
        to_n2.map(|(_, m)| matches!(m, Message::Append { active: true, .. })).next_back()
    };
    assert_eq!(told(&mut n1, 3), Some(false));
    assert_eq!(told(&mut n1, 6), Some(true));
    assert_eq!(answers(&request(&mut n1, 6)).len(), 0, "from now on n2 is waited for");
    assert_eq!(fences(&n1.pass(LONG, Tick))[..1], [1], "and shut off if it is silent");
    assert_eq!(answers(&n1.input(Input::Fenced { node: NodeId(1) })).len(), 1);
}

#[test]
fn without_anybody_in_sync_all_logs_are_needed() {
    let mut n2 = in_sync_backup();
    n2.restart();
    n2.pass(Duration::from_millis(1100), Tick);
    let view = 1;
    n2.message(0, promise(view, false, false, 1));
    n2.input(Input::Fenced { node: NodeId(2) });
    n2.durable();
    assert_eq!(n2.machine.status(n2.reading()).term, 0, "n3's log may have more");
    n2.message(2, promise(view, false, false, 2));
    assert_eq!(n2.machine.status(n2.reading()).term, 0, "n3's log has more");
    n2.message(2, promise(view, false, false, 1));
    assert_eq!(n2.machine.status(n2.reading()).term, view);
}

#[test]
fn what_was_applied_and_is_not_the_primarys_is_forgotten_through_a_snapshot() {
    let mut n1 = node(0, Failover::Timeout);
    request(&mut n1, 1);
    n1.pass(LONG, Tick);
    let status = |n1: &Hand<PrimaryBackup>| n1.machine.status(n1.reading());
    assert_eq!(status(&n1).commit_index, 2, "alone, it goes on");
    // n2 leads in view 1, and its log parts from n1's behind the first entry.
    let effects = n1.message(1, append(1, 1, false, start(), vec![noop(0), noop(1)], 2));
    assert_eq!(role(&n1), Role::Backup);
    assert!(sent(&effects).iter().any(|(_, m)| matches!(m, Message::Reject { reset: true, .. })), "{effects:?}");
    assert_eq!(status(&n1).commit_index, 2);
    let mut store = Store::default();
    store.apply(&Command::Noop).expect("nothing can go wrong with it");
    let (bytes, position) = (store.to_bytes(), Position { view: 0, index: 1 });
    n1.message(1, Message::Snapshot { view: 1, position, total: bytes.len() as u64, offset: 0, bytes });
    assert_eq!((status(&n1).commit_index, status(&n1).digest), (1, store.digest()));
    let effects = n1.message(1, append(1, 1, false, position, vec![noop(1)], 2));
    assert_eq!(sent(&effects), []);
    assert!(sent(&n1.durable()).iter().any(|(_, m)| matches!(m, Message::Ack { matched: 2, .. })));
    n1.restart();
    n1.message(1, append(1, 1, false, Position { view: 1, index: 2 }, vec![], 2));
    assert_eq!(status(&n1).commit_index, 2);
}

#[test]
fn hostile_messages_do_no_harm_to_the_process() {
    for seed in 0..400 {
        let mut numbers = Numbers::new(seed);
        let failovers = [Failover::None, Failover::Timeout, Failover::Fenced, Failover::Vote];
        let mut hand = node((seed % 3) as u16, failovers[seed as usize / 3 % 4]);
        for _ in 0..60 {
            let from = NodeId(numbers.below(4) as u16);
            let message = hostile(&mut numbers);
            match numbers.below(8) {
                0 => drop(hand.pass(Duration::from_millis(500), Tick)),
                1 => drop(request(&mut hand, seed)),
                2 => drop(hand.input(Input::Fenced { node: from })),
                3 => drop(hand.restart()),
                4 => drop(hand.durable()),
                _ => drop(hand.input(Input::Message { from, message })),
            }
        }
    }
}

fn hostile(n: &mut Numbers) -> Message {
    let position = |n: &mut Numbers| Position { view: n.any(), index: n.any() };
    match n.below(8) {
        0 | 1 => Message::Append {
            view: n.any(),
            life: n.any(),
            active: n.flag(),
            previous: position(n),
            entries: (0..n.below(5)).map(|_| noop(n.any())).collect(),
            last: n.any(),
            commit: n.any(),
            probe: n.any(),
        },
        2 => Message::Ack { view: n.any(), life: n.any(), matched: n.any(), probe: n.any() },
        3 => Message::Reject { view: n.any(), life: n.any(), last: n.any(), reset: n.flag() },
        4 => {
            let mut store = Store::default();
            let index = n.below(4);
            (0..index).for_each(|_| drop(store.apply(&Command::Noop)));
            let bytes = store.to_bytes();
            let (view, offset) = (n.any(), if n.flag() { 0 } else { n.any() });
            let total = if n.flag() { bytes.len() as u64 } else { n.any() };
            Message::Snapshot { view, position: Position { view: n.any(), index }, total, offset, bytes }
        }
        5 => Message::SnapshotAck { view: n.any(), life: n.any(), index: n.any(), received: n.any() },
        6 => Message::ViewChange { view: n.any(), firm: n.flag(), position: position(n) },
        _ if n.flag() => Message::Newer { view: n.any() },
        _ => Message::Promise {
            view: n.any(),
            firm: n.flag(),
            granted: n.flag(),
            in_sync: n.flag(),
            position: position(n),
        },
    }
}

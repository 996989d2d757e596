//! What a node must not forget when it takes in another's state. A snapshot brings what is committed
//! up to an index; what the node holds behind that index may have been acknowledged and counted.

mod hand;

use std::sync::Arc;
use std::time::Duration;

use duress_kv::paxos::{self, Ballot, Paxos, Round};
use duress_kv::primary_backup::{self, Entry, Failover, Message, Position, PrimaryBackup, Tick};
use duress_kv::store::{Command, Store};
use duress_machine::{Effect, Machine, NodeId};
use duress_seed::Seed;
use hand::{Hand, sent};

const LONG: Duration = Duration::from_secs(2);

/// How a test's node goes on behind the snapshot.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// Without an accident.
    Lives,
    /// Killed before anything that the snapshot changed was durable, and started again.
    LosesPowerBefore,
    /// Killed as soon as that was durable, and started again.
    LosesPowerAfter,
}

const THEN: [Then; 3] = [Then::Lives, Then::LosesPowerBefore, Then::LosesPowerAfter];

impl Then {
    fn happens<M: Machine>(self, hand: &mut Hand<M>) {
        match self {
            Then::Lives => drop(hand.durable()),
            Then::LosesPowerBefore => drop(hand.power_loss()),
            Then::LosesPowerAfter => {
                hand.durable();
                hand.power_loss();
            }
        }
    }
}

/// The state after so many entries that do nothing.
fn state(index: u64) -> Store {
    let mut store = Store::default();
    (0..index).for_each(|_| drop(store.apply(&Command::Noop)));
    store
}

/// n2, with entries of these views on its disk, all of which it has acknowledged and none of which
/// it knows to be committed. It goes on to be the backup of `primary`, who sends a snapshot.
fn backup(failover: Failover, views: &[u64], view: u64, position: Position) -> Hand<PrimaryBackup> {
    let config = primary_backup::Config { failover, ..primary_backup::Config::new(3, Seed(1)) };
    let mut n2 = Hand::new(config, 1);
    let mut previous = Position::default();
    for (index, made_in) in (1..).zip(views) {
        let entries = vec![Entry { view: *made_in, command: Command::Noop }];
        let primary = (*made_in % 3) as u16;
        let append = Message::Append {
            view: *made_in,
            life: 1,
            active: false,
            previous,
            entries,
            last: index,
            commit: 0,
            probe: 0,
        };
        n2.message(primary, append);
        assert_eq!(matched(&n2.durable()), Some(index));
        previous = Position { view: *made_in, index };
    }
    let bytes = state(position.index).to_bytes();
    let total = bytes.len() as u64;
    let effects = n2.message((view % 3) as u16, Message::Snapshot { view, position, total, offset: 0, bytes });
    assert_eq!(matched(&effects), None, "the snapshot is not durable yet");
    n2
}

/// What the last acknowledgement among effects says.
fn matched(effects: &[Effect<PrimaryBackup>]) -> Option<u64> {
    let acks = sent(effects).into_iter().filter_map(|(_, message)| match message {
        Message::Ack { matched, .. } => Some(matched),
        _ => None,
    });
    acks.last()
}

/// How far n2's log goes, and whether it would vote for n3 with a log that goes as far as `theirs`.
fn asked(n2: &mut Hand<PrimaryBackup>, theirs: Position) -> (Position, bool) {
    n2.pass(LONG, Tick);
    let effects = n2.message(2, Message::ViewChange { view: 302, firm: false, position: theirs });
    let answer = sent(&effects).into_iter().find_map(|(_, message)| match message {
        Message::Promise { position, granted, .. } => Some((position, granted)),
        _ => None,
    });
    answer.unwrap_or_else(|| panic!("no answer: {effects:?}"))
}

#[test]
fn a_backup_keeps_what_it_acknowledged_behind_a_snapshot_that_joins_its_log() {
    for then in THEN {
        // Five entries of view 0, of which n1 may have committed all with n2's help. n3 leads in
        // view 2, and has applied only three.
        let snapshot = Position { view: 0, index: 3 };
        let mut n2 = backup(Failover::Vote, &[0; 5], 2, snapshot);
        assert_eq!(n2.machine.status(n2.reading()).digest, state(3).digest());
        then.happens(&mut n2);
        let whole = Position { view: 0, index: 5 };
        assert_eq!(asked(&mut n2, Position { view: 0, index: 4 }), (whole, false), "{then:?}");
        assert_eq!(asked(&mut n2, whole), (whole, true), "{then:?}");
    }
}

#[test]
fn what_stands_behind_a_snapshot_is_compared_before_it_is_acknowledged_again() {
    let snapshot = Position { view: 0, index: 3 };
    let append = |view, previous, entries: Vec<Entry>| {
        let last = previous + entries.len() as u64;
        let previous = Position { view, index: previous };
        Message::Append { view: 2, life: 1, active: false, previous, entries, last, commit: 0, probe: 0 }
    };
    let mut n2 = backup(Failover::Vote, &[0; 5], 2, snapshot);
    assert_eq!(matched(&n2.durable()), Some(3), "n3 may not have the fourth");
    n2.message(2, append(0, 5, vec![]));
    assert_eq!(matched(&n2.message(2, append(0, 5, vec![]))), Some(5), "it has, and the fifth");

    let mut n2 = backup(Failover::Vote, &[0; 5], 2, snapshot);
    n2.message(2, append(0, 3, vec![Entry { view: 2, command: Command::Noop }]));
    assert_eq!(matched(&n2.durable()), Some(4), "it has another fourth");
    let theirs = Position { view: 2, index: 4 };
    assert_eq!(asked(&mut n2, theirs), (theirs, true));
}

#[test]
fn a_backup_forgets_what_stands_behind_a_snapshot_that_does_not_join_its_log() {
    // The cluster has gone on with other entries from the third on, or with more than n2 has.
    for (views, snapshot) in [
        ([0, 0, 0, 0, 0], Position { view: 2, index: 3 }),
        ([0, 0, 3, 3, 3], Position { view: 5, index: 3 }),
        ([0, 0, 0, 0, 0], Position { view: 2, index: 9 }),
    ] {
        for then in [Then::Lives, Then::LosesPowerAfter] {
            let mut n2 = backup(Failover::Vote, &views, 5, snapshot);
            then.happens(&mut n2);
            assert_eq!(asked(&mut n2, snapshot), (snapshot, true), "{views:?}, {then:?}");
        }
        // Until the snapshot is durable, the log is what it was.
        let mut n2 = backup(Failover::Vote, &views, 5, snapshot);
        n2.power_loss();
        let whole = Position { view: views[4], index: 5 };
        assert_eq!(asked(&mut n2, whole), (whole, true), "{views:?}");
    }
}

#[test]
fn a_fenced_backup_keeps_it_too() {
    for then in THEN {
        let mut n2 = backup(Failover::Fenced, &[0; 5], 2, Position { view: 0, index: 3 });
        then.happens(&mut n2);
        // Where all nodes restarted, the longest log leads.
        assert_eq!(asked(&mut n2, Position::default()).0, Position { view: 0, index: 5 }, "{then:?}");
    }
}

#[test]
fn an_acceptor_forgets_nothing_that_it_accepted_behind_a_snapshot() {
    let ballot = |round, node| Ballot { round, node: NodeId(node) };
    for then in THEN {
        let mut n2: Hand<Paxos> = Hand::new(paxos::Config::new(3, Seed(1)), 1);
        let round = Round { number: 1, sent: Duration::ZERO };
        let commands = Arc::new(vec![Command::Noop; 5]);
        n2.message(0, paxos::Message::Accept { ballot: ballot(1, 0), round, commit: 0, first: 1, commands });
        n2.durable();
        // n3 leads now, and sends the state that the first three made.
        let bytes = state(3).to_bytes();
        let total = bytes.len() as u64;
        let bytes = Arc::new(bytes);
        let snapshot = paxos::Message::Snapshot { ballot: ballot(2, 2), round, index: 3, offset: 0, total, bytes };
        n2.message(2, snapshot);
        then.happens(&mut n2);
        let mut effects = n2.message(0, paxos::Message::Prepare { ballot: ballot(3, 0), commit: 3 });
        effects.extend(n2.durable());
        let accepted = sent(&effects).into_iter().find_map(|(_, message)| match message {
            paxos::Message::Promise { first, entries, .. } => Some((first, entries)),
            _ => None,
        });
        let fourth_and_fifth = vec![(ballot(1, 0), Command::Noop); 2];
        assert_eq!(accepted, Some((4, fourth_and_fifth)), "{then:?}");
        // Of the promise that the snapshot's leader had, too, nothing durable is forgotten.
        let late = paxos::Message::Prepare { ballot: ballot(1, 2), commit: 3 };
        let effects = n2.message(2, late);
        assert!(!sent(&effects).iter().any(|(_, m)| matches!(m, paxos::Message::Promise { .. })), "{effects:?}");
    }
}

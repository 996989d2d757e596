//! The rules that keep a replica of the quorum mode honest, one by one.

mod hand;

use std::time::Duration;

use duress_kv::api::{ClientId, Op, Request};
use duress_kv::quorum::{Answer, Ask, Config, Message, Quorum, Record, RoundId, Tag, Tick};
use duress_machine::{Effect, Input, NodeId, RequestId};
use duress_seed::Seed;
use hand::{Hand, Numbers, sent};

const LEASE: Duration = Duration::from_millis(500);

fn replica() -> Hand<Quorum> {
    Hand::new(Config::new(3, 2, 2, Seed(1)), 0)
}

fn round(number: u64) -> RoundId {
    RoundId { node: NodeId(1), life: 1, number }
}

fn put(hand: &mut Hand<Quorum>, number: u64, ask: Ask) -> Vec<Answer> {
    let effects = hand.message(1, Message::Ask { round: round(number), ask });
    said(&effects)
}

fn said(effects: &[Effect<Quorum>]) -> Vec<Answer> {
    let answer = |(_, message)| if let Message::Answer { answer, .. } = message { Some(answer) } else { None };
    sent(effects).into_iter().filter_map(answer).collect()
}

/// Asks and lets the disk finish.
fn ask(hand: &mut Hand<Quorum>, number: u64, ask: Ask) -> Answer {
    let mut answers = put(hand, number, ask);
    answers.extend(said(&hand.durable()));
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

fn grant(token: u64, client: u64) -> Ask {
    Ask::Grant { lock: "l".into(), token, client: ClientId(client), lease: LEASE }
}

const GRANTED: Answer = Answer::Lease { granted: true };
const REFUSED: Answer = Answer::Lease { granted: false };

#[test]
fn nothing_is_said_of_a_value_before_it_is_durable() {
    let mut hand = replica();
    let tag = Tag { time: 1, round: round(1) };
    let store = Ask::Store { key: "k".into(), tag, value: "v".into() };
    assert_eq!(put(&mut hand, 1, store.clone()), []);
    assert_eq!(put(&mut hand, 2, Ask::Query { key: "k".into() }), [], "a crash might take it back");
    assert_eq!(put(&mut hand, 3, Ask::Query { key: "other".into() }), [Answer::Value(None)]);
    assert_eq!(put(&mut hand, 4, store), [], "known, but not durable either");
    let value = Answer::Value(Some((tag, "v".into())));
    assert_eq!(said(&hand.durable()), [Answer::Stored, value, Answer::Stored]);
}

#[test]
fn the_greatest_tag_stays() {
    let mut hand = replica();
    let store =
        |time, value: &str| Ask::Store { key: "k".into(), tag: Tag { time, round: round(time) }, value: value.into() };
    assert_eq!(ask(&mut hand, 1, store(2, "new")), Answer::Stored);
    assert_eq!(ask(&mut hand, 2, store(1, "old")), Answer::Stored);
    hand.restart();
    let Answer::Value(Some((tag, value))) = ask(&mut hand, 3, Ask::Query { key: "k".into() }) else {
        panic!("the value is lost")
    };
    assert_eq!((tag.time, value.as_str()), (2, "new"));
}

#[test]
fn a_token_is_used_once() {
    let mut hand = replica();
    assert_eq!(ask(&mut hand, 1, grant(1, 1)), GRANTED);
    assert_eq!(ask(&mut hand, 1, grant(1, 1)), GRANTED, "the same question again");
    assert_eq!(ask(&mut hand, 2, grant(2, 2)), REFUSED, "it is held");
    hand.pass(LEASE, Tick);
    assert_eq!(ask(&mut hand, 2, grant(2, 2)), REFUSED, "a late copy of what was refused");
    assert_eq!(ask(&mut hand, 3, grant(1, 3)), REFUSED, "an old token");
    assert_eq!(ask(&mut hand, 1, grant(1, 1)), REFUSED, "its lease is over");
    assert_eq!(ask(&mut hand, 4, grant(3, 3)), GRANTED);
    hand.restart();
    let token = Ask::Token { lock: "l".into() };
    assert_eq!(ask(&mut hand, 5, token), Answer::Token { highest: 3, held: true });
}

#[test]
fn only_the_holder_extends_and_ends_a_lease() {
    let mut hand = replica();
    let extend = |token, client| Ask::Extend { lock: "l".into(), token, client: ClientId(client), lease: LEASE };
    let free = |token, client| Ask::Free { lock: "l".into(), token, client: ClientId(client) };
    assert_eq!(ask(&mut hand, 1, grant(7, 1)), GRANTED);
    assert_eq!(ask(&mut hand, 2, extend(7, 2)), REFUSED);
    assert_eq!(ask(&mut hand, 3, extend(6, 1)), REFUSED);
    assert_eq!(ask(&mut hand, 4, free(7, 2)), REFUSED);
    hand.pass(Duration::from_millis(300), Tick);
    assert_eq!(ask(&mut hand, 5, extend(7, 1)), GRANTED);
    hand.pass(Duration::from_millis(300), Tick);
    assert_eq!(ask(&mut hand, 6, grant(8, 2)), REFUSED, "extended");
    assert_eq!(ask(&mut hand, 7, free(7, 1)), GRANTED);
    assert_eq!(ask(&mut hand, 7, free(7, 1)), GRANTED, "the same question again");
    assert_eq!(ask(&mut hand, 8, free(7, 1)), REFUSED, "another question");
    assert_eq!(ask(&mut hand, 9, extend(7, 1)), REFUSED);
    assert_eq!(ask(&mut hand, 10, grant(9, 2)), GRANTED);
    let abandon = |granted| Ask::Abandon { lock: "l".into(), granted };
    assert_eq!(ask(&mut hand, 11, abandon(round(1))), REFUSED, "another's grant");
    assert_eq!(ask(&mut hand, 12, abandon(round(10))), GRANTED);
    assert_eq!(ask(&mut hand, 13, grant(10, 3)), GRANTED);
}

#[test]
fn a_restarted_coordinator_takes_no_answers_to_its_last_life() {
    let mut hand = replica();
    let read = |hand: &mut Hand<Quorum>| {
        let request = Request { client: ClientId(1), sequence: 1, op: Op::Read { key: "k".into() } };
        let effects = hand.input(Input::Request { id: RequestId(1), request });
        sent(&effects)
            .into_iter()
            .find_map(|(_, m)| if let Message::Ask { round, .. } = m { Some(round) } else { None })
            .expect("a read asks others")
    };
    let before = read(&mut hand);
    hand.restart();
    let after = read(&mut hand);
    assert_ne!(before, after);
    let late = hand.message(1, Message::Answer { round: before, answer: Answer::Value(None) });
    assert!(!late.iter().any(|effect| matches!(effect, Effect::Respond { .. })));
    let fresh = hand.message(1, Message::Answer { round: after, answer: Answer::Value(None) });
    assert!(fresh.iter().any(|effect| matches!(effect, Effect::Respond { .. })));
}

#[test]
fn hostile_messages_do_no_harm_to_the_process() {
    for seed in 0..400 {
        let n = &mut Numbers::new(seed);
        let config = Config { request_timeout: Duration::from_millis(100), ..Config::new(3, 2, 2, Seed(seed)) };
        let mut hand = Hand::<Quorum>::new(config, 0);
        for _ in 0..60 {
            let from = n.below(4) as u16;
            match n.below(8) {
                0 => drop(hand.pass(Duration::from_millis(50), Tick)),
                1 => drop(hand.durable()),
                2 => drop(hand.restart()),
                3 => {
                    let request = Request { client: ClientId(1), sequence: n.any(), op: hostile_op(n) };
                    drop(hand.input(Input::Request { id: RequestId(seed), request }));
                }
                _ => {
                    let message = hostile(n);
                    drop(hand.message(from, message));
                }
            }
        }
    }
}

fn hostile_op(n: &mut Numbers) -> Op {
    let (lock, token, lease) = ("l".into(), duress_kv::api::Token(n.any()), Duration::from_nanos(n.any()));
    match n.below(6) {
        0 => Op::Read { key: "k".into() },
        1 => Op::Write { key: "k".into(), value: "v".into() },
        2 => Op::Scan { prefix: "".into() },
        3 => Op::Acquire { lock, lease: Duration::MAX },
        4 => Op::Renew { lock, token, lease },
        _ => Op::Release { lock, token },
    }
}

fn hostile(n: &mut Numbers) -> Message {
    let round = |n: &mut Numbers| RoundId { node: NodeId(n.below(4) as u16), life: n.any(), number: n.any() };
    let tag = |n: &mut Numbers| Tag { time: n.any(), round: round(n) };
    let (lock, token, client) = ("l".into(), n.any(), ClientId(n.below(3)));
    let lease = if n.flag() { Duration::MAX } else { Duration::from_millis(n.below(100)) };
    let ask = match n.below(8) {
        0 => Ask::Query { key: "k".into() },
        1 => Ask::Store { key: "k".into(), tag: tag(n), value: "w".into() },
        2 => Ask::Scan { prefix: "".into(), after: n.flag().then(|| "k".into()) },
        3 => Ask::Token { lock },
        4 => Ask::Grant { lock, token, client, lease },
        5 => Ask::Extend { lock, token, client, lease },
        6 => Ask::Free { lock, token, client },
        _ => Ask::Abandon { lock, granted: round(n) },
    };
    let answer = match n.below(5) {
        0 => Answer::Value(n.flag().then(|| (tag(n), "x".into()))),
        1 => Answer::Stored,
        2 => Answer::Page { entries: vec![("k".into(), tag(n), "y".into())], more: n.flag() },
        3 => Answer::Token { highest: n.any(), held: n.flag() },
        _ => Answer::Lease { granted: n.flag() },
    };
    let number = n.below(20);
    match n.below(5) {
        0 | 1 => Message::Ask { round: round(n), ask },
        2 | 3 => Message::Answer { round: RoundId { node: NodeId(0), life: 1 + n.below(4), number }, answer },
        _ => Message::Repair { key: "k".into(), tag: tag(n), value: "z".into() },
    }
}

#[test]
fn a_log_in_any_order_is_taken_in() {
    let mut hand = replica();
    let tag = |time| Tag { time, round: round(time) };
    let records =
        [2, 1].map(|time| Record::Register { key: "k".into(), tag: tag(time), value: format!("{time}").into() });
    hand.input(Input::Started { recovered: records.to_vec() });
    let Answer::Value(Some((found, _))) = ask(&mut hand, 1, Ask::Query { key: "k".into() }) else {
        panic!("the value is lost")
    };
    assert_eq!(found, tag(2));
}

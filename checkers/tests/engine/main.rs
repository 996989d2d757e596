//! The engine against naive searches, on very many tiny histories; and its certificates against
//! the independent verifier. `DURESS_FUZZ` sets how many histories.

mod online;

use duress_checkers::Budget;
use duress_checkers::engine::verify::{Flaw, verify};
use duress_checkers::engine::{self, Action, History, KeySearch, Method, Operation, PENDING};
use duress_checkers::generate::{Anomaly, Label, Options, registers};
use duress_checkers::register::{Register, RegisterOp, RegisterRet};
use duress_checkers::wgl::{self, Entry, Limit, Outcome};
use duress_seed::Seed;

/// A tiny history. Two in three have random results; the rest are what a register did, a third of
/// those with a result changed.
fn tiny(seed: Seed) -> History {
    let draw = |key: &[u64], below: u64| seed.decide(key).below(below);
    let count = 2 + draw(&[0], 8) as usize;
    let values = 1 + draw(&[1], 4);
    let pending_share = [0, 1, 3, 6][draw(&[2], 4) as usize];
    let (reads, writes) = [(4, 8), (2, 8), (5, 10), (3, 5)][draw(&[3], 4) as usize];
    let unique = draw(&[4], 6) == 0;
    let spread = 2 + draw(&[5], 8);
    // Intervals: random moments, near each other for small spreads.
    let mut moments: Vec<(u64, usize, bool)> = Vec::new();
    for i in 0..count {
        let n = i as u64;
        let start = draw(&[10, n], count as u64 * 3);
        moments.push((start * 100 + draw(&[11, n], 100), i, false));
        moments.push(((start + draw(&[12, n], spread)) * 100 + 100 + draw(&[13, n], 100), i, true));
    }
    moments.sort_unstable();
    let mut places = vec![(0, 0); count];
    for (place, (_, i, end)) in moments.iter().enumerate() {
        *(if *end { &mut places[*i].1 } else { &mut places[*i].0 }) = place as u32;
    }
    let mut operations: Vec<Operation> = Vec::new();
    for (i, (invoked, returned)) in places.iter().enumerate() {
        let n = i as u64;
        let value = |what| draw(&[what, n], values) as u32;
        let action = match draw(&[20, n], 10) {
            x if x < reads => Action::Read(if unique { draw(&[21, n], count as u64) as u32 } else { value(21) }),
            x if x < writes || unique => Action::Write(if unique { n as u32 + 1 } else { value(22) }),
            9 if draw(&[25, n], 3) == 0 => Action::Differs(value(23)),
            _ => Action::Cas { from: value(23), to: value(24) },
        };
        let pending = draw(&[26, n], 10) < pending_share;
        operations.push(Operation {
            key: 0,
            action,
            invoked: *invoked,
            returned: if pending { PENDING } else { *returned },
        });
    }
    if draw(&[6], 3) == 0 {
        answer(seed, &mut operations);
        if draw(&[7], 3) == 0 {
            let victim = draw(&[8], count as u64) as usize;
            if let Action::Read(value) = &mut operations[victim].action {
                *value = (*value + 1) % values as u32;
            }
        }
    }
    History { operations, keys: 1, initial: 0 }
}

/// Gives the operations the results that a register would have, each at some moment in its span.
fn answer(seed: Seed, operations: &mut [Operation]) {
    let mut order: Vec<(u64, usize)> = Vec::new();
    for (i, op) in operations.iter().enumerate() {
        let end = if op.returned == PENDING { op.invoked + 12 } else { op.returned };
        let moment = u64::from(op.invoked) * 64 + seed.decide(&[30, i as u64]).below(u64::from(end - op.invoked) * 64);
        order.push((moment, i));
    }
    order.sort_unstable();
    let mut held = 0;
    for (_, i) in order {
        match &mut operations[i].action {
            Action::Read(value) => *value = held,
            Action::Write(value) => held = *value,
            Action::Cas { from, to } => {
                *from = held;
                held = *to;
            }
            Action::Differs(value) if *value == held => *value += 1,
            Action::Differs(_) => {}
        }
    }
}

/// Tries every order of every subset that has all operations that returned. Remembers nothing but
/// dead ends (the operations left and the value).
fn naive(operations: &[Operation], held: u32, left: u32, dead: &mut Vec<(u32, u32)>) -> bool {
    let all = || (0..operations.len()).filter(move |i| left & (1 << i) != 0);
    let Some(first_return) = all().map(|i| operations[i].returned).filter(|at| *at != PENDING).min() else {
        return true;
    };
    if dead.contains(&(held, left)) {
        return false;
    }
    for i in all().filter(|i| operations[*i].invoked < first_return) {
        let after = match operations[i].action {
            Action::Read(value) if value == held => held,
            Action::Differs(value) if value != held => held,
            Action::Write(value) => value,
            Action::Cas { from, to } if from == held => to,
            _ => continue,
        };
        if naive(operations, after, left & !(1 << i), dead) {
            return true;
        }
    }
    dead.push((held, left));
    false
}

fn is_possible(operations: &[Operation]) -> bool {
    naive(operations, 0, (1 << operations.len()) - 1, &mut Vec::new())
}

/// What of a history counts up to a return, with what is in progress then left pending.
fn until(history: &History, last: u32) -> Vec<Operation> {
    let before = history.operations.iter().filter(|op| op.invoked < last);
    let cut = before.map(|op| Operation { returned: if op.returned > last { PENDING } else { op.returned }, ..*op });
    cut.filter(|op| op.returned != PENDING || matches!(op.action, Action::Write(_) | Action::Cas { .. })).collect()
}

fn histories() -> u64 {
    std::env::var("DURESS_FUZZ").ok().and_then(|n| n.parse().ok()).unwrap_or(200_000)
}

#[test]
fn the_engine_agrees_with_the_naive_search() {
    let mut by_method = std::collections::BTreeMap::new();
    let first = std::env::var("DURESS_FUZZ_FROM").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    for seed in first..first + histories() {
        let history = tiny(Seed(seed));
        let expected = is_possible(&history.operations);
        let answer = &engine::check(&history, &Budget::default(), true)[0];
        *by_method.entry((answer.method, expected)).or_insert(0u64) += 1;
        match &answer.outcome {
            Outcome::Linearizable { order } => {
                assert!(expected, "seed {seed}: there is no order: {answer:?} {history:#?}");
                assert_eq!(verify(&history, 0, order), Ok(()), "seed {seed}: {answer:?} {history:#?}");
            }
            Outcome::NotLinearizable { stuck } => {
                assert!(!expected, "seed {seed}: there is an order: {answer:?} {history:#?}");
                let end = history.operations[*stuck].returned;
                assert!(!is_possible(&until(&history, end)), "seed {seed}: {answer:?} {history:#?}");
                if answer.method != Method::Refutation {
                    assert!(is_possible(&until(&history, end - 1)), "seed {seed}: {answer:?} {history:#?}");
                }
            }
            Outcome::Unknown { .. } => panic!("seed {seed}: {answer:?} {history:#?}"),
        }
    }
    println!("{by_method:?}");
    for method in [Method::Zones, Method::Configurations] {
        assert!(by_method.get(&(method, true)).is_some_and(|n| *n > histories() / 100), "{by_method:?}");
    }
    for method in [Method::Refutation, Method::Configurations] {
        assert!(by_method.get(&(method, false)).is_some_and(|n| *n > histories() / 100), "{by_method:?}");
    }
}

type RegisterEntry = Entry<RegisterOp<u32>, RegisterRet<u32>>;

fn entries(history: &History) -> Vec<RegisterEntry> {
    let entry = |op: &Operation| {
        let (what, ret) = match op.action {
            Action::Read(value) => (RegisterOp::Read, RegisterRet::Value(value)),
            Action::Write(value) => (RegisterOp::Write(value), RegisterRet::Done),
            Action::Cas { from, to } => (RegisterOp::Cas { from, to }, RegisterRet::Done),
            Action::Differs(from) => (RegisterOp::Cas { from, to: 0 }, RegisterRet::Mismatch),
        };
        let passive = matches!(op.action, Action::Read(_) | Action::Differs(_));
        let returned = (op.returned != PENDING).then_some((u64::from(op.returned), ret));
        Entry { op: what, invoked: op.invoked.into(), returned, passive }
    };
    let known = |op: &&Operation| op.returned != PENDING || !matches!(op.action, Action::Differs(_));
    history.operations.iter().filter(known).map(entry).collect()
}

#[test]
fn the_engine_agrees_with_the_general_search() {
    for seed in 0..histories() / 20 {
        let entries = entries(&tiny(Seed(seed)));
        let oracle = wgl::search(Register(0), &entries, &Budget::default());
        let found = engine::search(0, &entries, &Budget::default());
        let same = match (&oracle, &found) {
            (Outcome::Linearizable { .. }, Outcome::Linearizable { .. }) => true,
            // What is refuted cheaply is refuted by the first to see what can't be, which may come later.
            (Outcome::NotLinearizable { stuck: a }, Outcome::NotLinearizable { stuck: b }) => {
                entries[*a].returned.as_ref().map(|r| r.0) <= entries[*b].returned.as_ref().map(|r| r.0)
            }
            _ => false,
        };
        assert!(same, "seed {seed}: {oracle:?} {found:?} {entries:#?}");
    }
}

#[test]
fn generated_histories_are_judged_as_labelled() {
    let mut labels = std::collections::BTreeMap::new();
    for seed in 0..600 {
        let draw = |what, below| Seed(seed).decide(&[what]).below(below);
        let options = Options {
            operations: 20 + draw(0, 300) as u32,
            clients: 1 + draw(1, 8) as u32,
            keys: 1 + draw(2, 4) as u32,
            values: [None, Some(3), Some(5)][draw(3, 3) as usize],
            cas: [0.0, 0.3][draw(4, 2) as usize],
            indeterminate: [0.0, 0.02, 0.1][draw(5, 3) as usize],
            failed: [0.0, 0.1][draw(6, 2) as usize],
            anomaly: [None, Some(Anomaly::StaleRead), Some(Anomaly::LostWrite), Some(Anomaly::Phantom)]
                [draw(7, 4) as usize],
        };
        let generated = registers(Seed(seed), &options);
        assert_eq!(generated, registers(Seed(seed), &options), "a history is a function of the seed");
        let answers = engine::check(&generated.history, &Budget::default(), true);
        for (key, answer) in answers.iter().enumerate() {
            if let Outcome::Linearizable { order } = &answer.outcome {
                assert_eq!(verify(&generated.history, key as u32, order), Ok(()), "seed {seed}: {options:?}");
            }
        }
        assert!(answers.iter().all(|a| !matches!(a.outcome, Outcome::Unknown { .. })), "seed {seed}: {options:?}");
        let valid = answers.iter().all(|a| matches!(a.outcome, Outcome::Linearizable { .. }));
        match generated.label {
            Label::Valid => assert!(valid, "seed {seed}: {options:?} {answers:?}"),
            Label::Invalid => assert!(!valid, "seed {seed}: {options:?}"),
            Label::Perhaps => {}
        }
        *labels.entry((format!("{:?}", options.anomaly), valid)).or_insert(0) += 1;
    }
    for anomaly in [Anomaly::StaleRead, Anomaly::LostWrite, Anomaly::Phantom] {
        assert!(labels.get(&(format!("{:?}", Some(anomaly)), false)).is_some_and(|n| *n > 20), "{labels:?}");
    }
}

/// Writes in progress all at once, then reads that see some of them, one after the other.
fn crowd(writes: u32, reads: &[u32]) -> History {
    let mut operations: Vec<Operation> = (0..writes)
        .map(|i| Operation { key: 0, action: Action::Write(i + 1), invoked: i, returned: 100_000 + i })
        .collect();
    for (i, value) in reads.iter().enumerate() {
        let invoked = writes + 2 * i as u32;
        operations.push(Operation { key: 0, action: Action::Read(*value), invoked, returned: invoked + 1 });
    }
    // Not for the zones.
    operations.push(Operation { key: 0, action: Action::Differs(u32::MAX), invoked: 200_000, returned: 200_001 });
    History { operations, keys: 1, initial: 0 }
}

#[test]
fn more_operations_at_once_than_a_word_has_bits() {
    for (writes, method) in [
        (60, Method::Configurations),
        (100, Method::Configurations),
        (200, Method::Configurations),
        (300, Method::Configurations),
        (1_100, Method::WingGongLowe),
    ] {
        // The general search takes too long for more.
        let reads: &[u32] = if method == Method::WingGongLowe { &[1] } else { &[writes, 3, 50] };
        let history = crowd(writes, reads);
        let answer = &engine::check(&history, &Budget::default(), true)[0];
        assert_eq!(answer.method, method, "{writes}");
        let Outcome::Linearizable { order } = &answer.outcome else { panic!("{writes}: {answer:?}") };
        assert_eq!(verify(&history, 0, order), Ok(()), "{writes}");
        if method == Method::Configurations {
            let history = crowd(writes, &[writes, 3, writes]);
            let outcome = &engine::check(&history, &Budget::default(), true)[0].outcome;
            assert_eq!(*outcome, Outcome::NotLinearizable { stuck: writes as usize + 2 }, "{writes}");
        }
    }
}

#[test]
fn a_budget_that_runs_out_is_unknown() {
    // Pairs of writes and reads, all at once: the search has to visit every subset.
    let mut operations = Vec::new();
    for i in 0..24 {
        operations.push(Operation {
            key: 0,
            action: Action::Cas { from: i % 4, to: (i + 1) % 4 },
            invoked: i,
            returned: 1000 + i,
        });
        operations.push(Operation { key: 0, action: Action::Write(i % 5), invoked: 100 + i, returned: 2000 + i });
        operations.push(Operation { key: 0, action: Action::Write(i % 3), invoked: 200 + i, returned: PENDING });
    }
    operations.push(Operation { key: 0, action: Action::Read(4), invoked: 900, returned: 950 });
    let history = History { operations, keys: 1, initial: 0 };
    let none = Budget { time: std::time::Duration::ZERO, ..Budget::default() };
    let answer = &engine::check(&history, &none, false)[0];
    assert!(matches!(answer.outcome, Outcome::Unknown { limit: Limit::Time, .. }), "{answer:?}");
    let small = Budget { memory_bytes: 100_000, ..Budget::default() };
    let answer = &engine::check(&history, &small, false)[0];
    assert!(matches!(answer.outcome, Outcome::Unknown { limit: Limit::Memory, .. }), "{answer:?}");
}

#[test]
fn a_search_goes_on_where_a_budget_ended_it() {
    let options = Options { operations: 400, clients: 12, indeterminate: 0.05, ..Options::default() };
    for seed in 0..20 {
        let anomaly = [None, Some(Anomaly::StaleRead)][seed as usize % 2];
        let history = registers(Seed(seed), &Options { anomaly, ..options.clone() }).history;
        let whole = &engine::check(&history, &Budget::default(), true)[0];
        let mut search = KeySearch::new(&history, 0, true);
        let (mut memory_bytes, mut rounds, mut furthest) = (1, 0, 0);
        let answer = loop {
            let budget = Budget { memory_bytes, ..Budget::default() };
            let answer = search.resume(&budget).clone();
            let Outcome::Unknown { valid_up_to, limit } = answer.outcome else { break answer };
            assert_eq!(limit, Limit::Memory);
            assert!(valid_up_to >= furthest, "seed {seed}");
            furthest = valid_up_to;
            memory_bytes += memory_bytes / 4 + 1_000;
            rounds += 1;
        };
        assert!(rounds > 1, "seed {seed}: the memory was never too little");
        assert_eq!(&answer, whole, "seed {seed}");
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let options = Options { operations: 5_000, keys: 20, anomaly: Some(Anomaly::StaleRead), ..Options::default() };
    let history = registers(Seed(1), &options).history;
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can be made");
        pool.install(|| engine::check(&history, &Budget::default(), true))
    };
    assert_eq!(with(1), with(4));
}

#[test]
fn the_verifier_refuses_what_is_no_order() {
    let op = |action, invoked, returned| Operation { key: 0, action, invoked, returned };
    let operations = vec![op(Action::Write(1), 0, 1), op(Action::Read(1), 2, 3), op(Action::Write(2), 4, PENDING)];
    let history = History { operations, keys: 1, initial: 0 };
    assert_eq!(verify(&history, 0, &[0, 1]), Ok(()));
    assert_eq!(verify(&history, 0, &[0, 1, 2]), Ok(()));
    assert_eq!(verify(&history, 0, &[0]), Err(Flaw::Missing(1)));
    assert_eq!(verify(&history, 0, &[0, 0, 1]), Err(Flaw::Stray(0)));
    assert_eq!(verify(&history, 0, &[0, 1, 7]), Err(Flaw::Stray(7)));
    assert_eq!(verify(&history, 0, &[1, 0]), Err(Flaw::Result(1)));
    assert_eq!(verify(&history, 0, &[2, 0, 1]), Err(Flaw::Late(0)));
}

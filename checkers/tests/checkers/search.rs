//! The search against two naive ones, on many tiny histories, valid and corrupted.

use duress_checkers::models::forward;
use duress_checkers::register::{Register, RegisterOp, RegisterRet};
use duress_checkers::wgl::{Entry, Limit, Outcome, search};
use duress_checkers::{Budget, Judge, Run, Settings, Verdict, linearizable::Linearizable};
use duress_history::{Completion, Event, EventKind, Invocation, Outcome as Ended, Process, Time, Value};
use duress_seed::Seed;
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

type RegisterEntry = Entry<RegisterOp<u8>, RegisterRet<u8>>;

/// One operation of a tiny history: who, what, and when it was invoked and returned.
#[derive(Clone, Debug)]
struct Tiny {
    process: u64,
    entry: RegisterEntry,
}

/// A history that a real register could have had, by letting each operation take effect at some
/// moment between its invocation and its return; then, for odd seeds, with one result changed.
fn tiny(seed: Seed) -> Vec<Tiny> {
    let decide = |key: &[u64]| seed.decide(key);
    let processes = 2 + decide(&[0]).below(3);
    let per_process = 1 + decide(&[1]).below(3);
    // (moment, tie-breaker)
    let mut found: Vec<(Tiny, u64)> = Vec::new();
    for process in 0..processes {
        let mut now = decide(&[2, process]).below(20);
        for n in 0..per_process {
            let draw = |what: u64| decide(&[3, process, n, what]);
            let invoked = now * 16 + process * 2;
            let length = 1 + draw(0).below(25);
            let effect = invoked + draw(1).below(length * 16);
            now += length + 1;
            let returned = (invoked + length * 16) | 1;
            let value = |what: u64| draw(what).below(3) as u8;
            let op = match draw(2).below(4) {
                0 | 1 => RegisterOp::Read,
                2 => RegisterOp::Write(value(4)),
                _ => RegisterOp::Cas { from: value(5), to: value(6) },
            };
            // Placeholder result, replaced below.
            let entry = Entry { op, invoked, returned: Some((returned, RegisterRet::Done)), passive: false };
            found.push((Tiny { process, entry }, effect));
            if draw(7).chance(0.2) {
                let last = found.last_mut().unwrap();
                last.0.entry.returned = None;
                // Perhaps it never happens at all.
                last.1 = if draw(8).chance(0.4) { u64::MAX } else { last.1 + draw(9).below(400) };
                break;
            }
        }
    }
    let mut order: Vec<usize> = (0..found.len()).filter(|i| found[*i].1 != u64::MAX).collect();
    order.sort_by_key(|i| (found[*i].1, *i));
    let mut register = Register(0);
    for i in order {
        let entry = &mut found[i].0.entry;
        let ret = register.invoke(&entry.op);
        if let Some(returned) = &mut entry.returned {
            entry.passive = entry.op == RegisterOp::Read || ret == RegisterRet::Mismatch;
            returned.1 = ret;
        }
    }
    let mut history: Vec<Tiny> = found.into_iter().map(|(tiny, _)| tiny).collect();
    if seed.0 % 2 == 1 {
        let victim = decide(&[4]).below(history.len() as u64) as usize;
        if let Some((_, RegisterRet::Value(v))) = &mut history[victim].entry.returned {
            *v = (*v + 1) % 3;
        }
    }
    history
}

/// Tries every order of every subset that has all operations that returned.
fn brute_force(entries: &[&RegisterEntry], state: &Register<u8>, left: u32) -> bool {
    let all = || (0..entries.len()).filter(|i| left & (1 << i) != 0);
    if all().all(|i| entries[i].returned.is_none()) {
        return true;
    }
    all().any(|i| {
        let first = !all().any(|j| entries[j].returned.as_ref().is_some_and(|(end, _)| *end < entries[i].invoked));
        let mut state = state.clone();
        let ret = state.invoke(&entries[i].op);
        let fits = entries[i].returned.as_ref().is_none_or(|(_, expected)| *expected == ret);
        first && fits && brute_force(entries, &state, left & !(1 << i))
    })
}

fn stateright(history: &[Tiny]) -> bool {
    let mut tester = LinearizabilityTester::new(Register(0u8));
    let mut events: Vec<(u64, &Tiny, bool)> = Vec::new();
    for tiny in history {
        events.push((tiny.entry.invoked, tiny, false));
        if let Some((at, _)) = tiny.entry.returned {
            events.push((at, tiny, true));
        }
    }
    events.sort_by_key(|(at, tiny, returns)| (*at, *returns, tiny.process));
    for (_, tiny, returns) in events {
        if !returns {
            tester.on_invoke(tiny.process, tiny.entry.op.clone()).expect("one at a time");
        } else if let Some((_, ret)) = &tiny.entry.returned {
            tester.on_return(tiny.process, ret.clone()).expect("it was invoked");
        }
    }
    tester.is_consistent()
}

/// The same history as events, as the checker takes it. A cas that didn't match is `fail` there.
fn events(history: &[Tiny]) -> Vec<Event> {
    let value = |v: u8| if v == 0 { Value::Nil } else { Value::Int(v.into()) };
    let mut events = Vec::new();
    for tiny in history {
        let process = Process(tiny.process);
        let op = match &tiny.entry.op {
            RegisterOp::Read => RegisterOp::Read.on("x"),
            RegisterOp::Write(v) => RegisterOp::Write(value(*v)).on("x"),
            RegisterOp::Cas { from, to } => RegisterOp::Cas { from: value(*from), to: value(*to) }.on("x"),
        };
        let invocation = Invocation { process, client: None, op: op.clone() };
        events.push(Event { time: Time(tiny.entry.invoked), kind: EventKind::Invoke(invocation) });
        if let Some((at, ret)) = &tiny.entry.returned {
            let (outcome, result) = match ret {
                RegisterRet::Done => (Ended::Ok, Value::Nil),
                RegisterRet::Value(v) => (Ended::Ok, value(*v)),
                RegisterRet::Mismatch => (Ended::Fail, Value::Nil),
            };
            let completion = Completion { process, outcome, op, result, error: None, node: None, term: None };
            events.push(Event { time: Time(*at), kind: EventKind::Complete(completion) });
        }
    }
    // Invocations at even moments, returns at odd ones; at the same moment both are concurrent.
    events.sort_by_key(|event| event.time);
    events
}

/// Whether an order explains every result and agrees with real time.
fn assert_order(entries: &[RegisterEntry], order: &[usize]) {
    let mut state = Register(0);
    for (place, i) in order.iter().enumerate() {
        let ret = state.invoke(&entries[*i].op);
        assert!(entries[*i].returned.as_ref().is_none_or(|(_, expected)| *expected == ret), "{entries:?} {order:?}");
        for later in &order[place + 1..] {
            let before = entries[*later].returned.as_ref().is_some_and(|(end, _)| *end < entries[*i].invoked);
            assert!(!before, "{later} returned before {i} was invoked: {entries:?} {order:?}");
        }
    }
    let missing = (0..entries.len()).find(|i| entries[*i].returned.is_some() && !order.contains(i));
    assert_eq!(missing, None, "{entries:?} {order:?}");
}

#[test]
fn the_search_agrees_with_two_naive_ones() {
    let mut invalid = 0;
    let mut indeterminate = 0;
    for seed in 0..6_000 {
        let history = tiny(Seed(seed));
        let entries: Vec<RegisterEntry> = history.iter().map(|tiny| tiny.entry.clone()).collect();
        indeterminate += u32::from(entries.iter().any(|entry| entry.returned.is_none()));
        let refs: Vec<&RegisterEntry> = entries.iter().collect();
        let expected = brute_force(&refs, &Register(0), (1 << refs.len()) - 1);
        assert_eq!(stateright(&history), expected, "seed {seed}: the oracles differ on {history:?}");
        if seed % 2 == 0 {
            assert!(expected, "seed {seed}: an uncorrupted history has an order: {history:?}");
        }
        match search(Register(0u8), &entries, &Budget::default()) {
            Outcome::Linearizable { order } => {
                assert!(expected, "seed {seed}: {history:?}");
                assert_order(&entries, &order);
            }
            Outcome::NotLinearizable { stuck } => {
                assert!(!expected, "seed {seed}: {history:?}");
                assert_stuck(&entries, stuck);
            }
            other => panic!("seed {seed}: {other:?}"),
        }
        match forward::search(Register(0u8), &entries, &Budget::default()) {
            Some(Outcome::Linearizable { .. }) => assert!(expected, "seed {seed}: {history:?}"),
            Some(Outcome::NotLinearizable { stuck }) => {
                assert!(!expected, "seed {seed}: {history:?}");
                assert_stuck(&entries, stuck);
            }
            other => panic!("seed {seed}: {other:?}"),
        }
        invalid += u32::from(!expected);

        // And the checker: without the cas that didn't match, which prove nothing to it.
        let known: Vec<&RegisterEntry> =
            entries.iter().filter(|entry| !matches!(entry.returned, Some((_, RegisterRet::Mismatch)))).collect();
        let expected = brute_force(&known, &Register(0), (1 << known.len()) - 1);
        let events = events(&history);
        let run = Run::new(&events, false).expect("well formed");
        let settings = Settings { certify: true, ..Settings::default() };
        let report = Linearizable::default().judge(&run, &settings);
        assert_eq!(report.verdict == Verdict::Invalid, !expected, "seed {seed}: {report:?} {history:?}");
    }
    assert!(invalid > 800 && indeterminate > 2_000, "{invalid} invalid, {indeterminate} with indeterminate operations");
}

/// Up to the return of `stuck`, and with what is in progress then never having to happen, there is
/// no order; up to just before it there is one.
fn assert_stuck(entries: &[RegisterEntry], stuck: usize) {
    let (end, _) = entries[stuck].returned.clone().expect("it returned");
    let cut = |last: u64| -> Vec<RegisterEntry> {
        entries
            .iter()
            .filter(|entry| entry.invoked < end)
            .map(|entry| {
                let mut entry = entry.clone();
                entry.returned = entry.returned.filter(|(at, _)| *at <= last);
                entry
            })
            // What is in progress and was to change nothing may be left out.
            .filter(|entry| entry.returned.is_some() || !(entry.passive || entry.op == RegisterOp::Read))
            .collect()
    };
    for (last, expected) in [(end, false), (end - 1, true)] {
        let entries = cut(last);
        let refs: Vec<&RegisterEntry> = entries.iter().collect();
        assert_eq!(brute_force(&refs, &Register(0), (1 << refs.len()) - 1), expected, "{last}: {entries:?}");
    }
}

/// Writes at once of which nobody can tell the order, then a read of a value never written: the
/// search has to visit every subset.
fn hard(writes: u64) -> Vec<RegisterEntry> {
    let write = |i: u64| Entry {
        op: RegisterOp::Write(i as u8),
        invoked: i,
        returned: Some((1000 + i, RegisterRet::Done)),
        passive: false,
    };
    let mut entries: Vec<RegisterEntry> = (1..=writes).map(write).collect();
    entries.insert(
        0,
        Entry { op: RegisterOp::Read, invoked: 0, returned: Some((0, RegisterRet::Value(0))), passive: true },
    );
    entries.push(Entry {
        op: RegisterOp::Read,
        invoked: 500,
        returned: Some((600, RegisterRet::Value(255))),
        passive: true,
    });
    entries
}

#[test]
fn running_out_of_memory_is_unknown_with_the_part_that_is_valid() {
    let budget = Budget { memory_bytes: 10_000, ..Budget::default() };
    let outcome = search(Register(0u8), &hard(16), &budget);
    assert_eq!(outcome, Outcome::Unknown { valid_up_to: 1, limit: Limit::Memory });
}

#[test]
fn the_forward_search_keeps_its_budget() {
    let small = Budget { memory_bytes: 10_000, ..Budget::default() };
    let limit = Limit::Memory;
    assert_eq!(forward::search(Register(0u8), &hard(16), &small), Some(Outcome::Unknown { valid_up_to: 1, limit }));
    let none = Budget { time: std::time::Duration::ZERO, ..Budget::default() };
    let limit = Limit::Time;
    assert_eq!(forward::search(Register(0u8), &hard(16), &none), Some(Outcome::Unknown { valid_up_to: 1, limit }));
}

#[test]
fn running_out_of_time_is_unknown() {
    let budget = Budget { time: std::time::Duration::ZERO, ..Budget::default() };
    let outcome = search(Register(0u8), &hard(16), &budget);
    assert_eq!(outcome, Outcome::Unknown { valid_up_to: 1, limit: Limit::Time });
}

#[test]
fn no_operations_have_an_order() {
    assert_eq!(search(Register(0u8), &[], &Budget::default()), Outcome::Linearizable { order: vec![] });
}

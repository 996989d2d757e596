//! The engine on growing histories: after every event it says what the naive search says of the
//! history so far, and it needs no more memory the longer the history.

use duress_checkers::Budget;
use duress_checkers::engine::online::{Online, State, Violation};
use duress_checkers::engine::{Action, History, Operation, PENDING};
use duress_checkers::generate::{Anomaly, Options, registers};
use duress_checkers::register::RegisterOp;
use duress_seed::Seed;

/// How an operation without a return ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// It doesn't.
    Never,
    /// Nobody knows, from this event on.
    Info(u32),
    /// It failed, at this event.
    Fail(u32),
}

fn asked(action: Action) -> Option<RegisterOp<u32>> {
    match action {
        Action::Read(_) => Some(RegisterOp::Read),
        Action::Write(to) => Some(RegisterOp::Write(to)),
        Action::Cas { from, to } => Some(RegisterOp::Cas { from, to }),
        Action::Differs(_) => None,
    }
}

fn seen(action: Action) -> Option<u32> {
    match action {
        Action::Read(value) => Some(value),
        _ => None,
    }
}

/// Whether what of a history counts up to an event has an order.
fn is_possible_until(history: &History, ends: &[End], now: u32) -> bool {
    let alive = history.operations.iter().zip(ends).filter(|(_, end)| !matches!(end, End::Fail(at) if *at <= now));
    let operations = alive.map(|(operation, _)| *operation).collect();
    super::is_possible(&super::until(&History { operations, ..*history }, now))
}

#[test]
fn every_prefix_is_judged_as_the_naive_search_does() {
    let mut violations = 0;
    for seed in 0..super::histories() / 4 {
        let mut history = super::tiny(Seed(seed));
        history.operations.retain(|operation| !matches!(operation.action, Action::Differs(_)));
        let draw = |what, n: usize, below| Seed(seed).decide(&[what, n as u64]).below(below) as u32;
        let mut ends = Vec::new();
        // (place, operation, its end)
        let mut events: Vec<(u32, usize, bool)> = Vec::new();
        for (n, operation) in history.operations.iter_mut().enumerate() {
            // Room for ends between the places.
            operation.invoked *= 16;
            let later = operation.invoked + 1 + draw(100, n, 80) / 16 * 16 + n as u32;
            let end = match draw(101, n, 3) {
                0 => End::Never,
                1 => End::Info(later),
                _ => End::Fail(later),
            };
            ends.push(if operation.returned == PENDING { end } else { End::Never });
            events.push((operation.invoked, n, false));
            if operation.returned != PENDING {
                operation.returned *= 16;
                events.push((operation.returned, n, true));
            } else if let End::Info(at) | End::Fail(at) = end {
                events.push((at, n, true));
            }
        }
        events.sort_unstable();
        let mut online = Online::new(0, Budget::default());
        let mut violated = None;
        for (place, n, is_end) in events {
            let Operation { action, returned, .. } = history.operations[n];
            let found = match (is_end, ends[n]) {
                (false, _) => {
                    online.invoke(n as u64, 0, asked(action).expect("the others were left out"));
                    None
                }
                (true, End::Info(_)) => {
                    online.info(n as u64);
                    None
                }
                (true, End::Fail(_)) => online.fail(n as u64),
                (true, End::Never) => {
                    assert_ne!(returned, PENDING);
                    online.ok(n as u64, seen(action))
                }
            };
            violated = violated.or(found);
            let expected = is_possible_until(&history, &ends, place);
            assert_eq!(violated.is_none(), expected, "seed {seed} at {place}: {ends:?} {history:#?}");
            let state = violated.map_or(State::Valid, State::Invalid);
            assert_eq!(online.state(0), state, "seed {seed} at {place}: {ends:?} {history:#?}");
        }
        violations += u64::from(violated.is_some());
    }
    assert!(violations > super::histories() / 40 && violations < super::histories() / 5, "{violations}");
}

/// Feeds a generated history. The first violation, and the most bytes that were in use.
fn feed(history: &History) -> (Option<Violation>, usize, Online) {
    let mut events: Vec<(u32, usize)> = Vec::new();
    for (n, operation) in history.operations.iter().enumerate() {
        events.push((operation.invoked, n));
        events.extend(Some((operation.returned, n)).filter(|_| operation.returned != PENDING));
    }
    events.sort_unstable();
    let mut online = Online::new(0, Budget::default());
    let (mut violation, mut most) = (None, 0);
    for (at, (place, n)) in events.into_iter().enumerate() {
        let Operation { key, action, invoked, returned } = history.operations[n];
        if place == invoked {
            online.invoke(n as u64, key, asked(action).expect("none are generated that differ"));
            if returned == PENDING {
                online.info(n as u64);
            }
        } else {
            violation = violation.or(online.ok(n as u64, seen(action)));
        }
        if at % 1000 == 0 {
            most = most.max(online.bytes());
        }
    }
    (violation, most, online)
}

#[test]
fn memory_depends_on_what_is_in_progress() {
    for values in [None, Some(5)] {
        let most = [20_000, 200_000].map(|operations| {
            let options = Options { operations, values, keys: 3, clients: 8, ..Options::default() };
            let (violation, most, online) = feed(&registers(Seed(7), &options).history);
            assert_eq!((violation, online.undecided().count(), online.unjudged()), (None, 0, 0), "{values:?}");
            most
        });
        assert!(most[1] < 1 << 20 && most[1] < most[0] * 2, "{values:?}: {most:?} bytes");
    }
}

#[test]
fn the_first_violation_is_told_when_it_happens() {
    for seed in 0..50 {
        let anomaly = Some(Anomaly::StaleRead);
        let options = Options { values: None, cas: 0.0, keys: 4, operations: 2_000, anomaly, ..Options::default() };
        let generated = registers(Seed(seed), &options);
        let Some(planted) = generated.planted else { continue };
        let (violation, _, online) = feed(&generated.history);
        let expected = Violation { key: generated.history.operations[planted].key, operation: planted as u64 };
        assert_eq!(violation, Some(expected), "seed {seed}");
        assert_eq!(online.state(expected.key), State::Invalid(expected), "seed {seed}");
    }
}

#[test]
fn what_is_too_wide_is_undecided_and_what_is_retired_forgotten() {
    let mut online = Online::new(0, Budget { memory_bytes: 100_000, ..Budget::default() });
    for process in 0..300 {
        online.invoke(process, 1, RegisterOp::Write(process as u32 % 4));
    }
    assert_eq!(online.state(1), State::Undecided);
    assert_eq!(online.undecided().collect::<Vec<_>>(), [1]);
    online.retire(1);
    assert_eq!(online.state(1), State::Valid);
}

#[test]
fn a_read_that_goes_on_while_very_much_happens_is_not_judged() {
    let mut online = Online::new(0, Budget::default());
    online.invoke(1_000, 2, RegisterOp::Read);
    for n in 0..20_000 {
        online.invoke(1_001, 2, RegisterOp::Write(n));
        assert_eq!(online.ok(1_001, None), None);
    }
    assert_eq!(online.ok(1_000, Some(u32::MAX)), None);
    assert_eq!(online.unjudged(), 1);
}

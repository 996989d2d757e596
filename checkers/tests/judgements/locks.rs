//! Semaphores, read/write locks, fairness.

use duress_checkers::Verdict;
use duress_history::Outcome;
use duress_history::formats::{Function, Imported, Value};

use super::draw::{Asked, Draws, HISTORIES, Tally, draws, end, figure, history, judge, judge_with};

/// Processes that acquire and release in turn, often side by side.
fn locks(draws: &Draws, operations: u64, value: impl Fn(u64) -> Value) -> Imported {
    let mut holds = std::collections::BTreeMap::new();
    history(draws, operations, 3, |n, process| {
        let holds = holds.entry(process).or_insert(false);
        let outcome = match draws.below(&[3, n], 12) {
            0 => Outcome::Info,
            1 => Outcome::Fail,
            _ => Outcome::Ok,
        };
        let name = if *holds { "release" } else { "acquire" };
        *holds ^= outcome != Outcome::Fail;
        Asked::new(name, value(n), outcome, Value::Nil)
    })
}

/// What is surely held: (acquire, from, to).
fn held(history: &Imported) -> Vec<(usize, u64, u64)> {
    let ok = |at: &usize| {
        let o = &history.operations[*at];
        o.op.f == Function::Acquire && o.outcome == Outcome::Ok
    };
    let until = |at: usize| {
        let mine = |o: &&duress_history::formats::Operation| o.process == history.operations[at].process;
        let release = history.operations[at..]
            .iter()
            .filter(mine)
            .find(|o| o.op.f == Function::Release && o.outcome != Outcome::Fail);
        release.map_or(u64::MAX, |o| o.invoked.index)
    };
    (0..history.operations.len()).filter(ok).map(|at| (at, end(&history.operations[at]), until(at))).collect()
}

#[test]
fn semaphores_count_permits() {
    let mut tally = Tally::default();
    for n in 0..HISTORIES {
        let draws = draws(40, n);
        let permits = |n| match draws.below(&[4, n], 3) {
            0 => Value::Nil,
            many => Value::Int(many as i64),
        };
        let history = locks(&draws, 4 + draws.below(&[0], 8), permits);
        let held = held(&history);
        if held.is_empty() {
            continue;
        }
        let count = |at: usize| history.operations[at].op.value.as_int().unwrap_or(1) as u64;
        let at_once = |place: u64| {
            held.iter().filter(|(_, from, to)| *from <= place && place < *to).map(|(at, ..)| count(*at)).sum::<u64>()
        };
        let most = held.iter().map(|(_, from, _)| at_once(*from)).max().unwrap();
        let unlimited = judge("semaphore", &history);
        assert_eq!(unlimited.verdict, Verdict::Unknown);
        assert_eq!(figure(&unlimited, "most_held"), most, "{n}: {unlimited:?}");
        let report = judge_with("semaphore", &history, Some(3));
        assert_eq!(report.verdict == Verdict::Invalid, most > 3, "{n}: {report:?}");
        tally.note(report.verdict);
    }
    tally.both();
}

#[test]
fn writers_hold_alone() {
    let mut tally = Tally::default();
    for n in 0..HISTORIES {
        let draws = draws(41, n);
        let mode = |n| Value::Keyword(if draws.below(&[4, n], 4) > 0 { "read" } else { "write" }.into());
        let history = locks(&draws, 3 + draws.below(&[0], 6), mode);
        let held = held(&history);
        if held.is_empty() {
            continue;
        }
        let writes = |at: usize| history.operations[at].op.value == Value::Keyword("write".into());
        let wrong = held
            .iter()
            .any(|a| held.iter().any(|b| a.0 < b.0 && a.1 < b.2 && b.1 < a.2 && (writes(a.0) || writes(b.0))));
        let report = judge("rw-lock", &history);
        assert_eq!(report.verdict == Verdict::Invalid, wrong, "{n}: {report:?}");
        tally.note(report.verdict);
    }
    tally.both();
}

#[test]
fn bypasses_are_pairs_of_requests() {
    let (mut tally, mut starved) = (Tally::default(), 0);
    for n in 0..HISTORIES {
        let draws = draws(42, n);
        let history = locks(&draws, 2 + draws.below(&[0], 5), |_| Value::Nil);
        let held = held(&history);
        if held.is_empty() {
            continue;
        }
        let asked = |at: usize| history.operations[at].invoked.index;
        let by = |a: &(usize, u64, u64)| held.iter().filter(|b| asked(b.0) > asked(a.0) && b.1 < a.1).count() as u64;
        let overlap = held.iter().any(|a| held.iter().any(|b| a.0 < b.0 && a.1 < b.2 && b.1 < a.2));
        let report = judge("mutex-fair", &history);
        assert_eq!(figure(&report, "bypassed"), held.iter().filter(|a| by(a) > 0).count() as u64, "{n}: {report:?}");
        assert_eq!(figure(&report, "most_bypasses"), held.iter().map(by).max().unwrap());
        assert_eq!(report.verdict == Verdict::Invalid, overlap || held.iter().any(|a| by(a) > 0), "{n}: {report:?}");
        let waits = |o: &&duress_history::formats::Operation| {
            o.op.f == Function::Acquire && o.completed.is_none() && held.iter().any(|b| asked(b.0) > o.invoked.index)
        };
        assert_eq!(figure(&report, "starved"), history.operations.iter().filter(waits).count() as u64);
        starved += u64::from(figure(&report, "starved") > 0);
        tally.note(report.verdict);
    }
    tally.both();
    assert!(starved > 50, "{starved}");
}

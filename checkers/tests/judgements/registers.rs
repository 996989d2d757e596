//! Registers: sequential, causal, sessions, staleness.

use duress_checkers::Verdict;
use duress_history::Outcome;
use duress_history::formats::{Function, Imported, Value};

use super::draw::{Asked, Draws, HISTORIES, Tally, draws, end, figure, history, judge};

/// One operation that happened.
#[derive(Clone, Copy, Debug)]
struct Did {
    operation: usize,
    process: u64,
    key: i64,
    read: Option<i64>,
    write: Option<i64>,
}

/// A few processes that read and write; values are written once, reads give anything that some
/// operation writes, or nothing.
fn registers(draws: &Draws, operations: u64, keys: u64, cas: bool) -> Imported {
    let processes = 2 + draws.below(&[1], 2);
    let kind = |n| if cas && draws.below(&[2, n], 6) == 0 { 2 } else { draws.below(&[3, n], 2) };
    let key = |n| draws.below(&[4, n], keys) as i64;
    // Of the same key, and mostly not far away, so that some histories are consistent.
    let value = |n: u64| {
        let writes: Vec<i64> =
            (0..operations).filter(|m| kind(*m) != 0 && key(*m) == key(n) && *m != n).map(|m| m as i64 + 1).collect();
        let near: Vec<i64> = writes.iter().copied().filter(|w| (*w - n as i64).abs() <= 2).collect();
        let from = if near.is_empty() || draws.below(&[5, n], 4) == 0 { writes } else { near };
        match draws.below(&[6, n], from.len() as u64 * 2 + 1) {
            0 => Value::Nil,
            pick => Value::Int(from[(pick as usize - 1) / 2]),
        }
    };
    history(draws, operations, processes, |n, _| {
        let outcome = match draws.below(&[7, n], 10) {
            0 => Outcome::Info,
            1 if kind(n) == 0 => Outcome::Fail,
            _ => Outcome::Ok,
        };
        let to = Value::Int(n as i64 + 1);
        match kind(n) {
            0 => Asked::new("read", Value::Nil, outcome, value(n)),
            1 => Asked::new("write", to.clone(), outcome, to),
            _ => {
                let pair = Value::Vector(vec![value(n), to]);
                Asked::new("cas", pair.clone(), outcome, pair)
            }
        }
        .of(key(n))
    })
}

/// What surely happened, and each choice of what else did.
fn did(history: &Imported) -> Vec<Did> {
    let one = |(at, o): (usize, &duress_history::formats::Operation)| {
        let (read, write) = match o.op.f {
            Function::Read => (Some(o.result.as_ref()?.as_int().unwrap_or(0)), None),
            Function::Write => (None, o.op.value.as_int()),
            _ => match o.op.value.as_sequence() {
                Some([from, to]) => (Some(from.as_int().unwrap_or(0)), to.as_int()),
                _ => panic!("a cas without a pair"),
            },
        };
        let key = o.op.key.as_ref().and_then(Value::as_int).unwrap_or(0);
        Some(Did { operation: at, process: o.process.0, key, read, write })
    };
    let all: Vec<Did> =
        history.operations.iter().enumerate().filter(|(_, o)| o.outcome != Outcome::Fail).filter_map(one).collect();
    // An uncertain operation counts if what it wrote was read by something that counts.
    let mut counts: Vec<bool> = all.iter().map(|d| history.operations[d.operation].outcome == Outcome::Ok).collect();
    for _ in 0..all.len() {
        for at in 0..all.len() {
            let read = |b: &Did| b.key == all[at].key && b.read.is_some() && b.read == all[at].write;
            counts[at] |= (0..all.len()).any(|by| counts[by] && read(&all[by]));
        }
    }
    all.into_iter().zip(counts).filter(|(_, counts)| *counts).map(|(did, _)| did).collect()
}

fn source(all: &[Did], read: usize) -> Option<usize> {
    (0..all.len()).find(|w| all[*w].key == all[read].key && all[*w].write.is_some() && all[*w].write == all[read].read)
}

fn thin_air(all: &[Did]) -> bool {
    (0..all.len()).any(|at| all[at].read.is_some_and(|value| value != 0) && source(all, at).is_none())
}

/// Whether an order of all exists that agrees with each process and each read: every one tried.
fn sequential(all: &[Did], placed: &mut Vec<usize>) -> bool {
    if placed.len() == all.len() {
        return true;
    }
    for at in 0..all.len() {
        let mine = |b: &usize| all[*b].process == all[at].process;
        if placed.contains(&at) || (0..at).any(|before| mine(&before) && !placed.contains(&before)) {
            continue;
        }
        let last = placed.iter().rev().find(|b| all[**b].key == all[at].key && all[**b].write.is_some());
        let holds = last.map_or(0, |b| all[*b].write.unwrap());
        if all[at].read.is_some_and(|value| value != holds) {
            continue;
        }
        placed.push(at);
        if sequential(all, placed) {
            return true;
        }
        placed.pop();
    }
    false
}

fn of_key(all: &[Did], key: i64) -> Vec<Did> {
    all.iter().copied().filter(|did| did.key == key).collect()
}

#[test]
fn sequential_is_an_order_of_all() {
    let [mut together, mut apart] = [Tally::default(), Tally::default()];
    for n in 0..HISTORIES {
        let draws = draws(1, n);
        let history = registers(&draws, 4 + draws.below(&[0], 5), 1 + draws.below(&[8], 2), n % 2 == 0);
        let all = did(&history);
        if all.iter().all(|did| did.read.is_none()) {
            continue;
        }
        let report = judge("sequential", &history);
        assert_eq!(report.verdict == Verdict::Valid, sequential(&all, &mut Vec::new()), "{n}: {report:?}\n{all:?}");
        assert_ne!(report.verdict, Verdict::Unknown);
        if report.verdict == Verdict::Invalid && !report.core.is_empty() {
            let core: Vec<Did> = all.iter().copied().filter(|did| report.core.contains(&did.operation)).collect();
            assert!(!sequential(&core, &mut Vec::new()), "{n}: {report:?}\n{all:?}");
        }
        together.note(report.verdict);
        let report = judge("sequential-per-key", &history);
        let each = [0, 1].iter().all(|key| sequential(&of_key(&all, *key), &mut Vec::new()));
        assert_eq!(report.verdict == Verdict::Valid, each, "{n}: {report:?}\n{all:?}");
        apart.note(report.verdict);
    }
    together.both();
    apart.both();
}

/// What comes before what: a matrix, closed.
fn closed(n: usize, edges: impl Iterator<Item = (usize, usize)>) -> Vec<Vec<bool>> {
    let mut before = vec![vec![false; n]; n];
    for (a, b) in edges {
        before[a][b] = true;
    }
    for via in 0..n {
        for a in 0..n {
            for b in 0..n {
                before[a][b] |= before[a][via] && before[via][b];
            }
        }
    }
    before
}

/// The four patterns, as they are defined.
fn causal(all: &[Did]) -> bool {
    let n = all.len();
    let pairs = (0..n).flat_map(|a| (0..n).map(move |b| (a, b)));
    let co = closed(
        n,
        pairs.filter(|(a, b)| {
            a < b && all[*a].process == all[*b].process || all[*b].read.is_some() && source(all, *b) == Some(*a)
        }),
    );
    let writes = |at: usize, key| all[at].key == key && all[at].write.is_some();
    !thin_air(all)
        && (0..n).all(|at| !co[at][at])
        && (0..n).filter(|read| all[*read].read.is_some()).all(|read| {
            (0..n)
                .filter(|between| writes(*between, all[read].key) && co[*between][read])
                .all(|between| source(all, read).is_some_and(|source| !co[source][between]))
        })
}

#[test]
fn causal_is_the_absence_of_four_patterns() {
    let [mut together, mut apart] = [Tally::default(), Tally::default()];
    for n in 0..HISTORIES {
        let draws = draws(2, n);
        let history = registers(&draws, 5 + draws.below(&[0], 8), 1 + draws.below(&[8], 3), n % 2 == 0);
        let all = did(&history);
        if all.iter().all(|did| did.read.is_none()) {
            continue;
        }
        let report = judge("causal", &history);
        assert_eq!(report.verdict == Verdict::Valid, causal(&all), "{n}: {report:?}\n{all:?}");
        together.note(report.verdict);
        let report = judge("causal-per-key", &history);
        assert_eq!(report.verdict == Verdict::Valid, (0..3).all(|key| causal(&of_key(&all, key))), "{n}: {report:?}");
        apart.note(report.verdict);
    }
    together.both();
    apart.both();
}

/// What sequential consistency allows, causal consistency and all session guarantees allow.
#[test]
fn what_is_stronger_allows_less() {
    let mut strict = 0;
    for n in 0..HISTORIES {
        let draws = draws(3, n);
        let history = registers(&draws, 4 + draws.below(&[0], 7), 1 + draws.below(&[8], 2), true);
        if judge("sequential", &history).verdict == Verdict::Valid {
            strict += 1;
            for weaker in ["causal", "causal-per-key", "sequential-per-key", "session"] {
                assert_eq!(judge(weaker, &history).verdict, Verdict::Valid, "{n}: {weaker}");
            }
        }
    }
    assert!(strict > 100, "{strict}");
}

/// The statements of guarantees about versions of a register, one per pair of operations of a
/// session: (the guarantee, earlier, later). Versions are places in `all`; what was there at first
/// is one more.
fn statements(all: &[Did]) -> Vec<(&'static str, usize, usize)> {
    let shown = |at: usize| source(all, at).unwrap_or(all.len());
    let mut statements = Vec::new();
    for b in 0..all.len() {
        for a in 0..=b {
            if all[a].process != all[b].process {
                continue;
            }
            let (wrote, read) = (all[a].write.is_some(), all[a].read.is_some());
            if a < b && wrote && all[b].read.is_some() {
                statements.push(("read-your-writes", a, shown(b)));
            }
            if a < b && read && all[b].read.is_some() {
                statements.push(("monotonic-reads", shown(a), shown(b)));
            }
            if a < b && wrote && all[b].write.is_some() {
                statements.push(("monotonic-writes", a, b));
            }
            if read && all[b].write.is_some() {
                statements.push(("writes-follow-reads", shown(a), b));
            }
        }
    }
    // What was there at first is first anyway.
    statements.retain(|(_, a, b)| a != b && *a != all.len());
    statements
}

#[test]
fn session_guarantees_are_orders_of_versions() {
    let given = [
        ("read-your-writes", "monotonic-writes"),
        ("monotonic-reads", "monotonic-writes"),
        ("monotonic-writes", "monotonic-reads"),
        ("writes-follow-reads", "monotonic-reads"),
        ("session", ""),
    ];
    let mut tallies = [(); 5].map(|()| Tally::default());
    for n in 0..HISTORIES * 2 {
        let draws = draws(4, n);
        let history = registers(&draws, 5 + draws.below(&[0], 6), 1, n % 2 == 0);
        let all = did(&history);
        if all.iter().all(|did| did.read.is_none()) || thin_air(&all) {
            continue;
        }
        let first = all.len();
        let firsts = (0..all.len()).filter(|at| all[*at].write.is_some()).map(|at| (first, at));
        let said = statements(&all);
        for ((judged, given), tally) in given.iter().zip(&mut tallies) {
            let is = |name| judged == name || given == name || *judged == "session";
            let edges = said.iter().filter(|(name, ..)| is(name)).map(|(_, a, b)| (*a, *b)).chain(firsts.clone());
            let after = closed(first + 1, edges);
            let counts = |name: &str| *judged == name || *judged == "session";
            let broken = said.iter().any(|(name, a, b)| counts(name) && after[*b][*a]);
            let report = judge(judged, &history);
            assert_eq!(report.verdict == Verdict::Invalid, broken, "{n}: {report:?}\n{all:?}");
            tally.note(report.verdict);
        }
    }
    tallies.iter().for_each(Tally::both);
}

/// Whether every read can show one of the last k values in some order that agrees with real time.
fn k_atomic(history: &Imported, all: &[Did], k: usize, placed: &mut Vec<usize>) -> bool {
    if placed.len() == all.len() {
        return true;
    }
    let op = |at: usize| &history.operations[all[at].operation];
    let over = |at: usize| if op(at).outcome == Outcome::Ok { end(op(at)) } else { u64::MAX };
    (0..all.len()).any(|at| {
        let blocked = |other: usize| !placed.contains(&other) && over(other) < op(at).invoked.index;
        if placed.contains(&at) || (0..all.len()).any(blocked) {
            return false;
        }
        if let Some(value) = all[at].read {
            let mut last: Vec<i64> = placed.iter().filter_map(|b| all[*b].write).collect();
            last.insert(0, 0);
            if !last.iter().rev().take(k).any(|shown| *shown == value) {
                return false;
            }
        }
        placed.push(at);
        let found = k_atomic(history, all, k, placed);
        if !found {
            placed.pop();
        }
        found
    })
}

#[test]
fn staleness_is_what_surely_came_between() {
    let (mut exact, mut stale, mut early) = (0, 0, 0);
    for n in 0..HISTORIES {
        let draws = draws(5, n);
        let history = registers(&draws, 3 + draws.below(&[0], 5), 1, false);
        let all = did(&history);
        if all.iter().all(|did| did.read.is_none()) || thin_air(&all) {
            continue;
        }
        let report = judge("staleness", &history);
        let op = |at: usize| &history.operations[all[at].operation];
        let over = |at: usize| if op(at).outcome == Outcome::Ok { end(op(at)) } else { u64::MAX };
        let reads = || (0..all.len()).filter(|at| all[*at].read.is_some());
        if reads().any(|read| source(&all, read).is_some_and(|write| end(op(read)) < op(write).invoked.index)) {
            assert_eq!(report.verdict, Verdict::Invalid, "{n}: {report:?}");
            early += 1;
            continue;
        }
        assert_eq!(report.verdict, Verdict::Valid, "{n}: {report:?}");
        let between = |read: usize| {
            let since = source(&all, read).map(over);
            let after = |write: usize| since.is_none_or(|since| op(write).invoked.index > since);
            (0..all.len())
                .filter(|write| all[*write].write.is_some() && after(*write) && over(*write) < op(read).invoked.index)
                .map(over)
                .collect::<Vec<u64>>()
        };
        let most = reads().map(|read| between(read).len()).max().unwrap();
        assert_eq!(figure(&report, "most_versions"), most as u64, "{n}: {report:?}\n{all:?}");
        assert_eq!(figure(&report, "stale_reads"), reads().filter(|read| !between(*read).is_empty()).count() as u64);
        let oldest = reads().filter_map(|read| Some(op(read).invoked.index - between(read).into_iter().min()?)).max();
        assert_eq!(report.figures.get("stale_max_ms").map(|ms| *ms as u64), oldest, "{n}");
        let k = (1..).find(|k| k_atomic(&history, &all, *k, &mut Vec::new())).unwrap() as u64;
        let (low, high) = (figure(&report, "k_at_least"), figure(&report, "k_at_most"));
        assert!(low <= k && k <= high, "{n}: {low} <= {k} <= {high}\n{all:?}");
        exact += u64::from(low == high);
        stale += u64::from(most > 0);
    }
    assert!(exact > 200 && stale > 100 && early > 50, "{exact} exact, {stale} stale, {early} early");
}

/// A search has to go back where one order of two registers' writes leads nowhere.
#[test]
fn a_long_sequential_history_is_judged() {
    let draws = draws(6, 0);
    let mut held = [0i64; 4];
    // Each operation at the moment of its invocation: valid, with many processes.
    let history = history(&draws, 3000, 12, |n, _| {
        let key = draws.below(&[1, n], 4) as usize;
        if draws.below(&[2, n], 2) == 0 {
            held[key] = n as i64 + 1;
            let value = Value::Int(held[key]);
            Asked::new("write", value.clone(), Outcome::Ok, value).of(key as i64)
        } else {
            let value = if held[key] == 0 { Value::Nil } else { Value::Int(held[key]) };
            Asked::new("read", Value::Nil, Outcome::Ok, value).of(key as i64)
        }
    });
    for model in ["sequential", "sequential-per-key", "causal", "session"] {
        let report = judge(model, &history);
        assert_eq!(report.verdict, Verdict::Valid, "{report:?}");
    }
}

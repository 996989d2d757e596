//! Sets, counters, queues, ids, banks, forks, comments.

use std::collections::BTreeSet;

use duress_checkers::Verdict;
use duress_history::formats::{Function, Imported, Operation, Value};
use duress_history::{Outcome, Process};

use super::draw::{Asked, Draws, HISTORIES, Tally, draws, end, figure, history, ints, judge, outcome};

fn of<'h>(history: &'h Imported, name: &'h str) -> impl Iterator<Item = &'h Operation> {
    history.operations.iter().filter(move |operation| operation.op.f == Function::named(name))
}

fn read(operation: &Operation) -> Vec<i64> {
    let elements = operation.result.as_ref().and_then(Value::as_elements).unwrap_or_default();
    elements.iter().filter_map(Value::as_int).collect()
}

/// Elements, each added once, and reads of some of them: mostly of those already asked for.
fn sets(draws: &Draws, operations: u64, add: &str, strange: bool) -> Imported {
    let adds = |n: u64| draws.below(&[1, n], 5) < 3;
    history(draws, operations, 3, |n, _| {
        if adds(n) {
            let element = Value::Int(n as i64);
            return Asked::new(add, element.clone(), outcome(draws, n), element);
        }
        let upto = if strange && draws.below(&[2, n], 12) == 0 { operations } else { n };
        let often = 2 + draws.below(&[3], 14);
        let elements: Vec<i64> =
            (0..upto).filter(|m| adds(*m) && draws.below(&[4, n, *m], often) > 0).map(|m| m as i64).collect();
        Asked::new("read", Value::Nil, outcome(draws, n), ints(&elements))
    })
}

#[test]
fn sets_read_at_the_end() {
    let mut tally = Tally::default();
    for n in 0..HISTORIES {
        let draws = draws(20, n);
        let history = sets(&draws, 3 + draws.below(&[0], 7), "add", true);
        let report = judge("set-final", &history);
        let Some(last) = of(&history, "read").filter(|o| o.outcome == Outcome::Ok).last() else {
            assert_eq!(report.verdict, Verdict::Unknown);
            continue;
        };
        let present = read(last);
        let add = |element: &i64| of(&history, "add").find(|o| o.op.value.as_int() == Some(*element));
        let lost = of(&history, "add").filter(|o| o.outcome == Outcome::Ok && end(o) < last.invoked.index);
        let lost = lost.filter(|o| !present.contains(&o.op.value.as_int().unwrap())).count();
        let may = |o: &Operation| o.outcome != Outcome::Fail && o.invoked.index < end(last);
        let strange = present.iter().filter(|element| !add(element).is_some_and(may)).count();
        assert_eq!((figure(&report, "lost"), figure(&report, "unexpected")), (lost as u64, strange as u64), "{n}");
        assert_eq!(report.verdict == Verdict::Invalid, lost + strange > 0);
        tally.note(report.verdict);
    }
    tally.both();
}

#[test]
fn elements_are_stable_lost_or_never_read() {
    let mut tally = Tally::default();
    for n in 0..HISTORIES {
        let draws = draws(21, n);
        let history = sets(&draws, 3 + draws.below(&[0], 9), "add", false);
        let report = judge("set-full", &history);
        let reads: Vec<&Operation> = of(&history, "read").filter(|o| o.outcome == Outcome::Ok).collect();
        let [mut stable, mut lost, mut never, mut stale, mut unexpected] = [0; 5];
        let mut latencies: Vec<u64> = Vec::new();
        for add in of(&history, "add") {
            let element = add.op.value.as_int().unwrap();
            let shows = |read_of: &&&Operation| read(read_of).contains(&element);
            // A read that was over before anybody asked for the element can't show it.
            let early = reads.iter().any(|r| shows(&r) && (end(r) < add.invoked.index || add.outcome == Outcome::Fail));
            unexpected += u64::from(early);
            if add.outcome == Outcome::Fail || early {
                never += u64::from(add.outcome != Outcome::Fail);
                continue;
            }
            let added = (add.outcome == Outcome::Ok).then(|| end(add));
            let known = reads.iter().filter(shows).map(|r| end(r)).chain(added).min();
            let present = reads.iter().filter(shows).map(|r| r.invoked.index).max();
            let absent = reads.iter().filter(|r| !shows(r)).map(|r| r.invoked.index).max();
            if present.is_some() && absent < present {
                stable += 1;
                let late = absent.map_or(0, |absent| absent.saturating_sub(known.unwrap()));
                stale += u64::from(late > 0);
                latencies.push(late);
            } else if absent.is_some_and(|absent| known.is_some_and(|known| known < absent)) {
                lost += 1;
            } else {
                never += 1;
            }
        }
        if unexpected > 0 {
            assert_eq!(report.verdict, Verdict::Invalid, "{n}");
            assert_eq!(figure(&report, "unexpected"), unexpected);
            continue;
        }
        let said = ["stable", "lost", "never_read", "stale"].map(|name| figure(&report, name));
        assert_eq!(said, [stable, lost, never, stale], "{n}: {report:?}");
        assert_eq!(report.figures.get("stable_max_ms").map(|ms| *ms as u64), latencies.into_iter().max(), "{n}");
        let expected = match (lost, stable) {
            (1.., _) => Verdict::Invalid,
            (_, 0) => Verdict::Unknown,
            _ => Verdict::Valid,
        };
        assert_eq!(report.verdict, expected);
        tally.note(report.verdict);
    }
    tally.both();
}

/// The least and the most that a counter can show are those of all subsets of what is uncertain.
#[test]
fn counters_lie_between_all_subsets() {
    let mut tally = Tally::default();
    for n in 0..HISTORIES {
        let draws = draws(22, n);
        let mut sum = 0;
        let history = history(&draws, 3 + draws.below(&[0], 6), 3, |n, _| {
            let result = outcome(&draws, n);
            let amount = draws.below(&[2, n], 6) as i64 - 2;
            if draws.below(&[1, n], 2) == 0 {
                sum += if result == Outcome::Ok { amount } else { 0 };
                return Asked::new("add", Value::Int(amount), result, Value::Int(amount));
            }
            let off = if draws.below(&[3, n], 3) == 0 { draws.below(&[4, n], 5) as i64 - 2 } else { 0 };
            Asked::new("read", Value::Nil, result, Value::Int(sum + off))
        });
        let report = judge("counter-bounds", &history);
        let reads: Vec<&Operation> = of(&history, "read").filter(|o| o.outcome == Outcome::Ok).collect();
        let possible = |r: &&Operation| {
            let adds = of(&history, "add").filter(|o| o.outcome != Outcome::Fail && o.invoked.index < end(r));
            let (sure, perhaps): (Vec<_>, Vec<_>) =
                adds.partition(|o| o.outcome == Outcome::Ok && end(o) < r.invoked.index);
            let amount = |o: &&Operation| o.op.value.as_int().unwrap();
            let sure: i64 = sure.iter().map(amount).sum();
            let sums = (0u32..1 << perhaps.len()).map(|subset| {
                sure + perhaps
                    .iter()
                    .enumerate()
                    .filter(|(i, _)| subset >> i & 1 == 1)
                    .map(|(_, o)| amount(o))
                    .sum::<i64>()
            });
            let sums: Vec<i64> = sums.collect();
            let count = r.result.as_ref().and_then(Value::as_int).unwrap();
            (*sums.iter().min().unwrap()..=*sums.iter().max().unwrap()).contains(&count)
        };
        let wrong = reads.iter().filter(|r| !possible(r)).count();
        assert_eq!(figure(&report, "violations"), wrong as u64, "{n}: {report:?}");
        tally.note(report.verdict);
    }
    tally.both();
}

#[test]
fn queues_by_what_went_in_and_came_out() {
    let [mut tally, mut once] = [Tally::default(), Tally::default()];
    for n in 0..HISTORIES * 2 {
        let draws = draws(23, n);
        let operations = 4 + draws.below(&[0], 7);
        let adds = |n: u64| draws.below(&[1, n], 2) == 0;
        let strange = draws.below(&[5], 4) == 0;
        let mut inside: Vec<i64> = Vec::new();
        let careful = draws.below(&[6], 3) > 0;
        let history = history(&draws, operations, 3, |n, _| {
            let result = if careful { Outcome::Ok } else { outcome(&draws, n) };
            if adds(n) {
                inside.push(n as i64);
                return Asked::new("enqueue", Value::Int(n as i64), result, Value::Int(n as i64));
            }
            if n + 1 == operations && draws.below(&[7], 2) == 0 {
                return Asked::new("drain", Value::Nil, result, ints(&inside));
            }
            let value = match draws.below(&[2, n], 6) {
                0 if strange => Some(draws.below(&[3, n], operations) as i64),
                1 | 0 => None,
                2 => inside.first().copied(),
                _ if inside.is_empty() => None,
                _ => Some(inside.remove(draws.below(&[4, n], inside.len() as u64) as usize)),
            };
            Asked::new("dequeue", Value::Nil, result, value.map_or(Value::Nil, Value::Int))
        });
        let report = judge("total-queue", &history);
        let taken = |o: &Operation| match (&o.op.f, o.outcome) {
            (Function::Dequeue, Outcome::Ok) => o.result.iter().filter_map(Value::as_int).collect(),
            (Function::Drain, Outcome::Ok) => read(o),
            _ => Vec::new(),
        };
        let outs = |value: i64| history.operations.iter().filter(move |o| taken(o).contains(&value));
        let empty = |o: &&Operation| match o.op.f {
            Function::Dequeue => o.outcome == Outcome::Fail || o.outcome == Outcome::Ok && taken(o).is_empty(),
            Function::Drain => o.outcome == Outcome::Ok,
            _ => false,
        };
        let looked = history.operations.iter().filter(empty).map(|o| o.invoked.index).max().unwrap_or(0);
        let [mut unexpected, mut duplicated, mut lost, mut left] = [0; 4];
        for value in 0..operations as i64 {
            let adds: Vec<_> = of(&history, "enqueue")
                .filter(|o| o.op.value.as_int() == Some(value) && o.outcome != Outcome::Fail)
                .collect();
            let first = outs(value).map(end).min();
            let sure = adds.iter().find(|o| o.outcome == Outcome::Ok);
            match first {
                Some(first) if adds.iter().all(|add| add.invoked.index > first) => unexpected += 1,
                Some(_) => duplicated += u64::from(outs(value).count() > 1),
                None if sure.is_some_and(|add| end(add) < looked) => lost += 1,
                None => left += u64::from(sure.is_some()),
            }
        }
        let said = ["unexpected", "duplicated", "lost", "left"].map(|name| figure(&report, name));
        assert_eq!(said, [unexpected, duplicated, lost, left], "{n}: {report:?}\n{history:?}");
        let perhaps = of(&history, "dequeue").filter(|o| o.outcome == Outcome::Info).count() as u64;
        let drains = of(&history, "drain").any(|o| o.outcome == Outcome::Info);
        let wrong = unexpected > 0 || lost > perhaps && !drains;
        assert_eq!(report.verdict == Verdict::Invalid, wrong, "{n}: {report:?}");
        assert!(report.verdict != Verdict::Valid || lost + left == 0);
        tally.note(report.verdict);
        let report = judge("exactly-once-queue", &history);
        assert_eq!(report.verdict == Verdict::Invalid, wrong || duplicated > 0, "{n}: {report:?}");
        once.note(report.verdict);
        // Of elements that went in and came out once each, those that another overtook.
        let single = |value: &i64| {
            let adds: Vec<_> = of(&history, "enqueue")
                .filter(|o| o.op.value.as_int() == Some(*value) && o.outcome != Outcome::Fail)
                .collect();
            let outs: Vec<_> = outs(*value).collect();
            match (&adds[..], &outs[..]) {
                ([add], [out]) if out.op.f == Function::Dequeue => Some((*add, *out)),
                _ => None,
            }
        };
        let singles: Vec<_> = (0..operations as i64).filter_map(|value| single(&value)).collect();
        let overtakes = |(add, out): &(&Operation, &Operation)| {
            singles.iter().any(|(later, first)| later.invoked.index > end(add) && end(first) < out.invoked.index)
        };
        assert_eq!(figure(&report, "overtaken"), singles.iter().filter(|one| overtakes(one)).count() as u64, "{n}");
    }
    tally.both();
    once.both();
}

#[test]
fn ids_are_unique() {
    let mut tally = Tally::default();
    for n in 0..HISTORIES / 4 {
        let draws = draws(24, n);
        let history = history(&draws, 6, 3, |n, _| {
            Asked::new("generate", Value::Nil, outcome(&draws, n), Value::Int(draws.below(&[1, n], 20) as i64))
        });
        let report = judge("unique-ids", &history);
        let ids: Vec<_> = history.operations.iter().filter_map(|o| o.result.as_ref()).collect();
        let distinct: BTreeSet<_> = ids.iter().collect();
        assert_eq!(figure(&report, "duplicates"), (ids.len() - distinct.len()) as u64);
        tally.note(report.verdict);
    }
    tally.both();
}

#[test]
fn banks_keep_their_total() {
    let mut tally = Tally::default();
    for n in 0..HISTORIES / 4 {
        let draws = draws(25, n);
        let odd = draws.below(&[1], 3);
        let history = history(&draws, 8, 3, |n, _| {
            let (a, b) =
                (draws.below(&[2, n], 11) as i64, draws.below(&[3, n], 9) as i64 - if odd == 2 { 3 } else { 0 });
            let extra = i64::from(odd == 1 && draws.below(&[4, n], 4) == 0);
            let balances = [a, b, 20 - a - b + extra].into_iter().enumerate();
            let map = Value::map(balances.map(|(at, balance)| (Value::Int(at as i64), Value::Int(balance))).collect())
                .unwrap();
            Asked::new("read", Value::Nil, outcome(&draws, n), map)
        });
        let balances = |o: &Operation| -> Option<Vec<i64>> {
            let Some(Value::Map(entries)) = &o.result else { return None };
            entries.iter().map(|(_, balance)| balance.as_int()).collect()
        };
        let reads: Vec<Vec<i64>> = history.operations.iter().filter_map(balances).collect();
        let totals: BTreeSet<i64> = reads.iter().map(|read| read.iter().sum()).collect();
        let negative = reads.iter().flatten().any(|balance| *balance < 0);
        let report = judge("bank", &history);
        assert_eq!(report.verdict == Verdict::Invalid, totals.len() > 1 || negative, "{n}: {report:?}");
        tally.note(report.verdict);
        assert_eq!(judge("bank-overdraft", &history).verdict == Verdict::Invalid, totals.len() > 1, "{n}");
    }
    tally.both();
}

#[test]
fn forks_are_pairs_of_reads() {
    let mut tally = Tally::default();
    for n in 0..HISTORIES {
        let draws = draws(26, n);
        let micro =
            |what: &str, key: i64, value| Value::Vector(vec![Value::Keyword(what.into()), Value::Int(key), value]);
        let history = history(&draws, 9, 3, |n, _| {
            // Two groups of two and three keys; each key written once, at first.
            if n < 5 {
                let write = Value::Vector(vec![micro("w", n as i64, Value::Int(1))]);
                return Asked::new(
                    "write",
                    write.clone(),
                    if n == 4 { outcome(&draws, n) } else { Outcome::Ok },
                    write,
                );
            }
            let group = if draws.below(&[1, n], 2) == 0 { 0..2 } else { 2..5 };
            let seen = |key| if draws.below(&[2, n, key], 3) > 0 { Value::Int(1) } else { Value::Nil };
            let ask = group.clone().map(|key| micro("r", key as i64, Value::Nil)).collect();
            let got = group.map(|key| micro("r", key as i64, seen(key))).collect();
            Asked::new("read", Value::Vector(ask), Outcome::Ok, Value::Vector(got))
        });
        let report = judge("long-fork", &history);
        let seen = |o: &Operation| -> BTreeSet<(i64, bool)> {
            let micros = o.result.as_ref().and_then(Value::as_sequence).unwrap_or_default();
            let micro = |micro: &Value| match micro.as_sequence() {
                Some([_, key, value]) => (key.as_int().unwrap(), *value != Value::Nil),
                _ => panic!("no micro-operation"),
            };
            micros.iter().map(micro).collect()
        };
        let reads: Vec<_> = of(&history, "read").map(seen).collect();
        let only = |a: &BTreeSet<(i64, bool)>, b: &BTreeSet<(i64, bool)>| {
            a.iter().any(|(key, seen)| *seen && b.contains(&(*key, false)))
        };
        let forks = reads.iter().any(|a| reads.iter().any(|b| only(a, b) && only(b, a)));
        let write = |key: i64| &history.operations[key as usize];
        let early = of(&history, "read").any(|o| {
            seen(o).iter().any(|(key, seen)| {
                *seen && (write(*key).outcome == Outcome::Fail || write(*key).invoked.index > end(o))
            })
        });
        assert_eq!(report.verdict == Verdict::Invalid, forks || early, "{n}: {report:?}");
        tally.note(report.verdict);
    }
    tally.both();
}

#[test]
fn comments_show_what_came_before() {
    let mut tally = Tally::default();
    for n in 0..HISTORIES {
        let draws = draws(27, n);
        let history = sets(&draws, 4 + draws.below(&[0], 6), "write", true);
        let report = judge("comments", &history);
        let write =
            |id: i64| of(&history, "write").find(|o| o.op.value.as_int() == Some(id) && o.outcome != Outcome::Fail);
        let reads = || of(&history, "read").filter(|o| o.outcome == Outcome::Ok);
        if reads().next().is_none() {
            continue;
        }
        let wrong = reads().any(|o| {
            let ids = read(o);
            let strange = ids.iter().any(|id| write(*id).is_none_or(|w| w.invoked.index > end(o)));
            let before = |w: &Operation, id: &i64| {
                write(*id).is_some_and(|seen| end(w) < seen.invoked.index && seen.invoked.index < end(o))
            };
            let missing = of(&history, "write")
                .filter(|w| w.outcome == Outcome::Ok)
                .any(|w| !ids.contains(&w.op.value.as_int().unwrap()) && ids.iter().any(|id| before(w, id)));
            strange || missing
        });
        assert_eq!(report.verdict == Verdict::Invalid, wrong, "{n}: {report:?}");
        tally.note(report.verdict);
    }
    tally.both();
}

#[test]
fn errors_are_grouped() {
    let draws = draws(28, 0);
    let mut history = history(&draws, 40, 4, |_, _| Asked::new("read", Value::Nil, Outcome::Info, Value::Nil));
    for (at, operation) in history.operations.iter_mut().enumerate() {
        operation.process = Process(at as u64);
        operation.error = match at % 4 {
            0 => None,
            1 => Some(Value::Keyword("timeout".into())),
            _ => Some(Value::Text(format!("connection {at} refused").into())),
        };
    }
    let report = judge("exceptions", &history);
    assert_eq!(report.verdict, Verdict::Valid);
    assert_eq!((figure(&report, "errors"), figure(&report, "kinds")), (30, 2));
    assert_eq!(report.tables[0].rows[0][..2], ["20", "\"connection # refused\""]);
}

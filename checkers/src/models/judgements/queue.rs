//! Queues by what went in and what came out.
//!
//! Jepsen's `checker/total-queue`, with more care about what can't be known. Of each element:
//!
//! - *unexpected*: it came out, and no enqueue of it that didn't fail
//!   was invoked before it was out;
//! - *duplicated*: it came out more often than it may have gone in;
//! - *lost*: it surely went in, never came out, and somebody found the queue empty (a dequeue that
//!   gave `nil` or failed, or a drain) by an operation invoked after the enqueue was over;
//! - *left*: it surely went in and never came out, and nobody looked afterwards;
//! - *recovered*: its enqueue was indeterminate, and it came out;
//! - *overtaken*: another element went in after this one was in, and was out before the removal of
//!   this one began (the queue reordered them). Counted only for elements that went in once.
//!
//! Lost and unexpected elements are violations, of `exactly-once-queue` duplicated ones too. An
//! indeterminate removal may have taken an element: only if more are lost than there are such
//! removals is it proven, else the verdict is unknown, as it is when elements are left.
//! O(n log n).

use std::collections::BTreeMap;

use duress_history::Outcome;
use duress_history::formats::{Function, Value};

use super::{Findings, Judgement, Unfit, by_key, end, of_key, some, told};
use crate::words;
use crate::{Run, Settings};

pub(in super::super) const TOTAL_QUEUE: Judgement = Judgement {
    name: "total-queue",
    about: "Jepsen's total-queue: nothing lost, nothing from nowhere: enqueue v, dequeue -> v, drain -> all",
    judge: |history, _| judge(history, false),
};

pub(in super::super) const EXACTLY_ONCE_QUEUE: Judgement = Judgement {
    name: "exactly-once-queue",
    about: "the same, and nothing comes out twice",
    judge: |history, _: &Settings| judge(history, true),
};

/// What happened to one value.
#[derive(Default)]
struct Element {
    /// Enqueues that may have happened, and those that surely did.
    may: Vec<usize>,
    sure: Vec<usize>,
    /// Removals, an operation as often as it took the value out.
    out: Vec<usize>,
}

fn judge(history: &Run<'_>, once: bool) -> Result<Findings, Unfit> {
    let mut findings = Findings::default();
    let mut totals = [0; 8];
    for (key, operations) in by_key(history) {
        let counts = one(history, key, &operations, once, &mut findings)?;
        totals.iter_mut().zip(counts).for_each(|(total, count)| *total += count);
    }
    let names = ["enqueued", "dequeued", "unexpected", "duplicated", "lost", "left", "recovered", "overtaken"];
    for (name, total) in names.into_iter().zip(totals) {
        findings.figure(name, total);
    }
    let [enqueued, dequeued, _, duplicated, .., overtaken] = totals;
    if enqueued + dequeued == 0 {
        findings.doubts.push("Nothing surely went in or came out.".into());
    }
    findings.fine = format!("None of {} lost, {dequeued} came out.", words::count(enqueued, "element"));
    if duplicated > 0 && !once {
        findings
            .remarks
            .push(format!("{} came out more often than they went in.", words::count(duplicated, "element")));
    }
    if overtaken > 0 {
        findings.remarks.push(format!("{} overtaken by one that went in later.", words::count(overtaken, "element")));
    }
    Ok(findings)
}

fn one(
    history: &Run<'_>,
    key: Option<&Value>,
    operations: &[usize],
    once: bool,
    findings: &mut Findings,
) -> Result<[usize; 8], Unfit> {
    let of = of_key(key);
    let at = |at: usize| &history.operations[at];
    let mut elements: BTreeMap<&Value, Element> = BTreeMap::new();
    // The last operation that found the queue empty, and how many perhaps took something.
    let mut found_empty: Option<usize> = None;
    let (mut perhaps, mut drains_perhaps, mut dequeued) = (0, false, 0);
    for number in operations {
        let operation = at(*number);
        match (&operation.op.f, operation.outcome) {
            (Function::Enqueue, Outcome::Fail) => {}
            (Function::Enqueue, outcome) => {
                let element = elements.entry(&operation.op.value).or_default();
                element.may.push(*number);
                element.sure.extend((outcome == Outcome::Ok).then_some(*number));
            }
            (Function::Dequeue, Outcome::Ok) if operation.result.as_ref().is_some_and(|value| *value != Value::Nil) => {
                elements.entry(operation.result.as_ref().unwrap_or(&Value::Nil)).or_default().out.push(*number);
                dequeued += 1;
            }
            (Function::Dequeue, Outcome::Ok | Outcome::Fail) => found_empty = found_empty.max(Some(*number)),
            (Function::Dequeue, Outcome::Info) => perhaps += 1,
            (Function::Drain, Outcome::Ok) => {
                let taken = operation.result.as_ref().and_then(Value::as_elements);
                for value in taken.ok_or_else(|| Unfit::new(operation, "it is a drain that gave no collection"))? {
                    elements.entry(value).or_default().out.push(*number);
                    dequeued += 1;
                }
                found_empty = found_empty.max(Some(*number));
            }
            (Function::Drain, Outcome::Fail) => {}
            (Function::Drain, Outcome::Info) => drains_perhaps = true,
            _ => return Err(Unfit::function(operation, "enqueue, dequeue and drain")),
        }
    }
    let looked = found_empty.map_or(0, |number| at(number).invoked.index);
    let (mut unexpected, mut duplicated, mut lost, mut left) = (Vec::new(), Vec::new(), Vec::new(), 0);
    let mut recovered = 0;
    for (value, element) in &elements {
        let first_out = element.out.iter().map(|out| end(at(*out))).min();
        let possible = element.may.iter().any(|add| first_out.is_none_or(|out| at(*add).invoked.index < out));
        match (element.out.first(), element.sure.first()) {
            (Some(out), _) if !possible => unexpected.push((*out, *value)),
            (Some(_), sure) => {
                recovered += usize::from(sure.is_none());
                duplicated.extend(element.out.get(element.may.len()).map(|again| (*again, *value)));
            }
            (None, Some(_)) => match element.sure.iter().find(|add| end(at(**add)) < looked) {
                Some(add) => lost.push((*add, *value)),
                None => left += 1,
            },
            (None, None) => {}
        }
    }
    for found in [&mut unexpected, &mut duplicated, &mut lost] {
        found.sort_unstable();
    }
    let values = |found: &[(usize, &Value)]| {
        let values: Vec<Value> = found.iter().map(|(_, value)| (*value).clone()).collect();
        some(&values.iter().collect::<Vec<_>>())
    };
    if let Some((out, _)) = unexpected.first() {
        let n = words::count(unexpected.len(), "element");
        let lines = vec![format!("unexpected: {}", values(&unexpected)), format!("such as by {}", told(at(*out)))];
        findings.wrong_because(format!("{n}{of} came out that nobody put in."), lines, vec![*out]);
    }
    if let (true, Some((out, value))) = (once, duplicated.first()) {
        let n = words::count(duplicated.len(), "element");
        let lines =
            vec![format!("duplicated: {}", values(&duplicated)), format!("{value} again by {}", told(at(*out)))];
        let core = elements[*value].out.iter().chain(&elements[*value].may).copied().collect();
        findings.wrong_because(format!("{n}{of} came out more often than put in."), lines, core);
    }
    if let (Some((add, value)), Some(empty)) = (lost.first(), found_empty) {
        let n = words::count(lost.len(), "acknowledged element");
        let by = format!("{} found nothing more", told(at(empty)));
        if lost.len() > perhaps && !drains_perhaps {
            let lines = vec![format!("lost: {}", values(&lost)), format!("{value} by {}; {by}", told(at(*add)))];
            findings.wrong_because(format!("{n}{of} lost."), lines, vec![*add, empty]);
        } else {
            let doubt = format!("{n}{of} never came out, but removals of unknown outcome may have taken them; {by}.");
            findings.doubts.push(doubt);
        }
    }
    if left > 0 {
        let n = words::count(left, "acknowledged element");
        findings.doubts.push(format!("{n}{of} never came out, and nobody emptied the queue after them."));
    }
    let overtaken = overtaken(history, &elements);
    let enqueued = elements.values().map(|element| element.sure.len()).sum();
    Ok([enqueued, dequeued, unexpected.len(), duplicated.len(), lost.len(), left, recovered, overtaken])
}

/// How many elements were overtaken.
fn overtaken(history: &Run<'_>, elements: &BTreeMap<&Value, Element>) -> usize {
    // (put in from, to; out from, to) of those that went in and came out once, by one dequeue.
    let mut once: Vec<(u64, u64, u64, u64)> = Vec::new();
    for element in elements.values() {
        if let ([add], [out]) = (&element.may[..], &element.out[..]) {
            let (add, out) = (&history.operations[*add], &history.operations[*out]);
            if out.op.f == Function::Dequeue {
                once.push((add.invoked.index, end(add), out.invoked.index, end(out)));
            }
        }
    }
    // Of those put in from a place on, the earliest that any was out.
    once.sort_unstable();
    let mut earliest: Vec<u64> = once.iter().map(|(.., out)| *out).collect();
    for at in (1..earliest.len()).rev() {
        earliest[at - 1] = earliest[at - 1].min(earliest[at]);
    }
    let is_overtaken = |(_, added, out, _): &&(u64, u64, u64, u64)| {
        let later = once.partition_point(|(from, ..)| from <= added);
        earliest.get(later).is_some_and(|first| first < out)
    };
    once.iter().filter(is_overtaken).count()
}

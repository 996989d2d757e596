//! Sets that are read again and again: what became of every element.
//!
//! Jepsen's `checker/set-full`. An element is *known* from the first moment at which an add of it
//! had succeeded or a read that shows it was over. Reads are in the order of their invocations. An
//! element is
//!
//! - *stable* if the last read that shows it began after the last read that doesn't;
//! - *lost* if it was known before the last read that doesn't show it began, and no later read
//!   shows it;
//! - *never read* otherwise: it was added too late, or never.
//!
//! A stable element was *stale* if some read that began after it was known didn't show it; how long
//! after it became known the last such read began is its latency. Lost elements, elements that
//! nobody added (or whose add failed), and elements that stand twice in one read are violations;
//! stale ones are counted. Without a stable element nothing is known. Linear in the length of all
//! reads, but for hashing and sorting.

use std::collections::BTreeMap;

use duress_history::Outcome;
use duress_history::formats::{Function, Moment, Value};

use super::{Findings, Judgement, Unfit, by_key, nanos, of_key, some, told};
use crate::words;
use crate::{Run, Settings};

pub(in super::super) const SET_FULL: Judgement = Judgement {
    name: "set-full",
    about: "Jepsen's set-full: each element stable, lost or never read, and how late: add x, read -> all elements",
    judge,
};

/// What is known of an element.
#[derive(Default)]
struct Element {
    /// The add that showed first that it is there, or the read.
    known: Option<(Moment, usize)>,
    /// Its first add that may have happened.
    added: Option<usize>,
    /// Of the reads by their invocations: the last that shows it, and the last that does not.
    present: Option<usize>,
    absent: Option<usize>,
}

#[derive(Default)]
struct Totals {
    stable: usize,
    lost: usize,
    never_read: usize,
    stale: usize,
    unexpected: usize,
    duplicated: usize,
    stable_after: Vec<u64>,
    lost_after: Vec<u64>,
}

fn judge(history: &Run<'_>, _: &Settings) -> Result<Findings, Unfit> {
    let mut findings = Findings::default();
    let mut totals = Totals::default();
    for (key, operations) in by_key(history) {
        one(history, key, &operations, &mut totals, &mut findings)?;
    }
    if totals.stable == 0 {
        findings.doubts.push("No element was ever stably there: nothing to judge.".into());
    }
    let Totals { stable, lost, never_read, stale, unexpected, duplicated, stable_after, lost_after } = totals;
    for (name, value) in [
        ("stable", stable),
        ("lost", lost),
        ("never_read", never_read),
        ("stale", stale),
        ("unexpected", unexpected),
        ("duplicated", duplicated),
    ] {
        findings.figure(name, value);
    }
    findings.latencies("until stably there", ["stable_p50_ms", "stable_p99_ms", "stable_max_ms"], stable_after);
    findings.latencies("until lost", ["lost_p50_ms", "lost_p99_ms", "lost_max_ms"], lost_after);
    findings.fine = format!("{} stable, none lost, {never_read} never read.", words::count(stable, "element"));
    if stale > 0 {
        findings.remarks.push(format!(
            "{} were missing from some read after they were known.",
            words::count(stale, "stable element")
        ));
    }
    Ok(findings)
}

fn one<'h>(
    history: &'h Run<'h>,
    key: Option<&Value>,
    operations: &[usize],
    totals: &mut Totals,
    findings: &mut Findings,
) -> Result<(), Unfit> {
    let mut elements: BTreeMap<&'h Value, Element> = BTreeMap::new();
    // In the order of their invocations.
    let mut reads: Vec<(usize, Vec<&'h Value>)> = Vec::new();
    let mut twice: Vec<(usize, &Value)> = Vec::new();
    for at in operations {
        let operation = &history.operations[*at];
        match (&operation.op.f, operation.outcome) {
            (Function::Add, Outcome::Fail) => {}
            (Function::Add, outcome) => {
                let element = elements.entry(&operation.op.value).or_default();
                element.added.get_or_insert(*at);
                if let (Outcome::Ok, Some(end)) = (outcome, operation.completed)
                    && element.known.is_none_or(|(known, _)| end.index < known.index)
                {
                    element.known = Some((end, *at));
                }
            }
            (Function::Read, Outcome::Ok) => {
                let read = operation.result.as_ref().and_then(Value::as_elements);
                let mut read: Vec<&Value> = match read {
                    Some(read) => read.iter().collect(),
                    None if operation.result.as_ref().is_none_or(|result| *result == Value::Nil) => continue,
                    None => return Err(Unfit::new(operation, "it is a read that gave no collection")),
                };
                read.sort_unstable();
                twice.extend(read.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| (*at, pair[0])));
                read.dedup();
                reads.push((*at, read));
            }
            (Function::Read, _) => {}
            _ => return Err(Unfit::function(operation, "add and read")),
        }
    }
    let mut strange: BTreeMap<&Value, usize> = BTreeMap::new();
    for (at, read) in &reads {
        let operation = &history.operations[*at];
        let Some(end) = operation.completed else { continue };
        for element in read {
            // An element can't be seen before anybody asked for it.
            let known = elements
                .get_mut(*element)
                .filter(|element| element.added.is_some_and(|add| history.operations[add].invoked.index < end.index));
            match known {
                Some(element) => {
                    if element.known.is_none_or(|(known, _)| end.index < known.index) {
                        element.known = Some((end, *at));
                    }
                }
                None => drop(strange.entry(element).or_insert(*at)),
            }
        }
    }
    last_reads(&reads, &mut elements);
    tell_strange(history, key, &strange, findings);
    totals.unexpected += strange.len();
    totals.duplicated += twice.len();
    if let Some((at, element)) = twice.first() {
        let n = words::count(twice.len(), "time");
        let read = told(&history.operations[*at]);
        findings.wrong(format!("One read shows an element{} twice, {n}: {element} in {read}.", of_key(key)), vec![*at]);
    }
    let invoked = |read: usize| history.operations[reads[read].0].invoked;
    let mut lost: Vec<(usize, usize, &Value)> = Vec::new();
    for (value, element) in &elements {
        let after = |moment: Moment| element.known.is_some_and(|(known, _)| known.index < moment.index);
        match (element.present, element.absent) {
            (Some(present), absent) if absent.is_none_or(|absent| absent < present) => {
                totals.stable += 1;
                let late = absent.map(invoked).filter(|moment| after(*moment));
                totals.stale += usize::from(late.is_some());
                let known = element.known.and_then(|(known, _)| known.time_ns);
                totals.stable_after.extend(match late {
                    Some(late) => nanos(known, late.time_ns),
                    None => known.map(|_| 0),
                });
            }
            (present, Some(absent)) if after(invoked(absent)) => {
                totals.lost += 1;
                let since = present.map_or(element.known.map(|(known, _)| known), |present| Some(invoked(present)));
                let known = element.known.and_then(|(known, _)| known.time_ns);
                totals.lost_after.extend(nanos(known, since.and_then(|since| since.time_ns)));
                let by = element.known.map_or(absent, |(_, by)| by);
                lost.push((by, reads[absent].0, value));
            }
            _ => totals.never_read += 1,
        }
    }
    lost.sort_unstable();
    if let Some((by, absent, value)) = lost.first() {
        let all: Vec<&Value> = lost.iter().map(|(.., value)| *value).collect();
        let (known, read) = (told(&history.operations[*by]), told(&history.operations[*absent]));
        let lines = vec![
            format!("lost: {}", some(&all)),
            format!("{value} was there by {known};"),
            format!("{read} doesn't show it, and no read that began later does."),
        ];
        let (n, of) = (words::count(lost.len(), "element"), of_key(key));
        let core = elements[*value].added.into_iter().chain([*by, *absent]).collect();
        findings.wrong_because(format!("{n}{of} lost."), lines, core);
    }
    Ok(())
}

/// Of each element the last read that shows it and the last that does not. Linear in the length of
/// all reads: from the last read on backwards, those that all reads so far show are kept.
fn last_reads<'h>(reads: &[(usize, Vec<&'h Value>)], elements: &mut BTreeMap<&'h Value, Element>) {
    let mut everywhere: Option<Vec<&Value>> = None;
    for (number, (_, read)) in reads.iter().enumerate().rev() {
        for value in read {
            if let Some(element) = elements.get_mut(*value) {
                element.present = element.present.max(Some(number));
            }
        }
        everywhere = Some(match everywhere {
            None => {
                for element in elements.values_mut().filter(|element| element.present != Some(number)) {
                    element.absent = Some(number);
                }
                read.clone()
            }
            Some(before) => {
                let (kept, missing): (Vec<&Value>, Vec<&Value>) =
                    before.into_iter().partition(|value| read.binary_search(value).is_ok());
                for value in missing {
                    if let Some(element) = elements.get_mut(value) {
                        element.absent = Some(number);
                    }
                }
                kept
            }
        });
    }
}

fn tell_strange(history: &Run<'_>, key: Option<&Value>, strange: &BTreeMap<&Value, usize>, findings: &mut Findings) {
    let Some((_, first)) = strange.iter().min_by_key(|(value, at)| (**at, **value)) else { return };
    let values: Vec<&Value> = strange.keys().copied().collect();
    let n = words::count(strange.len(), "element");
    findings.wrong_because(
        format!("{n}{} read that nobody had added.", of_key(key)),
        vec![format!("unexpected: {}", some(&values)), format!("first in {}", told(&history.operations[*first]))],
        vec![*first],
    );
}

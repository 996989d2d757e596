//! Acknowledged writes that are missing after the heal, as far as final reads prove it.
//!
//! For registers: a final read that shows a value proves an acknowledged write of another value
//! lost if every operation that can have set the value shown was over before the write was asked
//! for. Then no order puts the value after the write, whatever else happened to the register. A
//! write counts as lost only if every final read of its register proves it.
//!
//! For sets: an acknowledged element that no final read shows.

use std::collections::{BTreeMap, BTreeSet};

use duress_history::{Function, Operation, Outcome, Phase, Value};

use super::{Findings, acknowledged, changes};
use crate::register::RegisterOp;
use crate::{Run, words};

/// How many lost writes are told one by one.
const SHOWN: usize = 8;

/// A lost write, and the final read that shows what is there instead.
struct Lost {
    write: usize,
    read: usize,
}

/// Finds what is missing. Whether there were final reads to tell it from.
pub(super) fn missing(run: &Run<'_>, findings: &mut Findings) -> bool {
    let mut lost = lost_registers(run);
    lost.extend(lost_elements(run));
    lost.sort_by_key(|lost| (run.operations[lost.write].ended(), lost.write));
    findings.figures.insert("lost_acknowledged_writes", lost.len() as f64);
    let (Some(first), Some(last)) = (lost.first(), lost.last()) else {
        return (0..run.operations.len()).any(|at| is_final(run, at) && !changes(&run.operations[at].op));
    };
    let all = run.operations.iter().filter(|operation| acknowledged(operation)).count();
    let (from, to) = (
        run.operations[first.write].ended().unwrap_or_default(),
        run.operations[last.write].ended().unwrap_or_default(),
    );
    // By the node that acknowledged them and the client host that was told so.
    let mut sides: BTreeMap<(String, String), usize> = BTreeMap::new();
    for lost in &lost {
        let operation = &run.operations[lost.write];
        let node = operation.node.as_ref().map_or("an unnamed node".into(), ToString::to_string);
        let host = operation.client.as_ref().map_or("an unnamed host".into(), |client| client.host.to_string());
        *sides.entry((node, host)).or_default() += 1;
    }
    let mut lines: Vec<String> = sides
        .iter()
        .map(|((node, host), n)| {
            format!("{} acknowledged by {node} to clients on {host}.", words::count(*n, "lost write"))
        })
        .collect();
    lines.extend(lost.iter().take(SHOWN).map(|lost| tell(run, lost)));
    if lost.len() > SHOWN {
        lines.push(format!("{} more.", words::count(lost.len() - SHOWN, "lost write")));
    }
    lines.extend(words::faults(run, from, to));
    let writes = words::count(lost.len(), "acknowledged write");
    let are = if lost.len() == 1 { "is" } else { "are" };
    findings.violation(
        format!("{writes} of {all} {are} missing after the heal; acknowledged between {from:.1} and {to:.1}."),
        lines,
    );
    true
}

fn tell(run: &Run<'_>, lost: &Lost) -> String {
    let (write, read) = (&run.operations[lost.write], &run.operations[lost.read]);
    let by = write.node.as_ref().map_or(String::new(), |node| format!(" by {node}"));
    let at = write.ended().unwrap_or_default();
    let instead = match &read.result {
        Some(value) if write.op.f != Function::Add => format!("is {value} at the end, which is older"),
        _ => "is in no final read".into(),
    };
    let what = write.key().map_or("it".into(), ToString::to_string);
    format!("lost: {} of {}, acknowledged{by} at {at}; {what} {instead}.", write.op, words::who(write))
}

fn is_final(run: &Run<'_>, at: usize) -> bool {
    run.operations[at].outcome == Outcome::Ok && run.phase_at(run.spans[at].invoked) >= Phase::Final
}

/// What an operation sets its register to, if it takes effect.
fn sets(operation: &Operation) -> Option<&Value> {
    RegisterOp::of(&operation.op)?.sets()
}

fn lost_registers(run: &Run<'_>) -> Vec<Lost> {
    #[derive(Default)]
    struct Register {
        /// Operations that set it or may have, in the order of their invocations.
        setters: Vec<usize>,
        /// Final reads with what they showed.
        finals: Vec<usize>,
    }
    let mut registers: BTreeMap<&Value, Register> = BTreeMap::new();
    for (at, operation) in run.operations.iter().enumerate() {
        let (Some(key), Some(op)) = (&operation.op.key, RegisterOp::of(&operation.op)) else { continue };
        match op {
            RegisterOp::Write(_) | RegisterOp::Cas { .. } if operation.outcome != Outcome::Fail => {
                registers.entry(key).or_default().setters.push(at);
            }
            RegisterOp::Read if is_final(run, at) && operation.result.is_some() => {
                registers.entry(key).or_default().finals.push(at);
            }
            _ => {}
        }
    }
    let mut lost = Vec::new();
    for register in registers.values() {
        let Some(proof) = proof(run, &register.setters, &register.finals) else { continue };
        let proven = |write: &&usize| {
            let span = run.spans[**write];
            let before = span.completed.is_some_and(|completed| completed < proof.reads_began);
            let after = proof.shown_over.is_none_or(|over| over < span.invoked);
            acknowledged(&run.operations[**write]) && before && after
        };
        lost.extend(register.setters.iter().filter(proven).map(|write| Lost { write: *write, read: proof.read }));
    }
    lost
}

/// Two positions of the history. Every acknowledged write between them is lost.
struct Proof {
    /// Everything that can have set what the final reads show was over at this position; `None`
    /// if that is what the register held at first.
    shown_over: Option<usize>,
    /// The first final read began at this position.
    reads_began: usize,
    /// The last final read.
    read: usize,
}

/// What the final reads of a register prove, if each of them proves something.
fn proof(run: &Run<'_>, setters: &[usize], finals: &[usize]) -> Option<Proof> {
    // value → where the last that can have set it was over; `None` if that isn't known
    let mut over: BTreeMap<&Value, Option<usize>> = BTreeMap::new();
    for at in setters {
        let Some(value) = sets(&run.operations[*at]) else { continue };
        let end = run.spans[*at].completed.filter(|_| run.operations[*at].outcome == Outcome::Ok);
        let known = over.entry(value).or_insert(end);
        *known = known.zip(end).map(|(known, end)| known.max(end));
    }
    let mut shown_over = None;
    for read in finals {
        let Some(shown) = &run.operations[*read].result else { return None };
        match over.get(shown) {
            Some(end) => shown_over = shown_over.max(Some((*end)?)),
            None if *shown == Value::Nil => {}
            // That nobody set it is another checker's matter.
            None => return None,
        }
    }
    let reads_began = finals.iter().map(|read| run.spans[*read].invoked).min()?;
    Some(Proof { shown_over, reads_began, read: *finals.last()? })
}

/// What a read of a whole set gave.
fn elements(operation: &Operation) -> Option<&[Value]> {
    match (&operation.op.f, &operation.op.key, &operation.result) {
        (Function::Read, None, Some(elements)) => elements.as_elements(),
        _ => None,
    }
}

fn lost_elements(run: &Run<'_>) -> Vec<Lost> {
    let finals: Vec<usize> =
        (0..run.operations.len()).filter(|at| is_final(run, *at) && elements(&run.operations[*at]).is_some()).collect();
    let (Some(&last), Some(earliest)) = (finals.last(), finals.iter().map(|at| run.spans[*at].invoked).min()) else {
        return Vec::new();
    };
    let present: BTreeSet<&Value> = finals.iter().filter_map(|at| elements(&run.operations[*at])).flatten().collect();
    let gone = |at: &usize| {
        let (operation, span) = (&run.operations[*at], run.spans[*at]);
        let before = span.completed.is_some_and(|completed| completed < earliest);
        let added = operation.op.f == Function::Add && operation.op.key.is_none();
        added && !present.contains(&operation.op.value) && acknowledged(operation) && before
    };
    (0..run.operations.len()).filter(gone).map(|write| Lost { write, read: last }).collect()
}

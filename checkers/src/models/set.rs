//! Sets whose elements are added, removed and asked for.
//!
//! As long as nobody reads a set as a whole, each element is a register of its own that holds
//! whether it is there, and is judged as one. A set that only grows, by elements that are added
//! once each, is judged by layers where it is read as a whole (see [`Sets::monitor`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use duress_history::formats::{Function, Known, Operation, Value};
use stateright::semantics::SequentialSpec;

use super::object::{Call, Entries, Found, Object, Part};
use super::values::Values;
use super::{cannot, forward};
use crate::budget::Deadline;
use crate::engine;
use crate::register::{RegisterOp, RegisterRet};
use crate::wgl::{Entry, Outcome};

/// A set and its elements.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Set(pub BTreeSet<u32>);

/// What can be asked of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SetOp {
    /// To hold an element.
    Add(u32),
    /// To hold an element no longer.
    Remove(u32),
    /// Whether it holds an element.
    Contains(u32),
    /// All its elements.
    Read,
}

/// What a set answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SetRet {
    /// It is done; whether it changed anything isn't said.
    Done,
    /// It is done, and this is whether it changed anything.
    Changed(bool),
    /// Whether the element is there.
    Holds(bool),
    /// The elements.
    Elements(Arc<BTreeSet<u32>>),
}

impl SequentialSpec for Set {
    type Op = SetOp;
    type Ret = SetRet;

    fn invoke(&mut self, op: &SetOp) -> SetRet {
        match op {
            SetOp::Add(element) => SetRet::Changed(self.0.insert(*element)),
            SetOp::Remove(element) => SetRet::Changed(self.0.remove(element)),
            SetOp::Contains(element) => SetRet::Holds(self.0.contains(element)),
            SetOp::Read => SetRet::Elements(Arc::new(self.0.clone())),
        }
    }

    fn is_valid_step(&mut self, op: &SetOp, ret: &SetRet) -> bool {
        match (op, ret) {
            (SetOp::Add(_) | SetOp::Remove(_), SetRet::Done) => {
                self.invoke(op);
                true
            }
            (SetOp::Read, SetRet::Elements(elements)) => self.0 == **elements,
            _ => self.invoke(op) == *ret,
        }
    }
}

/// Sets, one per key, empty at first.
pub(crate) struct Sets;

impl Object for Sets {
    type Spec = Set;

    fn name(&self) -> &'static str {
        "set"
    }

    fn about(&self) -> &'static str {
        "linearizable sets, empty at first: add x, remove x, contains x -> true or false, read -> all elements"
    }

    fn initial(&self) -> Set {
        Set::default()
    }

    fn calls(
        &self,
        operation: &Operation,
        known: Known<'_>,
        values: &mut Values,
        calls: &mut Vec<Call<Set>>,
    ) -> Result<(), String> {
        let element = values.number(&operation.op.value);
        let change = |op, known: Known<'_>| match known {
            Known::Happened(Value::Bool(false)) => Call::look(op, SetRet::Changed(false)),
            Known::Happened(Value::Bool(true)) => Call::new(op, Some(SetRet::Changed(true))),
            Known::Happened(_) => Call::new(op, Some(SetRet::Done)),
            _ => Call::new(op, None),
        };
        calls.push(match (&operation.op.f, known) {
            (Function::Add, known) => change(SetOp::Add(element), known),
            (Function::Other(name), known) if matches!(name.as_str(), "remove" | "delete") => {
                change(SetOp::Remove(element), known)
            }
            (Function::Other(name), known) if name == "contains" => match known {
                Known::Happened(Value::Bool(holds)) => Call::look(SetOp::Contains(element), SetRet::Holds(*holds)),
                Known::Happened(other) => return Err(format!("a contains gave {other}, neither true nor false")),
                _ => return Ok(()),
            },
            (Function::Read, Known::Happened(read)) => match read.as_elements() {
                Some(elements) => {
                    let elements = elements.iter().map(|element| values.number(element)).collect();
                    Call::look(SetOp::Read, SetRet::Elements(Arc::new(elements)))
                }
                None => return Err(format!("a read gave {read}, which is no set")),
            },
            (Function::Read, _) => return Ok(()),
            _ => return cannot(operation, "add, remove, contains and read"),
        });
        Ok(())
    }

    fn split(&self, part: Part<Set>) -> Vec<Part<Set>> {
        if part.entries.iter().any(|entry| entry.op == SetOp::Read) {
            return vec![part];
        }
        let mut parts: BTreeMap<u32, Part<Set>> = BTreeMap::new();
        for (entry, source) in part.entries.into_iter().zip(part.sources) {
            let Some(element) = element(&entry.op) else { continue };
            let empty = || Part { key: part.key.clone(), entries: Vec::new(), sources: Vec::new() };
            let part = parts.entry(element).or_insert_with(empty);
            part.entries.push(entry);
            part.sources.push(source);
        }
        parts.into_values().collect()
    }

    /// Sets that only grow, by calls that each add an element of its own, and are read as a whole:
    /// what was read must grow from read to read, which makes layers: what the first read saw, that
    /// read and all that saw the same, what the next saw beyond that, and so on, and last what
    /// nobody saw. There is an order if and only if no call returned before one of an earlier layer
    /// was invoked. An add that never returned happened if somebody saw its element.
    fn monitor(&self, entries: &Entries<Set>) -> Option<Found> {
        let mut added: BTreeMap<u32, usize> = BTreeMap::new();
        let mut reads: Vec<(usize, &BTreeSet<u32>)> = Vec::new();
        for (at, entry) in entries.iter().enumerate() {
            match (&entry.op, &entry.returned) {
                (SetOp::Add(element), None | Some((_, SetRet::Done | SetRet::Changed(true)))) => {
                    if added.insert(*element, at).is_some() {
                        return None;
                    }
                }
                (SetOp::Read, Some((_, SetRet::Elements(elements)))) => reads.push((at, elements)),
                _ => return None,
            }
        }
        reads.sort_by_key(|(at, elements)| (elements.len(), *at));
        let no = |calls: Vec<usize>, rule| {
            let mut calls = calls;
            calls.sort_unstable();
            calls.dedup();
            Some(Found::Contradiction { calls, rule })
        };
        // The call of an earlier layer that was invoked last.
        let mut latest: Option<usize> = None;
        let mut seen: BTreeSet<u32> = BTreeSet::new();
        let mut last: Option<usize> = None;
        let mut from = 0;
        while from < reads.len() {
            let elements = reads[from].1;
            if let Some(lost) = seen.iter().find(|element| !elements.contains(element)) {
                // The smaller read saw something that the larger one did not.
                let smaller = reads[..from].iter().rev().find(|(_, read)| read.contains(lost)).map(|(at, _)| *at);
                let calls = smaller.into_iter().chain([reads[from].0]).chain(added.get(lost).copied()).collect();
                return no(calls, "two reads each saw an element that the other did not");
            }
            let mut layer = Vec::new();
            for element in elements.difference(&seen) {
                match added.get(element) {
                    Some(add) => layer.push(*add),
                    None => return no(vec![reads[from].0], "a read saw an element that nobody added"),
                }
            }
            let mut to = from;
            while to < reads.len() && reads[to].1.len() == elements.len() {
                if reads[to].1 != elements {
                    let strange = reads[to].1.difference(elements).chain(elements.difference(reads[to].1));
                    let adds = strange.filter_map(|element| added.get(element).copied()).take(2);
                    return no(
                        [reads[from].0, reads[to].0].into_iter().chain(adds).collect(),
                        "two reads each saw an element that the other did not",
                    );
                }
                layer.push(reads[to].0);
                to += 1;
            }
            for at in &layer {
                if let Some(calls) = contradicts(entries, latest, *at, &reads, last) {
                    return no(
                        calls,
                        "the order in which reads saw elements is not that in which calls followed each other",
                    );
                }
            }
            // Adds come before the reads of their layer, in an order that must be found among them.
            let (reads_here, adds_here): (Vec<usize>, Vec<usize>) =
                layer.iter().partition(|at| entries[**at].op == SetOp::Read);
            let last_add = adds_here.iter().copied().max_by_key(|at| entries[*at].invoked);
            for at in &reads_here {
                if let Some(calls) = contradicts(entries, last_add, *at, &reads, last) {
                    return no(calls, "a read saw an element that was added only after it");
                }
            }
            latest = layer.into_iter().chain(latest).max_by_key(|at| entries[*at].invoked);
            last = Some(reads[from].0);
            seen.extend(elements.iter().copied());
            from = to;
        }
        for (element, at) in &added {
            if entries[*at].returned.is_some()
                && !seen.contains(element)
                && let Some(calls) = contradicts(entries, latest, *at, &reads, last)
            {
                return no(calls, "a read did not see an element that had been added before it");
            }
        }
        Some(Found::Order)
    }

    fn search(&self, entries: &Entries<Set>, deadline: Deadline, memory_bytes: usize, certify: bool) -> Outcome {
        let register = |entry: &Entry<SetOp, SetRet>| {
            let ret = entry.returned.as_ref();
            let end = |ret| entry.returned.as_ref().map(|(end, _)| (*end, ret));
            let (op, returned) = match (entry.op, ret.map(|(_, ret)| ret)) {
                (SetOp::Add(_), None | Some(SetRet::Done)) => (RegisterOp::Write(1), end(RegisterRet::Done)),
                (SetOp::Remove(_), None | Some(SetRet::Done)) => (RegisterOp::Write(0), end(RegisterRet::Done)),
                (SetOp::Add(_), Some(SetRet::Changed(true))) => {
                    (RegisterOp::Cas { from: 0, to: 1 }, end(RegisterRet::Done))
                }
                (SetOp::Remove(_), Some(SetRet::Changed(true))) => {
                    (RegisterOp::Cas { from: 1, to: 0 }, end(RegisterRet::Done))
                }
                (SetOp::Add(_), Some(SetRet::Changed(false))) => (RegisterOp::Read, end(RegisterRet::Value(1))),
                (SetOp::Remove(_), Some(SetRet::Changed(false))) => (RegisterOp::Read, end(RegisterRet::Value(0))),
                (SetOp::Contains(_), Some(SetRet::Holds(holds))) => {
                    (RegisterOp::Read, end(RegisterRet::Value(u32::from(*holds))))
                }
                _ => return None,
            };
            Some(Entry { op, invoked: entry.invoked, returned, passive: entry.passive })
        };
        let first = entries.first().and_then(|entry| element(&entry.op));
        if entries.iter().all(|entry| element(&entry.op).is_some() && element(&entry.op) == first)
            && let Some(entries) = entries.iter().map(register).collect::<Option<Vec<_>>>()
        {
            return engine::search_until(0, &entries, deadline, memory_bytes, certify);
        }
        forward::either(self.initial(), entries, deadline, memory_bytes, certify)
    }
}

/// The calls that show that a call can't come after all calls up to a layer: it itself, the one of
/// an earlier layer that was invoked after its return, and what puts them into their layers.
fn contradicts(
    entries: &Entries<Set>,
    earlier: Option<usize>,
    later: usize,
    reads: &[(usize, &BTreeSet<u32>)],
    last_read: Option<usize>,
) -> Option<Vec<usize>> {
    let earlier = earlier?;
    let end = entries[later].returned.as_ref().map_or(u64::MAX, |(end, _)| *end);
    if end >= entries[earlier].invoked {
        return None;
    }
    let mut calls = vec![earlier, later];
    // Adds are in the layer of the first read that saw them: that read, and those that saw the
    // earlier but not the later one.
    for at in [earlier, later] {
        if let SetOp::Add(element) = entries[at].op {
            calls.extend(reads.iter().find(|(_, read)| read.contains(&element)).map(|(at, _)| *at));
        }
    }
    calls.extend(last_read);
    // What else those reads saw must have been added too.
    let seen: BTreeSet<u32> = calls
        .iter()
        .filter_map(|at| match &entries[*at].returned {
            Some((_, SetRet::Elements(elements))) => Some(elements.iter().copied()),
            _ => None,
        })
        .flatten()
        .collect();
    calls.extend((0..entries.len()).filter(|at| matches!(entries[*at].op, SetOp::Add(e) if seen.contains(&e))));
    Some(calls)
}

fn element(op: &SetOp) -> Option<u32> {
    match op {
        SetOp::Add(element) | SetOp::Remove(element) | SetOp::Contains(element) => Some(*element),
        SetOp::Read => None,
    }
}

//! A history of registers as sessions: who read which write, in which order each process asked.
//!
//! Each value may be written to a register once, so every read tells which write it saw. A write of
//! unknown outcome counts exactly if somebody who counts read it; a failed one never. A successful
//! cas `[from to]` reads `from` and writes `to` at one moment.

use crate::Run;
use std::collections::{BTreeMap, HashMap};

use duress_history::formats::{Function, Known, Operation, Value};

use super::{Findings, Unfit, of_key, told};
use crate::models::values::{NIL, Values};

/// What one operation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Access {
    /// Which operation of the history.
    pub(super) operation: usize,
    /// Which session, and its place there.
    pub(super) session: usize,
    pub(super) place: usize,
    /// Which register.
    pub(super) key: usize,
    /// The value read.
    pub(super) read: Option<u32>,
    /// The value written.
    pub(super) write: Option<u32>,
    /// The access that wrote what this one read; `None` if it read what was there at first.
    pub(super) source: Option<usize>,
}

/// A history as sessions.
pub(super) struct Versions<'h> {
    pub(super) history: &'h Run<'h>,
    /// Everything that happened, in the order of the invocations.
    pub(super) accesses: Vec<Access>,
    /// The accesses of each process, in its order.
    pub(super) sessions: Vec<Vec<usize>>,
    /// The registers' names.
    pub(super) keys: Vec<Option<&'h Value>>,
    /// Reads of values that nobody wrote; they are no part of `accesses`.
    pub(super) thin_air: Vec<usize>,
}

/// An operation before it is known whether it counts.
struct Draft {
    operation: usize,
    key: usize,
    read: Option<u32>,
    write: Option<u32>,
    certain: bool,
}

impl<'h> Versions<'h> {
    /// Reads a history of registers. Linear but for hashing.
    pub(super) fn read(history: &'h Run<'h>) -> Result<Versions<'h>, Unfit> {
        let mut values = Values::new(history.conventions);
        let mut known_keys: HashMap<Option<&Value>, usize> = HashMap::new();
        let mut keys: Vec<Option<&Value>> = Vec::new();
        let mut drafts = Vec::new();
        for (at, operation) in history.operations.iter().enumerate() {
            let key = *known_keys.entry(operation.op.key.as_ref()).or_insert_with(|| {
                keys.push(operation.op.key.as_ref());
                keys.len() - 1
            });
            if let Some((read, write, certain)) = draft(operation, history, &mut values)? {
                if write == Some(NIL) {
                    return Err(Unfit::new(
                        operation,
                        "it writes nil, which can't be told from what was there at first",
                    ));
                }
                drafts.push(Draft { operation: at, key, read, write, certain });
            }
        }
        let mut writers: HashMap<(usize, u32), usize> = HashMap::new();
        for (at, draft) in drafts.iter().enumerate() {
            let Some(value) = draft.write else { continue };
            if let Some(earlier) = writers.insert((draft.key, value), at) {
                let line = history.operations[drafts[earlier].operation].invoked.line;
                let why = format!(
                    "it writes a value that line {line} wrote{} before; each may be written once",
                    of_key(keys[draft.key])
                );
                return Err(Unfit::new(&history.operations[draft.operation], why));
            }
        }
        // What counts: what surely happened, and what that read, and so on.
        let mut counts: Vec<bool> = drafts.iter().map(|draft| draft.certain).collect();
        let mut unread: Vec<usize> = (0..drafts.len()).filter(|at| counts[*at]).collect();
        while let Some(at) = unread.pop() {
            let source = drafts[at].read.and_then(|value| writers.get(&(drafts[at].key, value)).copied());
            if let Some(source) = source.filter(|source| !counts[*source]) {
                counts[source] = true;
                unread.push(source);
            }
        }
        Ok(Versions::new(history, keys, &drafts, &counts, &writers))
    }

    fn new(
        history: &'h Run<'h>,
        keys: Vec<Option<&'h Value>>,
        drafts: &[Draft],
        counts: &[bool],
        writers: &HashMap<(usize, u32), usize>,
    ) -> Versions<'h> {
        let mut versions = Versions { history, accesses: Vec::new(), sessions: Vec::new(), keys, thin_air: Vec::new() };
        let mut by_process: HashMap<u64, usize> = HashMap::new();
        let mut placed: Vec<Option<usize>> = vec![None; drafts.len()];
        for (at, draft) in drafts.iter().enumerate().filter(|(at, _)| counts[*at]) {
            let mut read = draft.read;
            if read.is_some_and(|value| value != NIL && !writers.contains_key(&(draft.key, value))) {
                versions.thin_air.push(draft.operation);
                read = None;
            }
            if read.is_none() && draft.write.is_none() {
                continue;
            }
            let process = history.operations[draft.operation].process.0;
            let session = *by_process.entry(process).or_insert_with(|| {
                versions.sessions.push(Vec::new());
                versions.sessions.len() - 1
            });
            let place = versions.sessions[session].len();
            placed[at] = Some(versions.accesses.len());
            versions.sessions[session].push(versions.accesses.len());
            let (operation, key, write) = (draft.operation, draft.key, draft.write);
            versions.accesses.push(Access { operation, session, place, key, read, write, source: None });
        }
        for access in &mut versions.accesses {
            let writer = access.read.and_then(|value| writers.get(&(access.key, value)));
            access.source = writer.and_then(|writer| placed[*writer]);
        }
        versions
    }

    /// The access as a person finds it again.
    pub(super) fn told(&self, access: usize) -> String {
        let access = &self.accesses[access];
        let key = self.keys[access.key].map_or(String::new(), |key| format!(" on {key}"));
        format!("{}{key}", told(&self.history.operations[access.operation]))
    }

    /// The operation of an access.
    pub(super) fn operation(&self, access: usize) -> usize {
        self.accesses[access].operation
    }

    /// Adds reads from thin air to the violations.
    pub(super) fn tell_thin_air(&self, findings: &mut Findings) {
        for at in &self.thin_air {
            let operation = &self.history.operations[*at];
            let key = of_key(operation.op.key.as_ref());
            findings.wrong(format!("Nobody wrote what was read{key}: {}.", told(operation)), vec![*at]);
        }
    }

    /// Figures, and what is said if nothing is wrong.
    pub(super) fn finish(&self, mut findings: Findings, fine: &str) -> Findings {
        let reads = self.accesses.iter().filter(|access| access.read.is_some()).count();
        findings.figure("reads", reads);
        findings.figure("writes", self.accesses.iter().filter(|access| access.write.is_some()).count());
        findings.figure("sessions", self.sessions.len());
        if reads + self.thin_air.len() == 0 {
            findings.doubts.push("Nothing was read.".into());
        }
        findings.fine = format!("{} {fine}.", crate::words::count(reads, "read"));
        findings
    }

    /// Of each register, the sessions that write it and the places at which they do, ascending.
    pub(super) fn writes(&self) -> Vec<BTreeMap<usize, Vec<usize>>> {
        let mut writes: Vec<BTreeMap<usize, Vec<usize>>> = vec![BTreeMap::new(); self.keys.len()];
        for access in self.accesses.iter().filter(|access| access.write.is_some()) {
            writes[access.key].entry(access.session).or_default().push(access.place);
        }
        writes
    }

    /// The history of each register by itself, which is register 0 there.
    pub(super) fn split(&self) -> Vec<Versions<'h>> {
        let alone = |key: &Option<&'h Value>| Versions {
            history: self.history,
            accesses: Vec::new(),
            sessions: Vec::new(),
            keys: vec![*key],
            thin_air: Vec::new(),
        };
        let mut split: Vec<Versions<'h>> = self.keys.iter().map(alone).collect();
        let mut sessions: HashMap<(usize, usize), usize> = HashMap::new();
        let mut placed = Vec::with_capacity(self.accesses.len());
        for access in &self.accesses {
            let one = &mut split[access.key];
            let session = *sessions.entry((access.key, access.session)).or_insert_with(|| {
                one.sessions.push(Vec::new());
                one.sessions.len() - 1
            });
            placed.push(one.accesses.len());
            let place = one.sessions[session].len();
            one.sessions[session].push(one.accesses.len());
            one.accesses.push(Access { session, place, key: 0, ..*access });
        }
        for access in split.iter_mut().flat_map(|one| &mut one.accesses) {
            access.source = access.source.map(|source| placed[source]);
        }
        split
    }
}

/// What an operation reads and writes, and whether it surely happened; `None` if it tells nothing.
#[expect(clippy::type_complexity, reason = "used once, and named by the caller's pattern")]
fn draft(
    operation: &Operation,
    history: &Run<'_>,
    values: &mut Values,
) -> Result<Option<(Option<u32>, Option<u32>, bool)>, Unfit> {
    let known = operation.known(history.conventions);
    let certain = match known {
        Known::Happened(_) => true,
        Known::Maybe => false,
        Known::NotHeld(_) | Known::Nothing => return Ok(None),
    };
    Ok(match (&operation.op.f, known) {
        (Function::Read | Function::Get, Known::Happened(value)) => Some((Some(values.number(value)), None, true)),
        (Function::Read | Function::Get, _) => None,
        (Function::Write | Function::Put, _) => Some((None, Some(values.number(&operation.op.value)), certain)),
        (Function::Cas, _) => match operation.op.value.as_sequence() {
            Some([from, to]) => Some((Some(values.number(from)), Some(values.number(to)), certain)),
            _ => return Err(Unfit::new(operation, format!("its value, {}, is not [from to]", operation.op.value))),
        },
        _ => return Err(Unfit::function(operation, "read, write and cas")),
    })
}

//! Puts invocations and completions together as they are read, and finds keys in values.

use std::collections::BTreeMap;

use smol_str::SmolStr;

use super::parser::quote;
use super::{
    Conventions, Edn, Fault, Format, Function, Imported, ImportedOperation, Keys, Moment, NemesisEntry, newlines,
};
use crate::{Outcome, Process};

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Invoke,
    Complete(Outcome),
}

impl Kind {
    pub(super) fn named(name: &str) -> Option<Kind> {
        match name {
            "invoke" => Some(Kind::Invoke),
            "ok" => Some(Kind::Complete(Outcome::Ok)),
            "fail" => Some(Kind::Complete(Outcome::Fail)),
            "info" => Some(Kind::Complete(Outcome::Info)),
            _ => None,
        }
    }
}

/// Who did it.
#[derive(Clone, Debug)]
pub(super) enum Who {
    Client(u64),
    Named(SmolStr),
}

impl Who {
    /// A number is a client; a keyword, symbol or text names something else.
    pub(super) fn of(value: Edn) -> Result<Who, String> {
        match value {
            Edn::Int(number) => match u64::try_from(number) {
                Ok(number) => Ok(Who::Client(number)),
                // Jepsen's own numbers for the nemesis.
                Err(_) => Ok(Who::Named(number.to_string().into())),
            },
            Edn::Keyword(name) | Edn::Symbol(name) | Edn::Text(name) => Ok(Who::Named(name)),
            other => Err(format!("{} is no process: a number or a keyword is needed", quote(&other.to_string()))),
        }
    }
}

/// An invocation or completion, as read.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) who: Who,
    pub(super) function: Function,
    pub(super) key: Option<Edn>,
    pub(super) value: Edn,
    pub(super) error: Option<Edn>,
    pub(super) time_ns: Option<i64>,
    /// `:index`, where there is one.
    pub(super) index: Option<i64>,
}

pub(super) struct Pairing<'a> {
    bytes: &'a [u8],
    operations: Vec<ImportedOperation>,
    /// The bytes at which the invocation and the completion begin, of each operation.
    spots: Vec<(usize, usize)>,
    nemesis: Vec<NemesisEntry>,
    /// process → index in `operations`
    open: BTreeMap<u64, usize>,
    entries: u64,
    last_index: Option<i64>,
    /// Lines are counted up to this byte.
    counted: usize,
    line: usize,
}

impl<'a> Pairing<'a> {
    pub(super) fn new(text: &'a str) -> Pairing<'a> {
        Pairing {
            bytes: text.as_bytes(),
            operations: Vec::new(),
            spots: Vec::new(),
            nemesis: Vec::new(),
            open: BTreeMap::new(),
            entries: 0,
            last_index: None,
            counted: 0,
            line: 1,
        }
    }

    fn moment(&mut self, at: usize, time_ns: Option<i64>) -> Moment {
        self.line += newlines(&self.bytes[self.counted..at]);
        self.counted = at;
        let index = self.entries;
        self.entries += 1;
        Moment { index, time_ns, line: self.line }
    }

    /// Takes the entry that begins at byte `at`. Entries come in the order of the text.
    pub(super) fn push(&mut self, entry: Entry, at: usize) -> Result<(), Fault> {
        // Old versions of Jepsen write -1 for "not yet numbered".
        if let Some(index) = entry.index.filter(|i| *i >= 0) {
            if let Some(last) = self.last_index.filter(|last| *last >= index) {
                let message = format!("index {index} comes after index {last}: the history is out of order");
                return Err(Fault::new(at, message));
            }
            self.last_index = Some(index);
        }
        let moment = self.moment(at, entry.time_ns);
        let process = match entry.who {
            Who::Client(process) => process,
            Who::Named(process) => {
                let function = entry.function.name().into();
                self.nemesis.push(NemesisEntry { process, function, value: entry.value, at: moment });
                return Ok(());
            }
        };
        match entry.kind {
            Kind::Invoke => self.invoke(process, entry, moment, at),
            Kind::Complete(outcome) => self.complete(process, outcome, entry, moment, at),
        }
    }

    fn invoke(&mut self, process: u64, entry: Entry, moment: Moment, at: usize) -> Result<(), Fault> {
        if let Some(earlier) = self.open.insert(process, self.operations.len()) {
            let line = self.operations[earlier].invoked.line;
            return Err(Fault::new(
                at,
                format!("process {process} invokes an operation while its last one, of line {line}, is in progress"),
            ));
        }
        self.operations.push(ImportedOperation {
            process: Process(process),
            function: entry.function,
            key: entry.key,
            argument: entry.value,
            result: None,
            invoked: moment,
            completed: None,
            outcome: Outcome::Info,
            error: None,
        });
        self.spots.push((at, at));
        Ok(())
    }

    fn complete(
        &mut self,
        process: u64,
        outcome: Outcome,
        entry: Entry,
        moment: Moment,
        at: usize,
    ) -> Result<(), Fault> {
        let Some(index) = self.open.remove(&process) else {
            return Err(Fault::new(
                at,
                format!("process {process} completes an operation that it did not invoke or has already completed"),
            ));
        };
        let operation = &mut self.operations[index];
        if operation.function != entry.function {
            return Err(Fault::new(
                at,
                format!(
                    "process {process} completes {} but had invoked {} (line {})",
                    quote(entry.function.name()),
                    quote(operation.function.name()),
                    operation.invoked.line
                ),
            ));
        }
        if entry.key.is_some() && entry.key != operation.key {
            let line = operation.invoked.line;
            return Err(Fault::new(
                at,
                format!("process {process} completes the operation of line {line} for another key"),
            ));
        }
        operation.completed = Some(moment);
        operation.outcome = outcome;
        operation.error = entry.error;
        if outcome == Outcome::Ok {
            operation.result = Some(entry.value);
        } else if operation.error.is_none()
            && matches!(entry.value, Edn::Keyword(_))
            && entry.value != operation.argument
        {
            operation.error = Some(entry.value);
        }
        self.spots[index].1 = at;
        Ok(())
    }

    pub(super) fn finish(mut self, format: Format, conventions: Conventions, keys: Keys) -> Result<Imported, Fault> {
        if self.operations.is_empty() {
            return Err(Fault::new(self.bytes.len(), "there is no operation of a client in this history"));
        }
        let independent = match keys {
            Keys::Single => false,
            Keys::Independent => true,
            Keys::Auto => self.operations.iter().all(carries_key),
        };
        if independent {
            for (operation, (invoked, completed)) in self.operations.iter_mut().zip(&self.spots) {
                split(operation, *invoked, *completed)?;
            }
        }
        let Pairing { operations, nemesis, entries, .. } = self;
        Ok(Imported { format, conventions, operations, nemesis, entries, independent })
    }
}

/// The parts of an independent tuple. Jepsen prints it as a vector; a tagged one is taken too.
fn tuple(value: &Edn) -> Option<&[Edn]> {
    let inner = match value {
        Edn::Tagged(tag, inner) if tag.ends_with("tuple") => inner,
        other => other,
    };
    match inner {
        Edn::Vector(parts) if parts.len() == 2 => Some(parts),
        _ => None,
    }
}

/// Whether an invocation's value can only be, or might be, an independent tuple. A transaction of
/// two micro-operations looks like one, and so does a cas unless its parts are looked at.
fn carries_key(operation: &ImportedOperation) -> bool {
    let Some([_, value]) = tuple(&operation.argument) else { return false };
    match operation.function {
        Function::Read => *value == Edn::Nil,
        Function::Cas => value.as_sequence().is_some_and(|pair| pair.len() == 2),
        Function::Txn | Function::Transfer => false,
        _ => operation.key.is_none(),
    }
}

fn split(operation: &mut ImportedOperation, invoked: usize, completed: usize) -> Result<(), Fault> {
    let Some([key, value]) = tuple(&operation.argument) else {
        let shown = operation.argument.to_string();
        return Err(Fault::new(invoked, format!("{} is no [key value] tuple", quote(&shown))));
    };
    let (key, value) = (key.clone(), value.clone());
    if let Some(result) = &operation.result {
        match tuple(result) {
            Some([other, result]) if *other == key => operation.result = Some(result.clone()),
            Some(_) => {
                return Err(Fault::new(completed, "the operation completes with another key than it was invoked with"));
            }
            None => {
                let shown = result.to_string();
                return Err(Fault::new(completed, format!("{} is no [key value] tuple", quote(&shown))));
            }
        }
    }
    operation.key = Some(key);
    operation.argument = value;
    Ok(())
}

//! What an import gives: operations of any model, with values as they were written.

use std::fmt;

use smol_str::SmolStr;

use super::{Conventions, Edn, Failed, Format, NilRead};
use crate::{Outcome, Process};

/// What an operation does, by the name that histories give it (`:f`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Function {
    /// `:read`, also `:r`.
    Read,
    /// `:write`, also `:w`.
    Write,
    /// `:cas`, its value `[from to]`.
    Cas,
    /// `:add`: an element to a set, or an amount to a counter.
    Add,
    /// `:get` of a key.
    Get,
    /// `:put` of a key.
    Put,
    /// `:append` to a key's text or list.
    Append,
    /// `:enqueue`.
    Enqueue,
    /// `:dequeue`.
    Dequeue,
    /// `:drain`: dequeues all that is left.
    Drain,
    /// `:acquire` of a lock.
    Acquire,
    /// `:release` of a lock.
    Release,
    /// `:txn`: a list of micro-operations.
    Txn,
    /// `:transfer` between accounts.
    Transfer,
    /// `:generate` of a unique id.
    Generate,
    /// Any other name.
    Other(SmolStr),
}

impl Function {
    /// The function of a name, without its colon.
    pub fn named(name: &str) -> Function {
        match name {
            "read" | "r" => Function::Read,
            "write" | "w" => Function::Write,
            "cas" => Function::Cas,
            "add" => Function::Add,
            "get" => Function::Get,
            "put" => Function::Put,
            "append" => Function::Append,
            "enqueue" => Function::Enqueue,
            "dequeue" => Function::Dequeue,
            "drain" => Function::Drain,
            "acquire" => Function::Acquire,
            "release" => Function::Release,
            "txn" => Function::Txn,
            "transfer" => Function::Transfer,
            "generate" => Function::Generate,
            other => Function::Other(other.into()),
        }
    }

    /// Its name, without a colon.
    pub fn name(&self) -> &str {
        match self {
            Function::Read => "read",
            Function::Write => "write",
            Function::Cas => "cas",
            Function::Add => "add",
            Function::Get => "get",
            Function::Put => "put",
            Function::Append => "append",
            Function::Enqueue => "enqueue",
            Function::Dequeue => "dequeue",
            Function::Drain => "drain",
            Function::Acquire => "acquire",
            Function::Release => "release",
            Function::Txn => "txn",
            Function::Transfer => "transfer",
            Function::Generate => "generate",
            Function::Other(name) => name,
        }
    }

    /// Whether it asks without changing anything.
    pub fn reads(&self) -> bool {
        matches!(self, Function::Read | Function::Get)
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// When something happened, in the three ways that a history can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Its position among all operation maps or lines of the text, from zero. This alone is the
    /// order of the history.
    pub index: u64,
    /// Nanoseconds since the test began, if the text says so. Not always ascending.
    pub time_ns: Option<i64>,
    /// The line on which it begins, from one.
    pub line: usize,
}

/// One operation of a client, from invocation to completion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedOperation {
    /// Who asked.
    pub process: Process,
    /// What was asked.
    pub function: Function,
    /// Of which key, where the history has keys: `:key`, or the first part of an independent tuple.
    pub key: Option<Edn>,
    /// The invocation's value.
    pub argument: Edn,
    /// The completion's value, if it succeeded.
    pub result: Option<Edn>,
    /// When it was asked.
    pub invoked: Moment,
    /// When it ended; `None` if its end was never recorded.
    pub completed: Option<Moment>,
    /// How it ended; an end never recorded counts as [`Outcome::Info`].
    pub outcome: Outcome,
    /// Why it did not succeed: `:error`, or a completion's value such as `:timed-out`.
    pub error: Option<Edn>,
}

/// What is known of an operation's effect, by a history's conventions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known<'a> {
    /// It happened, and gave this back.
    Happened(&'a Edn),
    /// It happened now or later, or never.
    Maybe,
    /// It had no effect, and the register did not hold this value at some moment between
    /// invocation and completion.
    NotHeld(&'a Edn),
    /// It had no effect and tells nothing.
    Nothing,
}

impl ImportedOperation {
    /// What the operation tells a checker. `Nothing` can be left out of any search.
    pub fn known(&self, conventions: Conventions) -> Known<'_> {
        match (self.outcome, &self.function, &self.result) {
            (Outcome::Ok, function, Some(Edn::Nil)) if function.reads() && conventions.nil_read == NilRead::Unknown => {
                Known::Nothing
            }
            (Outcome::Ok, _, Some(result)) => Known::Happened(result),
            (Outcome::Ok, _, None) => Known::Happened(&Edn::Nil),
            (Outcome::Info, function, _) if function.reads() => Known::Nothing,
            (Outcome::Info, ..) => Known::Maybe,
            // A cas that failed for want of an answer (`:timed-out`) saw nothing.
            (Outcome::Fail, Function::Cas, _) if conventions.failed == Failed::Assert && self.error.is_none() => {
                match self.argument.as_sequence() {
                    Some([from, _]) => Known::NotHeld(from),
                    _ => Known::Nothing,
                }
            }
            (Outcome::Fail, ..) => Known::Nothing,
        }
    }
}

/// Something that was done by no client: Jepsen's nemesis, and any process without a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NemesisEntry {
    /// The process's name, such as `nemesis`.
    pub process: SmolStr,
    /// What was done.
    pub function: SmolStr,
    /// Its value.
    pub value: Edn,
    /// When.
    pub at: Moment,
}

/// A history that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// How it was written.
    pub format: Format,
    /// What its ambiguous cases mean.
    pub conventions: Conventions,
    /// The operations of clients, in the order of their invocations.
    pub operations: Vec<ImportedOperation>,
    /// What was done by no client, in order.
    pub nemesis: Vec<NemesisEntry>,
    /// Invocations and completions together, the nemesis's included.
    pub entries: u64,
    /// Whether `key` was taken from independent tuples.
    pub independent: bool,
}

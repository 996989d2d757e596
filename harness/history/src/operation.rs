//! Operations, from invocation to completion, whatever the history they are from.

use smol_str::SmolStr;

use crate::{Client, Function, Host, Op, Outcome, Process, Time, Value};

/// When something happened, in the three ways that a history can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Its position among all entries of the history, from zero. This alone is the order of the
    /// history.
    pub index: u64,
    /// Nanoseconds since the run began, if the history says so. In histories made elsewhere not
    /// always ascending.
    pub time_ns: Option<i64>,
    /// The line on which it begins, from one.
    pub line: usize,
}

impl Moment {
    /// The time since the run began; zero if the history doesn't say, or says that it was before.
    pub fn time(&self) -> Time {
        Time(self.time_ns.and_then(|nanos| u64::try_from(nanos).ok()).unwrap_or_default())
    }
}

/// One operation of a client, from invocation to completion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Who asked.
    pub process: Process,
    /// Where it ran and whom it asked first, when that is known.
    pub client: Option<Client>,
    /// What was asked.
    pub op: Op,
    /// What it gave back, if it happened. What gives nothing back has its argument here, as Jepsen
    /// repeats it.
    pub result: Option<Value>,
    /// When it was asked.
    pub invoked: Moment,
    /// When it ended; `None` if its end was never recorded.
    pub completed: Option<Moment>,
    /// How it ended; an end never recorded counts as [`Outcome::Info`].
    pub outcome: Outcome,
    /// Why it did not succeed: Jepsen's `:error`, or a completion's value such as `:timed-out`.
    pub error: Option<Value>,
    /// The node that answered.
    pub node: Option<Host>,
    /// The term in which it answered.
    pub term: Option<u64>,
}

/// What a successful read of `nil` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NilRead {
    /// The register had no value.
    Unset,
    /// Nothing: what was read is not known.
    Unknown,
}

/// What a failed operation tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failed {
    /// Only that it had no effect.
    Drop,
    /// A failed cas that gives no error also says that the register did not hold its `from`.
    Assert,
}

/// What the two ambiguous cases mean in one history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conventions {
    /// What a read of `nil` tells.
    pub nil_read: NilRead,
    /// What a failure tells.
    pub failed: Failed,
}

impl Conventions {
    /// Those of our own histories.
    pub const OWN: Conventions = Conventions { nil_read: NilRead::Unset, failed: Failed::Drop };
}

/// What is known of an operation's effect, by a history's conventions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known<'a> {
    /// It happened, and gave this back.
    Happened(&'a Value),
    /// It happened now or later, or never.
    Maybe,
    /// It had no effect, and the register did not hold this value at some moment between
    /// invocation and completion.
    NotHeld(&'a Value),
    /// It had no effect and tells nothing.
    Nothing,
}

impl Operation {
    /// What the operation tells a judge. `Nothing` can be left out of any search.
    pub fn known(&self, conventions: Conventions) -> Known<'_> {
        match (self.outcome, &self.op.f, &self.result) {
            (Outcome::Ok, function, Some(Value::Nil))
                if function.reads() && conventions.nil_read == NilRead::Unknown =>
            {
                Known::Nothing
            }
            (Outcome::Ok, _, Some(result)) => Known::Happened(result),
            (Outcome::Ok, _, None) => Known::Happened(&Value::Nil),
            (Outcome::Info, function, _) if function.reads() => Known::Nothing,
            (Outcome::Info, ..) => Known::Maybe,
            // A cas that failed for want of an answer (`:timed-out`) saw nothing.
            (Outcome::Fail, Function::Cas, _) if conventions.failed == Failed::Assert && self.error.is_none() => {
                match self.op.value.as_sequence() {
                    Some([from, _]) => Known::NotHeld(from),
                    _ => Known::Nothing,
                }
            }
            (Outcome::Fail, ..) => Known::Nothing,
        }
    }

    /// The time at which it was asked.
    pub fn began(&self) -> Time {
        self.invoked.time()
    }

    /// The time at which it ended; `None` if its end was never recorded.
    pub fn ended(&self) -> Option<Time> {
        self.completed.map(|moment| moment.time())
    }

    /// The key as text, where it is one.
    pub fn key(&self) -> Option<&SmolStr> {
        self.op.key_text()
    }

    /// Why it did not succeed, as a short name.
    pub fn error_name(&self) -> Option<&str> {
        match self.error.as_ref()? {
            Value::Keyword(name) | Value::Text(name) | Value::Symbol(name) => Some(name),
            _ => None,
        }
    }
}

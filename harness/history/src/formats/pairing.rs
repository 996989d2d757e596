//! Puts invocations and completions together as they are read, and finds keys in values.

use std::collections::BTreeMap;

use smol_str::SmolStr;

use super::parser::quote;
use super::{Conventions, Format, Function, Imported, Keys, Moment, NemesisEntry, Operation, Place, ReadError, Value};
use crate::{Client, Event, Host, Op, Outcome, Process};

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
    /// A client that the text does not name.
    Nobody,
}

impl Who {
    /// A number is a client; a keyword, symbol or text names something else.
    pub(super) fn of(value: Value) -> Result<Who, String> {
        match value {
            Value::Int(number) => match u64::try_from(number) {
                Ok(number) => Ok(Who::Client(number)),
                // Jepsen's own numbers for the nemesis.
                Err(_) => Ok(Who::Named(number.to_string().into())),
            },
            Value::Keyword(name) | Value::Symbol(name) | Value::Text(name) => Ok(Who::Named(name)),
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
    pub(super) key: Option<Value>,
    pub(super) value: Value,
    pub(super) error: Option<Value>,
    pub(super) time_ns: Option<i64>,
    /// `:index`, where there is one.
    pub(super) index: Option<i64>,
    /// Where the client runs and whom it asks first: what only our own histories say, as the next three.
    pub(super) client: Option<Client>,
    /// With which value the operation that is completed was invoked.
    pub(super) asked: Option<Value>,
    /// The node that answered.
    pub(super) node: Option<Host>,
    /// Its term.
    pub(super) term: Option<u64>,
}

/// How many operations of unnamed clients may be open at a time.
const MAX_NAMELESS: usize = 4096;

#[derive(Default)]
pub(super) struct Pairing {
    operations: Vec<Operation>,
    /// The columns at which the invocation and the completion begin, of each operation.
    columns: Vec<(u32, u32)>,
    nemesis: Vec<NemesisEntry>,
    open: Open,
    /// Open operations of unnamed clients, and all operations of such.
    nameless_open: Vec<usize>,
    nameless: Vec<usize>,
    entries: u64,
    last_index: Option<i64>,
    /// The events of our own histories, and whether the last line was cut off.
    events: Vec<Event>,
    truncated: bool,
}

/// Which operation each process has in progress.
#[derive(Default)]
struct Open {
    /// For small process numbers; 0 is none, else one more than the operation.
    small: Vec<usize>,
    large: BTreeMap<u64, usize>,
}

impl Open {
    const SMALL: u64 = 1 << 16;

    /// Sets a process's operation; the one that it had before.
    fn insert(&mut self, process: u64, operation: usize) -> Option<usize> {
        if process >= Open::SMALL {
            return self.large.insert(process, operation);
        }
        let at = process as usize;
        if at >= self.small.len() {
            self.small.resize(at + 1, 0);
        }
        std::mem::replace(&mut self.small[at], operation + 1).checked_sub(1)
    }

    fn remove(&mut self, process: u64) -> Option<usize> {
        if process >= Open::SMALL {
            return self.large.remove(&process);
        }
        std::mem::take(self.small.get_mut(process as usize)?).checked_sub(1)
    }
}

impl Pairing {
    /// Takes what the next event of ours says. Its position is that of the event.
    pub(super) fn push_event(&mut self, entry: Entry, at: Place) -> Result<(), ReadError> {
        self.entries = self.events.len() as u64;
        self.push(entry, at)
    }

    /// Keeps an event of ours.
    pub(super) fn keep(&mut self, event: Event) {
        self.events.push(event);
        self.entries = self.events.len() as u64;
    }

    /// The last line was cut off.
    pub(super) fn cut_off(&mut self) {
        self.truncated = true;
    }

    /// Takes the entry that begins at a place. Entries come in the order of the text.
    pub(super) fn push(&mut self, entry: Entry, at: Place) -> Result<(), ReadError> {
        // Old versions of Jepsen write -1 for "not yet numbered".
        if let Some(index) = entry.index.filter(|i| *i >= 0) {
            if let Some(last) = self.last_index.filter(|last| *last >= index) {
                return Err(at.error(format!("index {index} comes after index {last}: the history is out of order")));
            }
            self.last_index = Some(index);
        }
        let moment = Moment { index: self.entries, time_ns: entry.time_ns, line: at.line };
        self.entries += 1;
        match (&entry.who, entry.kind) {
            (Who::Named(process), _) => {
                let (process, function) = (process.clone(), entry.function.name().into());
                self.nemesis.push(NemesisEntry { process, function, value: entry.value, at: moment });
                Ok(())
            }
            (Who::Client(process), Kind::Invoke) => self.invoke(*process, entry, moment, at),
            (Who::Client(process), Kind::Complete(outcome)) => {
                let process = *process;
                let Some(index) = self.open.remove(process) else {
                    return Err(at.error(format!(
                        "process {process} completes an operation that it did not invoke or has already completed"
                    )));
                };
                self.complete(index, outcome, entry, moment, at)
            }
            (Who::Nobody, Kind::Invoke) => {
                if self.nameless_open.len() == MAX_NAMELESS {
                    return Err(at.error(format!("more than {MAX_NAMELESS} operations without :process are open")));
                }
                self.nameless_open.push(self.operations.len());
                self.nameless.push(self.operations.len());
                self.begin(0, entry, moment, at);
                Ok(())
            }
            (Who::Nobody, Kind::Complete(outcome)) => {
                let index = self.nameless_match(&entry).map_err(|message| at.error(message))?;
                self.complete(index, outcome, entry, moment, at)
            }
        }
    }

    /// The open operation that an entry without a process completes, if there is just one.
    fn nameless_match(&mut self, entry: &Entry) -> Result<usize, String> {
        let of_function = |at: &&usize| self.operations[**at].op.f == entry.function;
        let candidates: Vec<usize> = self.nameless_open.iter().filter(of_function).copied().collect();
        let same = |at: &&usize| self.operations[**at].op.value == entry.value;
        let exact: Vec<usize> = candidates.iter().filter(same).copied().collect();
        let found = match (&candidates[..], &exact[..]) {
            ([only], _) => *only,
            (_, [only]) => *only,
            ([], _) => return Err("this completes an operation without :process that was not invoked".to_string()),
            _ => return Err("without :process it can't be told which operation this completes".to_string()),
        };
        self.nameless_open.retain(|at| *at != found);
        Ok(found)
    }

    #[inline]
    fn invoke(&mut self, process: u64, entry: Entry, moment: Moment, at: Place) -> Result<(), ReadError> {
        if let Some(earlier) = self.open.insert(process, self.operations.len()) {
            let line = self.operations[earlier].invoked.line;
            return Err(at.error(format!(
                "process {process} invokes an operation while its last one, of line {line}, is in progress"
            )));
        }
        self.begin(process, entry, moment, at);
        Ok(())
    }

    #[inline]
    fn begin(&mut self, process: u64, entry: Entry, moment: Moment, at: Place) {
        self.operations.push(Operation {
            process: Process(process),
            client: entry.client,
            op: Op { f: entry.function, key: entry.key, value: entry.value },
            result: None,
            invoked: moment,
            completed: None,
            outcome: Outcome::Info,
            error: None,
            node: None,
            term: None,
        });
        self.columns.push((column(at), 1));
    }

    #[inline]
    fn complete(
        &mut self,
        index: usize,
        outcome: Outcome,
        entry: Entry,
        moment: Moment,
        at: Place,
    ) -> Result<(), ReadError> {
        let operation = &mut self.operations[index];
        let (process, line) = (operation.process.0, operation.invoked.line);
        if operation.op.f != entry.function {
            let (completed, invoked) = (quote(entry.function.name()), quote(operation.op.f.name()));
            return Err(
                at.error(format!("process {process} completes {completed} but had invoked {invoked} (line {line})"))
            );
        }
        if entry.key.is_some() && entry.key != operation.op.key {
            return Err(at.error(format!("process {process} completes the operation of line {line} for another key")));
        }
        if entry.asked.as_ref().is_some_and(|asked| *asked != operation.op.value || entry.key != operation.op.key) {
            return Err(at.error(format!("process {process} completes another operation than that of line {line}")));
        }
        operation.completed = Some(moment);
        operation.outcome = outcome;
        operation.error = entry.error;
        operation.node = entry.node;
        operation.term = entry.term;
        if outcome == Outcome::Ok {
            operation.result = Some(entry.value);
        } else if operation.error.is_none()
            && matches!(entry.value, Value::Keyword(_))
            && entry.value != operation.op.value
        {
            operation.error = Some(entry.value);
        }
        self.columns[index].1 = column(at);
        Ok(())
    }

    /// What was read; `end` is where the text ends.
    pub(super) fn finish(
        mut self,
        end: Place,
        format: Format,
        conventions: Conventions,
        keys: Keys,
    ) -> Result<Imported, ReadError> {
        if self.operations.is_empty() {
            return Err(end.error("there is no operation of a client in this history"));
        }
        self.name_the_nameless().ok_or_else(|| end.error("there are no process numbers left"))?;
        let independent = match keys {
            Keys::Single => false,
            Keys::Independent => true,
            Keys::Auto => self.operations.iter().all(carries_key),
        };
        if independent {
            for (operation, columns) in self.operations.iter_mut().zip(&self.columns) {
                split(operation, *columns)?;
            }
        }
        let Pairing { operations, nemesis, entries, events, truncated, .. } = self;
        Ok(Imported { format, conventions, operations, nemesis, entries, independent, events, truncated })
    }

    /// Gives each operation of an unnamed client a process of its own.
    fn name_the_nameless(&mut self) -> Option<()> {
        if self.nameless.is_empty() {
            return Some(());
        }
        let mut next = self.operations.iter().map(|operation| operation.process.0).max()?;
        for at in &self.nameless {
            next = next.checked_add(1)?;
            self.operations[*at].process = Process(next);
        }
        Some(())
    }
}

/// The parts of an independent tuple. Jepsen prints it as a vector; a tagged one is taken too.
fn tuple(value: &Value) -> Option<&[Value]> {
    let inner = match value {
        Value::Tagged(tag, inner) if tag.ends_with("tuple") => inner,
        other => other,
    };
    match inner {
        Value::Vector(parts) if parts.len() == 2 => Some(parts),
        _ => None,
    }
}

/// Whether an invocation's value can only be, or might be, an independent tuple. A transaction of
/// two micro-operations looks like one, and so does a cas, unless their parts are looked at.
fn carries_key(operation: &Operation) -> bool {
    let Some([key, value]) = tuple(&operation.op.value) else { return false };
    match operation.op.f {
        Function::Read => *value == Value::Nil,
        Function::Cas => value.as_sequence().is_some_and(|pair| pair.len() == 2),
        Function::Txn => key.as_sequence().is_none() && value.as_sequence().is_some(),
        Function::Transfer => false,
        _ => operation.op.key.is_none(),
    }
}

fn into_tuple(value: Value) -> Result<(Value, Value), Value> {
    let inner = match value {
        Value::Tagged(tag, inner) if tag.ends_with("tuple") => *inner,
        other => other,
    };
    match inner {
        Value::Vector(mut parts) if parts.len() == 2 => {
            let value = parts.pop().unwrap_or_default();
            Ok((parts.pop().unwrap_or_default(), value))
        }
        other => Err(other),
    }
}

/// A column beyond four thousand million is as good as that.
fn column(at: Place) -> u32 {
    u32::try_from(at.column).unwrap_or(u32::MAX)
}

fn split(operation: &mut Operation, columns: (u32, u32)) -> Result<(), ReadError> {
    let place = |moment: Moment, column: u32| Place { line: moment.line, column: column as usize };
    let invoked = place(operation.invoked, columns.0);
    let completed = place(operation.completed.unwrap_or(operation.invoked), columns.1);
    let no_tuple = |at: Place, value: Value| at.error(format!("{} is no [key value] tuple", quote(&value.to_string())));
    let (key, argument) =
        into_tuple(std::mem::take(&mut operation.op.value)).map_err(|value| no_tuple(invoked, value))?;
    if let Some(result) = operation.result.take() {
        let (other, result) = into_tuple(result).map_err(|value| no_tuple(completed, value))?;
        if other != key {
            return Err(completed.error("the operation completes with another key than it was invoked with"));
        }
        operation.result = Some(result);
    }
    operation.op.key = Some(key);
    operation.op.value = argument;
    Ok(())
}

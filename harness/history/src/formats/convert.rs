//! Imported operations as events of our own, as far as [`Op`] can say them.

use smol_str::{SmolStr, ToSmolStr};

use super::{Edn, Format, Function, Imported, ImportedOperation, Known};
use crate::{Completion, Event, EventKind, Header, Invocation, Op, Outcome, Phase, Ret, Time, Value};

/// The key of a register in a history without keys.
const REGISTER: &str = "register";

/// A history in our own events, and what the conversion had to leave out or weaken.
#[derive(Clone, Debug, PartialEq)]
pub struct Converted {
    /// Header, invocations, completions and the end. Times are those of the text where all
    /// entries have one (kept from running backwards), otherwise an entry's position in ns.
    pub events: Vec<Event>,
    /// How many operations no [`Op`] can say. A verdict on `events` says nothing of them.
    pub unfit: usize,
    /// The line and the reason of the first of them.
    pub first_unfit: Option<(usize, String)>,
    /// How many failed operations assert something ([`Known::NotHeld`]) that events can't say.
    /// `invalid` holds all the same; `valid` only for the history without these assertions.
    pub weakened: usize,
    /// How many successful reads were left out because their result tells nothing.
    pub unconstrained: usize,
}

/// What the operations of a history are about, which decides what a read is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Subject {
    Registers,
    Set,
}

struct Conversion<'a> {
    imported: &'a Imported,
    subject: Subject,
    appends: bool,
    /// All keys are texts, so they can stand as they are.
    text_keys: bool,
}

impl Imported {
    /// The history as events, for checkers of our own operations. O(n).
    pub fn events(&self) -> Converted {
        let has = |wanted: &Function| self.operations.iter().any(|o| o.function == *wanted);
        let reads_collections = || {
            self.operations
                .iter()
                .filter(|o| o.function == Function::Read)
                .filter_map(|o| o.result.as_ref())
                .all(|r| *r == Edn::Nil || r.as_elements().is_some())
        };
        let conversion = Conversion {
            imported: self,
            subject: if has(&Function::Add) && !has(&Function::Write) && reads_collections() {
                Subject::Set
            } else {
                Subject::Registers
            },
            appends: has(&Function::Append),
            text_keys: self.operations.iter().filter_map(|o| o.key.as_ref()).all(|k| matches!(k, Edn::Text(_))),
        };
        conversion.run()
    }
}

impl Conversion<'_> {
    fn run(&self) -> Converted {
        let mut unfit = 0;
        let mut first_unfit = None;
        let mut weakened = 0;
        let mut unconstrained = 0;
        // (position in the text, time, what)
        let mut entries: Vec<(u64, Option<i64>, EventKind)> = Vec::with_capacity(self.imported.operations.len() * 2);
        for operation in &self.imported.operations {
            let known = operation.known(self.imported.conventions);
            if known == Known::Nothing && operation.outcome == Outcome::Ok {
                unconstrained += 1;
                continue;
            }
            let converted = self.op(operation).and_then(|op| Ok((self.ret(operation, &op)?, op)));
            let (ret, op) = match converted {
                Ok(converted) => converted,
                Err(reason) => {
                    unfit += 1;
                    first_unfit.get_or_insert((operation.invoked.line, reason));
                    continue;
                }
            };
            weakened += usize::from(matches!(known, Known::NotHeld(_)));
            let process = operation.process;
            let invocation = Invocation { process, client: None, op: op.clone() };
            let invoked = operation.invoked;
            entries.push((invoked.index, invoked.time_ns, EventKind::Invoke(invocation)));
            if let Some(completed) = operation.completed {
                let completion = Completion {
                    process,
                    outcome: operation.outcome,
                    op,
                    ret,
                    error: operation.error.as_ref().map(short),
                    node: None,
                    term: None,
                };
                entries.push((completed.index, completed.time_ns, EventKind::Complete(completion)));
            }
        }
        entries.sort_by_key(|(index, ..)| *index);
        Converted { events: events(entries), unfit, first_unfit, weakened, unconstrained }
    }

    fn key(&self, operation: &ImportedOperation) -> SmolStr {
        match &operation.key {
            None => REGISTER.into(),
            Some(Edn::Text(text)) if self.text_keys => text.clone(),
            Some(key) => text(key),
        }
    }

    /// Porcupine's missing key reads as the empty text.
    fn value(&self, value: &Edn) -> Value {
        match value {
            Edn::Nil => Value::Nil,
            Edn::Int(number) => Value::Int(*number),
            Edn::Text(text) if text.is_empty() && self.imported.format == Format::Porcupine => Value::Nil,
            // Our own values are told apart already.
            Edn::Text(text) if self.imported.format == Format::JsonLines => Value::Text(text.clone()),
            other => Value::Text(text(other)),
        }
    }

    fn op(&self, operation: &ImportedOperation) -> Result<Op, String> {
        let argument = &operation.argument;
        match (&operation.function, self.subject) {
            (Function::Get | Function::Put, _) if self.appends => Err("a key with appends is no register".to_string()),
            (Function::Read, Subject::Set) => Ok(Op::Elements),
            (Function::Read | Function::Get, _) => Ok(Op::Read { key: self.key(operation) }),
            (Function::Write | Function::Put, _) => {
                Ok(Op::Write { key: self.key(operation), value: self.value(argument) })
            }
            (Function::Cas, _) => match argument.as_sequence() {
                Some([from, to]) => {
                    Ok(Op::Cas { key: self.key(operation), from: self.value(from), to: self.value(to) })
                }
                _ => Err("the value of a cas is not [from to]".to_string()),
            },
            (Function::Acquire, _) => match argument.get("lease-ms").and_then(whole) {
                Some(lease_ms) => Ok(Op::Acquire { lock: self.key(operation), lease_ms }),
                None => Err("an acquisition without a lease".to_string()),
            },
            (Function::Release, _) => match whole(argument) {
                Some(token) => Ok(Op::Release { lock: self.key(operation), token }),
                None => Err("a release without a token".to_string()),
            },
            (Function::Other(name), _) if name == "renew" || name == "access" => {
                let lock = self.key(operation);
                let number = |name| argument.get(name).and_then(whole);
                match (number("token"), number("lease-ms"), number("work-ms")) {
                    (Some(token), Some(lease_ms), _) if name == "renew" => Ok(Op::Renew { lock, token, lease_ms }),
                    (Some(token), _, Some(work_ms)) if name == "access" => Ok(Op::Access { lock, token, work_ms }),
                    _ => Err(format!("{name} without its token or time")),
                }
            }
            (Function::Add, Subject::Set) if operation.key.is_none() => match argument.as_int() {
                Some(element) => Ok(Op::Add { element }),
                None => Err("only whole numbers are elements of a set".to_string()),
            },
            (function, _) => Err(format!("no operation of ours is a {}", super::parser::quote(function.name()))),
        }
    }

    fn ret(&self, operation: &ImportedOperation, op: &Op) -> Result<Ret, String> {
        let (Outcome::Ok, Some(result)) = (operation.outcome, &operation.result) else { return Ok(Ret::Done) };
        match op {
            Op::Read { .. } => Ok(Ret::Value(self.value(result))),
            Op::Elements => {
                let elements = result.as_elements().unwrap_or_default();
                let numbers: Option<Vec<i64>> = elements.iter().map(Edn::as_int).collect();
                numbers.map(Ret::Elements).ok_or_else(|| "only whole numbers are elements of a set".to_string())
            }
            Op::Acquire { .. } => {
                whole(result).map(Ret::Token).ok_or_else(|| "a granted lock without a token".to_string())
            }
            _ => Ok(Ret::Done),
        }
    }
}

/// A number that may go up to `u64::MAX`.
fn whole(value: &Edn) -> Option<u64> {
    match value {
        Edn::Int(number) => u64::try_from(*number).ok(),
        Edn::Number(digits) => digits.parse().ok(),
        _ => None,
    }
}

fn events(entries: Vec<(u64, Option<i64>, EventKind)>) -> Vec<Event> {
    let timed = entries.iter().all(|(_, time, _)| time.is_some_and(|t| t >= 0));
    let header = Header {
        version: Header::VERSION,
        scenario: "imported".into(),
        seed: 0,
        nodes: Vec::new(),
        clients: Vec::new(),
        started_unix_ms: 0,
    };
    let mut events = Vec::with_capacity(entries.len() + 2);
    events.push(Event { time: Time(0), kind: EventKind::Header(header) });
    let mut last = Time(0);
    for (index, time, kind) in entries {
        let time = if timed { time.and_then(|t| u64::try_from(t).ok()).unwrap_or(index) } else { index };
        // Jepsen stamps before it orders, so times of neighbours may be swapped.
        last = last.max(Time(time));
        events.push(Event { time: last, kind });
    }
    events.push(Event { time: last, kind: EventKind::Phase { phase: Phase::End } });
    events
}

/// A value as text, different for different values: texts stand as they are unless they could be
/// taken for another kind.
pub(super) fn text(value: &Edn) -> SmolStr {
    match value {
        Edn::Text(text) => {
            let plain = text.chars().next().is_some_and(char::is_alphabetic)
                && !matches!(text.as_str(), "true" | "false" | "nil");
            if plain { text.clone() } else { value.to_smolstr() }
        }
        // Without the mark a symbol would look like a text.
        Edn::Symbol(name) => SmolStr::from(format!("'{name}")),
        other => other.to_smolstr(),
    }
}

/// An error as a short name: `timed-out` of `:timed-out`, or of `[:timed-out "…"]`.
fn short(error: &Edn) -> SmolStr {
    match error {
        Edn::Keyword(name) => name.clone(),
        Edn::Text(text) => text.clone(),
        Edn::Vector(parts) if matches!(parts.first(), Some(Edn::Keyword(_))) => short(&parts[0]),
        other => other.to_smolstr(),
    }
}

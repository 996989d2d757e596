//! Imported operations as events of our own.

use smol_str::{SmolStr, ToSmolStr};

use super::{Format, Imported, Known, Operation, Value};
use crate::{Completion, Event, EventKind, Header, Invocation, Op, Outcome, Phase, Time};

/// A history in our own events, and what the conversion had to leave out or weaken.
#[derive(Clone, Debug, PartialEq)]
pub struct Converted {
    /// Header, invocations, completions and the end. Times are those of the text where all
    /// entries have one (kept from running backwards), otherwise an entry's position in ns.
    pub events: Vec<Event>,
    /// How many failed operations assert something ([`Known::NotHeld`]) that events can't say.
    /// `invalid` holds all the same; `valid` only for the history without these assertions.
    pub weakened: usize,
    /// How many successful reads were left out because their result tells nothing.
    pub unconstrained: usize,
}

impl Imported {
    /// The history as events. O(n log n).
    pub fn events(&self) -> Converted {
        if self.format == Format::JsonLines {
            return Converted { events: self.events.clone(), weakened: 0, unconstrained: 0 };
        }
        let mut weakened = 0;
        let mut unconstrained = 0;
        // (position in the text, time, what)
        let mut entries: Vec<(u64, Option<i64>, EventKind)> = Vec::with_capacity(self.operations.len() * 2);
        for operation in &self.operations {
            let known = operation.known(self.conventions);
            if known == Known::Nothing && operation.outcome == Outcome::Ok {
                unconstrained += 1;
                continue;
            }
            weakened += usize::from(matches!(known, Known::NotHeld(_)));
            let process = operation.process;
            let op = operation.op.clone();
            let invocation = Invocation { process, client: None, op: op.clone() };
            let invoked = operation.invoked;
            entries.push((invoked.index, invoked.time_ns, EventKind::Invoke(invocation)));
            if let Some(completed) = operation.completed {
                let completion = Completion {
                    process,
                    outcome: operation.outcome,
                    result: self.result(operation, &op),
                    op,
                    error: operation.error.as_ref().map(short),
                    node: None,
                    term: None,
                };
                entries.push((completed.index, completed.time_ns, EventKind::Complete(completion)));
            }
        }
        entries.sort_by_key(|(index, ..)| *index);
        Converted { events: events(entries), weakened, unconstrained }
    }

    /// What was given back; what only repeats the argument is left out. Porcupine's missing key
    /// reads as the empty text.
    fn result(&self, operation: &Operation, op: &Op) -> Value {
        match &operation.result {
            Some(_) if operation.outcome != Outcome::Ok => Value::Nil,
            Some(Value::Text(text)) if text.is_empty() && self.format == Format::Porcupine => Value::Nil,
            Some(result) if *result != op.value => result.clone(),
            _ => Value::Nil,
        }
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
pub(super) fn text(value: &Value) -> SmolStr {
    match value {
        Value::Text(text) => {
            let plain = text.chars().next().is_some_and(char::is_alphabetic)
                && !matches!(text.as_str(), "true" | "false" | "nil");
            if plain { text.clone() } else { value.to_smolstr() }
        }
        // Without the mark a symbol would look like a text.
        Value::Symbol(name) => SmolStr::from(format!("'{name}")),
        other => other.to_smolstr(),
    }
}

/// An error as a short name: `timed-out` of `:timed-out`, or of `[:timed-out "…"]`.
fn short(error: &Value) -> SmolStr {
    match error {
        Value::Keyword(name) => name.clone(),
        Value::Text(text) => text.clone(),
        Value::Vector(parts) if matches!(parts.first(), Some(Value::Keyword(_))) => short(&parts[0]),
        other => other.to_smolstr(),
    }
}

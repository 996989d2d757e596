//! Our own events as imported operations, so that any model can judge a stored run: the way back
//! from [`Imported::events`](super::Imported::events).
//!
//! | operation | function | key | argument | result |
//! |---|---|---|---|---|
//! | read | read | the register | | the value |
//! | write | write | the register | the value | |
//! | cas | cas | the register | `[from to]` | |
//! | add, elements | add, read | | the element | the elements, a vector |
//! | acquire | acquire | the lock | `{:lease-ms n}` | the token |
//! | release | release | the lock | the token | |
//! | renew | renew | the lock | `{:lease-ms n, :token t}` | |
//! | access | access | the lock | `{:token t, :work-ms n}` | |

use std::io::Read;

use smol_str::SmolStr;

use super::pairing::{Entry, Kind, Pairing, Who};
use super::{Edn, Function, ReadError, Source};
use crate::jsonl::{self, MAX_LINE};
use crate::{Event, EventKind, Header, Op, Outcome, Ret, Value};

/// Reads all lines. A last line without a line break was cut off by a crash, and is left out if it
/// is no event.
pub(super) fn read<R: Read>(source: &mut Source<R>, pairing: &mut Pairing) -> Result<(), ReadError> {
    while let Some((start, end)) = source.line()? {
        let cut = source.ended() && end == source.window().len();
        let line = &source.window()[start..end];
        if line.trim_ascii().is_empty() {
            continue;
        }
        let parsed = match line.len() {
            0..=MAX_LINE => serde_json::from_str::<Event>(line)
                .map_err(|error| (error.column().saturating_sub(1), jsonl::message(&error))),
            _ => Err((0, "the line is too long".to_string())),
        };
        let place = source.place(start);
        match parsed {
            Ok(event) => {
                if let Some(entry) = entry(event).map_err(|message| place.error(message))? {
                    pairing.push(entry, place)?;
                }
            }
            Err(_) if cut => return Ok(()),
            Err((column, message)) => {
                let line = &source.window()[start..end];
                let behind = line.get(..column).map_or(0, |before| before.chars().count());
                return Err(super::Place { column: behind + 1, ..place }.error(message));
            }
        }
    }
    Ok(())
}

/// What an event says of an operation or a fault; nothing for all others.
fn entry(event: Event) -> Result<Option<Entry>, String> {
    let time_ns = i64::try_from(event.time.0).ok();
    let entry = |kind, who, (function, key, value), error| {
        Some(Entry { kind, who, function, key, value, error, time_ns, index: None })
    };
    Ok(match event.kind {
        EventKind::Invoke(invocation) => {
            entry(Kind::Invoke, Who::Client(invocation.process.0), asked(&invocation.op), None)
        }
        EventKind::Complete(completion) => {
            let (function, key, argument) = asked(&completion.op);
            let value = match completion.outcome {
                Outcome::Ok => answered(&completion.ret).unwrap_or(argument),
                Outcome::Fail | Outcome::Info => argument,
            };
            let error = completion.error.map(Edn::Keyword);
            let kind = Kind::Complete(completion.outcome);
            entry(kind, Who::Client(completion.process.0), (function, key, value), error)
        }
        EventKind::Fault(fault) => {
            let stage = match fault.stage {
                crate::Stage::Start => "start",
                crate::Stage::End => "end",
            };
            let function = Function::Other(SmolStr::from(format!("{stage}-{}", fault.kind)));
            let value = Edn::Text(fault.what.into());
            entry(Kind::Complete(Outcome::Info), Who::Named("nemesis".into()), (function, None, value), None)
        }
        EventKind::Header(header) if header.version > Header::VERSION => {
            return Err(jsonl::ReadError::Version { found: header.version }.to_string());
        }
        EventKind::Header(_) | EventKind::Evidence(_) | EventKind::Observation(_) | EventKind::Phase { .. } => None,
    })
}

fn value(value: &Value) -> Edn {
    match value {
        Value::Nil => Edn::Nil,
        Value::Int(number) => Edn::Int(*number),
        Value::Text(text) => Edn::Text(text.clone()),
    }
}

fn number(number: u64) -> Edn {
    i64::try_from(number).map_or_else(|_| Edn::Number(SmolStr::from(number.to_string())), Edn::Int)
}

fn named(name: &str, value: u64) -> (Edn, Edn) {
    (Edn::Keyword(name.into()), number(value))
}

/// Function, key and argument.
fn asked(op: &Op) -> (Function, Option<Edn>, Edn) {
    let key = op.key().cloned().map(Edn::Text);
    let (function, argument) = match op {
        Op::Read { .. } => (Function::Read, Edn::Nil),
        Op::Write { value: to, .. } => (Function::Write, value(to)),
        Op::Cas { from, to, .. } => (Function::Cas, Edn::Vector(vec![value(from), value(to)])),
        Op::Add { element } => (Function::Add, Edn::Int(*element)),
        Op::Elements => (Function::Read, Edn::Nil),
        Op::Acquire { lease_ms, .. } => (Function::Acquire, Edn::Map(vec![named("lease-ms", *lease_ms)])),
        Op::Release { token, .. } => (Function::Release, number(*token)),
        Op::Renew { token, lease_ms, .. } => {
            (Function::Other("renew".into()), Edn::Map(vec![named("lease-ms", *lease_ms), named("token", *token)]))
        }
        Op::Access { token, work_ms, .. } => {
            (Function::Other("access".into()), Edn::Map(vec![named("token", *token), named("work-ms", *work_ms)]))
        }
    };
    (function, key, argument)
}

/// The result, where the operation gives one.
fn answered(ret: &Ret) -> Option<Edn> {
    match ret {
        Ret::Done => None,
        Ret::Value(read) => Some(value(read)),
        Ret::Elements(elements) => Some(Edn::Vector(elements.iter().copied().map(Edn::Int).collect())),
        Ret::Token(token) => Some(number(*token)),
    }
}

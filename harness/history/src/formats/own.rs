//! Our own events as imported operations: those of a stored run, format 1 or 2, with every event
//! kept.

use std::io::Read;

use smol_str::SmolStr;

use super::pairing::{Entry, Kind, Pairing, Who};
use super::{Function, ReadError, Source, Value};
use crate::jsonl::{self, MAX_LINE};
use crate::{Event, EventKind, Header, Outcome, Time};

/// Reads all lines. A last line without a line break was cut off by a crash, and is left out if it
/// is no event.
pub(super) fn read<R: Read>(source: &mut Source<R>, pairing: &mut Pairing) -> Result<(), ReadError> {
    let mut last = Time(0);
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
                if event.time < last {
                    return Err(place.error("its time is before that of the event ahead of it"));
                }
                last = event.time;
                if let Some(entry) = entry(&event).map_err(|message| place.error(message))? {
                    pairing.push_event(entry, place)?;
                }
                pairing.keep(event);
            }
            Err(_) if cut => {
                pairing.cut_off();
                return Ok(());
            }
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
fn entry(event: &Event) -> Result<Option<Entry>, String> {
    let time_ns = i64::try_from(event.time.0).ok();
    let of = |kind, who, function, key, value| Entry {
        kind,
        who,
        function,
        key,
        value,
        error: None,
        time_ns,
        index: None,
        client: None,
        asked: None,
        node: None,
        term: None,
    };
    Ok(match &event.kind {
        EventKind::Invoke(invocation) => {
            let op = invocation.op.clone();
            let who = Who::Client(invocation.process.0);
            Some(Entry { client: invocation.client.clone(), ..of(Kind::Invoke, who, op.f, op.key, op.value) })
        }
        EventKind::Complete(completion) => {
            let op = completion.op.clone();
            // What gives nothing back repeats its argument, as in Jepsen's histories.
            let value = match (completion.outcome, &completion.result) {
                (Outcome::Ok, Value::Nil) | (Outcome::Fail | Outcome::Info, _) => op.value.clone(),
                (Outcome::Ok, result) => result.clone(),
            };
            let who = Who::Client(completion.process.0);
            Some(Entry {
                error: completion.error.clone().map(Value::Keyword),
                asked: Some(op.value),
                node: completion.node.clone(),
                term: completion.term,
                ..of(Kind::Complete(completion.outcome), who, op.f, op.key, value)
            })
        }
        EventKind::Fault(fault) => {
            let stage = match fault.stage {
                crate::Stage::Start => "start",
                crate::Stage::End => "end",
            };
            let function = Function::Other(SmolStr::from(format!("{stage}-{}", fault.kind)));
            let value = Value::Text(fault.what.as_str().into());
            Some(of(Kind::Complete(Outcome::Info), Who::Named("nemesis".into()), function, None, value))
        }
        EventKind::Header(header) if header.version > Header::VERSION => {
            return Err(jsonl::ReadError::Version { found: header.version }.to_string());
        }
        EventKind::Header(_)
        | EventKind::Evidence(_)
        | EventKind::Observation(_)
        | EventKind::Fact(_)
        | EventKind::Phase { .. } => None,
    })
}

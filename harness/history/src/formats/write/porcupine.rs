//! Porcupine's key-value text: `get`, `put` and `append` of texts under text keys; operations that
//! did not succeed have no completion.

use std::io::{self, Write};

use super::{Entry, Losses, entries, is_key_value};
use crate::Outcome;
use crate::formats::convert::text;
use crate::formats::{Function, Imported, Known, Operation, Value};

/// The key of a history without keys.
const KEY: &str = "0";

struct Texts {
    keys: bool,
    values: bool,
}

pub(super) fn write(history: &Imported, to: &mut impl Write, losses: &mut Losses) -> io::Result<()> {
    let is_text = |value: &Value| matches!(value, Value::Text(_) | Value::Nil);
    let texts = Texts {
        keys: history.operations.iter().filter_map(|o| o.op.key.as_ref()).all(is_text),
        values: history.operations.iter().all(|o| is_text(&o.op.value) && o.result.as_ref().is_none_or(is_text)),
    };
    let mut fit = std::collections::BTreeSet::new();
    let mut spare = history.operations.iter().map(|o| o.process.0).max().unwrap_or_default();
    let mut processes = std::collections::BTreeMap::new();
    for operation in &history.operations {
        let line = operation.invoked.line;
        match operation.known(history.conventions) {
            _ if !is_key_value(&operation.op.f) => {
                losses.add("operations other than get, put and append", line, true);
                continue;
            }
            Known::Nothing | Known::NotHeld(_) => {
                losses.add("operations that say nothing: failed ones, and reads without a result", line, false);
                continue;
            }
            Known::Maybe => {
                // Its process may go on, but its operation never ends here.
                spare = spare.saturating_add(1);
                processes.insert(operation.invoked.index, spare);
            }
            Known::Happened(_) => {}
        }
        if operation.op.f == Function::Append && !matches!(operation.op.value, Value::Text(_)) {
            losses.add("appends of something that is no text", line, true);
            continue;
        }
        if operation.error.is_some() {
            losses.add("errors", line, false);
        }
        if operation.invoked.time_ns.is_some() {
            losses.add("times", line, false);
        }
        fit.insert(operation.invoked.index);
    }
    if let Some(first) = history.nemesis.first() {
        losses.add_many("entries of the nemesis", history.nemesis.len(), first.at.line, false);
    }
    for entry in entries(history) {
        let (operation, kind, value) = match entry {
            Entry::Invoke(operation) => (operation, "invoke", &operation.op.value),
            Entry::Complete(operation) if operation.outcome == Outcome::Ok => {
                (operation, "ok", operation.result.as_ref().unwrap_or(&Value::Nil))
            }
            _ => continue,
        };
        if fit.contains(&operation.invoked.index) {
            let process = processes.get(&operation.invoked.index).copied().unwrap_or(operation.process.0);
            line(&texts, operation, process, kind, value, to)?;
        }
    }
    Ok(())
}

fn line(
    texts: &Texts,
    operation: &Operation,
    process: u64,
    kind: &str,
    value: &Value,
    to: &mut impl Write,
) -> io::Result<()> {
    let function = match operation.op.f {
        Function::Read => "get",
        Function::Write => "put",
        ref other => other.name(),
    };
    let spell = |plain: bool, value: &Value| match value {
        Value::Text(text) if plain => text.clone(),
        other => text(other),
    };
    let key = Value::Text(operation.op.key.as_ref().map_or(KEY.into(), |key| spell(texts.keys, key)));
    let value = match value {
        // What a missing key reads as.
        Value::Nil if kind == "ok" && function == "get" => Value::Text("".into()),
        Value::Nil => Value::Nil,
        other => Value::Text(spell(texts.values, other)),
    };
    writeln!(to, "{{:process {process}, :type :{kind}, :f :{function}, :key {key}, :value {value}}}")
}

//! Histories written in any format, and what each can't say.

use std::io::{self, Write};

use super::json::{self, Json};
use super::parser::is_token;
use super::{Conventions, Format, Function, Imported, Known, NemesisEntry, Operation, Value};
use crate::Outcome;

mod porcupine;

/// Something that a format can't say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// What, in the plural: "times".
    pub what: String,
    /// How many.
    pub count: usize,
    /// The line of the first of them in the history that was read.
    pub line: usize,
    /// Whether a verdict on what is written may differ from one on what was read.
    pub grave: bool,
}

/// Collects losses of the same kind.
#[derive(Default)]
pub(super) struct Losses(Vec<Loss>);

impl Losses {
    pub(super) fn add(&mut self, what: &str, line: usize, grave: bool) {
        self.add_many(what, 1, line, grave);
    }

    fn add_many(&mut self, what: &str, count: usize, line: usize, grave: bool) {
        if count == 0 {
            return;
        }
        match self.0.iter_mut().find(|loss| loss.what == what) {
            Some(loss) => loss.count += count,
            None => self.0.push(Loss { what: what.to_string(), count, line, grave }),
        }
    }
}

/// What writing a history in a format would lose. O(n).
pub fn losses(history: &Imported, format: Format) -> Vec<Loss> {
    let mut losses = Losses::default();
    // Writing to nowhere can't fail.
    let _ = write_counting(history, format, &mut io::sink(), &mut losses);
    losses.0
}

/// Writes a history; what the format can't say is left out, and told. O(n log n).
pub fn write(history: &Imported, format: Format, to: &mut impl Write) -> io::Result<Vec<Loss>> {
    let mut losses = Losses::default();
    write_counting(history, format, to, &mut losses)?;
    Ok(losses.0)
}

fn write_counting(history: &Imported, format: Format, to: &mut impl Write, losses: &mut Losses) -> io::Result<()> {
    if format != Format::JsonLines {
        conventions(history, Conventions::of(format), losses);
    }
    match format {
        Format::JsonLines => events(history, to, losses),
        Format::Porcupine => porcupine::write(history, to, losses),
        Format::Edn | Format::Json => maps(history, format, to),
        Format::JepsenLog | Format::HistoryText => columns(history, format, to, losses),
    }
}

/// Operations that mean less by the written format's conventions than they did.
fn conventions(history: &Imported, written: Conventions, losses: &mut Losses) {
    if history.conventions == written {
        return;
    }
    for operation in &history.operations {
        let (before, after) = (operation.known(history.conventions), operation.known(written));
        match (before, after) {
            (Known::Happened(Value::Nil), Known::Nothing) => {
                losses.add(
                    "reads of nil that say \"unset\" (read them with --nil-read unset)",
                    operation.invoked.line,
                    true,
                );
            }
            (Known::Nothing, Known::Happened(Value::Nil)) => {
                losses.add(
                    "reads of nil that say nothing (read them with --nil-read unknown)",
                    operation.invoked.line,
                    true,
                );
            }
            (Known::NotHeld(_), Known::Nothing) => losses.add(
                "failed operations that say what the register did not hold (read them with --failed assert)",
                operation.invoked.line,
                true,
            ),
            (Known::Nothing, Known::NotHeld(_)) => losses.add(
                "failed operations that say nothing (read them with --failed drop)",
                operation.invoked.line,
                true,
            ),
            _ => {}
        }
    }
}

fn events(history: &Imported, to: &mut impl Write, losses: &mut Losses) -> io::Result<()> {
    let converted = history.events();
    losses.add_many("failed operations that say what the register did not hold", converted.weakened, 0, true);
    losses.add_many("reads whose result says nothing", converted.unconstrained, 0, false);
    if history.format != Format::JsonLines {
        let nemesis = history.nemesis.first().map_or(0, |entry| entry.at.line);
        losses.add_many("entries of the nemesis", history.nemesis.len(), nemesis, false);
    }
    converted.events.iter().try_for_each(|event| crate::jsonl::write(event, to))
}

/// An invocation, a completion, or something of the nemesis.
enum Entry<'h> {
    Invoke(&'h Operation),
    Complete(&'h Operation),
    Nemesis(&'h NemesisEntry),
}

/// All entries in the order of the history.
fn entries(history: &Imported) -> Vec<Entry<'_>> {
    let mut entries = Vec::with_capacity(history.operations.len() * 2 + history.nemesis.len());
    for operation in &history.operations {
        entries.push((operation.invoked.index, Entry::Invoke(operation)));
        if let Some(completed) = operation.completed {
            entries.push((completed.index, Entry::Complete(operation)));
        }
    }
    entries.extend(history.nemesis.iter().map(|entry| (entry.at.index, Entry::Nemesis(entry))));
    entries.sort_by_key(|(index, _)| *index);
    entries.into_iter().map(|(_, entry)| entry).collect()
}

/// The type of a completion, without its colon.
fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "ok",
        Outcome::Fail => "fail",
        Outcome::Info => "info",
    }
}

/// What stands in the columns or fields that all formats have.
struct Row<'h> {
    kind: &'static str,
    process: Value,
    function: &'h str,
    value: Value,
    key: Option<&'h Value>,
    error: Option<&'h Value>,
    time_ns: Option<i64>,
    line: usize,
}

/// `tuples`: keys stand in values, as `[key value]`.
fn row<'h>(entry: &Entry<'h>, tuples: bool) -> Row<'h> {
    let of = |operation: &'h Operation, kind, value: &Value, at: super::Moment, error| {
        let (value, key) = match &operation.op.key {
            Some(key) if tuples => (Value::Vector(vec![key.clone(), value.clone()]), None),
            key => (value.clone(), key.as_ref()),
        };
        let process = i64::try_from(operation.process.0).map_or(Value::Nil, Value::Int);
        Row { kind, process, function: operation.op.f.name(), value, key, error, time_ns: at.time_ns, line: at.line }
    };
    match *entry {
        Entry::Invoke(operation) => of(operation, "invoke", &operation.op.value, operation.invoked, None),
        Entry::Complete(operation) => {
            let value = match operation.outcome {
                Outcome::Ok => operation.result.as_ref().unwrap_or(&Value::Nil),
                Outcome::Fail | Outcome::Info => &operation.op.value,
            };
            let at = operation.completed.unwrap_or(operation.invoked);
            of(operation, outcome(operation.outcome), value, at, operation.error.as_ref())
        }
        Entry::Nemesis(entry) => Row {
            kind: "info",
            process: name(&entry.process),
            function: &entry.function,
            value: entry.value.clone(),
            key: None,
            error: None,
            time_ns: entry.at.time_ns,
            line: entry.at.line,
        },
    }
}

/// A name as a keyword, or as a text where that can't be.
fn name(name: &str) -> Value {
    if is_token(name) { Value::Keyword(name.into()) } else { Value::Text(name.into()) }
}

fn maps(history: &Imported, format: Format, to: &mut impl Write) -> io::Result<()> {
    for (index, entry) in entries(history).iter().enumerate() {
        let row = row(entry, history.independent);
        if format == Format::Edn {
            write!(to, "{{:index {index}, :type :{}, :process {}, :f {}", row.kind, row.process, name(row.function))?;
            if let Some(key) = row.key {
                write!(to, ", :key {key}")?;
            }
            write!(to, ", :value {}", row.value)?;
            if let Some(time) = row.time_ns {
                write!(to, ", :time {time}")?;
            }
            if let Some(error) = row.error {
                write!(to, ", :error {error}")?;
            }
        } else {
            let process = match row.process {
                Value::Keyword(name) => Value::Text(name),
                other => other,
            };
            write!(to, "{{\"index\":{index},\"type\":\"{}\",\"process\":{},\"f\":", row.kind, Json(&process))?;
            let mut function = String::new();
            // Writing to a string can't fail.
            let _ = json::text(&mut function, row.function);
            write!(to, "{function}")?;
            if let Some(key) = row.key {
                write!(to, ",\"key\":{}", Json(key))?;
            }
            write!(to, ",\"value\":{}", Json(&row.value))?;
            if let Some(time) = row.time_ns {
                write!(to, ",\"time\":{time}")?;
            }
            if let Some(error) = row.error {
                write!(to, ",\"error\":{}", Json(error))?;
            }
        }
        writeln!(to, "}}")?;
    }
    Ok(())
}

fn columns(history: &Imported, format: Format, to: &mut impl Write, losses: &mut Losses) -> io::Result<()> {
    let prefix = if format == Format::JepsenLog { "INFO  jepsen.util - " } else { "" };
    // The columns have no place for a key but the value.
    let all_keyed = history.operations.iter().all(|operation| operation.op.key.is_some());
    let unspeakable = |operation: &Operation| {
        let pair = all_keyed || operation.op.value.as_sequence().is_some_and(|pair| pair.len() == 2);
        !is_token(operation.op.f.name()) || (operation.op.f == Function::Cas && !pair)
    };
    for operation in history.operations.iter().filter(|operation| unspeakable(operation)) {
        losses.add("operations whose function is no keyword, or a cas without [from to]", operation.invoked.line, true);
    }
    for entry in &entries(history) {
        if matches!(entry, Entry::Invoke(operation) | Entry::Complete(operation) if unspeakable(operation)) {
            continue;
        }
        let row = row(entry, all_keyed);
        if row.key.is_some() {
            losses.add("keys, as not all operations have one", row.line, true);
        }
        if row.time_ns.is_some() {
            losses.add("times", row.line, false);
        }
        if matches!(entry, Entry::Nemesis(_)) && !(matches!(row.process, Value::Keyword(_)) && is_token(row.function)) {
            losses.add("entries of the nemesis whose names are no keywords", row.line, false);
            continue;
        }
        write!(to, "{prefix}{}\t:{}\t:{}\t{}", row.process, row.kind, row.function, row.value)?;
        if let Some(error) = row.error {
            write!(to, "\t{error}")?;
        }
        writeln!(to)?;
    }
    Ok(())
}

/// Whether an operation is one of the key-value store's.
fn is_key_value(function: &Function) -> bool {
    matches!(function, Function::Get | Function::Read | Function::Put | Function::Write | Function::Append)
}

//! The operations that show a violation, as intervals that overlap where they did.

use duress_history::Outcome;
use duress_history::formats::{Imported, Known, Operation, Value};

/// No timeline has more operations: beyond that nobody sees anything.
const MAX_ROWS: usize = 200;

/// How wide the chart of a timeline may be, in characters.
const MAX_CHART: usize = 60;

/// How long the words of an operation may be, in characters.
const MAX_WORDS: usize = 60;

/// One operation of a timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Who asked.
    pub process: u64,
    /// Of which key, in words; empty in histories without keys.
    pub key: String,
    /// What was asked and answered, in words.
    pub words: String,
    /// The lines of the input on which it begins and ends; the end is `None` if nobody knows it.
    pub lines: (usize, Option<usize>),
    /// The columns at which it begins and ends. The moments at which something begins or ends are
    /// numbered; how far they are apart in time is not shown.
    pub columns: (usize, Option<usize>),
    /// The times at which it begins and ends, in ns, where the history tells.
    pub times_ns: (Option<i64>, Option<i64>),
    /// How it ended.
    pub outcome: Outcome,
}

/// A picture of some operations of a history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    /// The operations, in the order of their invocations.
    pub rows: Vec<Row>,
    /// How many moments there are.
    pub columns: usize,
    /// How many operations had no room.
    pub left_out: usize,
}

impl Timeline {
    /// The timeline of the operations with these indices; the last ones, if there are too many.
    pub fn new(history: &Imported, operations: &[usize]) -> Timeline {
        let left_out = operations.len().saturating_sub(MAX_ROWS);
        let mut chosen: Vec<&Operation> =
            operations[left_out..].iter().filter_map(|at| history.operations.get(*at)).collect();
        chosen.sort_by_key(|operation| operation.invoked.index);
        let end = |operation: &Operation| match operation.outcome {
            Outcome::Info => None,
            _ => operation.completed,
        };
        let mut moments: Vec<u64> = chosen
            .iter()
            .flat_map(|operation| [Some(operation.invoked.index), end(operation).map(|moment| moment.index)])
            .flatten()
            .collect();
        moments.sort_unstable();
        moments.dedup();
        let column = |index: u64| moments.partition_point(|moment| *moment < index);
        let row = |operation: &&Operation| Row {
            process: operation.process.0,
            key: operation.op.key.as_ref().map_or(String::new(), |key| short(&key.to_string())),
            words: words(operation, history),
            lines: (operation.invoked.line, end(operation).map(|moment| moment.line)),
            columns: (column(operation.invoked.index), end(operation).map(|moment| column(moment.index))),
            times_ns: (operation.invoked.time_ns, end(operation).and_then(|moment| moment.time_ns)),
            outcome: operation.outcome,
        };
        Timeline { rows: chosen.iter().map(row).collect(), columns: moments.len(), left_out }
    }

    /// The timeline as text, a line for each operation.
    pub fn text(&self) -> Vec<String> {
        // Wide enough to see, narrow enough for a terminal: many moments share a column.
        let last = self.columns.saturating_sub(1).max(1);
        let width = (last * 4).min(MAX_CHART);
        let place = |column: usize| column * width / last;
        let mut table = vec![["process", "key", "operation", "lines"].map(String::from)];
        for row in &self.rows {
            let lines =
                row.lines.1.map_or_else(|| format!("{}–?", row.lines.0), |end| format!("{}–{end}", row.lines.0));
            table.push([row.process.to_string(), row.key.clone(), row.words.clone(), lines]);
        }
        let keyed = self.rows.iter().any(|row| !row.key.is_empty());
        let length = |cell: &String| cell.chars().count();
        let widths: Vec<usize> =
            (0..4).map(|column| table.iter().map(|cells| length(&cells[column])).max().unwrap_or(0)).collect();
        let mut text = Vec::new();
        for (at, cells) in table.iter().enumerate() {
            let mut line = String::new();
            for (column, cell) in cells.iter().enumerate().filter(|(column, _)| keyed || *column != 1) {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', widths[column] + 2 - length(cell)));
            }
            if let Some(row) = at.checked_sub(1).map(|at| &self.rows[at]) {
                line.push_str(&bar(place(row.columns.0), row.columns.1.map(place), width + 1));
            }
            text.push(line.trim_end().to_string());
        }
        if self.left_out > 0 {
            text.push(format!("({} more before these)", self.left_out));
        }
        text
    }
}

/// `|-----|`, or `|----?` for an interval without a known end.
fn bar(from: usize, to: Option<usize>, width: usize) -> String {
    let (length, end) = match to {
        Some(to) => (to.saturating_sub(from + 1), '|'),
        None => (width.saturating_sub(from + 1), '?'),
    };
    format!("{}|{}{end}", " ".repeat(from), "-".repeat(length))
}

/// An operation and its answer: `write 5`, `read → 3`, `cas [1 2] failed`.
fn words(operation: &Operation, history: &Imported) -> String {
    let mut words = operation.op.f.to_string();
    if operation.op.value != Value::Nil {
        words = format!("{words} {}", operation.op.value);
    }
    let end = match (operation.known(history.conventions), operation.outcome) {
        (_, Outcome::Fail) => " failed".to_string(),
        (_, Outcome::Info) => " (unknown whether)".to_string(),
        (Known::Happened(result), _) if *result != operation.op.value => match (result, operation.op.f.reads()) {
            (Value::Nil, false) => String::new(),
            _ => format!(" → {result}"),
        },
        _ if operation.op.f.reads() => format!(" → {}", operation.result.clone().unwrap_or_default()),
        _ => String::new(),
    };
    format!("{}{}", short(&words), short(&end))
}

/// A text of bounded length, without control characters.
fn short(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let mut short: String = text.chars().map(clean).take(MAX_WORDS).collect();
    if text.chars().nth(MAX_WORDS).is_some() {
        short.push('…');
    }
    short
}

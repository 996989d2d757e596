//! A judged history of somebody's: what was read, by what it was judged, and what came out.

use std::fmt::Write;
use std::time::Duration;

use duress_checkers::{Budget, Results, Verdict};
use duress_history::Outcome;
use duress_history::formats::{Failed, Imported, NilRead};

use crate::terminal::{self, Options};
use crate::timeline::Timeline;

/// How many lines of an explanation are shown unless all are wanted.
const LINES: usize = 16;

/// A history and its judgement.
#[derive(Debug)]
pub struct Checked<'a> {
    /// Where it was read from.
    pub name: &'a str,
    /// How long that is, in bytes, where it is known.
    pub bytes: Option<u64>,
    /// The history.
    pub history: &'a Imported,
    /// How long reading took.
    pub read: Duration,
    /// What it was judged against, as long as the reports.
    pub judgements: &'a [Judgement],
    /// What it might have cost.
    pub budget: Budget,
    /// The reports.
    pub results: &'a Results,
}

/// One model, and why and how fast it was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The model.
    pub model: String,
    /// Why this one, if nobody asked for it.
    pub guess: Option<String>,
    /// How long it took.
    pub took: Duration,
}

/// How many operations ended in which way, and how many processes and keys there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// All operations.
    pub operations: usize,
    /// Those that happened.
    pub ok: usize,
    /// Those that did not.
    pub failed: usize,
    /// Those of which nobody knows.
    pub indeterminate: usize,
    /// Processes.
    pub processes: usize,
    /// Keys; 0 in a history without them.
    pub keys: usize,
}

impl Counts {
    /// Counts a history. O(n log n).
    pub fn of(history: &Imported) -> Counts {
        let ended = |outcome| history.operations.iter().filter(|operation| operation.outcome == outcome).count();
        let mut processes: Vec<_> = history.operations.iter().map(|operation| operation.process).collect();
        processes.sort_unstable();
        processes.dedup();
        let mut keys: Vec<_> = history.operations.iter().filter_map(|operation| operation.op.key.as_ref()).collect();
        keys.sort_unstable();
        keys.dedup();
        Counts {
            operations: history.operations.len(),
            ok: ended(Outcome::Ok),
            failed: ended(Outcome::Fail),
            indeterminate: ended(Outcome::Info),
            processes: processes.len(),
            keys: keys.len(),
        }
    }
}

impl Checked<'_> {
    /// The judgement for a terminal or a pipe. `explain`: with the whole story and a timeline.
    pub fn text(&self, explain: bool, options: Options) -> String {
        let mut text = String::new();
        for (what, words) in self.facts() {
            let _ = writeln!(text, "{what:<8} {words}");
        }
        text.push('\n');
        for report in &self.results.reports {
            let word = terminal::paint(report.verdict, &format!("{:<8}", report.verdict.to_string()), options);
            let _ = writeln!(text, "{word} {:<17} {}", report.checker, report.summary);
            let shown = if explain { report.explanation.len() } else { report.explanation.len().min(LINES) };
            for line in &report.explanation[..shown] {
                let _ = writeln!(text, "  {line}");
            }
            let more = report.explanation.len() - shown;
            if more > 0 {
                let _ = writeln!(text, "  … {more} lines more: --explain");
            }
            if explain && !report.core.is_empty() {
                text.push('\n');
                for line in Timeline::new(self.history, &report.core).text() {
                    let _ = writeln!(text, "  {line}");
                }
            }
            if explain {
                for table in &report.tables {
                    terminal::push_table(&mut text, table);
                }
                for (name, value) in &report.figures {
                    let _ = writeln!(text, "  {name:<28} {value}");
                }
            }
        }
        let _ = writeln!(text, "\n{}", terminal::paint(self.results.verdict, &self.verdict(), options));
        text
    }

    /// The verdict in a line.
    pub fn verdict(&self) -> String {
        let reasons: Vec<&str> = self
            .results
            .reports
            .iter()
            .filter(|report| report.verdict == self.results.verdict)
            .map(|report| report.summary.as_str())
            .collect();
        let word = match self.results.verdict {
            Verdict::Valid => "VALID",
            Verdict::Invalid => "INVALID",
            Verdict::Unknown => "UNKNOWN",
        };
        format!("{word}: {}", reasons.join(" "))
    }

    /// What was read and how it was judged: a word, and a sentence.
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let counts = Counts::of(self.history);
        let keys = match counts.keys {
            0 => String::new(),
            keys => format!(" on {}", count(keys, "key")),
        };
        let mut facts = vec![(
            "history",
            format!(
                "{}: {}, {} ({} ok, {} failed, {} indeterminate) by {}{keys}",
                self.name,
                self.history.format.name(),
                count(counts.operations, "operation"),
                counts.ok,
                counts.failed,
                counts.indeterminate,
                count(counts.processes, "process"),
            ),
        )];
        let speed = match self.bytes {
            Some(bytes) => format!(", {}/s", size(bytes as f64 / self.read.as_secs_f64().max(1e-9))),
            None => String::new(),
        };
        let rate = |took: Duration| {
            format!("{} operations/s", metric(counts.operations as f64 / took.as_secs_f64().max(1e-9)))
        };
        facts.push(("read", format!("in {:.1?} ({}{speed})", self.read, rate(self.read))));
        let conventions = self.history.conventions;
        facts.push((
            "taken",
            format!(
                "{}, {}",
                match conventions.nil_read {
                    NilRead::Unset => "a read of nil as \"unset\"",
                    NilRead::Unknown => "a read of nil as telling nothing",
                },
                match conventions.failed {
                    Failed::Drop => "a failed operation as telling nothing",
                    Failed::Assert => "a failed cas as having seen another value",
                }
            ),
        ));
        for judgement in self.judgements {
            let why = judgement.guess.as_ref().map_or(String::new(), |why| format!(", because {why}"));
            facts.push((
                "model",
                format!("{}{why}; judged in {:.1?} ({})", judgement.model, judgement.took, rate(judgement.took)),
            ));
        }
        facts.push(("budget", format!("{:?} and {}", self.budget.time, size(self.budget.memory_bytes as f64))));
        facts
    }

    /// The judgement for programs; its fields don't change between versions but for new ones.
    pub fn json(&self) -> serde_json::Value {
        let counts = Counts::of(self.history);
        let models: Vec<_> = self
            .judgements
            .iter()
            .map(|judgement| {
                serde_json::json!({
                    "model": judgement.model,
                    "guessed_because": judgement.guess,
                    "seconds": judgement.took.as_secs_f64(),
                })
            })
            .collect();
        let core = |report: &duress_checkers::Report| -> Vec<_> {
            let rows = Timeline::new(self.history, &report.core).rows.into_iter();
            rows.map(|row| {
                serde_json::json!({
                    "process": row.process,
                    "key": row.key,
                    "operation": row.words,
                    "outcome": row.outcome,
                    "invoked_line": row.lines.0,
                    "completed_line": row.lines.1,
                })
            })
            .collect()
        };
        let cores: Vec<_> = self.results.reports.iter().map(core).collect();
        serde_json::json!({
            "history": {
                "name": self.name,
                "format": self.history.format.name(),
                "bytes": self.bytes,
                "read_seconds": self.read.as_secs_f64(),
                "independent": self.history.independent,
                "counts": counts,
                "nil_read": match self.history.conventions.nil_read {
                    NilRead::Unset => "unset",
                    NilRead::Unknown => "unknown",
                },
                "failed": match self.history.conventions.failed {
                    Failed::Drop => "drop",
                    Failed::Assert => "assert",
                },
            },
            "models": models,
            "budget": {
                "seconds": self.budget.time.as_secs_f64(),
                "memory_bytes": self.budget.memory_bytes,
            },
            "results": self.results,
            "cores": cores,
        })
    }
}

/// A number of things in words: `1 key`, `2 keys`.
fn count(n: usize, what: &str) -> String {
    match (n, what.ends_with('s')) {
        (1, _) => format!("1 {what}"),
        (n, false) => format!("{n} {what}s"),
        (n, true) => format!("{n} {what}es"),
    }
}

/// A number with a prefix: `1.25 M`.
fn metric(value: f64) -> String {
    match value {
        v if v >= 1e9 => format!("{:.2} G", v / 1e9),
        v if v >= 1e6 => format!("{:.2} M", v / 1e6),
        v if v >= 1e3 => format!("{:.0} k", v / 1e3),
        v => format!("{v:.0} "),
    }
    .trim_end()
    .to_string()
}

/// Bytes in words.
fn size(bytes: f64) -> String {
    match bytes {
        b if b >= (1u64 << 30) as f64 => format!("{:.1} GiB", b / (1u64 << 30) as f64),
        b if b >= (1u64 << 20) as f64 => format!("{:.1} MiB", b / (1u64 << 20) as f64),
        b => format!("{:.1} KiB", b / 1024.0),
    }
}

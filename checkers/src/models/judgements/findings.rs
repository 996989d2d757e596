//! What a judgement found, and how it becomes a report.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::{Class, Report, Table, words};

/// How many violations are told.
const SHOWN: usize = 5;

/// A violation.
pub(super) struct Wrong {
    /// In one sentence.
    pub(super) sentence: String,
    /// The story behind it.
    pub(super) lines: Vec<String>,
    /// The operations that show it.
    pub(super) core: Vec<usize>,
}

/// What a judgement found.
#[derive(Default)]
pub(super) struct Findings {
    /// Violations, the one to look at first first.
    pub(super) wrong: Vec<Wrong>,
    /// Why it can't be told, if nothing is wrong.
    pub(super) doubts: Vec<String>,
    /// What was found, if it is valid.
    pub(super) fine: String,
    /// Remarks.
    pub(super) remarks: Vec<String>,
    /// Figures.
    pub(super) figures: BTreeMap<&'static str, f64>,
    /// Tables.
    pub(super) tables: Vec<Table>,
}

impl Findings {
    /// Adds a violation.
    pub(super) fn wrong(&mut self, sentence: impl Into<String>, core: Vec<usize>) {
        self.wrong_because(sentence, Vec::new(), core);
    }

    /// Adds a violation with its story.
    pub(super) fn wrong_because(&mut self, sentence: impl Into<String>, lines: Vec<String>, core: Vec<usize>) {
        self.wrong.push(Wrong { sentence: sentence.into(), lines, core });
    }

    /// Adds a figure.
    pub(super) fn figure(&mut self, name: &'static str, value: usize) {
        self.figures.insert(name, value as f64);
    }

    /// Adds the latencies of something, in nanoseconds, as a table and as figures.
    pub(super) fn latencies(&mut self, what: &str, names: [&'static str; 3], mut nanos: Vec<u64>) {
        nanos.sort_unstable();
        let Some(last) = nanos.last() else { return };
        let at = |per_mille: usize| nanos[(nanos.len() * per_mille).div_ceil(1000).max(1) - 1];
        let values = [at(500), at(990), *last];
        for (name, value) in names.into_iter().zip(values) {
            self.figures.insert(name, value as f64 / 1e6);
        }
        let columns = ["", "median", "p99", "longest"].map(Into::into).into();
        let mut row = vec![what.to_string()];
        row.extend(values.map(|value| words::span(Duration::from_nanos(value))));
        match self.tables.last_mut() {
            Some(table) => table.rows.push(row),
            None => self.tables.push(Table { title: "Latencies".into(), columns, rows: vec![row] }),
        }
    }

    /// The report.
    pub(super) fn report(self, name: &str) -> Report {
        let mut report = match (self.wrong.first(), self.doubts.first()) {
            (Some(first), _) => Report::invalid(name, first.sentence.clone()),
            (None, Some(doubt)) => Report::unknown(name, Class::Inconclusive, doubt.clone()),
            (None, None) => Report::valid(name, self.fine),
        };
        if let Some(first) = self.wrong.first() {
            report.core.clone_from(&first.core);
            report.core.sort_unstable();
            report.core.dedup();
        }
        for (at, wrong) in self.wrong.iter().take(SHOWN).enumerate() {
            // What the report opens with needn't be said again.
            report.explanation.extend((at > 0).then(|| wrong.sentence.clone()));
            report.explanation.extend(wrong.lines.iter().map(|line| format!("  {line}")));
        }
        if self.wrong.len() > SHOWN {
            report.explanation.push(format!("{} more.", words::count(self.wrong.len() - SHOWN, "violation")));
        }
        let told = usize::from(report.verdict == crate::Verdict::Unknown);
        report.explanation.extend(self.doubts.iter().skip(told).take(SHOWN).cloned());
        report.explanation.extend(self.remarks);
        report.figure("violations", self.wrong.len() as f64);
        for (name, value) in self.figures {
            report.figure(name, value);
        }
        report.tables = self.tables;
        report
    }
}

//! What a checker says.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// Whether the target kept its promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It did, as far as this history can tell.
    Valid,
    /// It can't be told; the report says why.
    Unknown,
    /// It did not; the report proves it.
    Invalid,
}

impl Verdict {
    /// The verdict on two things together: one violation is enough to be invalid, and one doubt
    /// to be unknown.
    pub fn merge(self, other: Verdict) -> Verdict {
        self.max(other)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Valid => "valid",
            Verdict::Unknown => "unknown",
            Verdict::Invalid => "invalid",
        })
    }
}

/// Which kind of not valid. Ordered by what to look at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// The history or the budget doesn't suffice for a verdict.
    Inconclusive,
    /// The target was asked and did not serve.
    Unavailable,
    /// The harness itself failed; this says nothing about the target.
    Infrastructure,
    /// The target broke a promise.
    Bug,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Class::Inconclusive => "inconclusive",
            Class::Unavailable => "unavailable",
            Class::Infrastructure => "infrastructure",
            Class::Bug => "bug",
        })
    }
}

/// Rows under headings, for whoever shows reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// What the table shows.
    pub title: String,
    /// The headings.
    pub columns: Vec<String>,
    /// The rows, each as long as `columns`.
    pub rows: Vec<Vec<String>>,
}

/// What one checker says of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Which checker.
    pub checker: SmolStr,
    /// Its verdict.
    pub verdict: Verdict,
    /// The verdict in one sentence.
    pub summary: String,
    /// The story behind it, line by line: why it is invalid or unknown, and remarks.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub explanation: Vec<String>,
    /// What was measured or counted, by stable names that end in their unit where they have one.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub figures: BTreeMap<SmolStr, f64>,
    /// What was measured or counted, for people.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub tables: Vec<Table>,
    /// The operations that show a violation, as few as were found: their indices among those of the
    /// history that was judged, ascending. Empty if the checker names none.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub core: Vec<usize>,
    /// Which kind of not valid; `None` exactly when the verdict is valid.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub class: Option<Class>,
}

impl Report {
    fn new(checker: &str, verdict: Verdict, class: Option<Class>, summary: String) -> Report {
        Report {
            checker: checker.into(),
            verdict,
            summary,
            explanation: Vec::new(),
            figures: BTreeMap::new(),
            tables: Vec::new(),
            core: Vec::new(),
            class,
        }
    }

    /// A report that finds nothing wrong.
    pub fn valid(checker: &str, summary: impl Into<String>) -> Report {
        Report::new(checker, Verdict::Valid, None, summary.into())
    }

    /// A report that can't tell.
    pub fn unknown(checker: &str, class: Class, summary: impl Into<String>) -> Report {
        Report::new(checker, Verdict::Unknown, Some(class), summary.into())
    }

    /// A report of a broken promise.
    pub fn invalid(checker: &str, summary: impl Into<String>) -> Report {
        Report::new(checker, Verdict::Invalid, Some(Class::Bug), summary.into())
    }

    /// Adds a figure.
    pub fn figure(&mut self, name: impl Into<SmolStr>, value: f64) {
        self.figures.insert(name.into(), value);
    }
}

/// What all checkers say of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// The verdict on the run.
    pub verdict: Verdict,
    /// Which kind of not valid.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub class: Option<Class>,
    /// Each checker's report, in the order in which the checkers were given.
    pub reports: Vec<Report>,
}

impl Results {
    /// Puts reports together. No reports at all are `unknown`: nothing has been judged.
    pub fn of(reports: Vec<Report>) -> Results {
        let Some(verdict) = reports.iter().map(|r| r.verdict).reduce(Verdict::merge) else {
            return Results { verdict: Verdict::Unknown, class: Some(Class::Inconclusive), reports };
        };
        let class = reports.iter().filter(|r| r.verdict == verdict).filter_map(|r| r.class).max();
        Results { verdict, class, reports }
    }
}

//! Errors that nobody made sense of, counted.
//!
//! Jepsen's `checker/unhandled-exceptions`: operations that ended indeterminate with an error,
//! grouped by it, the commonest first. It judges nothing: what a client's library throws says how
//! well the test's client is written, not what the target did, so the verdict is always valid.
//! Errors that differ only in digits are one. Linear but for hashing.

use std::collections::BTreeMap;

use duress_history::Outcome;
use duress_history::formats::Value;

use super::{Findings, Judgement, Unfit, told};
use crate::{Run, Settings};
use crate::{Table, words};

pub(in super::super) const EXCEPTIONS: Judgement = Judgement {
    name: "exceptions",
    about: "errors of indeterminate operations, grouped and counted: any operations",
    judge,
};

/// How many kinds are shown.
const SHOWN: usize = 50;

/// The longest that a kind's name gets, in characters.
const LONGEST: usize = 120;

fn judge(history: &Run<'_>, _: &Settings) -> Result<Findings, Unfit> {
    let mut findings = Findings::default();
    // kind → how many, and the first
    let mut kinds: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let mut unended = 0;
    for (at, operation) in history.operations.iter().enumerate().filter(|(_, o)| o.outcome == Outcome::Info) {
        match &operation.error {
            Some(error) => kinds.entry(kind(error)).or_insert((0, at)).0 += 1,
            None => unended += usize::from(operation.completed.is_none()),
        }
    }
    let mut kinds: Vec<(String, (usize, usize))> = kinds.into_iter().collect();
    kinds.sort_by(|(a, (m, _)), (b, (n, _))| n.cmp(m).then(a.cmp(b)));
    let total = kinds.iter().map(|(_, (n, _))| n).sum();
    findings.figure("errors", total);
    findings.figure("kinds", kinds.len());
    findings.figure("never_completed", unended);
    findings.fine = match kinds.first() {
        None => "No indeterminate operation has an error.".into(),
        Some((kind, (n, _))) => {
            let all = words::count(total, "indeterminate operation");
            format!("{all} with an error, of {}; the commonest, {n} times: {kind}.", words::count(kinds.len(), "kind"))
        }
    };
    let row = |(kind, (n, first)): &(String, (usize, usize))| {
        vec![n.to_string(), kind.clone(), told(&history.operations[*first])]
    };
    if !kinds.is_empty() {
        findings.tables.push(Table {
            title: "Errors".into(),
            columns: ["times", "error", "first"].map(Into::into).into(),
            rows: kinds.iter().take(SHOWN).map(row).collect(),
        });
    }
    Ok(findings)
}

/// What an error is called: its text, cut, with digits replaced.
fn kind(error: &Value) -> String {
    let text = error.to_string();
    let mut name = String::new();
    for c in text.chars().take(LONGEST) {
        match c {
            '0'..='9' if name.ends_with('#') => {}
            '0'..='9' => name.push('#'),
            c => name.push(c),
        }
    }
    name
}

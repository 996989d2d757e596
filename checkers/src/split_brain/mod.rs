//! Who led, who acted as leader, and what was lost by it.
//!
//! Nodes say of themselves, out of band, in which term they are and whether they lead; answers
//! say which node gave them in which term. Violations are
//!
//! - two nodes that led in the same term;
//! - a node that *acted* as leader, acknowledging an operation that changes something, although
//!   another had already acknowledged one in a higher term before that operation was asked for;
//! - different digests of the log up to the same index;
//! - acknowledged writes that the final reads prove to be missing.
//!
//! A node that only *believed* it led while another led in a newer term did no harm: that is
//! reported, with how long and how often, and is no violation; so is how often who leads changed,
//! and how long nobody did. A leaderless target (nobody leads, all terms are
//! zero) is judged by its final reads alone.

mod digests;
mod election;
mod leaders;
mod lost;

use std::collections::BTreeMap;

use duress_history::{EventKind, Function, NodeReport, Op, Operation, Outcome, Time, Value};

use crate::{Judge, Report, Run, Settings};

/// Checks that there was one leader at a time, and that nothing acknowledged is missing after the
/// heal.
#[derive(Clone, Copy, Debug, Default)]
pub struct SplitBrain;

impl Judge for SplitBrain {
    fn name(&self) -> &'static str {
        "split-brain"
    }

    fn about(&self) -> &'static str {
        "no two nodes acted as leader at once, and nothing acknowledged is missing: any operations"
    }

    fn judge(&self, run: &Run<'_>, _: &Settings) -> Report {
        let mut findings = Findings::default();
        let leaderless = leaderless(run);
        if !leaderless {
            leaders::same_term(run, &mut findings);
            leaders::acted(run, &mut findings);
            digests::diverged(run, &mut findings);
        }
        let read_back = lost::missing(run, &mut findings);
        let believed = if leaderless { leaders::Belief::default() } else { leaders::believed(run) };

        let leaders = if leaderless { "Nobody leads here" } else { "No two nodes acted as leader at once" };
        let after = if read_back { "nothing acknowledged is missing" } else { "nothing was read back at the end" };
        let mut report = match findings.violations.first() {
            Some(first) => Report::invalid(self.name(), first.summary.clone()),
            None => Report::valid(self.name(), format!("{leaders}, and {after}.")),
        };
        for violation in findings.violations {
            // What the report opens with needn't be said again.
            if violation.summary != report.summary {
                report.explanation.push(violation.summary);
            }
            report.explanation.extend(violation.lines.into_iter().map(|line| format!("  {line}")));
        }
        report.explanation.extend(believed.words());
        report.figures = findings.figures.into_iter().map(|(name, value)| (name.into(), value)).collect();
        report.figure("two_believed_ms", believed.total().as_secs_f64() * 1e3);
        report.figure("duels", believed.times() as f64);
        if !leaderless {
            let elections = election::Elections::of(run);
            report.explanation.extend(elections.remark(run));
            for (name, value) in elections.figures() {
                report.figure(name, value);
            }
        }
        report
    }
}

/// What has been found so far.
#[derive(Default)]
struct Findings {
    violations: Vec<Violation>,
    figures: BTreeMap<&'static str, f64>,
}

struct Violation {
    summary: String,
    lines: Vec<String>,
}

impl Findings {
    fn violation(&mut self, summary: String, lines: Vec<String>) {
        self.violations.push(Violation { summary, lines });
    }
}

/// What nodes said, in order.
fn reports<'r>(run: &'r Run<'_>) -> impl Iterator<Item = (Time, &'r NodeReport)> {
    run.events.iter().filter_map(|event| match &event.kind {
        EventKind::Observation(report) => Some((event.time, report)),
        _ => None,
    })
}

/// Nobody ever said that it leads, or answered in a term. (A term of zero alone means nothing:
/// the first view of a primary-backup target may be numbered so.)
fn leaderless(run: &Run<'_>) -> bool {
    reports(run).all(|(_, report)| !report.leads && report.term.unwrap_or(0) == 0)
        && run.operations.iter().all(|operation| operation.term.unwrap_or(0) == 0)
}

/// What this target calls a term.
fn term_word(run: &Run<'_>) -> &'static str {
    let primary = reports(run).any(|(_, r)| matches!(r.role.as_deref(), Some("primary" | "backup")));
    if primary { "view" } else { "term" }
}

/// Whether an operation changes something of the target's when it succeeds: all do that are not known
/// to look only.
fn changes(op: &Op) -> bool {
    match &op.f {
        f if f.reads() => false,
        // The resource behind a lock accepts or rejects an access, not the target.
        Function::Other(name) => !matches!(name.as_str(), "access" | "contains" | "peek"),
        Function::Txn => op
            .value
            .as_sequence()
            .unwrap_or_default()
            .iter()
            .any(|micro| !matches!(micro.as_sequence(), Some([Value::Keyword(name), ..]) if name == "r")),
        _ => true,
    }
}

/// Whether an operation was acknowledged and changed something.
fn acknowledged(operation: &Operation) -> bool {
    operation.outcome == Outcome::Ok && changes(&operation.op)
}

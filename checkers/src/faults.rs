//! Did the faults really happen? A fault that silently did nothing would make a green run a lie.

use duress_history::Stage;

use crate::{Class, FaultSpan, Judge, Report, Run, Settings, words};

/// How many reasons are given.
const SHOWN: usize = 20;

/// Checks that each fault was shown by measurement to have taken effect and to have been healed,
/// and that the workload was exercised under them.
#[derive(Clone, Copy, Debug, Default)]
pub struct FaultsProven;

impl Judge for FaultsProven {
    fn name(&self) -> &'static str {
        "faults-proven"
    }

    fn about(&self) -> &'static str {
        "every fault was shown to have taken effect, and to have been healed: any operations"
    }

    fn judge(&self, run: &Run<'_>, _: &Settings) -> Report {
        if run.faults.is_empty() {
            let mut report = Report::valid(self.name(), "No faults were injected.");
            report.figure("faults", 0.0);
            return report;
        }
        let doubts: Vec<String> = run.faults.iter().filter_map(doubt).collect();
        let exercised = exercised(run);
        let faults = words::count(run.faults.len(), "fault");
        let mut report = if let Some(first) = doubts.first() {
            let n = doubts.len();
            Report::unknown(self.name(), Class::Inconclusive, format!("{n} of {faults} not proven: {first}"))
        } else if exercised == 0 {
            Report::unknown(
                self.name(),
                Class::Inconclusive,
                "The workload was never exercised under a fault: no operation began while one was in force.",
            )
        } else {
            let ops = words::count(exercised, "operation");
            Report::valid(self.name(), format!("{faults} proven and healed; {ops} began while one was in force."))
        };
        report.explanation.extend(doubts.iter().take(SHOWN).cloned());
        if doubts.len() > SHOWN {
            report.explanation.push(format!("… and {} more.", doubts.len() - SHOWN));
        }
        report.figure("faults", run.faults.len() as f64);
        report.figure("unproven", doubts.len() as f64);
        report.figure("operations_under_faults", exercised as f64);
        report
    }
}

/// Why a fault is not proven, if it isn't.
fn doubt(fault: &FaultSpan) -> Option<String> {
    let name = if fault.what.is_empty() { "(never applied)" } else { &fault.what };
    let because = |why: String| Some(format!("fault {} ({name}) {why}", fault.fault));
    if fault.start.is_none() {
        return because("was never applied.".into());
    }
    // What was measured against its effect comes first: it is why the rest may be missing.
    for (stage, claim) in [(Stage::Start, "taken effect"), (Stage::End, "been healed")] {
        if let Some(against) = fault.evidence.iter().find(|e| e.stage == stage && !e.proven) {
            return because(format!("was not shown to have {claim}: {}.", against.what.trim_end_matches('.')));
        }
    }
    if fault.end.is_none() {
        return because("was never healed.".into());
    }
    for (stage, claim) in [(Stage::Start, "took effect"), (Stage::End, "was healed")] {
        if !fault.evidence.iter().any(|e| e.stage == stage) {
            return because(format!("has no evidence that it {claim}."));
        }
    }
    None
}

/// How many operations began while some fault was in force.
fn exercised(run: &Run<'_>) -> usize {
    // Faults may overlap: count on the union of their spans.
    let mut spans: Vec<_> = run.faults.iter().filter_map(|f| Some((f.start?, f.end.unwrap_or(run.end)))).collect();
    spans.sort_unstable();
    let mut union: Vec<(_, _)> = Vec::new();
    for (start, end) in spans {
        match union.last_mut() {
            Some((_, last)) if start <= *last => *last = end.max(*last),
            _ => union.push((start, end)),
        }
    }
    let under = |at| {
        let before = union.partition_point(|(start, _)| *start <= at);
        before > 0 && union[before - 1].1 >= at
    };
    run.operations.iter().filter(|operation| under(operation.began())).count()
}

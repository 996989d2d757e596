//! What was done and how it went: counts, latencies, throughput, availability, recovery. Judges
//! only one thing, whether enough succeeded for the other checkers' verdicts to mean something.
//!
//! Figures are named `ok`, `fail`, `info`, `throughput_per_s`, `availability`, `longest_outage_ms`,
//! `availability_<node>`, `<operation>_p99_ms`, `recovery_ms` and so on; shares are between 0 and
//! 1. Latencies are exact, of operations that succeeded, from invocation to completion.

use std::collections::BTreeMap;
use std::time::Duration;

use duress_history::{Host, Operation, Outcome, Phase, Time};
use smol_str::{SmolStr, format_smolstr};

use crate::{Class, Judge, Report, Run, Settings, Table, words};

/// Availability is counted in windows of this length.
const WINDOW: Duration = Duration::from_millis(100);

/// Counts what happened.
#[derive(Clone, Copy, Debug)]
pub struct Stats {
    /// With fewer operations than this that succeeded, a verdict means nothing.
    pub min_ok: u64,
}

impl Judge for Stats {
    fn name(&self) -> &'static str {
        "stats"
    }

    fn about(&self) -> &'static str {
        "whether enough succeeded for a verdict to mean something; counts, latencies, availability: any operations"
    }

    fn judge(&self, run: &Run<'_>, _: &Settings) -> Report {
        let kinds = kinds(run);
        let [ok, fail, info] = kinds
            .values()
            .fold([0, 0, 0], |[ok, fail, info], kind| [ok + kind.ok.len(), fail + kind.fail, info + kind.info]);
        let total = ok + fail + info;
        let main = main_phase(run);
        let seconds = words::between(main.0, main.1).as_secs_f64();
        let in_main = run.confirmed().filter_map(|(_, o)| o.ended()).filter(|at| *at >= main.0 && *at < main.1).count();
        let throughput = if seconds > 0.0 { in_main as f64 / seconds } else { 0.0 };
        let availability = availability(run, main);
        let recoveries = recoveries(run);

        let mut report = if (ok as u64) < self.min_ok {
            let class = if total > ok { Class::Unavailable } else { Class::Inconclusive };
            let needed = self.min_ok;
            let said = if total == 0 {
                "No operation was asked for".into()
            } else {
                format!("Only {ok} of {} succeeded", words::count(total, "operation"))
            };
            Report::unknown(self.name(), class, format!("{said}; a verdict needs at least {needed}."))
        } else if !run.complete {
            Report::unknown(self.name(), Class::Inconclusive, format!("The run was cut short after {}.", run.end))
        } else {
            let share = availability
                .overall
                .map_or(String::new(), |share| format!("; available {:.1} % of the time", share * 100.0));
            Report::valid(
                self.name(),
                format!("{ok} of {} succeeded, {throughput:.0} per second{share}.", words::count(total, "operation")),
            )
        };

        for (name, value) in [("operations", total), ("ok", ok), ("fail", fail), ("info", info)] {
            report.figure(name, value as f64);
        }
        report.figure("duration_s", run.end.seconds());
        report.figure("throughput_per_s", throughput);
        report.figure("longest_outage_ms", longest_outage(run, main).as_secs_f64() * 1e3);
        if let Some(share) = availability.overall {
            report.figure("availability", share);
        }
        for (node, share) in &availability.by_node {
            report.figure(format_smolstr!("availability_{node}"), *share);
        }
        report.tables.push(operations_table(&kinds, &mut report.figures));
        report.tables.extend(errors_table(run));
        report.tables.extend(availability_table(run, &availability));
        report.tables.extend(recovery_table(&recoveries, &mut report.figures));
        for never in recoveries.iter().filter(|recovery| recovery.took.is_none()) {
            report.explanation.push(format!("Nothing succeeded after {} ({}).", never.after, never.at));
        }
        report
    }
}

/// The share of the main phase's windows in which something succeeded.
pub(crate) fn overall_availability(run: &Run<'_>) -> Option<f64> {
    availability(run, main_phase(run)).overall
}

/// The operations of one kind.
#[derive(Default)]
struct Kind {
    /// Latencies of those that succeeded, in nanoseconds, sorted.
    ok: Vec<u64>,
    fail: usize,
    info: usize,
}

fn kinds<'r>(run: &'r Run<'_>) -> BTreeMap<&'r str, Kind> {
    let mut kinds: BTreeMap<&str, Kind> = BTreeMap::new();
    for operation in run.operations.iter() {
        let kind = kinds.entry(operation.op.name()).or_default();
        match operation.outcome {
            Outcome::Ok => {
                let end = operation.ended().unwrap_or(operation.began());
                kind.ok.push(end.0.saturating_sub(operation.began().0));
            }
            Outcome::Fail => kind.fail += 1,
            Outcome::Info => kind.info += 1,
        }
    }
    for kind in kinds.values_mut() {
        kind.ok.sort_unstable();
    }
    kinds
}

/// The smallest of sorted latencies that `per_mille` of a thousand don't exceed.
fn percentile(sorted: &[u64], per_mille: usize) -> Option<Duration> {
    let rank = (sorted.len() * per_mille).div_ceil(1000).max(1);
    sorted.get(rank - 1).map(|nanos| Duration::from_nanos(*nanos))
}

const PERCENTILES: [(&str, usize); 5] = [("p50", 500), ("p90", 900), ("p99", 990), ("p99.9", 999), ("max", 1000)];

fn operations_table(kinds: &BTreeMap<&str, Kind>, figures: &mut BTreeMap<SmolStr, f64>) -> Table {
    let mut columns: Vec<String> = ["operation", "ok", "fail", "info"].map(Into::into).into();
    columns.extend(PERCENTILES.map(|(name, _)| name.to_string()));
    let mut rows = Vec::new();
    for (name, kind) in kinds {
        let mut row = vec![name.to_string(), kind.ok.len().to_string(), kind.fail.to_string(), kind.info.to_string()];
        for (which, per_mille) in PERCENTILES {
            let latency = percentile(&kind.ok, per_mille);
            row.push(latency.map_or("-".into(), words::span));
            if let Some(latency) = latency {
                figures.insert(format_smolstr!("{name}_{which}_ms"), latency.as_secs_f64() * 1e3);
            }
        }
        for (which, count) in [("ok", kind.ok.len()), ("fail", kind.fail), ("info", kind.info)] {
            figures.insert(format_smolstr!("{name}_{which}"), count as f64);
        }
        rows.push(row);
    }
    Table { title: "Operations".into(), columns, rows }
}

fn errors_table(run: &Run<'_>) -> Option<Table> {
    let mut errors: BTreeMap<(&str, Outcome), usize> = BTreeMap::new();
    for operation in run.operations.iter().filter(|o| o.outcome != Outcome::Ok) {
        let unanswered = if operation.ended().is_none() { "never-completed" } else { "unnamed" };
        *errors.entry((operation.error_name().unwrap_or(unanswered), operation.outcome)).or_default() += 1;
    }
    let rows: Vec<_> = errors.iter().map(|((e, o), n)| vec![e.to_string(), o.to_string(), n.to_string()]).collect();
    let columns = ["error", "outcome", "operations"].map(Into::into).into();
    (!rows.is_empty()).then(|| Table { title: "Errors".into(), columns, rows })
}

/// From the start of the main phase to the start of the next; in a history without phases, all.
fn main_phase(run: &Run<'_>) -> (Time, Time) {
    let start = run.phase_start(Phase::Main);
    let next = run.phases.iter().find(|(phase, ..)| *phase != Phase::Main).map(|(_, time, _)| *time);
    let first = run.operations.first().map_or(Time(0), Operation::began);
    let start = start.unwrap_or(first);
    (start, next.unwrap_or(run.end).max(start))
}

struct Availability {
    /// The share of windows in which some client succeeded; `None` if there are no windows.
    overall: Option<f64>,
    /// The same of operations that a node answered.
    by_node: BTreeMap<Host, f64>,
}

fn availability(run: &Run<'_>, (start, end): (Time, Time)) -> Availability {
    let window = WINDOW.as_nanos() as u64;
    // A last window that is not full is left out, unless it is the only one.
    let windows = ((end.0 - start.0) / window).max(u64::from(end > start));
    let mut overall = Vec::new();
    let mut by_node: BTreeMap<&Host, Vec<u64>> = BTreeMap::new();
    for (_, operation) in run.confirmed() {
        let Some(at) = operation.ended().and_then(|at| at.0.checked_sub(start.0)) else { continue };
        if at / window < windows {
            overall.push(at / window);
            if let Some(node) = &operation.node {
                by_node.entry(node).or_default().push(at / window);
            }
        }
    }
    let share = |mut hit: Vec<u64>| {
        hit.sort_unstable();
        hit.dedup();
        hit.len() as f64 / windows as f64
    };
    if windows == 0 {
        return Availability { overall: None, by_node: BTreeMap::new() };
    }
    let mut by_node: BTreeMap<Host, f64> = by_node.into_iter().map(|(node, hit)| (node.clone(), share(hit))).collect();
    for node in run.header.iter().flat_map(|header| &header.nodes) {
        by_node.entry(node.clone()).or_insert(0.0);
    }
    Availability { overall: Some(share(overall)), by_node }
}

/// The longest time of the main phase in which nothing succeeded though something was asked for.
fn longest_outage(run: &Run<'_>, (start, end): (Time, Time)) -> Duration {
    let mut succeeded: Vec<Time> = run.confirmed().filter_map(|(_, o)| o.ended()).collect();
    succeeded.retain(|at| *at >= start && *at < end);
    succeeded.sort_unstable();
    let ends = succeeded.iter().copied().chain([end]);
    let begins = [start].into_iter().chain(succeeded.iter().copied());
    let asked = |from: Time, to: Time| {
        // From the first that was asked for meanwhile.
        let first = run.operations.partition_point(|operation| operation.began() < from);
        let first = run.operations.get(first).map(|operation| operation.began()).filter(|at| *at < to);
        first.map_or(Duration::ZERO, |first| words::between(first, to))
    };
    begins.zip(ends).map(|(from, to)| asked(from, to)).max().unwrap_or_default()
}

fn availability_table(run: &Run<'_>, availability: &Availability) -> Option<Table> {
    let mut answered: BTreeMap<&Host, usize> = BTreeMap::new();
    for (_, operation) in run.confirmed() {
        if let Some(node) = &operation.node {
            *answered.entry(node).or_default() += 1;
        }
    }
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let mut rows = vec![vec!["all".into(), run.confirmed().count().to_string(), percent(availability.overall?)]];
    for (node, share) in &availability.by_node {
        let n = answered.get(node).copied().unwrap_or(0);
        rows.push(vec![node.to_string(), n.to_string(), percent(*share)]);
    }
    let columns = ["answered by", "ok", "available"].map(Into::into).into();
    Some(Table { title: "Availability".into(), columns, rows })
}

/// How long it took until something succeeded again.
struct Recovery {
    /// After what.
    after: String,
    at: Time,
    /// `None`: nothing did.
    took: Option<Duration>,
    /// Of the whole run, after everything had been healed.
    last: bool,
}

/// After each fault's heal, and after the beginning of the recovery phase: the time until the
/// first completion of an operation that was invoked after that moment and succeeded.
fn recoveries(run: &Run<'_>) -> Vec<Recovery> {
    let mut ok: Vec<&Operation> = run.confirmed().map(|(_, operation)| operation).collect();
    ok.sort_by_key(|operation| operation.began());
    // Of the operations from here on, the earliest completion.
    let mut earliest: Vec<Time> = ok.iter().map(|o| o.ended().unwrap_or(o.began())).collect();
    for at in (1..earliest.len()).rev() {
        earliest[at - 1] = earliest[at - 1].min(earliest[at]);
    }
    let recovery = |after: String, at: Time, last: bool| {
        let first = ok.partition_point(|o| o.began() < at);
        let took = earliest.get(first).map(|back| words::between(at, *back));
        Recovery { after, at, took, last }
    };
    let mut found: Vec<Recovery> = run
        .faults
        .iter()
        .filter_map(|fault| Some(recovery(format!("the end of {}", fault.what), fault.end?, false)))
        .collect();
    if let Some(at) = run.phase_start(Phase::Recovery) {
        found.push(recovery("the heal of everything".into(), at, true));
    }
    found
}

fn recovery_table(recoveries: &[Recovery], figures: &mut BTreeMap<SmolStr, f64>) -> Option<Table> {
    let millis = |took: Duration| took.as_secs_f64() * 1e3;
    if let Some(longest) = recoveries.iter().filter(|r| !r.last).filter_map(|r| r.took).max() {
        figures.insert("longest_fault_recovery_ms".into(), millis(longest));
    }
    if let Some(took) = recoveries.iter().find(|r| r.last).and_then(|r| r.took) {
        figures.insert("recovery_ms".into(), millis(took));
    }
    let row = |r: &Recovery| vec![r.after.clone(), r.at.to_string(), r.took.map_or("never".into(), words::span)];
    let columns = ["after", "at", "first success within"].map(Into::into).into();
    (!recoveries.is_empty()).then(|| Table {
        title: "Recovery".into(),
        columns,
        rows: recoveries.iter().map(row).collect(),
    })
}

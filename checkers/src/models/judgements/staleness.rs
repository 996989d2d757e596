//! How old what was read had become. A measurement; it judges only that reads show something that
//! was written.
//!
//! For registers in which each value is written once. A write *surely overwrote* a value before a
//! read if it was invoked after the value's own write had succeeded, and was over before the read
//! was invoked. A read is *stale* if there is such a write:
//!
//! - by how long: from the moment at which the value was first surely overwritten to the read's
//!   invocation; no clock of the target's takes part (Δ of Golab, Li and Shah, *Analyzing
//!   Consistency Properties for Fun and Profit*, PODC 2011, bounded from below);
//! - by how many versions: the number of such writes.
//!
//! **k-atomicity** (Aiyer, Alvisi and Bazzi, DISC 2005): there is an order of the operations that
//! agrees with real time and in which every read shows one of the last *k* values written; *k* = 1
//! is linearizability. `k_at_least` is one more than the most versions by which a read is stale;
//! `k_at_most` is what one order needs that puts each write as late as it can be, and each read as
//! early (not given if there is a cas). If they are equal, that is *k*. (Deciding *k* = 2 exactly
//! takes the zones of Gibbons and Korach; for larger *k* no fast algorithm is known.) O(n log n).
//!
//! A read of a value that nobody wrote, or that was over before the value's write began, is a
//! violation: no *k* allows it.

use super::counts::Counts;
use super::versions::Versions;
use super::{Findings, Judgement, Unfit, end, nanos, of_key};
use crate::{Run, Settings};
use crate::{Table, words};

pub(in super::super) const STALENESS: Judgement = Judgement {
    name: "staleness",
    about: "how old stale reads were, in time and versions, and k-atomicity: read, write v, cas [from to], each value written once",
    judge,
};

/// How many stale reads are told.
const SHOWN: usize = 10;

/// A stale read.
struct Stale {
    read: usize,
    versions: usize,
    nanos: Option<u64>,
    /// The first write that surely overwrote what it shows.
    by: usize,
}

fn judge(history: &Run<'_>, _: &Settings) -> Result<Findings, Unfit> {
    let versions = Versions::read(history)?;
    let mut findings = Findings::default();
    versions.tell_thin_air(&mut findings);
    let mut stale = Vec::new();
    let mut at_most = Some(1);
    for one in versions.split() {
        tell_early(&one, &mut findings);
        stale.extend(stale_reads(&one).into_iter().map(|s| Stale {
            read: one.operation(s.read),
            by: one.operation(s.by),
            ..s
        }));
        at_most = at_most.zip(k_at_most(&one)).map(|(most, k)| most.max(k));
    }
    stale.sort_by_key(|stale| (std::cmp::Reverse((stale.versions, stale.nanos)), stale.read));
    let at_least = stale.first().map_or(1, |stale| stale.versions + 1);
    let told = |at: usize| super::told(&history.operations[at]);
    for stale in stale.iter().take(SHOWN) {
        let age =
            stale.nanos.map_or(String::new(), |n| format!(" {}", words::span(std::time::Duration::from_nanos(n))));
        let by = told(stale.by);
        let versions = words::count(stale.versions, "version");
        findings
            .remarks
            .push(format!("{} was stale by {versions}: overwritten{age} before it began, by {by}.", told(stale.read)));
    }
    let mut by_versions: std::collections::BTreeMap<usize, usize> = Default::default();
    for stale in &stale {
        *by_versions.entry(stale.versions).or_default() += 1;
    }
    findings.figure("stale_reads", stale.len());
    findings.figure("most_versions", at_least - 1);
    findings.figure("k_at_least", at_least);
    if let Some(most) = at_most {
        findings.figure("k_at_most", most);
    }
    findings.latencies(
        "age of stale reads",
        ["stale_p50_ms", "stale_p99_ms", "stale_max_ms"],
        stale.iter().filter_map(|s| s.nanos).collect(),
    );
    if !by_versions.is_empty() {
        findings.tables.push(Table {
            title: "Stale reads".into(),
            columns: ["versions behind", "reads"].map(Into::into).into(),
            rows: by_versions.iter().map(|(versions, reads)| vec![versions.to_string(), reads.to_string()]).collect(),
        });
    }
    let k = match at_most {
        Some(most) if most == at_least => format!("k = {most}"),
        Some(most) => format!("k between {at_least} and {most}"),
        None => format!("k at least {at_least}"),
    };
    Ok(versions.finish(findings, &format!("measured, {} surely stale; {k}", stale.len())))
}

/// Reads that were over before the write of what they show began.
fn tell_early(versions: &Versions<'_>, findings: &mut Findings) {
    for (at, access) in versions.accesses.iter().enumerate() {
        let Some(source) = access.source else { continue };
        let (read, write) = (op(versions, at), op(versions, source));
        if end(read) < write.invoked.index {
            let (key, said, wrote) = (of_key(versions.keys[access.key]), versions.told(at), versions.told(source));
            let core = vec![access.operation, versions.operation(source)];
            findings.wrong(format!("A read{key} was over before its value was written: {said}, and {wrote}."), core);
        }
    }
}

fn op<'v>(versions: &'v Versions<'_>, access: usize) -> &'v duress_history::formats::Operation {
    &versions.history.operations[versions.operation(access)]
}

/// When an access is surely over: only operations that succeeded are.
fn over(versions: &Versions<'_>, access: usize) -> u64 {
    let operation = op(versions, access);
    if operation.outcome == duress_history::Outcome::Ok { end(operation) } else { u64::MAX }
}

/// The stale reads of one register.
fn stale_reads(versions: &Versions<'_>) -> Vec<Stale> {
    // Writes by the ends that are known, and those ends; for each read, those that began after the
    // value's write was over and ended before the read began are counted by two sweeps: all that
    // ended before the read, less those of them that began before the value's write was over.
    let mut writes: Vec<(u64, u64, usize)> = versions
        .accesses
        .iter()
        .enumerate()
        .filter(|(_, access)| access.write.is_some())
        .map(|(at, _)| (over(versions, at), op(versions, at).invoked.index, at))
        .filter(|(end, ..)| *end != u64::MAX)
        .collect();
    writes.sort_unstable();
    // From which place on: of those that began after a place, the first that ended.
    let mut by_start: Vec<(u64, u64, usize)> = writes.iter().map(|(end, start, at)| (*start, *end, *at)).collect();
    by_start.sort_unstable();
    let mut earliest: Vec<(u64, usize)> = by_start.iter().map(|(_, end, at)| (*end, *at)).collect();
    for at in (1..earliest.len()).rev() {
        earliest[at - 1] = earliest[at - 1].min(earliest[at]);
    }
    let mut stale: Vec<Stale> = Vec::new();
    // (the value's end, the read's beginning, the number in `stale`)
    let mut asked: Vec<(u64, u64, usize)> = Vec::new();
    for (at, access) in versions.accesses.iter().enumerate().filter(|(_, access)| access.read.is_some()) {
        let began = op(versions, at).invoked.index;
        // What was there at first was there before all.
        let since = access.source.map_or(0, |source| over(versions, source));
        let from = match access.source {
            Some(_) => by_start.partition_point(|(start, ..)| *start <= since),
            None => 0,
        };
        let Some((end, by)) = earliest.get(from).copied().filter(|(end, _)| *end < began) else { continue };
        let overwritten = op(versions, by).completed.filter(|moment| moment.index == end).and_then(|m| m.time_ns);
        let nanos = nanos(overwritten, op(versions, at).invoked.time_ns);
        asked.push((access.source.map_or(0, |_| since + 1), began, stale.len()));
        stale.push(Stale { read: at, versions: 0, nanos, by });
    }
    // Counts writes with start ≥ a bound and end < another: writes are put in by their ends, a tree
    // of counts by their starts.
    asked.sort_unstable_by_key(|(_, began, _)| *began);
    let mut counts = Counts::new(by_start.len());
    let mut put_in = 0;
    for (since, began, number) in asked {
        while put_in < writes.len() && writes[put_in].0 < began {
            let (end, start, at) = writes[put_in];
            counts.add(by_start.partition_point(|entry| *entry < (start, end, at)));
            put_in += 1;
        }
        stale[number].versions = put_in - counts.before(by_start.partition_point(|(start, ..)| *start < since));
    }
    stale
}

/// The k that one order needs: each write as late as it can be, each read as early.
/// `None` if something both reads and writes: that has to be at one point.
fn k_at_most(versions: &Versions<'_>) -> Option<usize> {
    if versions.accesses.iter().any(|access| access.read.is_some() && access.write.is_some()) {
        return None;
    }
    // A write comes no later than its own end and the end of every read of it.
    let mut point: Vec<u64> = (0..versions.accesses.len()).map(|at| over(versions, at)).collect();
    for (at, access) in versions.accesses.iter().enumerate() {
        if let Some(source) = access.source {
            point[source] = point[source].min(over(versions, at));
        }
    }
    let mut writes: Vec<(u64, usize)> = versions
        .accesses
        .iter()
        .enumerate()
        .filter(|(_, a)| a.write.is_some())
        .map(|(at, _)| (point[at], at))
        .collect();
    writes.sort_unstable();
    let place: std::collections::HashMap<usize, usize> =
        writes.iter().enumerate().map(|(n, (_, at))| (*at, n)).collect();
    let mut most = 1;
    for (at, access) in versions.accesses.iter().enumerate().filter(|(_, access)| access.read.is_some()) {
        let began = op(versions, at).invoked.index;
        let before = writes.partition_point(|(point, _)| *point < began);
        let shown = access.source.and_then(|source| place.get(&source)).map_or(0, |n| n + 1);
        most = most.max((before + 1).saturating_sub(shown));
    }
    Some(most)
}

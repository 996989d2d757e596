//! Logs that differ although they must be the same.

use std::collections::BTreeMap;

use duress_history::{Host, Time};

use super::{Findings, reports};
use crate::Run;

/// How many digests of the first index are told.
const SHOWN: usize = 6;

/// Different digests at the same index: of two nodes, or of one that rewrote what it had
/// committed. Index zero is the empty log and means nothing.
pub(super) fn diverged(run: &Run<'_>, findings: &mut Findings) {
    // index → digest → who first said so, and when
    let mut digests: BTreeMap<u64, BTreeMap<u64, (Time, &Host)>> = BTreeMap::new();
    for (at, report) in reports(run) {
        if let (Some(index), Some(digest)) = (report.index.filter(|index| *index > 0), report.digest) {
            digests.entry(index).or_default().entry(digest).or_insert((at, &report.node));
        }
    }
    findings.figures.insert("compared_indices", digests.len() as f64);
    let diverged: Vec<_> = digests.iter().filter(|(_, said)| said.len() > 1).collect();
    findings.figures.insert("diverged_indices", diverged.len() as f64);
    let Some((index, said)) = diverged.first() else { return };
    let mut said: Vec<(Time, &Host, u64)> = said.iter().map(|(digest, (at, node))| (*at, *node, *digest)).collect();
    said.sort_unstable();
    let (first, second) = (said[0], said[1]);
    let summary = if first.1 == second.1 {
        format!("{} changed what it had committed up to index {index}.", first.1)
    } else {
        format!("{} and {} committed different things up to index {index}.", first.1, second.1)
    };
    let mut lines: Vec<String> = said
        .iter()
        .take(SHOWN)
        .map(|(at, node, digest)| format!("{node} at {at}: digest {digest:016x} at index {index}."))
        .collect();
    if diverged.len() > 1 {
        let last = diverged.last().map_or(*index, |(index, _)| index);
        lines.push(format!("The same at {} more indices, up to {last}.", diverged.len() - 1));
    }
    findings.violation(summary, lines);
}

//! Elections: whether somebody leads, how often that changes, and how long nobody does. By what
//! nodes say of themselves, so these are figures and remarks, never violations.

use std::collections::BTreeMap;
use std::time::Duration;

use duress_history::{Host, Phase, Time};

use super::reports;
use crate::{Run, words};

/// The elections of a run. A node leads from when it says so until it says otherwise, is crashed by
/// a fault, or the run ends; of several, the one of the highest term counts.
pub(super) struct Elections {
    /// When the first leader said so.
    first: Option<Time>,
    /// How often another node came to lead than led last.
    changes: usize,
    /// The longest that nobody led, after the first did.
    without: Duration,
    /// Who leads at the end.
    last: Option<Host>,
    /// From the first leader to the end.
    lasted: Duration,
}

impl Elections {
    /// Reads them off a run. O(n log n) in the reports.
    pub(super) fn of(run: &Run<'_>) -> Elections {
        let mut said: Vec<(Time, &Host, Option<u64>)> = reports(run)
            .filter(|(_, report)| report.role.is_some() || report.term.is_some())
            .map(|(at, report)| (at, &report.node, report.leads.then_some(report.term.unwrap_or(0))))
            .collect();
        for fault in run.faults.iter().filter(|fault| fault.kind == "crash") {
            said.extend(
                fault.start.into_iter().flat_map(|start| fault.hosts.iter().map(move |host| (start, host, None))),
            );
        }
        said.sort_by_key(|(at, ..)| *at);
        let mut elections =
            Elections { first: None, changes: 0, without: Duration::ZERO, last: None, lasted: Duration::ZERO };
        let mut leading: BTreeMap<&Host, u64> = BTreeMap::new();
        // Who led last, and since when nobody does.
        let (mut led, mut nobody): (Option<&Host>, Option<Time>) = (None, None);
        for (at, node, term) in said {
            match term {
                Some(term) => drop(leading.insert(node, term)),
                None => drop(leading.remove(node)),
            }
            match leading.iter().max_by_key(|(_, term)| **term) {
                Some((leader, _)) => {
                    elections.first.get_or_insert(at);
                    if let Some(since) = nobody.take() {
                        elections.without = elections.without.max(words::between(since, at));
                    }
                    elections.changes += usize::from(led.is_some_and(|led| led != *leader));
                    led = Some(leader);
                }
                None if led.is_some() => drop(nobody.get_or_insert(at)),
                None => {}
            }
        }
        if let Some(since) = nobody {
            elections.without = elections.without.max(words::between(since, run.end));
        }
        elections.last = led.filter(|_| nobody.is_none()).cloned();
        elections.lasted = elections.first.map_or(Duration::ZERO, |first| words::between(first, run.end));
        elections
    }

    /// What is worth a remark: that nobody leads at the end, though all was healed.
    pub(super) fn remark(&self, run: &Run<'_>) -> Option<String> {
        let healed = run.phase_start(Phase::Recovery)?;
        if self.last.is_some() {
            return None;
        }
        let took = words::span(words::between(healed, run.end));
        Some(format!("Remark: nobody says that it leads at the end, {took} after everything was healed."))
    }

    /// Figures by name.
    pub(super) fn figures(&self) -> Vec<(&'static str, f64)> {
        let minutes = self.lasted.as_secs_f64() / 60.0;
        let mut figures = vec![
            ("leader_changes", self.changes as f64),
            ("longest_without_leader_ms", self.without.as_secs_f64() * 1e3),
        ];
        figures.extend(self.first.map(|first| ("first_leader_ms", first.seconds() * 1e3)));
        figures.extend((minutes > 0.0).then(|| ("leader_changes_per_min", self.changes as f64 / minutes)));
        figures
    }
}

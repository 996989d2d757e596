//! Faults of links: rules of the fabric, and probes that show them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use duress_fabric::Rule;
use duress_fault::{LinkHarm, Resolved, Shape};
use duress_history::{Host, Stage};

use super::{Found, InForce, Nemesis, blocking, release};
use crate::RunError;

/// How long a probe that should not arrive is waited for.
const SILENCE: Duration = Duration::from_millis(100);
/// How often a measurement that contradicts the claim is repeated before it is believed: on a
/// busy machine a probe may be late.
const ATTEMPTS: usize = 4;

type Link = (Host, Host);

/// What is in force on links.
#[derive(Default)]
pub(super) struct Force {
    cuts: BTreeMap<Link, usize>,
    delays: BTreeMap<Link, Vec<Duration>>,
}

impl Force {
    fn release_delay(&mut self, link: &Link, by: Duration) {
        if let Some(delays) = self.delays.get_mut(link) {
            if let Some(at) = delays.iter().position(|delay| *delay == by) {
                delays.swap_remove(at);
            }
            if delays.is_empty() {
                self.delays.remove(link);
            }
        }
    }
}

/// Whether the fabric can do this.
pub(super) fn implemented(harm: &LinkHarm) -> bool {
    matches!(harm, LinkHarm::Cut | LinkHarm::Delay { shape: Shape::Constant, .. })
}

impl Nemesis {
    pub(super) fn harm_links(
        &self,
        resolved: &Resolved,
        harm: LinkHarm,
        force: &mut super::Force,
        real: bool,
    ) -> Result<(), RunError> {
        for link in &resolved.links {
            match harm {
                LinkHarm::Delay { by, .. } => force.links.delays.entry(link.clone()).or_default().push(by),
                _ => *force.links.cuts.entry(link.clone()).or_default() += 1,
            }
        }
        if real { self.set_rules(&force.links, &resolved.links) } else { Ok(()) }
    }

    pub(super) fn mend_links(
        &self,
        resolved: &Resolved,
        harm: LinkHarm,
        force: &mut super::Force,
    ) -> Result<(), RunError> {
        for link in &resolved.links {
            match harm {
                LinkHarm::Delay { by, .. } => force.links.release_delay(link, by),
                _ => release(&mut force.links.cuts, link),
            }
        }
        self.set_rules(&force.links, &resolved.links)
    }

    /// Makes links do what is in force on them, all at the same moment.
    fn set_rules(&self, force: &Force, changed: &BTreeSet<Link>) -> Result<(), RunError> {
        let links = self.cluster.local.links();
        let mut rules = Vec::new();
        for link in changed {
            let (Some(from), Some(to)) = (links.port(&link.0), links.port(&link.1)) else {
                return Err(RunError::Harness(format!("there is no link {} -> {}", link.0, link.1)));
            };
            let delay = force.delays.get(link).into_iter().flatten().max().copied().unwrap_or_default();
            rules.push((
                duress_fabric::Link { from, to },
                Rule { drop: force.cuts.contains_key(link), delay, ..Rule::OPEN },
            ));
        }
        links.set_many(&rules);
        Ok(())
    }

    /// Frames dropped so far on a fault's links.
    pub(super) fn dropped(&self, resolved: &Resolved) -> u64 {
        let links = self.cluster.local.links();
        let dropped = |(from, to): &Link| Some(links.counters(links.port(from)?, links.port(to)?).dropped);
        resolved.links.iter().filter_map(dropped).sum()
    }

    /// What is wrong with any link.
    pub(super) async fn wrong_links(self: &Arc<Self>, force: &super::Force) -> Result<Vec<String>, RunError> {
        Ok(self.probe(&force.links).await?.wrong)
    }

    /// Measures what a stage of a fault claims of its links.
    pub(super) async fn measure_links(
        self: &Arc<Self>,
        in_force: &InForce,
        harm: LinkHarm,
        force: &super::Force,
        stage: Stage,
    ) -> Result<Found, RunError> {
        let resolved = &in_force.resolved;
        let probed = self.probe(&force.links).await?;
        let dropped = self.dropped(resolved).saturating_sub(in_force.dropped_before);
        let mut found = Found { wrong: probed.wrong, ..Found::default() };
        for (name, figure) in [
            ("links", resolved.links.len() as f64),
            ("frames_dropped", dropped as f64),
            ("probes_arrived", probed.arrived as f64),
            ("probes_silent", probed.silent as f64),
        ] {
            found.figures.insert(name.into(), figure);
        }
        if harm == LinkHarm::Cut && dropped == 0 {
            found.wrong.push("no frame was dropped on the cut links".into());
        }
        found.seen.push(match stage {
            Stage::Start => format!(
                "probes: {} links silent, {} open, all as claimed; {dropped} frames dropped",
                probed.silent, probed.arrived
            ),
            Stage::End => format!("probes: the links carry frames again; {dropped} frames were dropped"),
        });
        Ok(found)
    }

    /// Probes every link against what is in force.
    async fn probe(self: &Arc<Self>, force: &Force) -> Result<LinksMeasured, RunError> {
        let mut measured = LinksMeasured::default();
        for _ in 0..ATTEMPTS {
            let nemesis = self.clone();
            let cuts: BTreeSet<Link> = force.cuts.keys().cloned().collect();
            let delays: BTreeMap<Link, Duration> =
                force.delays.iter().filter_map(|(link, ds)| Some((link.clone(), *ds.iter().max()?))).collect();
            measured = blocking(move || nemesis.probe_links(&cuts, &delays)).await?;
            if measured.wrong.is_empty() {
                break;
            }
        }
        Ok(measured)
    }

    fn probe_links(&self, cuts: &BTreeSet<Link>, delays: &BTreeMap<Link, Duration>) -> LinksMeasured {
        let hosts: Vec<&Host> = self.cluster.node_names.iter().chain(&self.cluster.client_names).collect();
        let slowest = delays.values().max().copied().unwrap_or_default();
        let link = |from: usize, to: usize| (hosts[from].clone(), hosts[to].clone());
        let expected = |from: usize, to: usize| !cuts.contains(&link(from, to));
        let matrix = self.cluster.local.prober().matrix(SILENCE + slowest);
        let mut measured = LinksMeasured::default();
        for from in 0..hosts.len() {
            for to in (0..hosts.len()).filter(|to| *to != from) {
                let reached = matrix.reached(from, to);
                *(if reached { &mut measured.arrived } else { &mut measured.silent }) += 1;
                let (a, b) = (hosts[from], hosts[to]);
                if reached != expected(from, to) {
                    let claim = if reached { "carries frames though it is cut" } else { "is silent though it is open" };
                    measured.wrong.push(format!("link {a} -> {b} {claim}"));
                }
                let latency = matrix.latency(from, to);
                if let (Some(delay), Some(latency)) = (delays.get(&link(from, to)), latency)
                    && latency < *delay
                {
                    measured.wrong.push(format!("link {a} -> {b} takes {latency:?}, less than its delay of {delay:?}"));
                }
            }
        }
        measured
    }
}

/// What probes said of all links.
#[derive(Default)]
struct LinksMeasured {
    arrived: usize,
    silent: usize,
    wrong: Vec<String>,
}

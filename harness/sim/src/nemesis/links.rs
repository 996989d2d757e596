//! Faults of links: what they do to the simulated network, and how it shows.

use std::time::Duration;

use duress_fault::{Effect, LinkHarm, Resolved};
use duress_history::{Host, Stage};
use duress_machine::Machine;
use duress_machine::client::Answer;
use smol_str::SmolStr;

use super::Measured;
use crate::Service;
use crate::phases::nanos;
use crate::world::{InForce, Running};

const CUT: Effect = Effect::Links(LinkHarm::Cut);

/// Whether the simulator can do this.
pub(super) fn simulated(harm: &LinkHarm) -> bool {
    matches!(harm, LinkHarm::Cut | LinkHarm::Delay { .. })
}

impl<M: Machine, S: Service<M>> Running<'_, '_, M, S>
where
    M::Response: Answer,
{
    pub(super) fn links_of(&self, resolved: &Resolved) -> Vec<(usize, usize)> {
        let ends = |(from, to): &(Host, Host)| Some((self.host(from)?, self.host(to)?));
        resolved.links.iter().filter_map(ends).collect()
    }

    pub(super) fn dropped_on(&self, links: &[(usize, usize)]) -> u64 {
        links.iter().map(|(from, to)| self.s.links.dropped[self.s.links.link(*from, *to)]).sum()
    }

    pub(super) fn harm_links(&mut self, resolved: &Resolved, harm: LinkHarm) {
        for (from, to) in self.links_of(resolved) {
            let link = self.s.links.link(from, to);
            match harm {
                LinkHarm::Delay { by, .. } => self.s.links.delay(link, nanos(by)),
                _ => self.s.links.cut(link),
            }
        }
    }

    pub(super) fn mend_links(&mut self, resolved: &Resolved, harm: LinkHarm) {
        for (from, to) in self.links_of(resolved) {
            let link = self.s.links.link(from, to);
            match harm {
                LinkHarm::Delay { by, .. } => self.s.links.undelay(link, nanos(by)),
                _ => self.s.links.mend(link),
            }
        }
    }

    /// Sends a probe along each of the fault's links.
    pub(super) fn measure_links(&mut self, one: &InForce, harm: LinkHarm, stage: Stage) -> (bool, String, Measured) {
        let mut wrong = Vec::new();
        let (mut silent, mut arrived) = (0, 0);
        let links = self.links_of(&one.resolved);
        for (from, to) in &links {
            let others = self.s.in_force.iter().filter(|other| other.resolved.effect == CUT && !other.healing);
            let cut_by_others = others
                .map(|other| &other.resolved.links)
                .any(|links| links.iter().any(|(a, b)| self.host(a) == Some(*from) && self.host(b) == Some(*to)));
            let cut = cut_by_others || (stage == Stage::Start && harm == LinkHarm::Cut);
            let reached = self.s.links.passes(*from, *to);
            *(if reached { &mut arrived } else { &mut silent }) += 1;
            let link = self.s.links.link(*from, *to);
            let delayed = self.s.links.delay_of(link);
            if reached == cut {
                let claim = if reached { "carries frames though it is cut" } else { "is silent though it is open" };
                wrong.push(format!("link {from} -> {to} {claim}"));
            } else if let (LinkHarm::Delay { by, .. }, Stage::Start) = (harm, stage)
                && delayed < nanos(by)
            {
                wrong.push(format!("link {from} -> {to} is delayed by {:?} only", Duration::from_nanos(delayed)));
            }
        }
        let dropped = self.dropped_on(&links) - one.dropped_before;
        let mut measured = Measured::new();
        measured.insert(SmolStr::new_static("links"), links.len() as f64);
        measured.insert(SmolStr::new_static("frames_dropped"), dropped as f64);
        measured.insert(SmolStr::new_static("probes_arrived"), f64::from(arrived));
        measured.insert(SmolStr::new_static("probes_silent"), f64::from(silent));
        let proven = wrong.is_empty();
        let what = match (proven, stage) {
            (false, _) => wrong.join(", "),
            (true, Stage::Start) => format!("probes: {silent} links silent, {arrived} open, all as claimed"),
            (true, Stage::End) => format!("probes: the links carry frames again; {dropped} frames were dropped"),
        };
        (proven, what, measured)
    }
}

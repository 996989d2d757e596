//! Faults of links: what they do to the simulated network, and how it shows.

use std::time::Duration;

use duress_conductor::{Found, InForce};
use duress_fault::{Checksum, LinkHarm, Resolved, Shape, Share};
use duress_history::{Host, Stage};
use smol_str::SmolStr;

use super::Measured;
use crate::harms::Fate;
use crate::plan::nanos;
use crate::state::Running;

/// Packets sent along each link of a fault to see what it does, and the size of most of them.
const PROBES: u64 = 400;
const SIZE: u32 = 80;
/// They are numbered from here on, so that they don't change what becomes of messages.
const FIRST_PROBE: u64 = 1 << 62;

/// What probes along all links of a fault met.
#[derive(Default)]
struct Met {
    sent: u64,
    lost: u64,
    damaged: u64,
    twice: u64,
    reordered: u64,
    reset: u64,
    /// The least and the greatest delay.
    later: Option<(u64, u64)>,
    /// Links on which packets above and below a size were lost and arrived.
    black_holes: u64,
}

impl Met {
    fn one(&mut self, fate: Fate) {
        self.sent += 1;
        self.lost += u64::from(fate.lost);
        self.damaged += u64::from(fate.damaged);
        self.twice += u64::from(fate.twice);
        self.reordered += u64::from(fate.reordered);
        self.reset += u64::from(fate.reset);
        let (least, most) = self.later.unwrap_or((fate.later, fate.later));
        self.later = Some((least.min(fate.later), most.max(fate.later)));
    }
}

impl Running<'_> {
    pub(super) fn links_of(&self, resolved: &Resolved) -> Vec<(usize, usize)> {
        let ends = |(from, to): &(Host, Host)| Some((self.host(from)?, self.host(to)?));
        resolved.links.iter().filter_map(ends).collect()
    }

    /// Packets that were dropped or harmed on these links.
    pub(super) fn harmed_on(&self, links: &[(usize, usize)]) -> u64 {
        let on = |(from, to): &(usize, usize)| {
            let link = self.s.links.link(*from, *to);
            self.s.links.dropped[link] + self.s.links.harms.harmed[link]
        };
        links.iter().map(on).sum()
    }

    pub(super) fn harm_links(&mut self, resolved: &Resolved, harm: LinkHarm) {
        let now = self.s.now;
        for (from, to) in self.links_of(resolved) {
            let link = self.s.links.link(from, to);
            match harm {
                LinkHarm::Delay { by, jitter, shape } if shape == Shape::Constant || jitter.is_zero() => {
                    self.s.links.delay(link, nanos(by));
                }
                LinkHarm::Cut => self.s.links.cut(link),
                _ => self.s.links.harms.add(link, harm, now),
            }
        }
    }

    pub(super) fn mend_links(&mut self, resolved: &Resolved, harm: LinkHarm) {
        for (from, to) in self.links_of(resolved) {
            let link = self.s.links.link(from, to);
            match harm {
                LinkHarm::Delay { by, jitter, shape } if shape == Shape::Constant || jitter.is_zero() => {
                    self.s.links.undelay(link, nanos(by));
                }
                LinkHarm::Cut => self.s.links.mend(link),
                _ => self.s.links.harms.remove(link, harm),
            }
        }
    }

    /// Links of a fault that are not open though nothing is known to cut them, or open though cut.
    pub(super) fn wrong_links(&self, resolved: &Resolved) -> Vec<String> {
        let is_wrong = |(from, to): &(usize, usize)| {
            let flaps = self.s.links.harms.flaps(self.s.links.link(*from, *to));
            !flaps && self.s.links.open(*from, *to) == self.cut_by_another(*from, *to)
        };
        let found = self.links_of(resolved).into_iter().filter(is_wrong);
        found.map(|(from, to)| format!("link {from} -> {to} is not as it should be")).collect()
    }

    /// Sends probes along each of the fault's links.
    pub(super) fn measure_links(&mut self, one: &InForce, harm: LinkHarm, stage: Stage) -> Found {
        let mut wrong = Vec::new();
        let (mut silent, mut arrived) = (0, 0);
        let links = self.links_of(&one.resolved);
        for (from, to) in &links {
            let cut = self.cut_by_another(*from, *to) || (stage == Stage::Start && harm == LinkHarm::Cut);
            let reached = self.s.links.passes(*from, *to);
            *(if reached { &mut arrived } else { &mut silent }) += 1;
            let link = self.s.links.link(*from, *to);
            let delayed = self.s.links.delay_of(link);
            let flaps = self.s.links.harms.flaps(link);
            if reached == cut && !flaps {
                let claim = if reached { "carries frames though it is cut" } else { "is silent though it is open" };
                wrong.push(format!("link {from} -> {to} {claim}"));
            } else if let (LinkHarm::Delay { by, shape: Shape::Constant, .. }, Stage::Start) = (harm, stage)
                && delayed < nanos(by)
            {
                wrong.push(format!("link {from} -> {to} is delayed by {:?} only", Duration::from_nanos(delayed)));
            }
        }
        let harmed = self.harmed_on(&links) - self.s.harmed_before.get(&one.number).copied().unwrap_or_default();
        let mut measured = Measured::new();
        for (name, figure) in [
            ("links", links.len() as u64),
            ("probes_arrived", arrived),
            ("probes_silent", silent),
            (if harm == LinkHarm::Cut { "frames_dropped" } else { "frames_harmed" }, harmed),
        ] {
            measured.insert(SmolStr::new_static(name), figure as f64);
        }
        let mut seen = String::new();
        // A cut and a delay that is the same for all show without; nobody looks at probes at the end.
        let by_probes = !matches!(harm, LinkHarm::Cut | LinkHarm::Delay { shape: Shape::Constant, .. });
        if stage == Stage::Start && by_probes {
            let met = self.probe_links(&links, harm);
            let (good, words) = judge(harm, &met, links.len() as u64, silent > 0);
            measured.insert(SmolStr::new_static("datagrams_sent"), met.sent as f64);
            measured.insert(
                SmolStr::new_static("datagrams_arrived"),
                met.sent.saturating_sub(met.lost + met.damaged) as f64,
            );
            if !good {
                wrong.push(format!("{words}, which doesn't fit a {harm}"));
            }
            seen = format!(", {words}");
        }
        let word = if harm == LinkHarm::Cut { "dropped" } else { "harmed" };
        let what = match stage {
            Stage::Start => format!("probes: {silent} links silent, {arrived} open, all as claimed{seen}"),
            Stage::End => format!("probes: the links carry frames again; {harmed} frames were {word}"),
        };
        Found { wrong, seen: vec![what], figures: measured }
    }

    fn cut_by_another(&self, from: usize, to: usize) -> bool {
        let cut = duress_fault::Effect::Links(LinkHarm::Cut);
        let names = self.plan.nodes.iter().chain(&self.plan.clients);
        let [Some(from), Some(to)] = [from, to].map(|host| names.clone().nth(host).cloned()) else { return false };
        let link = (from, to);
        let cuts = |other: &InForce| other.resolved.effect == cut && other.is_standing();
        self.s.conductor.in_force().iter().any(|other| cuts(other) && other.resolved.links.contains(&link))
    }

    /// What packets along these links would meet at this moment.
    fn probe_links(&self, links: &[(usize, usize)], harm: LinkHarm) -> Met {
        let mut met = Met::default();
        let harms = &self.s.links.harms;
        let count = match harm {
            LinkHarm::Loss(share) | LinkHarm::Duplicate(share) => probes(share),
            LinkHarm::Corrupt { share, .. } | LinkHarm::Reorder { share, .. } => probes(share),
            _ => PROBES,
        };
        for (from, to) in links {
            let link = self.s.links.link(*from, *to);
            let key = self.s.links.key(link);
            let fate =
                |number: u64, size: u32| harms.fate(self.s.seed, (link, key), FIRST_PROBE + number, size, self.s.now);
            (0..count.div_ceil(links.len() as u64)).for_each(|number| met.one(fate(number, SIZE)));
            if let LinkHarm::BlackHole { above } = harm {
                let shows = fate(PROBES, above.saturating_add(1)).lost && !fate(PROBES, above).lost;
                met.black_holes += u64::from(shows);
            }
        }
        met
    }
}

/// Packets to be sent, over all links, to see a share of them harmed.
fn probes(share: Share) -> u64 {
    (20_000_000 / u64::from(share.parts().max(1))).clamp(PROBES, 20_000)
}

/// Whether what probes met is what a harm does, in words.
fn judge(harm: LinkHarm, met: &Met, links: u64, silent: bool) -> (bool, String) {
    let sent = met.sent;
    let share = |count: u64, share: Share, what: &str| {
        let (all, p) = (sent as f64, share.of_one());
        let off = (count as f64 - all * p).abs();
        // Others may harm the same link, so that more are.
        let good = count > 0 && (off <= 5.0 * (all * p * (1.0 - p)).sqrt() + 3.0 || count as f64 > all * p);
        (good, format!("{count} of {sent} datagrams {what}"))
    };
    match harm {
        LinkHarm::Cut => (silent, "the links were cut".to_owned()),
        LinkHarm::Loss(of) => share(met.lost, of, "were lost"),
        LinkHarm::Corrupt { share: of, checksum: Checksum::Wrong } => share(met.lost, of, "didn't arrive whole"),
        LinkHarm::Corrupt { share: of, checksum: Checksum::Right } => share(met.damaged, of, "arrived damaged"),
        LinkHarm::Duplicate(of) => share(met.twice, of, "arrived twice"),
        LinkHarm::Reorder { share: of, .. } => share(met.reordered, of, "were overtaken"),
        LinkHarm::Delay { jitter, .. } => {
            let (least, most) = met.later.unwrap_or_default();
            let [least, most] = [least, most].map(Duration::from_nanos);
            (jitter.is_zero() || most > least, format!("datagrams took {least:?} to {most:?} longer"))
        }
        LinkHarm::Bandwidth { .. } => {
            let (least, _) = met.later.unwrap_or_default();
            let words = format!("datagrams of {SIZE} bytes took at least {:?} longer", Duration::from_nanos(least));
            (least > 0 || met.lost == sent, words)
        }
        LinkHarm::BlackHole { .. } => {
            let words =
                format!("on {} of {links} links small datagrams arrived and large ones didn't", met.black_holes);
            (met.black_holes > 0, words)
        }
        LinkHarm::Reset => (met.reset == sent, format!("{} of {sent} segments were answered by resets", met.reset)),
        LinkHarm::Flap { .. } => (silent, "the links were cut at first".to_owned()),
    }
}

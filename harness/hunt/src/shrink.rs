//! Making a case smaller while it violates the same property.
//!
//! Delta debugging over faults, operations and the messages that are left to chance, and simple
//! steps over everything else, again and again until nothing helps any more or the time is over.
//! Decisions are functions of keys, so what is left out leaves the rest as it was, as far as the
//! run still is what it was. Where that isn't enough, because with fewer nodes or without chance
//! another election is won by somebody else, a few other seeds are tried.
//!
//! Candidates are tried on several threads, a few at a time, and the first that will do in the
//! order in which they were thought of is taken: given enough time, the result is the same
//! whatever the number of threads.

mod crew;
mod minimise;
mod parts;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use duress_fault::{Fault, Grudge, Selector};
use duress_history::{EventKind, Host, Phase};
use duress_scenario::{Heal, Scenario};
use duress_sim::{Chance, Clocks, Crash, Disk, Latency, Network, SimRun, Timed};

use crate::story::is_probe;
use crate::{Case, MakeSimulator, Property, Violation};
use crew::Crew;
use minimise::minimise;

pub use parts::concrete;

/// A case that is as small as the time allowed.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The case.
    pub case: Case,
    /// What is wrong with its run.
    pub violation: Violation,
    /// Its run.
    pub run: SimRun,
    /// How large the case was at first.
    pub before: Size,
    /// How large it is now.
    pub after: Size,
    /// How many candidates were tried.
    pub tried: u64,
    /// Whether it ended because nothing helped any more, and not because time was over.
    pub complete: bool,
    /// How long it took.
    pub took: Duration,
}

/// How large a case is, dimension by dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Faults.
    pub faults: usize,
    /// Nodes.
    pub nodes: u16,
    /// Client hosts.
    pub clients: u16,
    /// Registers or locks; one for a set.
    pub keys: u32,
    /// Operations of the main phase.
    pub operations: usize,
    /// Messages whose travel is left to chance.
    pub chance: u64,
}

impl Size {
    /// The size of a case, of which this is the run.
    pub fn of(case: &Case, run: &SimRun) -> Size {
        let main = run.events.iter().skip_while(|event| !matches!(event.kind, EventKind::Phase { phase: Phase::Main }));
        let main = main.take_while(|event| !matches!(event.kind, EventKind::Phase { phase: Phase::Final }));
        let operations = main.filter(|event| match &event.kind {
            EventKind::Invoke(invocation) => !is_probe(&invocation.op),
            _ => false,
        });
        let most = run.stats.messages;
        Size {
            faults: case.schedule.len(),
            nodes: case.scenario.target.nodes(),
            clients: case.scenario.clients,
            keys: u32::try_from(case.scenario.workload.keys()).unwrap_or(u32::MAX),
            operations: operations.count(),
            chance: match &case.chance {
                _ if steady(&case.network) => 0,
                Chance::All => most,
                Chance::Only(links) => {
                    links.values().flatten().map(|range| (range.end() + 1).saturating_sub(*range.start())).sum()
                }
            },
        }
    }
}

/// Whether a network leaves nothing to chance.
fn steady(network: &Network) -> bool {
    let Network { latency, spread: _, transport: _, loss, duplicate, reorder, reorder_by: _ } = network;
    latency.low == latency.high && [latency.spikes, *loss, *duplicate, *reorder].iter().all(|share| *share <= 0.0)
}

/// How many other seeds are tried for a case that is smaller in a way that changes everything.
const SEEDS: u64 = 60;
/// Where more pieces than this are needed, single messages are of no interest.
const MAX_PIECES: usize = 128;

/// Makes a case smaller for at most `time`, on so many threads. `None`: the case doesn't violate
/// the property.
pub fn shrink(
    case: &Case,
    property: &Property,
    make: &MakeSimulator<'_>,
    jobs: usize,
    time: Duration,
) -> Option<Shrunk> {
    let began = Instant::now();
    let crew = Crew::new(case, property, make, jobs.max(1));
    let run = crew.simulate(case);
    crew.violation(&run)?;
    let before = Size::of(case, &run);
    let mut shrinker = Shrinker {
        crew,
        deadline: began + time,
        best: case.clone(),
        failed: BTreeSet::new(),
        possible: (case.bare_scenario(), true),
    };
    while shrinker.pass() {}
    let complete = !shrinker.over();
    let Shrinker { best, crew, .. } = shrinker;
    let run = crew.simulate(&best);
    let violation = crew.violation(&run)?;
    let after = Size::of(&best, &run);
    Some(Shrunk { case: best, violation, run, before, after, tried: crew.tried(), complete, took: began.elapsed() })
}

struct Shrinker<'a> {
    crew: Crew<'a>,
    deadline: Instant,
    best: Case,
    /// The fingerprints of candidates that didn't violate the property.
    failed: BTreeSet<u64>,
    /// A scenario, and whether a file can say it. Seeds don't matter for that.
    possible: (Scenario, bool),
}

fn fingerprint(case: &Case) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{case:?}").hash(&mut hasher);
    hasher.finish()
}

impl Shrinker<'_> {
    fn over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Whether a candidate is worth trying: another case, which can be written down.
    fn worth_trying(&mut self, candidate: &Case) -> bool {
        if *candidate == self.best || self.failed.contains(&fingerprint(candidate)) {
            return false;
        }
        let scenario = Scenario { seed: self.best.scenario.seed, ..candidate.bare_scenario() };
        if scenario != self.possible.0 {
            let possible = scenario.can_be_written();
            self.possible = (scenario, possible);
        }
        self.possible.1
    }

    /// Takes the first of these candidates that violates the property; its place.
    fn take_first(&mut self, candidates: &mut dyn Iterator<Item = Case>) -> Option<usize> {
        let mut candidates = candidates.enumerate();
        loop {
            let (mut places, mut batch) = (Vec::new(), Vec::new());
            for (place, candidate) in candidates.by_ref() {
                if self.worth_trying(&candidate) {
                    places.push(place);
                    batch.push(candidate);
                    if batch.len() == self.crew.size() {
                        break;
                    }
                }
            }
            if batch.is_empty() || self.over() {
                return None;
            }
            if let Some(at) = self.crew.first(&batch) {
                self.best = batch.swap_remove(at);
                return Some(places[at]);
            }
            self.failed.extend(batch.iter().map(fingerprint));
        }
    }

    fn try_case(&mut self, candidate: Case) -> bool {
        self.take_first(&mut std::iter::once(candidate)).is_some()
    }

    fn attempt(&mut self, change: impl FnOnce(&mut Case)) -> bool {
        let mut candidate = self.best.clone();
        change(&mut candidate);
        self.try_case(candidate)
    }

    /// The same with this seed, or else with one of a few others. Also true if there is nothing to
    /// change: another seed alone makes nothing smaller.
    fn attempt_with_seeds(&mut self, change: impl Fn(&mut Case)) -> bool {
        let mut candidate = self.best.clone();
        change(&mut candidate);
        if candidate == self.best {
            return true;
        }
        let own = candidate.seed().0;
        let seeds = std::iter::once(own).chain((1..=SEEDS).filter(|seed| *seed != own));
        self.take_first(&mut seeds.map(|seed| {
            let mut candidate = candidate.clone();
            candidate.scenario.seed = Some(seed);
            candidate
        }))
        .is_some()
    }

    /// Leaves out of `all` what it can; `with` is the case that has only some of it.
    fn minimise<T: Clone>(&mut self, all: &[T], with: impl Fn(&[T]) -> Case) -> Vec<T> {
        minimise(all, |parts| self.take_first(&mut parts.map(|part| with(&part))))
    }

    /// Everything once. Whether anything has helped.
    fn pass(&mut self) -> bool {
        let before = self.best.clone();
        // First of all a network without chance, if that is enough: where the violation depends on
        // the latency of single messages, leaving out anything else would make it go away.
        self.surroundings();
        self.faults();
        self.stop_early();
        self.slots();
        self.nodes();
        self.operations();
        self.name_victims();
        self.links();
        self.durations();
        if self.best == before {
            self.chance();
        }
        self.best != before && !self.over()
    }

    /// Leaves out faults.
    fn faults(&mut self) {
        let (all, base) = (self.best.schedule.clone(), self.best.clone());
        self.minimise(&all, |kept| Case { schedule: kept.to_vec(), ..base.clone() });
        // Faults that only tell others when to begin can go as soon as those have times.
        let run = self.crew.simulate(&self.best);
        let untied = parts::untied(&self.best.schedule, &run.events);
        self.crew.recycle(run);
        if self.attempt(|case| case.schedule = untied) {
            let (all, base) = (self.best.schedule.clone(), self.best.clone());
            self.minimise(&all, |kept| Case { schedule: kept.to_vec(), ..base.clone() });
        }
    }

    /// Ends the run where the violation has happened: as few operations of each slot as possible.
    fn stop_early(&mut self) {
        let slots = usize::from(self.best.scenario.workload.concurrency());
        let run = self.crew.simulate(&self.best);
        // No slot has begun more than that, and no more than that is needed.
        let begun = run.events.iter().filter(|event| matches!(event.kind, EventKind::Invoke(_))).count() as u64;
        self.crew.recycle(run);
        let (mut low, mut high) = (0, begun);
        // Not monotonic in general, so only what was tried counts.
        while low < high && !self.over() {
            let middle = low + (high - low) / 2;
            let helped = self.attempt(|case| {
                for slot in 0..slots {
                    let limit = case.operations.limits.get(&slot).copied().unwrap_or(u64::MAX).min(middle);
                    case.operations.limits.insert(slot, limit);
                }
            });
            if helped { high = middle } else { low = middle + 1 }
        }
        let end = |timed: &Timed| timed.at + timed.lasts;
        let last = self.best.schedule.iter().map(end).max().unwrap_or_default();
        for time in [Duration::from_secs(1), last.max(Duration::from_secs(1)), self.best.scenario.time / 2] {
            let time = Duration::from_millis(time.as_millis() as u64).max(Duration::from_secs(1));
            if time < self.best.scenario.time {
                self.attempt(|case| case.scenario.time = time);
            }
        }
    }

    /// Silences slots: all operations of some clients are left out.
    fn slots(&mut self) {
        let silent = |case: &Case, slot: &usize| case.operations.limits.get(slot) == Some(&0);
        let slots = usize::from(self.best.scenario.workload.concurrency());
        let at_work: Vec<usize> = (0..slots).filter(|slot| !silent(&self.best, slot)).collect();
        let base = self.best.clone();
        self.minimise(&at_work, |kept| {
            let mut candidate = base.clone();
            for slot in at_work.iter().filter(|slot| !kept.contains(slot)) {
                candidate.operations.limits.insert(*slot, 0);
            }
            candidate
        });
        // Slots at the end that do nothing need not be there.
        let last = (0..slots).rev().find(|slot| !silent(&self.best, slot)).unwrap_or(0);
        let count = (last + 1) as u16;
        self.attempt(|case| {
            parts::set_concurrency(&mut case.scenario.workload, count);
            case.operations.limits.retain(|slot, _| *slot < usize::from(count));
            case.operations.skipped.retain(|(slot, _)| *slot < usize::from(count));
        });
        let base = self.best.clone();
        self.take_first(&mut (1..base.scenario.clients).map(|clients| {
            let mut candidate = base.clone();
            candidate.scenario.clients = clients;
            candidate
        }));
        let base = self.best.clone();
        self.take_first(&mut [1, 2].into_iter().map(|keys| {
            let mut candidate = base.clone();
            for (name, count) in base.scenario.workload.few() {
                candidate.scenario.workload.set_within(name, count.min(keys));
            }
            candidate
        }));
    }

    /// Fewer nodes, where the target can do with fewer.
    fn nodes(&mut self) {
        for nodes in 1..self.best.scenario.target.nodes() {
            let Some(target) = self.best.scenario.target.with_nodes(nodes) else { continue };
            let kept = target.facts().names();
            let gone: Vec<Host> =
                self.best.scenario.node_names().into_iter().filter(|name| !kept.contains(name)).collect();
            let fewer = self.attempt_with_seeds(|case| {
                case.scenario.target = target.clone();
                case.schedule.retain_mut(|timed| parts::keep_hosts(timed, |host| !gone.contains(host)));
            });
            if fewer || self.over() {
                break;
            }
        }
    }

    /// Leaves out single operations.
    fn operations(&mut self) {
        let slots = usize::from(self.best.scenario.workload.concurrency());
        for slot in 0..slots {
            let Some(limit) = self.best.operations.limits.get(&slot).copied() else { continue };
            // Whole tails first: the limit of each slot for itself.
            let (mut low, mut high) = (0, limit.min(100_000));
            while low < high && !self.over() {
                let middle = low + (high - low) / 2;
                let helped = self.attempt(|case| {
                    case.operations.limits.insert(slot, middle);
                });
                if helped { high = middle } else { low = middle + 1 }
            }
        }
        let mut all = Vec::new();
        for slot in 0..slots {
            let limit = self.best.operations.limits.get(&slot).copied().unwrap_or(0).min(1_000);
            all.extend((0..limit).map(|n| (slot, n)).filter(|op| !self.best.operations.skipped.contains(op)));
        }
        let base = self.best.clone();
        self.minimise(&all, |kept| {
            let kept: BTreeSet<(usize, u64)> = kept.iter().copied().collect();
            let mut candidate = base.clone();
            candidate.operations.skipped.extend(all.iter().filter(|op| !kept.contains(op)));
            candidate
        });
    }

    /// An ordinary network, sound disks, true clocks.
    fn surroundings(&mut self) {
        // A finding that has nothing to do with it should not look as if it had.
        self.attempt(|case| case.scenario.limits.heal = Some(Heal::All));
        let always = |time| Latency::between(time, time);
        let millisecond = Duration::from_millis(1);
        let plain = Network { latency: always(millisecond), ..Network::default() };
        let undisturbed = |case: &mut Case| (case.network, case.chance) = (plain, Chance::All);
        if !self.attempt_with_seeds(undisturbed) && !self.attempt(|case| case.network = Network::default()) {
            self.attempt(|case| case.network.transport = plain.transport);
            self.attempt(|case| (case.network.duplicate, case.network.reorder) = (0.0, 0.0));
            self.attempt(|case| case.network.loss = 0.0);
            self.attempt(|case| case.network.spread = 1.0);
            self.attempt(|case| case.network.latency.spikes = 0.0);
            self.attempt(|case| case.network.latency = plain.latency);
        }
        let sound = Disk { sync: always(millisecond), ..Disk::default() };
        if !self.attempt(|case| case.disk = sound) {
            self.attempt(|case| case.disk.crash = Crash::Kill);
            self.attempt(|case| case.disk.sync = sound.sync);
        }
        self.attempt(|case| case.startup = always(millisecond * 10));
        self.attempt(|case| case.clocks = Clocks { offset: Duration::ZERO, drift_ppm: 0 });
    }

    /// Faults say whom they hit, and no longer how they chose.
    fn name_victims(&mut self) {
        let run = self.crew.simulate(&self.best);
        let named = concrete(&self.best.schedule, &run.events);
        self.crew.recycle(run);
        if self.attempt(|case| case.schedule = named.clone()) {
            return;
        }
        for (at, timed) in named.into_iter().enumerate() {
            self.attempt(|case| case.schedule[at] = timed);
        }
    }

    /// Fewer links, or fewer hosts, in each fault.
    fn links(&mut self) {
        for at in 0..self.best.schedule.len() {
            let base = self.best.clone();
            let with = |fault: Fault| {
                let mut candidate = base.clone();
                candidate.schedule[at].fault = fault;
                candidate
            };
            // A fault without links or hosts is none: it stays the case that it was.
            let grudge = |links: &[_], one_way| match links.is_empty() {
                true => None,
                false => Some(Grudge::Links { links: links.to_vec(), one_way }),
            };
            let names = |names: &[Host]| (!names.is_empty()).then(|| Selector::Names(names.to_vec()));
            let or_base = |fault: Option<Fault>| fault.map_or_else(|| base.clone(), with);
            match base.schedule[at].fault.clone() {
                Fault::Links { grudge: Grudge::Links { links, one_way }, clients, harm } => {
                    let with = |grudge| Fault::Links { grudge, clients, harm };
                    self.minimise(&links, |kept| or_base(grudge(kept, one_way).map(with)));
                }
                Fault::Hosts { who: Selector::Names(hosts), harm } => {
                    self.minimise(&hosts, |kept| or_base(names(kept).map(|who| Fault::Hosts { who, harm })));
                }
                _ => {}
            }
        }
    }

    /// Shorter faults, at rounder times.
    fn durations(&mut self) {
        for at in 0..self.best.schedule.len() {
            while self.best.schedule[at].lasts > Duration::from_millis(20) {
                let shorter = Duration::from_millis(self.best.schedule[at].lasts.as_millis() as u64 / 2);
                if !self.attempt(|case| case.schedule[at].lasts = shorter) {
                    break;
                }
            }
            for grid in [100, 10, 1] {
                let down = |time: Duration| Duration::from_millis(time.as_millis() as u64 / grid * grid);
                let timed = &self.best.schedule[at];
                let (begins, lasts) = (down(timed.at), down(timed.lasts));
                if !lasts.is_zero() && self.attempt(|case| case.schedule[at].lasts = lasts) {
                    self.attempt(|case| case.schedule[at].at = begins);
                    break;
                }
                if self.attempt(|case| case.schedule[at].at = begins) {
                    break;
                }
            }
        }
    }

    /// Leaves as few messages to chance as possible: first links, then halves of what is left of
    /// them, down to single messages.
    fn chance(&mut self) {
        if steady(&self.best.network) || self.attempt(|case| case.chance = Chance::Only(BTreeMap::new())) {
            return;
        }
        let mut pieces: Vec<(Link, RangeInclusive<u64>)> = match &self.best.chance {
            Chance::Only(links) => {
                let ranges = |(link, ranges): (&Link, &Vec<_>)| {
                    let link = link.clone();
                    ranges.clone().into_iter().map(move |range| (link.clone(), range))
                };
                links.iter().flat_map(ranges).collect()
            }
            Chance::All => {
                let run = self.crew.simulate(&self.best);
                // More messages than events there can't be.
                let most = run.stats.events.next_power_of_two();
                self.crew.recycle(run);
                let mut hosts = self.best.scenario.node_names();
                hosts.extend(self.best.scenario.client_names());
                let pairs = hosts.iter().flat_map(|from| hosts.iter().map(move |to| (from, to)));
                let links = pairs.filter(|(from, to)| from != to);
                links.map(|(from, to)| ((from.clone(), to.clone()), 1..=most)).collect()
            }
        };
        let base = self.best.clone();
        let with = |pieces: &[(Link, RangeInclusive<u64>)]| Case { chance: only(pieces), ..base.clone() };
        loop {
            pieces = self.minimise(&pieces, with);
            let single = pieces.iter().all(|(_, range)| range.start() == range.end());
            if pieces.len() > MAX_PIECES || single || self.over() {
                return;
            }
            pieces = pieces.into_iter().flat_map(halves).collect();
        }
    }
}

type Link = (Host, Host);

fn halves((link, range): (Link, RangeInclusive<u64>)) -> Vec<(Link, RangeInclusive<u64>)> {
    let (start, end) = range.into_inner();
    if start == end {
        return vec![(link, start..=end)];
    }
    let middle = start + (end - start) / 2;
    vec![(link.clone(), start..=middle), (link, middle + 1..=end)]
}

/// These messages are left to chance; ranges that touch become one.
fn only(pieces: &[(Link, RangeInclusive<u64>)]) -> Chance {
    let mut links: BTreeMap<Link, Vec<RangeInclusive<u64>>> = BTreeMap::new();
    for (link, range) in pieces {
        let ranges = links.entry(link.clone()).or_default();
        match ranges.last_mut() {
            Some(last) if last.end() + 1 == *range.start() => *last = *last.start()..=*range.end(),
            _ => ranges.push(range.clone()),
        }
    }
    Chance::Only(links)
}

//! Making a case smaller while it violates the same property.
//!
//! Delta debugging (A. Zeller and R. Hildebrandt, "Simplifying and isolating failure-inducing
//! input", IEEE TSE 2002) over faults and operations, and simple steps over everything else, again
//! and again until nothing helps any more or the time is over. Decisions are functions of keys, so
//! what is left out leaves the rest as it was, as far as the run still is what it was.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use duress_checkers::Checker;
use duress_fault::{Fault, Grudge, Selector, Sides};
use duress_history::{Event, EventKind, FaultEvent, Stage};
use duress_scenario::{Scenario, Target, Workload};
use duress_sim::{Clocks, Crash, Disk, Latency, Network, SimFault, SimRun, Timed};

use crate::{BUDGET, Case, Property, Simulator, Violation, judge, target_checkers};

/// A case that is as small as the time allowed.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The case.
    pub case: Case,
    /// What is wrong with its run.
    pub violation: Violation,
    /// Its run.
    pub run: SimRun,
    /// How many candidates were tried.
    pub tried: u64,
    /// Whether it ended because nothing helped any more, and not because time was over.
    pub complete: bool,
}

/// Makes a case smaller for at most `time`. `None`: the case doesn't violate the property.
pub fn shrink(case: &Case, property: &Property, simulator: &mut dyn Simulator, time: Duration) -> Option<Shrunk> {
    let checkers = target_checkers(simulator, &case.scenario);
    let mut shrinker =
        Shrinker { simulator, checkers, property, deadline: Instant::now() + time, best: case.clone(), tried: 0 };
    if !shrinker.violates(case) {
        return None;
    }
    while shrinker.pass() {}
    let complete = !shrinker.over();
    let Shrinker { best, tried, checkers, simulator, .. } = shrinker;
    let run = simulator.simulate(&best);
    let violation = judge(&run, &checkers, &BUDGET).of(property)?.clone();
    Some(Shrunk { case: best, violation, run, tried, complete })
}

struct Shrinker<'a> {
    simulator: &'a mut dyn Simulator,
    checkers: Vec<Box<dyn Checker>>,
    property: &'a Property,
    deadline: Instant,
    best: Case,
    tried: u64,
}

impl Shrinker<'_> {
    fn over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    fn violates(&mut self, case: &Case) -> bool {
        self.tried += 1;
        let run = self.simulator.simulate(case);
        let violates = judge(&run, &self.checkers, &BUDGET).of(self.property).is_some();
        self.simulator.recycle(run);
        violates
    }

    /// Takes a candidate if it is another case, can be written down, and violates the property.
    fn try_case(&mut self, candidate: Case) -> bool {
        if candidate == self.best || self.over() || !possible(&candidate.bare_scenario()) {
            return false;
        }
        let better = self.violates(&candidate);
        if better {
            self.best = candidate;
        }
        better
    }

    fn attempt(&mut self, change: impl FnOnce(&mut Case)) -> bool {
        let mut candidate = self.best.clone();
        change(&mut candidate);
        self.try_case(candidate)
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
        self.best != before && !self.over()
    }

    /// Leaves out faults.
    fn faults(&mut self) {
        let all = self.best.schedule.clone();
        let base = self.best.clone();
        minimise(&all, |kept| self.try_case(Case { schedule: kept.to_vec(), ..base.clone() }));
    }

    /// Ends the run where the violation has happened: as few operations of each slot as possible.
    fn stop_early(&mut self) {
        let begun = self.begun();
        let (mut low, mut high) = (0, begun.iter().copied().max().unwrap_or(0));
        // Not monotonic in general, so only what was tried counts.
        while low < high && !self.over() {
            let middle = low + (high - low) / 2;
            let helped = self.attempt(|case| {
                for slot in 0..begun.len() {
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

    /// How many operations each slot begins in the present best case.
    fn begun(&mut self) -> Vec<u64> {
        let slots = usize::from(self.best.scenario.workload.concurrency());
        let run = self.simulator.simulate(&self.best);
        let mut begun = vec![0; slots];
        // Slots begin as the processes with their numbers; a bound is all that is needed here.
        let invoked = run.events.iter().filter(|event| matches!(event.kind, EventKind::Invoke(_))).count() as u64;
        for (slot, count) in begun.iter_mut().enumerate() {
            *count = self.best.operations.limits.get(&slot).copied().unwrap_or(u64::MAX).min(invoked);
        }
        self.simulator.recycle(run);
        begun
    }

    /// Silences slots: all operations of some clients are left out.
    fn slots(&mut self) {
        let silent = |case: &Case, slot: &usize| case.operations.limits.get(slot) == Some(&0);
        let slots = usize::from(self.best.scenario.workload.concurrency());
        let at_work: Vec<usize> = (0..slots).filter(|slot| !silent(&self.best, slot)).collect();
        let base = self.best.clone();
        minimise(&at_work, |kept| {
            let mut candidate = base.clone();
            for slot in at_work.iter().filter(|slot| !kept.contains(slot)) {
                candidate.operations.limits.insert(*slot, 0);
            }
            self.try_case(candidate)
        });
        // Slots at the end that do nothing need not be there.
        let last = (0..slots).rev().find(|slot| !silent(&self.best, slot)).unwrap_or(0);
        let count = (last + 1) as u16;
        self.attempt(|case| {
            set_concurrency(&mut case.scenario.workload, count);
            case.operations.limits.retain(|slot, _| *slot < usize::from(count));
            case.operations.skipped.retain(|(slot, _)| *slot < usize::from(count));
        });
        for clients in 1..self.best.scenario.clients {
            if self.attempt(|case| case.scenario.clients = clients) {
                break;
            }
        }
        for keys in [1, 2] {
            let fewer = self.attempt(|case| match &mut case.scenario.workload {
                Workload::Register(register) => register.keys = register.keys.min(keys),
                Workload::Lock(lock) => lock.locks = lock.locks.min(keys),
                Workload::Set(_) => {}
            });
            if fewer {
                break;
            }
        }
    }

    /// Fewer nodes, where the target can do with fewer.
    fn nodes(&mut self) {
        for nodes in 1..self.best.scenario.target.nodes() {
            let fewer = self.attempt(|case| {
                set_nodes(&mut case.scenario.target, nodes);
                let there = |host: &duress_history::Host| {
                    host.strip_prefix('n').and_then(|n| n.parse::<u16>().ok()).is_none_or(|n| n <= nodes)
                };
                case.schedule.retain_mut(|timed| keep_hosts(&mut timed.fault, there));
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
        minimise(&all, |kept| {
            let kept: BTreeSet<(usize, u64)> = kept.iter().copied().collect();
            let mut candidate = base.clone();
            candidate.operations.skipped.extend(all.iter().filter(|op| !kept.contains(op)));
            self.try_case(candidate)
        });
    }

    /// An ordinary network, sound disks, true clocks.
    fn surroundings(&mut self) {
        let millisecond = Duration::from_millis(1);
        let plain = Network { latency: Latency::between(millisecond, millisecond), ..Network::default() };
        if !self.attempt(|case| case.network = plain) && !self.attempt(|case| case.network = Network::default()) {
            self.attempt(|case| case.network.transport = plain.transport);
            self.attempt(|case| (case.network.duplicate, case.network.reorder) = (0.0, 0.0));
            self.attempt(|case| case.network.loss = 0.0);
            self.attempt(|case| case.network.spread = 1.0);
            self.attempt(|case| case.network.latency.spikes = 0.0);
            self.attempt(|case| case.network.latency = plain.latency);
        }
        if !self.attempt(|case| case.disk = Disk::default()) {
            self.attempt(|case| case.disk.crash = Crash::Kill);
            self.attempt(|case| case.disk.sync = Disk::default().sync);
        }
        self.attempt(|case| case.clocks = Clocks { offset: Duration::ZERO, drift_ppm: 0 });
    }

    /// Faults say whom they hit, and no longer how they chose.
    fn name_victims(&mut self) {
        let run = self.simulator.simulate(&self.best);
        let named = concrete(&self.best.schedule, &run.events);
        self.simulator.recycle(run);
        if self.attempt(|case| case.schedule = named.clone()) {
            return;
        }
        for (at, timed) in named.into_iter().enumerate() {
            self.attempt(|case| case.schedule[at] = timed);
        }
    }

    /// Fewer links in partitions and delays, fewer hosts in other faults.
    fn links(&mut self) {
        for at in 0..self.best.schedule.len() {
            let base = self.best.clone();
            let with = |fault: Fault| {
                let mut candidate = base.clone();
                candidate.schedule[at].fault = SimFault::Common(fault);
                candidate
            };
            match base.schedule[at].fault.clone() {
                SimFault::Common(Fault::Partition { grudge: Grudge::Links { links, one_way }, clients }) => {
                    minimise(&links, |kept| {
                        let grudge = Grudge::Links { links: kept.to_vec(), one_way };
                        !kept.is_empty() && self.try_case(with(Fault::Partition { grudge, clients }))
                    });
                }
                SimFault::Common(Fault::Delay { grudge: Grudge::Links { links, one_way }, by }) => {
                    minimise(&links, |kept| {
                        let grudge = Grudge::Links { links: kept.to_vec(), one_way };
                        !kept.is_empty() && self.try_case(with(Fault::Delay { grudge, by }))
                    });
                }
                SimFault::Common(Fault::Crash(Selector::Names(names))) => {
                    minimise(&names, |kept| {
                        !kept.is_empty() && self.try_case(with(Fault::Crash(Selector::Names(kept.to_vec()))))
                    });
                }
                SimFault::Common(Fault::Pause(Selector::Names(names))) => {
                    minimise(&names, |kept| {
                        !kept.is_empty() && self.try_case(with(Fault::Pause(Selector::Names(kept.to_vec()))))
                    });
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
}

/// Whether a scenario file can say this. Fewer nodes may be too few for the target's options.
fn possible(scenario: &Scenario) -> bool {
    Scenario::parse(&scenario.to_yaml(), "candidate", &[]).as_ref() == Ok(scenario)
}

fn set_concurrency(workload: &mut Workload, count: u16) {
    match workload {
        Workload::Register(register) => {
            // A slot's pace stays what it was.
            register.rate = register.rate.map(|rate| rate * f64::from(count) / f64::from(register.concurrency));
            register.concurrency = count;
        }
        Workload::Lock(lock) => lock.concurrency = count,
        Workload::Set(set) => {
            set.rate = set.rate.map(|rate| rate * f64::from(count) / f64::from(set.concurrency));
            set.concurrency = count;
        }
    }
}

fn set_nodes(target: &mut Target, nodes: u16) {
    match target {
        Target::Paxos(paxos) => paxos.nodes = nodes,
        Target::PrimaryBackup(primary_backup) => primary_backup.nodes = nodes,
        Target::Quorum(quorum) => {
            quorum.nodes = nodes;
            quorum.replicas = quorum.replicas.min(nodes);
        }
    }
}

/// Leaves out hosts that are gone; whether anything of the fault is left.
fn keep_hosts(fault: &mut SimFault, there: impl Fn(&duress_history::Host) -> bool) -> bool {
    match fault {
        SimFault::Common(
            Fault::Partition { grudge: Grudge::Links { links, .. }, .. }
            | Fault::Delay { grudge: Grudge::Links { links, .. }, .. },
        ) => {
            links.retain(|(from, to)| there(from) && there(to));
            !links.is_empty()
        }
        SimFault::Common(Fault::Partition { .. } | Fault::Delay { .. }) => true,
        SimFault::Common(Fault::Crash(who) | Fault::Pause(who))
        | SimFault::PowerLoss(who)
        | SimFault::FullDisk(who)
        | SimFault::SlowDisk { who, .. }
        | SimFault::ClockJump { who, .. }
        | SimFault::ClockRate { who, .. }
        | SimFault::SlowNode { who, .. } => match who {
            Selector::Names(names) => {
                names.retain(there);
                !names.is_empty()
            }
            _ => true,
        },
    }
}

/// The same faults with the hosts and links that they hit in a run; those that hit nobody are left
/// as they were.
pub fn concrete(schedule: &[Timed], events: &[Event]) -> Vec<Timed> {
    let mut named = schedule.to_vec();
    for event in events {
        let EventKind::Fault(hit) = &event.kind else { continue };
        if hit.stage != Stage::Start {
            continue;
        }
        if let Some(timed) = named.iter_mut().find(|timed| timed.number == hit.fault) {
            name_victims(&mut timed.fault, hit);
        }
    }
    named
}

fn name_victims(fault: &mut SimFault, hit: &FaultEvent) {
    if hit.hosts.is_empty() && hit.links.is_empty() {
        return;
    }
    match fault {
        SimFault::Common(Fault::Partition { grudge, clients }) if !hit.links.is_empty() => {
            (*grudge, *clients) = (links(&hit.links), Sides::Stay);
        }
        SimFault::Common(Fault::Delay { grudge, .. }) if !hit.links.is_empty() => *grudge = links(&hit.links),
        SimFault::Common(Fault::Crash(who) | Fault::Pause(who))
        | SimFault::PowerLoss(who)
        | SimFault::FullDisk(who)
        | SimFault::SlowDisk { who, .. }
        | SimFault::ClockJump { who, .. }
        | SimFault::ClockRate { who, .. }
        | SimFault::SlowNode { who, .. }
            if !hit.hosts.is_empty() =>
        {
            *who = Selector::Names(hit.hosts.clone());
        }
        _ => {}
    }
}

/// Directed links; in pairs, if each is there with its opposite.
fn links(directed: &[(duress_history::Host, duress_history::Host)]) -> Grudge {
    let opposite = |(from, to): &(_, _)| directed.iter().any(|(a, b)| (a, b) == (to, from));
    if !directed.iter().all(opposite) {
        return Grudge::Links { links: directed.to_vec(), one_way: true };
    }
    let pairs = directed.iter().filter(|(from, to)| from < to);
    Grudge::Links { links: pairs.cloned().collect(), one_way: false }
}

/// Delta debugging: finds a small part of `all` of which `holds` is true, given that it is true of
/// all. `holds` is asked about parts, in order. The empty part is asked about first, because
/// often nothing of it is needed.
pub(crate) fn minimise<T: Clone>(all: &[T], mut holds: impl FnMut(&[T]) -> bool) -> Vec<T> {
    if all.is_empty() || holds(&[]) {
        return Vec::new();
    }
    let mut kept = all.to_vec();
    let mut chunks = 2;
    while kept.len() >= 2 {
        let size = kept.len().div_ceil(chunks);
        let mut start = 0;
        let mut helped = false;
        while start < kept.len() {
            let mut without = kept.clone();
            without.drain(start..(start + size).min(kept.len()));
            if !without.is_empty() && holds(&without) {
                kept = without;
                helped = true;
            } else {
                start += size;
            }
        }
        if size == 1 && !helped {
            break;
        }
        chunks = (chunks * 2).min(kept.len().max(2));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minimal_part_is_found() {
        let all: Vec<u32> = (0..100).collect();
        for wanted in [vec![], vec![7], vec![0, 99], vec![3, 4, 50, 51, 98]] {
            let mut asked = 0;
            let kept = minimise(&all, |part| {
                asked += 1;
                wanted.iter().all(|one| part.contains(one))
            });
            assert_eq!(kept, wanted);
            assert!(asked < 250, "{asked} questions for {wanted:?}");
        }
    }

    #[test]
    fn what_is_never_true_of_less_stays_whole() {
        let all = [1, 2, 3];
        assert_eq!(minimise(&all, |part| part.len() == 3), [1, 2, 3]);
    }

    #[test]
    fn links_are_written_in_pairs_where_they_can_be() {
        let link = |from: &str, to: &str| (from.into(), to.into());
        let both = [link("n1", "n2"), link("n2", "n1")];
        assert_eq!(links(&both), Grudge::Links { links: vec![link("n1", "n2")], one_way: false });
        assert_eq!(links(&both[1..]), Grudge::Links { links: vec![link("n2", "n1")], one_way: true });
    }
}

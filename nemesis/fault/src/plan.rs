//! Drawing a schedule from a seed.

use std::collections::BTreeMap;
use std::time::Duration;

use duress_seed::{Seed, shuffled};

use crate::{Effect, Fault, Grudge, Kind, On, Schedule, Selector, Sides, Timed};

/// What a drawn schedule is made of.
///
/// Time is divided into slots of `interval`, and one fault begins in each, so that each can be
/// removed without moving another. Kinds take turns in shuffled rounds, and so do the grudges or
/// selectors of each kind, so everything asked for is used as evenly as time allows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Plan {
    /// The kinds of faults to use. One that stands here three times is used three times as often
    /// as one that stands here once.
    pub kinds: Vec<Kind>,
    /// Time from one fault to the next, on average. If the run is too short to use every kind
    /// once, the plan is compressed, durations included.
    pub interval: Duration,
    /// How long a fault lasts, on average: each lasts 75 % to 125 % of this, and at most 90 % of
    /// the interval; with overlap, 90 % of the last of the intervals that it may reach into.
    pub duration: Duration,
    /// How many faults may be in force at a time, at least one.
    pub overlap: u32,
    /// Whether every fault leaves a majority of the nodes alive and connected to each other, so
    /// that a target which promises to be available then can be held to it. Only of use without
    /// overlap: two such faults together may leave none.
    pub keep_majority: bool,
    /// What faults of links are drawn from.
    pub grudges: Vec<Grudge>,
    /// Where client hosts stand in faults of links.
    pub clients: Sides,
    /// What crashes are drawn from.
    pub crash: Vec<Selector>,
    /// What pauses are drawn from.
    pub pause: Vec<Selector>,
    /// What all other faults of hosts are drawn from.
    pub who: Vec<Selector>,
    /// What faults do, for the kinds whose faults don't do what is [typical](Kind::typical): they
    /// take turns, too.
    pub measures: BTreeMap<Kind, Vec<Effect>>,
}

impl Default for Plan {
    /// Partitions, crashes and pauses of 2.5 s every 5 s, of every sort that a cluster must stand.
    fn default() -> Plan {
        Plan {
            kinds: vec![Kind::Partition, Kind::Crash, Kind::Pause],
            interval: Duration::from_secs(5),
            duration: Duration::from_millis(2500),
            overlap: 1,
            keep_majority: false,
            grudges: Grudge::ALL
                .iter()
                .map(|(grudge, _)| grudge.clone())
                .filter(|grudge| !grudge.is_special())
                .collect(),
            clients: Sides::Stay,
            crash: vec![Selector::One, Selector::Minority, Selector::Primary, Selector::Majority, Selector::All],
            pause: vec![Selector::One, Selector::Minority, Selector::Primary],
            who: vec![Selector::One, Selector::Minority, Selector::Primary, Selector::All],
            measures: BTreeMap::new(),
        }
    }
}

/// What a decision is about; the first word of its key.
const KINDS: u64 = 1;
const CHOICES: u64 = 2;
const LASTS: u64 = 3;
const STARTS: u64 = 4;
const MEASURES: u64 = 5;

/// No schedule has more faults than this.
const MAX_FAULTS: u64 = 100_000;

impl Plan {
    /// Leaves out what can't be done to a cluster of `nodes` nodes, where somebody leads or not,
    /// and what would not [keep a majority](Plan::keep_majority) if that is wanted.
    pub fn fit(mut self, nodes: usize, leads: bool) -> Plan {
        let keep = self.keep_majority;
        self.grudges.retain(|grudge| {
            let kept = !keep || grudge.leaves_majority(nodes);
            nodes >= grudge.least_nodes() && (leads || !grudge.needs_primary()) && kept
        });
        let fits =
            |selector: &Selector| (leads || !selector.needs_primary()) && (!keep || selector.leaves_majority(nodes));
        self.crash.retain(fits);
        self.pause.retain(fits);
        self.who.retain(fits);
        self
    }

    /// The schedule that `seed` draws for a main phase of length `total`. The last fault ends
    /// before `total`. Kinds with nothing to draw from are left out; with no kinds the schedule
    /// is empty.
    pub fn schedule(&self, seed: Seed, total: Duration) -> Schedule {
        let mut kinds = self.kinds.clone();
        kinds.sort_unstable();
        kinds.retain(|kind| self.choices(*kind) > 0);
        if kinds.is_empty() || self.interval.is_zero() || total.is_zero() {
            return Schedule::default();
        }
        let different = kinds.chunk_by(|a, b| a == b).count();
        let interval = self.interval.min(total / different as u32);
        let duration = self.duration.mul_f64(interval.as_secs_f64() / self.interval.as_secs_f64());
        if interval.is_zero() || duration.is_zero() {
            return Schedule::default();
        }
        let slots = u64::try_from(total.as_nanos() / interval.as_nanos()).unwrap_or(u64::MAX).min(MAX_FAULTS);
        let latest = interval.mul_f64(0.9);
        let longest = latest + interval * (self.overlap.max(1) - 1);
        let faults = (0..slots).map(|slot| {
            let lasts =
                seed.decide(&[LASTS, slot]).between(duration.mul_f64(0.75), duration.mul_f64(1.25)).min(longest);
            let starts = seed.decide(&[STARTS, slot]).between(Duration::ZERO, latest.min(longest - lasts));
            let (round, choice) = turn(seed, &[KINDS], slot, kinds.len());
            let kind = kinds[choice];
            // How often this kind has been drawn: in the rounds before, and in this one.
            let first = kinds.partition_point(|other| *other < kind);
            let weight = kinds.partition_point(|other| *other <= kind) - first;
            let fault = self.draw(kind, round * weight as u64 + (choice - first) as u64, seed);
            let begins = Duration::from_nanos((interval.as_nanos() as u64).saturating_mul(slot));
            // A tenth of the slot stays free ahead of the fault, so that the target is seen
            // working before the first fault and, without overlap, between any two.
            Timed { number: slot + 1, at: begins + (interval - latest) + starts, lasts, fault, when: None }
        });
        Schedule::new(faults.filter(|timed| timed.end() <= total).collect())
    }

    /// What faults of this kind do.
    pub fn measures(&self, kind: Kind) -> Vec<Effect> {
        self.measures.get(&kind).cloned().unwrap_or_else(|| kind.typical())
    }

    /// Whom faults of this kind hit, if it is one of hosts.
    pub fn victims(&self, kind: Kind) -> &[Selector] {
        match kind {
            Kind::Crash => &self.crash,
            Kind::Pause => &self.pause,
            _ => &self.who,
        }
    }

    fn choices(&self, kind: Kind) -> usize {
        match kind.on() {
            _ if self.measures.get(&kind).is_some_and(Vec::is_empty) => 0,
            On::Links => self.grudges.len(),
            On::Hosts => self.victims(kind).len(),
        }
    }

    /// The fault of this kind's given turn, from zero.
    fn draw(&self, kind: Kind, turn_of_kind: u64, seed: Seed) -> Fault {
        let (_, choice) = turn(seed, &[CHOICES, kind as u64], turn_of_kind, self.choices(kind));
        let measures = self.measures(kind);
        let (_, measure) = turn(seed, &[MEASURES, kind as u64], turn_of_kind, measures.len());
        match measures[measure] {
            Effect::Links(harm) => {
                let grudge = self.grudges[choice].clone();
                let clients = if grudge.has_sides() { self.clients } else { Sides::Stay };
                Fault::Links { grudge, clients, harm }
            }
            Effect::Hosts(harm) => Fault::Hosts { who: self.victims(kind)[choice].clone(), harm },
        }
    }
}

/// Whose turn it is the `n`th time, when `choices` take turns in shuffled rounds: the round, and
/// the index of the choice.
fn turn(seed: Seed, key: &[u64], n: u64, choices: usize) -> (u64, usize) {
    let choices = choices.max(1);
    let round = n / choices as u64;
    let mut key = key.to_vec();
    key.push(round);
    let order = shuffled(seed, &key, choices);
    (round, order[(n % choices as u64) as usize])
}

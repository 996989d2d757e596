//! One simulated run, with every decision spelled out that a hunt makes and shrinking unmakes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use duress_history::{Completion, Outcome, Value};
use duress_scenario::{Faults, Heal, Scenario};
use duress_seed::Seed;
use duress_sim::{Chance, Clocks, Disk, Latency, Network, SimPlan, Timed};
use duress_workloads::{FinalOp, Generator, Next, Slot};

/// A run in the simulated world. Equal cases give equal runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// Target, workload, client hosts and limits, with a seed. Its faults are not used: the
    /// schedule says what is done.
    pub scenario: Scenario,
    /// What is done to the target. Fault numbers are the keys of their decisions.
    pub schedule: Vec<Timed>,
    /// Which of the workload's operations are carried out.
    pub operations: Selection,
    /// How messages travel.
    pub network: Network,
    /// Which messages' travel is left to chance.
    pub chance: Chance,
    /// How disks behave.
    pub disk: Disk,
    /// How clocks differ.
    pub clocks: Clocks,
    /// How long a node's process takes to start.
    pub startup: Latency,
    /// The run is cut short after this many events.
    pub max_events: u64,
}

impl Case {
    /// The scenario as it stands, in a world of ordinary networks, disks and clocks.
    pub fn of(scenario: &Scenario) -> Case {
        let seed = Seed(scenario.seed.unwrap_or_default());
        let ordinary = SimPlan::new(1, 1, scenario.time, seed);
        let schedule = scenario.schedule(seed);
        Case {
            schedule: schedule.faults().to_vec(),
            scenario: Scenario { seed: Some(seed.0), ..scenario.clone() },
            operations: Selection::default(),
            network: ordinary.network,
            chance: Chance::All,
            disk: ordinary.disk,
            clocks: ordinary.clocks,
            startup: ordinary.startup,
            max_events: ordinary.max_events,
        }
    }

    /// The run's seed.
    pub fn seed(&self) -> Seed {
        Seed(self.scenario.seed.unwrap_or_default())
    }

    /// What the simulator is to do. `call_timeout` is how long a client tries to carry out one
    /// operation.
    pub fn plan(&self, call_timeout: Duration) -> SimPlan {
        let scenario = &self.scenario;
        let longest_fault = self.schedule.iter().map(|timed| timed.lasts).max().unwrap_or_default();
        SimPlan {
            scenario: scenario.name.as_str().into(),
            nodes: scenario.node_names(),
            clients: scenario.client_names(),
            concurrency: usize::from(scenario.workload.concurrency()),
            time: scenario.time,
            schedule: self.schedule.clone(),
            seed: self.seed(),
            recovery: scenario.limits.recovery,
            heal_first: match scenario.limits.heal {
                Some(Heal::Quorum) => scenario.target.quorum().map(usize::from),
                Some(Heal::All) | None => None,
            },
            patience: call_timeout + longest_fault + Duration::from_secs(5),
            probe: scenario.target.facts().probe,
            fencing: scenario.workload.fencing(),
            max_operations: scenario.limits.history_events / 2,
            max_events: self.max_events,
            network: self.network,
            chance: self.chance.clone(),
            disk: self.disk,
            clocks: self.clocks,
            startup: self.startup,
        }
    }

    /// The scenario that a file holds: without faults, which the schedule says.
    pub(crate) fn bare_scenario(&self) -> Scenario {
        Scenario { faults: Faults::None, ..self.scenario.clone() }
    }
}

/// Which operations of a workload are carried out: all, but for these. The rest keep their keys
/// and values, so that leaving one out changes no other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Of these slots, only the first so many.
    pub limits: BTreeMap<usize, u64>,
    /// Not these, as (slot, number of the slot's operation from zero).
    pub skipped: BTreeSet<(usize, u64)>,
}

impl Selection {
    /// Whether nothing is left out.
    pub fn is_all(&self) -> bool {
        self.limits.is_empty() && self.skipped.is_empty()
    }

    fn limit(&self, slot: usize) -> u64 {
        self.limits.get(&slot).copied().unwrap_or(u64::MAX)
    }
}

/// A generator of which only some operations are carried out.
pub struct Selected<'a, G> {
    inner: G,
    selection: &'a Selection,
    /// For each slot, how many operations the inner generator has given.
    begun: Vec<u64>,
}

impl<'a, G: Generator> Selected<'a, G> {
    /// The operations of `inner` for `slots` slots, but for those left out.
    pub fn new(inner: G, selection: &'a Selection, slots: usize) -> Selected<'a, G> {
        Selected { inner, selection, begun: vec![0; slots] }
    }
}

impl<G: Generator> Generator for Selected<'_, G> {
    fn next(&mut self, who: Slot, now: Duration) -> Next {
        let Some(begun) = self.begun.get_mut(who.index) else { return Next::Done };
        loop {
            if *begun >= self.selection.limit(who.index) {
                return Next::Done;
            }
            let op = match self.inner.next(who, now) {
                Next::Op(op) => op,
                other => return other,
            };
            let number = *begun;
            *begun += 1;
            if !self.selection.skipped.contains(&(who.index, number)) {
                return Next::Op(op);
            }
            // To the generator it is an operation that certainly did not happen.
            let completion = Completion {
                process: who.process,
                outcome: Outcome::Fail,
                op,
                result: Value::Nil,
                error: Some("skipped".into()),
                node: None,
                term: None,
            };
            self.inner.completed(who, &completion, now);
        }
    }

    fn completed(&mut self, who: Slot, completion: &Completion, now: Duration) {
        self.inner.completed(who, completion, now);
    }

    fn finale(&self) -> Vec<FinalOp> {
        self.inner.finale()
    }
}

//! Simulators on several threads, which try candidates for a smaller case.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use duress_checkers::Judge;
use duress_sim::SimRun;
use rayon::prelude::*;

use crate::{BUDGET, Case, MakeSimulator, Property, Simulator, Violation, judge, target_checkers};

pub(super) struct Crew<'a> {
    /// `None` if one thread does it all.
    pool: Option<rayon::ThreadPool>,
    /// One for each thread. Locked while it simulates, and never while a checker is at work.
    simulators: Vec<Mutex<Box<dyn Simulator>>>,
    checkers: Vec<Box<dyn Judge>>,
    property: &'a Property,
    tried: AtomicU64,
}

impl Crew<'_> {
    pub(super) fn new<'a>(case: &Case, property: &'a Property, make: &MakeSimulator<'_>, jobs: usize) -> Crew<'a> {
        // Without threads of its own it takes longer, that is all.
        let pool = (jobs > 1).then(|| rayon::ThreadPoolBuilder::new().num_threads(jobs).build().ok()).flatten();
        let simulators: Vec<_> = (0..pool.as_ref().map_or(1, |_| jobs)).map(|_| make()).collect();
        let checkers = target_checkers(simulators[0].as_ref(), &case.scenario);
        let simulators = simulators.into_iter().map(Mutex::new).collect();
        Crew { pool, simulators, checkers, property, tried: AtomicU64::new(0) }
    }

    /// How many candidates are tried at a time.
    pub(super) fn size(&self) -> usize {
        self.simulators.len()
    }

    /// How many candidates have been tried.
    pub(super) fn tried(&self) -> u64 {
        self.tried.load(Ordering::Relaxed)
    }

    /// Carries out a run. It is given back with [`recycle`](Crew::recycle), or kept.
    pub(super) fn simulate(&self, case: &Case) -> SimRun {
        let mut simulator = self.simulator().lock().unwrap_or_else(PoisonError::into_inner);
        simulator.simulate(case)
    }

    pub(super) fn recycle(&self, run: SimRun) {
        self.simulator().lock().unwrap_or_else(PoisonError::into_inner).recycle(run);
    }

    fn simulator(&self) -> &Mutex<Box<dyn Simulator>> {
        let thread = self.pool.as_ref().and_then(|pool| pool.current_thread_index());
        &self.simulators[thread.unwrap_or(0)]
    }

    /// What is wrong with a run, if it violates the property.
    pub(super) fn violation(&self, run: &SimRun) -> Option<Violation> {
        let violations = judge(run, &self.checkers, &BUDGET).violations;
        violations.into_iter().find(|violation| violation.property == *self.property)
    }

    pub(super) fn violates(&self, case: &Case) -> bool {
        self.tried.fetch_add(1, Ordering::Relaxed);
        let run = self.simulate(case);
        let violates = self.violation(&run).is_some();
        self.recycle(run);
        violates
    }

    /// The first of these that violates the property: the same one, however many threads there are.
    pub(super) fn first(&self, candidates: &[Case]) -> Option<usize> {
        match &self.pool {
            Some(pool) if candidates.len() > 1 => {
                pool.install(|| candidates.par_iter().with_max_len(1).position_first(|case| self.violates(case)))
            }
            _ => candidates.iter().position(|case| self.violates(case)),
        }
    }
}

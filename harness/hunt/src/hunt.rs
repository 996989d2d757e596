//! Running many seeds of a scenario, on all cores.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use duress_checkers::{Budget, Judge};
use duress_fault::Kind;
use duress_history::{EventKind, Outcome};
use duress_scenario::Scenario;
use duress_seed::Seed;
use duress_sim::{Coverage, SimRun};

use crate::judge::judges_the_target;
use crate::swarm;
use crate::{Case, Judgement, Property, Step, Violation, judge};

/// Runs cases. Each thread has one of its own.
pub trait Simulator: Send {
    /// Carries out a run.
    fn simulate(&mut self, case: &Case) -> SimRun;

    /// Carries out a run and shows what happens in it, as it happens.
    fn traced(&mut self, case: &Case, watch: &mut dyn FnMut(Step)) -> SimRun;

    /// Takes a run's memory back.
    fn recycle(&mut self, run: SimRun);

    /// What runs of this scenario are judged by.
    fn checkers(&self, scenario: &Scenario) -> Vec<Box<dyn Judge>>;
}

/// Makes a simulator for runs of one target.
pub type MakeSimulator<'a> = dyn Fn() -> Box<dyn Simulator> + Sync + 'a;

/// How to hunt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How many runs at most.
    pub runs: Option<u64>,
    /// How long at most.
    pub time: Option<Duration>,
    /// On how many threads.
    pub jobs: usize,
    /// Go on after the first finding.
    pub keep_going: bool,
    /// The first run's seed; each run has the next one.
    pub base: u64,
    /// Faults that only the simulator has.
    pub extras: Vec<Kind>,
}

/// What may be watched from another thread while a hunt goes on, and a way to end it.
#[derive(Debug, Default)]
pub struct Progress {
    /// Runs that are over.
    pub runs: AtomicU64,
    /// Events handled.
    pub events: AtomicU64,
    /// Virtual time that passed, in microseconds.
    pub simulated_us: AtomicU64,
    /// Runs with a finding.
    pub findings: AtomicU64,
    /// Situations covered.
    pub situations: AtomicU64,
    /// Set to end the hunt.
    pub stop: AtomicBool,
}

/// All runs that violated the same property.
#[derive(Clone, Debug)]
pub struct Found {
    /// In how many runs.
    pub count: u64,
    /// The earliest of these runs, and what was wrong with it.
    pub seed: u64,
    /// What was wrong with it.
    pub violation: Violation,
}

/// What a hunt found.
#[derive(Clone, Debug, Default)]
pub struct Hunted {
    /// Runs carried out.
    pub runs: u64,
    /// Runs that violated something.
    pub failed: u64,
    /// Runs of which it can't be told.
    pub unknown: u64,
    /// Why it can't be told, and how often.
    pub reasons: BTreeMap<String, u64>,
    /// A run in which the simulator itself failed, and what it said: a fault of the harness.
    pub broken: Option<(u64, String)>,
    /// What was violated.
    pub findings: BTreeMap<Property, Found>,
    /// What was tested.
    pub coverage: Coverage,
    /// Operations by outcome: ok, fail, info.
    pub operations: [u64; 3],
    /// Events handled.
    pub events: u64,
    /// Virtual time that passed.
    pub simulated: Duration,
    /// Real time that passed.
    pub elapsed: Duration,
    /// Somebody ended it by [`Progress::stop`].
    pub interrupted: bool,
}

impl Hunted {
    /// Runs of which is known that nothing was violated.
    pub fn clean(&self) -> u64 {
        self.runs - self.failed - self.unknown
    }

    fn add(&mut self, other: Hunted) {
        self.runs += other.runs;
        self.failed += other.failed;
        self.unknown += other.unknown;
        for (reason, count) in other.reasons {
            // Reasons carry numbers of their run; a handful is enough to see what is the matter.
            if self.reasons.len() < MAX_REASONS || self.reasons.contains_key(&reason) {
                *self.reasons.entry(reason).or_default() += count;
            }
        }
        self.broken = self.broken.take().or(other.broken);
        for (property, found) in other.findings {
            match self.findings.get_mut(&property) {
                None => {
                    self.findings.insert(property, found);
                }
                Some(known) => {
                    let count = known.count + found.count;
                    if found.seed < known.seed {
                        *known = found;
                    }
                    known.count = count;
                }
            }
        }
        self.coverage.add(&other.coverage);
        for (sum, more) in self.operations.iter_mut().zip(other.operations) {
            *sum += more;
        }
        self.events += other.events;
        self.simulated += other.simulated;
    }

    fn count(&mut self, seed: u64, run: &SimRun, judgement: Judgement) {
        self.runs += 1;
        self.events += run.stats.events;
        self.simulated += run.stats.simulated;
        self.coverage.add(&run.coverage);
        for event in &run.events {
            if let EventKind::Complete(completion) = &event.kind {
                self.operations[match completion.outcome {
                    Outcome::Ok => 0,
                    Outcome::Fail => 1,
                    Outcome::Info => 2,
                }] += 1;
            }
        }
        if let Some(said) = judgement.broken {
            self.broken.get_or_insert((seed, said));
        }
        if judgement.violations.is_empty() {
            if let Some(reason) = judgement.unknown {
                self.unknown += 1;
                if self.reasons.len() < MAX_REASONS || self.reasons.contains_key(&reason) {
                    *self.reasons.entry(reason).or_default() += 1;
                }
            }
            return;
        }
        self.failed += 1;
        for violation in judgement.violations {
            let found = self.findings.entry(violation.property.clone());
            found.and_modify(|found| found.count += 1).or_insert_with(|| Found { count: 1, seed, violation });
        }
    }
}

/// No more different reasons than this are kept.
const MAX_REASONS: usize = 20;
/// Threads put their results together after this many runs.
const BATCH: u64 = 32;

/// How much the judging of one short run may cost. Searching its histories takes milliseconds.
pub const BUDGET: Budget = Budget { time: Duration::from_secs(5), memory_bytes: 256 << 20 };

/// The case of a hunt's run with this seed.
pub fn case(scenario: &Scenario, options: &Options, seed: u64) -> Case {
    swarm::draw(scenario, &options.extras, Seed(seed))
}

/// The checkers that judge a hunted run.
pub fn target_checkers(simulator: &dyn Simulator, scenario: &Scenario) -> Vec<Box<dyn Judge>> {
    let mut checkers = simulator.checkers(scenario);
    checkers.retain(|checker| judges_the_target(checker.as_ref()));
    checkers
}

/// Hunts. Seeds are taken in order, and every seed that was taken is finished: of several runs
/// with a finding the earliest is always the same one, however many threads there are.
///
/// # Errors
/// If the threads can't be started.
pub fn hunt(
    scenario: &Scenario,
    options: &Options,
    make: &MakeSimulator<'_>,
    progress: &Progress,
) -> Result<Hunted, rayon::ThreadPoolBuildError> {
    let began = Instant::now();
    let next = AtomicU64::new(0);
    let over = || {
        progress.stop.load(Ordering::Relaxed)
            || (!options.keep_going && progress.findings.load(Ordering::Relaxed) > 0)
            || options.time.is_some_and(|time| began.elapsed() >= time)
    };
    let total = Mutex::new(Hunted::default());
    let gather = |part: &mut Hunted| {
        let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
        total.add(std::mem::take(part));
        progress.situations.store(total.coverage.counts().len() as u64, Ordering::Relaxed);
    };
    let work = || {
        let mut simulator = make();
        let checkers = target_checkers(simulator.as_ref(), scenario);
        let mut part = Hunted::default();
        // One run in any case: a hunt that is ended at once says something all the same.
        let mut begun = false;
        while !begun || !over() {
            begun = true;
            let number = next.fetch_add(1, Ordering::Relaxed);
            if options.runs.is_some_and(|runs| number >= runs) {
                break;
            }
            let seed = options.base.wrapping_add(number);
            let run = simulator.simulate(&case(scenario, options, seed));
            let judgement = judge(&run, &checkers, &BUDGET);
            if judgement.broken.is_some() {
                progress.stop.store(true, Ordering::Relaxed);
            }
            if !judgement.violations.is_empty() {
                progress.findings.fetch_add(1, Ordering::Relaxed);
            }
            part.count(seed, &run, judgement);
            progress.runs.fetch_add(1, Ordering::Relaxed);
            progress.events.fetch_add(run.stats.events, Ordering::Relaxed);
            let simulated = u64::try_from(run.stats.simulated.as_micros()).unwrap_or(0);
            progress.simulated_us.fetch_add(simulated, Ordering::Relaxed);
            simulator.recycle(run);
            if part.runs >= BATCH {
                gather(&mut part);
            }
        }
        gather(&mut part);
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(options.jobs.max(1)).build()?;
    pool.broadcast(|_| work());
    let mut hunted = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    hunted.elapsed = began.elapsed();
    hunted.interrupted = progress.stop.load(Ordering::Relaxed);
    Ok(hunted)
}

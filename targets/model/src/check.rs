//! Running stateright on a configuration.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use duress_kv::config::Config;
use duress_kv::paxos::Paxos;
use duress_kv::primary_backup::PrimaryBackup;
use duress_kv::quorum::Quorum;
use stateright::{Checker, HasDiscoveries, Model};

use crate::bounds::Bounds;
use crate::model::{AGREEMENT, Checked, LINEARIZABLE, ONE_LEADER, is_failure};
use crate::step::Cluster;
use crate::story::{Story, tell};
use crate::subject::Subject;

/// What an exploration found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The bounds that it kept to.
    pub bounds: Bounds,
    /// How many different states were reached.
    pub unique_states: usize,
    /// The number of steps of the longest path that was followed (a state is reached by a
    /// shortest one).
    pub max_depth: usize,
    /// How many steps were tried: the states reached, and those reached again.
    pub steps: usize,
    /// What ended the exploration before every state within the bounds was reached.
    pub stopped: Option<Stopped>,
    /// What should happen some time and never did: a complete exploration that lacks it proves
    /// little.
    pub never_seen: Vec<&'static str>,
    /// A property that doesn't hold, and how it comes to be broken. The shortest such story if
    /// one thread looked for it.
    pub counterexample: Option<Story>,
}

impl Outcome {
    /// Every state within the bounds was reached.
    pub fn complete(&self) -> bool {
        self.stopped.is_none()
    }
}

/// Why an exploration ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It found a counterexample.
    Found,
    /// [`Bounds::max_steps`].
    Steps,
    /// [`Search::max_states`].
    States,
    /// [`Search::time`].
    Time,
}

/// How much an exploration may cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// How many threads explore. More make it faster, but a counterexample may then not be the
    /// shortest.
    pub threads: usize,
    /// Give up at about this many different states.
    pub max_states: usize,
    /// Give up after about this long.
    pub time: Duration,
}

impl Search {
    /// On so many threads, without further bounds.
    pub fn on(threads: usize) -> Self {
        Search { threads, max_states: usize::MAX, time: Duration::MAX }
    }
}

/// How far an exploration has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Since its beginning.
    pub elapsed: Duration,
    /// Different states so far.
    pub unique_states: usize,
    /// Steps tried so far.
    pub steps: usize,
    /// The number of steps of the longest path followed so far.
    pub depth: usize,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let extent = if self.complete() { "exhaustive" } else { "not exhaustive" };
        writeln!(f, "{} states, {} steps deep; {extent} up to: {}", self.unique_states, self.max_depth, self.bounds)?;
        for never in &self.never_seen {
            writeln!(f, "Never seen: {never}.")?;
        }
        match &self.counterexample {
            Some(story) => write!(f, "{story}"),
            None => f.write_str("Nothing found broken."),
        }
    }
}

/// Explores every state that a cluster of this configuration can reach within the bounds, or as
/// many as it takes to find that what clients are told is not linearizable or that two nodes lead
/// in one term. Nodes whose applied logs differ don't end the exploration, as clients may still
/// see it; they are the counterexample if they don't.
///
/// Takes microseconds for each step, and memory for each state; [`Bounds::max_steps`] bounds both,
/// and so does `search`. `watch` is told several times a second how far it has come.
pub fn check(config: Config, bounds: Bounds, search: &Search, watch: &mut dyn FnMut(Progress)) -> Outcome {
    match config {
        Config::Paxos(config) => check_mode::<Paxos>(&config, bounds, search, watch),
        Config::Quorum(config) => check_mode::<Quorum>(&config, bounds, search, watch),
        Config::PrimaryBackup(config) => check_mode::<PrimaryBackup>(&config, bounds, search, watch),
    }
}

/// How often an exploration is looked at: first, and at most.
const LOOK: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));

fn check_mode<M: Subject>(
    config: &M::Config,
    bounds: Bounds,
    search: &Search,
    watch: &mut dyn FnMut(Progress),
) -> Outcome {
    let began = Instant::now();
    let max_steps = bounds.max_steps.max(1);
    let mut checker = Checked::new(Cluster::<M>::new(config, bounds.clone()), true)
        .checker()
        .threads(search.threads.max(1))
        .target_state_count(max_steps)
        .finish_when(HasDiscoveries::AnyOf(BTreeSet::from([LINEARIZABLE, ONE_LEADER])))
        .spawn_bfs();
    let explorers = checker.handles();
    let mut stopped = None;
    let mut pause = LOOK.0;
    while !explorers.iter().all(|explorer| explorer.is_finished()) {
        let elapsed = began.elapsed();
        let unique_states = checker.unique_state_count();
        watch(Progress { elapsed, unique_states, steps: checker.state_count(), depth: steps_of(checker.max_depth()) });
        if stopped.is_none() {
            stopped = match () {
                () if elapsed >= search.time => Some(Stopped::Time),
                () if unique_states >= search.max_states => Some(Stopped::States),
                () => None,
            };
            if stopped.is_some() {
                checker.model().stop();
            }
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LOOK.1);
    }
    for explorer in explorers {
        // A machine that panics is a fault of ours: let it be seen where it was made.
        explorer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    }
    // Paths to what was found are made by following them again.
    checker.model().go_on();
    let mut discoveries = checker.discoveries();
    if [LINEARIZABLE, ONE_LEADER].iter().any(|name| discoveries.contains_key(name)) {
        stopped = Some(Stopped::Found);
    } else if checker.state_count() >= max_steps {
        stopped = Some(Stopped::Steps);
    }
    let broken = [LINEARIZABLE, ONE_LEADER, AGREEMENT].into_iter().find(|name| discoveries.contains_key(name));
    let counterexample = broken.and_then(|name| {
        let path = discoveries.remove(name)?;
        Some(tell(&checker.model().cluster, name, &path.into_actions()))
    });
    let expected = checker.model().properties();
    let never_seen = expected
        .iter()
        .filter(|property| !is_failure(&property.expectation) && !discoveries.contains_key(property.name))
        .map(|property| property.name)
        .collect();
    Outcome {
        bounds,
        unique_states: checker.unique_state_count(),
        max_depth: steps_of(checker.max_depth()),
        steps: checker.state_count(),
        stopped,
        never_seen,
        counterexample,
    }
}

/// Stateright counts the states of a path.
fn steps_of(depth: usize) -> usize {
    depth.saturating_sub(1)
}

/// Serves stateright's explorer of a configuration's states at an address, until the process
/// ends. Port 0 is any that is free; `serving` is told the address before it serves there.
///
/// # Errors
/// If nothing can be served at the address.
pub fn explore(config: Config, bounds: Bounds, addr: SocketAddr, serving: impl FnOnce(SocketAddr)) -> io::Result<()> {
    // Stateright panics where it can't listen.
    let addr = TcpListener::bind(addr)?.local_addr()?;
    serving(addr);
    match config {
        Config::Paxos(config) => explore_mode::<Paxos>(&config, bounds, addr),
        Config::Quorum(config) => explore_mode::<Quorum>(&config, bounds, addr),
        Config::PrimaryBackup(config) => explore_mode::<PrimaryBackup>(&config, bounds, addr),
    }
    Ok(())
}

fn explore_mode<M: Subject>(config: &M::Config, bounds: Bounds, addr: SocketAddr) {
    Checked::new(Cluster::<M>::new(config, bounds), false).checker().serve(addr);
}

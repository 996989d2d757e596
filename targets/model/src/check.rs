//! Running stateright on a configuration.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};

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
    /// Every state within the bounds was reached. Never true with a counterexample that ended the
    /// exploration.
    pub complete: bool,
    /// What should happen some time and never did: a complete exploration that lacks it proves
    /// little.
    pub never_seen: Vec<&'static str>,
    /// A property that doesn't hold, and how it comes to be broken. The shortest such story if
    /// one thread looked for it.
    pub counterexample: Option<Story>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let extent = if self.complete { "exhaustive" } else { "not exhaustive" };
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
/// Takes microseconds for each step, and memory for each state; [`Bounds::max_steps`] bounds both.
/// More threads make it faster, but a counterexample may then not be the shortest.
pub fn check(config: Config, bounds: Bounds, threads: usize) -> Outcome {
    match config {
        Config::Paxos(config) => check_mode::<Paxos>(&config, bounds, threads),
        Config::Quorum(config) => check_mode::<Quorum>(&config, bounds, threads),
        Config::PrimaryBackup(config) => check_mode::<PrimaryBackup>(&config, bounds, threads),
    }
}

fn check_mode<M: Subject>(config: &M::Config, bounds: Bounds, threads: usize) -> Outcome {
    let max_steps = bounds.max_steps.max(1);
    let checker = Checked::new(Cluster::<M>::new(config, bounds.clone()), true)
        .checker()
        .threads(threads.max(1))
        .target_state_count(max_steps)
        .finish_when(HasDiscoveries::AnyOf(BTreeSet::from([LINEARIZABLE, ONE_LEADER])))
        .spawn_bfs()
        .join();
    let mut discoveries = checker.discoveries();
    let ended = [LINEARIZABLE, ONE_LEADER].iter().any(|name| discoveries.contains_key(name));
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
        // Stateright counts the states of a path.
        max_depth: checker.max_depth().saturating_sub(1),
        complete: !ended && checker.state_count() < max_steps,
        never_seen,
        counterexample,
    }
}

/// Serves stateright's explorer of a configuration's states at an address, until the process
/// ends.
///
/// # Errors
/// If nothing can be served at the address.
pub fn explore(config: Config, bounds: Bounds, addr: SocketAddr) -> io::Result<()> {
    // Stateright panics where it can't listen.
    drop(TcpListener::bind(addr)?);
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

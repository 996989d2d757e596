//! The cluster as a stateright model, and its properties.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use duress_machine::{NodeId, Reading};
use stateright::{Expectation, Model, Property};

use crate::state::State;
use crate::step::{Action, Cluster};
use crate::subject::Subject;

/// What a client was told fits one order of all operations that keeps to real time.
pub(crate) const LINEARIZABLE: &str = "what clients are told is linearizable";
/// No two nodes ever led in the same term.
pub(crate) const ONE_LEADER: &str = "at most one node leads in a term";
/// Two nodes that have applied as many log entries have applied the same.
pub(crate) const AGREEMENT: &str = "nodes that have applied equally much have applied the same";
/// Some node leads.
pub(crate) const SOME_LEADER: &str = "a node leads";
/// Every client comes to the end of its script, and nothing was refused.
pub(crate) const ALL_DONE: &str = "every operation succeeds";

/// A cluster with what is expected of it.
pub(crate) struct Checked<M: Subject> {
    pub cluster: Cluster<M>,
    /// By property, the first state found that breaks it. The checker goes on for a while after
    /// a discovery and would put a later, longer one in its place; so later ones are let pass.
    /// `None` tells the truth of every state.
    firsts: Option<BTreeMap<&'static str, OnceLock<State<M>>>>,
    /// Nothing more is to be explored.
    stopped: AtomicBool,
}

impl<M: Subject> Checked<M> {
    pub(crate) fn new(cluster: Cluster<M>, firsts_only: bool) -> Self {
        let names = [LINEARIZABLE, ONE_LEADER, AGREEMENT, SOME_LEADER, ALL_DONE];
        let firsts = firsts_only.then(|| names.into_iter().map(|name| (name, OnceLock::new())).collect());
        Checked { cluster, firsts, stopped: AtomicBool::new(false) }
    }

    /// From now on nothing can happen in any state, so that the exploration soon ends.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Everything is as before [`stop`](Checked::stop).
    pub(crate) fn go_on(&self) {
        self.stopped.store(false, Ordering::Relaxed);
    }

    /// Whether `state` is the first of its kind.
    fn is_first(&self, name: &str, state: &State<M>) -> bool {
        let Some(first) = self.firsts.as_ref().and_then(|firsts| firsts.get(name)) else { return true };
        first.get_or_init(|| state.clone()) == state
    }

    /// Whether `state` keeps `property`, as far as it is the first that doesn't.
    fn keeps(&self, name: &str, keeps: bool, state: &State<M>) -> bool {
        keeps || !self.is_first(name, state)
    }

    /// Whether `state` is the first example of `property`.
    fn shows(&self, name: &str, shows: bool, state: &State<M>) -> bool {
        shows && self.is_first(name, state)
    }
}

/// Clocks don't matter to what a machine says of its state.
pub(crate) const NOW: Reading = Reading { wall: std::time::Duration::ZERO, monotonic: std::time::Duration::ZERO };

/// Two nodes that have applied the same number of entries, but not the same ones.
pub(crate) fn disagreement<M: Subject>(state: &State<M>) -> Option<(NodeId, NodeId, u64)> {
    let mut seen: BTreeMap<u64, (NodeId, u64)> = BTreeMap::new();
    for (node, at) in state.nodes.iter().enumerate() {
        let (node, status) = (NodeId(node as u16), at.machine.status(NOW));
        let (other, digest) = *seen.entry(status.commit_index).or_insert((node, status.digest));
        // Leaderless nodes have no common log, and say so by an index of zero.
        if status.commit_index > 0 && digest != status.digest {
            return Some((other, node, status.commit_index));
        }
    }
    None
}

fn all_done<M: Subject>(model: &Checked<M>, state: &State<M>) -> bool {
    let scripts = &model.cluster.bounds.clients;
    state.clients.iter().zip(scripts).all(|(client, script)| usize::from(client.succeeded) == script.len())
}

impl<M: Subject> Model for Checked<M> {
    type State = State<M>;
    type Action = Action<M>;

    fn init_states(&self) -> Vec<State<M>> {
        vec![self.cluster.start()]
    }

    fn actions(&self, state: &State<M>, actions: &mut Vec<Action<M>>) {
        if !self.stopped.load(Ordering::Relaxed) {
            self.cluster.possible(state, actions);
        }
    }

    fn next_state(&self, state: &State<M>, action: Action<M>) -> Option<State<M>> {
        self.cluster.follow(state, &action, None)
    }

    fn within_boundary(&self, state: &State<M>) -> bool {
        state
            .nodes
            .iter()
            .all(|at| M::bounded_term(&self.cluster.config, at.machine.status(NOW).term) <= self.cluster.bounds.terms)
    }

    fn format_action(&self, action: &Action<M>) -> String {
        self.cluster.words(action, None)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(LINEARIZABLE, |model: &Self, state: &State<M>| {
                model.keeps(LINEARIZABLE, state.history.linearizable, state)
            }),
            Property::sometimes(ALL_DONE, |model: &Self, state: &State<M>| {
                model.shows(ALL_DONE, all_done(model, state), state)
            }),
        ];
        if M::HAS_LEADER {
            properties.extend([
                Property::always(ONE_LEADER, |model: &Self, state: &State<M>| {
                    model.keeps(ONE_LEADER, state.led_twice.is_none(), state)
                }),
                Property::always(AGREEMENT, |model: &Self, state: &State<M>| {
                    model.keeps(AGREEMENT, disagreement(state).is_none(), state)
                }),
                Property::sometimes(SOME_LEADER, |model: &Self, state: &State<M>| {
                    model.shows(SOME_LEADER, !state.led.is_empty(), state)
                }),
            ]);
        }
        properties
    }
}

/// Whether a discovery for a property is bad news.
pub(crate) fn is_failure(expectation: &Expectation) -> bool {
    *expectation == Expectation::Always
}

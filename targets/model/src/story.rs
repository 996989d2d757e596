//! A counterexample in words.

use std::fmt;

use duress_machine::NodeId;

use crate::model::{AGREEMENT, LINEARIZABLE, NOW, ONE_LEADER, disagreement};
use crate::state::State;
use crate::step::{Action, Cluster};
use crate::subject::Subject;
use crate::words::is_told;

/// What happened, step by step, until a property was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// The property that was broken.
    pub broken: &'static str,
    /// Where it begins: who leads.
    pub start: String,
    /// What happened, in order.
    pub steps: Vec<Step>,
    /// Why the property is broken at the end.
    pub end: String,
}

/// One step of a [`Story`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Where it happened.
    pub place: Place,
    /// What happened.
    pub what: String,
    /// What nodes did or became because of it.
    pub then: Vec<String>,
}

/// Where a [`Step`] happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A message arrives.
    Link {
        /// From whom.
        from: NodeId,
        /// At whom.
        to: NodeId,
        /// What it says.
        message: String,
    },
    /// Something happens to a node.
    Node(NodeId),
    /// A client hears something.
    Client,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if !self.then.is_empty() {
            write!(f, " → {}", self.then.join("; "))?;
        }
        Ok(())
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Broken: {}.", self.broken)?;
        writeln!(f, "{}", self.start)?;
        let width = self.steps.len().to_string().len();
        for (i, step) in self.steps.iter().enumerate() {
            writeln!(f, "{:>width$}. {step}", i + 1)?;
        }
        write!(f, "{}", self.end)
    }
}

/// Tells the story of a path through the states.
pub(crate) fn tell<M: Subject>(cluster: &Cluster<M>, broken: &'static str, actions: &[Action<M>]) -> Story {
    let mut state = cluster.start();
    let start = start(&state);
    let mut steps = Vec::new();
    let mut acts = Vec::new();
    for action in actions {
        let mut then = Vec::new();
        let next = cluster.follow(&state, action, Some(&mut then));
        if let Action::Ask { client, .. } = action {
            let again = state.clients.get(usize::from(*client)).is_some_and(|progress| progress.tried > 0);
            if !again {
                acts.push(cluster.words(action, Some(&state)));
            }
        }
        acts.extend(then.iter().filter(|words| is_told(words)).cloned());
        steps.push(Step { place: place(cluster, action), what: cluster.words(action, Some(&state)), then });
        let Some(next) = next else { break };
        state = next;
    }
    let end = end(broken, &acts, &state);
    Story { broken, start, steps, end }
}

fn place<M: Subject>(cluster: &Cluster<M>, action: &Action<M>) -> Place {
    match action {
        Action::Deliver { envelope, .. } => {
            Place::Link { from: envelope.from, to: envelope.to, message: M::words(&cluster.config, &envelope.message) }
        }
        Action::TimeOut { node, .. }
        | Action::Synced { node }
        | Action::Crash { node, .. }
        | Action::Fence { node, .. }
        | Action::Ask { node, .. } => Place::Node(*node),
        Action::Hear { .. } => Place::Client,
    }
}

fn start<M: Subject>(state: &State<M>) -> String {
    if !M::HAS_LEADER {
        return "At first all nodes are up.".into();
    }
    let statuses = (0..).map(NodeId).zip(state.nodes.iter().map(|at| at.machine.status(NOW)));
    let leaders: Vec<String> = statuses
        .filter(|(_, status)| status.role.leads())
        .map(|(node, status)| format!("{node} is {} in term {}", status.role, status.term))
        .collect();
    match leaders.is_empty() {
        true => "At first nobody leads.".into(),
        false => format!("At first {}.", leaders.join(" and ")),
    }
}

fn end<M: Subject>(broken: &str, acts: &[String], state: &State<M>) -> String {
    match broken {
        LINEARIZABLE => format!("No order of the operations explains what clients saw: {}.", acts.join("; ")),
        ONE_LEADER => match state.led_twice {
            Some(term) => format!("Two nodes have led in term {term}."),
            None => String::new(),
        },
        AGREEMENT => match disagreement(state) {
            Some((one, other, index)) => {
                format!("{one} and {other} have both applied the log up to {index}, but not the same entries.")
            }
            None => String::new(),
        },
        _ => String::new(),
    }
}

//! Faults that nobody scheduled: nodes that were shut off or ended, and the operator who starts
//! them again.

use duress_history::{Evidence, FaultEvent, Stage};
use smol_str::SmolStr;

use crate::{Conductor, OPERATOR, Order, UNSCHEDULED, Wake};

/// How a node came to have no process, other than by a fault of the schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Departure {
    /// Another node had it shut off.
    Fenced {
        /// That node.
        by: usize,
        /// Whether its process was seen to be gone.
        gone: bool,
    },
    /// It ended, and nobody asked it to. That is no fault of ours: a run in which nodes die by
    /// themselves is no clean run. The words say how.
    Exit(String),
    /// It ended for a good reason, which the words tell: its disk is broken.
    Halt(String),
}

impl Departure {
    /// The kind of the fault that it is taken for.
    pub fn kind(&self) -> &'static str {
        match self {
            Departure::Fenced { .. } => "fence",
            Departure::Exit(_) => "exit",
            Departure::Halt(_) => HALT,
        }
    }
}

const HALT: &str = "halt";

/// What becomes of the wish of a node to have another one shut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fencing {
    /// Nothing: the life that wished for it is over, and may itself have been ended by a fence.
    Void,
    /// Nothing: there is no such node, or it is the one that asks.
    Nonsense,
    /// The victim is down already, and the asker is told so.
    Told,
    /// The victim is shut off, and then the asker is told.
    ShutOff,
}

impl Fencing {
    /// Decides about the wish of `asker`, of which the life that wished for it `lives` or not, to
    /// have `victim` shut off, which `runs` or not. Nobody may be shut off or started between this
    /// and what follows: of two nodes that fence each other one must win, and the winner must hear
    /// of it before the loser may be back.
    pub fn of(nodes: usize, asker: usize, lives: bool, victim: usize, runs: bool) -> Fencing {
        if !lives {
            Fencing::Void
        } else if victim >= nodes || victim == asker {
            Fencing::Nonsense
        } else if runs {
            Fencing::ShutOff
        } else {
            Fencing::Told
        }
    }
}

/// The faults that nobody scheduled.
#[derive(Debug, Default)]
pub(crate) struct Unscheduled {
    count: u64,
    /// Of each node, what keeps it down.
    down_by: Vec<Option<(u64, &'static str)>>,
}

impl Unscheduled {
    pub(crate) fn new(nodes: usize) -> Unscheduled {
        Unscheduled { count: 0, down_by: vec![None; nodes] }
    }

    /// The number of another one.
    pub(crate) fn next(&mut self) -> u64 {
        self.count += 1;
        UNSCHEDULED + self.count
    }

    pub(crate) fn is_down(&self, node: usize) -> bool {
        self.down_by[node].is_some()
    }
}

impl Conductor {
    /// A node has no process any more, by no fault of the schedule. It stays down until the operator
    /// comes by.
    pub fn left(&mut self, node: usize, how: Departure, now: u64) -> Vec<Order> {
        let mut orders = self.runs(node, Err("it ended again".into()));
        let (fault, kind) = (self.unscheduled.next(), how.kind());
        self.unscheduled.down_by[node] = Some((fault, kind));
        let name = &self.nodes[node];
        let (what, (seen, proven)) = match how {
            Departure::Fenced { by, gone } => {
                let state = if gone { "gone" } else { "still there" };
                let what = format!("{} had {name} shut off", self.nodes[by]);
                (what, (format!("the process of {name} is {state}"), gone))
            }
            Departure::Exit(what) => (what.clone(), (what, false)),
            Departure::Halt(what) => (what.clone(), (what, true)),
        };
        orders.push(self.said(node, (fault, kind), Stage::Start, what));
        let measured = Default::default();
        orders.push(Order::Evidence(Evidence { fault, stage: Stage::Start, proven, what: seen, measured }));
        if self.in_force.is_empty() {
            let at = now.saturating_add(u64::try_from(OPERATOR.as_nanos()).unwrap_or(u64::MAX));
            orders.push(Order::Wait { at, wake: Wake::Operator });
        }
        orders
    }

    /// A node serves again that had been shut off or had ended, or has failed to.
    pub fn runs(&mut self, node: usize, serves: Result<(), String>) -> Vec<Order> {
        let Some((fault, kind)) = self.unscheduled.down_by[node].take() else { return Vec::new() };
        let name = &self.nodes[node];
        let proven = serves.is_ok();
        let what = serves.err().unwrap_or_else(|| format!("{name} answers"));
        let again = self.said(node, (fault, kind), Stage::End, format!("{name} is started again"));
        let measured = Default::default();
        vec![again, Order::Evidence(Evidence { fault, stage: Stage::End, proven, what, measured })]
    }

    fn said(&self, node: usize, (fault, kind): (u64, &'static str), stage: Stage, what: String) -> Order {
        let (kind, hosts) = (SmolStr::new_static(kind), vec![self.nodes[node].clone()]);
        Order::Fault(FaultEvent { fault, stage, kind, what, hosts, links: Vec::new() })
    }

    /// The operator comes by and starts what was shut off or had ended, unless faults are in force:
    /// then it is their heal that brings the operator.
    pub fn operator(&self) -> Vec<Order> {
        if !self.in_force.is_empty() {
            return Vec::new();
        }
        let nodes = (0..self.nodes.len()).filter(|node| self.unscheduled.is_down(*node));
        nodes.map(|node| Order::Start { node }).collect()
    }

    /// The number of the fault that a node's end is taken for, if it was shut off or has ended and
    /// was not started since.
    pub fn down_by(&self, node: usize) -> Option<u64> {
        self.unscheduled.down_by[node].map(|(fault, _)| fault)
    }

    /// Whether that was because its disk was broken.
    pub fn is_halted(&self, node: usize) -> bool {
        self.unscheduled.down_by[node].is_some_and(|(_, kind)| kind == HALT)
    }
}

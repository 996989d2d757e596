//! How a configuration came about, and the order that this makes.
//!
//! Only the steps that changed the register and were seen are noted. Reads and absorbed writes are
//! put between them afterwards: a read after the first step in its interval that left its value,
//! an absorbed write just before the first write in its interval.

use std::collections::BTreeMap;

use super::antichain::Configuration;
use super::history::{Action, PENDING};
use super::prepare::Problem;

/// A change of the register.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// By this operation.
    Operation(u32),
    /// By one of this class of pending operations.
    Pending(u32),
}

struct Node {
    before: u32,
    step: Step,
    /// The return at which it was let happen.
    event: u32,
}

/// The steps to every configuration in use, as a tree that grows from its root.
pub(super) struct Trail {
    on: bool,
    nodes: Vec<Node>,
    compact_at: usize,
    /// The operations of each class, by serial number, in the order of their calls.
    pending: BTreeMap<u32, Vec<u32>>,
}

/// Below this many nodes nothing is thrown away.
const SMALL: usize = 1 << 14;

impl Trail {
    /// Where there have been no steps.
    pub(super) const START: u32 = u32::MAX;

    pub(super) fn new(on: bool) -> Trail {
        Trail { on, nodes: Vec::new(), compact_at: SMALL, pending: BTreeMap::new() }
    }

    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.on
    }

    pub(super) fn bytes(&self) -> usize {
        self.nodes.len() * 2 * size_of::<Node>()
    }

    pub(super) fn pending(&mut self, serial: u32, op: u32) {
        if self.on {
            self.pending.entry(serial).or_default().push(op);
        }
    }

    /// The number of the node that will be pushed next.
    pub(super) fn next(&self) -> u32 {
        if self.on { self.nodes.len() as u32 } else { Trail::START }
    }

    pub(super) fn push(&mut self, before: u32, step: Step, event: u32) {
        if self.on {
            self.nodes.push(Node { before, step, event });
        }
    }

    /// Throws away what led to none of these configurations, now and then.
    #[inline]
    pub(super) fn compact<const N: usize>(&mut self, configurations: &mut [Configuration<N>]) {
        if self.nodes.len() >= self.compact_at {
            self.compact_now(configurations);
        }
    }

    fn compact_now<const N: usize>(&mut self, configurations: &mut [Configuration<N>]) {
        let mut number = vec![0u32; self.nodes.len()];
        for configuration in configurations.iter() {
            let mut at = configuration.trail;
            while at != Trail::START && number[at as usize] == 0 {
                number[at as usize] = 1;
                at = self.nodes[at as usize].before;
            }
        }
        let mut kept = 0;
        // A node's parent comes before it, so it has its new number already.
        for at in 0..self.nodes.len() {
            if number[at] == 1 {
                let node = &self.nodes[at];
                let before = if node.before == Trail::START { node.before } else { number[node.before as usize] };
                self.nodes[kept as usize] = Node { before, ..*node };
                number[at] = kept;
                kept += 1;
            }
        }
        self.nodes.truncate(kept as usize);
        for configuration in configurations.iter_mut().filter(|c| c.trail != Trail::START) {
            configuration.trail = number[configuration.trail as usize];
        }
        self.compact_at = (self.nodes.len() * 2).max(SMALL);
    }

    /// The order of the problem's operations that the steps up to `last` make.
    pub(super) fn order(&mut self, problem: &Problem, last: u32) -> Vec<usize> {
        if !self.on {
            return Vec::new();
        }
        let mut steps = Vec::new();
        let mut at = last;
        while at != Trail::START {
            let node = &self.nodes[at as usize];
            steps.push((node.step, node.event));
            at = node.before;
        }
        steps.reverse();
        for ops in self.pending.values_mut() {
            ops.reverse();
        }
        let mut steps_ops: Vec<(u32, u32)> = Vec::with_capacity(steps.len());
        for (step, event) in steps {
            let op = match step {
                Step::Operation(op) => Some(op),
                Step::Pending(serial) => self.pending.get_mut(&serial).and_then(Vec::pop),
            };
            steps_ops.extend(op.map(|op| (op, event)));
        }
        weave(problem, &steps_ops)
    }
}

/// Puts reads and absorbed writes between steps, given as operations and events in order.
fn weave(problem: &Problem, steps: &[(u32, u32)]) -> Vec<usize> {
    // The register's value after each number of steps, and by value those numbers.
    let mut after: Vec<Vec<u32>> = vec![Vec::new(); problem.values.len()];
    let mut value_after = vec![problem.initial];
    after[problem.initial as usize].push(0);
    let mut writes = Vec::new();
    let mut stepped = vec![false; problem.ops.len()];
    for (i, (op, _)) in steps.iter().enumerate() {
        stepped[*op as usize] = true;
        let action = problem.ops[*op as usize].action;
        if matches!(action, Action::Write(_)) {
            writes.push(i);
        }
        if let Action::Write(to) | Action::Cas { to, .. } = action {
            after[to as usize].push(i as u32 + 1);
            value_after.push(to);
        }
    }
    // What comes before the step of each number, after which come reads.
    let mut absorbed: Vec<Vec<usize>> = vec![Vec::new(); steps.len() + 1];
    let mut reads: Vec<Vec<usize>> = vec![Vec::new(); steps.len() + 1];
    for (i, op) in problem.ops.iter().enumerate() {
        if op.ret == PENDING || stepped[i] {
            continue;
        }
        let from = steps.partition_point(|(_, event)| *event < op.call);
        let place = match op.action {
            Action::Read(value) => {
                let places = &after[value as usize];
                places.get(places.partition_point(|place| (*place as usize) < from)).map(|place| *place as usize)
            }
            // Neighbouring values differ, but for writes of the value that is there.
            Action::Differs(value) => (from..value_after.len()).find(|place| value_after[*place] != value),
            _ => writes.get(writes.partition_point(|step| *step < from)).copied(),
        };
        let place = place.unwrap_or(steps.len());
        if matches!(op.action, Action::Write(_)) { absorbed[place].push(i) } else { reads[place].push(i) }
    }
    let mut order = Vec::with_capacity(problem.ops.len());
    for place in 0..=steps.len() {
        order.append(&mut reads[place]);
        order.append(&mut absorbed[place]);
        order.extend(steps.get(place).map(|(op, _)| *op as usize));
    }
    order
}

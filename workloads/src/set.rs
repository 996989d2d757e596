//! Adds of unique elements to one set, and at the end what every node makes of it.

use std::time::Duration;

use duress_history::{Completion, Function, Op, Value};

use crate::{FinalOp, Generator, Next, Slot};

/// What can be chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Operations per second over all slots; `None` is as fast as possible.
    pub rate: Option<f64>,
    /// Elements in all; `None` is as many as time allows. Every node returns them all at the end,
    /// so there should be some limit.
    pub ops: Option<u64>,
}

impl Default for Options {
    /// 300 adds per second, 20,000 at most.
    fn default() -> Options {
        Options { rate: Some(300.0), ops: Some(20_000) }
    }
}

/// The generator.
pub struct Set {
    nodes: usize,
    /// For each slot, how many operations it has begun.
    begun: Vec<i64>,
}

impl Set {
    /// A generator for `slots` slots over a target of `nodes` nodes.
    pub fn new(nodes: usize, slots: usize) -> Set {
        Set { nodes, begun: vec![0; slots] }
    }
}

impl Generator for Set {
    fn next(&mut self, who: Slot, _now: Duration) -> Next {
        let slots = self.begun.len() as i64;
        let Some(begun) = self.begun.get_mut(who.index) else { return Next::Done };
        let element = *begun * slots + who.index as i64;
        *begun += 1;
        Next::Op(Op::new(Function::Add, element))
    }

    fn completed(&mut self, _who: Slot, _completion: &Completion, _now: Duration) {}

    /// All elements, from every node.
    fn finale(&self) -> Vec<FinalOp> {
        (0..self.nodes).map(|node| FinalOp { node, op: Op::new(Function::Read, Value::Nil) }).collect()
    }
}

//! One machine, driven by hand: every input is given by the test, every effect looked at.
#![allow(dead_code, unreachable_pub, clippy::allow_attributes, reason = "each test file uses its part of it")]

use std::time::Duration;

use duress_machine::{Effect, Effects, Input, Machine, NodeId, Reading};
use duress_seed::{Seed, Stream};
use rand::RngExt as _;

/// A machine with a disk that is durable when the test says so.
pub struct Hand<M: Machine> {
    pub machine: M,
    config: M::Config,
    me: NodeId,
    now: Duration,
    writes: u64,
    /// Everything written.
    records: Vec<M::Record>,
    /// What of it is durable.
    synced: Vec<M::Record>,
}

impl<M: Machine> Hand<M> {
    /// A started node with an empty disk.
    pub fn new(config: M::Config, me: u16) -> Self {
        let me = NodeId(me);
        let machine = M::new(&config, me);
        let now = Duration::from_secs(1000);
        let mut hand = Hand { machine, config, me, now, writes: 0, records: Vec::new(), synced: Vec::new() };
        hand.input(Input::Started { recovered: Vec::new() });
        hand.durable();
        hand
    }

    /// Another life, with everything written so far on the disk.
    pub fn restart(&mut self) -> Vec<Effect<M>> {
        self.machine = M::new(&self.config, self.me);
        self.writes = 0;
        let recovered = self.records.clone();
        let mut effects = self.input(Input::Started { recovered });
        effects.extend(self.durable());
        effects
    }

    /// Another life, without what was not durable.
    pub fn power_loss(&mut self) -> Vec<Effect<M>> {
        self.records.clone_from(&self.synced);
        self.restart()
    }

    pub fn input(&mut self, input: Input<M>) -> Vec<Effect<M>> {
        let mut effects = Effects::default();
        let now = self.reading();
        self.machine.step(input, now, &mut effects);
        let effects: Vec<_> = effects.drain().collect();
        for effect in &effects {
            match effect {
                Effect::Append { record } => self.records.push(record.clone()),
                Effect::Rewrite { records } => self.records.clone_from(records),
                _ => continue,
            }
            self.writes += 1;
        }
        effects
    }

    pub fn message(&mut self, from: u16, message: M::Message) -> Vec<Effect<M>> {
        self.input(Input::Message { from: NodeId(from), message })
    }

    /// Everything written is on the disk.
    pub fn durable(&mut self) -> Vec<Effect<M>> {
        let through = self.writes;
        self.synced.clone_from(&self.records);
        self.input(Input::Durable { through })
    }

    /// Time passes in small steps, the timer running out at each.
    pub fn pass(&mut self, time: Duration, timer: M::Timer) -> Vec<Effect<M>> {
        let mut all = Vec::new();
        let end = self.now + time;
        while self.now < end {
            self.now += Duration::from_millis(50);
            all.extend(self.input(Input::Timer(timer)));
        }
        all
    }

    pub fn reading(&self) -> Reading {
        Reading { wall: Duration::from_secs(1_700_000_000) + self.now, monotonic: self.now }
    }
}

/// The messages among effects, with their receivers.
pub fn sent<M: Machine>(effects: &[Effect<M>]) -> Vec<(u16, M::Message)> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Send { to, message } => Some((to.0, message.clone())),
            _ => None,
        })
        .collect()
}

/// The nodes to be shut off among effects.
pub fn fences<M: Machine>(effects: &[Effect<M>]) -> Vec<u16> {
    effects.iter().filter_map(|e| if let Effect::Fence { node } = e { Some(node.0) } else { None }).collect()
}

/// The answers to clients among effects.
pub fn answers<M: Machine>(effects: &[Effect<M>]) -> Vec<M::Response> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Respond { response, .. } => Some(response.clone()),
            _ => None,
        })
        .collect()
}

/// Numbers for hostile messages: small ones, and those at the edges.
pub struct Numbers(Stream);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Numbers(Seed(seed).decide(&[]).stream())
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0.random_range(0..bound)
    }

    pub fn any(&mut self) -> u64 {
        match self.below(8) {
            0 => u64::MAX - self.below(3),
            1 => u64::MAX / 2 + self.below(3),
            2 => 0,
            _ => self.below(12),
        }
    }

    pub fn flag(&mut self) -> bool {
        self.0.random()
    }
}

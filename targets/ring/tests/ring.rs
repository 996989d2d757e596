//! The ring in scripts and under random schedules.

use std::collections::BTreeSet;
use std::time::Duration;

use duress_machine::{Asker, Effect, Effects, Input, Machine, NodeId, Reading, RequestId};
use duress_ring::api::{Ask, Granted, Refusal, Request};
use duress_ring::{Config, Message, Ring, Tick};
use proptest::prelude::*;

const LEASE: u64 = 100;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A few nodes on a network that delivers within `delay`, one step a millisecond.
struct Cluster {
    nodes: Vec<Ring>,
    now: u64,
    /// When, a number that keeps them apart, from, to.
    flying: Vec<(u64, NodeId, NodeId, Message)>,
    timers: Vec<Option<u64>>,
    /// Whoever stands still.
    still: BTreeSet<usize>,
    answers: Vec<(u64, u64, Result<Granted, Refusal>)>,
    delays: Box<dyn Iterator<Item = u64>>,
    effects: Effects<Ring>,
}

impl Cluster {
    fn new(nodes: u16, delays: impl Iterator<Item = u64> + 'static) -> Cluster {
        let config =
            Config { nodes, regenerate_after: ms(400), pass_after: ms(10), retry_after: ms(50), wait: ms(250) };
        let mut cluster = Cluster {
            nodes: (0..nodes).map(|node| Ring::new(&config, NodeId(node))).collect(),
            now: 0,
            flying: Vec::new(),
            timers: vec![None; nodes.into()],
            still: BTreeSet::new(),
            answers: Vec::new(),
            delays: Box::new(delays),
            effects: Effects::default(),
        };
        for node in 0..nodes.into() {
            cluster.step(node, Input::Started { recovered: Vec::new() });
        }
        cluster
    }

    fn step(&mut self, node: usize, input: Input<Ring>) {
        let now = Reading { wall: ms(self.now), monotonic: ms(self.now) };
        self.nodes[node].step(input, now, &mut self.effects);
        let mut written = 0;
        let mut sync = false;
        for effect in self.effects.drain().collect::<Vec<_>>() {
            match effect {
                Effect::Send { to, message } => {
                    let delay = self.delays.next().unwrap_or(1).max(1);
                    self.flying.push((self.now + delay, NodeId(node as u16), to, message));
                }
                Effect::SetTimer { after, .. } => self.timers[node] = Some(self.now + after.as_millis() as u64),
                Effect::Append { .. } => written += 1,
                Effect::Sync => sync = true,
                Effect::Respond { id, response } => self.answers.push((self.now, id.0, response.result)),
                _ => {}
            }
        }
        let _ = written;
        if sync {
            self.step(node, Input::Durable { through: u64::MAX });
        }
    }

    fn run(&mut self, lasts: u64) {
        for _ in 0..lasts {
            self.now += 1;
            let still = self.still.clone();
            let due = |message: &(u64, NodeId, NodeId, Message), now| {
                message.0 <= now && !still.contains(&usize::from(message.2.0))
            };
            let now = self.now;
            let (arrived, flying) = std::mem::take(&mut self.flying).into_iter().partition(|message| due(message, now));
            self.flying = flying;
            let arrived: Vec<_> = arrived;
            for (_, from, to, message) in arrived {
                self.step(usize::from(to.0), Input::Message { from, message });
            }
            for node in 0..self.nodes.len() {
                if self.timers[node].is_some_and(|at| at <= now) && !self.still.contains(&node) {
                    self.step(node, Input::Timer(Tick));
                }
            }
        }
    }

    fn ask(&mut self, node: usize, id: u64, ask: Ask) {
        let request = Request { who: Asker { client: id, sequence: 1 }, ask };
        self.step(node, Input::Request { id: RequestId(id), request });
    }

    fn acquire(&mut self, node: usize, id: u64) {
        self.ask(node, id, Ask::Acquire { lock: "l".into(), lease: ms(LEASE) });
    }

    fn answer(&self, id: u64) -> Option<Result<Granted, Refusal>> {
        self.answers.iter().find(|answer| answer.1 == id).map(|answer| answer.2)
    }

    fn token(&self, id: u64) -> u64 {
        match self.answer(id) {
            Some(Ok(Granted::Token(token))) => token,
            other => panic!("{id}: {other:?} at {}", self.now),
        }
    }
}

fn quick(nodes: u16) -> Cluster {
    let mut cluster = Cluster::new(nodes, std::iter::repeat(1));
    cluster.run(300);
    cluster
}

#[test]
fn everybody_gets_it_by_turns() {
    let mut ring = quick(3);
    let mut last = 0;
    for turn in 0..9 {
        ring.acquire(turn % 3, turn as u64);
        ring.run(200);
        let token = ring.token(turn as u64);
        assert!(token > last, "{token} after {last}");
        last = token;
    }
    assert_eq!(last >> 32, 3, "one token all the time");
}

#[test]
fn a_holder_keeps_it_until_release_or_lease() {
    let mut ring = quick(3);
    ring.acquire(0, 1);
    ring.run(60);
    let token = ring.token(1);
    ring.acquire(0, 2);
    assert_eq!(ring.answer(2), Some(Err(Refusal::LockHeld)));
    ring.ask(0, 1, Ask::Renew { lock: "l".into(), token: token + 1, lease: ms(LEASE) });
    assert_eq!(ring.answers.last().unwrap().2, Err(Refusal::NotHolder));
    ring.ask(0, 1, Ask::Renew { lock: "l".into(), token, lease: ms(LEASE) });
    assert_eq!(ring.answers.last().unwrap().2, Ok(Granted::Done));
    ring.ask(1, 1, Ask::Release { lock: "l".into(), token });
    assert_eq!(ring.answers.last().unwrap().2, Err(Refusal::Elsewhere(Some(NodeId(0)))));
    ring.ask(0, 1, Ask::Release { lock: "l".into(), token });
    assert_eq!(ring.answers.last().unwrap().2, Ok(Granted::Done));
    ring.acquire(2, 3);
    ring.run(100);
    assert!(ring.token(3) > token);
    ring.run(LEASE);
    ring.acquire(1, 4);
    ring.run(100);
    assert!(ring.token(4) > ring.token(3));
}

#[test]
fn a_dead_successor_is_skipped() {
    let mut ring = quick(3);
    ring.still.insert(1);
    ring.run(1500);
    for (id, node) in [(1, 2), (2, 0)] {
        ring.acquire(node, id);
        ring.run(240);
        ring.token(id);
        ring.run(LEASE);
    }
}

/// The flaw that examples/ring-pause.yaml shows: two holders, and numbers that tell them apart.
#[test]
fn a_holder_that_stands_still_is_not_waited_for() {
    let mut ring = quick(3);
    ring.ask(0, 1, Ask::Acquire { lock: "l".into(), lease: ms(60_000) });
    ring.run(60);
    ring.still.insert(0);
    ring.run(1000);
    ring.acquire(1, 2);
    ring.run(200);
    let (old, new) = (ring.token(1), ring.token(2));
    assert!(new >> 32 > old >> 32);
    ring.still.clear();
    ring.run(200);
    ring.ask(0, 1, Ask::Release { lock: "l".into(), token: old });
    assert_eq!(ring.answers.last().unwrap().2, Err(Refusal::NotHolder));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// While nobody stands still and messages come soon, holdings don't overlap and numbers grow.
    #[test]
    fn one_at_a_time(
        nodes in 2..6u16,
        delays in prop::collection::vec(1..12u64, 50..200),
        asks in prop::collection::vec((0..6usize, 1..60u64), 10..60),
    ) {
        let mut ring = Cluster::new(nodes, delays.into_iter().cycle());
        ring.run(500);
        for (id, (node, after)) in asks.into_iter().enumerate() {
            ring.acquire(node % usize::from(nodes), id as u64);
            ring.run(after);
        }
        ring.run(600);
        let mut last = (0, 0);
        for (at, _, result) in &ring.answers {
            if let Ok(Granted::Token(token)) = result {
                prop_assert!(*token > last.1, "{token} after {}", last.1);
                prop_assert!(last.1 == 0 || *at >= last.0 + LEASE, "at {at}, after {}", last.0);
                last = (*at, *token);
            }
        }
        prop_assert!(last.1 > 0);
    }

    /// Whoever stands still whenever: numbers grow from grants that are over to those asked for later.
    #[test]
    fn numbers_grow_regardless(
        delays in prop::collection::vec(1..80u64, 50..200),
        steps in prop::collection::vec((0..3usize, 1..300u64, any::<bool>()), 10..60),
    ) {
        let mut ring = Cluster::new(3, delays.into_iter().cycle());
        ring.run(500);
        let mut asked = Vec::new();
        for (id, (node, after, pause)) in steps.into_iter().enumerate() {
            if pause {
                ring.still.clear();
                ring.still.insert((node + 1) % 3);
            }
            let node = if ring.still.contains(&node) { (node + 1) % 3 } else { node };
            asked.push(ring.now);
            ring.acquire(node, id as u64);
            ring.run(after);
        }
        let grants: Vec<(u64, u64, u64)> = ring.answers.iter().filter_map(|(at, id, result)| match result {
            Ok(Granted::Token(token)) => Some((asked[*id as usize], *at, *token)),
            _ => None,
        }).collect();
        for earlier in &grants {
            for later in grants.iter().filter(|later| later.0 > earlier.1) {
                prop_assert!(later.2 > earlier.2, "{later:?} after {earlier:?}");
            }
        }
    }
}

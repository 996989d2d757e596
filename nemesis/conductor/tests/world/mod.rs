//! A world that does nothing to nobody, and in which everything takes its time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use duress_conductor::{Conductor, Departure, Found, NodeSight, Order, Script, Sight, Wake};
use duress_fault::{Effect, Host, HostHarm, Resolved, Timed};
use duress_history::Stage;
use duress_seed::Seed;

/// Something that the world did.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Seen {
    MainOver,
    Applied { number: u64, resolved: Resolved },
    Undone { number: u64 },
    Struck { number: u64, node: usize },
}

/// Something that happens by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Coming {
    Wake(Wake),
    /// The world has something of its own happen.
    Chance(u64),
    /// A node that was told to start has.
    Started(usize),
}

pub(crate) struct World {
    pub(crate) conductor: Conductor,
    pub(crate) faults: Vec<Timed>,
    pub(crate) nodes: Vec<Host>,
    pub(crate) clients: Vec<Host>,
    pub(crate) seed: Seed,
    pub(crate) story: Vec<Seen>,
    pub(crate) records: Vec<Order>,
    pub(crate) last_record: u64,
    /// Nothing happens by itself, and nothing takes time.
    quiet: bool,
    now: u64,
    calendar: BTreeSet<(u64, u64, Coming)>,
    count: u64,
    up: Vec<bool>,
    leads: Vec<Option<u64>>,
    /// Faults that keep a node down.
    down: BTreeMap<usize, BTreeSet<u64>>,
}

pub(crate) fn holds_down(resolved: &Resolved) -> bool {
    let Effect::Hosts(harm) = resolved.effect else { return false };
    harm.takes_down() || matches!(harm, HostHarm::Stop | HostHarm::CrashLoop { .. })
}

impl World {
    pub(crate) fn new(faults: Vec<Timed>, seed: u64, heal_first: Option<usize>) -> World {
        let names = |letter: &str, count| (1..=count).map(|n| format!("{letter}{n}").into()).collect::<Vec<Host>>();
        let (nodes, clients, seed) = (names("n", 5), names("c", 2), Seed(seed));
        let script =
            Script { nodes: nodes.clone(), clients: clients.clone(), faults: faults.clone(), seed, heal_first };
        World {
            conductor: Conductor::new(script),
            faults,
            nodes,
            clients,
            seed,
            story: Vec::new(),
            records: Vec::new(),
            last_record: 0,
            quiet: false,
            now: 0,
            calendar: BTreeSet::new(),
            count: 0,
            up: vec![true; 5],
            leads: vec![Some(1), None, None, None, None],
            down: BTreeMap::new(),
        }
    }

    pub(crate) fn quiet(faults: Vec<Timed>, seed: u64) -> World {
        World { quiet: true, ..World::new(faults, seed, None) }
    }

    pub(crate) fn heal_first(&mut self, first: usize) {
        let (nodes, clients, faults) = (self.nodes.clone(), self.clients.clone(), self.faults.clone());
        self.conductor = Conductor::new(Script { nodes, clients, faults, seed: self.seed, heal_first: Some(first) });
    }

    /// A number that the world has drawn.
    fn draw(&mut self, below: u64) -> u64 {
        self.count += 1;
        self.seed.decide(&[99, self.count]).below(below)
    }

    /// Time passes while the world does something, unless it is a quiet one.
    fn takes_time(&mut self) {
        if !self.quiet {
            self.now += self.draw(300_000_000);
        }
    }

    fn at(&mut self, at: u64, what: Coming) {
        self.count += 1;
        self.calendar.insert((at, self.count, what));
    }

    pub(crate) fn begin(&mut self) {
        let orders = self.conductor.begin(self.now);
        self.follow(orders);
    }

    pub(crate) fn main_over(&mut self) {
        self.story.push(Seen::MainOver);
        let orders = self.conductor.main_over(true, self.now);
        self.follow(orders);
        let orders = self.conductor.heal_all();
        self.follow(orders);
    }

    pub(crate) fn end_hold(&mut self) {
        let orders = self.conductor.end_hold();
        self.follow(orders);
    }

    pub(crate) fn run(&mut self, lasts: Duration) {
        self.begin();
        if !self.quiet {
            (0..40).for_each(|n| self.at(n * 150_000_000, Coming::Chance(n)));
        }
        let end = self.now + lasts.as_nanos() as u64;
        self.until(end);
        self.main_over();
        // Nodes start, and what still waits is of no use any more.
        self.until(end + 20_000_000_000);
        self.end_hold();
        self.until(end + 60_000_000_000);
        let orders = self.conductor.operator();
        self.follow(orders);
        self.until(u64::MAX);
    }

    /// Whatever is under way comes to its end.
    pub(crate) fn settle(&mut self) {
        self.until(u64::MAX);
    }

    fn until(&mut self, end: u64) {
        while let Some((at, number, what)) = self.calendar.first().copied().filter(|(at, ..)| *at < end) {
            self.calendar.remove(&(at, number, what));
            self.now = self.now.max(at);
            match what {
                Coming::Wake(wake) => {
                    let orders = self.conductor.wake(wake);
                    self.follow(orders);
                }
                Coming::Chance(_) => self.something_happens(),
                Coming::Started(node) => self.started(node),
            }
        }
    }

    fn something_happens(&mut self) {
        let node = self.draw(5) as usize;
        match self.draw(5) {
            0 if self.up[node] => {
                let term = 2 + self.draw(9);
                self.leads[node] = Some(term);
                let orders = self.conductor.role(node, "leader", true, term, self.now);
                self.follow(orders);
            }
            1 if self.up[node] => {
                self.leads[node] = None;
                let orders = self.conductor.role(node, "follower", false, 1, self.now);
                self.follow(orders);
            }
            2 => self.shut_off(node, (node + 1) % 5),
            3 if self.up[node] => {
                self.dies(node);
                let orders = self.conductor.left(node, Departure::Exit("it ended".into()), self.now);
                self.follow(orders);
            }
            _ => {
                let orders = self.conductor.operation(self.now);
                self.follow(orders);
            }
        }
    }

    pub(crate) fn shut_off(&mut self, node: usize, by: usize) {
        if self.up[node] {
            self.dies(node);
            let orders = self.conductor.left(node, Departure::Fenced { by, gone: true }, self.now);
            self.follow(orders);
            let orders = self.conductor.settled(node);
            self.follow(orders);
        }
    }

    fn dies(&mut self, node: usize) {
        self.up[node] = false;
        self.leads[node] = None;
        let orders = self.conductor.down(node, self.now);
        self.follow(orders);
    }

    fn start(&mut self, node: usize) {
        let takes = if self.quiet { 0 } else { self.draw(200_000_000) };
        self.at(self.now + takes, Coming::Started(node));
    }

    fn started(&mut self, node: usize) {
        let well = self.down.get(&node).is_none_or(BTreeSet::is_empty);
        if well {
            self.up[node] = true;
            let orders = self.conductor.runs(node, Ok(()));
            self.follow(orders);
        }
        let orders = self.conductor.settled(node);
        self.follow(orders);
    }

    fn follow(&mut self, orders: Vec<Order>) {
        for order in orders {
            let more = self.obey(order);
            self.follow(more);
        }
    }

    fn victims(&self, resolved: &Resolved) -> Vec<usize> {
        resolved.hosts.iter().filter_map(|host| self.nodes.iter().position(|node| node == host)).collect()
    }

    fn obey(&mut self, order: Order) -> Vec<Order> {
        match order {
            Order::Wait { at, wake } => {
                assert!(at >= self.now, "a wait for what is over");
                self.at(at, Coming::Wake(wake));
                Vec::new()
            }
            Order::Look { number } => {
                let node = |(up, leads): (&bool, &Option<u64>)| NodeSight { runs: *up, leads: *leads };
                let nodes = self.up.iter().zip(&self.leads).map(node).collect();
                let holder = if self.quiet { None } else { Some(1) };
                self.conductor.choose(number, &Sight { nodes, holder }, self.now)
            }
            Order::Apply { number, resolved } => {
                if !self.quiet && self.draw(20) == 0 && self.faults.iter().any(|timed| timed.number == number) {
                    return self.conductor.refused(number, "it can't be done", self.now);
                }
                self.takes_time();
                self.story.push(Seen::Applied { number, resolved: resolved.clone() });
                let Effect::Hosts(harm) = resolved.effect else {
                    return self.conductor.applied(number, Vec::new(), self.now);
                };
                for node in self.victims(&resolved) {
                    if harm.takes_down() {
                        self.down.entry(node).or_default().insert(number);
                        if self.up[node] {
                            self.dies(node);
                        }
                    } else if let HostHarm::CrashLoop { .. } = harm {
                        let orders = self.conductor.struck(number, node, self.now);
                        self.follow(orders);
                    }
                }
                self.conductor.applied(number, Vec::new(), self.now)
            }
            Order::Measure { number, stage } => {
                self.takes_time();
                let mut found = Found::default();
                found.claim(("it is as claimed".into(), stage == Stage::Start || self.draw(4) > 0));
                self.conductor.measured(number, stage, found, self.now)
            }
            Order::Undo { number } => {
                self.takes_time();
                self.story.push(Seen::Undone { number });
                let resolved = self.conductor.fault(number).map(|one| one.resolved.clone()).expect("it is in force");
                let mut awaiting = Vec::new();
                for node in self.victims(&resolved) {
                    self.down.entry(node).or_default().remove(&number);
                    if !self.up[node] {
                        self.start(node);
                        awaiting.push(node);
                    }
                }
                self.conductor.undone(number, awaiting, self.now)
            }
            Order::Strike { number, node } => {
                self.story.push(Seen::Struck { number, node });
                self.conductor.struck(number, node, self.now)
            }
            Order::Start { node } => {
                self.start(node);
                Vec::new()
            }
            record => {
                self.records.push(record);
                self.last_record = self.now;
                Vec::new()
            }
        }
    }
}

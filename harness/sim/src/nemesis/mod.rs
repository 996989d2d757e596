//! The nemesis: obeys the [conductor](duress_conductor), which has faults applied, measured and
//! undone.
//!
//! The evidence is found by looking at what the faults act upon, not at what the nemesis believes
//! to have done.

mod clocks;
mod coverage;
mod hosts;
mod links;
mod processes;

use std::collections::BTreeMap;

use duress_conductor::{Found, InForce, NodeSight, Order, Sight};
use duress_fault::{Effect, Resolved};
use duress_history::{EventKind, FaultEvent, Host, Stage};
use smol_str::SmolStr;

use crate::event::Event;
use crate::state::Running;

pub(crate) type Measured = BTreeMap<SmolStr, f64>;

impl Running<'_> {
    /// A host's number: the nodes first, then the client hosts.
    pub(crate) fn host(&self, name: &Host) -> Option<usize> {
        let names = self.plan.nodes.iter().chain(&self.plan.clients);
        names.into_iter().position(|host| host == name)
    }

    /// What is seen of the cluster at this moment.
    fn sight(&self) -> Sight {
        let leads = |status: duress_machine::Status| status.role.leads().then_some(status.term);
        let nodes = self.s.nodes.iter().map(|node| NodeSight { runs: node.up(), leads: node.report.and_then(leads) });
        Sight { nodes: nodes.collect(), holder: self.holder() }
    }

    /// Does what the conductor orders, one after the other, and what follows from each before the
    /// next.
    pub(crate) fn follow(&mut self, orders: Vec<Order>) {
        for order in orders {
            self.obey(order);
        }
    }

    fn obey(&mut self, order: Order) {
        let now = self.s.now;
        let orders = match order {
            Order::Wait { at, wake } => return self.at(at, Event::Conduct(wake)),
            Order::Fault(event) => return self.fault_event(event),
            Order::Evidence(evidence) => return self.record(EventKind::Evidence(evidence)),
            Order::GaveUp { kind } => return self.s.coverage.count(kind, "nobody", "not injected"),
            Order::Start { node } => return self.start_node(node as u16),
            Order::Strike { number, node } => return self.ends_life(number, node as u16),
            Order::Look { number } => self.s.conductor.choose(number, &self.sight(), now),
            Order::Apply { number, resolved } => {
                let before = self.apply(number, &resolved);
                self.s.conductor.applied(number, before, now)
            }
            Order::Measure { number, stage } => {
                let Some(one) = self.s.conductor.fault(number).cloned() else { return };
                let found = self.measure(&one, stage);
                self.s.conductor.measured(number, stage, found, now)
            }
            Order::Undo { number } => {
                let awaiting = self.undo(number);
                self.s.conductor.undone(number, awaiting, now)
            }
        };
        self.follow(orders);
        self.all_healed();
    }

    /// Applies a fault; returns what was not as it should be before.
    fn apply(&mut self, number: u64, resolved: &Resolved) -> Vec<String> {
        self.cover(resolved);
        let harmed_before = self.harmed_on(&self.links_of(resolved));
        self.s.harmed_before.insert(number, harmed_before);
        let before = self.measure_before(resolved);
        match resolved.effect {
            Effect::Links(harm) => self.harm_links(resolved, harm),
            Effect::Hosts(harm) => {
                for host in self.victims(resolved) {
                    self.strike(number, host, harm);
                }
            }
        }
        before
    }

    fn victims(&self, resolved: &Resolved) -> Vec<usize> {
        resolved.hosts.iter().filter_map(|host| self.host(host)).collect()
    }

    /// Undoes a fault; returns the nodes that start because of it.
    fn undo(&mut self, number: u64) -> Vec<usize> {
        let Some(resolved) = self.s.conductor.fault(number).map(|one| one.resolved.clone()) else { return Vec::new() };
        match resolved.effect {
            Effect::Links(harm) => {
                self.mend_links(&resolved, harm);
                Vec::new()
            }
            Effect::Hosts(harm) => {
                let mut victims = self.victims(&resolved);
                victims.retain(|host| self.relieve(number, *host, harm));
                victims
            }
        }
    }

    /// A node has started, or will not: faults that wait for it to be healed go on.
    pub(crate) fn node_is_back(&mut self, node: u16, well: bool) {
        let place = usize::from(node);
        if well && self.s.nodes[place].up() {
            let orders = self.s.conductor.runs(place, Ok(()));
            self.follow(orders);
        }
        let orders = self.s.conductor.settled(place);
        self.follow(orders);
        self.drained();
    }

    fn fault_event(&mut self, event: FaultEvent) {
        self.s.digest.word(event.fault);
        self.trace(32, event.stage as u64);
        self.record(EventKind::Fault(event));
    }

    /// What is not as it should be before a fault is applied.
    fn measure_before(&self, resolved: &Resolved) -> Vec<String> {
        let mut wrong = self.wrong_links(resolved);
        if resolved.links.is_empty() {
            for node in self.victims(resolved).into_iter().filter(|host| *host < self.plan.nodes.len()) {
                let state = &self.s.nodes[node];
                // One that another fault holds down is as it should be.
                if !state.up() && state.crashed_by == 0 && !state.starting && !state.halted {
                    wrong.push(format!("the process of {} is gone", self.plan.nodes[node]));
                }
            }
        }
        wrong
    }

    /// Looks at what a stage of a fault claims.
    fn measure(&mut self, one: &InForce, stage: Stage) -> Found {
        let harm = match one.resolved.effect {
            Effect::Links(harm) => return self.measure_links(one, harm, stage),
            Effect::Hosts(harm) => harm,
        };
        let mut found = Found::default();
        for host in self.victims(&one.resolved) {
            let claim = self.measure_host(one, harm, host, stage, &mut found.figures);
            found.claim(claim);
        }
        found
    }
}

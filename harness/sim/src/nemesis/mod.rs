//! The nemesis: injects faults, shows that each took effect, and heals them.
//!
//! The twin of the real one: whom a fault hits is decided at the moment of injection, from what
//! the nodes say of themselves; a fault that finds nobody tries again for a while; each leaves a
//! start, an end and the evidence for both in the history. The evidence is found by looking at
//! what the faults act upon, not at what the nemesis believes to have done.

mod clocks;
mod coverage;
mod hosts;
mod links;
mod processes;

use std::collections::{BTreeMap, BTreeSet};

use duress_fault::{Effect, HeldBack, Lookout, Resolved, Turn, View};
use duress_history::{EventKind, Evidence, FaultEvent, Host, Stage};
use smol_str::SmolStr;

use crate::SimPlan;
use crate::event::Event;
use crate::phases::PATIENCE;
use crate::plan::nanos;
use crate::state::{InForce, Running};

/// A fault that finds nobody to hit looks again after this long, in nanoseconds.
const AGAIN: u64 = 5_000_000;

pub(crate) type Measured = BTreeMap<SmolStr, f64>;

impl Running<'_> {
    /// A host's number: the nodes first, then the client hosts.
    fn host(&self, name: &Host) -> Option<usize> {
        let names = self.plan.nodes.iter().chain(&self.plan.clients);
        names.into_iter().position(|host| host == name)
    }

    fn view(&self) -> View {
        let mut primaries: Vec<(u64, usize)> = Vec::new();
        for (at, node) in self.s.nodes.iter().enumerate() {
            if let Some(status) = node.report.filter(|status| status.role.leads()) {
                primaries.push((status.term, at));
            }
        }
        primaries.sort_by_key(|(term, _)| std::cmp::Reverse(*term));
        let (nodes, clients) = (&self.plan.nodes, &self.plan.clients);
        // A node that something else has shut off is down as well: there is no process to hit.
        let down_nodes =
            self.s.nodes.iter().zip(nodes).filter(|(node, _)| !node.up() || node.paused_by > 0 || node.wants.looping());
        let down_clients = self.s.hosts.iter().zip(clients).filter(|(host, _)| host.paused_by > 0);
        let down: BTreeSet<Host> =
            down_nodes.map(|(_, name)| name.clone()).chain(down_clients.map(|(_, name)| name.clone())).collect();
        View {
            nodes: nodes.clone(),
            clients: clients.clone(),
            primaries: primaries.into_iter().map(|(_, at)| nodes[at].clone()).collect(),
            holder: self.holder().map(|client| clients[client].clone()),
            down,
        }
    }

    /// Tells the lookout what is seen; the faults that this fires come when their delays are over.
    pub(crate) fn seen(&mut self, what: impl FnOnce(&mut Lookout, &SimPlan) -> Vec<u64>) {
        if self.s.lookout.is_idle() {
            return;
        }
        for number in what(&mut self.s.lookout, self.plan) {
            let Some(place) = self.plan.schedule.iter().position(|timed| timed.number == number) else { continue };
            self.s.fired.insert(place as u32);
            let timed = &self.plan.schedule[place];
            self.come(place as u32, self.s.now.saturating_add(nanos(timed.at)));
        }
    }

    /// A fault is to be injected at this moment, or as soon after as there is whom to hit.
    pub(crate) fn come(&mut self, place: u32, at: u64) {
        let patience = self.plan.schedule[place as usize].lasts.max(PATIENCE);
        self.at(at, Event::Inject { fault: place, until: at.saturating_add(nanos(patience)) });
    }

    /// The main phase is over: faults that still wait are on record as not injected.
    pub(crate) fn give_up_waiting(&mut self) {
        let plan = self.plan;
        for (place, timed) in plan.schedule.iter().enumerate() {
            let Some(trigger) = &timed.when else { continue };
            if self.s.lookout.waiting().any(|number| number == timed.number) {
                self.not_injected(place as u32, &format!("it waited in vain for its trigger ({trigger})"));
            } else if self.s.fired.contains(&(place as u32)) {
                self.not_injected(place as u32, "the main phase was over before its time came");
            }
        }
        self.s.lookout = Lookout::default();
        self.s.fired.clear();
    }

    /// A fault that hit nobody is on record as not proven.
    fn not_injected(&mut self, place: u32, why: &str) {
        let timed = &self.plan.schedule[place as usize];
        let (number, kind) = (timed.number, timed.fault.kind().name());
        let what = format!("{kind}: not injected: {why}");
        for stage in [Stage::Start, Stage::End] {
            let (what, hosts, links) = (what.clone(), Vec::new(), Vec::new());
            self.fault_event(FaultEvent { fault: number, stage, kind: kind.into(), what, hosts, links });
        }
        self.evidence(number, Stage::Start, false, what, Measured::new());
        self.s.coverage.count(kind, "nobody", "not injected");
    }

    /// A fault's time has come.
    pub(crate) fn inject(&mut self, place: u32, until: u64) {
        if !self.in_main() {
            return;
        }
        let timed = &self.plan.schedule[place as usize];
        let seed = self.plan.seed.derive("nemesis");
        match timed.fault.resolve(&self.view(), seed, timed.number) {
            Ok(resolved) => {
                self.s.fired.remove(&place);
                self.apply(timed.number, Some(place), resolved);
            }
            // A primary or a holder may be there in a moment.
            Err(why) if why.may_pass() && self.s.now < until => {
                self.after(AGAIN, Event::Inject { fault: place, until });
            }
            Err(why) => {
                self.s.fired.remove(&place);
                self.not_injected(place, &why.to_string());
            }
        }
    }

    /// Keeps the nodes away that are not healed first, if there are any.
    pub(crate) fn hold_the_rest(&mut self) {
        let plan = self.plan;
        let held = plan
            .heal_first
            .and_then(|first| HeldBack::draw(&plan.nodes, &plan.clients, first, plan.seed.derive("heal")));
        if let Some(held) = &held {
            let number = self.next_unscheduled();
            self.apply(number, None, held.fault.clone());
        }
        self.s.held = held;
    }

    /// Whether all that is in force is what holds the rest of the nodes back.
    pub(crate) fn only_the_rest_is_held(&self) -> bool {
        matches!(&self.s.in_force[..], [one] if one.place.is_none() && !one.healing)
    }

    /// The nodes that must serve while the rest is held back.
    pub(crate) fn healed_first(&self) -> Vec<usize> {
        let healed = self.s.held.iter().flat_map(|held| &held.healed);
        healed.filter_map(|node| self.host(node)).collect()
    }

    fn apply(&mut self, number: u64, place: Option<u32>, resolved: Resolved) {
        self.cover(&resolved);
        let harmed_before = self.harmed_on(&self.links_of(&resolved));
        let before = self.measure_before(&resolved);
        match resolved.effect {
            Effect::Links(harm) => self.harm_links(&resolved, harm),
            Effect::Hosts(harm) => {
                for host in self.victims(&resolved) {
                    self.strike(number, host, harm);
                }
            }
        }
        let event = event_of(number, Stage::Start, &resolved);
        self.fault_event(event);
        let in_force =
            InForce { number, place, resolved, harmed_before, healing: false, awaiting: Vec::new(), healed_at: 0 };
        let (proven, during, measured) = self.measure(&in_force, Stage::Start);
        let what = match before.is_empty() {
            true => format!("before: as it should be; {during}"),
            false => format!("before: {}; {during}", before.join(", ")),
        };
        self.evidence(number, Stage::Start, proven && before.is_empty(), what, measured);
        self.s.in_force.push(in_force);
        if let Some(place) = place {
            self.after(nanos(self.plan.schedule[place as usize].lasts), Event::Heal { fault: place });
        }
    }

    fn victims(&self, resolved: &Resolved) -> Vec<usize> {
        resolved.hosts.iter().filter_map(|host| self.host(host)).collect()
    }

    /// A fault's time is over.
    pub(crate) fn heal(&mut self, place: u32) {
        if let Some(at) = self.s.in_force.iter().position(|one| one.place == Some(place) && !one.healing) {
            self.heal_at(at);
        }
    }

    /// Heals what is in force at this place in the list, which isn't being healed yet.
    pub(crate) fn heal_at(&mut self, at: usize) {
        let (fault, resolved) = (self.s.in_force[at].number, self.s.in_force[at].resolved.clone());
        let mut awaiting = Vec::new();
        match resolved.effect {
            Effect::Links(harm) => self.mend_links(&resolved, harm),
            Effect::Hosts(harm) => {
                for host in self.victims(&resolved) {
                    if self.relieve(fault, host, harm) {
                        awaiting.push(host as u16);
                    }
                }
            }
        }
        let event = event_of(self.s.in_force[at].number, Stage::End, &self.s.in_force[at].resolved);
        self.fault_event(event);
        let now = self.s.now;
        let one = &mut self.s.in_force[at];
        one.healing = true;
        one.awaiting = awaiting;
        one.healed_at = now;
        self.healed_if_all_are_back();
    }

    /// A node has started, or will not: faults that wait for it to be healed go on.
    pub(crate) fn node_is_back(&mut self, node: u16, well: bool) {
        if well
            && self.s.nodes[usize::from(node)].up()
            && let Some((fault, kind)) = self.s.nodes[usize::from(node)].down_by.take()
        {
            let name = self.plan.nodes[usize::from(node)].clone();
            self.unscheduled_event(fault, Stage::End, kind, node, format!("{name} is started again"));
            self.evidence(fault, Stage::End, true, format!("{name} answers"), Measured::new());
        }
        let mut awaited = false;
        for one in &mut self.s.in_force {
            let before = one.awaiting.len();
            one.awaiting.retain(|awaited| *awaited != node);
            awaited |= one.awaiting.len() < before;
        }
        if awaited {
            self.healed_if_all_are_back();
        }
        self.drained();
    }

    fn healed_if_all_are_back(&mut self) {
        while let Some(at) = self.s.in_force.iter().position(|one| one.healing && one.awaiting.is_empty()) {
            let one = self.s.in_force.remove(at);
            let (proven, what, measured) = self.measure(&one, Stage::End);
            self.evidence(one.number, Stage::End, proven, what, measured);
            if self.s.in_force.is_empty() {
                self.operator();
            }
        }
        self.all_healed();
    }

    /// The operator comes by and starts what the cluster itself shut off, unless there is trouble.
    pub(crate) fn operator(&mut self) {
        if !self.s.in_force.is_empty() {
            return;
        }
        for node in 0..self.s.nodes.len() {
            if self.s.nodes[node].down_by.is_some() {
                self.start_node(node as u16);
            }
        }
    }

    fn fault_event(&mut self, event: FaultEvent) {
        self.s.digest.word(event.fault);
        self.trace(32, event.stage as u64);
        let turn = if event.stage == Stage::Start { Turn::Starts } else { Turn::Ends };
        self.seen(|lookout, _| lookout.fault(event.fault, turn));
        self.record(EventKind::Fault(event));
    }

    pub(crate) fn next_unscheduled(&mut self) -> u64 {
        self.s.next_unscheduled += 1;
        self.s.next_unscheduled
    }

    pub(crate) fn unscheduled_event(&mut self, fault: u64, stage: Stage, kind: &'static str, node: u16, what: String) {
        let hosts = vec![self.plan.nodes[usize::from(node)].clone()];
        let kind = SmolStr::new_static(kind);
        self.fault_event(FaultEvent { fault, stage, kind, what, hosts, links: Vec::new() });
    }

    pub(crate) fn evidence(&mut self, fault: u64, stage: Stage, proven: bool, what: String, measured: Measured) {
        self.record(EventKind::Evidence(Evidence { fault, stage, proven, what, measured }));
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
    fn measure(&mut self, one: &InForce, stage: Stage) -> (bool, String, Measured) {
        let harm = match one.resolved.effect {
            Effect::Links(harm) => return self.measure_links(one, harm, stage),
            Effect::Hosts(harm) => harm,
        };
        let mut wrong = Vec::new();
        let mut seen = Vec::new();
        let mut figures = Measured::new();
        for host in self.victims(&one.resolved) {
            let (claim, ok) = self.measure_host(one, harm, host, stage, &mut figures);
            if ok { seen.push(claim) } else { wrong.push(claim) }
        }
        if seen.is_empty() && wrong.is_empty() {
            wrong.push("the fault hit nothing".into());
        }
        let proven = wrong.is_empty();
        (proven, if proven { seen } else { wrong }.join(", "), figures)
    }
}

fn event_of(number: u64, stage: Stage, resolved: &Resolved) -> FaultEvent {
    FaultEvent {
        fault: number,
        stage,
        kind: SmolStr::new_static(resolved.kind),
        what: resolved.what.clone(),
        hosts: resolved.hosts.clone(),
        links: resolved.links.iter().cloned().collect(),
    }
}

//! The nemesis: injects faults, shows that each took effect, and heals them.
//!
//! The twin of the real one: whom a fault hits is decided at the moment of injection, from what
//! the nodes say of themselves; a fault that finds nobody tries again for a while; each leaves a
//! start, an end and the evidence for both in the history. The evidence is found by looking at
//! what the faults act upon, not at what the nemesis believes to have done.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use duress_fault::{Effect, HeldBack, Lookout, Resolved, Turn, View};
use duress_history::{EventKind, Evidence, FaultEvent, Host, Stage};
use duress_machine::client::Answer;
use duress_machine::{Machine, Role};
use smol_str::SmolStr;

use crate::event::Event;
use crate::faults::Deed;
use crate::node::role_name;
use crate::phases::{PATIENCE, nanos};
use crate::world::{InForce, Running};
use crate::{Service, SimPlan};

/// A fault that finds nobody to hit looks again after this long, in nanoseconds.
const AGAIN: u64 = 5_000_000;

type Measured = BTreeMap<SmolStr, f64>;

impl<M: Machine, S: Service<M>> Running<'_, '_, M, S>
where
    M::Response: Answer,
{
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
        let down_nodes = self.s.nodes.iter().zip(nodes).filter(|(node, _)| !node.up() || node.paused_by > 0);
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
        let (number, kind) = (timed.number, timed.fault.kind());
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
            Ok((resolved, deed)) => {
                self.s.fired.remove(&place);
                self.apply(timed.number, Some(place), resolved, deed);
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
            let deed = if held.fault.effect == Effect::Cut { Deed::Cut } else { Deed::Kill };
            let number = self.next_unscheduled();
            self.apply(number, None, held.fault.clone(), deed);
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

    fn links_of(&self, resolved: &Resolved) -> Vec<(usize, usize)> {
        let ends = |(from, to): &(Host, Host)| Some((self.host(from)?, self.host(to)?));
        resolved.links.iter().filter_map(ends).collect()
    }

    fn dropped_on(&self, links: &[(usize, usize)]) -> u64 {
        links.iter().map(|(from, to)| self.s.links.dropped[self.s.links.link(*from, *to)]).sum()
    }

    fn apply(&mut self, number: u64, place: Option<u32>, resolved: Resolved, deed: Deed) {
        self.cover(&resolved, deed);
        let links = self.links_of(&resolved);
        let dropped_before = self.dropped_on(&links);
        let before = self.measure_before(&resolved);
        for (from, to) in &links {
            let link = self.s.links.link(*from, *to);
            match deed {
                Deed::Delay(by) => self.s.links.delay(link, by),
                _ => self.s.links.cut(link),
            }
        }
        if links.is_empty() {
            for host in self.victims(&resolved) {
                self.strike(host, deed);
            }
        }
        let event = event_of(number, Stage::Start, &resolved);
        self.fault_event(event);
        let in_force = InForce {
            number,
            place,
            resolved,
            deed,
            dropped_before,
            healing: false,
            awaiting: Vec::new(),
            healed_at: 0,
        };
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

    /// Does a fault's deed to one host.
    fn strike(&mut self, host: usize, deed: Deed) {
        let nodes = self.plan.nodes.len();
        let now = self.s.now;
        if let Some(client) = host.checked_sub(nodes) {
            match deed {
                Deed::Stop => {
                    self.s.hosts[client].paused_by += 1;
                    self.stop_client(client);
                }
                Deed::ClockJump(by) => self.s.hosts[client].clock.jump(by),
                Deed::ClockRate(ppm) => {
                    let clock = &mut self.s.hosts[client].clock;
                    clock.set_rate(clock.ppm() + ppm, now);
                }
                _ => {}
            }
            return;
        }
        let node = host as u16;
        match deed {
            Deed::Kill | Deed::PowerLoss => {
                self.s.nodes[host].crashed_by += 1;
                self.kill(node, deed == Deed::PowerLoss);
                self.node_is_back(node, true);
            }
            Deed::Stop => {
                let state = &mut self.s.nodes[host];
                state.paused_by += 1;
                state.stopped = state.up();
            }
            Deed::SlowDisk(by) => self.s.nodes[host].disk.slower += by,
            Deed::FullDisk => self.s.nodes[host].disk.full = true,
            Deed::ClockJump(by) => self.s.nodes[host].clock.jump(by),
            Deed::ClockRate(ppm) => {
                let ppm = self.s.nodes[host].clock.ppm() + ppm;
                self.set_node_rate(node, ppm);
            }
            Deed::SlowNode(by) => self.s.nodes[host].slow += by,
            Deed::Cut | Deed::Delay(_) => {}
        }
    }

    /// Undoes it. Returns whether the host has to start.
    fn relieve(&mut self, host: usize, deed: Deed) -> bool {
        let nodes = self.plan.nodes.len();
        let now = self.s.now;
        if let Some(client) = host.checked_sub(nodes) {
            match deed {
                Deed::Stop => {
                    let state = &mut self.s.hosts[client];
                    state.paused_by -= 1;
                    if state.paused_by == 0 {
                        self.resume_client(client);
                    }
                }
                Deed::ClockJump(by) => self.s.hosts[client].clock.jump(-by),
                Deed::ClockRate(ppm) => {
                    let clock = &mut self.s.hosts[client].clock;
                    clock.set_rate(clock.ppm() - ppm, now);
                }
                _ => {}
            }
            return false;
        }
        let node = host as u16;
        let state = &mut self.s.nodes[host];
        match deed {
            Deed::Kill | Deed::PowerLoss => state.crashed_by -= 1,
            Deed::Stop => {
                state.paused_by -= 1;
                if state.paused_by == 0 {
                    self.resume(node);
                }
            }
            Deed::SlowDisk(by) => state.disk.slower -= by,
            Deed::FullDisk => state.disk.full = false,
            Deed::ClockJump(by) => state.clock.jump(-by),
            Deed::ClockRate(ppm) => {
                let ppm = state.clock.ppm() - ppm;
                self.set_node_rate(node, ppm);
            }
            Deed::SlowNode(by) => state.slow -= by,
            Deed::Cut | Deed::Delay(_) => {}
        }
        if !matches!(deed, Deed::Kill | Deed::PowerLoss | Deed::FullDisk) || self.s.nodes[host].crashed_by > 0 {
            return false;
        }
        self.start_node(node);
        self.s.nodes[host].starting
    }

    /// A fault's time is over.
    pub(crate) fn heal(&mut self, place: u32) {
        if let Some(at) = self.s.in_force.iter().position(|one| one.place == Some(place) && !one.healing) {
            self.heal_at(at);
        }
    }

    /// Heals what is in force at this place in the list, which isn't being healed yet.
    pub(crate) fn heal_at(&mut self, at: usize) {
        let (links, deed, hosts) = {
            let one = &self.s.in_force[at];
            (self.links_of(&one.resolved), one.deed, self.victims(&one.resolved))
        };
        for (from, to) in &links {
            let link = self.s.links.link(*from, *to);
            match deed {
                Deed::Delay(by) => self.s.links.undelay(link, by),
                _ => self.s.links.mend(link),
            }
        }
        let mut awaiting = Vec::new();
        if links.is_empty() {
            for host in hosts {
                if self.relieve(host, deed) {
                    awaiting.push(host as u16);
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
        let mut wrong = Vec::new();
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
        if !one.resolved.links.is_empty() {
            return self.measure_links(one, stage);
        }
        let mut wrong = Vec::new();
        let mut seen = Vec::new();
        for host in self.victims(&one.resolved) {
            let (claim, ok) = self.measure_host(one, host, stage);
            if ok { seen.push(claim) } else { wrong.push(claim) }
        }
        if seen.is_empty() && wrong.is_empty() {
            wrong.push("the fault hit nothing".into());
        }
        let proven = wrong.is_empty();
        (proven, if proven { seen } else { wrong }.join(", "), Measured::new())
    }

    /// Sends a probe along each of the fault's links.
    fn measure_links(&mut self, one: &InForce, stage: Stage) -> (bool, String, Measured) {
        let mut wrong = Vec::new();
        let (mut silent, mut arrived) = (0, 0);
        let links = self.links_of(&one.resolved);
        for (from, to) in &links {
            let others = self.s.in_force.iter().filter(|other| other.deed == Deed::Cut && !other.healing);
            let cut_by_others = others
                .map(|other| &other.resolved.links)
                .any(|links| links.iter().any(|(a, b)| self.host(a) == Some(*from) && self.host(b) == Some(*to)));
            let cut = cut_by_others || (stage == Stage::Start && one.deed == Deed::Cut);
            let reached = self.s.links.passes(*from, *to);
            *(if reached { &mut arrived } else { &mut silent }) += 1;
            let link = self.s.links.link(*from, *to);
            let delayed = self.s.links.delay_of(link);
            if reached == cut {
                let claim = if reached { "carries frames though it is cut" } else { "is silent though it is open" };
                wrong.push(format!("link {from} -> {to} {claim}"));
            } else if let (Deed::Delay(by), Stage::Start) = (one.deed, stage)
                && delayed < by
            {
                wrong.push(format!("link {from} -> {to} is delayed by {:?} only", Duration::from_nanos(delayed)));
            }
        }
        let dropped = self.dropped_on(&links) - one.dropped_before;
        let mut measured = Measured::new();
        measured.insert(SmolStr::new_static("links"), links.len() as f64);
        measured.insert(SmolStr::new_static("frames_dropped"), dropped as f64);
        measured.insert(SmolStr::new_static("probes_arrived"), f64::from(arrived));
        measured.insert(SmolStr::new_static("probes_silent"), f64::from(silent));
        let proven = wrong.is_empty();
        let what = match (proven, stage) {
            (false, _) => wrong.join(", "),
            (true, Stage::Start) => format!("probes: {silent} links silent, {arrived} open, all as claimed"),
            (true, Stage::End) => format!("probes: the links carry frames again; {dropped} frames were dropped"),
        };
        (proven, what, measured)
    }

    /// The state of one host against what is claimed of it.
    fn measure_host(&self, one: &InForce, host: usize, stage: Stage) -> (String, bool) {
        let nodes = self.plan.nodes.len();
        let now = self.s.now;
        let name = match host.checked_sub(nodes) {
            None => &self.plan.nodes[host],
            Some(client) => &self.plan.clients[client],
        };
        let clock = match host.checked_sub(nodes) {
            None => &self.s.nodes[host].clock,
            Some(client) => &self.s.hosts[client].clock,
        };
        let start = stage == Stage::Start;
        match one.deed {
            Deed::ClockJump(_) => {
                let ahead = clock.offset(now);
                (format!("the wall clock of {name} is {} ms ahead", ahead / 1_000_000), true)
            }
            Deed::ClockRate(_) => (format!("the clocks of {name} run {} ppm fast", clock.ppm()), true),
            Deed::SlowDisk(by) => {
                let slower = self.s.nodes.get(host).map_or(0, |node| node.disk.slower);
                let words = format!("a sync of {name} takes {:?} longer", Duration::from_nanos(slower));
                (words, !start || slower >= by)
            }
            Deed::SlowNode(by) => {
                let slow = self.s.nodes.get(host).map_or(0, |node| node.slow);
                (format!("{name} takes {:?} for an input", Duration::from_nanos(slow)), !start || slow >= by)
            }
            Deed::FullDisk if start => {
                (format!("the disk of {name} is full"), self.s.nodes.get(host).is_some_and(|node| node.disk.full))
            }
            _ => self.measure_process(one, host, name, stage),
        }
    }

    fn measure_process(&self, one: &InForce, host: usize, name: &Host, stage: Stage) -> (String, bool) {
        let Some(node) = self.s.nodes.get(host) else {
            let client = &self.s.hosts[host - self.plan.nodes.len()];
            let state = if client.stopped { "stopped" } else { "running" };
            return (format!("the process of {name} is {state}"), client.stopped == (client.paused_by > 0));
        };
        let restarted = stage == Stage::End && one.deed != Deed::Stop && node.crashed_by == 0;
        if restarted && node.up() {
            let took = Duration::from_nanos(self.s.now - one.healed_at);
            return (format!("{name} answers again after {} ms", took.as_millis()), true);
        }
        let state = match (node.up(), node.stopped) {
            (false, _) => "gone",
            (true, true) => "stopped",
            (true, false) => "running",
        };
        let expected =
            match (node.crashed_by > 0 || node.down_by.is_some() || node.halted || node.starting, node.paused_by > 0) {
                (true, _) => "gone",
                (false, true) => "stopped",
                (false, false) => "running",
            };
        (format!("the process of {name} is {state}"), state == expected)
    }

    /// Counts whom a fault meets in which situation.
    fn cover(&mut self, resolved: &Resolved, deed: Deed) {
        let nodes = self.plan.nodes.len();
        let roles: Vec<Option<Role>> =
            self.s.nodes.iter().map(|node| node.status(self.s.now).map(|status| status.role)).collect();
        let when = self.situation(&roles);
        let role = |host: usize| match roles.get(host) {
            None => "client",
            Some(None) => "dead node",
            Some(Some(role)) => role_name(*role),
        };
        let links = self.links_of(resolved);
        if links.is_empty() {
            for host in self.victims(resolved) {
                self.s.coverage.count(resolved.kind, role(host), when);
            }
            return;
        }
        // A node that can't hear a majority of the nodes, itself included, is isolated.
        for node in 0..nodes {
            let loses = |to: usize| links.iter().filter(|(a, b)| *b == node && *a < to).count();
            let hit = links.iter().any(|(from, to)| *from == node || *to == node);
            let isolated = deed == Deed::Cut && (nodes - loses(nodes)) * 2 <= nodes;
            if isolated {
                self.s.coverage.count("isolated", role(node), when);
            } else if hit {
                self.s.coverage.count(resolved.kind, role(node), when);
            }
        }
    }

    /// What the cluster is doing.
    fn situation(&self, roles: &[Option<Role>]) -> &'static str {
        let any = |wanted: Role| roles.iter().flatten().any(|role| *role == wanted);
        let leaders = roles.iter().flatten().filter(|role| role.leads()).count();
        let leaderless = any(Role::Replica);
        if any(Role::Candidate) {
            "during an election"
        } else if leaders > 1 {
            "with two leaders"
        } else if leaders == 0 && !leaderless {
            "without a leader"
        } else if any(Role::Recovering) {
            "while a node recovers"
        } else if self.s.busy_slots > 0 {
            "with operations under way"
        } else {
            "at rest"
        }
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

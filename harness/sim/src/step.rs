//! What reaches nodes, and what their machines want done.

use duress_fault::DiskHarm;
use duress_history::{EventKind, Fact, NodeReport};
use duress_machine::{NodeId, Observation, RequestId, Status};
use smol_str::SmolStr;

use crate::event::{Event, NodeInput};
use crate::fleet::{Effect, Input};
use crate::host::{Timer, role_name, stands_still};
use crate::node::CONTROL;
use crate::plan::nanos;
use crate::state::{Running, about, kind};
use crate::watch::Happening;

impl Running<'_> {
    /// Something reaches a node's host.
    pub(crate) fn node_arrives(&mut self, node: u16, input: NodeInput) {
        let now = self.s.now;
        let state = &mut self.s.nodes[usize::from(node)];
        if !state.up() {
            return self.nobody_there(node, input);
        }
        if state.stopped {
            return state.inbox.push_back(input);
        }
        let wait = stands_still(&state.slow, node, now);
        if wait > 0 || state.waking {
            state.inbox.push_back(input);
            if !state.waking {
                state.waking = true;
                let life = state.life;
                self.after(wait, Event::Wake { node, life });
            }
            return;
        }
        self.node_input(node, input);
    }

    fn nobody_there(&mut self, node: u16, input: NodeInput) {
        match input {
            NodeInput::Message { message, .. } => {
                self.s.stats.dropped += 1;
                self.fleet.free(message);
            }
            NodeInput::Request { seat, attempt, request, .. } => {
                self.fleet.free(request);
                self.refuse_connection(node, seat, attempt);
            }
            _ => {}
        }
    }

    /// The node handles all that waits.
    pub(crate) fn node_wakes(&mut self, node: u16, life: u32) {
        loop {
            let state = &mut self.s.nodes[usize::from(node)];
            if !state.up() || state.life != life {
                return;
            }
            if state.stopped {
                state.waking = false;
                return;
            }
            let Some(input) = state.inbox.pop_front() else {
                state.waking = false;
                return;
            };
            self.node_input(node, input);
        }
    }

    /// A standstill ends.
    pub(crate) fn resume(&mut self, node: u16) {
        let state = &mut self.s.nodes[usize::from(node)];
        if std::mem::take(&mut state.stopped) && !state.waking && !state.inbox.is_empty() {
            state.waking = true;
            let life = state.life;
            self.after(0, Event::Wake { node, life });
        }
    }

    fn node_input(&mut self, node: u16, input: NodeInput) {
        let (id, place) = (NodeId(node), usize::from(node));
        let life_now = self.s.nodes[place].life;
        match input {
            NodeInput::Message { from, life, message } => {
                if life != 0 && life != life_now {
                    self.s.stats.dropped += 1;
                    return self.fleet.free(message);
                }
                let from = NodeId(from);
                self.trace(kind::MESSAGE, u64::from(from.0) << 16 | u64::from(node));
                self.show(|fleet| Happening::Received { from, to: id, message: fleet.show(&message) });
                self.step(node, Input::Message { from, message });
            }
            NodeInput::Timer { life, setting } => {
                if life == life_now {
                    self.timer(node, setting);
                }
            }
            NodeInput::Synced { life, through } => {
                if life != life_now {
                    return;
                }
                self.trace(kind::SYNCED, u64::from(node));
                self.s.digest.word(through);
                if self.s.nodes[place].disk.is(DiskHarm::SyncFails) {
                    return self.halt(node, "stopped by a failed sync");
                }
                if let Some(next) = self.s.nodes[place].disk.synced(self.fleet) {
                    self.begin_sync(node, next);
                }
                self.show(|_| Happening::Synced { node: id, through });
                self.step(node, Input::Durable { through });
            }
            NodeInput::Request { life, seat, attempt, request } => {
                if life != life_now {
                    self.fleet.free(request);
                    return self.refuse_connection(node, seat, attempt);
                }
                self.trace(kind::REQUEST, u64::from(seat) << 16 | u64::from(node));
                self.show(|fleet| Happening::Request { node: id, request: fleet.show(&request) });
                self.s.next_request = self.s.next_request.wrapping_add(1);
                let id = RequestId(
                    u64::from(self.s.next_request) << 32 | u64::from(seat & 0xffff) << 16 | u64::from(attempt & 0xffff),
                );
                self.step(node, Input::Request { id, request });
            }
            NodeInput::Fenced { life, victim } => {
                if life == life_now {
                    self.trace(kind::FENCED, u64::from(node));
                    self.step(node, Input::Fenced { node: NodeId(victim) });
                }
            }
        }
    }

    fn timer(&mut self, node: u16, setting: u32) {
        let now = self.s.now;
        let state = &mut self.s.nodes[usize::from(node)];
        let Some(at) = state.timers.iter().position(|timer| timer.setting == setting) else { return };
        let Timer { number, deadline, .. } = state.timers[at];
        if state.clock.monotonic(now) < deadline {
            // The clock is slower than when that was reckoned.
            let (when, life) = (state.clock.when(deadline, now), state.life);
            return self.at(when, Event::Node { node, input: NodeInput::Timer { life, setting } });
        }
        state.timers.swap_remove(at);
        self.trace(kind::TIMER, u64::from(node));
        self.show(|fleet| Happening::Timer { node: NodeId(node), timer: fleet.show_timer(NodeId(node), number) });
        self.step(node, Input::Timer(number));
    }

    /// The node's clocks have changed, and its timers go by them.
    pub(crate) fn wait_anew(&mut self, node: u16) {
        let now = self.s.now;
        let state = &mut self.s.nodes[usize::from(node)];
        let life = state.life;
        for timer in &mut state.timers {
            state.settings += 1;
            timer.setting = state.settings;
            let input = NodeInput::Timer { life, setting: timer.setting };
            self.s.calendar.push(state.clock.when(timer.deadline, now), Event::Node { node, input });
        }
    }

    fn begin_sync(&mut self, node: u16, through: u64) {
        let state = &mut self.s.nodes[usize::from(node)];
        state.disk.syncs += 1;
        let (syncs, slower, life) = (state.disk.syncs, nanos(state.disk.slower()), state.life);
        let takes = self.s.sync.draw(self.decide(about::SYNC, u64::from(node), syncs)) + slower;
        self.after(takes, Event::Node { node, input: NodeInput::Synced { life, through } });
    }

    /// A node handles an input, and what it wants is done.
    fn step(&mut self, node: u16, input: Input) {
        let state = &self.s.nodes[usize::from(node)];
        if !state.up() {
            return;
        }
        self.s.stats.steps += 1;
        let mut effects = std::mem::take(&mut self.s.effects);
        self.s.stepping = Some(node);
        self.fleet.step(NodeId(node), input, state.clock.read(self.s.now), &mut self.s.digest, &mut effects);
        self.s.stepping = None;
        self.perform_all(node, effects);
    }

    /// A node's first step: it gets what its disk has kept.
    pub(crate) fn starts(&mut self, node: u16) {
        let state = &self.s.nodes[usize::from(node)];
        self.s.stats.steps += 1;
        let mut effects = std::mem::take(&mut self.s.effects);
        self.s.stepping = Some(node);
        let now = state.clock.read(self.s.now);
        self.fleet.start(NodeId(node), &mut state.disk.records(), now, &mut effects);
        self.s.stepping = None;
        self.perform_all(node, effects);
    }

    #[inline(always)]
    fn perform_all(&mut self, node: u16, mut effects: Vec<Effect>) {
        for effect in effects.drain(..) {
            self.perform(node, effect);
        }
        self.s.effects = effects;
    }

    fn perform(&mut self, node: u16, effect: Effect) {
        let place = usize::from(node);
        let now = self.s.now;
        match effect {
            Effect::Send { to, message } => {
                if usize::from(to.0) < self.s.nodes.len() && to.0 != node {
                    self.send(place, usize::from(to.0), message);
                } else {
                    self.fleet.free(message);
                }
            }
            Effect::SetTimer { timer: number, after } => {
                let state = &mut self.s.nodes[place];
                state.settings += 1;
                let setting = state.settings;
                let deadline = state.clock.monotonic(now) + nanos(after);
                let timer = Timer { number, setting, deadline };
                match state.timers.iter_mut().find(|set| set.number == number) {
                    Some(set) => *set = timer,
                    None => state.timers.push(timer),
                }
                let (when, life) = (state.clock.when(deadline, now), state.life);
                self.at(when, Event::Node { node, input: NodeInput::Timer { life, setting } });
            }
            Effect::CancelTimer { timer } => self.s.nodes[place].timers.retain(|set| set.number != timer),
            Effect::Append { record } => match self.may_write(node) {
                true => self.s.nodes[place].disk.append(record),
                false => self.fleet.free(record),
            },
            Effect::Rewrite { records } => match self.may_write(node) {
                true => self.s.nodes[place].disk.rewrite(records),
                false => records.into_iter().for_each(|record| self.fleet.free(record)),
            },
            Effect::Sync => {
                if self.s.nodes[place].up()
                    && let Some(through) = self.s.nodes[place].disk.sync()
                {
                    self.begin_sync(node, through);
                }
            }
            Effect::Respond { id, response } => {
                let (seat, attempt) = ((id.0 >> 16 & 0xffff) as u32, (id.0 & 0xffff) as u32);
                self.show(|fleet| Happening::Answer { node: NodeId(node), response: fleet.show(&response) });
                self.send_answer(node, seat, attempt, 0, response);
            }
            Effect::Observe(Observation::Status(status)) => self.heard(node, status),
            Effect::Observe(Observation::Committed { index, digest }) => {
                let report = NodeReport {
                    node: self.plan.nodes[place].clone(),
                    role: None,
                    leads: false,
                    term: None,
                    leader: None,
                    index: Some(index),
                    digest: Some(digest),
                };
                self.record(EventKind::Observation(report));
            }
            Effect::Observe(Observation::Fact { what, value }) => {
                let fact = Fact { node: self.plan.nodes[place].clone(), what, value };
                self.record(EventKind::Fact(fact));
            }
            Effect::Fence { node: victim } => {
                let life = self.s.nodes[place].life;
                let takes = self.decide(about::FENCE, u64::from(node), self.s.stats.steps).below(4 * CONTROL);
                self.after(CONTROL + takes, Event::Fence { asker: node, life, victim: victim.0 });
            }
        }
    }

    /// Whether a node's disk takes another write. A node whose disk doesn't stops, as the real one
    /// does after a failed write.
    fn may_write(&mut self, node: u16) -> bool {
        let state = &self.s.nodes[usize::from(node)];
        if state.up() && state.disk.refuses() {
            self.halt(
                node,
                if state.disk.is(DiskHarm::Full) { "stopped by a full disk" } else { "stopped by a read-only disk" },
            );
        }
        self.s.nodes[usize::from(node)].up()
    }

    /// Keeps and records what a node says of itself.
    pub(crate) fn heard(&mut self, node: u16, status: Status) {
        let state = &mut self.s.nodes[usize::from(node)];
        if !state.up() {
            return;
        }
        let said = |status: &Status| (status.role, status.term, status.leader);
        let changed = state.report.as_ref().is_none_or(|last| said(last) != said(&status));
        state.report = Some(status);
        if changed {
            let report = self.node_report(node, &status);
            self.record(EventKind::Observation(report));
            let (role, now) = (status.role, self.s.now);
            let orders = self.s.conductor.role(node.into(), role_name(role), role.leads(), status.term, now);
            self.follow(orders);
            self.somebody_reported(node, &status);
        }
    }

    fn node_report(&self, node: u16, status: &Status) -> NodeReport {
        NodeReport {
            node: self.plan.nodes[usize::from(node)].clone(),
            role: Some(SmolStr::new_static(role_name(status.role))),
            leads: status.role.leads(),
            term: Some(status.term),
            leader: status.leader.and_then(|leader| self.plan.nodes.get(usize::from(leader.0)).cloned()),
            index: Some(status.commit_index),
            digest: Some(status.digest),
        }
    }
}

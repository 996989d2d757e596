//! Nodes: their processes, their inputs, and the effects of their machines.

use std::collections::VecDeque;

use duress_conductor::{Departure, Fencing};
use duress_fault::{DiskHarm, SLICE, Share};
use duress_history::{EventKind, NodeReport};
use duress_machine::client::Answer;
use duress_machine::{Effect, Input, Machine, NodeId, Observation, RequestId, Role, Status};
use duress_seed::Decision;
use smol_str::SmolStr;

use crate::Service;
use crate::clock::Clock;
use crate::disk::{Disk, Left};
use crate::event::{ClientInput, Event, NodeInput};
use crate::nemesis::{Wants, least};
use crate::phases::nanos;
use crate::plan::Crash;
use crate::watch::Happening;
use crate::world::{Running, about};

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// It is killed; what it wrote is with the operating system.
    Killed,
    /// Its host loses its power. What was not synced is lost.
    PowerLoss {
        /// Some of that may survive.
        torn: bool,
    },
}

/// One node: its host's clocks and disk, and its process, if it has one.
#[derive(Debug)]
pub(crate) struct Node<M: Machine> {
    /// The process. `None`: it is down.
    pub(crate) machine: Option<M>,
    /// Which process this is, from one.
    pub(crate) life: u32,
    /// Counts starts that were asked for; only the last one counts.
    pub(crate) starts: u32,
    /// A start is under way.
    pub(crate) starting: bool,
    /// The process stands still.
    pub(crate) stopped: bool,
    /// What waits to be handled: in a standstill, or until a slow node has its next turn.
    pub(crate) inbox: VecDeque<NodeInput<M>>,
    /// Somebody comes to look at the inbox.
    pub(crate) waking: bool,
    /// The shares of the processor's time that faults leave it.
    pub(crate) slow: Vec<Share>,
    /// How often it has come back under another address.
    pub(crate) moves: u32,
    /// What faults leave its process too little of.
    pub(crate) wants: Wants,
    /// Timers that are set: with the number of the setting, and when by the node's own clock.
    timers: Vec<(M::Timer, u32, u64)>,
    settings: u32,
    pub(crate) disk: Disk<M::Record>,
    pub(crate) clock: Clock,
    /// What it last said of itself in this life.
    pub(crate) report: Option<Status>,
    /// How many faults keep it down, and how many keep it stopped.
    pub(crate) crashed_by: u32,
    pub(crate) paused_by: u32,
    /// It stopped because its disk is broken.
    pub(crate) halted: bool,
    crashes: u64,
}

impl<M: Machine> Default for Node<M> {
    fn default() -> Self {
        Node {
            machine: None,
            life: 0,
            starts: 0,
            starting: false,
            stopped: false,
            inbox: VecDeque::new(),
            waking: false,
            slow: Vec::new(),
            moves: 0,
            wants: Wants::default(),
            timers: Vec::new(),
            settings: 0,
            disk: Disk::default(),
            clock: Clock::default(),
            report: None,
            crashed_by: 0,
            paused_by: 0,
            halted: false,
            crashes: 0,
        }
    }
}

impl<M: Machine> Node<M> {
    /// A new host in old memory.
    pub(crate) fn reset(&mut self) {
        let mut inbox = std::mem::take(&mut self.inbox);
        let mut timers = std::mem::take(&mut self.timers);
        let mut disk = std::mem::take(&mut self.disk);
        inbox.clear();
        timers.clear();
        disk.clear();
        *self = Node { inbox, timers, disk, ..Node::default() };
    }

    pub(crate) fn up(&self) -> bool {
        self.machine.is_some()
    }

    pub(crate) fn status(&self, now: u64) -> Option<Status> {
        Some(self.machine.as_ref()?.status(self.clock.read(now)))
    }
}

pub(crate) fn role_name(role: Role) -> &'static str {
    match role {
        Role::Recovering => "recovering",
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
        Role::Backup => "backup",
        Role::Primary => "primary",
        Role::Replica => "replica",
    }
}

/// Kinds of events in the trace's hash.
mod kind {
    pub(super) const MESSAGE: u64 = 1;
    pub(super) const TIMER: u64 = 2;
    pub(super) const SYNCED: u64 = 3;
    pub(super) const REQUEST: u64 = 4;
    pub(super) const FENCED: u64 = 5;
    pub(super) const STARTED: u64 = 6;
    pub(super) const DOWN: u64 = 7;
}

/// The controller takes this long to shut a node off, or to say that it did, in nanoseconds.
const CONTROL: u64 = 1_000_000;

impl<M: Machine, S: Service<M>> Running<'_, '_, M, S>
where
    M::Response: Answer,
{
    /// Begins to start a node's process, unless there is one.
    pub(crate) fn start_node(&mut self, node: u16) {
        let state = &mut self.s.nodes[usize::from(node)];
        if state.up() || state.starting {
            return;
        }
        state.starting = true;
        state.starts += 1;
        let start = state.starts;
        let takes = self.s.startup.draw(self.decide(about::STARTUP, u64::from(node), u64::from(start)));
        self.after(takes, Event::Started { node, start });
    }

    /// A node's process has started.
    pub(crate) fn started(&mut self, node: u16, start: u32) {
        let place = usize::from(node);
        let corrupted = self.decide(about::CORRUPT, u64::from(node), u64::from(start));
        let config = self.config;
        let state = &mut self.s.nodes[place];
        if !state.starting || state.starts != start {
            return;
        }
        state.starting = false;
        if state.disk.is_closed() {
            state.halted = true;
            return self.node_is_back(node, false);
        }
        if self.plan.disk.corruption > 0.0 && corrupted.chance(self.plan.disk.corruption) {
            let which = self.s.seed.decide(&[about::CORRUPT, u64::from(node), u64::from(start), 1]);
            state.disk.corrupt(which, |bytes| M::read_log(config, bytes));
        }
        state.life += 1;
        state.clock.restart(self.s.now);
        let (left, recovered) = state.disk.start(|bytes| M::read_log(config, bytes));
        if state.life > 1 {
            self.s.coverage.count("restart", "node", left.words());
        }
        self.trace(kind::STARTED, u64::from(node));
        let Some(recovered) = recovered else {
            match self.s.nodes[place].disk.is_flipped() {
                // It may when the damage is mended.
                true => self.s.nodes[place].halted = true,
                false => self.exits(node, "can't start: its log is damaged"),
            }
            self.node_is_back(node, false);
            return;
        };
        self.s.stepping = Some(node);
        let machine = M::new(self.config, NodeId(node));
        self.s.stepping = None;
        let state = &mut self.s.nodes[place];
        state.machine = Some(machine);
        state.halted = false;
        state.stopped = false;
        state.waking = false;
        state.inbox.clear();
        state.timers.clear();
        state.report = None;
        self.show(Happening::Started { node: NodeId(node), records: recovered.len() });
        self.s.digest.word(recovered.len() as u64);
        debug_assert!(left != Left::Damaged);
        self.connect_node(place);
        self.step(node, Input::Started { recovered });
        let state = &self.s.nodes[place];
        if let (None, Some(status)) = (&state.report, state.status(self.s.now)) {
            self.heard(node, status);
        }
        self.node_is_back(node, true);
    }

    /// Ends a node's process, and what its host does for it.
    fn end_process(&mut self, node: u16) -> bool {
        let place = usize::from(node);
        let state = &mut self.s.nodes[place];
        let was_starting = std::mem::take(&mut state.starting);
        state.starts += 1;
        if state.machine.take().is_none() {
            return was_starting;
        }
        state.stopped = false;
        state.inbox.clear();
        state.timers.clear();
        state.report = None;
        self.trace(kind::DOWN, u64::from(node));
        let orders = self.s.conductor.down(place, self.s.now);
        self.follow(orders);
        self.show(Happening::Down { node: NodeId(node) });
        self.disconnect_node(place);
        self.reset_attempts(node);
        true
    }

    /// Kills a node, if it runs.
    pub(crate) fn kill(&mut self, node: u16, death: Death) {
        if !self.end_process(node) {
            if let Death::PowerLoss { .. } = death {
                // What a killed process left with the operating system goes as well.
                self.s.nodes[usize::from(node)].disk.power_loss();
            }
            return;
        }
        let state = &mut self.s.nodes[usize::from(node)];
        state.crashes += 1;
        let crashes = state.crashes;
        let [how, place] = [0, 1].map(|what| self.decide(about::CRASH, u64::from(node) << 1 | what, crashes));
        let power = match self.plan.disk.crash {
            Crash::Kill => false,
            Crash::Power => true,
            Crash::Either => self.decide(about::POWER, u64::from(node), crashes).chance(0.5),
        };
        let config = self.config;
        let disk = &mut self.s.nodes[usize::from(node)].disk;
        match death {
            Death::PowerLoss { torn: false } => disk.power_loss(),
            Death::Killed if !power => disk.kill(how),
            _ => disk.tear(how, place, |bytes| M::read_log(config, bytes)),
        }
    }

    /// A node's process ends by itself, and nobody asked it to.
    pub(crate) fn exits(&mut self, node: u16, why: &str) {
        self.kill(node, Death::Killed);
        let what = format!("{} {why}", self.plan.nodes[usize::from(node)]);
        let orders = self.s.conductor.left(node.into(), Departure::Exit(what), self.s.now);
        self.follow(orders);
    }

    /// Something reaches a node's host.
    pub(crate) fn node_arrives(&mut self, node: u16, input: NodeInput<M>) {
        let now = self.s.now;
        let state = &mut self.s.nodes[usize::from(node)];
        if state.machine.is_none() {
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

    fn nobody_there(&mut self, node: u16, input: NodeInput<M>) {
        match input {
            NodeInput::Message { .. } => self.s.stats.dropped += 1,
            NodeInput::Request { seat, attempt, .. } => self.refuse_connection(node, seat, attempt),
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

    fn node_input(&mut self, node: u16, input: NodeInput<M>) {
        let place = usize::from(node);
        let life_now = self.s.nodes[place].life;
        match input {
            NodeInput::Message { from, life, message } => {
                if life != 0 && life != life_now {
                    self.s.stats.dropped += 1;
                    return;
                }
                self.trace(kind::MESSAGE, u64::from(from) << 16 | u64::from(node));
                self.s.digest.contents(&message);
                self.show(Happening::Received { from: NodeId(from), to: NodeId(node), message: &message });
                self.step(node, Input::Message { from: NodeId(from), message });
            }
            NodeInput::Timer { life, timer, generation } => {
                if life == life_now {
                    self.timer(node, timer, generation);
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
                if let Some(next) = self.s.nodes[place].disk.synced() {
                    self.begin_sync(node, next);
                }
                self.show(Happening::Synced { node: NodeId(node), through });
                self.step(node, Input::Durable { through });
            }
            NodeInput::Request { life, seat, attempt, request } => {
                if life != life_now {
                    return self.refuse_connection(node, seat, attempt);
                }
                self.trace(kind::REQUEST, u64::from(seat) << 16 | u64::from(node));
                self.s.digest.contents(&request);
                self.show(Happening::Request { node: NodeId(node), request: &request });
                self.s.next_request = self.s.next_request.wrapping_add(1);
                let id = RequestId(
                    u64::from(self.s.next_request) << 32 | u64::from(seat & 0xffff) << 16 | u64::from(attempt & 0xffff),
                );
                self.step(node, Input::Request { id, request: *request });
            }
            NodeInput::Fenced { life, victim } => {
                if life == life_now {
                    self.trace(kind::FENCED, u64::from(node));
                    self.step(node, Input::Fenced { node: NodeId(victim) });
                }
            }
        }
    }

    fn timer(&mut self, node: u16, timer: M::Timer, generation: u32) {
        let now = self.s.now;
        let state = &mut self.s.nodes[usize::from(node)];
        let Some(at) = state.timers.iter().position(|(set, number, _)| *number == generation && *set == timer) else {
            return;
        };
        let deadline = state.timers[at].2;
        if state.clock.monotonic(now) < deadline {
            // The clock is slower than when that was reckoned.
            let (when, life) = (state.clock.when(deadline, now), state.life);
            return self.at(when, Event::Node { node, input: NodeInput::Timer { life, timer, generation } });
        }
        state.timers.swap_remove(at);
        self.trace(kind::TIMER, u64::from(node));
        self.s.digest.contents(&timer);
        self.show(Happening::Timer { node: NodeId(node), timer });
        self.step(node, Input::Timer(timer));
    }

    /// The node's clocks have changed, and its timers go by them.
    pub(crate) fn wait_anew(&mut self, node: u16) {
        let now = self.s.now;
        let state = &mut self.s.nodes[usize::from(node)];
        let life = state.life;
        for at in 0..self.s.nodes[usize::from(node)].timers.len() {
            let state = &mut self.s.nodes[usize::from(node)];
            state.settings += 1;
            let (timer, generation, deadline) = &mut state.timers[at];
            *generation = state.settings;
            let input = NodeInput::Timer { life, timer: *timer, generation: *generation };
            let when = state.clock.when(*deadline, now);
            self.at(when, Event::Node { node, input });
        }
    }

    fn begin_sync(&mut self, node: u16, through: u64) {
        let state = &mut self.s.nodes[usize::from(node)];
        state.disk.syncs += 1;
        let (syncs, slower, life) = (state.disk.syncs, nanos(state.disk.slower()), state.life);
        let takes = self.s.sync.draw(self.decide(about::SYNC, u64::from(node), syncs)) + slower;
        self.after(takes, Event::Node { node, input: NodeInput::Synced { life, through } });
    }

    fn step(&mut self, node: u16, input: Input<M>) {
        let now = self.s.now;
        let state = &mut self.s.nodes[usize::from(node)];
        let Some(machine) = state.machine.as_mut() else { return };
        self.s.stats.steps += 1;
        let mut effects = std::mem::take(&mut self.s.effects);
        self.s.stepping = Some(node);
        machine.step(input, state.clock.read(now), &mut effects);
        self.s.stepping = None;
        for effect in effects.drain() {
            self.perform(node, effect);
        }
        self.s.effects = effects;
    }

    fn perform(&mut self, node: u16, effect: Effect<M>) {
        let place = usize::from(node);
        let now = self.s.now;
        match effect {
            Effect::Send { to, message } => {
                if usize::from(to.0) < self.s.nodes.len() && to.0 != node {
                    self.send(place, usize::from(to.0), message);
                }
            }
            Effect::SetTimer { timer, after } => {
                let state = &mut self.s.nodes[place];
                state.settings += 1;
                let generation = state.settings;
                let after = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX >> 2);
                let deadline = state.clock.monotonic(now) + after;
                match state.timers.iter_mut().find(|(set, ..)| *set == timer) {
                    Some(entry) => *entry = (timer, generation, deadline),
                    None => state.timers.push((timer, generation, deadline)),
                }
                let (when, life) = (state.clock.when(deadline, now), state.life);
                self.at(when, Event::Node { node, input: NodeInput::Timer { life, timer, generation } });
            }
            Effect::CancelTimer { timer } => self.s.nodes[place].timers.retain(|(set, ..)| *set != timer),
            Effect::Append { record } => {
                if self.may_write(node) {
                    self.s.nodes[place].disk.append(record);
                }
            }
            Effect::Rewrite { records } => {
                if self.may_write(node) {
                    self.s.nodes[place].disk.rewrite(records);
                }
            }
            Effect::Sync => {
                if self.s.nodes[place].up()
                    && let Some(through) = self.s.nodes[place].disk.sync()
                {
                    self.begin_sync(node, through);
                }
            }
            Effect::Respond { id, response } => {
                let (seat, attempt) = ((id.0 >> 16 & 0xffff) as u32, (id.0 & 0xffff) as u32);
                self.show(Happening::Answer { node: NodeId(node), response: &response });
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

    /// A node stops because its disk is broken.
    fn halt(&mut self, node: u16, why: &'static str) {
        let role = self.s.nodes[usize::from(node)].status(self.s.now).map_or("node", |status| role_name(status.role));
        self.s.coverage.count(why, role, "");
        self.kill(node, Death::Killed);
        self.s.nodes[usize::from(node)].halted = true;
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

    /// A node had asked for another one to be shut off: pulls the plug and tells it so.
    pub(crate) fn fence(&mut self, asker: u16, life: u32, victim: u16) {
        let (wisher, state) = (&self.s.nodes[usize::from(asker)], self.s.nodes.get(usize::from(victim)));
        let (lives, runs) = (wisher.up() && wisher.life == life, state.is_some_and(|node| node.up() || node.starting));
        match Fencing::of(self.s.nodes.len(), asker.into(), lives, victim.into(), runs) {
            Fencing::Void | Fencing::Nonsense => return,
            Fencing::ShutOff => self.shut_off(victim, asker),
            Fencing::Told => {}
        }
        self.after(CONTROL, Event::Node { node: asker, input: NodeInput::Fenced { life, victim } });
    }

    fn shut_off(&mut self, victim: u16, by: u16) {
        let place = usize::from(victim);
        let role = self.s.nodes[place].status(self.s.now).map_or("node", |status| role_name(status.role));
        self.s.coverage.count("fence", role, "");
        self.kill(victim, Death::Killed);
        let left = Departure::Fenced { by: by.into(), gone: !self.s.nodes[place].up() };
        let orders = self.s.conductor.left(place, left, self.s.now);
        self.follow(orders);
        self.node_is_back(victim, true);
    }

    /// The time until a message that was sent now on a link arrives.
    pub(crate) fn latency(&mut self, from_host: usize, to_host: usize) -> u64 {
        let link = self.s.links.link(from_host, to_host);
        let number = self.s.links.number(link);
        if self.s.links.ordinary(link, number) {
            return self.s.links.takes(link, self.s.links.latency.middle());
        }
        let decision: Decision = self.decide(about::LATENCY, self.s.links.key(link), number);
        self.s.links.takes(link, self.s.links.latency.draw(decision))
    }

    pub(crate) fn client_lost(&mut self, seat: u32, attempt: u32, after: u64) {
        self.after(after, Event::Client { seat, attempt, input: ClientInput::Lost });
    }
}

/// How long a node waits for its next turn on the processor, in nanoseconds. Of every slice it runs
/// for the least of these shares; slices of different nodes begin at different times.
fn stands_still(shares: &[Share], node: u16, now: u64) -> u64 {
    if shares.is_empty() {
        return 0;
    }
    let share = least(shares);
    let slice = SLICE.as_nanos() as u64;
    let since = (now + u64::from(node) * slice / 7) % slice;
    if since < slice / 1_000_000 * u64::from(share.parts()) { 0 } else { slice - since }
}

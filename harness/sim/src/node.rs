//! Nodes' processes: how they start and how they end.

use duress_conductor::{Departure, Fencing};
use duress_machine::NodeId;

use crate::disk::Left;
use crate::event::{Event, NodeInput};
use crate::host::role_name;
use crate::plan::Crash;
use crate::state::{Running, about, kind};
use crate::watch::Happening;

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

/// The controller takes this long to shut a node off, or to say that it did, in nanoseconds.
pub(crate) const CONTROL: u64 = 1_000_000;

impl Running<'_> {
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
        let (id, place) = (NodeId(node), usize::from(node));
        let corrupted = self.decide(about::CORRUPT, u64::from(node), u64::from(start));
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
            state.disk.corrupt(which, self.fleet);
        }
        state.life += 1;
        state.clock.restart(self.s.now);
        let left = state.disk.start(self.fleet);
        if state.life > 1 {
            self.s.coverage.count("restart", "node", left.words());
        }
        self.trace(kind::STARTED, u64::from(node));
        if left == Left::Damaged {
            match self.s.nodes[place].disk.is_flipped() {
                // It may when the damage is mended.
                true => self.s.nodes[place].halted = true,
                false => self.exits(node, "can't start: its log is damaged"),
            }
            self.node_is_back(node, false);
            return;
        }
        self.s.stepping = Some(node);
        self.fleet.create(id);
        self.s.stepping = None;
        let state = &mut self.s.nodes[place];
        state.up = true;
        state.halted = false;
        state.stopped = false;
        state.waking = false;
        state.timers.clear();
        state.report = None;
        let records = state.disk.records().len();
        self.empty_inbox(place);
        self.show(|_| Happening::Started { node: id, records });
        self.s.digest.word(records as u64);
        self.connect_node(place);
        self.starts(node);
        if let (None, Some(status)) = (&self.s.nodes[place].report, self.status(place)) {
            self.heard(node, status);
        }
        self.node_is_back(node, true);
    }

    /// What waited for a process that is gone.
    fn empty_inbox(&mut self, node: usize) {
        for input in self.s.nodes[node].inbox.drain(..) {
            if let NodeInput::Message { message: held, .. } | NodeInput::Request { request: held, .. } = input {
                self.fleet.free(held);
            }
        }
    }

    /// Ends a node's process, and what its host does for it.
    fn end_process(&mut self, node: u16) -> bool {
        let place = usize::from(node);
        let state = &mut self.s.nodes[place];
        let was_starting = std::mem::take(&mut state.starting);
        state.starts += 1;
        if !std::mem::take(&mut state.up) {
            return was_starting;
        }
        state.stopped = false;
        state.timers.clear();
        state.report = None;
        self.fleet.end(NodeId(node));
        self.empty_inbox(place);
        self.trace(kind::DOWN, u64::from(node));
        let orders = self.s.conductor.down(place, self.s.now);
        self.follow(orders);
        self.show(|_| Happening::Down { node: NodeId(node) });
        self.disconnect_node(place);
        self.reset_attempts(node);
        true
    }

    /// Kills a node, if it runs.
    pub(crate) fn kill(&mut self, node: u16, death: Death) {
        if !self.end_process(node) {
            if let Death::PowerLoss { .. } = death {
                // What a killed process left with the operating system goes as well.
                self.s.nodes[usize::from(node)].disk.power_loss(self.fleet);
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
        let disk = &mut self.s.nodes[usize::from(node)].disk;
        match death {
            Death::PowerLoss { torn: false } => disk.power_loss(self.fleet),
            Death::Killed if !power => disk.kill(how, self.fleet),
            _ => disk.tear(how, place, self.fleet),
        }
    }

    /// A node's process ends by itself, and nobody asked it to.
    pub(crate) fn exits(&mut self, node: u16, why: &str) {
        self.kill(node, Death::Killed);
        let what = format!("{} {why}", self.plan.nodes[usize::from(node)]);
        let orders = self.s.conductor.left(node.into(), Departure::Exit(what), self.s.now);
        self.follow(orders);
    }

    /// A node stops because its disk is broken.
    pub(crate) fn halt(&mut self, node: u16, why: &'static str) {
        let role = self.status(usize::from(node)).map_or("node", |status| role_name(status.role));
        self.s.coverage.count(why, role, "");
        self.kill(node, Death::Killed);
        self.s.nodes[usize::from(node)].halted = true;
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
        let role = self.status(place).map_or("node", |status| role_name(status.role));
        self.s.coverage.count("fence", role, "");
        self.kill(victim, Death::Killed);
        let left = Departure::Fenced { by: by.into(), gone: !self.s.nodes[place].up() };
        let orders = self.s.conductor.left(place, left, self.s.now);
        self.follow(orders);
        self.node_is_back(victim, true);
    }
}

//! Everything that changes during a run, and what every part of the world does with it. It must
//! not know the parts.

use std::collections::BTreeMap;
use std::time::Duration;

use duress_conductor::{Conductor, Script};
use duress_history::{Event as HistoryEvent, EventKind, Host, Time};
use duress_machine::{NodeId, Status};
use duress_seed::{Decision, Seed};
use duress_workloads::Generator;
use duress_workloads::client::Resource;

use crate::calendar::Calendar;
use crate::clock::Clock;
use crate::digest::Digest;
use crate::event::Event;
use crate::fleet::{Effect, Fleet};
use crate::host::{ClientHost, Idle, Node};
use crate::network::{Links, host_key};
use crate::plan::{Chance, Compiled};
use crate::seat::{Final, Seat};
use crate::watch::{Happening, Watch};
use crate::{Coverage, Ended, SimPlan, Stats};

/// What a decision is about: the first word of its key.
pub(crate) mod about {
    pub(crate) const LATENCY: u64 = 1;
    pub(crate) const LOSS: u64 = 2;
    pub(crate) const DUPLICATE: u64 = 3;
    pub(crate) const REORDER: u64 = 4;
    pub(crate) const SYNC: u64 = 5;
    pub(crate) const STARTUP: u64 = 6;
    pub(crate) const CRASH: u64 = 7;
    pub(crate) const POWER: u64 = 8;
    pub(crate) const CORRUPT: u64 = 9;
    pub(crate) const CLOCK: u64 = 10;
    pub(crate) const SPREAD: u64 = 11;
    pub(crate) const FENCE: u64 = 12;
    pub(crate) const AGAIN: u64 = 13;
    pub(crate) const FLIP: u64 = 14;
}

/// Kinds of events in the trace's hash.
pub(crate) mod kind {
    pub(crate) const MESSAGE: u64 = 1;
    pub(crate) const TIMER: u64 = 2;
    pub(crate) const SYNCED: u64 = 3;
    pub(crate) const REQUEST: u64 = 4;
    pub(crate) const FENCED: u64 = 5;
    pub(crate) const STARTED: u64 = 6;
    pub(crate) const DOWN: u64 = 7;
    pub(crate) const CLIENT: u64 = 16;
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nodes start; waiting until a client is answered.
    Boot,
    /// The workload runs and faults are injected.
    Main,
    /// Everything is being healed, or everything but the nodes that are held back.
    Healing,
    /// A quorum has been healed; its nodes are asked until they answer.
    Quorum,
    /// Healed; operations in progress come to their ends.
    Draining,
    /// Every node is asked until it answers.
    Recovery,
    /// The nodes' logs become equal.
    Converging,
    /// The last questions.
    Final,
}

/// Everything that changes during a run. Times are true nanoseconds since the run began.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) now: u64,
    pub(crate) seed: Seed,
    pub(crate) calendar: Calendar<Event>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) hosts: Vec<ClientHost>,
    pub(crate) seats: Vec<Seat>,
    pub(crate) links: Links,
    /// Per client host and node: connections that wait to be used again.
    pub(crate) idle: Vec<Idle>,
    /// What locks protect.
    pub(crate) resource: Resource,
    pub(crate) effects: Vec<Effect>,
    /// Decides about faults.
    pub(crate) conductor: Conductor,
    /// What had been harmed on the links of each fault before, by the faults' numbers.
    pub(crate) harmed_before: BTreeMap<u64, u64>,
    pub(crate) history: Vec<HistoryEvent>,
    pub(crate) digest: Digest,
    pub(crate) stats: Stats,
    pub(crate) coverage: Coverage,
    pub(crate) stage: Stage,
    /// Counts changes of the stage, so that an old deadline is void.
    pub(crate) stage_number: u32,
    pub(crate) main_began: u64,
    pub(crate) healed: u64,
    pub(crate) busy_slots: usize,
    pub(crate) slots_left: usize,
    pub(crate) finals: Vec<Final>,
    pub(crate) finals_asked: usize,
    pub(crate) finals_open: usize,
    pub(crate) recovery: Duration,
    pub(crate) converged: bool,
    pub(crate) next_process: u64,
    pub(crate) next_probe: u64,
    pub(crate) next_request: u32,
    pub(crate) ended: Option<Ended>,
    /// The node whose machine is at work.
    pub(crate) stepping: Option<u16>,
    pub(crate) sync: Compiled,
    pub(crate) startup: Compiled,
}

impl Default for State {
    fn default() -> Self {
        State {
            now: 0,
            seed: Seed(0),
            calendar: Calendar::default(),
            nodes: Vec::new(),
            hosts: Vec::new(),
            seats: Vec::new(),
            links: Links::default(),
            idle: Vec::new(),
            resource: Resource::default(),
            effects: Vec::new(),
            conductor: Conductor::default(),
            harmed_before: BTreeMap::new(),
            history: Vec::new(),
            digest: Digest::default(),
            stats: Stats::default(),
            coverage: Coverage::default(),
            stage: Stage::Boot,
            stage_number: 0,
            main_began: 0,
            healed: 0,
            busy_slots: 0,
            slots_left: 0,
            finals: Vec::new(),
            finals_asked: 0,
            finals_open: 0,
            recovery: Duration::ZERO,
            converged: true,
            next_process: 0,
            next_probe: 0,
            next_request: 0,
            ended: None,
            stepping: None,
            sync: Compiled::default(),
            startup: Compiled::default(),
        }
    }
}

impl State {
    /// A new run's, in old memory.
    pub(crate) fn reset(&mut self, plan: &SimPlan) {
        let seed = plan.seed.derive("sim");
        self.now = 0;
        self.seed = seed;
        self.calendar.clear();
        self.nodes.truncate(plan.nodes.len());
        self.nodes.iter_mut().for_each(Node::reset);
        self.nodes.resize_with(plan.nodes.len(), Node::default);
        self.hosts.truncate(plan.clients.len());
        self.hosts.iter_mut().for_each(ClientHost::reset);
        self.hosts.resize_with(plan.clients.len(), ClientHost::default);
        self.seats.clear();
        let slower = |link: u64| seed.decide(&[about::SPREAD, link]).unit();
        self.links.reset(plan.nodes.len(), plan.clients.len(), &plan.network, slower);
        if let Chance::Only(messages) = &plan.chance {
            let place = |name: &Host| plan.nodes.iter().chain(&plan.clients).position(|host| host == name);
            self.links.leave_to_chance(None, &[]);
            for ((from, to), numbers) in messages {
                if let (Some(from), Some(to)) = (place(from), place(to)) {
                    self.links.leave_to_chance(Some(self.links.link(from, to)), numbers);
                }
            }
        }
        self.idle.clear();
        self.idle.resize(plan.nodes.len() * plan.clients.len(), Idle::default());
        self.resource = Resource::new(plan.fencing);
        self.effects.clear();
        self.conductor = Conductor::new(Script {
            nodes: plan.nodes.clone(),
            clients: plan.clients.clone(),
            faults: plan.schedule.clone(),
            seed: plan.seed,
            heal_first: plan.heal_first,
        });
        self.harmed_before.clear();
        self.history.clear();
        self.digest = Digest::default();
        self.stats = Stats::default();
        self.coverage = Coverage::default();
        self.stage = Stage::Boot;
        self.stage_number = 0;
        self.main_began = 0;
        self.healed = 0;
        self.busy_slots = 0;
        self.slots_left = 0;
        self.finals.clear();
        self.finals_asked = 0;
        self.finals_open = 0;
        self.recovery = Duration::ZERO;
        self.converged = true;
        self.next_process = plan.concurrency as u64;
        self.next_probe = 0;
        self.next_request = 0;
        self.ended = None;
        self.stepping = None;
        self.sync = plan.disk.sync.compile();
        self.startup = plan.startup.compile();
        for host in 0..plan.nodes.len() + plan.clients.len() {
            let drift = i64::from(plan.clocks.drift_ppm.min(500_000));
            let offset = i64::try_from(plan.clocks.offset.as_nanos()).unwrap_or(i64::MAX / 2);
            let [rate, ahead] = [0, 1].map(|what| seed.decide(&[about::CLOCK, host_key(host, plan.nodes.len()), what]));
            let rate = rate.below(2 * drift as u64 + 1) as i64 - drift;
            let ahead = ahead.below(2 * offset as u64 + 1) as i64 - offset;
            let clock = match host.checked_sub(plan.nodes.len()) {
                None => &mut self.nodes[host].clock,
                Some(client) => &mut self.hosts[client].clock,
            };
            *clock = Clock::new(ahead, rate as i32);
        }
    }
}

/// One run under way.
pub(crate) struct Running<'a> {
    pub(crate) s: &'a mut State,
    pub(crate) fleet: &'a mut dyn Fleet,
    pub(crate) plan: &'a SimPlan,
    pub(crate) generator: &'a mut dyn Generator,
    pub(crate) watch: Option<&'a mut dyn Watch>,
}

/// What every part of the world does.
impl Running<'_> {
    pub(crate) fn at(&mut self, time: u64, event: Event) {
        self.s.calendar.push(time, event);
    }

    pub(crate) fn after(&mut self, nanoseconds: u64, event: Event) {
        self.s.calendar.push(self.s.now + nanoseconds, event);
    }

    pub(crate) fn record(&mut self, kind: EventKind) {
        self.s.history.push(HistoryEvent { time: Time(self.s.now), kind });
    }

    pub(crate) fn decide(&self, about: u64, what: u64, number: u64) -> Decision {
        self.s.seed.decide(&[about, what, number])
    }

    /// Notes for the trace's hash that something happened to somebody now.
    pub(crate) fn trace(&mut self, kind: u64, whom: u64) {
        self.s.digest.word(self.s.now);
        self.s.digest.word(kind << 32 | whom);
    }

    /// Shows something to whoever watches.
    pub(crate) fn show(&mut self, what: impl for<'f> FnOnce(&'f dyn Fleet) -> Happening<'f>) {
        if let Some(watch) = &mut self.watch {
            watch.on(Time(self.s.now), what(self.fleet));
        }
    }

    /// What a node says of itself at this moment, if it is up.
    pub(crate) fn status(&self, node: usize) -> Option<Status> {
        let state = &self.s.nodes[node];
        if !state.up() {
            return None;
        }
        self.fleet.status(NodeId(node as u16), state.clock.read(self.s.now))
    }
}

//! The world itself: its state, its loop, and what every part of it needs.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use duress_conductor::{Conductor, Departure, Script};
use duress_history::{Event as HistoryEvent, EventKind, Header, Host, Time};
use duress_machine::client::Answer;
use duress_machine::{Effects, Machine};
use duress_seed::{Decision, Seed};
use duress_workloads::Generator;
use smol_str::SmolStr;

use crate::calendar::Calendar;
use crate::clients::{ClientHost, Final, Idle, Seat};
use crate::clock::{Clock, EPOCH};
use crate::digest::Digest;
use crate::event::Event;
use crate::network::{Links, host_key};
use crate::node::Node;
use crate::phases::Stage;
use crate::plan::{Chance, Compiled};
use crate::watch::{Happening, Watch};
use crate::{Coverage, Ended, Service, SimPlan, SimRun, Stats};

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

/// Simulates runs of one service, one after the other, in memory that is used again.
#[derive(Debug)]
pub struct World<M: Machine, S> {
    service: S,
    state: State<M>,
}

/// Everything that changes during a run. Times are true nanoseconds since the run began.
#[derive(Debug)]
pub(crate) struct State<M: Machine> {
    pub(crate) now: u64,
    pub(crate) seed: Seed,
    pub(crate) calendar: Calendar<Event<M>>,
    pub(crate) nodes: Vec<Node<M>>,
    pub(crate) hosts: Vec<ClientHost<M>>,
    pub(crate) seats: Vec<Seat<M>>,
    pub(crate) links: Links<M::Message>,
    /// Per client host and node: connections that wait to be used again.
    pub(crate) idle: Vec<Idle>,
    /// What locks protect: the newest token of each.
    pub(crate) resource: BTreeMap<SmolStr, u64>,
    pub(crate) effects: Effects<M>,
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

impl<M: Machine> Default for State<M> {
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
            resource: BTreeMap::new(),
            effects: Effects::default(),
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

impl<M: Machine> State<M> {
    fn reset(&mut self, plan: &SimPlan) {
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
        self.resource.clear();
        self.effects = Effects::default();
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
pub(crate) struct Running<'a, 'w, M: Machine, S> {
    pub(crate) s: &'a mut State<M>,
    pub(crate) service: &'a S,
    pub(crate) plan: &'a SimPlan,
    pub(crate) config: &'a M::Config,
    pub(crate) generator: &'a mut dyn Generator,
    pub(crate) watch: Option<&'a mut (dyn Watch<M> + 'w)>,
}

impl<M: Machine, S: Service<M>> World<M, S>
where
    M::Response: Answer,
{
    /// A world for runs of this service.
    pub fn new(service: S) -> World<M, S> {
        World { service, state: State::default() }
    }

    /// The service.
    pub fn service(&self) -> &S {
        &self.service
    }

    /// Another service for the runs to come.
    pub fn set_service(&mut self, service: S) {
        self.service = service;
    }

    /// Carries out a run. `config` is that of every node; `generator` gives the operations of the
    /// main phase and the final reads.
    ///
    /// # Panics
    /// On a plan without nodes or client hosts, or with more of them than [`SimPlan`] allows. A
    /// panic of a machine is caught and ends the run.
    pub fn run(&mut self, plan: &SimPlan, config: &M::Config, generator: &mut dyn Generator) -> SimRun {
        self.carry_out(plan, config, generator, None)
    }

    /// As [`run`](World::run), and shows what happens to `watch` as it happens.
    ///
    /// # Panics
    /// As [`run`](World::run).
    pub fn run_watched(
        &mut self,
        plan: &SimPlan,
        config: &M::Config,
        generator: &mut dyn Generator,
        watch: &mut dyn Watch<M>,
    ) -> SimRun {
        self.carry_out(plan, config, generator, Some(watch))
    }

    /// Takes a history's memory back, for the runs to come.
    pub fn recycle(&mut self, run: SimRun) {
        if run.events.capacity() > self.state.history.capacity() {
            self.state.history = run.events;
            self.state.history.clear();
        }
    }

    fn carry_out(
        &mut self,
        plan: &SimPlan,
        config: &M::Config,
        generator: &mut dyn Generator,
        watch: Option<&mut dyn Watch<M>>,
    ) -> SimRun {
        assert!((1..=64).contains(&plan.nodes.len()), "a simulated cluster has 1 to 64 nodes");
        assert!((1..=256).contains(&plan.clients.len()), "a simulated cluster has 1 to 256 client hosts");
        assert!(plan.concurrency <= 4096, "at most 4096 simulated processes work at a time");
        self.state.reset(plan);
        let mut running = Running { s: &mut self.state, service: &self.service, plan, config, generator, watch };
        // A machine that panics is a finding, not the end of a hunt. The state that it leaves
        // behind is reset before it is used again.
        let ended = catch_unwind(AssertUnwindSafe(|| running.run())).unwrap_or_else(|panic| {
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| panic.downcast_ref::<&'static str>().copied());
            running.panicked(said.unwrap_or("no message"))
        });
        let state = &mut self.state;
        state.stats.simulated = Duration::from_nanos(state.now);
        SimRun {
            events: std::mem::take(&mut state.history),
            trace_hash: state.digest.value(),
            ended,
            stats: state.stats,
            coverage: std::mem::take(&mut state.coverage),
        }
    }
}

impl<M: Machine, S: Service<M>> Running<'_, '_, M, S>
where
    M::Response: Answer,
{
    fn run(&mut self) -> Ended {
        self.record(EventKind::Header(Header {
            version: Header::VERSION,
            scenario: self.plan.scenario.clone(),
            seed: self.plan.seed.0,
            nodes: self.plan.nodes.clone(),
            clients: self.plan.clients.clone(),
            started_unix_ms: EPOCH * 1000,
        }));
        self.boot();
        loop {
            if let Some(ended) = self.s.ended.take() {
                return ended;
            }
            let Some((at, event)) = self.s.calendar.pop() else { return Ended::OutOfEvents };
            if self.s.stats.events >= self.plan.max_events {
                return Ended::OutOfEvents;
            }
            self.s.stats.events += 1;
            self.s.now = at;
            self.s.links.now = at;
            self.handle(event);
        }
    }

    /// Something panicked. A node whose machine it was has ended, and nobody asked it to.
    fn panicked(&mut self, said: &str) -> Ended {
        let node = self.s.stepping.take();
        if let Some(node) = node {
            let what = format!("{} panicked: {said}", self.plan.nodes[usize::from(node)]);
            let orders = self.s.conductor.left(node.into(), Departure::Exit(what), self.s.now);
            self.follow(orders);
        }
        Ended::Panicked { node: node.map(|node| self.plan.nodes[usize::from(node)].clone()), said: said.to_owned() }
    }

    fn handle(&mut self, event: Event<M>) {
        match event {
            Event::Node { node, input } => self.node_arrives(node, input),
            Event::Wake { node, life } => self.node_wakes(node, life),
            Event::Client { seat, attempt, input } => self.client_arrives(seat, attempt, input),
            Event::Resend { to, seat, attempt, life, tries, request } => {
                self.send_request_again(to, seat, attempt, life, tries, request);
            }
            Event::ResendAnswer { from, seat, attempt, tries, response } => {
                self.send_answer(from, seat, attempt, tries, response);
            }
            Event::Slot { seat } => self.ask_slot(seat),
            Event::Patience { seat, operation } => self.patience_over(seat, operation),
            Event::Probe { seat } => self.probe(seat),
            Event::Link { link, epoch } => self.look_at_connection(link as usize, epoch),
            Event::Conduct(wake) => {
                let orders = self.s.conductor.wake(wake);
                self.follow(orders);
            }
            Event::Again { fault, host } => self.strikes_again(fault, host),
            Event::Started { node, start } => self.started(node, start),
            Event::Fence { asker, life, victim } => self.fence(asker, life, victim),
            Event::MainOver => self.main_over(),
            Event::Deadline { stage } => self.deadline(stage),
            Event::Converge => self.converge(),
        }
    }

    pub(crate) fn at(&mut self, time: u64, event: Event<M>) {
        self.s.calendar.push(time, event);
    }

    pub(crate) fn after(&mut self, nanoseconds: u64, event: Event<M>) {
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

    pub(crate) fn show(&mut self, what: Happening<'_, M>) {
        if let Some(watch) = &mut self.watch {
            watch.on(Time(self.s.now), what);
        }
    }
}

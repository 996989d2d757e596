//! The world itself: its loop, and who handles what comes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use duress_conductor::Departure;
use duress_history::{EventKind, Header};
use duress_workloads::Generator;

use crate::clock::EPOCH;
use crate::event::Event;
use crate::fleet::Fleet;
use crate::state::{Running, State};
use crate::watch::Watch;
use crate::{Ended, SimPlan, SimRun};

/// Simulates runs, one after the other, in memory that is used again.
#[derive(Debug, Default)]
pub struct World {
    state: State,
}

impl World {
    /// A world for runs of any fleet.
    pub fn new() -> World {
        World::default()
    }

    /// Carries out a run of a fleet. `generator` gives the operations of the main phase and the
    /// final reads.
    ///
    /// # Panics
    /// On a plan without nodes or client hosts, or with more of them than [`SimPlan`] allows. A
    /// panic of a machine is caught and ends the run.
    pub fn run(&mut self, fleet: &mut dyn Fleet, plan: &SimPlan, generator: &mut dyn Generator) -> SimRun {
        self.carry_out(fleet, plan, generator, None)
    }

    /// As [`run`](World::run), and shows what happens to `watch` as it happens.
    ///
    /// # Panics
    /// As [`run`](World::run).
    pub fn run_watched(
        &mut self,
        fleet: &mut dyn Fleet,
        plan: &SimPlan,
        generator: &mut dyn Generator,
        watch: &mut dyn Watch,
    ) -> SimRun {
        self.carry_out(fleet, plan, generator, Some(watch))
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
        fleet: &mut dyn Fleet,
        plan: &SimPlan,
        generator: &mut dyn Generator,
        watch: Option<&mut dyn Watch>,
    ) -> SimRun {
        assert!((1..=64).contains(&plan.nodes.len()), "a simulated cluster has 1 to 64 nodes");
        assert!((1..=256).contains(&plan.clients.len()), "a simulated cluster has 1 to 256 client hosts");
        assert!(plan.concurrency <= 4096, "at most 4096 simulated processes work at a time");
        self.state.reset(plan);
        fleet.reset(plan.nodes.len());
        // To the lifetime of the rest.
        let watch = watch.map(|watch| watch as &mut dyn Watch);
        let mut running = Running { s: &mut self.state, fleet, plan, generator, watch };
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

impl Running<'_> {
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

    fn handle(&mut self, event: Event) {
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
}

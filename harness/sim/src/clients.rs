//! Clients: seats that carry out operations from client hosts.
//!
//! What the real harness and its client hosts do, step by step: the same [`Call`] decides whom to
//! ask and what may be concluded, the same [`ClientMachine`] does the client's own part, and a host
//! that stands still gets everything when it goes on. How requests and answers travel is told in
//! [`crate::calls`].

use std::time::Duration;

use duress_history::{Client, Completion, EventKind, Invocation, Op, Outcome, Process, Value};
use duress_machine::NodeId;
use duress_machine::client::{self, Action, Answer, Call, Disposition};
use duress_workloads::client::{Begin, ClientMachine, at_work};
use duress_workloads::{Next, Slot};
use smol_str::SmolStr;

use crate::Done;
use crate::event::{ClientInput, Event};
use crate::fleet::Held;
use crate::host::Idle;
use crate::plan::nanos;
use crate::seat::{Doing, Purpose, Seat};
use crate::state::{Running, kind};

/// What an answer means for a call; the call needs to know no more of it.
struct Heard(Disposition);

impl Answer for Heard {
    fn disposition(&self) -> Disposition {
        self.0
    }
}

impl Running<'_> {
    /// A seat for a slot: slots take client hosts and nodes in turn.
    pub(crate) fn slot_seat(&mut self, slot: usize) -> u32 {
        let node = slot % self.plan.nodes.len();
        self.new_seat(Purpose::Slot, slot as u64, slot, node)
    }

    /// A seat with a new process.
    pub(crate) fn extra_seat(&mut self, purpose: Purpose, client: usize, node: usize) -> u32 {
        let process = self.new_process();
        self.new_seat(purpose, process, client, node)
    }

    fn new_seat(&mut self, purpose: Purpose, process: u64, client: usize, node: usize) -> u32 {
        let client = client % self.plan.clients.len();
        self.s.seats.push(Seat {
            purpose,
            process,
            sequence: 0,
            client,
            node,
            first: node,
            operations: 0,
            attempt: 0,
            doing: None,
            deadline: 0,
            timeout_at: 0,
            alarm_at: None,
            last_error: SmolStr::default(),
        });
        (self.s.seats.len() - 1) as u32
    }

    fn new_process(&mut self) -> u64 {
        self.s.next_process += 1;
        self.s.next_process - 1
    }

    fn main_time(&self) -> Duration {
        Duration::from_nanos(self.s.now - self.s.main_began)
    }

    /// A slot that is free asks what to do.
    pub(crate) fn ask_slot(&mut self, seat: u32) {
        if !self.in_main() {
            return self.slot_done();
        }
        let now = self.main_time();
        let who = Slot { index: seat as usize, process: Process(self.s.seats[seat as usize].process) };
        match self.generator.next(who, now) {
            Next::Done => self.slot_done(),
            Next::Wait(until) => {
                let until = self.s.main_began + u64::try_from(until.as_nanos()).unwrap_or(u64::MAX >> 2);
                // Never a busy loop, even if a generator asks for a moment that has passed.
                self.at(until.max(self.s.now + 200_000), Event::Slot { seat });
            }
            Next::Op(op) => {
                self.s.busy_slots += 1;
                self.perform_op(seat, op);
            }
        }
    }

    /// Records an invocation and hands it to the client host.
    pub(crate) fn perform_op(&mut self, seat: u32, op: Op) {
        let now = self.s.now;
        let state = &mut self.s.seats[seat as usize];
        state.sequence += 1;
        state.operations += 1;
        state.attempt = state.attempt.wrapping_add(1);
        let (process, client, node, operation) = (state.process, state.client, state.node, state.operations);
        let attempt = state.attempt;
        state.doing = Some(Doing {
            op: op.clone(),
            invoked: now,
            begun: 0,
            call: None,
            request: None,
            asked: None,
            waiting: false,
        });
        self.record(EventKind::Invoke(Invocation {
            process: Process(process),
            client: Some(Client { host: self.plan.clients[client].clone(), node: self.plan.nodes[node].clone() }),
            op,
        }));
        if self.s.hosts[client].stopped {
            self.lose_patience(seat, now, operation);
        }
        self.client_arrives(seat, attempt, ClientInput::Begin);
    }

    fn lose_patience(&mut self, seat: u32, invoked: u64, operation: u64) {
        let patience = u64::try_from(self.plan.patience.as_nanos()).unwrap_or(u64::MAX >> 2);
        self.at((invoked + patience).max(self.s.now), Event::Patience { seat, operation });
    }

    /// The harness has waited long enough for a client host.
    pub(crate) fn patience_over(&mut self, seat: u32, operation: u64) {
        let state = &mut self.s.seats[seat as usize];
        if state.operations == operation && state.doing.is_some() {
            let error = Some(SmolStr::new_static("client-silent"));
            self.finish(seat, Done { outcome: Outcome::Info, result: Value::Nil, error, node: None, term: None });
        }
    }

    /// A client host stops in its tracks.
    pub(crate) fn stop_client(&mut self, client: usize) {
        self.s.hosts[client].stopped = true;
        for seat in 0..self.s.seats.len() {
            let state = &self.s.seats[seat];
            if let (true, Some(doing)) = (state.client == client, &state.doing) {
                let (invoked, operation) = (doing.invoked, state.operations);
                self.lose_patience(seat as u32, invoked, operation);
            }
        }
    }

    /// A client host goes on, and gets what came meanwhile.
    pub(crate) fn resume_client(&mut self, client: usize) {
        self.s.hosts[client].stopped = false;
        while let Some((seat, attempt, input)) = self.s.hosts[client].inbox.pop_front() {
            self.client_input(seat, attempt, input);
        }
    }

    pub(crate) fn client_arrives(&mut self, seat: u32, attempt: u32, input: ClientInput) {
        let client = self.s.seats[seat as usize].client;
        let host = &mut self.s.hosts[client];
        if host.stopped {
            host.inbox.push_back((seat, attempt, input));
        } else {
            self.client_input(seat, attempt, input);
        }
    }

    fn client_input(&mut self, seat: u32, attempt: u32, input: ClientInput) {
        let now = self.s.now;
        let state = &mut self.s.seats[seat as usize];
        if matches!(input, ClientInput::Timeout) {
            state.alarm_at = None;
        } else if state.attempt != attempt {
            return self.forget(input);
        }
        let Some(doing) = &mut state.doing else { return self.forget(input) };
        let mut answer = None;
        let event = match input {
            ClientInput::Begin => return self.begin(seat),
            ClientInput::Worked => return self.worked(seat),
            ClientInput::Timeout if !doing.waiting => return,
            ClientInput::Timeout if now < state.timeout_at => return self.arm(seat),
            // Time is up before there was a connection.
            ClientInput::Timeout if doing.asked.is_none() => client::Event::NotSent,
            ClientInput::Timeout | ClientInput::Lost => client::Event::Lost,
            ClientInput::NotSent => client::Event::NotSent,
            ClientInput::Paused => client::Event::Paused,
            ClientInput::Answer(held) => {
                if let Some((node, life)) = doing.asked {
                    let nodes = self.plan.nodes.len();
                    let idle = &mut self.s.idle[state.client * nodes + node];
                    *idle = Idle { count: if idle.life == life { idle.count + 1 } else { 1 }, life };
                }
                let disposition = self.fleet.answered(&held, &mut self.s.digest);
                answer = Some(held);
                client::Event::Answered(Heard(disposition))
            }
        };
        doing.waiting = false;
        doing.asked = None;
        let clock = Duration::from_nanos(self.s.hosts[state.client].clock.monotonic(now));
        let Some(call) = &mut doing.call else { return };
        let action = call.on(event, clock);
        self.trace(kind::CLIENT, u64::from(seat));
        self.act(seat, action, answer);
    }

    /// What came is of no use any more.
    fn forget(&mut self, input: ClientInput) {
        if let ClientInput::Answer(held) = input {
            self.fleet.free(held);
        }
    }

    /// The client host begins an operation.
    fn begin(&mut self, seat: u32) {
        let now = self.s.now;
        let state = &mut self.s.seats[seat as usize];
        let (process, sequence, first) = (state.process, state.sequence, state.first);
        let host = &mut self.s.hosts[state.client];
        let clock = host.clock.monotonic(now);
        let Some(doing) = &mut state.doing else { return };
        doing.begun = clock;
        match host.machine.begin(&doing.op, Duration::from_nanos(clock)) {
            Begin::Ask => {}
            Begin::Refuse(error) => return self.refuse(seat, error),
            Begin::Work(work) => {
                let when = host.clock.when(clock + nanos(work), now);
                let attempt = state.attempt;
                return self.at(when, Event::Client { seat, attempt, input: ClientInput::Worked });
            }
        }
        doing.request = self.fleet.request(Process(process), sequence, &doing.op);
        if doing.request.is_none() {
            return self.refuse(seat, "not-supported");
        }
        let nodes = self.plan.nodes.len() as u16;
        let (call, action) = Call::start(self.fleet.policy(), nodes, NodeId(first as u16), Duration::from_nanos(clock));
        doing.call = Some(call);
        self.act(seat, action, None);
    }

    /// The client's work is done: it uses the resource.
    fn worked(&mut self, seat: u32) {
        let state = &self.s.seats[seat as usize];
        let Some(doing) = &state.doing else { return };
        let Some(write) = self.s.hosts[state.client].machine.worked(&doing.op) else { return };
        match self.s.resource.write(write) {
            Ok(()) => {
                self.finish(
                    seat,
                    Done { outcome: Outcome::Ok, result: Value::Nil, error: None, node: None, term: None },
                );
            }
            Err(error) => self.refuse(seat, error),
        }
    }

    fn refuse(&mut self, seat: u32, error: &'static str) {
        let error = Some(SmolStr::new_static(error));
        self.finish(seat, Done { outcome: Outcome::Fail, result: Value::Nil, error, node: None, term: None });
    }

    /// A call wants something done. `answer` is what it has just heard.
    fn act(&mut self, seat: u32, action: Action<Heard>, mut answer: Option<Held>) {
        let now = self.s.now;
        let state = &mut self.s.seats[seat as usize];
        state.attempt = state.attempt.wrapping_add(1);
        let attempt = state.attempt;
        let clock = &self.s.hosts[state.client].clock;
        match action {
            Action::Send { to, within } => {
                let within = nanos(within);
                state.deadline = clock.monotonic(now) + within;
                state.timeout_at = clock.when(state.deadline, now);
                self.arm(seat);
                self.ask(seat, usize::from(to.0), within);
            }
            Action::Pause(pause) => {
                let when = clock.when(clock.monotonic(now) + nanos(pause), now);
                self.at(when, Event::Client { seat, attempt, input: ClientInput::Paused });
            }
            Action::Done(outcome) => {
                let outcome = match outcome {
                    client::Outcome::Ok { node, .. } => {
                        let answer = answer.take().expect("a call succeeds by an answer");
                        client::Outcome::Ok { answer, node }
                    }
                    client::Outcome::Failed { answer: last } => {
                        client::Outcome::Failed { answer: last.and_then(|_| answer.take()) }
                    }
                    client::Outcome::Unknown { answer: last } => {
                        client::Outcome::Unknown { answer: last.and_then(|_| answer.take()) }
                    }
                };
                if let Some(doing) = &state.doing {
                    let done = self.fleet.completion(&doing.op, outcome);
                    self.finish(seat, done);
                }
            }
        }
        // One that means another attempt.
        if let Some(answer) = answer {
            self.fleet.free(answer);
        }
    }

    /// A client host's clocks have changed, and its timeouts go by them.
    pub(crate) fn client_waits_anew(&mut self, client: usize) {
        let now = self.s.now;
        for seat in 0..self.s.seats.len() {
            let state = &mut self.s.seats[seat];
            if state.client == client && state.doing.as_ref().is_some_and(|doing| doing.waiting) {
                state.timeout_at = self.s.hosts[client].clock.when(state.deadline, now);
                self.arm(seat as u32);
            }
        }
    }

    /// Makes sure that somebody looks when the attempt's time is up. One alarm per seat is under
    /// way at a time, since most attempts are answered long before.
    fn arm(&mut self, seat: u32) {
        let state = &mut self.s.seats[seat as usize];
        if state.alarm_at.is_none_or(|alarm| alarm > state.timeout_at) {
            state.alarm_at = Some(state.timeout_at);
            let (at, attempt) = (state.timeout_at, state.attempt);
            self.at(at, Event::Client { seat, attempt, input: ClientInput::Timeout });
        }
    }

    /// An operation is over.
    fn finish(&mut self, seat: u32, done: Done) {
        let now = self.main_time();
        let state = &mut self.s.seats[seat as usize];
        state.attempt = state.attempt.wrapping_add(1);
        let Some(doing) = state.doing.take() else { return };
        if let Some(request) = doing.request {
            self.fleet.free(request);
        }
        let begun = Duration::from_nanos(doing.begun);
        self.s.hosts[state.client].machine.learn(&doing.op, done.outcome, &done.result, begun);
        state.first = match (done.node, done.outcome) {
            (Some(node), Outcome::Ok) if self.fleet.sticky() => node,
            _ => state.node,
        };
        let completion = Completion {
            process: Process(state.process),
            outcome: done.outcome,
            op: doing.op,
            result: done.result,
            error: done.error,
            node: done.node.and_then(|node| self.plan.nodes.get(node).cloned()),
            term: done.term,
        };
        let process = state.process;
        let (purpose, outcome) = (state.purpose, completion.outcome);
        if purpose != Purpose::Slot {
            state.last_error = completion.error.clone().unwrap_or_default();
        }
        if outcome == Outcome::Info {
            let process = self.new_process();
            let state = &mut self.s.seats[seat as usize];
            state.process = process;
            state.sequence = 0;
        }
        self.s.stats.operations += 1;
        self.trace(kind::CLIENT, u64::from(seat) | 1 << 20);
        self.s.digest.word(outcome as u64);
        self.s.digest.contents(&completion.result);
        if purpose == Purpose::Slot {
            let who = Slot { index: seat as usize, process: Process(process) };
            self.generator.completed(who, &completion, now);
            self.s.busy_slots -= 1;
            let orders = self.s.conductor.operation(self.s.now);
            self.follow(orders);
        }
        self.record(EventKind::Complete(completion));
        match purpose {
            Purpose::Slot => self.slot_free(seat),
            Purpose::Probe { .. } => self.probe_ended(seat, outcome),
            Purpose::Final => self.final_ended(),
        }
    }

    /// The client host that is in the middle of using a locked resource at this moment.
    pub(crate) fn holder(&self) -> Option<usize> {
        let mut best: Option<(Duration, usize)> = None;
        for seat in &self.s.seats {
            let Some(Doing { op, invoked, .. }) = &seat.doing else { continue };
            if let Some(left) = at_work(op, Duration::from_nanos(self.s.now - invoked)) {
                best = best.max(Some((left, seat.client)));
            }
        }
        best.map(|(_, client)| client)
    }
}

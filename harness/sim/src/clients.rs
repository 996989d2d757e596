//! Clients: seats that carry out operations from client hosts, and the resource behind the locks.
//!
//! What the real harness, its client hosts and their HTTP connections do, step by step: the same
//! [`Call`] decides whom to ask and what may be concluded, connections are kept and used again,
//! and a host that stands still gets everything when it goes on.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use duress_fault::Share;
use duress_history::{Client, Completion, EventKind, Invocation, Op, Outcome, Process, Ret};
use duress_machine::client::{self, Action, Answer, Call};
use duress_machine::{Machine, NodeId};
use duress_workloads::{Next, Slot};
use smol_str::SmolStr;

use crate::clock::Clock;
use crate::event::{ClientInput, Event, NodeInput};
use crate::harms::Fate;
use crate::nemesis::least;
use crate::network::{CONNECT, RESEND_CLIENT};
use crate::world::Running;
use crate::{Done, Service};

/// A client host: its clock, whether it stands still, and what its leases are worth.
#[derive(Debug)]
pub(crate) struct ClientHost<M: Machine> {
    pub(crate) clock: Clock,
    pub(crate) paused_by: u32,
    pub(crate) stopped: bool,
    /// The shares of the processor's time that faults leave it.
    pub(crate) slow: Vec<Share>,
    inbox: VecDeque<(u32, u32, ClientInput<M>)>,
    /// Until when leases run, by the host's own clock.
    leases: BTreeMap<(SmolStr, u64), u64>,
}

impl<M: Machine> Default for ClientHost<M> {
    fn default() -> Self {
        ClientHost {
            clock: Clock::default(),
            paused_by: 0,
            stopped: false,
            slow: Vec::new(),
            inbox: VecDeque::new(),
            leases: BTreeMap::new(),
        }
    }
}

impl<M: Machine> ClientHost<M> {
    /// The share of its time for which it runs.
    pub(crate) fn share(&self) -> Share {
        least(&self.slow)
    }

    pub(crate) fn reset(&mut self) {
        let mut inbox = std::mem::take(&mut self.inbox);
        inbox.clear();
        *self = ClientHost { inbox, ..ClientHost::default() };
    }
}

/// Connections of a client host to a node that wait to be used again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Idle {
    count: u32,
    /// The node's life that they were made with.
    life: u32,
}

/// What a seat is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It takes operations from the generator.
    Slot,
    /// It asks a node whether it serves; and whether that has been answered.
    Probe { answered: bool },
    /// It asks one of the final questions.
    Final,
}

/// A question of the final phase.
#[derive(Clone, Debug)]
pub(crate) struct Final {
    pub(crate) node: usize,
    pub(crate) op: Op,
}

/// A process in progress: who it is, where it runs, whom it asks.
#[derive(Debug)]
pub(crate) struct Seat<M: Machine> {
    pub(crate) purpose: Purpose,
    process: u64,
    /// Operations of this process so far.
    sequence: u64,
    pub(crate) client: usize,
    pub(crate) node: usize,
    /// Whom it asks first.
    first: usize,
    /// Operations of this seat so far.
    operations: u64,
    /// Counts what the client host waits for; what belongs to an earlier one is void.
    attempt: u32,
    pub(crate) doing: Option<Doing<M>>,
    /// When the attempt's time is up by the host's clock, when that is, and for when that has been
    /// put down.
    deadline: u64,
    timeout_at: u64,
    alarm_at: Option<u64>,
    pub(crate) last_error: SmolStr,
}

/// An operation in progress.
#[derive(Debug)]
pub(crate) struct Doing<M: Machine> {
    pub(crate) op: Op,
    invoked: u64,
    /// When the client host began, by its own clock.
    begun: u64,
    call: Option<Call>,
    request: Option<M::Request>,
    /// The node that the attempt in progress went to, and in which life of it, if a connection
    /// was made.
    asked: Option<(usize, u32)>,
    /// It waits for an answer.
    waiting: bool,
}

/// The kind of event in the trace's hash.
const CLIENT: u64 = 16;

/// How long a holder has been at work before it counts as one, as in the real world.
const AT_WORK: u64 = 20_000_000;

impl<M: Machine, S: Service<M>> Running<'_, '_, M, S>
where
    M::Response: Answer,
{
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
            self.finish(seat, Done { outcome: Outcome::Info, ret: Ret::Done, error, node: None, term: None });
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

    pub(crate) fn client_arrives(&mut self, seat: u32, attempt: u32, input: ClientInput<M>) {
        let client = self.s.seats[seat as usize].client;
        let host = &mut self.s.hosts[client];
        if host.stopped {
            host.inbox.push_back((seat, attempt, input));
        } else {
            self.client_input(seat, attempt, input);
        }
    }

    fn client_input(&mut self, seat: u32, attempt: u32, input: ClientInput<M>) {
        let now = self.s.now;
        let state = &mut self.s.seats[seat as usize];
        if matches!(input, ClientInput::Timeout) {
            state.alarm_at = None;
        } else if state.attempt != attempt {
            return;
        }
        let Some(doing) = &mut state.doing else { return };
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
            ClientInput::Answer(response) => {
                if let Some((node, life)) = doing.asked {
                    let nodes = self.plan.nodes.len();
                    let idle = &mut self.s.idle[state.client * nodes + node];
                    *idle = Idle { count: if idle.life == life { idle.count + 1 } else { 1 }, life };
                }
                self.s.digest.contents(&response);
                client::Event::Answered(response)
            }
        };
        doing.waiting = false;
        doing.asked = None;
        let clock = Duration::from_nanos(self.s.hosts[state.client].clock.monotonic(now));
        let Some(call) = &mut doing.call else { return };
        let action = call.on(event, clock);
        self.trace(CLIENT, u64::from(seat));
        self.act(seat, action);
    }

    /// The client host begins an operation.
    fn begin(&mut self, seat: u32) {
        let now = self.s.now;
        let state = &mut self.s.seats[seat as usize];
        let (process, sequence, first) = (state.process, state.sequence, state.first);
        let host = &self.s.hosts[state.client];
        let clock = host.clock.monotonic(now);
        let Some(doing) = &mut state.doing else { return };
        doing.begun = clock;
        if let Op::Access { lock, token, work_ms } = &doing.op {
            let runs = host.leases.get(&(lock.clone(), *token)).is_some_and(|expiry| *expiry > clock);
            if !runs {
                return self.refuse(seat, "lease-expired");
            }
            let when = host.clock.when(clock + work_ms * 1_000_000, now);
            let attempt = state.attempt;
            return self.at(when, Event::Client { seat, attempt, input: ClientInput::Worked });
        }
        doing.request = Some(self.service.request(Process(process), sequence, &doing.op));
        let nodes = self.plan.nodes.len() as u16;
        let (call, action) =
            Call::start(self.service.policy(), nodes, NodeId(first as u16), Duration::from_nanos(clock));
        doing.call = Some(call);
        self.act(seat, action);
    }

    /// The work between the check of a lease and the write is done: the client writes, without
    /// another check. That is the mistake which fencing tokens make harmless.
    fn worked(&mut self, seat: u32) {
        let Some(Doing { op: Op::Access { lock, token, .. }, .. }) = &self.s.seats[seat as usize].doing else { return };
        let (lock, token) = (lock.clone(), *token);
        let newest = self.s.resource.entry(lock).or_default();
        if self.plan.fencing && token < *newest {
            return self.refuse(seat, "fenced");
        }
        *newest = token.max(*newest);
        self.finish(seat, Done { outcome: Outcome::Ok, ret: Ret::Done, error: None, node: None, term: None });
    }

    fn refuse(&mut self, seat: u32, error: &'static str) {
        let error = Some(SmolStr::new_static(error));
        self.finish(seat, Done { outcome: Outcome::Fail, ret: Ret::Done, error, node: None, term: None });
    }

    fn act(&mut self, seat: u32, action: Action<M::Response>) {
        let now = self.s.now;
        let state = &mut self.s.seats[seat as usize];
        state.attempt = state.attempt.wrapping_add(1);
        let attempt = state.attempt;
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX >> 2);
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
                if let Some(doing) = &state.doing {
                    let done = self.service.completion(&doing.op, outcome);
                    self.finish(seat, done);
                }
            }
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

    /// Sends an attempt's request to a node.
    fn ask(&mut self, seat: u32, node: usize, within: u64) {
        let nodes = self.plan.nodes.len();
        let state = &mut self.s.seats[seat as usize];
        let (client, attempt) = (state.client, state.attempt);
        let Some(doing) = &mut state.doing else { return };
        doing.waiting = true;
        let Some(request) = doing.request.clone().map(Box::new) else { return };
        let host = nodes + client;
        let (forth, back) = (self.s.links.open(host, node), self.s.links.open(node, host));
        let (up, life) = (self.s.nodes[node].up(), self.s.nodes[node].life);
        let idle = &mut self.s.idle[client * nodes + node];
        let kept = idle.count > 0 && ((up && idle.life == life) || !(forth && back));
        if kept {
            idle.count -= 1;
            let life = idle.life;
            self.asked(seat, node, life);
            return self.send_request_again(node as u16, seat, attempt, life, 0, request);
        }
        // The host has told of every connection to an earlier life that it is gone.
        idle.count = 0;
        let gives_up = within.min(CONNECT);
        if !self.s.links.passes(host, node) || !back {
            return self.after(gives_up, Event::Client { seat, attempt, input: ClientInput::NotSent });
        }
        let way = self.latency(host, node);
        let fate = self.meet_handshake(host, node);
        if fate.reset {
            return self.after(2 * way, Event::Client { seat, attempt, input: ClientInput::NotSent });
        }
        // A handshake that was lost is repeated after a second.
        if fate.lost || 2 * way + fate.later > gives_up {
            return self.after(gives_up, Event::Client { seat, attempt, input: ClientInput::NotSent });
        }
        if !up {
            return self.after(2 * way, Event::Client { seat, attempt, input: ClientInput::NotSent });
        }
        self.asked(seat, node, life);
        if !self.s.nodes[node].wants.connects() {
            // The host takes the connection and the request, and the process never sees them.
            return;
        }
        // There, back, and there again: the connection is made first.
        let made = 2 * way + fate.later;
        let link = self.s.links.link(host, node);
        let number = if self.s.links.harms.none() { 0 } else { self.s.links.number(link) };
        let fate = self.meet(link, number, &request);
        if fate.reset || fate.damaged {
            return self.client_lost(seat, attempt, made + 2 * way);
        }
        if fate.lost {
            let resend = Event::Resend { to: node as u16, seat, attempt, life, tries: 1, request };
            return self.after(made + RESEND_CLIENT[0], resend);
        }
        let input = NodeInput::Request { life, seat, attempt, request };
        self.after(made + way + fate.later, Event::Node { node: node as u16, input });
    }

    fn asked(&mut self, seat: u32, node: usize, life: u32) {
        if let Some(doing) = &mut self.s.seats[seat as usize].doing {
            doing.asked = Some((node, life));
        }
    }

    /// A request leaves on a connection. If the link is cut, the system sends it again after a
    /// while, even if the client has given it up by then.
    pub(crate) fn send_request_again(
        &mut self,
        to: u16,
        seat: u32,
        attempt: u32,
        life: u32,
        tries: u8,
        request: Box<M::Request>,
    ) {
        let host = self.plan.nodes.len() + self.s.seats[seat as usize].client;
        if self.s.links.passes(host, usize::from(to)) {
            let (takes, fate) = self.travel(host, usize::from(to), &request);
            if fate.reset || fate.damaged {
                // Damage is found out by a checksum, and the connection is closed.
                return self.client_lost(seat, attempt, 2 * takes);
            }
            if !fate.lost {
                let input = NodeInput::Request { life, seat, attempt, request };
                return self.after(takes, Event::Node { node: to, input });
            }
        }
        if let Some(pause) = resend_pause(tries) {
            self.after(pause, Event::Resend { to, seat, attempt, life, tries: tries + 1, request });
        }
    }

    /// How long something takes to travel between a client host and a node, and what it meets.
    fn travel(&mut self, from: usize, to: usize, what: &impl std::fmt::Debug) -> (u64, Fate) {
        let takes = self.latency(from, to);
        if self.s.links.harms.none() {
            return (takes, Fate::default());
        }
        let link = self.s.links.link(from, to);
        let number = self.s.links.number(link);
        let fate = self.meet(link, number, what);
        (takes + fate.later, fate)
    }

    /// An answer leaves on a connection; likewise.
    pub(crate) fn send_answer(&mut self, from: u16, seat: u32, attempt: u32, tries: u8, response: M::Response) {
        let Some(state) = self.s.seats.get(seat as usize) else { return };
        // Nobody waits for an answer to an attempt that was given up: its connection is closed.
        if state.attempt & 0xffff != attempt & 0xffff {
            return;
        }
        let (client, attempt) = (state.client, state.attempt);
        let host = self.plan.nodes.len() + client;
        if self.s.links.passes(usize::from(from), host) {
            let (takes, fate) = self.travel(usize::from(from), host, &response);
            if fate.reset || fate.damaged {
                return self.client_lost(seat, attempt, takes);
            }
            if !fate.lost {
                return self.after(takes, Event::Client { seat, attempt, input: ClientInput::Answer(response) });
            }
        }
        if let Some(pause) = resend_pause(tries) {
            self.after(pause, Event::ResendAnswer { from, seat, attempt, tries: tries + 1, response });
        }
    }

    /// A request has reached a host where no process (or another one) is: its connection is reset.
    pub(crate) fn refuse_connection(&mut self, node: u16, seat: u32, attempt: u32) {
        let host = self.plan.nodes.len() + self.s.seats[seat as usize].client;
        if self.s.links.passes(usize::from(node), host) {
            let takes = self.latency(usize::from(node), host);
            self.client_lost(seat, attempt, takes);
        }
    }

    /// A node's process is gone: those who wait for its answers hear of it, if they can.
    pub(crate) fn reset_attempts(&mut self, node: u16) {
        for seat in 0..self.s.seats.len() {
            let state = &self.s.seats[seat];
            let asked = state.doing.as_ref().and_then(|doing| doing.asked);
            if asked.is_some_and(|(asked, _)| asked == usize::from(node)) {
                self.refuse_connection(node, seat as u32, state.attempt);
            }
        }
    }

    /// An operation is over.
    fn finish(&mut self, seat: u32, done: Done) {
        let now = self.main_time();
        let state = &mut self.s.seats[seat as usize];
        state.attempt = state.attempt.wrapping_add(1);
        let Some(doing) = state.doing.take() else { return };
        learn(&mut self.s.hosts[state.client].leases, &doing.op, &done, doing.begun);
        state.first = match (done.node, done.outcome) {
            (Some(node), Outcome::Ok) if self.service.sticky() => node,
            _ => state.node,
        };
        let completion = Completion {
            process: Process(state.process),
            outcome: done.outcome,
            op: doing.op,
            ret: done.ret,
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
        self.trace(CLIENT, u64::from(seat) | 1 << 20);
        self.s.digest.word(outcome as u64);
        self.s.digest.contents(&completion.ret);
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
        let mut best: Option<(u64, usize)> = None;
        for seat in &self.s.seats {
            let Some(Doing { op: Op::Access { work_ms, .. }, invoked, .. }) = seat.doing else { continue };
            let work = work_ms * 1_000_000;
            let gone = self.s.now - invoked;
            let left = work.saturating_sub(gone);
            if gone >= AT_WORK && left >= work / 3 {
                best = best.max(Some((left, seat.client)));
            }
        }
        best.map(|(_, client)| client)
    }
}

/// How long until a packet is sent again that has been sent so often.
fn resend_pause(tries: u8) -> Option<u64> {
    let at = *RESEND_CLIENT.get(usize::from(tries))?;
    let before = tries.checked_sub(1).map_or(0, |before| RESEND_CLIENT[usize::from(before)]);
    Some(at - before)
}

/// What the end of a call that was begun at `begun` tells of leases. A lease is counted from when
/// it was asked for: the service counts from later, so the client never believes too long in it.
fn learn(leases: &mut BTreeMap<(SmolStr, u64), u64>, op: &Op, done: &Done, begun: u64) {
    let until = |lease_ms: &u64| begun + lease_ms * 1_000_000;
    match (op, done.outcome, &done.ret) {
        (Op::Acquire { lock, lease_ms }, Outcome::Ok, Ret::Token(token)) => {
            leases.insert((lock.clone(), *token), until(lease_ms));
        }
        (Op::Renew { lock, token, lease_ms }, Outcome::Ok, _) => {
            leases.insert((lock.clone(), *token), until(lease_ms));
        }
        // It may have been shortened.
        (Op::Renew { lock, token, lease_ms }, Outcome::Info, _) => {
            if let Some(expiry) = leases.get_mut(&(lock.clone(), *token)) {
                *expiry = (*expiry).min(until(lease_ms));
            }
        }
        // It is over, or may be.
        (Op::Release { lock, token }, ..) => {
            leases.remove(&(lock.clone(), *token));
        }
        _ => {}
    }
}

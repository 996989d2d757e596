//! Clients of the test world: each has one call in progress, driven by the real client machine.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use duress_kv::api::{ClientId, Op, Reply, Request, Response};
use duress_machine::client::{self, Action, Outcome, Policy};
use duress_machine::{Input, NodeId, RequestId};
use duress_seed::Seed;

use super::{Cluster, Event, Service};

/// What a client does next: a function of how many calls it has made. `None` ends it.
pub type Workload = Box<dyn FnMut(u64) -> Option<Op>>;

/// A finished or unfinished call.
#[derive(Clone, Debug)]
pub struct Call {
    pub client: ClientId,
    pub op: Op,
    pub invoked: Duration,
    /// When and how it ended; `None` while it is in progress.
    pub completed: Option<(Duration, Outcome<Response>)>,
}

impl Call {
    /// The answer, if the operation took effect.
    pub fn ok(&self) -> Option<&Reply> {
        match &self.completed {
            Some((_, Outcome::Ok { answer, .. })) => answer.result.as_ref().ok(),
            _ => None,
        }
    }

    /// Whether it certainly took no effect.
    pub fn failed(&self) -> bool {
        matches!(self.completed, Some((_, Outcome::Failed { .. })))
    }

    /// Whether it may have taken effect, nobody knows.
    pub fn unknown(&self) -> bool {
        !matches!(self.completed, Some((_, Outcome::Ok { .. } | Outcome::Failed { .. })))
    }
}

/// What each client's latest call gave, for workloads that go on from there; `None` if it did not
/// certainly take effect.
pub type Replies = Rc<RefCell<BTreeMap<ClientId, Option<Reply>>>>;

pub struct Client {
    id: ClientId,
    policy: Policy,
    workload: Option<Workload>,
    think: Duration,
    calls: u64,
    first: NodeId,
    /// The call in progress: its machine, its request, and its place in the history.
    current: Option<(client::Call, Request, usize)>,
    /// Names the attempt in progress, so that late events of earlier ones are ignored.
    attempt: u64,
}

pub(super) enum ClientEvent {
    Next,
    Answer(Response),
    NotSent,
    TimedOut,
    Paused,
}

/// A policy for tests: tries for up to two seconds.
pub fn patient() -> Policy {
    Policy {
        timeout: Duration::from_secs(2),
        attempt_timeout: Duration::from_millis(500),
        max_attempts: 50,
        backoff: Duration::from_millis(20),
        exactly_once: true,
        roam: true,
    }
}

/// Reads, writes of values never written before, and cas, over `keys` keys.
pub fn mixed_workload(seed: u64, client: u64, keys: u64, calls: u64) -> Workload {
    Box::new(move |n| {
        if n >= calls {
            return None;
        }
        let seed = Seed(seed).derive("workload");
        let key = format!("k{}", seed.decide(&[client, n, 0]).below(keys)).into();
        let value = format!("{client}.{n}").into();
        Some(match seed.decide(&[client, n, 1]).below(10) {
            0..4 => Op::Read { key },
            4..8 => Op::Write { key, value },
            _ => {
                let guess = (seed.decide(&[client, n, 2]).below(4), n.saturating_sub(seed.decide(&[n]).below(4)));
                Op::Cas { key, from: (n > 2).then(|| format!("{}.{}", guess.0, guess.1).into()), to: value }
            }
        })
    })
}

/// Nothing but reads, over `keys` keys.
pub fn reading_workload(seed: u64, client: u64, keys: u64, calls: u64) -> Workload {
    let key = move |n| format!("k{}", Seed(seed).derive("workload").decide(&[client, n]).below(keys));
    Box::new(move |n| (n < calls).then(|| Op::Read { key: key(n).into() }))
}

impl<M: Service> Cluster<M> {
    /// Adds a client that begins at once, asking `first` first, and pauses for `think` between its
    /// calls.
    pub fn add_client(&mut self, first: NodeId, policy: Policy, think: Duration, workload: Workload) -> ClientId {
        let client = self.clients.len();
        let id = ClientId(client as u64);
        self.clients.push(Client {
            id,
            policy,
            workload: Some(workload),
            think,
            calls: 0,
            first,
            current: None,
            attempt: 0,
        });
        self.later(Duration::ZERO, Event::Client { client, attempt: 0, event: ClientEvent::Next });
        id
    }

    /// Makes one call with a client of its own; its place in the history.
    pub fn call(&mut self, node: NodeId, policy: Policy, op: Op) -> usize {
        let mut op = Some(op);
        let client = self.add_client(node, policy, Duration::ZERO, Box::new(move |_| op.take()));
        // The call begins at once, so that its place in the history is known.
        self.client_event(client.0 as usize, 0, ClientEvent::Next);
        self.history.len() - 1
    }

    /// Makes one call and runs the world until it has ended.
    pub fn call_and_wait(&mut self, node: NodeId, policy: Policy, op: Op) -> Call {
        let place = self.call(node, policy, op);
        let limit = self.now + policy.timeout + Duration::from_secs(1);
        self.run_until_some(limit, |cluster| cluster.history[place].completed.is_some());
        self.history[place].clone()
    }

    /// Whether every client has ended.
    pub fn clients_done(&self) -> bool {
        self.clients.iter().all(|client| client.workload.is_none() && client.current.is_none())
    }

    /// Tells every client to end after its present call.
    pub fn stop_clients(&mut self) {
        self.clients.iter_mut().for_each(|client| client.workload = None);
    }

    pub(super) fn client_event(&mut self, index: usize, attempt: u64, event: ClientEvent) {
        let client = &mut self.clients[index];
        if attempt != client.attempt {
            return;
        }
        let event = match event {
            ClientEvent::Next => return self.next_call(index),
            ClientEvent::Answer(response) => client::Event::Answered(response),
            ClientEvent::NotSent => client::Event::NotSent,
            ClientEvent::TimedOut => client::Event::Lost,
            ClientEvent::Paused => client::Event::Paused,
        };
        let Some((call, _, _)) = client.current.as_mut() else { return };
        let action = call.on(event, self.now);
        self.act(index, action);
    }

    fn next_call(&mut self, index: usize) {
        let now = self.now;
        let client = &mut self.clients[index];
        if client.current.is_some() {
            return;
        }
        let Some(op) = client.workload.as_mut().and_then(|workload| workload(client.calls)) else {
            client.workload = None;
            return;
        };
        client.calls += 1;
        let request = Request { client: client.id, sequence: client.calls, op: op.clone() };
        let (call, action) = client::Call::start(client.policy, self.settings.nodes, client.first, now);
        client.current = Some((call, request, self.history.len()));
        self.history.push(Call { client: client.id, op, invoked: now, completed: None });
        self.act(index, action);
    }

    fn act(&mut self, index: usize, action: Action<Response>) {
        let client = &mut self.clients[index];
        client.attempt += 1;
        let attempt = client.attempt;
        match action {
            Action::Send { to, within } => {
                let Some((_, request, _)) = client.current.as_ref() else { return };
                let request = request.clone();
                let delay = self.decide(&[8]).between(self.settings.delay.0, self.settings.delay.1);
                self.later(delay, Event::Request { node: to, client: index, attempt, request });
                self.later(within, Event::Client { client: index, attempt, event: ClientEvent::TimedOut });
            }
            Action::Pause(time) => {
                self.later(time, Event::Client { client: index, attempt, event: ClientEvent::Paused });
            }
            Action::Done(outcome) => {
                if let Some((call, _, place)) = client.current.take() {
                    client.first = call.node();
                    let answer = match &outcome {
                        Outcome::Ok { answer, .. } => answer.result.as_ref().ok().cloned(),
                        Outcome::Failed { .. } | Outcome::Unknown { .. } => None,
                    };
                    self.replies.borrow_mut().insert(client.id, answer);
                    self.history[place].completed = Some((self.now, outcome));
                }
                let think = self.clients[index].think;
                self.later(think, Event::Client { client: index, attempt, event: ClientEvent::Next });
            }
        }
    }

    pub(super) fn request_arrives(&mut self, node: NodeId, client: usize, attempt: u64, request: Request) {
        let delay = self.decide(&[9]).between(self.settings.delay.0, self.settings.delay.1);
        if self.machine(node).is_none() {
            self.later(delay, Event::Client { client, attempt, event: ClientEvent::NotSent });
            return;
        }
        let id = RequestId(self.next_step());
        self.waiting.insert(id, (client, attempt, node));
        self.step(node, Input::Request { id, request });
    }

    pub(super) fn respond(&mut self, node: NodeId, id: RequestId, response: Response) {
        let Some((client, attempt, asked)) = self.waiting.remove(&id) else {
            self.violations.push(format!("{node} answers request {id:?} twice or out of nowhere"));
            return;
        };
        assert_eq!(asked, node, "{node} answers what {asked} was asked");
        let delay = self.decide(&[10]).between(self.settings.delay.0, self.settings.delay.1);
        self.later(delay, Event::Client { client, attempt, event: ClientEvent::Answer(response) });
    }
}

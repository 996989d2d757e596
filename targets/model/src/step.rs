//! What can happen next, and what comes of it.

use std::time::Duration;

use duress_kv::api::{ClientId, Key, Op, Refusal, Reply, Request, Response, Value};
use duress_machine::{Effect, Effects, Input, NodeId, Reading, RequestId};

use crate::bounds::{Ask, Bounds};
use crate::register::{Operation, Return};
use crate::state::{Client, Envelope, History, Node, Shared, State, Used, Write};
use crate::subject::{Pace, Subject};

/// How far each node's wall clock is ahead of the one before, when they are skewed.
const SKEW: Duration = Duration::from_secs(3600);

/// First messages that are delivered before exploring begins, at most.
const MAX_WARM_UP: usize = 10_000;

/// One step. Whatever is lost is simply not delivered, whoever is paused or down takes no step.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action<M: Subject> {
    /// A message arrives; `again` if a copy remains on its way.
    Deliver { envelope: Envelope<M::Message>, again: bool },
    /// A timer runs out.
    TimeOut { node: NodeId, timer: M::Timer, pace: Pace },
    /// Everything asked for is on disk.
    Synced { node: NodeId },
    /// A node dies, and starts with what reached its disk: `kept` of the writes not yet durable.
    Crash { node: NodeId, kept: usize },
    /// The controller shuts `node` off for `by`, says so, and starts it again.
    Fence { by: NodeId, node: NodeId, kept: usize },
    /// A client asks a node for the next thing on its list, or for the same again.
    Ask { client: u8, node: NodeId },
}

/// A cluster to explore.
pub(crate) struct Cluster<M: Subject> {
    pub config: M::Config,
    pub bounds: Bounds,
}

impl<M: Subject> Cluster<M> {
    pub(crate) fn new(config: &M::Config, bounds: Bounds) -> Self {
        Cluster { config: M::tamed(config), bounds }
    }

    pub(crate) fn start(&self) -> State<M> {
        let nodes = (0..M::nodes(&self.config)).map(NodeId);
        let state = State {
            nodes: nodes.clone().map(|id| Shared::new(Node::new(M::new(&self.config, id), Vec::new()))).collect(),
            network: Vec::new(),
            fences: Default::default(),
            clock: Duration::ZERO,
            clients: vec![Client::default(); self.bounds.clients.len()],
            history: Shared::new(History::new()),
            led: Default::default(),
            led_twice: None,
            used: Used::default(),
        };
        let mut turn = Turn { cluster: self, state, notes: None, asked: None, refused: false };
        for node in nodes {
            turn.input(node, Input::Started { recovered: Vec::new() });
            turn.finish_syncs(node);
        }
        if self.bounds.warm {
            for _ in 0..MAX_WARM_UP {
                if turn.state.network.is_empty() {
                    break;
                }
                let envelope = turn.state.network.remove(0);
                let Envelope { from, to, message } = (*envelope).clone();
                turn.input(to, Input::Message { from, message });
                turn.finish_syncs(to);
            }
        }
        turn.state
    }

    /// Everything that may happen next, within the bounds; some of it may turn out to change
    /// nothing.
    pub(crate) fn possible(&self, state: &State<M>, actions: &mut Vec<Action<M>>) {
        let ids = || (0..state.nodes.len() as u16).map(NodeId);
        // While a node waits for its disk only that disk and a crash matter to it, and to the
        // others it doesn't matter when they come: so they come first.
        if !self.bounds.overlapping_syncs
            && let Some(node) = ids().find(|id| state.nodes[usize::from(id.0)].syncing())
        {
            actions.push(Action::Synced { node });
            self.crashes(state, node, actions);
            self.fences(state, Some(node), actions);
            return;
        }
        for (i, envelope) in state.network.iter().enumerate() {
            if i > 0 && *envelope == state.network[i - 1] {
                continue;
            }
            actions.push(Action::Deliver { envelope: (**envelope).clone(), again: false });
            if state.used.duplicates < self.bounds.duplicates {
                actions.push(Action::Deliver { envelope: (**envelope).clone(), again: true });
            }
        }
        for (client, script) in state.clients.iter().zip(&self.bounds.clients).enumerate() {
            let (client, (progress, script)) = (client as u8, script);
            let next = progress.tried == 0 && usize::from(progress.ended) < script.len();
            let again = progress.tried > 0 && state.used.retries < self.bounds.retries;
            if next || again {
                actions.extend(ids().map(|node| Action::Ask { client, node }));
            }
        }
        for node in ids() {
            let at = &state.nodes[usize::from(node.0)];
            if at.syncing() {
                actions.push(Action::Synced { node });
            }
            if state.used.timeouts < self.bounds.timeouts {
                for timer in at.timers.keys() {
                    let paces = at.machine.paces(&self.config, *timer);
                    actions.extend(paces.iter().map(|pace| Action::TimeOut { node, timer: *timer, pace: *pace }));
                }
            }
            self.crashes(state, node, actions);
        }
        self.fences(state, None, actions);
    }

    fn crashes(&self, state: &State<M>, node: NodeId, actions: &mut Vec<Action<M>>) {
        if state.used.crashes < self.bounds.crashes {
            let unsynced = state.nodes[usize::from(node.0)].unsynced.len();
            actions.extend((0..=unsynced).map(|kept| Action::Crash { node, kept }));
        }
    }

    fn fences(&self, state: &State<M>, only: Option<NodeId>, actions: &mut Vec<Action<M>>) {
        for (by, node) in state.fences.iter().copied().filter(|(_, node)| only.is_none_or(|only| only == *node)) {
            let unsynced = state.nodes[usize::from(node.0)].unsynced.len();
            actions.extend((0..=unsynced).map(|kept| Action::Fence { by, node, kept }));
        }
    }

    /// What comes of an action; nothing if it changes nothing that matters. What the nodes did
    /// is told in `notes`.
    pub(crate) fn follow(
        &self,
        state: &State<M>,
        action: &Action<M>,
        notes: Option<&mut Vec<String>>,
    ) -> Option<State<M>> {
        let mut turn = Turn { cluster: self, state: state.clone(), notes, asked: None, refused: false };
        match action {
            Action::Deliver { envelope, again } => {
                turn.take(envelope, *again);
                let Envelope { from, to, message } = envelope.clone();
                // What says nothing to its receiver may as well stay on its way for ever.
                turn.input(to, Input::Message { from, message }).then_some(())?;
            }
            Action::TimeOut { node, timer, pace } => {
                let at = &turn.state.nodes[usize::from(node.0)];
                turn.state.clock = turn.state.clock.max(*at.timers.get(timer)?);
                if *pace == Pace::Late {
                    turn.state.clock += M::long(&self.config);
                }
                turn.state.used.timeouts += 1;
                turn.change(*node, |at| at.timers.remove(timer));
                turn.input(*node, Input::Timer(*timer)).then_some(())?;
            }
            Action::Synced { node } => turn.sync(*node),
            Action::Crash { node, kept } => {
                turn.state.used.crashes += 1;
                turn.restart(*node, *kept);
            }
            Action::Fence { by, node, kept } => {
                turn.state.fences.remove(&(*by, *node));
                turn.input(*by, Input::Fenced { node: *node });
                turn.restart(*node, *kept);
            }
            Action::Ask { client, node } => {
                turn.ask(*client, *node);
                // The client asks elsewhere, or later: as if it had not asked.
                (!turn.refused).then_some(())?;
            }
        }
        turn.finish_dull_syncs();
        Some(turn.state)
    }

    /// What a client asks for with its `index`-th operation.
    fn operation(&self, client: u8, index: u8) -> Option<(Ask, Value)> {
        let before: usize = self.bounds.clients.iter().take(client.into()).map(Vec::len).sum();
        let ask = *self.bounds.clients.get(usize::from(client))?.get(usize::from(index))?;
        let number = before + usize::from(index);
        let letter = char::from_u32('a' as u32 + number as u32 % 26).unwrap_or('a');
        let value = if number < 26 { letter.to_string() } else { format!("{letter}{}", number / 26) };
        Some((ask, Value::from(value)))
    }
}

/// A step being taken.
struct Turn<'a, M: Subject> {
    cluster: &'a Cluster<M>,
    state: State<M>,
    notes: Option<&'a mut Vec<String>>,
    /// The attempt that the step makes.
    asked: Option<RequestId>,
    /// It was refused at once, for certain.
    refused: bool,
}

impl<M: Subject> Turn<'_, M> {
    fn note(&mut self, words: impl FnOnce() -> String) {
        if let Some(notes) = &mut self.notes {
            notes.push(words());
        }
    }

    fn change<T>(&mut self, node: NodeId, change: impl FnOnce(&mut Node<M>) -> T) -> T {
        let place = &mut self.state.nodes[usize::from(node.0)];
        let mut at = (**place).clone();
        let given = change(&mut at);
        *place = Shared::new(at);
        given
    }

    fn reading(&self, node: NodeId) -> Reading {
        // Wall clocks stand still: nothing but leases of locks, which nobody asks for, and the
        // tags of `timestamps: wall` depends on them.
        let ahead = if self.cluster.bounds.skewed_clocks { SKEW * u32::from(node.0) } else { Duration::ZERO };
        Reading { wall: SKEW + ahead, monotonic: self.state.clock }
    }

    /// Takes a message that arrives from the network.
    fn take(&mut self, envelope: &Envelope<M::Message>, again: bool) {
        let network = &mut self.state.network;
        let Some(at) = network.iter().position(|one| **one == *envelope) else { return };
        let link = |one: &Envelope<M::Message>| (one.from, one.to);
        let first = match self.cluster.bounds.reordering {
            true => at,
            // Those before it are lost.
            false => network.partition_point(|one| link(one) < link(envelope)),
        };
        let last = if again { at } else { at + 1 };
        network.drain(first..last);
        self.state.used.duplicates += u8::from(again);
    }

    fn send(&mut self, from: NodeId, to: NodeId, message: M::Message) {
        if usize::from(to.0) >= self.state.nodes.len() || to == from {
            return;
        }
        let envelope = Envelope { from, to, message };
        let network = &mut self.state.network;
        let at = match self.cluster.bounds.reordering {
            true => network.partition_point(|one| **one <= envelope),
            false => network.partition_point(|one| (one.from, one.to) <= (from, to)),
        };
        network.insert(at, Shared::new(envelope));
    }

    /// Gives a node an input. Whether anything came of it.
    fn input(&mut self, node: NodeId, input: Input<M>) -> bool {
        let now = self.reading(node);
        let (clock, before) = (now.monotonic, self.state.nodes[usize::from(node.0)].clone());
        let mut effects = Effects::default();
        let mut at = (*before).clone();
        at.machine.step(input, now, &mut effects);
        let changed = !effects.as_slice().is_empty() || at.machine != before.machine;
        let mut spoken = Vec::new();
        for effect in effects.drain() {
            match effect {
                Effect::SetTimer { timer, after } => {
                    at.timers.insert(timer, clock + after);
                }
                Effect::CancelTimer { timer } => {
                    at.timers.remove(&timer);
                }
                Effect::Append { record } => {
                    at.unsynced.push(Write::Append(record));
                    at.written += 1;
                }
                Effect::Rewrite { records } => {
                    at.unsynced.push(Write::Rewrite(records));
                    at.written += 1;
                }
                Effect::Sync => at.asked = at.written,
                Effect::Observe(_) => {}
                Effect::Send { .. } | Effect::Respond { .. } | Effect::Fence { .. } => spoken.push(effect),
            }
        }
        let (was, is) = (before.machine.status(now), at.machine.status(now));
        self.state.nodes[usize::from(node.0)] = Shared::new(at);
        if is.role.leads() && *self.state.led.entry(is.term).or_insert(node) != node {
            self.state.led_twice.get_or_insert(is.term);
        }
        if (was.role, was.term) != (is.role, is.term) {
            self.note(|| match M::HAS_LEADER {
                true => format!("{node} is {} in term {}", is.role, is.term),
                false => format!("{node} is {}", is.role),
            });
        }
        if was.commit_index != is.commit_index {
            self.note(|| format!("{node} has applied the log up to {}", is.commit_index));
        }
        for effect in spoken {
            match effect {
                Effect::Send { to, message } => self.send(node, to, message),
                Effect::Respond { id, response } => self.answer(id, response),
                Effect::Fence { node: other } => {
                    self.note(|| format!("{node} asks the controller to shut off {other}"));
                    self.state.fences.insert((node, other));
                }
                _ => {}
            }
        }
        changed
    }

    fn sync(&mut self, node: NodeId) {
        let through = self.change(node, |at| {
            let count = (at.asked - at.durable) as usize;
            at.durable = at.asked;
            at.reach_disk(count);
            at.durable
        });
        self.input(node, Input::Durable { through });
    }

    fn finish_syncs(&mut self, node: NodeId) {
        while self.state.nodes[usize::from(node.0)].syncing() {
            self.sync(node);
        }
    }

    /// Lets those disks finish whose nodes can't be stopped before they do.
    fn finish_dull_syncs(&mut self) {
        let bounds = &self.cluster.bounds;
        if bounds.overlapping_syncs || self.state.used.crashes < bounds.crashes {
            return;
        }
        loop {
            let dull = (0..self.state.nodes.len() as u16).map(NodeId).find(|node| {
                self.state.nodes[usize::from(node.0)].syncing()
                    && !self.state.fences.iter().any(|(_, fenced)| fenced == node)
            });
            match dull {
                Some(node) => self.sync(node),
                None => return,
            }
        }
    }

    /// Ends a node's life and begins its next.
    fn restart(&mut self, node: NodeId, kept: usize) {
        let config = &self.cluster.config;
        let log = self.change(node, |at| {
            at.reach_disk(kept.min(at.unsynced.len()));
            *at = Node::new(M::new(config, node), std::mem::take(&mut at.log));
            at.log.clone()
        });
        // Nobody is left to be told.
        self.state.fences.retain(|(by, _)| *by != node);
        self.input(node, Input::Started { recovered: log });
    }

    fn ask(&mut self, client: u8, node: NodeId) {
        let progress = &mut self.state.clients[usize::from(client)];
        let (index, attempt) = (progress.ended, progress.tried);
        let Some((ask, value)) = self.cluster.operation(client, index) else { return };
        let key = Key::new_static("x");
        let (op, operation) = match ask {
            Ask::Read => (Op::Read { key }, Operation::Read),
            Ask::Write => (Op::Write { key, value: value.clone() }, Operation::Write(value)),
            Ask::Cas => (Op::Cas { key, from: None, to: value.clone() }, Operation::SetFirst(value)),
        };
        progress.tried += 1;
        if attempt == 0 {
            let mut history = (*self.state.history).clone();
            history.invoke(client, operation);
            self.state.history = Shared::new(history);
        } else {
            self.state.used.retries += 1;
        }
        let id = RequestId(u64::from(client) << 16 | u64::from(index) << 8 | u64::from(attempt));
        self.asked = Some(id);
        let request = Request { client: ClientId(u64::from(client) + 1), sequence: u64::from(index) + 1, op };
        self.input(node, Input::Request { id, request });
    }
    /// A node answers an attempt. Only the answer to the present operation is heard.
    fn answer(&mut self, id: RequestId, response: Response) {
        let (client, index, attempt) = ((id.0 >> 16) as u8, (id.0 >> 8) as u8, id.0 as u8);
        let Some(progress) = self.state.clients.get_mut(usize::from(client)) else { return };
        if progress.ended != index || progress.tried <= attempt {
            return;
        }
        let given = match &response.result {
            Ok(Reply::Value(value)) => Return::Value(value.clone()),
            Ok(_) => Return::Done,
            Err(Refusal::CasMismatch { actual }) => Return::Mismatch(actual.clone()),
            Err(refusal) => {
                let definite = refusal.is_definite() && *refusal != Refusal::Superseded;
                self.refused |= definite && self.asked == Some(id);
                if !definite || progress.tried > 1 {
                    // It may have had, or have yet, an effect, if only by another attempt.
                    return self.note(|| told(client, &response));
                }
                Return::Refused
            }
        };
        progress.tried = 0;
        progress.ended += 1;
        progress.succeeded += u8::from(given != Return::Refused);
        let mut history = (*self.state.history).clone();
        history.give(client, given);
        self.state.history = Shared::new(history);
        self.note(|| told(client, &response));
    }
}

fn told(client: u8, response: &Response) -> String {
    let answer = match &response.result {
        Ok(Reply::Value(None)) => "it is unset".into(),
        Ok(Reply::Value(Some(value))) => format!("it is {value}"),
        Ok(_) => "done".into(),
        Err(refusal) => refusal.name().into(),
    };
    format!("{} tells client {}: {answer}", response.node, client + 1)
}

impl<M: Subject> Cluster<M> {
    /// An action in words; with the state before it, in more.
    pub(crate) fn words(&self, action: &Action<M>, before: Option<&State<M>>) -> String {
        let kept = |kept: usize| match kept {
            0 => String::new(),
            1 => ", after one more write has reached its disk".into(),
            more => format!(", after {more} more writes have reached its disk"),
        };
        match action {
            Action::Deliver { envelope: Envelope { from, to, message }, again } => {
                let again = if *again { " (and will again)" } else { "" };
                format!("{to} hears from {from}{again}: {}", M::words(&self.config, message))
            }
            Action::TimeOut { node, timer, pace: Pace::OnTime } => format!("{node} {}", M::timer_words(*timer)),
            Action::TimeOut { node, timer, pace: Pace::Late } => {
                format!("much time passes; {node} {}", M::timer_words(*timer))
            }
            Action::Synced { node } => format!("{node}'s disk is done"),
            Action::Crash { node, kept: count } => format!("{node} crashes{}, and starts again", kept(*count)),
            Action::Fence { by, node, kept: count } => {
                format!("{node} is shut off for {by}{}, and started again", kept(*count))
            }
            Action::Ask { client, node } => {
                let progress = before.and_then(|state| state.clients.get(usize::from(*client)));
                let asked = progress.and_then(|progress| self.operation(*client, progress.ended));
                match asked {
                    Some((Ask::Read, _)) => format!("client {} asks {node} to read", client + 1),
                    Some((ask, value)) => format!("client {} asks {node} to {ask} {value}", client + 1),
                    None => format!("client {} asks {node}", client + 1),
                }
            }
        }
    }
}

//! What can happen next, and in which step it comes about.

use std::time::Duration;

use duress_kv::api::Value;
use duress_machine::{Input, NodeId, RequestId};

use crate::bounds::{Ask, Bounds};
use crate::state::{Client, Envelope, History, Node, Shared, State, Used};
use crate::subject::{Pace, Subject};
use crate::turn::Turn;

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
    /// A client hears an answer.
    Hear { id: RequestId },
}

/// A cluster to explore.
pub(crate) struct Cluster<M: Subject> {
    pub config: M::Config,
    pub bounds: Bounds,
}

impl<M: Subject> Cluster<M> {
    pub(crate) fn new(config: &M::Config, bounds: Bounds) -> Self {
        // Numbers of clients, operations and attempts are bytes of a request's id.
        let mut bounds = bounds;
        bounds.clients.truncate(255);
        bounds.clients.iter_mut().for_each(|script| script.truncate(255));
        bounds.retries = bounds.retries.min(254);
        Cluster { config: M::tamed(config), bounds }
    }

    pub(crate) fn start(&self) -> State<M> {
        let ids = (0..M::nodes(&self.config)).map(NodeId);
        let state = State {
            nodes: ids.clone().map(|id| Shared::new(Node::new(M::new(&self.config, id), Vec::new()))).collect(),
            network: Vec::new(),
            fences: Default::default(),
            clock: Duration::ZERO,
            clients: vec![Client::default(); self.bounds.clients.len()],
            answers: Default::default(),
            history: Shared::new(History::new()),
            led: Default::default(),
            led_twice: None,
            used: Used::default(),
        };
        let mut turn = Turn { cluster: self, state, notes: None, asked: None, refused: false };
        for node in ids.clone() {
            turn.input(node, Input::Started { recovered: Vec::new() });
            turn.finish_syncs(node);
        }
        if self.bounds.warm {
            turn.deliver_all();
            if M::WARM_UP_TICK {
                for node in ids {
                    let timers: Vec<M::Timer> = turn.state.nodes[usize::from(node.0)].timers.keys().copied().collect();
                    timers.into_iter().for_each(|timer| turn.fire(node, timer));
                    turn.deliver_all();
                }
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
        actions.extend(state.answers.keys().map(|id| Action::Hear { id: *id }));
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
            Action::Hear { id } => {
                let answer = turn.state.answers.remove(id)?;
                turn.hear(*id, answer);
            }
        }
        turn.finish_dull_syncs();
        Some(turn.state)
    }

    /// What a client asks for with its `index`-th operation.
    pub(crate) fn operation(&self, client: u8, index: u8) -> Option<(Ask, Value)> {
        let before: usize = self.bounds.clients.iter().take(client.into()).map(Vec::len).sum();
        let ask = *self.bounds.clients.get(usize::from(client))?.get(usize::from(index))?;
        let number = before + usize::from(index);
        let letter = char::from_u32('a' as u32 + number as u32 % 26).unwrap_or('a');
        let value = if number < 26 { letter.to_string() } else { format!("{letter}{}", number / 26) };
        Some((ask, Value::from(value)))
    }
}

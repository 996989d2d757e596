//! Who leads next: what a node does that hears no primary, and what it promises to others.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use duress_machine::{Effect, Effects, NodeId, Reading, Role};

use super::message::{Message, Position};
use super::{Awaited, Failover, PrimaryBackup};
use crate::bugs::Bug;

/// An attempt to lead. First the node asks whether it would be let, and disturbs nobody if not;
/// then it enters the view and asks for firm promises.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Candidacy {
    view: u64,
    firm: bool,
    promises: BTreeMap<NodeId, Promised>,
    /// Shut off since the attempt began.
    fenced: BTreeSet<NodeId>,
    /// Every other node has promised or been shut off, and those shut off are shut off again: see
    /// [`PrimaryBackup::judge`].
    sealed: bool,
}

/// What another node answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Promised {
    pub(super) granted: bool,
    pub(super) in_sync: bool,
    pub(super) position: Position,
}

impl PrimaryBackup {
    /// Waits in patience for a primary.
    pub(super) fn wait(&mut self, now: Reading) {
        self.deadline = now.monotonic + self.config.patience(self.me, self.view, self.attempts);
    }

    /// The waiting was in vain.
    pub(super) fn act(&mut self, now: Reading, effects: &mut Effects<Self>) {
        let returned = self.role == Role::Recovering;
        let previous = self.candidacy.take();
        self.leader = None;
        match self.config.failover {
            Failover::None if self.me == NodeId(0) => self.promote(now, effects),
            Failover::None => {}
            // A node that has restarted lets another go first that is known to have more.
            Failover::Timeout if returned && self.outdone && self.attempts == 0 => self.canvass(now, effects),
            Failover::Timeout => self.promote(now, effects),
            Failover::Vote => self.canvass(now, effects),
            Failover::Fenced => {
                self.canvass(now, effects);
                if self.in_sync {
                    self.fence_silent(previous.as_ref(), effects);
                }
            }
        }
        self.attempts += 1;
        self.wait(now);
    }

    /// Asks for those to be shut off who stand in the way: first the primary that fell silent,
    /// then whoever did not answer the attempt before.
    fn fence_silent(&mut self, previous: Option<&Candidacy>, effects: &mut Effects<Self>) {
        let primary = self.config.primary(self.view);
        for node in self.others() {
            let silent = match previous {
                None => node == primary,
                Some(previous) => !previous.promises.contains_key(&node),
            };
            if silent {
                effects.push(Effect::Fence { node });
            }
        }
    }

    /// Enters the next view of one's own and leads in it, without asking anybody.
    pub(super) fn promote(&mut self, now: Reading, effects: &mut Effects<Self>) {
        let old = self.config.primary(self.view);
        if let Some(view) = self.config.next_view(self.view, self.me) {
            self.adopt(view, now, effects);
            self.awaiting = Some((self.journal.written(), Awaited::Lead(Some(old))));
        }
    }

    /// Asks all others whether they would let this node lead.
    pub(super) fn canvass(&mut self, now: Reading, effects: &mut Effects<Self>) {
        let Some(view) = self.config.next_view(self.view, self.me) else { return };
        let candidacy =
            Candidacy { view, firm: false, promises: BTreeMap::new(), fenced: BTreeSet::new(), sealed: false };
        self.ask(candidacy, now, effects);
    }

    fn ask(&mut self, candidacy: Candidacy, now: Reading, effects: &mut Effects<Self>) {
        let (view, firm, position) = (candidacy.view, candidacy.firm, self.log.position());
        self.candidacy = Some(candidacy);
        for node in self.others() {
            effects.send(node, Message::ViewChange { view, firm, position });
        }
        self.judge(now, effects);
    }

    /// What was waited for may have become durable.
    pub(super) fn awaited(&mut self, now: Reading, effects: &mut Effects<Self>) {
        match self.awaiting {
            Some((position, awaited)) if position <= self.journal.durable_position() => {
                self.awaiting = None;
                match awaited {
                    Awaited::Lead(old) => {
                        // The naive failover takes the old primary for dead; a backup that is as
                        // well is found out in time.
                        let mut active = self.others();
                        match self.config.failover {
                            Failover::Timeout => active.retain(|node| Some(*node) != old),
                            // A backup is admitted once it answers.
                            Failover::Fenced => active.clear(),
                            Failover::None | Failover::Vote => {}
                        }
                        self.lead(&active, now, effects);
                    }
                    Awaited::Campaign => {
                        if let Some(candidacy) = self.candidacy.take() {
                            self.ask(candidacy, now, effects);
                        }
                    }
                }
            }
            _ => {}
        }
    }

    /// Another node would lead.
    pub(super) fn view_change(
        &mut self,
        from: NodeId,
        view: u64,
        firm: bool,
        position: Position,
        now: Reading,
        effects: &mut Effects<Self>,
    ) {
        if from == self.me || from != self.config.primary(view) || self.config.failover == Failover::None {
            return;
        }
        let again = view == self.view && firm && self.leader.is_none() && self.leading.is_none();
        if view <= self.view && !again {
            return effects.send(from, Message::Newer { view: self.view });
        }
        let mine = self.log.position();
        let recent = now.monotonic.saturating_sub(self.heard) < self.config.failover_timeout;
        let led = self.leading.is_some() || (self.leader.is_some() && recent);
        let granted = !led
            && match self.config.failover {
                Failover::Vote => position >= mine || self.bug(Bug::PromotionWithoutCatchUp),
                Failover::Fenced => true,
                Failover::None | Failover::Timeout => false,
            };
        // Who has more, or has everything, should be the one to lead.
        let better = match self.config.failover {
            Failover::Vote => mine > position,
            Failover::Fenced => mine > position || self.in_sync,
            Failover::None | Failover::Timeout => false,
        };
        if !led && better && self.candidacy.is_none() {
            let soon = now.monotonic + self.config.heartbeat;
            self.deadline = self.deadline.min(soon);
        }
        if granted && firm {
            self.adopt(view, now, effects);
        }
        let message = Message::Promise { view, firm, granted, in_sync: self.in_sync, position: mine };
        if firm && !self.bug(Bug::PromiseBeforeDurable) {
            self.journal.when_durable(Effect::Send { to: from, message }, effects);
        } else {
            effects.send(from, message);
        }
    }

    /// Another node has answered.
    pub(super) fn promised(
        &mut self,
        from: NodeId,
        view: u64,
        firm: bool,
        promised: Promised,
        now: Reading,
        effects: &mut Effects<Self>,
    ) {
        self.outdone |= promised.position > self.log.position();
        let Some(candidacy) = &mut self.candidacy else { return };
        if candidacy.view != view || candidacy.firm != firm || from == self.me {
            return;
        }
        candidacy.promises.insert(from, promised);
        self.judge(now, effects);
    }

    /// The controller has shut a node off.
    pub(super) fn fenced(&mut self, node: NodeId, now: Reading, effects: &mut Effects<Self>) {
        if self.leading.is_some() {
            return self.without(node, now, effects);
        }
        if let Some(candidacy) = &mut self.candidacy {
            candidacy.fenced.insert(node);
            self.judge(now, effects);
        }
    }

    /// Goes a step further once enough others agree.
    fn judge(&mut self, now: Reading, effects: &mut Effects<Self>) {
        if self.awaiting.is_some() {
            return;
        }
        let others = self.others();
        let mine = self.log.position();
        let Some(candidacy) = &mut self.candidacy else { return };
        let granted = |node: &NodeId| candidacy.promises.get(node).filter(|promised| promised.granted);
        let enough = match self.config.failover {
            Failover::None | Failover::Timeout => false,
            Failover::Vote => others.iter().filter_map(granted).count() + 1 >= self.config.majority(),
            Failover::Fenced if self.in_sync => {
                others.iter().all(|node| granted(node).is_some() || candidacy.fenced.contains(node))
            }
            // No log may be missing, and none may have more than this node's.
            Failover::Fenced => others.iter().all(|node| granted(node).is_some_and(|p| p.position <= mine)),
        };
        if !enough {
            return;
        }
        if !candidacy.firm {
            candidacy.firm = true;
            candidacy.promises.clear();
            let candidacy = self.candidacy.take();
            let view = candidacy.as_ref().map_or(self.view, |c| c.view);
            self.adopt(view, now, effects);
            self.candidacy = candidacy;
            self.role = Role::Candidate;
            if self.bug(Bug::PromiseBeforeDurable) {
                return self.candidacy.take().map_or((), |candidacy| self.ask(candidacy, now, effects));
            }
            self.awaiting = Some((self.journal.written(), Awaited::Campaign));
            return;
        }
        // A node that was shut off may have been started again and admitted by a primary that
        // was itself still to be stopped. Now that nobody leads any more, nobody is admitted any
        // more, and shutting off once more whoever has not promised settles it.
        if self.config.failover == Failover::Fenced && !candidacy.sealed && others.len() > 1 {
            candidacy.sealed = true;
            let again: Vec<NodeId> = others.iter().copied().filter(|node| granted(node).is_none()).collect();
            candidacy.fenced.clear();
            if !again.is_empty() {
                again.into_iter().for_each(|node| effects.push(Effect::Fence { node }));
                return;
            }
        }
        // In sync, and having promised, they rely on no write being acknowledged without them.
        let active: Vec<NodeId> =
            candidacy.promises.iter().filter(|(_, p)| p.granted && p.in_sync).map(|(node, _)| *node).collect();
        self.lead(&active, now, effects);
    }

    /// There is a newer view.
    pub(super) fn outrun(&mut self, view: u64, now: Reading, effects: &mut Effects<Self>) {
        if view <= self.view {
            return;
        }
        let led = self.leading.is_some();
        self.adopt(view, now, effects);
        if self.config.failover == Failover::None && self.me == NodeId(0) {
            return self.promote(now, effects);
        }
        // Whoever led is the most likely to be let lead again.
        if led && matches!(self.config.failover, Failover::Vote | Failover::Fenced) {
            self.deadline = now.monotonic + self.pause();
        }
    }

    fn pause(&self) -> Duration {
        let key = [u64::from(self.me.0), self.view];
        self.config.seed.derive("pause").decide(&key).between(Duration::ZERO, self.config.heartbeat)
    }
}

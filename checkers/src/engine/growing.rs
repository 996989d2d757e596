//! What a [`Frontier`] does only for a history that grows, where nobody knows yet how an operation
//! in progress will end.

use super::antichain::Configuration;
use super::certificate::Trail;
use super::frontier::{Frontier, Slot};

/// How things were at a moment, to go back to it. Classes of pending operations are never dropped
/// meanwhile, so what configurations say of them stays true.
#[derive(Clone)]
pub(super) struct Snapshot<const N: usize> {
    configurations: Box<[Configuration<N>]>,
    slots: Box<[(u16, Slot<N>)]>,
    /// How many operations of each class had been called.
    called: Box<[u16]>,
}

impl<const N: usize> Snapshot<N> {
    /// The values that this speaks of, those of operations apart.
    pub(super) fn values(&self) -> impl Iterator<Item = u32> + '_ {
        self.configurations.iter().map(|configuration| configuration.value)
    }

    /// Bytes in use.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.configurations) + size_of_val(&*self.slots) + size_of_val(&*self.called)
    }
}

impl<const N: usize> Frontier<N> {
    /// From now on operations in progress may also fail or become pending.
    pub(super) fn follow_growing_history(&mut self) {
        self.growing = true;
    }

    /// Makes room for more values.
    pub(super) fn more_values(&mut self, values: usize) {
        self.about.resize(self.about.len().max(values), super::frontier::About::NOTHING);
    }

    /// Starts with several values that may be there.
    pub(super) fn may_hold(&mut self, values: &[u32]) {
        self.configurations.clear();
        self.configurations.extend(values.iter().map(|value| Configuration::new(*value, Trail::START)));
    }

    /// The values that configurations and classes of pending operations speak of.
    pub(super) fn values(&self) -> impl Iterator<Item = u32> + '_ {
        let actions = self.pending.classes.iter().flatten().map(|class| class.action);
        let actions = actions.chain(self.taken.slots().map(|slot| self.slots[slot].action));
        let of_actions = actions.flat_map(|action| {
            let mut values = Vec::new();
            action.map(|value| {
                values.push(value);
                value
            });
            values
        });
        self.configurations.iter().map(|configuration| configuration.value).chain(of_actions)
    }

    pub(super) fn snapshot(&self) -> Snapshot<N> {
        Snapshot {
            configurations: self.configurations.as_slice().into(),
            slots: self.taken.slots().map(|slot| (slot as u16, self.slots[slot])).collect(),
            called: self.pending.classes.iter().map(|class| class.map_or(0, |class| class.called)).collect(),
        }
    }

    /// Goes back to how things were.
    pub(super) fn restore(&mut self, snapshot: &Snapshot<N>) {
        for slot in self.taken.slots() {
            self.free(slot);
        }
        for (slot, with) in &snapshot.slots {
            self.occupy((*slot).into(), *with);
        }
        self.configurations.clear();
        self.configurations.extend_from_slice(&snapshot.configurations);
        for (class, known) in self.pending.classes.iter_mut().enumerate() {
            if let Some(known) = known {
                known.called = snapshot.called.get(class).copied().unwrap_or(0);
            }
        }
    }

    /// The operation of a slot turns out not to have taken effect.
    pub(super) fn fails(&mut self, slot: usize) {
        let is_read = self.kinds.reads.has(slot);
        self.free(slot);
        let configurations = std::mem::take(&mut self.configurations);
        for mut configuration in configurations.into_iter().filter(|c| is_read || !c.done.has(slot)) {
            configuration.done.clear(slot);
            configuration.absorbed.clear(slot);
            self.next.add(configuration, &self.kinds, &self.pending);
        }
        self.next.take_into(&mut self.configurations);
    }

    /// It will never be known how the operation of a slot ended.
    pub(super) fn becomes_pending(&mut self, slot: usize) {
        if self.kinds.reads.has(slot) {
            return self.fails(slot);
        }
        let action = self.slots[slot].action;
        self.free(slot);
        let serial = self.pending.call(action, u32::MAX);
        let class = self.pending.classes.iter().position(|class| class.is_some_and(|class| class.serial == serial));
        let configurations = std::mem::take(&mut self.configurations);
        for mut configuration in configurations {
            if configuration.done.has(slot)
                && let Some(class) = class
            {
                configuration.used = self.pending.with(configuration.used, class);
            }
            configuration.done.clear(slot);
            configuration.absorbed.clear(slot);
            self.next.add(configuration, &self.kinds, &self.pending);
        }
        self.next.take_into(&mut self.configurations);
    }
}

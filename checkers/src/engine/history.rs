//! Histories of registers as the engine takes them.

use crate::register::{RegisterOp, RegisterRet};
use crate::wgl::Entry;

/// What an operation did to a register, if it took effect. Values are numbers that stand for
/// values; only which are equal matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// It read this.
    Read(u32),
    /// It set this.
    Write(u32),
    /// It found `from` and set `to`.
    Cas {
        /// What it found.
        from: u32,
        /// What it set.
        to: u32,
    },
    /// It found anything but this: a cas that didn't match.
    Differs(u32),
}

impl Action {
    /// What a register holds after this, if it can be done to one that holds `held`.
    #[inline]
    pub(super) fn of(self, held: u32) -> Option<u32> {
        match self {
            Action::Read(value) => (value == held).then_some(held),
            Action::Differs(value) => (value != held).then_some(held),
            Action::Write(to) => Some(to),
            Action::Cas { from, to } => (from == held).then_some(to),
        }
    }

    /// The same action with other values.
    #[inline]
    pub(super) fn map(self, mut value: impl FnMut(u32) -> u32) -> Action {
        match self {
            Action::Read(seen) => Action::Read(value(seen)),
            Action::Write(to) => Action::Write(value(to)),
            Action::Cas { from, to } => Action::Cas { from: value(from), to: value(to) },
            Action::Differs(other) => Action::Differs(value(other)),
        }
    }
}

/// [`Operation::returned`] of an operation of which nobody knows whether it took or will take
/// effect.
pub const PENDING: u32 = u32::MAX;

/// One operation of a history. What certainly had no effect and told nothing must be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The register.
    pub key: u32,
    /// What it did.
    pub action: Action,
    /// The place of its invocation in the order of all events.
    pub invoked: u32,
    /// The place of its return, or [`PENDING`].
    pub returned: u32,
}

/// The operations of many registers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The operations, at most 2³⁰, best in the order of their invocations. The places of a key's
    /// events must all be different.
    pub operations: Vec<Operation>,
    /// How many registers there are; each operation's key is below.
    pub keys: u32,
    /// What every register holds at first.
    pub initial: u32,
}

/// One register's entries as a history, and which entry each operation is. `None` if there are
/// more than can be numbered, or a result that no register gives.
pub(super) fn of_entries(
    initial: u32,
    entries: &[Entry<RegisterOp<u32>, RegisterRet<u32>>],
) -> Option<(History, Vec<usize>)> {
    if entries.len() >= 1 << 30 {
        return None;
    }
    let mut operations = Vec::with_capacity(entries.len());
    let mut ids = Vec::with_capacity(entries.len());
    let mut events = Vec::with_capacity(entries.len() * 2);
    for (i, entry) in entries.iter().enumerate() {
        let action = match (&entry.op, entry.returned.as_ref().map(|(_, ret)| ret)) {
            (RegisterOp::Read, Some(RegisterRet::Value(value))) => Action::Read(*value),
            (RegisterOp::Write(value), Some(RegisterRet::Done) | None) => Action::Write(*value),
            (RegisterOp::Cas { from, to }, Some(RegisterRet::Done) | None) => Action::Cas { from: *from, to: *to },
            (RegisterOp::Cas { from, .. }, Some(RegisterRet::Mismatch)) => Action::Differs(*from),
            (RegisterOp::Read, None) => continue,
            // A result that no register gives: the general search says what follows from it.
            _ => return None,
        };
        let index = operations.len() as u32;
        operations.push(Operation { key: 0, action, invoked: 0, returned: PENDING });
        ids.push(i);
        events.push((entry.invoked, index * 2));
        if let Some((end, _)) = entry.returned {
            // Of events at the same moment, invocations come first.
            events.push((end.max(entry.invoked), index * 2 + 1));
        }
    }
    events.sort_unstable_by_key(|(at, event)| (*at, event % 2, *event));
    for (place, (_, event)) in events.into_iter().enumerate() {
        let op = &mut operations[event as usize / 2];
        *(if event.is_multiple_of(2) { &mut op.invoked } else { &mut op.returned }) = place as u32;
    }
    Some((History { operations, keys: 1, initial }, ids))
}

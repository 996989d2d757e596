//! A search for one order of accesses that respects an [`Order`] and in which every read gives the
//! value last written. Depth first; a read that fits is placed at once, since that forbids nothing;
//! a register is written again only when all reads of its value are placed, since values don't come
//! back; and no state is tried twice.

use std::collections::HashSet;

use super::order::Order;
use crate::budget::Deadline;

/// What a search found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Search {
    /// An order of all accesses.
    Order(Vec<usize>),
    /// There is none.
    None,
    /// The budget was used up; this many were placed at best.
    Limit { placed: usize },
}

struct State<'o, 'v, 'h> {
    order: &'o Order<'v, 'h>,
    /// How many accesses of each session are placed.
    placed: Vec<u32>,
    /// What each register holds: an access, or nothing yet.
    holds: Vec<Option<usize>>,
    /// Reads not yet placed, of each access's value, and of what each register held at first.
    unread: Vec<u32>,
    unread_first: Vec<u32>,
    /// The accesses placed, with what their register held before.
    way: Vec<(usize, Option<usize>)>,
}

impl<'o, 'v, 'h> State<'o, 'v, 'h> {
    fn new(order: &'o Order<'v, 'h>) -> State<'o, 'v, 'h> {
        let versions = order.versions;
        let (mut unread, mut unread_first) = (vec![0; versions.accesses.len()], vec![0; versions.keys.len()]);
        for access in versions.accesses.iter().filter(|access| access.read.is_some()) {
            match access.source {
                Some(source) => unread[source] += 1,
                None => unread_first[access.key] += 1,
            }
        }
        let (placed, holds) = (vec![0; versions.sessions.len()], vec![None; versions.keys.len()]);
        State { order, placed, holds, unread, unread_first, way: Vec::new() }
    }

    fn next(&self, session: usize) -> Option<usize> {
        self.order.versions.sessions[session].get(self.placed[session] as usize).copied()
    }

    fn unread(&mut self, key: usize) -> &mut u32 {
        match self.holds[key] {
            Some(write) => &mut self.unread[write],
            None => &mut self.unread_first[key],
        }
    }

    /// Whether an access can come next.
    fn fits(&mut self, at: usize) -> bool {
        let access = self.order.versions.accesses[at];
        let is_placed = |before: usize| {
            let before = &self.order.versions.accesses[before];
            (before.place as u32) < self.placed[before.session]
        };
        if !self.order.before(at).all(is_placed) || access.read.is_some() && access.source != self.holds[access.key] {
            return false;
        }
        access.write.is_none() || *self.unread(access.key) == u32::from(access.read.is_some())
    }

    fn place(&mut self, at: usize) {
        let access = self.order.versions.accesses[at];
        let held = self.holds[access.key];
        if access.read.is_some() {
            *self.unread(access.key) -= 1;
        }
        if access.write.is_some() {
            self.holds[access.key] = Some(at);
        }
        self.placed[access.session] += 1;
        self.way.push((at, held));
    }

    fn take_back(&mut self) {
        let Some((at, held)) = self.way.pop() else { return };
        let access = self.order.versions.accesses[at];
        self.holds[access.key] = held;
        if access.read.is_some() {
            *self.unread(access.key) += 1;
        }
        self.placed[access.session] -= 1;
    }

    /// Places every read that fits, until none does.
    fn read_all(&mut self) {
        let sessions = self.placed.len();
        let mut idle = 0;
        let mut session = 0;
        while idle < sessions {
            let next = self.next(session).filter(|at| self.order.versions.accesses[*at].write.is_none());
            if let Some(at) = next.filter(|at| self.fits(*at)) {
                self.place(at);
                idle = 0;
            } else {
                session = (session + 1) % sessions;
                idle += 1;
            }
        }
    }

    /// All that the rest of a search depends on.
    fn key(&self) -> (Box<[u32]>, Box<[Option<usize>]>) {
        (self.placed.clone().into(), self.holds.clone().into())
    }
}

/// Looks for an order.
pub(super) fn order(order: &Order<'_, '_>, deadline: Deadline, memory: usize) -> Search {
    let mut state = State::new(order);
    let all = order.versions.accesses.len();
    let sessions = state.placed.len();
    let entry = sessions * 4 + state.holds.len() * 16 + 64;
    // States from which there is no way on.
    let mut dead = HashSet::new();
    // Where each choice was made: how many were placed before it, and the session to try next.
    let mut choices: Vec<(usize, usize)> = Vec::new();
    let (mut steps, mut best) = (0u64, 0);
    state.read_all();
    choices.push((state.way.len(), 0));
    while let Some((placed, first)) = choices.pop() {
        while state.way.len() > placed {
            state.take_back();
        }
        best = best.max(placed);
        if placed == all {
            return Search::Order(state.way.into_iter().map(|(at, _)| at).collect());
        }
        steps += 1;
        if steps % 256 == 0 && deadline.passed() || dead.len().saturating_mul(entry) > memory {
            return Search::Limit { placed: best };
        }
        let next = (first..sessions).find_map(|session| {
            let at = state.next(session)?;
            state.fits(at).then_some((session, at))
        });
        match next {
            Some((session, at)) => {
                choices.push((placed, session + 1));
                state.place(at);
                state.read_all();
                if dead.is_empty() || !dead.contains(&state.key()) {
                    choices.push((state.way.len(), 0));
                }
            }
            None => drop(dead.insert(state.key())),
        }
    }
    Search::None
}

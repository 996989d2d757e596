//! Containers judged without a search, in O(n log n), where every element is put in once.
//!
//! In the manner of Lee and Mathur, *Efficient Decrease-and-Conquer Linearizability Monitoring*
//! (OOPSLA 2025): take away elements whose calls can be given a place whatever the others do,
//! until none is left. For queues this comes down to the patterns of Bouajjani, Emmi, Enea and
//! Hamza, *On Reducing Linearizability to State Reachability* (ICALP 2015).
//!
//! All of it is about when an element is *surely inside*: from the return of the call that put it
//! in to the invocation of the one that took it out. An element whose two calls overlap is never
//! surely inside, and can be put in and taken out at once.
//!
//! Calls whose end is not known: an insert happened if its element was taken, and may then have
//! happened as late as that; otherwise it can be left out. Removals can be left out too if there
//! is an order without them; if there is none, they may have taken something that nobody else took,
//! so only what others took counts against an order; and if that has one, no answer is given.

mod cover;
mod priority;
mod queue;
mod stack;

use std::collections::HashMap;

use super::containers::{Container, ContainerOp, ContainerRet, Discipline};
use super::object::{Entries, Found};

/// An element: when it was put in and taken out.
#[derive(Clone, Copy, Debug)]
struct Item {
    /// Its priority, or what stands for its value.
    value: i64,
    /// The call that put it in was invoked.
    insert_from: u64,
    /// It returned; [`NEVER`] if nobody saw that.
    insert_to: u64,
    /// The call that took it out was invoked; [`NEVER`] if there was none.
    remove_from: u64,
    /// It returned.
    remove_to: u64,
    insert: u32,
    remove: u32,
}

/// After everything else.
const NEVER: u64 = u64::MAX;

/// No call.
const NONE: u32 = u32::MAX;

impl Item {
    /// It was surely inside at some time.
    fn is_solid(&self) -> bool {
        self.insert_to < self.remove_from
    }

    fn calls(&self) -> impl Iterator<Item = usize> + use<> {
        [self.insert, self.remove].into_iter().filter(|at| *at != NONE).map(|at| at as usize)
    }
}

/// Elements, those who found the container empty (as call, invocation, return), and whether
/// somebody may have taken something.
struct History {
    items: Vec<Item>,
    empties: Vec<(usize, u64, u64)>,
    pending_removals: bool,
}

/// Elements below this many times the calls are looked up in a table.
const SPARSITY: usize = 4;

/// Judges the calls of one container. `None` if an element was put in more than once, or if calls
/// of unknown outcome may matter.
pub(super) fn judge(discipline: Discipline, entries: &Entries<Container>) -> Option<Found> {
    let history = match read(entries)? {
        Ok(history) => history,
        Err(found) => return Some(found),
    };
    let contradiction = |items: &[Item]| {
        let found = match discipline {
            Discipline::Queue => queue::contradiction(items),
            Discipline::Stack => stack::contradiction(items),
            Discipline::Priority => priority::contradiction(items),
        };
        found.or_else(|| cover::nonempty(items, &history.empties))
    };
    let mut found = contradiction(&history.items);
    if found.is_some() && history.pending_removals {
        // Whatever they took, it was none of what others took; and if there is no order of the calls
        // on some elements there is none of all.
        let taken: Vec<Item> = history.items.iter().filter(|item| item.remove != NONE).copied().collect();
        found = Some(contradiction(&taken)?);
    }
    Some(match found {
        None => Found::Order,
        Some((mut calls, rule)) => {
            calls.sort_unstable();
            calls.dedup();
            Found::Contradiction { calls, rule }
        }
    })
}

fn read(entries: &Entries<Container>) -> Option<Result<History, Found>> {
    let mut index = Index::new(entries);
    let mut items: Vec<Item> = Vec::with_capacity(entries.len() / 2);
    let mut history = History { items: Vec::new(), empties: Vec::new(), pending_removals: false };
    for (at, entry) in entries.iter().enumerate() {
        let ContainerOp::Insert(value) = entry.op else { continue };
        let insert_to = entry.returned.as_ref().map_or(NEVER, |(end, _)| *end);
        let slot = index.slot(value);
        if *slot != NONE {
            return None;
        }
        *slot = items.len() as u32;
        items.push(Item {
            value,
            insert_from: entry.invoked,
            insert_to,
            remove_from: NEVER,
            remove_to: NEVER,
            insert: at as u32,
            remove: NONE,
        });
    }
    let contradiction = |mut calls: Vec<usize>, rule| {
        calls.sort_unstable();
        Some(Err(Found::Contradiction { calls, rule }))
    };
    for (at, entry) in entries.iter().enumerate() {
        match (&entry.op, &entry.returned) {
            (ContainerOp::Remove, Some((end, ContainerRet::Taken(Some(value))))) => {
                let slot = *index.slot(*value);
                let Some(item) = items.get_mut(slot as usize) else {
                    return contradiction(vec![at], "an element was taken that nobody had put in");
                };
                if item.remove != NONE {
                    let calls = item.calls().chain([at]).collect();
                    return contradiction(calls, "an element was taken twice that had been put in once");
                }
                (item.remove, item.remove_from, item.remove_to) = (at as u32, entry.invoked, *end);
                if item.remove_to < item.insert_from {
                    return contradiction(item.calls().collect(), "an element was taken before it was put in");
                }
            }
            (ContainerOp::Remove, Some((end, _))) => history.empties.push((at, entry.invoked, *end)),
            (ContainerOp::Remove, None) => history.pending_removals = true,
            _ => {}
        }
    }
    items.retain(|item| item.insert_to != NEVER || item.remove != NONE);
    history.items = items;
    Some(Ok(history))
}

/// Which item a value is.
struct Index {
    table: Vec<u32>,
    others: HashMap<i64, u32>,
}

impl Index {
    fn new(entries: &Entries<Container>) -> Index {
        Index { table: vec![NONE; entries.len() * SPARSITY + 64], others: HashMap::new() }
    }

    fn slot(&mut self, value: i64) -> &mut u32 {
        match usize::try_from(value).ok().filter(|at| *at < self.table.len()) {
            Some(at) => &mut self.table[at],
            None => self.others.entry(value).or_insert(NONE),
        }
    }
}

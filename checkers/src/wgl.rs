//! Is there an order? The search for a linearization, for any sequential specification.
//!
//! Wing and Gong, *Testing and Verifying Concurrent Objects* (JPDC 1993), as improved by Lowe,
//! *Testing for Linearizability* (2017): operations are linearized one at a time in depth-first
//! order, and a configuration (which operations have been linearized, and the state they led to)
//! is never explored twice. Candidates come from a doubly linked list of calls and returns from
//! which linearized operations are lifted (§4 of Lowe). On top of that:
//!
//! - *Passive operations are taken at once*, without a branch. If an operation that never changes
//!   the state may come next and gives its recorded result, it can be moved to the front of any
//!   linearization of what remains. (Not so for one that only happens to change nothing here: a
//!   write of the value already held may be needed later.)
//! - *Indeterminate operations* may come at any time after their invocation, or never. They are
//!   kept apart from the list, are never required, and are tried last and only where they change
//!   the state. A configuration that has used up more of them than one seen before, and is the
//!   same otherwise, can do no more than that one could, and is dropped.
//!
//! Time and memory are exponential in the number of operations in progress at once, and linear
//! in the length of the history.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{BuildHasherDefault, Hash};

use stateright::semantics::SequentialSpec;

use crate::Budget;
use crate::budget::Deadline;

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<O, R> {
    /// What was asked.
    pub op: O,
    /// When it was asked, on any scale; only the order counts.
    pub invoked: u64,
    /// When it returned, on the same scale, and what. `None`: nobody knows whether it took or
    /// will take effect. An operation that certainly had no effect must be left out.
    ///
    /// Of a return and an invocation at the same moment, the invocation comes first.
    pub returned: Option<(u64, R)>,
    /// Whatever the state, with this result the operation leaves it as it was: a read, say, or a
    /// cas that didn't match. A promise of the caller's, which spares the search many branches;
    /// `false` is always right.
    pub passive: bool,
}

/// What the search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There is an order.
    Linearizable {
        /// One such order, as indices of entries. Indeterminate operations that are not in it
        /// need not have happened.
        order: Vec<usize>,
    },
    /// There is none.
    NotLinearizable {
        /// The entry at whose return every order fails; up to just before it there is one. What
        /// was in progress then need not have happened but, if it did, gave the result that it
        /// was to give.
        stuck: usize,
    },
    /// The budget ran out.
    Unknown {
        /// The history is linearizable up to the return of this many of its operations.
        valid_up_to: usize,
        /// What ran out.
        limit: Limit,
    },
}

/// What ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The budget's time.
    Time,
    /// The budget's memory.
    Memory,
}

/// Searches for an order of `operations` that starts from `initial`, agrees with real time, and
/// gives every operation that returned its result.
pub fn search<S>(initial: S, operations: &[Entry<S::Op, S::Ret>], budget: &Budget) -> Outcome
where
    S: SequentialSpec + Clone + Hash + Eq,
{
    search_until(initial, operations, Deadline::after(budget.time), budget.memory_bytes)
}

pub(crate) fn search_until<S>(
    initial: S,
    operations: &[Entry<S::Op, S::Ret>],
    deadline: Deadline,
    memory_bytes: usize,
) -> Outcome
where
    S: SequentialSpec + Clone + Hash + Eq,
{
    Search::new(initial, operations).run(deadline, memory_bytes)
}

/// How many configurations are explored between two looks at the clock.
const CLOCK_INTERVAL: u32 = 256;

/// Estimated bytes per remembered configuration beyond its contents: two allocations, the hash
/// table's slot at its usual load, the list of indeterminate sets.
const CONFIGURATION_OVERHEAD: usize = 128;

/// A step of the order being built.
#[derive(Clone, Copy)]
enum Step {
    /// A determinate operation, by its rank among them.
    Returned(usize),
    /// An indeterminate operation, by its rank among them.
    Indeterminate(usize),
}

/// A point at which the search chose one of several ways.
struct Branch<S> {
    chosen: Step,
    /// The state before the choice.
    state: S,
    /// The length of the order before the choice.
    length: usize,
}

/// Where to look for the next candidate.
#[derive(Clone, Copy)]
enum Cursor {
    /// At this node of the list.
    Node(usize),
    /// At this indeterminate operation.
    Indeterminate(usize),
}

/// Linearized determinate operations without the leading and trailing words that are full or
/// empty, and the state. In a long history nearly all of it is one of these.
#[derive(PartialEq, Eq, Hash)]
struct Configuration<S> {
    skipped: usize,
    words: Box<[u64]>,
    state: S,
}

struct Search<'a, S: SequentialSpec> {
    entries: &'a [Entry<S::Op, S::Ret>],
    /// Determinate operations in the order of their invocations, as indices of entries.
    returned: Vec<usize>,
    /// Of each determinate operation, how many returned before it.
    rank: Vec<usize>,
    /// Indeterminate operations in the order of their invocations, as indices of entries.
    indeterminate: Vec<usize>,
    list: List,
    linearized: Bits,
    used: Bits,
    state: S,
    order: Vec<Step>,
    branches: Vec<Branch<S>>,
    /// Configurations seen, each with the sets of indeterminate operations that they had used.
    seen: HashMap<Configuration<S>, Vec<Box<[u64]>>, BuildHasherDefault<DefaultHasher>>,
    seen_bytes: usize,
    /// The latest first remaining return that any configuration had: everything that returned
    /// before it has an order. By rank among returns, and the operation.
    furthest: (usize, usize),
}

impl<'a, S> Search<'a, S>
where
    S: SequentialSpec + Clone + Hash + Eq,
{
    fn new(initial: S, entries: &'a [Entry<S::Op, S::Ret>]) -> Self {
        let mut by_invocation: Vec<usize> = (0..entries.len()).collect();
        by_invocation.sort_by_key(|i| entries[*i].invoked);
        let (returned, indeterminate): (Vec<usize>, Vec<usize>) =
            by_invocation.into_iter().partition(|i| entries[*i].returned.is_some());
        // (moment, is a return, rank of the operation)
        let mut events = Vec::with_capacity(returned.len() * 2);
        for (i, entry) in returned.iter().enumerate() {
            let entry = &entries[*entry];
            let end = entry.returned.as_ref().map_or(entry.invoked, |(at, _)| *at);
            events.push((entry.invoked, false, i));
            events.push((end.max(entry.invoked), true, i));
        }
        events.sort_unstable();
        let mut rank = vec![0; returned.len()];
        for (r, (_, _, i)) in events.iter().filter(|(_, is_return, _)| *is_return).enumerate() {
            rank[*i] = r;
        }
        Search {
            list: List::new(returned.len(), events.iter().map(|(_, is_return, i)| i * 2 + usize::from(*is_return))),
            linearized: Bits::new(returned.len()),
            used: Bits::new(indeterminate.len()),
            entries,
            rank,
            returned,
            indeterminate,
            state: initial,
            order: Vec::new(),
            branches: Vec::new(),
            seen: HashMap::default(),
            seen_bytes: 0,
            furthest: (0, 0),
        }
    }

    fn run(mut self, deadline: Deadline, memory_bytes: usize) -> Outcome {
        if self.settle() {
            return self.found();
        }
        self.remember();
        let mut cursor = Cursor::Node(self.list.first());
        let mut until_clock = CLOCK_INTERVAL;
        loop {
            let Some((step, next)) = self.candidate(cursor) else {
                match self.retreat() {
                    Some(after) => cursor = after,
                    None => return Outcome::NotLinearizable { stuck: self.returned[self.furthest.1] },
                }
                continue;
            };
            let before = std::mem::replace(&mut self.state, next);
            self.branches.push(Branch { chosen: step, state: before, length: self.order.len() });
            self.take(step);
            if self.settle() {
                return self.found();
            }
            cursor = if self.remember() {
                Cursor::Node(self.list.first())
            } else {
                // Just pushed, so there is a branch to retreat from.
                self.retreat().unwrap_or(Cursor::Node(self.list.first()))
            };
            if self.seen_bytes > memory_bytes {
                return Outcome::Unknown { valid_up_to: self.furthest.0, limit: Limit::Memory };
            }
            until_clock -= 1;
            if until_clock == 0 {
                until_clock = CLOCK_INTERVAL;
                if deadline.passed() {
                    return Outcome::Unknown { valid_up_to: self.furthest.0, limit: Limit::Time };
                }
            }
        }
    }

    /// The next operation at or after the cursor that may come now, and the state it leads to.
    fn candidate(&self, cursor: Cursor) -> Option<(Step, S)> {
        let from = match cursor {
            Cursor::Node(mut node) => {
                while let Some(i) = self.list.call(node) {
                    let entry = &self.entries[self.returned[i]];
                    let mut state = self.state.clone();
                    if entry.returned.as_ref().is_some_and(|(_, ret)| state.is_valid_step(&entry.op, ret)) {
                        return Some((Step::Returned(i), state));
                    }
                    node = self.list.next[node];
                }
                0
            }
            Cursor::Indeterminate(from) => from,
        };
        let horizon = self.first_return().map(|i| &self.entries[self.returned[i]])?;
        let horizon = horizon.returned.as_ref().map_or(horizon.invoked, |(at, _)| *at);
        for i in from..self.indeterminate.len() {
            let entry = &self.entries[self.indeterminate[i]];
            if entry.invoked > horizon {
                break;
            }
            if self.used.has(i) {
                continue;
            }
            let mut state = self.state.clone();
            state.invoke(&entry.op);
            // Without an effect it is better kept for later.
            if state != self.state {
                return Some((Step::Indeterminate(i), state));
            }
        }
        None
    }

    fn first_return(&self) -> Option<usize> {
        let mut node = self.list.first();
        while self.list.call(node).is_some() {
            node = self.list.next[node];
        }
        self.list.returns(node)
    }

    /// Takes every passive step that may come now. Whether all is done then.
    fn settle(&mut self) -> bool {
        let mut node = self.list.first();
        while let Some(i) = self.list.call(node) {
            let next = self.list.next[node];
            let entry = &self.entries[self.returned[i]];
            let mut state = self.state.clone();
            let fits = entry.returned.as_ref().is_some_and(|(_, ret)| state.is_valid_step(&entry.op, ret));
            if fits && entry.passive && state == self.state {
                // Its return may be the very next node, which is gone then too.
                let next = if self.list.returns(next) == Some(i) { self.list.next[next] } else { next };
                self.take(Step::Returned(i));
                node = next;
            } else {
                node = next;
            }
        }
        match self.list.returns(node) {
            Some(i) => {
                self.furthest = self.furthest.max((self.rank[i], i));
                false
            }
            None => true,
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Returned(i) => {
                self.list.lift(i);
                self.linearized.set(i);
            }
            Step::Indeterminate(i) => self.used.set(i),
        }
        self.order.push(step);
    }

    /// Undoes the last choice and what followed from it. Where to go on from there.
    fn retreat(&mut self) -> Option<Cursor> {
        let branch = self.branches.pop()?;
        for step in self.order.drain(branch.length..).rev() {
            match step {
                Step::Returned(i) => {
                    self.list.put_back(i);
                    self.linearized.clear(i);
                }
                Step::Indeterminate(i) => self.used.clear(i),
            }
        }
        self.state = branch.state;
        Some(match branch.chosen {
            Step::Returned(i) => Cursor::Node(self.list.next[i * 2]),
            Step::Indeterminate(i) => Cursor::Indeterminate(i + 1),
        })
    }

    /// Notes the present configuration. False if it, or a better one, has been seen before.
    fn remember(&mut self) -> bool {
        let (skipped, words) = self.linearized.window();
        let key = Configuration { skipped, words: words.into(), state: self.state.clone() };
        let used = self.used.trimmed();
        let key_bytes = words.len() * 8 + size_of::<Configuration<S>>() + CONFIGURATION_OVERHEAD;
        let sets = self.seen.entry(key).or_default();
        if sets.iter().any(|set| is_subset(set, used)) {
            return false;
        }
        self.seen_bytes += used.len() * 8 + size_of::<Box<[u64]>>() + if sets.is_empty() { key_bytes } else { 0 };
        sets.push(used.into());
        true
    }

    fn found(self) -> Outcome {
        let entry = |step: &Step| match step {
            Step::Returned(i) => self.returned[*i],
            Step::Indeterminate(i) => self.indeterminate[*i],
        };
        Outcome::Linearizable { order: self.order.iter().map(entry).collect() }
    }
}

fn is_subset(of: &[u64], whole: &[u64]) -> bool {
    of.len() <= whole.len() && of.iter().zip(whole).all(|(a, b)| a & !b == 0)
}

/// Calls (even nodes) and returns (odd nodes) in the order of their moments, in a ring closed by
/// one more node.
struct List {
    next: Vec<usize>,
    previous: Vec<usize>,
    end: usize,
}

impl List {
    fn new(operations: usize, order: impl Iterator<Item = usize>) -> List {
        let end = operations * 2;
        let mut list = List { next: vec![end; end + 1], previous: vec![end; end + 1], end };
        let mut last = end;
        for node in order {
            list.next[last] = node;
            list.previous[node] = last;
            last = node;
        }
        list.next[last] = end;
        list.previous[end] = last;
        list
    }

    fn first(&self) -> usize {
        self.next[self.end]
    }

    /// The operation that is called at a node.
    fn call(&self, node: usize) -> Option<usize> {
        (node != self.end && node.is_multiple_of(2)).then_some(node / 2)
    }

    /// The operation that returns at a node.
    fn returns(&self, node: usize) -> Option<usize> {
        (node != self.end && !node.is_multiple_of(2)).then_some(node / 2)
    }

    fn lift(&mut self, operation: usize) {
        for node in [operation * 2, operation * 2 + 1] {
            self.next[self.previous[node]] = self.next[node];
            self.previous[self.next[node]] = self.previous[node];
        }
    }

    /// Undoes the last [`List::lift`] that has not been undone.
    fn put_back(&mut self, operation: usize) {
        for node in [operation * 2 + 1, operation * 2] {
            self.next[self.previous[node]] = node;
            self.previous[self.next[node]] = node;
        }
    }
}

/// A set of small numbers.
struct Bits {
    words: Vec<u64>,
    /// No word before this one has a gap.
    low: usize,
    /// No word from this one on has a member.
    high: usize,
}

impl Bits {
    fn new(length: usize) -> Bits {
        Bits { words: vec![0; length.div_ceil(64)], low: 0, high: 0 }
    }

    fn has(&self, bit: usize) -> bool {
        self.words[bit / 64] & (1 << (bit % 64)) != 0
    }

    fn set(&mut self, bit: usize) {
        self.words[bit / 64] |= 1 << (bit % 64);
        self.high = self.high.max(bit / 64 + 1);
        while self.words.get(self.low) == Some(&u64::MAX) {
            self.low += 1;
        }
    }

    fn clear(&mut self, bit: usize) {
        self.words[bit / 64] &= !(1 << (bit % 64));
        self.low = self.low.min(bit / 64);
        while self.high > 0 && self.words[self.high - 1] == 0 {
            self.high -= 1;
        }
    }

    /// How many full words lead, and the words from there to the last with a member.
    fn window(&self) -> (usize, &[u64]) {
        (self.low, &self.words[self.low..self.high.max(self.low)])
    }

    /// The words up to the last with a member.
    fn trimmed(&self) -> &[u64] {
        &self.words[..self.high]
    }
}

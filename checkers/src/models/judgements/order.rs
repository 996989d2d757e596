//! What must come before what: the order of sessions, reads after the writes that they saw, and
//! whatever else a judgement adds; with a vector clock per access.

use std::collections::{BTreeSet, HashSet, VecDeque};

use super::versions::Versions;

/// How many steps of a story are told.
const MOST_LINES: usize = 40;

/// Why one access must come before another although neither its session nor a read says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Both wrote, and the first comes before this read of what the second wrote.
    SeenBy(usize),
    /// It read what this access wrote, and the other's write comes after that.
    Overtaken(usize),
    /// It read what was there at first, and the other wrote.
    Unset,
}

/// An edge that was added, in which round of drawing conclusions.
#[derive(Clone, Copy)]
struct Added {
    to: usize,
    why: Why,
    round: u32,
}

/// An order of accesses, as a graph and as clocks: an access knows of how many accesses of each
/// session come before it or are itself.
pub(super) struct Order<'v, 'h> {
    pub(super) versions: &'v Versions<'h>,
    /// Edges beside those of sessions and reads, by where they begin; and by where they end, as
    /// where they begin and the round.
    added: Vec<Vec<Added>>,
    added_before: Vec<Vec<(usize, u32)>>,
    round: u32,
    /// Row by row; as wide as there are sessions.
    clocks: Vec<u32>,
    width: usize,
}

impl<'v, 'h> Order<'v, 'h> {
    /// How many bytes an order needs.
    pub(super) fn bytes(versions: &Versions<'_>) -> usize {
        versions.accesses.len().saturating_mul(versions.sessions.len() * 4 + 64)
    }

    /// The order of sessions and reads; clocks are not yet there.
    pub(super) fn new(versions: &'v Versions<'h>) -> Order<'v, 'h> {
        let (n, width) = (versions.accesses.len(), versions.sessions.len());
        Order {
            versions,
            added: vec![Vec::new(); n],
            added_before: vec![Vec::new(); n],
            round: 0,
            clocks: vec![0; n * width],
            width,
        }
    }

    /// Adds an edge; clocks are as they were.
    pub(super) fn add(&mut self, before: usize, after: usize, why: Why) {
        self.added[before].push(Added { to: after, why, round: self.round });
        self.added_before[after].push((before, self.round));
    }

    /// Whether `before` comes before `after` or is the same, by the clocks.
    pub(super) fn precedes(&self, before: usize, after: usize) -> bool {
        let access = &self.versions.accesses[before];
        self.known(after, access.session) > access.place
    }

    /// How many accesses of a session come before an access or are it.
    pub(super) fn known(&self, access: usize, session: usize) -> usize {
        self.clocks[access * self.width + session] as usize
    }

    /// What comes immediately before an access.
    pub(super) fn before(&self, at: usize) -> impl Iterator<Item = usize> {
        self.before_in(at, u32::MAX)
    }

    /// The same, with only such edges as were added before a round.
    fn before_in(&self, at: usize, round: u32) -> impl Iterator<Item = usize> {
        let access = &self.versions.accesses[at];
        let previous = access.place.checked_sub(1).map(|place| self.versions.sessions[access.session][place]);
        let added = self.added_before[at].iter().filter(move |(_, of)| *of < round).map(|(before, _)| *before);
        previous.into_iter().chain(access.source).chain(added)
    }

    /// Computes all clocks; or a circle, in its order. Linear in edges times sessions.
    pub(super) fn tick(&mut self) -> Result<(), Vec<usize>> {
        self.round += 1;
        let n = self.versions.accesses.len();
        let mut waits: Vec<usize> = (0..n).map(|at| self.before(at).count()).collect();
        let mut readers: Vec<Vec<usize>> = vec![Vec::new(); n];
        for (at, access) in self.versions.accesses.iter().enumerate() {
            if let Some(source) = access.source {
                readers[source].push(at);
            }
        }
        let mut ready: Vec<usize> = (0..n).filter(|at| waits[*at] == 0).collect();
        let mut done = 0;
        while let Some(at) = ready.pop() {
            done += 1;
            let access = self.versions.accesses[at];
            let mut clock = vec![0; self.width];
            for before in self.before(at) {
                for (mine, theirs) in clock.iter_mut().zip(&self.clocks[before * self.width..][..self.width]) {
                    *mine = (*mine).max(*theirs);
                }
            }
            clock[access.session] = access.place as u32 + 1;
            self.clocks[at * self.width..][..self.width].copy_from_slice(&clock);
            let next = self.versions.sessions[access.session].get(access.place + 1).copied();
            for after in
                next.into_iter().chain(readers[at].iter().copied()).chain(self.added[at].iter().map(|added| added.to))
            {
                waits[after] -= 1;
                if waits[after] == 0 {
                    ready.push(after);
                }
            }
        }
        if done == n { Ok(()) } else { Err(self.circle(&waits)) }
    }

    /// A circle among those that still wait: from any of them backwards until one comes again.
    fn circle(&self, waits: &[usize]) -> Vec<usize> {
        let mut seen = vec![usize::MAX; waits.len()];
        let mut path: Vec<usize> = waits.iter().position(|waits| *waits > 0).into_iter().collect();
        while let Some(at) = path.last().copied() {
            if seen[at] != usize::MAX {
                let mut circle = path.split_off(seen[at] + 1);
                circle.reverse();
                return self.shortened(circle);
            }
            seen[at] = path.len() - 1;
            match self.before(at).find(|before| waits[*before] > 0) {
                Some(before) => path.push(before),
                None => break,
            }
        }
        path
    }

    /// A shortest circle through the first of one.
    fn shortened(&self, circle: Vec<usize>) -> Vec<usize> {
        let Some(first) = circle.first().copied() else { return circle };
        let last = self.before(first).filter_map(|last| self.path_in(first, last, u32::MAX)).min_by_key(Vec::len);
        last.filter(|shorter| shorter.len() < circle.len()).unwrap_or(circle)
    }

    /// A shortest way from one access to a later one, both included; `None` if there is none.
    pub(super) fn path(&self, from: usize, to: usize) -> Option<Vec<usize>> {
        self.path_in(from, to, u32::MAX)
    }

    fn path_in(&self, from: usize, to: usize, round: u32) -> Option<Vec<usize>> {
        let mut next = vec![usize::MAX; self.versions.accesses.len()];
        next[to] = to;
        let mut queue = VecDeque::from([to]);
        while let Some(at) = queue.pop_front() {
            if at == from {
                let mut path = vec![from];
                let mut at = from;
                while at != to {
                    at = next[at];
                    path.push(at);
                }
                return Some(path);
            }
            for before in self.before_in(at, round) {
                if next[before] == usize::MAX {
                    next[before] = at;
                    queue.push_back(before);
                }
            }
        }
        None
    }

    /// A way in words, a line per step, `closed` if its last comes before its first; with what was
    /// concluded explained by what it was concluded from. And all operations named.
    pub(super) fn story(&self, path: Vec<usize>, closed: bool) -> (Vec<String>, Vec<usize>) {
        let (mut lines, mut core) = (Vec::new(), BTreeSet::new());
        let mut explained = HashSet::new();
        let mut open = VecDeque::from([(path, closed)]);
        while let Some((path, closed)) = open.pop_front() {
            core.extend(path.iter().copied());
            let steps = path.windows(2).map(|pair| (pair[0], pair[1]));
            let last = path.last().copied().zip(path.first().copied()).filter(|_| closed);
            for (from, to) in steps.chain(last) {
                if !explained.insert((from, to)) {
                    continue;
                }
                let (first, second) = (self.versions.told(from), self.versions.told(to));
                let (before, after) = (&self.versions.accesses[from], &self.versions.accesses[to]);
                let added = self.added[from].iter().find(|added| added.to == to);
                let line = match added {
                    _ if after.source == Some(from) => format!("{first} wrote what {second} read"),
                    _ if before.session == after.session && before.place < after.place => {
                        format!("{first} was followed by {second} in its session")
                    }
                    Some(Added { why: Why::SeenBy(read), round, .. }) => {
                        open.extend(self.path_in(from, *read, *round).map(|path| (path, false)));
                        core.insert(*read);
                        let read = self.versions.told(*read);
                        format!("{first} must have been overwritten by {second}, as {read} came after both")
                    }
                    Some(Added { why: Why::Overtaken(source), round, .. }) => {
                        open.extend(self.path_in(*source, to, *round).map(|path| (path, false)));
                        core.insert(*source);
                        let source = self.versions.told(*source);
                        format!("{first} came before {second}, as it read what {source} wrote before that")
                    }
                    Some(Added { why: Why::Unset, .. }) => {
                        format!("{first} came before {second}, as it read what was there at first")
                    }
                    None => format!("{first} came before {second}"),
                };
                lines.push(line);
            }
        }
        if lines.len() > MOST_LINES {
            let more = lines.len() - MOST_LINES;
            lines.truncate(MOST_LINES);
            lines.push(format!("and {more} more such steps"));
        }
        (lines, core.into_iter().map(|at| self.versions.operation(at)).collect())
    }
}

//! Session guarantees of registers.
//!
//! Terry et al., *Session Guarantees for Weakly Consistent Replicated Data* (PDIS 1994), register by
//! register, for histories in which each value is written once. A session is a process. Every
//! guarantee says something of the order in which the versions of a register follow each other:
//!
//! - *monotonic writes*: a session's writes follow each other as it made them;
//! - *read your writes*: a read shows the session's last write before it, or a later version;
//! - *monotonic reads*: a read shows what the session's last read before it showed, or a later
//!   version;
//! - *writes follow reads*: a write follows the version that the session's last read before it showed.
//!
//! What was there at first is the first version. A guarantee is broken if there is no order of the
//! versions in which it holds. By itself that proves little, since clients see versions only by
//! reading: so read-your-writes and monotonic-reads are judged given monotonic writes, and
//! monotonic-writes and writes-follow-reads given monotonic reads; `session` asks for all four at
//! once. Each statement is an edge between versions, and there is an order exactly if they form no
//! circle: what is reported has an edge of the guarantee in a circle. Linear but for hashing.
//!
//! Guarantees across registers are part of `causal`.

use std::collections::{HashMap, VecDeque};

use super::versions::Versions;
use super::{Findings, Judgement, Unfit, of_key};
use crate::{Run, Settings};

/// A guarantee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guarantee {
    ReadYourWrites,
    MonotonicReads,
    MonotonicWrites,
    WritesFollowReads,
}

use Guarantee::{MonotonicReads, MonotonicWrites, ReadYourWrites, WritesFollowReads};

pub(in super::super) const READ_YOUR_WRITES: Judgement = Judgement {
    name: "read-your-writes",
    about: "who wrote reads that or later versions: read, write v, cas [from to], each value written once",
    judge: |history, _| judge(history, &[ReadYourWrites], &[MonotonicWrites]),
};

pub(in super::super) const MONOTONIC_READS: Judgement = Judgement {
    name: "monotonic-reads",
    about: "who read a version never reads an older one; operations as above",
    judge: |history, _| judge(history, &[MonotonicReads], &[MonotonicWrites]),
};

pub(in super::super) const MONOTONIC_WRITES: Judgement = Judgement {
    name: "monotonic-writes",
    about: "a session's writes are seen in its order; operations as above",
    judge: |history, _| judge(history, &[MonotonicWrites], &[MonotonicReads]),
};

pub(in super::super) const WRITES_FOLLOW_READS: Judgement = Judgement {
    name: "writes-follow-reads",
    about: "a write is seen after what its session had read; operations as above",
    judge: |history, _| judge(history, &[WritesFollowReads], &[MonotonicReads]),
};

pub(in super::super) const SESSION: Judgement = Judgement {
    name: "session",
    about: "all four session guarantees at once; operations as above",
    judge: |history, _: &Settings| {
        judge(history, &[ReadYourWrites, MonotonicReads, MonotonicWrites, WritesFollowReads], &[])
    },
};

/// Versions are accesses that write, and one more for what was there at first.
type Version = usize;

struct Edge {
    from: Version,
    to: Version,
    /// `None`: from what was there at first.
    of: Option<Guarantee>,
    /// The two operations of a session that say so.
    by: [usize; 2],
}

fn judge(history: &Run<'_>, judged: &[Guarantee], given: &[Guarantee]) -> Result<Findings, Unfit> {
    let versions = Versions::read(history)?;
    let mut findings = Findings::default();
    versions.tell_thin_air(&mut findings);
    let mut circles = Vec::new();
    for one in versions.split() {
        let edges = edges(&one, judged, given);
        if let Some((circle, of)) = circle(one.accesses.len() + 1, &edges, judged) {
            circles.push((one, circle.iter().map(|at| edges[*at].by).collect::<Vec<_>>(), of));
        }
    }
    for (one, steps, of) in circles {
        let name = match of {
            ReadYourWrites => "did not read what it had written",
            MonotonicReads => "read an older version than before",
            MonotonicWrites => "had its writes seen in another order",
            WritesFollowReads => "had its write seen before what it had read",
        };
        let mut lines = vec!["No order of the versions agrees with".to_string()];
        lines.extend(steps.iter().map(|[a, b]| format!("  {} and then {}", one.told(*a), one.told(*b))));
        let who = history.operations[one.operation(steps[0][1])].process.0;
        let core = steps.iter().flatten().map(|at| one.operation(*at));
        let sources = steps.iter().flatten().filter_map(|at| Some(one.operation(one.accesses[*at].source?)));
        let core = core.chain(sources).collect();
        findings.wrong_because(format!("Process {who} {name}{}.", of_key(one.keys[0])), lines, core);
    }
    Ok(versions.finish(findings, "keep the guarantees"))
}

/// What the guarantees say of the versions of one register.
fn edges(versions: &Versions<'_>, judged: &[Guarantee], given: &[Guarantee]) -> Vec<Edge> {
    let first = versions.accesses.len();
    let mut edges: Vec<Edge> = Vec::new();
    for (at, access) in versions.accesses.iter().enumerate() {
        if access.write.is_some() {
            edges.push(Edge { from: first, to: at, of: None, by: [at, at] });
        }
    }
    let wanted = |guarantee| judged.contains(&guarantee) || given.contains(&guarantee);
    for session in &versions.sessions {
        // The last access that wrote; the last that read, with the version it showed; and of the last
        // two versions that were read and are not the first, the last reads.
        let (mut wrote, mut read): (Option<usize>, Option<(usize, Version)>) = (None, None);
        let mut seen: [Option<(usize, Version)>; 2] = [None; 2];
        for &at in session {
            let access = &versions.accesses[at];
            let mut say = |from: Option<(usize, Version)>, to: Version, of| {
                if let (Some((by, from)), true) = (from, wanted(of))
                    && from != to
                    && from != first
                {
                    edges.push(Edge { from, to, of: Some(of), by: [by, at] });
                }
            };
            if access.read.is_some() {
                let shown = access.source.unwrap_or(first);
                say(wrote.map(|at| (at, at)), shown, ReadYourWrites);
                say(read, shown, MonotonicReads);
                read = Some((at, shown));
                if shown != first {
                    let other = if seen[0].is_some_and(|(_, last)| last == shown) { seen[1] } else { seen[0] };
                    seen = [read, other];
                }
            }
            if access.write.is_some() {
                say(wrote.map(|at| (at, at)), at, MonotonicWrites);
                // What it writes may have been read before it, by itself even.
                let before = seen.into_iter().flatten().find(|(_, shown)| *shown != at);
                say(before, at, WritesFollowReads);
                wrote = Some(at);
            }
        }
    }
    edges
}

/// A shortest circle through an edge of the guarantees judged: the edges, that one first, and which
/// guarantee it is. Of several, the one that a session completed first.
fn circle(versions: usize, edges: &[Edge], judged: &[Guarantee]) -> Option<(Vec<usize>, Guarantee)> {
    let mut after: HashMap<Version, Vec<usize>> = HashMap::new();
    for (at, edge) in edges.iter().enumerate() {
        after.entry(edge.from).or_default().push(at);
    }
    let component = components(versions, edges, &after);
    let broken = |edge: &&(usize, &Edge)| {
        edge.1.of.is_some_and(|of| judged.contains(&of)) && component[edge.1.from] == component[edge.1.to]
    };
    let edges_in_order = edges.iter().enumerate().collect::<Vec<_>>();
    let (at, edge) = edges_in_order.iter().filter(broken).min_by_key(|(_, edge)| edge.by[1])?;
    // From the edge's end back to its beginning.
    let mut by: HashMap<Version, usize> = HashMap::new();
    let mut queue = VecDeque::from([edge.to]);
    while let Some(version) = queue.pop_front().filter(|version| *version != edge.from) {
        for next in after.get(&version).into_iter().flatten() {
            let to = edges[*next].to;
            if to != edge.to && !by.contains_key(&to) {
                by.insert(to, *next);
                queue.push_back(to);
            }
        }
    }
    let mut path = vec![*at];
    let mut version = edge.from;
    while version != edge.to {
        let step = *by.get(&version)?;
        path.insert(1, step);
        version = edges[step].from;
    }
    // What was there at first is first without anybody saying so.
    path.retain(|at| edges[*at].of.is_some());
    Some((path, edge.of?))
}

/// Which versions are in circles with each other: a number per version (Tarjan, *Depth-first search
/// and linear graph algorithms*, 1972, without recursion).
fn components(versions: usize, edges: &[Edge], after: &HashMap<Version, Vec<usize>>) -> Vec<usize> {
    const NONE: usize = usize::MAX;
    let next = |version: Version, n: usize| after.get(&version).and_then(|edges| edges.get(n)).copied();
    let (mut number, mut low) = (vec![NONE; versions], vec![NONE; versions]);
    let mut component = vec![NONE; versions];
    let (mut open, mut count) = (Vec::new(), 0);
    for root in 0..versions {
        if number[root] != NONE {
            continue;
        }
        let mut way: Vec<(Version, usize)> = vec![(root, 0)];
        while let Some((version, n)) = way.pop() {
            if n == 0 {
                number[version] = count;
                low[version] = count;
                count += 1;
                open.push(version);
            }
            match next(version, n).map(|edge| edges[edge].to) {
                Some(to) => {
                    way.push((version, n + 1));
                    if number[to] == NONE {
                        way.push((to, 0));
                    } else if component[to] == NONE {
                        low[version] = low[version].min(number[to]);
                    }
                }
                None => {
                    if low[version] == number[version] {
                        while let Some(member) = open.pop() {
                            component[member] = version;
                            if member == version {
                                break;
                            }
                        }
                    }
                    if let Some((parent, _)) = way.last() {
                        low[*parent] = low[*parent].min(low[version]);
                    }
                }
            }
        }
    }
    component
}

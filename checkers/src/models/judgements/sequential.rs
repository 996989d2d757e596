//! Sequential consistency of registers.
//!
//! Lamport, *How to Make a Multiprocessor Computer That Correctly Executes Multiprocess Programs*
//! (1979): there is one order of all operations that agrees with each process's own order, and in
//! which every read gives the value last written; real time is not asked for. Each value is written
//! once, so it is known which write a read saw. What follows from that is added to the processes'
//! orders until nothing more follows: a write of a register that comes before a read comes before
//! the write that this read saw, and one that comes after that write comes after the read. A circle
//! refutes. Otherwise an order is looked for (`super::search`) that respects all of it.
//!
//! For one register this decides without a search (as Cantin, Lipasti and Smith show that it can be
//! decided, *The Complexity of Verifying Memory Coherence and Consistency*, TPDS 2005):
//! `sequential-per-key`, which is coherence. For all together the problem is NP-complete (Gibbons
//! and Korach, *Testing Shared Memories*, SIAM J. Comput. 1997), and within a budget the answer may
//! be unknown.

use super::order::{Order, Why};
use super::search::{self, Search};
use super::versions::Versions;
use super::{Findings, Judgement, Unfit, of_key};
use crate::budget::Deadline;
use crate::{Run, Settings};

pub(in super::super) const SEQUENTIAL: Judgement = Judgement {
    name: "sequential",
    about: "registers together are sequentially consistent: read, write v, cas [from to], each value written once",
    judge: |history, settings| judge(history, settings, false),
};

pub(in super::super) const SEQUENTIAL_PER_KEY: Judgement = Judgement {
    name: "sequential-per-key",
    about: "the same, each register by itself (coherence)",
    judge: |history, settings| judge(history, settings, true),
};

fn judge(history: &Run<'_>, settings: &Settings, per_key: bool) -> Result<Findings, Unfit> {
    let deadline = Deadline::after(settings.budget.time);
    let memory = settings.budget.memory_bytes;
    let versions = Versions::read(history)?;
    let mut findings = Findings::default();
    versions.tell_thin_air(&mut findings);
    if per_key {
        for versions in versions.split() {
            one(&versions, &of_key(versions.keys[0]), deadline, memory, &mut findings);
        }
    } else {
        one(&versions, "", deadline, memory, &mut findings);
    }
    Ok(versions.finish(findings, "sequentially consistent"))
}

fn one(versions: &Versions<'_>, of: &str, deadline: Deadline, memory: usize, findings: &mut Findings) {
    if Order::bytes(versions) > memory {
        findings.doubts.push(format!("The order{of} of so many sessions doesn't fit into the memory allowed."));
        return;
    }
    let mut order = Order::new(versions);
    match saturate(&mut order, deadline) {
        Saturated::Circle(circle) => {
            let sentence = format!("No order of the operations{of} agrees with each process and each read.");
            let (lines, core) = order.story(circle, true);
            findings.wrong_because(sentence, lines, core);
        }
        Saturated::Late => findings.doubts.push(format!("Out of time before all{of} was drawn that follows.")),
        Saturated::Done => match search::order(&order, deadline, memory) {
            Search::Order(_) => {}
            Search::None => {
                let sentence = format!("No order of the operations{of} agrees with each process and each read.");
                let lines = vec!["Every order was tried; no small part of them shows it.".into()];
                findings.wrong_because(sentence, lines, Vec::new());
            }
            Search::Limit { placed } => {
                let all = versions.accesses.len();
                findings
                    .doubts
                    .push(format!("The search{of} ran out of budget: {placed} of {all} operations ordered."));
            }
        },
    }
}

enum Saturated {
    Done,
    Circle(Vec<usize>),
    Late,
}

/// Adds what follows until nothing more does.
fn saturate(order: &mut Order<'_, '_>, deadline: Deadline) -> Saturated {
    let versions = order.versions;
    let writes = versions.writes();
    loop {
        if deadline.passed() {
            return Saturated::Late;
        }
        if let Err(circle) = order.tick() {
            return Saturated::Circle(circle);
        }
        let mut follows: Vec<(usize, usize, Why)> = Vec::new();
        for (at, read) in versions.accesses.iter().enumerate().filter(|(_, access)| access.read.is_some()) {
            if at % 1024 == 0 && deadline.passed() {
                return Saturated::Late;
            }
            for (session, places) in &writes[read.key] {
                let access = |n: usize| versions.sessions[*session][places[n]];
                // The session's last write before the read: it comes before what was read.
                let known = if *session == read.session { read.place } else { order.known(at, *session) };
                let last = places.partition_point(|place| *place < known).checked_sub(1).map(access);
                match (last, read.source) {
                    (Some(last), Some(source)) if last != source && !order.precedes(last, source) => {
                        follows.push((last, source, Why::SeenBy(at)));
                    }
                    // Nothing may come before a read of what was there at first: a circle.
                    (Some(last), None) => follows.push((at, last, Why::Unset)),
                    _ => {}
                }
                // Its first write after what was read: it comes after the read.
                let first = match read.source {
                    None => 0,
                    Some(source) => places.partition_point(|place| {
                        let write = versions.sessions[*session][*place];
                        write == source || !order.precedes(source, write)
                    }),
                };
                if let Some(first) = (first < places.len()).then(|| access(first))
                    && first != at
                    && !order.precedes(at, first)
                {
                    follows.push((at, first, read.source.map_or(Why::Unset, Why::Overtaken)));
                }
            }
        }
        if follows.is_empty() {
            return Saturated::Done;
        }
        for (before, after, why) in follows {
            order.add(before, after, why);
        }
    }
}

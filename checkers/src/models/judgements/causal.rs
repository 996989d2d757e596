//! Causal consistency of registers.
//!
//! Bouajjani, Enea, Guerraoui and Hamza, *On Verifying Causal Consistency* (POPL 2017), whose *CC*
//! for a history in which each value is written once is the absence of four patterns. The causal
//! order is what sessions' orders and reads-from give together, transitively.
//!
//! - *CyclicCO*: the causal order has a cycle.
//! - *ThinAirRead*: a read of a value that nobody wrote.
//! - *WriteCOInitRead*: a read of what was there at first, though a write of the register is
//!   causally before it.
//! - *WriteCORead*: a read of a write after which another write of the register comes causally,
//!   that in turn is causally before the read.
//!
//! `causal` takes all registers together, as the definition does; `causal-per-key` each apart, for
//! targets that promise no more. A read of `nil` tells that the register was unset only by that
//! convention (`--nil-read unset`). O(operations × sessions).

use super::order::Order;
use super::versions::Versions;
use super::{Findings, Judgement, Unfit, of_key};
use crate::{Run, Settings};

pub(in super::super) const CAUSAL: Judgement = Judgement {
    name: "causal",
    about: "registers together are causally consistent (CC): read, write v, cas [from to], each value written once",
    judge: |history, settings| judge(history, settings, false),
};

pub(in super::super) const CAUSAL_PER_KEY: Judgement = Judgement {
    name: "causal-per-key",
    about: "the same, each register by itself",
    judge: |history, settings| judge(history, settings, true),
};

/// How many violations are followed.
const FOLLOWED: usize = 20;

fn judge(history: &Run<'_>, settings: &Settings, per_key: bool) -> Result<Findings, Unfit> {
    let versions = Versions::read(history)?;
    let mut findings = Findings::default();
    versions.tell_thin_air(&mut findings);
    if per_key {
        for versions in versions.split() {
            one(&versions, settings, &mut findings);
        }
    } else {
        one(&versions, settings, &mut findings);
    }
    Ok(versions.finish(findings, "causally consistent"))
}

fn one(versions: &Versions<'_>, settings: &Settings, findings: &mut Findings) {
    if Order::bytes(versions) > settings.budget.memory_bytes {
        findings.doubts.push("The causal order of so many sessions doesn't fit into the memory allowed.".into());
        return;
    }
    let mut order = Order::new(versions);
    if let Err(circle) = order.tick() {
        let sentence = "Effects come before their causes: the causal order is a circle.";
        let (lines, core) = order.story(circle, true);
        findings.wrong_because(sentence, lines, core);
        return;
    }
    let writes = versions.writes();
    let mut found = 0;
    for (at, read) in versions.accesses.iter().enumerate().filter(|(_, access)| access.read.is_some()) {
        for (session, places) in &writes[read.key] {
            // Of a session, the last write that comes before the read; that the read itself may
            // write doesn't count.
            let known = if *session == read.session { read.place } else { order.known(at, *session) };
            let Some(last) = places.partition_point(|place| *place < known).checked_sub(1) else { continue };
            let between = versions.sessions[*session][places[last]];
            let stale = match read.source {
                Some(source) => source != between && order.precedes(source, between),
                None => true,
            };
            if !stale {
                continue;
            }
            found += 1;
            if found <= FOLLOWED {
                tell(&order, at, between, findings);
            }
            break;
        }
    }
    if found > FOLLOWED {
        findings.remarks.push(format!("{} reads are stale causally.", found));
    }
}

/// A read that shows something older than a write that causally precedes it.
fn tell(order: &Order<'_, '_>, read: usize, between: usize, findings: &mut Findings) {
    let versions = order.versions;
    let access = &versions.accesses[read];
    let mut lines = Vec::new();
    let mut core = Vec::new();
    let mut follow = |from, to| {
        let path = order.path(from, to).unwrap_or_default();
        let (steps, operations) = order.story(path, false);
        lines.extend(steps);
        core.extend(operations);
    };
    if let Some(source) = access.source {
        follow(source, between);
    }
    follow(between, read);
    let (key, said) = (of_key(versions.keys[access.key]), versions.told(read));
    let sentence = match access.source {
        Some(_) => format!("A read{key} shows a value that was causally overwritten before it: {said}."),
        None => format!("A read{key} shows nothing, though a write is causally before it: {said}."),
    };
    findings.wrong_because(sentence, lines, core);
}

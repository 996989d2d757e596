//! Registers in which every value is written at most once, read and written only: Gibbons and
//! Korach, *Testing Shared Memories* (SIAM J. Comput. 1997), §4.
//!
//! A write and the reads of its value are a cluster, and must be neighbours in any order. Its zone
//! reaches from its first return to its last call. If the return comes first the zone is
//! *forward*: the value was there all the while. Else it is *backward*: all of the cluster is in
//! progress throughout, and fits anywhere within. There is an order if and only if no two
//! forward zones overlap and no backward zone lies inside a forward one (and no value was read
//! before it was written, which the preparation has seen to). A pending write whose value was read
//! must have happened and has no last moment: it is a write that returns after everything.

use super::prepare::{Action, PENDING, Problem};

#[derive(Clone, Copy)]
struct Zone {
    first_return: i64,
    last_call: i64,
}

/// An order of the problem's operations, or nothing if there is none. Empty unless `certify`.
pub(super) fn order(problem: &Problem, certify: bool) -> Option<Vec<usize>> {
    let mut zones = vec![Zone { first_return: i64::MAX, last_call: -2 }; problem.values];
    zones[problem.initial as usize].first_return = -1;
    for op in &problem.ops {
        let (Action::Read(value) | Action::Write(value)) = op.action else { return None };
        let zone = &mut zones[value as usize];
        zone.last_call = zone.last_call.max(op.call.into());
        zone.first_return = zone.first_return.min(if op.ret == PENDING { i64::MAX } else { op.ret.into() });
    }
    let used = |zone: &Zone| zone.first_return != i64::MAX || zone.last_call != -2;
    let mut forward: Vec<(i64, i64, usize)> = Vec::new();
    for (value, zone) in zones.iter().enumerate().filter(|(_, zone)| used(zone)) {
        if zone.first_return < zone.last_call {
            forward.push((zone.first_return, zone.last_call, value));
        }
    }
    forward.sort_unstable();
    if forward.windows(2).any(|pair| pair[1].0 < pair[0].1) {
        return None;
    }
    // Where each cluster is placed. Forward zones are disjoint, so their starts are in order.
    let mut places: Vec<(i64, bool, usize)> = Vec::new();
    for (value, zone) in zones.iter().enumerate().filter(|(_, zone)| used(zone)) {
        if zone.first_return < zone.last_call {
            places.push((zone.first_return, true, value));
            continue;
        }
        let around = forward.partition_point(|(start, ..)| *start < zone.last_call).checked_sub(1);
        match around.map(|at| forward[at]).filter(|(_, end, _)| *end > zone.last_call) {
            Some((_, end, _)) if zone.first_return < end => return None,
            Some((_, end, _)) => places.push((end, false, value)),
            None => places.push((zone.last_call, false, value)),
        }
    }
    if !certify {
        return Some(Vec::new());
    }
    places.sort_unstable();
    let mut clusters: Vec<Vec<usize>> = vec![Vec::new(); problem.values];
    for (i, op) in problem.ops.iter().enumerate() {
        match op.action {
            Action::Write(value) => clusters[value as usize].insert(0, i),
            Action::Read(value) => clusters[value as usize].push(i),
            _ => {}
        }
    }
    Some(places.into_iter().flat_map(|(.., value)| std::mem::take(&mut clusters[value])).collect())
}

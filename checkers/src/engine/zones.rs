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
//!
//! The preparation gives the zones in the order of their first returns, so nothing is sorted.

use super::history::Action;
use super::prepare::{Problem, Value};

/// An order of the problem's operations, or nothing if there is none. Empty unless `certify`.
/// Linear in time, but for an order.
pub(super) fn order(problem: &Problem, certify: bool) -> Option<Vec<usize>> {
    let zones = || problem.by_return.iter().map(|value| (*value, problem.values[*value as usize]));
    // Of the latest forward zone. An earlier one ends before this one starts, so it can't hold what
    // returns first after that.
    let (mut start, mut end) = (0, 0);
    for (_, zone) in zones() {
        if zone.first_return < zone.last_call {
            if zone.first_return < end {
                return None;
            }
            (start, end) = (zone.first_return, zone.last_call);
        } else if zone.last_call > start && zone.first_return < end {
            return None;
        }
    }
    if !certify {
        return Some(Vec::new());
    }
    let forward: Vec<(u32, u32)> =
        zones().filter(|(_, z)| z.first_return < z.last_call).map(|(_, z)| (z.first_return, z.last_call)).collect();
    // Where each cluster is placed: a backward one at its last call, or after what it starts in.
    let place = |(value, zone): (u32, Value)| {
        if zone.first_return < zone.last_call {
            return (zone.first_return, true, value);
        }
        let around = forward.partition_point(|(start, _)| *start < zone.last_call).checked_sub(1);
        let end = around.map(|at| forward[at].1).filter(|end| *end > zone.last_call);
        (end.unwrap_or(zone.last_call), false, value)
    };
    let mut places: Vec<(u32, bool, u32)> = zones().map(place).collect();
    places.sort_unstable();
    let mut clusters: Vec<Vec<usize>> = vec![Vec::new(); problem.values.len()];
    for (i, op) in problem.ops.iter().enumerate() {
        match op.action {
            Action::Write(value) => clusters[value as usize].insert(0, i),
            Action::Read(value) => clusters[value as usize].push(i),
            _ => {}
        }
    }
    Some(places.into_iter().flat_map(|(.., value)| std::mem::take(&mut clusters[value as usize])).collect())
}

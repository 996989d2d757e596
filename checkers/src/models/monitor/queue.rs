//! Queues: what is put in first is taken first.

use super::{Item, NEVER};

/// An element that was put in surely before another must not be taken surely after it, or never.
/// With the rules that hold for all containers this is all there is (ICALP 2015, §3).
pub(super) fn contradiction(items: &[Item]) -> Option<(Vec<usize>, &'static str)> {
    // Items are in the order of their insertions' invocations.
    let mut by_return: Vec<(u64, u32)> = items
        .iter()
        .enumerate()
        .filter(|(_, x)| x.insert_to != NEVER)
        .map(|(at, x)| (x.insert_to, at as u32))
        .collect();
    by_return.sort_unstable();
    let mut before = by_return.into_iter().peekable();
    // Of those put in surely before the present one, that whose removal was invoked last.
    let mut latest: Option<&Item> = None;
    for item in items {
        while let Some((_, at)) = before.next_if(|(end, _)| *end < item.insert_from) {
            let other = &items[at as usize];
            latest = latest.filter(|latest| latest.remove_from >= other.remove_from).or(Some(other));
        }
        if let Some(first) = latest.filter(|first| first.remove_from > item.remove_to) {
            return Some((
                first.calls().chain(item.calls()).collect(),
                "an element was taken before one that had been put in earlier",
            ));
        }
    }
    None
}

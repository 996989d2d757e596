//! When a container is surely not empty.

use super::Item;

/// Who found the container empty although at every moment of their call something was surely
/// inside.
pub(super) fn nonempty(items: &[Item], empties: &[(usize, u64, u64)]) -> Option<(Vec<usize>, &'static str)> {
    if empties.is_empty() {
        return None;
    }
    let mut solid: Vec<(u64, u64)> =
        items.iter().filter(|item| item.is_solid()).map(|item| (item.insert_to, item.remove_from)).collect();
    solid.sort_unstable();
    let mut spans: Vec<(u64, u64)> = Vec::new();
    for (from, to) in solid {
        match spans.last_mut() {
            Some(last) if from < last.1 => last.1 = last.1.max(to),
            _ => spans.push((from, to)),
        }
    }
    for (call, from, to) in empties {
        let before = spans.partition_point(|span| span.0 < *from);
        if before.checked_sub(1).is_some_and(|at| spans[at].1 > *to) {
            let covering = chain(items, *from, *to);
            let calls = covering.iter().flat_map(Item::calls).chain([*call]).collect();
            return Some((calls, "a call found nothing although something was inside all the time"));
        }
    }
    None
}

/// The fewest items that are surely inside, one after the other, from before one moment to after
/// another; as far as there are such.
pub(super) fn chain(items: &[Item], from: u64, to: u64) -> Vec<Item> {
    let mut solid: Vec<&Item> = items.iter().filter(|item| item.is_solid() && item.remove_from > from).collect();
    solid.sort_unstable_by_key(|item| item.insert_to);
    let mut chain: Vec<Item> = Vec::new();
    let mut reached = from;
    let mut next = solid.into_iter().peekable();
    while reached < to || chain.is_empty() {
        let mut best: Option<&Item> = None;
        while let Some(item) = next.next_if(|item| item.insert_to < reached) {
            best = best.filter(|best| best.remove_from >= item.remove_from).or(Some(item));
        }
        match best.filter(|best| best.remove_from > reached) {
            Some(best) => {
                reached = best.remove_from;
                chain.push(*best);
            }
            None => break,
        }
    }
    chain
}

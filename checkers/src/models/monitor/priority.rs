//! Priority queues: the smallest is taken first.

use super::{Item, cover};

/// Elements from the smallest on: each must be taken at a moment at which no smaller one is surely
/// inside. That is enough: the largest element is in nobody's way, so an order of the others in
/// which nothing is inside at that moment takes it in there; and what must find nothing smaller at
/// a moment can be treated as finding nothing.
pub(super) fn contradiction(items: &[Item]) -> Option<(Vec<usize>, &'static str)> {
    let mut ascending: Vec<&Item> = items.iter().collect();
    ascending.sort_unstable_by_key(|item| item.value);
    let mut edges: Vec<u64> =
        items.iter().filter(|item| item.is_solid()).flat_map(|item| [item.insert_to, item.remove_from]).collect();
    edges.sort_unstable();
    edges.dedup();
    // Cell k is the time between edge k - 1 and edge k.
    let mut free = Free::new(edges.len() + 1);
    for (rank, item) in ascending.iter().enumerate() {
        if item.remove != super::NONE {
            let earliest = item.insert_from.max(item.remove_from);
            let first = edges.partition_point(|edge| *edge <= earliest);
            let last = edges.partition_point(|edge| *edge < item.remove_to);
            if free.at_or_after(first) > last {
                let smaller: Vec<Item> = ascending[..rank].iter().map(|item| **item).collect();
                let blocking = cover::chain(&smaller, earliest, item.remove_to);
                let calls = blocking.iter().flat_map(Item::calls).chain(item.calls()).collect();
                return Some((calls, "an element was taken while a smaller one was inside all the time"));
            }
        }
        if item.is_solid() {
            let from = edges.partition_point(|edge| *edge < item.insert_to) + 1;
            let to = edges.partition_point(|edge| *edge < item.remove_from);
            free.cover(from, to);
        }
    }
    None
}

/// Which cells are not covered yet: a union of covered ones with the next.
struct Free {
    next: Vec<u32>,
}

impl Free {
    fn new(cells: usize) -> Free {
        Free { next: (0..=cells as u32).collect() }
    }

    /// The first free cell from one on; the number of cells if there is none.
    fn at_or_after(&mut self, cell: usize) -> usize {
        let mut root = cell.min(self.next.len() - 1);
        while self.next[root] as usize != root {
            root = self.next[root] as usize;
        }
        let mut at = cell.min(self.next.len() - 1);
        while self.next[at] as usize != root {
            let up = self.next[at] as usize;
            self.next[at] = root as u32;
            at = up;
        }
        root
    }

    /// Covers the cells from one to another, both included.
    fn cover(&mut self, from: usize, to: usize) {
        let mut at = self.at_or_after(from);
        while at <= to && at + 1 < self.next.len() {
            self.next[at] = at as u32 + 1;
            at = self.at_or_after(at + 1);
        }
    }
}

//! Stacks: what is put in last is taken first.
//!
//! Where the times at which elements are surely inside leave a gap, the stack can be empty there,
//! and what lies on either side can be judged apart: calls that reach across the gap can take
//! effect on their own side. Where there is no gap something is inside all the time, so the lowest
//! element must be there all the time: its push may come before any other's returned, and its pop
//! after any other's was invoked. Such an element is in nobody's way and can be taken out; if there
//! is none there is no order. What remains has new gaps, and so on.
//!
//! Each element is looked at a constant number of times, each time in O(log n).

use super::Item;

/// Elements of which none can be the lowest, though one must.
pub(super) fn contradiction(items: &[Item]) -> Option<(Vec<usize>, &'static str)> {
    let solid: Vec<&Item> = items.iter().filter(|item| item.is_solid()).collect();
    let mut edges: Vec<u64> = solid.iter().flat_map(|item| [item.insert_to, item.remove_from]).collect();
    edges.sort_unstable();
    edges.dedup();
    let place = |moment: u64| edges.partition_point(|edge| *edge < moment);
    // Cell k is the time between edge k and edge k + 1.
    let spans: Vec<(usize, usize)> =
        solid.iter().map(|item| (place(item.insert_to), place(item.remove_from))).collect();
    let mut cover = Cover::new(edges.len().saturating_sub(1), &spans);
    // By the cell in which they begin: those whose push came too late to be the lowest so far (least
    // first), and those whose push did not, but whose pop came too early (latest first).
    let mut late_pushes = Extremes::new(edges.len());
    let mut early_pops = Extremes::new(edges.len());
    let mut at_edge = vec![u32::MAX; edges.len()];
    for (at, (from, _)) in spans.iter().enumerate() {
        at_edge[*from] = at as u32;
        late_pushes.set(*from, !solid[at].insert_from);
    }
    let mut work = vec![(0, edges.len().saturating_sub(1))];
    while let Some((from, to)) = work.pop() {
        if from >= to {
            continue;
        }
        if let Some(gap) = cover.gap(from, to) {
            cover.close(gap);
            work.push((from, gap));
            work.push((gap + 1, to));
            continue;
        }
        // All of this time something is inside.
        while let Some((cell, push)) = late_pushes.best(from, to) {
            if !push >= edges[from] {
                break;
            }
            late_pushes.clear(cell);
            early_pops.set(cell, solid[at_edge[cell] as usize].remove_to);
        }
        let mut removed = false;
        while let Some((cell, pop)) = early_pops.best(from, to) {
            if pop < edges[to] {
                break;
            }
            early_pops.clear(cell);
            cover.add(spans[at_edge[cell] as usize], -1);
            removed = true;
        }
        if !removed {
            let inside = spans.iter().zip(&solid).filter(|((start, _), _)| (from..to).contains(start));
            let still = inside.filter(|((start, _), _)| late_pushes.has(*start) || early_pops.has(*start));
            let calls = still.flat_map(|(_, item)| item.calls()).collect();
            return Some((calls, "elements were taken in an order in which no stack gives them"));
        }
        work.push((from, to));
    }
    None
}

/// How many elements are surely inside in each cell: a segment tree of sums and minima.
struct Cover {
    leaves: usize,
    cells: usize,
    /// What is added to all cells below a node.
    added: Vec<i32>,
    /// The least of a node's cells, what is added above left out.
    least: Vec<i32>,
}

/// More than any number of elements, and far from overflow.
const CLOSED: i32 = i32::MAX / 2;

impl Cover {
    fn new(cells: usize, spans: &[(usize, usize)]) -> Cover {
        let leaves = cells.next_power_of_two().max(1);
        let mut cover = Cover { leaves, cells, added: vec![0; leaves * 2], least: vec![0; leaves * 2] };
        let mut change = vec![0; cells + 1];
        for (from, to) in spans {
            change[*from] += 1;
            change[*to] -= 1;
        }
        let mut inside = 0;
        for cell in 0..leaves {
            inside += change.get(cell).copied().unwrap_or(0);
            cover.least[leaves + cell] = if cell < cells { inside } else { CLOSED };
        }
        for node in (1..leaves).rev() {
            cover.least[node] = cover.least[node * 2].min(cover.least[node * 2 + 1]);
        }
        cover
    }

    fn add(&mut self, (from, to): (usize, usize), amount: i32) {
        let (mut left, mut right) = (from + self.leaves, to + self.leaves);
        let (first, last) = (left, right - 1);
        while left < right {
            for (node, taken) in [(left, left % 2 == 1), (right - 1, right % 2 == 1)] {
                if taken {
                    self.least[node] += amount;
                    self.added[node] += amount;
                }
            }
            (left, right) = (left.div_ceil(2), right / 2);
        }
        for leaf in [first, last] {
            let mut node = leaf / 2;
            while node > 0 {
                self.least[node] = self.least[node * 2].min(self.least[node * 2 + 1]) + self.added[node];
                node /= 2;
            }
        }
    }

    /// Takes a cell out of the search for gaps.
    fn close(&mut self, cell: usize) {
        self.add((cell, cell + 1), CLOSED);
    }

    /// The first cell in a range in which nothing is surely inside.
    fn gap(&self, from: usize, to: usize) -> Option<usize> {
        self.find(1, 0, self.leaves, from, to.min(self.cells), 0)
    }

    fn find(&self, node: usize, low: usize, high: usize, from: usize, to: usize, above: i32) -> Option<usize> {
        if high <= from || to <= low || self.least[node] + above > 0 {
            return None;
        }
        if node >= self.leaves {
            return Some(low);
        }
        let (middle, above) = ((low + high) / 2, above + self.added[node]);
        self.find(node * 2, low, middle, from, to, above)
            .or_else(|| self.find(node * 2 + 1, middle, high, from, to, above))
    }
}

/// At most one number per cell, and the largest in a range.
struct Extremes {
    leaves: usize,
    /// Zero: none.
    largest: Vec<u64>,
}

impl Extremes {
    fn new(cells: usize) -> Extremes {
        let leaves = cells.next_power_of_two().max(1);
        Extremes { leaves, largest: vec![0; leaves * 2] }
    }

    fn set(&mut self, cell: usize, number: u64) {
        let mut node = cell + self.leaves;
        self.largest[node] = number;
        while node > 1 {
            node /= 2;
            self.largest[node] = self.largest[node * 2].max(self.largest[node * 2 + 1]);
        }
    }

    fn clear(&mut self, cell: usize) {
        self.set(cell, 0);
    }

    fn has(&self, cell: usize) -> bool {
        self.largest[cell + self.leaves] != 0
    }

    /// The largest number in a range of cells, and its cell.
    fn best(&self, from: usize, to: usize) -> Option<(usize, u64)> {
        let (mut left, mut right) = (from + self.leaves, to + self.leaves);
        let mut best = (0, 0);
        while left < right {
            for (node, taken) in [(left, left % 2 == 1), (right - 1, right % 2 == 1)] {
                if taken && self.largest[node] > best.1 {
                    best = (node, self.largest[node]);
                }
            }
            (left, right) = (left.div_ceil(2), right / 2);
        }
        let (mut node, number) = best;
        if number == 0 {
            return None;
        }
        while node < self.leaves {
            node = if self.largest[node * 2] == number { node * 2 } else { node * 2 + 1 };
        }
        Some((node - self.leaves, number))
    }
}

//! What a round of probing found: who reached whom, and how fast. Pure data.

use std::time::Duration;

/// For each probed link, whether a probe arrived over it and how long that took. Hosts are named
/// by their place in the prober's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matrix {
    hosts: Vec<String>,
    cells: Vec<Cell>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    NotProbed,
    NotReached,
    Reached(Duration),
}

/// A link that was found other than it was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The sending host.
    pub from: String,
    /// The receiving host.
    pub to: String,
    /// Whether the link was expected to be cut; it was found to be the opposite.
    pub expected_cut: bool,
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let found =
            if self.expected_cut { "passes probes but was to be cut" } else { "passes no probe but was to be open" };
        write!(f, "the link from {} to {} {found}", self.from, self.to)
    }
}

impl Matrix {
    /// The state before the first probe of `links` has arrived.
    ///
    /// # Panics
    /// If a link is not between two different hosts.
    pub(crate) fn unreached(hosts: Vec<String>, links: &[(usize, usize)]) -> Matrix {
        let n = hosts.len();
        let mut cells = vec![Cell::NotProbed; n * n];
        for &(from, to) in links {
            assert!(from != to && from < n && to < n, "link {from} to {to} is not between two of {n} hosts");
            cells[from * n + to] = Cell::NotReached;
        }
        Matrix { hosts, cells }
    }

    /// Notes an arrival; true if it is the first on its link.
    pub(crate) fn reach(&mut self, from: usize, to: usize, latency: Duration) -> bool {
        let cell = &mut self.cells[from * self.hosts.len() + to];
        let before = *cell;
        *cell = match before {
            Cell::Reached(shortest) => Cell::Reached(shortest.min(latency)),
            Cell::NotProbed | Cell::NotReached => Cell::Reached(latency),
        };
        !matches!(before, Cell::Reached(_))
    }

    /// The names of the hosts, in the prober's order.
    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// The links that were probed, in order of sender, then receiver.
    pub fn links(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let n = self.hosts.len();
        (0..n * n).map(move |place| (place / n, place % n)).filter(|(from, to)| self.probed(*from, *to))
    }

    /// Whether this link was probed at all.
    pub fn probed(&self, from: usize, to: usize) -> bool {
        self.cell(from, to) != Cell::NotProbed
    }

    /// Whether a probe arrived over this link. False for links that were not probed.
    pub fn reached(&self, from: usize, to: usize) -> bool {
        self.latency(from, to).is_some()
    }

    /// The shortest one-way latency seen on this link, if any probe arrived.
    pub fn latency(&self, from: usize, to: usize) -> Option<Duration> {
        match self.cell(from, to) {
            Cell::Reached(latency) => Some(latency),
            Cell::NotProbed | Cell::NotReached => None,
        }
    }

    /// The probed links that were found other than `expected_cut(from, to)` says.
    pub fn compare(&self, expected_cut: &dyn Fn(usize, usize) -> bool) -> Vec<Mismatch> {
        self.links()
            .filter(|(from, to)| self.reached(*from, *to) == expected_cut(*from, *to))
            .map(|(from, to)| Mismatch {
                from: self.hosts[from].clone(),
                to: self.hosts[to].clone(),
                expected_cut: expected_cut(from, to),
            })
            .collect()
    }

    fn cell(&self, from: usize, to: usize) -> Cell {
        let n = self.hosts.len();
        assert!(from < n && to < n, "link {from} to {to} is not between two of {n} hosts");
        self.cells[from * n + to]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_names_both_kinds_of_mismatch() {
        let hosts = vec!["a".to_owned(), "b".to_owned(), "c".to_owned()];
        let mut matrix = Matrix::unreached(hosts, &[(0, 1), (1, 0), (1, 2)]);
        assert!(matrix.reach(0, 1, Duration::from_micros(9)));
        assert!(!matrix.reach(0, 1, Duration::from_micros(5)));
        assert!(!matrix.reach(0, 1, Duration::from_micros(7)));
        assert_eq!(matrix.latency(0, 1), Some(Duration::from_micros(5)));
        assert_eq!(matrix.compare(&|from, to| (from, to) != (0, 1)), []);
        let found: Vec<String> =
            matrix.compare(&|from, to| (from, to) == (0, 1)).iter().map(Mismatch::to_string).collect();
        assert_eq!(
            found,
            [
                "the link from a to b passes probes but was to be cut",
                "the link from b to a passes no probe but was to be open",
                "the link from b to c passes no probe but was to be open",
            ]
        );
    }

    #[test]
    #[should_panic(expected = "not between two")]
    fn a_host_has_no_link_to_itself() {
        Matrix::unreached(vec!["a".to_owned()], &[(0, 0)]);
    }
}

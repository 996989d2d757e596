//! Who reaches whom, measured from inside the hosts.
//!
//! The prober owns one UDP socket in every host's network namespace, so it sees both ends of each
//! link and measures every direction by itself: no reply is needed. It knows nothing of rules; the
//! caller compares what was measured with what was asked for.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

/// The UDP port the sockets given to a [`Prober`] are bound to.
pub const PROBE_PORT: u16 = 9471;

/// How long to wait for probes by default.
pub const PROBE_WAIT: Duration = Duration::from_millis(100);

/// Sends probes between hosts and sees which arrive.
#[derive(Debug)]
pub struct Prober {
    hosts: Vec<(String, UdpSocket, Ipv4Addr)>,
}

impl Prober {
    /// A prober over these hosts: name, a socket made in that host's network namespace and bound
    /// to 0.0.0.0:[`PROBE_PORT`], and the host's address on the fabric.
    ///
    /// # Errors
    /// If a socket can't be made non-blocking.
    pub fn new(sockets: Vec<(String, UdpSocket, Ipv4Addr)>) -> std::io::Result<Prober> {
        Ok(Prober { hosts: sockets })
    }

    /// The names of the hosts, in the order given.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.hosts.iter().map(|(name, _, _)| name.as_str())
    }

    /// Probes every ordered pair of different hosts. Returns as soon as every link has been
    /// reached, else `wait` after the last datagram was sent.
    pub fn matrix(&self, wait: Duration) -> Matrix {
        self.probe(&[], wait)
    }

    /// Probes only these links `(from, to)`, given as places in the list of hosts.
    pub fn probe(&self, _links: &[(usize, usize)], _wait: Duration) -> Matrix {
        unimplemented!("coming next")
    }
}

/// What a round of probing found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matrix {
    hosts: Vec<String>,
    cells: Vec<Option<Cell>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cell {
    latency: Option<Duration>,
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

impl Matrix {
    /// The names of the hosts, in the prober's order.
    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// Whether this link was probed at all.
    pub fn probed(&self, from: usize, to: usize) -> bool {
        self.cell(from, to).is_some()
    }

    /// Whether a probe arrived over this link. False for links that were not probed.
    pub fn reached(&self, from: usize, to: usize) -> bool {
        self.latency(from, to).is_some()
    }

    /// The shortest one-way latency seen on this link, if any probe arrived.
    pub fn latency(&self, from: usize, to: usize) -> Option<Duration> {
        self.cell(from, to).and_then(|cell| cell.latency)
    }

    /// The probed links that were found other than `expected_cut(from, to)` says.
    pub fn compare(&self, expected_cut: &dyn Fn(usize, usize) -> bool) -> Vec<Mismatch> {
        let n = self.hosts.len();
        (0..n)
            .flat_map(|from| (0..n).map(move |to| (from, to)))
            .filter(|(from, to)| self.probed(*from, *to) && self.reached(*from, *to) == expected_cut(*from, *to))
            .map(|(from, to)| Mismatch {
                from: self.hosts[from].clone(),
                to: self.hosts[to].clone(),
                expected_cut: expected_cut(from, to),
            })
            .collect()
    }

    fn cell(&self, from: usize, to: usize) -> Option<Cell> {
        self.cells.get(from * self.hosts.len() + to).copied().flatten()
    }
}

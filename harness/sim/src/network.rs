//! Links between hosts, and what is done to them.
//!
//! Hosts are numbered: the nodes first, then the client hosts. Every directed pair of hosts is a
//! link. Nodes that talk over connections have one connection per directed pair, as the bundled
//! nodes have; what happens to it when its link is cut follows the real node's transport: packets
//! are sent again at growing intervals, a second without acknowledgement breaks the connection,
//! what was in flight is lost with it, and new connections are tried five times a second.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use crate::fleet::Held;
use crate::harms::Harms;
use crate::plan::{Compiled, Network, Transport};

const MILLISECOND: u64 = 1_000_000;

/// When a packet that was not acknowledged is sent again, since it was sent first; TCP doubles
/// the interval each time.
pub(crate) const RESEND: [u64; 3] = [200 * MILLISECOND, 600 * MILLISECOND, 1000 * MILLISECOND];
/// A client's connection is not given up by the system, whether or not the client itself still
/// waits: a request that its client has given up long ago reaches its node once the link is whole.
/// (It goes on for longer; by then a run is over.)
pub(crate) const RESEND_CLIENT: [u64; 8] = [
    200 * MILLISECOND,
    600 * MILLISECOND,
    1_400 * MILLISECOND,
    3_000 * MILLISECOND,
    6_200 * MILLISECOND,
    12_600 * MILLISECOND,
    25_400 * MILLISECOND,
    51_000 * MILLISECOND,
];
/// Without acknowledgement for so long, a connection between nodes is dead.
pub(crate) const UNACKNOWLEDGED: u64 = 1000 * MILLISECOND;
/// The pause before the first attempt to connect again, and the greatest.
pub(crate) const BACKOFF: (u64, u64) = (20 * MILLISECOND, 200 * MILLISECOND);
/// A client waits so long for a connection.
pub(crate) const CONNECT: u64 = 500 * MILLISECOND;
/// So many messages are kept for a node that can't be reached; when there are more, all of them
/// are dropped. The real node counts bytes: about as many messages.
pub(crate) const MAX_WAITING: usize = 512;

/// How a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It carries messages.
    Up,
    /// Something was sent that has not been acknowledged since.
    Stalled { since: u64, resends: u8 },
    /// There is none; another attempt comes after this pause.
    Down { backoff: u64 },
}

/// The connection of one node to another, which carries messages one way.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) state: State,
    /// Changes whenever what is planned for the connection is void.
    pub(crate) epoch: u32,
    /// The life of the receiver that it was made with.
    pub(crate) life: u32,
    /// When the last message arrives: none arrives before an earlier one.
    pub(crate) last_arrival: u64,
    /// What waits to be sent, or sent again.
    pub(crate) waiting: VecDeque<Held>,
    /// Whether messages get through though they are not acknowledged (the way back is cut).
    pub(crate) deaf: bool,
    /// Since when what is sent has been lost, each time it was sent again.
    pub(crate) losing_since: Option<u64>,
}

impl Default for Connection {
    fn default() -> Self {
        Connection {
            state: State::Down { backoff: BACKOFF.0 },
            epoch: 0,
            life: 0,
            last_arrival: 0,
            waiting: VecDeque::new(),
            deaf: false,
            losing_since: None,
        }
    }
}

/// All links.
#[derive(Debug)]
pub(crate) struct Links {
    hosts: usize,
    nodes: usize,
    pub(crate) transport: Transport,
    pub(crate) latency: Compiled,
    /// Per link: by what it is slower than the latency says, in 1/256.
    factors: Vec<u32>,
    /// Per link: how many faults cut it.
    cuts: Vec<u16>,
    /// Per link: the greatest delay in force, in nanoseconds.
    delays: Vec<u64>,
    /// Per link: every delay in force.
    delayed: Vec<(u32, u64)>,
    /// Per link: messages so far; with the link's key, the key of their decisions.
    counts: Vec<u64>,
    /// Per link: what names it in decisions, however many hosts there are.
    keys: Vec<u64>,
    /// Per link: the messages that are left to chance; empty if all are.
    chance: Vec<Vec<RangeInclusive<u64>>>,
    /// Per link: packets dropped by cuts.
    pub(crate) dropped: Vec<u64>,
    /// What else is done to links.
    pub(crate) harms: Harms,
    /// The time.
    pub(crate) now: u64,
    /// Per directed pair of nodes.
    pub(crate) connections: Vec<Connection>,
}

impl Default for Links {
    fn default() -> Self {
        Links {
            hosts: 0,
            nodes: 0,
            transport: Transport::Stream,
            latency: Compiled::default(),
            factors: Vec::new(),
            cuts: Vec::new(),
            delays: Vec::new(),
            delayed: Vec::new(),
            counts: Vec::new(),
            keys: Vec::new(),
            chance: Vec::new(),
            dropped: Vec::new(),
            harms: Harms::default(),
            now: 0,
            connections: Vec::new(),
        }
    }
}

/// What names a host in decisions. It doesn't change when there are more or fewer nodes.
pub(crate) fn host_key(host: usize, nodes: usize) -> u64 {
    match host.checked_sub(nodes) {
        None => host as u64,
        Some(client) => 0x100 + client as u64,
    }
}

fn refill<T: Clone>(vec: &mut Vec<T>, length: usize, with: T) {
    vec.clear();
    vec.resize(length, with);
}

impl Links {
    /// Whole links between so many hosts. `slower` draws a link's factor, from 0.0 to 1.0.
    pub(crate) fn reset(
        &mut self,
        nodes: usize,
        clients: usize,
        network: &Network,
        mut slower: impl FnMut(u64) -> f64,
    ) {
        let hosts = nodes + clients;
        self.hosts = hosts;
        self.nodes = nodes;
        self.transport = network.transport;
        self.latency = network.latency.compile();
        self.keys.clear();
        let name = |host: usize| host_key(host, nodes);
        self.keys.extend((0..hosts * hosts).map(|link| name(link / hosts) << 16 | name(link % hosts)));
        self.chance.clear();
        refill(&mut self.factors, hosts * hosts, 256);
        if network.spread > 1.0 {
            for (key, factor) in self.keys.iter().zip(&mut self.factors) {
                *factor = (256.0 * (1.0 + (network.spread.min(1000.0) - 1.0) * slower(*key))) as u32;
            }
        }
        refill(&mut self.cuts, hosts * hosts, 0);
        refill(&mut self.delays, hosts * hosts, 0);
        refill(&mut self.counts, hosts * hosts, 0);
        refill(&mut self.dropped, hosts * hosts, 0);
        self.delayed.clear();
        self.harms.reset(hosts * hosts);
        self.now = 0;
        self.connections.truncate(nodes * nodes);
        for connection in &mut self.connections {
            let mut waiting = std::mem::take(&mut connection.waiting);
            waiting.clear();
            *connection = Connection { waiting, ..Connection::default() };
        }
        self.connections.resize_with(nodes * nodes, Connection::default);
    }

    pub(crate) fn link(&self, from: usize, to: usize) -> usize {
        from * self.hosts + to
    }

    pub(crate) fn connection(&self, from: usize, to: usize) -> usize {
        from * self.nodes + to
    }

    /// Whose connection that is.
    pub(crate) fn ends(&self, connection: usize) -> (usize, usize) {
        (connection / self.nodes, connection % self.nodes)
    }

    #[inline]
    pub(crate) fn open(&self, from: usize, to: usize) -> bool {
        let link = self.link(from, to);
        self.cuts[link] == 0 && (self.harms.none() || !self.harms.flapped(link, self.now))
    }

    /// A packet meets a link: whether it gets through. One that doesn't is counted.
    #[inline]
    pub(crate) fn passes(&mut self, from: usize, to: usize) -> bool {
        let link = self.link(from, to);
        let open = self.open(from, to);
        self.dropped[link] += u64::from(!open);
        open
    }

    /// From now on only these messages of a link are left to chance, and of other links only those
    /// that are given likewise.
    pub(crate) fn leave_to_chance(&mut self, link: Option<usize>, messages: &[RangeInclusive<u64>]) {
        self.chance.resize_with(self.hosts * self.hosts, Vec::new);
        if let Some(link) = link {
            self.chance[link] = messages.to_vec();
        }
    }

    /// Whether nothing unusual may happen to a message.
    #[inline]
    pub(crate) fn ordinary(&self, link: usize, number: u64) -> bool {
        !self.chance.is_empty() && !self.chance[link].iter().any(|range| range.contains(&number))
    }

    /// What names a link in decisions.
    #[inline]
    pub(crate) fn key(&self, link: usize) -> u64 {
        self.keys[link]
    }

    /// The number of the next message of a link.
    pub(crate) fn number(&mut self, link: usize) -> u64 {
        self.counts[link] += 1;
        self.counts[link]
    }

    /// How long a message takes that would take `drawn` on a link like any other.
    pub(crate) fn takes(&self, link: usize, drawn: u64) -> u64 {
        let factor = self.factors[link];
        let own = if factor == 256 { drawn } else { drawn / 256 * u64::from(factor) };
        own + self.delays[link]
    }

    pub(crate) fn cut(&mut self, link: usize) {
        self.cuts[link] += 1;
    }

    pub(crate) fn mend(&mut self, link: usize) {
        self.cuts[link] -= 1;
    }

    pub(crate) fn delay(&mut self, link: usize, by: u64) {
        self.delayed.push((link as u32, by));
        self.delays[link] = self.delays[link].max(by);
    }

    pub(crate) fn undelay(&mut self, link: usize, by: u64) {
        if let Some(at) = self.delayed.iter().position(|delay| *delay == (link as u32, by)) {
            self.delayed.swap_remove(at);
        }
        let left = self.delayed.iter().filter(|(of, _)| *of as usize == link);
        self.delays[link] = left.map(|(_, by)| *by).max().unwrap_or_default();
    }

    pub(crate) fn delay_of(&self, link: usize) -> u64 {
        self.delays[link]
    }
}

//! What is to be simulated.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use duress_fault::Schedule;
use duress_history::Host;
use duress_seed::{Decision, Seed};
use smol_str::SmolStr;

use crate::Timed;

/// One run. The first part says the same as the plan of a run in the real world; the rest says
/// how the simulated world behaves.
#[derive(Clone, Debug)]
pub struct SimPlan {
    /// The scenario's name.
    pub scenario: SmolStr,
    /// The members of the target, at most 64.
    pub nodes: Vec<Host>,
    /// The client hosts, at least one.
    pub clients: Vec<Host>,
    /// How many processes are at work at a time, at most 4096.
    pub concurrency: usize,
    /// How long the main phase lasts.
    pub time: Duration,
    /// What is done to the target meanwhile.
    pub schedule: Vec<Timed>,
    /// Fixes everything.
    pub seed: Seed,
    /// How long the healed target may take to answer again.
    pub recovery: Duration,
    /// So many nodes, drawn from the seed, are healed first and must answer within
    /// [`recovery`](SimPlan::recovery), while all others are down or cut off from everybody.
    /// `None`: everything is healed at once.
    pub heal_first: Option<usize>,
    /// An operation may take this long before its client host is given up on.
    pub patience: Duration,
    /// The name of the operation by which nodes are asked whether they serve.
    pub probe: &'static str,
    /// Whether the resource that locks protect checks tokens.
    pub fencing: bool,
    /// The main phase ends when this many operations have ended.
    pub max_operations: u64,
    /// The run is cut short after this many events: the bound on time and memory.
    pub max_events: u64,
    /// How messages travel.
    pub network: Network,
    /// Which messages' travel is left to chance.
    pub chance: Chance,
    /// How disks behave.
    pub disk: Disk,
    /// How clocks differ.
    pub clocks: Clocks,
    /// How long a node's process takes to start.
    pub startup: Latency,
}

impl SimPlan {
    /// A plan with `nodes` nodes (`n1`, `n2`, …), `clients` client hosts (`c1`, …), one process on
    /// each, no faults, a quick network, sound disks and nearly true clocks.
    pub fn new(nodes: usize, clients: usize, time: Duration, seed: Seed) -> SimPlan {
        let names = |letter: &str, count| (1..=count).map(|n| smol_str::format_smolstr!("{letter}{n}")).collect();
        SimPlan {
            scenario: SmolStr::new_static("simulation"),
            nodes: names("n", nodes),
            clients: names("c", clients),
            concurrency: clients,
            time,
            schedule: Vec::new(),
            seed,
            recovery: Duration::from_secs(15),
            heal_first: None,
            patience: Duration::from_secs(30),
            probe: "write",
            fencing: true,
            max_operations: u64::MAX,
            max_events: 100_000_000,
            network: Network::default(),
            chance: Chance::All,
            disk: Disk::default(),
            clocks: Clocks::default(),
            startup: Latency::between(Duration::from_millis(5), Duration::from_millis(30)),
        }
    }

    /// With the faults of a schedule as the real world knows it.
    pub fn with_schedule(mut self, schedule: &Schedule) -> SimPlan {
        self.schedule = schedule.faults().to_vec();
        self
    }
}

/// How long something takes: evenly distributed, with an occasional outlier.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    /// The least.
    pub low: Duration,
    /// The most, outliers apart.
    pub high: Duration,
    /// The share of outliers.
    pub spikes: f64,
    /// By how much an outlier takes longer.
    pub spike: Duration,
}

impl Latency {
    /// Evenly distributed, without outliers.
    pub const fn between(low: Duration, high: Duration) -> Latency {
        Latency { low, high, spikes: 0.0, spike: Duration::ZERO }
    }

    /// In nanoseconds, for the inner loop.
    pub(crate) fn compile(self) -> Compiled {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX >> 8);
        Compiled {
            low: nanos(self.low),
            span: nanos(self.high).saturating_sub(nanos(self.low)) + 1,
            spikes: (self.spikes.clamp(0.0, 1.0) * f64::from(u32::MAX)) as u32,
            spike: nanos(self.spike),
        }
    }
}

/// A [`Latency`] in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Compiled {
    low: u64,
    span: u64,
    spikes: u32,
    spike: u64,
}

impl Compiled {
    /// The time in the middle, outliers apart.
    pub(crate) fn middle(&self) -> u64 {
        self.low + self.span / 2
    }

    /// The time that a decision means. The upper bits choose the time, the lower ones whether it
    /// is an outlier.
    pub(crate) fn draw(&self, decision: Decision) -> u64 {
        let outlier = self.spikes > 0 && (decision.bits() as u32) < self.spikes;
        self.low + decision.below(self.span) + if outlier { self.spike } else { 0 }
    }
}

/// How messages between nodes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Like the bundled nodes' TCP connections. Messages of a link arrive in order; a lost packet
    /// delays what is behind it. A connection that gets no acknowledgement for a second breaks:
    /// what was in flight is lost, and once the link is whole again a new connection is made.
    Stream,
    /// Each message for itself: it may be lost, arrive twice, and overtake others.
    Datagram,
}

/// How messages travel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Network {
    /// How long a message takes.
    pub latency: Latency,
    /// Each directed link is slower than that by a factor of its own, from 1 to this.
    pub spread: f64,
    /// How messages between nodes travel. Clients always use connections.
    pub transport: Transport,
    /// The share of messages that are lost; on connections they are sent again after a while.
    pub loss: f64,
    /// The share of datagrams that arrive twice.
    pub duplicate: f64,
    /// The share of datagrams that are held up by [`reorder_by`](Network::reorder_by) or less.
    pub reorder: f64,
    /// By how much, at most.
    pub reorder_by: Duration,
}

impl Default for Network {
    /// A local network: 0.2 to 2 ms, connections, nothing lost.
    fn default() -> Network {
        Network {
            latency: Latency::between(Duration::from_micros(200), Duration::from_millis(2)),
            spread: 1.0,
            transport: Transport::Stream,
            loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            reorder_by: Duration::from_millis(50),
        }
    }
}

/// Which messages' travel is left to chance. Every other message is ordinary: it takes the time in
/// the middle of what the network's latency says, and is neither lost nor repeated nor held up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Chance {
    /// Every message's.
    #[default]
    All,
    /// Only these: for each directed link, the numbers of its messages, counted from one.
    Only(BTreeMap<(Host, Host), Vec<RangeInclusive<u64>>>),
}

/// How disks behave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Disk {
    /// How long a sync takes.
    pub sync: Latency,
    /// What a crash does to a disk.
    pub crash: Crash,
    /// The share of restarts that find one bit of a record that had been durable flipped.
    pub corruption: f64,
}

impl Default for Disk {
    /// Syncs of 0.2 to 2 ms; crashes leave what was written.
    fn default() -> Disk {
        Disk {
            sync: Latency::between(Duration::from_micros(200), Duration::from_millis(2)),
            crash: Crash::Kill,
            corruption: 0.0,
        }
    }
}

/// What a crash does to a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process is killed: what it had handed to the operating system stays.
    Kill,
    /// The power fails: what was not synced is lost, or a part of it, or is torn.
    Power,
    /// Either, by the seed.
    Either,
}

/// How clocks differ from each other. Each host draws its own from the seed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clocks {
    /// A wall clock is ahead of or behind the true time by this much at most.
    pub offset: Duration,
    /// A clock runs fast or slow by this much at most, in parts per million.
    pub drift_ppm: u32,
}

impl Default for Clocks {
    /// Within 5 ms, and 100 parts per million.
    fn default() -> Clocks {
        Clocks { offset: Duration::from_millis(5), drift_ppm: 100 }
    }
}

/// A time in nanoseconds; what is too long is shorter, and long enough.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX >> 2)
}

//! One node of the test world: its machine, disk and clocks.

use std::collections::BTreeMap;
use std::time::Duration;

use duress_machine::{Machine, Reading};

use super::{Event, Service};

pub(super) struct Node<M: Service> {
    pub machine: Option<M>,
    pub life: u64,
    pub paused: bool,
    /// What arrived during a pause.
    pub backlog: Vec<Event<M>>,
    pub timers: BTreeMap<M::Timer, u64>,
    pub disk: Disk<M>,
    pub clock: Clock,
}

impl<M: Service> Default for Node<M> {
    fn default() -> Self {
        Node {
            machine: None,
            life: 0,
            paused: false,
            backlog: Vec::new(),
            timers: BTreeMap::new(),
            disk: Disk::default(),
            clock: Clock::default(),
        }
    }
}

/// How a node's clocks differ from the world's time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// What the wall clock shows at the world's time zero.
    pub wall: Duration,
    /// What the monotonic clock shows at the world's time zero.
    pub monotonic: Duration,
    /// How fast both run: 1.0 is true.
    pub rate: f64,
}

impl Default for Clock {
    fn default() -> Self {
        Clock { wall: Duration::from_secs(1_700_000_000), monotonic: Duration::from_secs(1000), rate: 1.0 }
    }
}

impl Clock {
    pub(super) fn read(&self, now: Duration) -> Reading {
        let passed = now.mul_f64(self.rate);
        Reading { wall: self.wall + passed, monotonic: self.monotonic + passed }
    }

    /// How long this much of the node's time takes in the world's.
    pub(super) fn true_time(&self, time: Duration) -> Duration {
        // Rounded up: a timer never runs out before the node's clock has got there.
        time.div_f64(self.rate) + Duration::from_nanos(1)
    }
}

enum Write<R> {
    Append(R),
    Rewrite(Vec<R>),
}

/// A log on a disk: durable records, and writes that a crash may lose.
pub(super) struct Disk<M: Machine> {
    durable: Vec<M::Record>,
    unsynced: Vec<Write<M::Record>>,
    /// How many writes of this life are durable.
    through: u64,
    /// When the latest sync asked for ends: syncs end in order.
    busy_until: Duration,
}

impl<M: Machine> Default for Disk<M> {
    fn default() -> Self {
        Disk { durable: Vec::new(), unsynced: Vec::new(), through: 0, busy_until: Duration::ZERO }
    }
}

impl<M: Machine> Disk<M> {
    pub fn durable(&self) -> &[M::Record] {
        &self.durable
    }

    pub fn replace(&mut self, records: Vec<M::Record>) {
        self.durable = records;
    }

    pub fn start(&mut self) -> Vec<M::Record> {
        self.unsynced.clear();
        self.through = 0;
        self.durable.clone()
    }

    pub fn append(&mut self, record: M::Record) {
        self.unsynced.push(Write::Append(record));
    }

    pub fn rewrite(&mut self, records: Vec<M::Record>) {
        self.unsynced.push(Write::Rewrite(records));
    }

    /// A sync that would end at `at`: what it covers, and when it ends.
    pub fn sync(&mut self, at: Duration) -> (u64, Duration) {
        self.busy_until = self.busy_until.max(at);
        (self.through + self.unsynced.len() as u64, self.busy_until)
    }

    pub fn synced(&mut self, through: u64) {
        let count = (through.saturating_sub(self.through) as usize).min(self.unsynced.len());
        self.write(count);
    }

    /// The first `keep` (a share) of the unsynced writes turn out to be on the disk.
    pub fn crash(&mut self, keep: f64) {
        let count = ((self.unsynced.len() + 1) as f64 * keep) as usize;
        self.write(count.min(self.unsynced.len()));
        self.unsynced.clear();
    }

    fn write(&mut self, count: usize) {
        self.through += count as u64;
        for write in self.unsynced.drain(..count) {
            match write {
                Write::Append(record) => self.durable.push(record),
                Write::Rewrite(records) => self.durable = records,
            }
        }
    }
}

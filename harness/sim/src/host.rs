//! What a simulated host has: a node's process, disk and clocks; a client host's.

use std::collections::VecDeque;

use duress_fault::{SLICE, Share};
use duress_machine::{Role, Status};
use duress_workloads::client::{ClientMachine, Leases};

use crate::clock::Clock;
use crate::disk::Disk;
use crate::event::{ClientInput, NodeInput};

/// One node: its host's clocks and disk, and its process, if it has one.
#[derive(Debug, Default)]
pub(crate) struct Node {
    /// It has a process.
    pub(crate) up: bool,
    /// Which process this is, from one.
    pub(crate) life: u32,
    /// Counts starts that were asked for; only the last one counts.
    pub(crate) starts: u32,
    /// A start is under way.
    pub(crate) starting: bool,
    /// The process stands still.
    pub(crate) stopped: bool,
    /// What waits to be handled: in a standstill, or until a slow node has its next turn.
    pub(crate) inbox: VecDeque<NodeInput>,
    /// Somebody comes to look at the inbox.
    pub(crate) waking: bool,
    /// The shares of the processor's time that faults leave it.
    pub(crate) slow: Vec<Share>,
    /// How often it has come back under another address.
    pub(crate) moves: u32,
    /// What faults leave its process too little of.
    pub(crate) wants: Wants,
    /// Timers that are set.
    pub(crate) timers: Vec<Timer>,
    /// How often a timer was set.
    pub(crate) settings: u32,
    pub(crate) disk: Disk,
    pub(crate) clock: Clock,
    /// What it last said of itself in this life.
    pub(crate) report: Option<Status>,
    /// How many faults keep it down, and how many keep it stopped.
    pub(crate) crashed_by: u32,
    pub(crate) paused_by: u32,
    /// It stopped because its disk is broken.
    pub(crate) halted: bool,
    pub(crate) crashes: u64,
}

/// A timer that is set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timer {
    /// Its number at the fleet.
    pub(crate) number: u32,
    /// Which setting of a timer of the node this is.
    pub(crate) setting: u32,
    /// When it runs out, by the node's own clock.
    pub(crate) deadline: u64,
}

impl Node {
    /// A new host in old memory.
    pub(crate) fn reset(&mut self) {
        let mut inbox = std::mem::take(&mut self.inbox);
        let mut timers = std::mem::take(&mut self.timers);
        let mut disk = std::mem::take(&mut self.disk);
        inbox.clear();
        timers.clear();
        disk.clear();
        *self = Node { inbox, timers, disk, ..Node::default() };
    }

    pub(crate) fn up(&self) -> bool {
        self.up
    }
}

pub(crate) fn role_name(role: Role) -> &'static str {
    role.name()
}

/// What is in force on one node's process, besides what keeps it down or stopped.
#[derive(Debug, Default)]
pub(crate) struct Wants {
    /// Crash loops, by the numbers of their faults.
    pub(crate) loops: Vec<u64>,
    /// How many of its lives they have ended.
    pub(crate) looped: u64,
    /// Faults that leave it too little memory.
    pub(crate) starving: Vec<u64>,
    /// How often it has died of that.
    pub(crate) starved: u64,
    /// Faults that leave it few descriptors, and how many each leaves.
    pub(crate) spare: Vec<(u64, u32)>,
}

impl Wants {
    /// Whether it can have another connection; if so, it has it.
    pub(crate) fn connects(&mut self) -> bool {
        if self.spare.iter().any(|(_, spare)| *spare == 0) {
            return false;
        }
        self.spare.iter_mut().for_each(|(_, spare)| *spare -= 1);
        true
    }
}

/// A client host: its clock, whether it stands still, and its own part in the workload.
#[derive(Debug, Default)]
pub(crate) struct ClientHost {
    pub(crate) clock: Clock,
    pub(crate) paused_by: u32,
    pub(crate) stopped: bool,
    /// The shares of the processor's time that faults leave it.
    pub(crate) slow: Vec<Share>,
    pub(crate) inbox: VecDeque<(u32, u32, ClientInput)>,
    pub(crate) machine: Leases,
}

impl ClientHost {
    /// The share of its time for which it runs.
    pub(crate) fn share(&self) -> Share {
        least(&self.slow)
    }

    pub(crate) fn reset(&mut self) {
        let mut inbox = std::mem::take(&mut self.inbox);
        let mut machine = std::mem::take(&mut self.machine);
        inbox.clear();
        machine.reset();
        *self = ClientHost { inbox, machine, ..ClientHost::default() };
    }
}

/// Connections of a client host to a node that wait to be used again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Idle {
    pub(crate) count: u32,
    /// The node's life that they were made with.
    pub(crate) life: u32,
}

/// The share of its time for which a host runs: the least that faults leave it.
pub(crate) fn least(shares: &[Share]) -> Share {
    shares.iter().min().copied().unwrap_or(Share::ALL)
}

/// How long a node waits for its next turn on the processor, in nanoseconds. Of every slice it runs
/// for the least of these shares; slices of different nodes begin at different times.
pub(crate) fn stands_still(shares: &[Share], node: u16, now: u64) -> u64 {
    if shares.is_empty() {
        return 0;
    }
    let share = least(shares);
    let slice = SLICE.as_nanos() as u64;
    let since = (now + u64::from(node) * slice / 7) % slice;
    if since < slice / 1_000_000 * u64::from(share.parts()) { 0 } else { slice - since }
}

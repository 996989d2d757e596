//! Harm of clocks: what processes are told of the time.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Error, ProcessId};

/// Skews the clocks of processes, and shows what they are told. A back end whose hosts have clocks
/// of their own (machines) skews the host's, whichever of its processes is named.
pub trait Clocks: Send + Sync {
    /// Changes what a process is told, all at one moment where the changes are the same.
    ///
    /// # Errors
    /// If it has ended ([`Gone`](crate::ErrorKind::Gone)), or its clocks can't be skewed.
    fn skew(&self, host: &str, process: ProcessId, changes: &[(Clock, Change)]) -> Result<(), Error>;

    /// What a process is told at the moment. It isn't stopped for that.
    ///
    /// # Errors
    /// As [`skew`](Clocks::skew).
    fn read(&self, host: &str, process: ProcessId) -> Result<State, Error>;

    /// Watches a process's clocks until enough has been seen, or for so long.
    ///
    /// # Errors
    /// As [`skew`](Clocks::skew).
    fn watch(&self, host: &str, process: ProcessId, within: Duration, enough: &[Enough]) -> Result<Watch, Error>;
}

/// What must have been seen of a clock for a watch to end before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enough {
    /// Which clock.
    pub clock: Clock,
    /// True time between the first look and the last, in nanoseconds.
    pub span_ns: i64,
    /// How far apart its least and its most offset are, in nanoseconds.
    pub range_ns: i64,
    /// How often the process has read it.
    pub reads: u64,
}

/// A clock that can be skewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Clock {
    /// `CLOCK_REALTIME` and its coarse twin, `gettimeofday`, `time`: the wall clock.
    Realtime,
    /// `CLOCK_MONOTONIC` and its coarse twin.
    Monotonic,
    /// `CLOCK_BOOTTIME`.
    Boottime,
}

impl Clock {
    /// All of them, in the order of the data page.
    pub const ALL: [Clock; 3] = [Clock::Realtime, Clock::Monotonic, Clock::Boottime];

    /// Whether it must never run backwards.
    pub fn ascends(self) -> bool {
        self != Clock::Realtime
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Clock::Realtime => "realtime",
            Clock::Monotonic => "monotonic",
            Clock::Boottime => "boottime",
        })
    }
}

/// What is done to a clock. Each works on top of what is in force already.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Change {
    /// From now on ahead by so many nanoseconds more (or less).
    Jump(i64),
    /// Runs so many parts per million faster than true; -1,000,000 stands still. Replaces an
    /// earlier rate; the time told doesn't jump.
    Rate(f64),
    /// Alternates between its time and so many nanoseconds ahead of it, beginning with its time.
    Strobe {
        /// How far ahead, or behind if negative, every second period.
        by: i64,
        /// How long a period is.
        every: Duration,
    },
    /// Stands still.
    Freeze,
    /// The true time again. A clock that must not run backwards and is ahead keeps what it is
    /// ahead, and runs true.
    Reset,
}

/// What a process is told by one clock.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Which clock.
    pub clock: Clock,
    /// Whether it is skewed.
    pub skewed: bool,
    /// The true time of the reading by this clock, in nanoseconds.
    pub at_ns: i64,
    /// How far it is ahead of true, in nanoseconds, at the moment of reading.
    pub ahead_ns: i64,
    /// How much faster than true it runs, in parts per million.
    pub rate_ppm: f64,
    /// How often the process has read it since the process was first skewed, while any of its
    /// clocks were.
    pub reads: u64,
}

/// What a process is told.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Whether its clock functions are replaced at the moment.
    pub replaced: bool,
    /// Each clock.
    pub clocks: [Reading; 3],
}

impl State {
    /// One clock's reading.
    pub fn of(&self, clock: Clock) -> Reading {
        self.clocks[clock as usize]
    }
}

/// What a process was told over a while.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// At the beginning.
    pub first: State,
    /// At the end.
    pub last: State,
    /// How far ahead each clock was, at least, in nanoseconds.
    pub least: [i64; 3],
    /// And at most.
    pub most: [i64; 3],
}

impl Watch {
    /// A first look.
    pub fn new(state: State) -> Watch {
        let ahead = state.clocks.map(|reading| reading.ahead_ns);
        Watch { first: state, last: state, least: ahead, most: ahead }
    }

    /// Another look.
    pub fn look(&mut self, state: State) {
        self.last = state;
        for (at, reading) in state.clocks.iter().enumerate() {
            self.least[at] = self.least[at].min(reading.ahead_ns);
            self.most[at] = self.most[at].max(reading.ahead_ns);
        }
    }

    /// Whether all of this has been seen.
    pub fn shows(&self, enough: &[Enough]) -> bool {
        enough.iter().all(|one| {
            let (least, most) = self.range(one.clock);
            self.took(one.clock) >= one.span_ns && most - least >= one.range_ns && self.reads(one.clock) >= one.reads
        })
    }

    /// How often the process read a clock meanwhile. Zero where its clock functions are not
    /// replaced.
    pub fn reads(&self, clock: Clock) -> u64 {
        self.last.of(clock).reads.saturating_sub(self.first.of(clock).reads)
    }

    /// How much true time passed between the first look and the last, in nanoseconds.
    pub fn took(&self, clock: Clock) -> i64 {
        self.last.of(clock).at_ns - self.first.of(clock).at_ns
    }

    /// How far ahead a clock was, at least and at most, in nanoseconds.
    pub fn range(&self, clock: Clock) -> (i64, i64) {
        (self.least[clock as usize], self.most[clock as usize])
    }

    /// How much faster than true a clock ran from the first look to the last, in parts per
    /// million.
    pub fn ppm(&self, clock: Clock) -> f64 {
        let gained = self.last.of(clock).ahead_ns - self.first.of(clock).ahead_ns;
        if gained == 0 { 0.0 } else { gained as f64 / self.took(clock) as f64 * 1e6 }
    }
}

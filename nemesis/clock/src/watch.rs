//! Looking at a process's clocks for a while.

use std::thread;
use std::time::{Duration, Instant};

use crate::{Clock, ClockError, State, read};

/// How often is looked.
const LOOK: Duration = Duration::from_millis(1);

/// What a process was told over a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Watch {
    /// At the beginning.
    pub first: State,
    /// At the end.
    pub last: State,
    least: [i64; 3],
    most: [i64; 3],
}

impl Watch {
    fn new(state: State) -> Watch {
        let ahead = state.clocks.map(|reading| reading.ahead_ns);
        Watch { first: state, last: state, least: ahead, most: ahead }
    }

    fn look(&mut self, state: State) {
        self.last = state;
        for (at, reading) in state.clocks.iter().enumerate() {
            self.least[at] = self.least[at].min(reading.ahead_ns);
            self.most[at] = self.most[at].max(reading.ahead_ns);
        }
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

/// Watches a process's clocks until `enough` has been seen, or for so long. The process isn't
/// stopped for that, and need not be a child.
///
/// # Errors
/// See [`ClockError`].
pub fn watch(pid: i32, within: Duration, enough: impl Fn(&Watch) -> bool) -> Result<Watch, ClockError> {
    let until = Instant::now() + within;
    let mut seen = Watch::new(read(pid)?);
    while !enough(&seen) && Instant::now() < until {
        thread::sleep(LOOK);
        seen.look(read(pid)?);
    }
    Ok(seen)
}

//! A host's two clocks as functions of the true time.

use std::time::Duration;

use duress_machine::Reading;

/// What every wall clock shows, more or less, when a run begins: seconds since the Unix epoch.
pub(crate) const EPOCH: u64 = 1_700_000_000;

const SECOND: u64 = 1_000_000_000;
const MILLION: i64 = 1_000_000;

/// All in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// What the clocks showed at the true time `since`.
    wall: u64,
    monotonic: u64,
    since: u64,
    /// How much faster than true both run, in parts per million.
    ppm: i32,
}

impl Default for Clock {
    fn default() -> Self {
        Clock { wall: EPOCH * SECOND, monotonic: 1000 * SECOND, since: 0, ppm: 0 }
    }
}

impl Clock {
    fn shown(&self, true_time: u64) -> u64 {
        if self.ppm == 0 {
            return true_time;
        }
        // In two parts, so that 64 bits do for any run and any rate.
        let (millions, rest) = (true_time as i64 / MILLION, true_time as i64 % MILLION);
        let ppm = i64::from(self.ppm);
        true_time.saturating_add_signed(millions * ppm + (rest * ppm).div_euclid(MILLION))
    }

    pub(crate) fn monotonic(&self, now: u64) -> u64 {
        self.monotonic + self.shown(now - self.since)
    }

    pub(crate) fn read(&self, now: u64) -> Reading {
        let passed = self.shown(now - self.since);
        Reading {
            wall: Duration::from_nanos(self.wall + passed),
            monotonic: Duration::from_nanos(self.monotonic + passed),
        }
    }

    /// The true time, not before `now`, at which the monotonic clock shows at least `reading`.
    pub(crate) fn when(&self, reading: u64, now: u64) -> u64 {
        let left = reading.saturating_sub(self.monotonic(now));
        if self.ppm == 0 || left == 0 {
            return now + left;
        }
        let rate = (MILLION + i64::from(self.ppm)) as u64;
        // Rounded up, and one more for what was rounded down in between: a timer never fires
        // before the node's own clock has got there.
        let (whole, rest) = (left / rate, left % rate);
        now + (whole * MILLION as u64 + rest * MILLION as u64 / rate + 2)
    }

    /// Both clocks run faster than true by this much from now on; kept within half to double.
    pub(crate) fn set_rate(&mut self, ppm: i32, now: u64) {
        let passed = self.shown(now - self.since);
        self.wall += passed;
        self.monotonic += passed;
        self.since = now;
        self.ppm = ppm.clamp(-500_000, 1_000_000);
    }

    pub(crate) fn ppm(&self) -> i32 {
        self.ppm
    }

    /// The wall clock jumps.
    pub(crate) fn jump(&mut self, nanoseconds: i64) {
        self.wall = self.wall.saturating_add_signed(nanoseconds);
    }

    /// By how much the wall clock is ahead of the true time, in nanoseconds.
    pub(crate) fn offset(&self, now: u64) -> i64 {
        (self.wall + self.shown(now - self.since)) as i64 - (EPOCH * SECOND + now) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_wait_for_the_nodes_own_clock() {
        for ppm in [-400_000, -17, 0, 3, 999_983] {
            let mut clock = Clock::default();
            clock.set_rate(ppm, 12_345);
            for left in [0, 1, 2, 999, 1_000_000_007] {
                let reading = clock.monotonic(777_777) + left;
                let at = clock.when(reading, 777_777);
                assert!(clock.monotonic(at) >= reading, "{ppm} ppm, {left} ns");
                assert!(clock.monotonic(at) <= reading + 8, "{ppm} ppm, {left} ns");
            }
        }
    }

    #[test]
    fn a_change_of_rate_moves_no_clock() {
        let mut clock = Clock::default();
        clock.set_rate(250_000, 1_000_000);
        let before = clock.read(9_000_000);
        clock.set_rate(-250_000, 9_000_000);
        assert_eq!(clock.read(9_000_000), before);
        clock.jump(-1_000_000);
        assert_eq!(clock.read(9_000_000).monotonic, before.monotonic);
        assert_eq!(clock.read(9_000_000).wall + Duration::from_millis(1), before.wall);
    }
}

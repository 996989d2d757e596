//! A host's two clocks as functions of the true time, and what faults do to them.

use std::time::Duration;

use duress_fault::{ClockChange, Clocks};
use duress_machine::Reading;

/// What every wall clock shows, more or less, when a run begins: seconds since the Unix epoch.
pub(crate) const EPOCH: u64 = 1_700_000_000;

const SECOND: u64 = 1_000_000_000;
const MILLION: i64 = 1_000_000;
/// What every monotonic clock shows when a run begins.
const BOOTED: u64 = 1000 * SECOND;
/// A clock that stands still gets there after this: long after any run, and whoever waits looks
/// again then.
const NEVER: u64 = 3_600 * SECOND;

/// One clock. All in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hand {
    /// What it showed at the true time `since`.
    value: u64,
    since: u64,
    /// How much faster than true it runs, in parts per million; -1,000,000 stands still.
    ppm: i32,
}

impl Hand {
    fn shows(&self, now: u64) -> u64 {
        self.value + passes(now - self.since, self.ppm)
    }

    /// Runs at another rate from now on.
    fn set_rate(&mut self, ppm: i32, now: u64) {
        *self = Hand { value: self.shows(now), since: now, ppm };
    }
}

/// How far a clock moves in a time.
#[inline]
fn passes(true_time: u64, ppm: i32) -> u64 {
    if ppm == 0 {
        return true_time;
    }
    // In two parts, so that 64 bits do for any run and any rate.
    let (millions, rest) = (true_time as i64 / MILLION, true_time as i64 % MILLION);
    let ppm = i64::from(ppm);
    true_time.saturating_add_signed(millions * ppm + (rest * ppm).div_euclid(MILLION))
}

/// A fault's doing, in force since a time.
#[derive(Clone, Copy, Debug)]
struct Skew {
    clocks: Clocks,
    change: ClockChange,
    since: u64,
}

impl Skew {
    fn wall(&self) -> bool {
        self.clocks != Clocks::Monotonic
    }

    fn monotonic(&self) -> bool {
        self.clocks != Clocks::Wall
    }
}

/// A host's clocks: as they are by themselves, and as faults have them.
///
/// Faults that overlap add up: jumps and rates are summed, a clock that any of them freezes stands
/// still, and of several strobes the latest is seen. When a fault is healed while others of the
/// same clock are in force, its jump or rate is taken back, and what its rate has gained stays
/// until the last of them is healed. Then the wall clock is as it would have been; the monotonic
/// clock, which never runs backwards, keeps what it is ahead.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    /// By how much its wall clock is ahead, and its clocks run fast, without any fault.
    ahead: i64,
    ppm: i32,
    wall: Hand,
    monotonic: Hand,
    skews: Vec<Skew>,
}

impl Default for Clock {
    fn default() -> Self {
        Clock::new(0, 0)
    }
}

/// What a clock shows beyond its own time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ahead {
    pub(crate) wall: i64,
    pub(crate) monotonic: i64,
}

impl Clock {
    /// One whose wall clock is ahead, and whose clocks run fast, by nobody's doing.
    pub(crate) fn new(ahead: i64, ppm: i32) -> Clock {
        let hand = |value| Hand { value, since: 0, ppm };
        let wall = hand((EPOCH * SECOND).saturating_add_signed(ahead));
        Clock { ahead, ppm, wall, monotonic: hand(BOOTED), skews: Vec::new() }
    }

    fn own_wall(&self) -> Hand {
        Hand { value: (EPOCH * SECOND).saturating_add_signed(self.ahead), since: 0, ppm: self.ppm }
    }

    fn own_monotonic(&self) -> Hand {
        Hand { value: BOOTED, since: 0, ppm: self.ppm }
    }

    pub(crate) fn monotonic(&self, now: u64) -> u64 {
        self.monotonic.shows(now)
    }

    fn wall(&self, now: u64) -> u64 {
        let shows = self.wall.shows(now);
        match self.strobe() {
            Some((by, every, since)) if (now - since) / every % 2 == 1 => shows.saturating_add_signed(by),
            _ => shows,
        }
    }

    /// By how much it strobes, how often it flips, and since when.
    fn strobe(&self) -> Option<(i64, u64, u64)> {
        self.skews.iter().rev().find_map(|skew| match skew.change {
            ClockChange::Strobe { by, every } if skew.wall() => Some((by, nanos(every).max(1), skew.since)),
            _ => None,
        })
    }

    #[inline]
    pub(crate) fn read(&self, now: u64) -> Reading {
        // Without faults both have run alike since the beginning.
        let (wall, monotonic) = if self.skews.is_empty() && self.wall.since == self.monotonic.since {
            let passed = passes(now - self.wall.since, self.ppm);
            (self.wall.value + passed, self.monotonic.value + passed)
        } else {
            (self.wall(now), self.monotonic(now))
        };
        Reading { wall: Duration::from_nanos(wall), monotonic: Duration::from_nanos(monotonic) }
    }

    /// The true time, not before `now`, at which the monotonic clock shows at least `reading`, if
    /// nothing is done to it meanwhile.
    pub(crate) fn when(&self, reading: u64, now: u64) -> u64 {
        let left = reading.saturating_sub(self.monotonic(now));
        if self.monotonic.ppm == 0 || left == 0 {
            return now.saturating_add(left);
        }
        let rate = (MILLION + i64::from(self.monotonic.ppm)) as u64;
        if rate == 0 {
            return now.saturating_add(NEVER);
        }
        // Rounded up, and one more for what was rounded down in between: a timer never fires
        // before the node's own clock has got there.
        let (whole, rest) = (left / rate, left % rate);
        now.saturating_add(whole.saturating_mul(MILLION as u64)).saturating_add(rest * MILLION as u64 / rate + 2)
    }

    /// A fault changes them.
    pub(crate) fn skew(&mut self, clocks: Clocks, change: ClockChange, now: u64) {
        let skew = Skew { clocks, change, since: now };
        self.skews.push(skew);
        self.jump(&skew, false);
        self.settle(now);
    }

    /// A fault is healed that changed them in this way.
    pub(crate) fn heal(&mut self, clocks: Clocks, change: ClockChange, now: u64) {
        let Some(at) = self.skews.iter().position(|skew| skew.clocks == clocks && skew.change == change) else {
            return;
        };
        let skew = self.skews.remove(at);
        self.jump(&skew, true);
        self.settle(now);
    }

    /// The programs that read them start anew: a monotonic clock that is ahead of its time is true
    /// again, and what is in force begins again.
    pub(crate) fn restart(&mut self, now: u64) {
        let skews = std::mem::take(&mut self.skews);
        (self.wall, self.monotonic) = (self.own_wall(), self.own_monotonic());
        for skew in skews {
            self.skew(skew.clocks, skew.change, now);
        }
    }

    fn jump(&mut self, skew: &Skew, back: bool) {
        let ClockChange::Jump(by) = skew.change else { return };
        if skew.wall() {
            self.wall.value = self.wall.value.saturating_add_signed(if back { by.saturating_neg() } else { by });
        }
        if skew.monotonic() && !back {
            self.monotonic.value = self.monotonic.value.saturating_add(u64::try_from(by).unwrap_or(0));
        }
    }

    /// Has each clock run at the rate that is in force, or as by itself if nothing is.
    fn settle(&mut self, now: u64) {
        let own = self.own_wall();
        match self.rate(Skew::wall) {
            Some(ppm) => self.wall.set_rate(ppm, now),
            None => self.wall = own,
        }
        let own = self.own_monotonic();
        match self.rate(Skew::monotonic) {
            Some(ppm) => self.monotonic.set_rate(ppm, now),
            None if self.monotonic.shows(now) <= own.shows(now) => self.monotonic = own,
            None => self.monotonic.set_rate(own.ppm, now),
        }
    }

    /// At which rate faults have a clock run; none if no fault concerns it.
    fn rate(&self, concerns: impl Fn(&Skew) -> bool) -> Option<i32> {
        let mut any = false;
        let mut ppm = i64::from(self.ppm);
        let mut frozen = false;
        for skew in self.skews.iter().filter(|skew| concerns(skew)) {
            any = true;
            match skew.change {
                ClockChange::Rate(more) => ppm += i64::from(more),
                ClockChange::Freeze => frozen = true,
                _ => {}
            }
        }
        let ppm = if frozen { -MILLION } else { ppm.clamp(-MILLION, 1000 * MILLION) };
        any.then_some(ppm as i32)
    }

    /// By how much they are ahead of what they would show by themselves.
    pub(crate) fn ahead(&self, now: u64) -> Ahead {
        let ahead = |shows: u64, own: Hand| shows as i64 - own.shows(now) as i64;
        Ahead {
            wall: ahead(self.wall(now), self.own_wall()),
            monotonic: ahead(self.monotonic(now), self.own_monotonic()),
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX >> 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// How much faster than by themselves they run: wall and monotonic.
    fn skewed_ppm(clock: &Clock) -> (i32, i32) {
        (clock.wall.ppm - clock.ppm, clock.monotonic.ppm - clock.ppm)
    }

    fn skewed(ppm: i32) -> Clock {
        let mut clock = Clock::default();
        clock.skew(Clocks::All, ClockChange::Rate(ppm), 12_345);
        clock
    }

    #[test]
    fn timers_wait_for_the_nodes_own_clock() {
        for ppm in [-999_999, -400_000, -17, 0, 3, 999_983, 5_000_000] {
            let clock = skewed(ppm);
            for left in [0, 1, 2, 999, 1_000_000_007] {
                let reading = clock.monotonic(777_777) + left;
                let at = clock.when(reading, 777_777);
                assert!(clock.monotonic(at) >= reading, "{ppm} ppm, {left} ns");
                assert!(clock.monotonic(at) <= reading + 50, "{ppm} ppm, {left} ns");
            }
        }
    }

    #[test]
    fn nobody_waits_for_a_clock_that_stands_still() {
        let mut clock = Clock::default();
        clock.skew(Clocks::Monotonic, ClockChange::Freeze, 5);
        assert_eq!(clock.monotonic(5), clock.monotonic(SECOND));
        assert!(clock.when(clock.monotonic(5) + 1, SECOND) >= NEVER);
        assert_eq!(clock.ahead(SECOND).wall, 0);
        clock.heal(Clocks::Monotonic, ClockChange::Freeze, SECOND);
        assert_eq!(clock.ahead(SECOND), Ahead::default());
    }

    #[test]
    fn a_change_of_rate_moves_no_clock() {
        let mut clock = skewed(250_000);
        let before = clock.read(9_000_000);
        clock.skew(Clocks::All, ClockChange::Rate(-500_000), 9_000_000);
        assert_eq!(clock.read(9_000_000), before);
        assert_eq!(skewed_ppm(&clock), (-250_000, -250_000));
    }

    #[test]
    fn a_strobe_flips_back_and_forth() {
        let mut clock = Clock::new(7, 0);
        let strobe = ClockChange::Strobe { by: -500, every: Duration::from_nanos(10) };
        clock.skew(Clocks::Wall, strobe, 100);
        let ahead: Vec<i64> = [100, 109, 110, 119, 120, 130].map(|now| clock.ahead(now).wall).to_vec();
        assert_eq!(ahead, [0, 0, -500, -500, 0, -500]);
        clock.heal(Clocks::Wall, strobe, 130);
        assert_eq!(clock.ahead(130).wall, 0);
    }

    #[test]
    fn a_program_that_starts_anew_is_skewed_anew() {
        let mut clock = Clock::default();
        let jump = ClockChange::Jump(300);
        clock.skew(Clocks::All, jump, 0);
        clock.skew(Clocks::Monotonic, ClockChange::Rate(1_000_000), 0);
        assert_eq!(clock.ahead(1_000), Ahead { wall: 300, monotonic: 1_300 });
        clock.restart(1_000);
        assert_eq!(clock.ahead(1_000), Ahead { wall: 300, monotonic: 300 });
        clock.heal(Clocks::All, jump, 1_000);
        clock.heal(Clocks::Monotonic, ClockChange::Rate(1_000_000), 1_000);
        assert_eq!(clock.ahead(1_000), Ahead { wall: 0, monotonic: 300 }, "it can't go back");
        clock.restart(2_000);
        assert_eq!(clock.ahead(2_000), Ahead::default());
    }

    fn any_change() -> impl Strategy<Value = (Clocks, ClockChange)> {
        let clocks = prop_oneof![Just(Clocks::Wall), Just(Clocks::Monotonic), Just(Clocks::All)];
        let change = prop_oneof![
            (-5_000_000_000i64..5_000_000_000).prop_map(ClockChange::Jump),
            (-1_000_000i32..9_000_000).prop_map(ClockChange::Rate),
            (-5_000i64..5_000, 1u64..5_000)
                .prop_map(|(by, every)| ClockChange::Strobe { by, every: Duration::from_nanos(every) }),
            Just(ClockChange::Freeze),
        ];
        (clocks, change)
    }

    proptest! {
        /// Whatever is done and healed, in whatever order: the monotonic clock never runs
        /// backwards, and in the end the wall clock is as it would have been.
        #[test]
        fn clocks_recover_from_anything(
            own in -200_000i32..200_000,
            deeds in proptest::collection::vec((any_change(), 0u64..3_000_000_000, any::<bool>()), 1..12),
        ) {
            let mut clock = Clock::new(-77, own);
            let (mut now, mut last) = (0, 0);
            let mut in_force = Vec::new();
            for ((clocks, change), pause, heal) in deeds {
                now += pause;
                prop_assert!(clock.monotonic(now) >= last);
                last = clock.monotonic(now);
                if heal && !in_force.is_empty() {
                    let (clocks, change) = in_force.remove(pause as usize % in_force.len());
                    clock.heal(clocks, change, now);
                } else {
                    in_force.push((clocks, change));
                    clock.skew(clocks, change, now);
                }
                prop_assert!(clock.monotonic(now) >= last);
                last = clock.monotonic(now);
            }
            for (clocks, change) in in_force {
                clock.heal(clocks, change, now);
                prop_assert!(clock.monotonic(now) >= last);
                last = clock.monotonic(now);
            }
            prop_assert_eq!(clock.ahead(now).wall, 0);
            let reading = (clock.read(now).wall.as_nanos() as u64, clock.read(now).monotonic.as_nanos() as u64);
            prop_assert_eq!(reading, (clock.wall(now), clock.monotonic(now)));
            prop_assert!(clock.ahead(now).monotonic >= 0);
            prop_assert_eq!(skewed_ppm(&clock), (0, 0));
        }
    }
}

//! The clocks of hosts' processes: what faults have in force on them, and what that takes.
//!
//! Faults that overlap add up, as in the simulator: jumps and rates are summed, a clock that any of
//! them freezes stands still, and of several strobes the latest is seen.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use duress_backend::clocks::{Change, Clock, State};
use duress_backend::{ProcessId, Site};
use duress_fault::{ClockChange, Clocks};
use duress_history::Host;

/// Clocks that are always skewed alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hand {
    /// `CLOCK_REALTIME`.
    Wall,
    /// `CLOCK_MONOTONIC` and `CLOCK_BOOTTIME`.
    Monotonic,
}

impl Hand {
    /// The hands that are meant.
    pub(crate) fn of(clocks: Clocks) -> &'static [Hand] {
        match clocks {
            Clocks::Wall => &[Hand::Wall],
            Clocks::Monotonic => &[Hand::Monotonic],
            Clocks::All => &[Hand::Wall, Hand::Monotonic],
        }
    }

    /// The clock that programs read, of those of this hand.
    pub(crate) fn clock(self) -> Clock {
        match self {
            Hand::Wall => Clock::Realtime,
            Hand::Monotonic => Clock::Monotonic,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Hand::Wall => "wall",
            Hand::Monotonic => "monotonic",
        }
    }

    /// All clocks of this hand.
    fn clocks(self) -> &'static [Clock] {
        match self {
            Hand::Wall => &[Clock::Realtime],
            Hand::Monotonic => &[Clock::Monotonic, Clock::Boottime],
        }
    }
}

/// What one fault does to the clocks of one host.
#[derive(Clone, Debug)]
pub(crate) struct Skew {
    pub(crate) clocks: Clocks,
    pub(crate) change: ClockChange,
    /// What the process was told before, if it could be seen.
    pub(crate) before: Option<State>,
    /// Why it could not be done.
    pub(crate) trouble: Option<String>,
    /// It is only claimed, to see whether that is found out.
    pub(crate) sabotaged: bool,
}

/// What is in force, by host.
#[derive(Debug, Default)]
pub(crate) struct Skews(Mutex<BTreeMap<Host, Vec<Skew>>>);

impl Skews {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Host, Vec<Skew>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is in force on a host, the oldest first.
    pub(crate) fn of(&self, host: &str) -> Vec<Skew> {
        self.lock().get(host).cloned().unwrap_or_default()
    }

    pub(crate) fn add(&self, host: &Host, skew: Skew) {
        self.lock().entry(host.clone()).or_default().push(skew);
    }

    /// Takes one away that was added.
    pub(crate) fn remove(&self, host: &str, clocks: Clocks, change: ClockChange) -> Option<Skew> {
        let mut all = self.lock();
        let skews = all.get_mut(host)?;
        let at = skews.iter().position(|skew| skew.clocks == clocks && skew.change == change)?;
        Some(skews.remove(at))
    }
}

fn on(skews: &[Skew], hand: Hand) -> impl DoubleEndedIterator<Item = ClockChange> + '_ {
    skews.iter().filter(move |skew| Hand::of(skew.clocks).contains(&hand)).map(|skew| skew.change)
}

/// By how many parts per million a clock runs fast with all of these in force.
pub(crate) fn ppm(skews: &[Skew], hand: Hand) -> f64 {
    if on(skews, hand).any(|change| change == ClockChange::Freeze) {
        return -1e6;
    }
    let rate = |change| if let ClockChange::Rate(ppm) = change { f64::from(ppm) } else { 0.0 };
    on(skews, hand).map(rate).sum::<f64>().clamp(-1e6, 1e9)
}

/// By how much a clock strobes with all of these in force.
pub(crate) fn strobe(skews: &[Skew], hand: Hand) -> Option<i64> {
    on(skews, hand).rev().find_map(|change| match change {
        ClockChange::Strobe { by, .. } => Some(by),
        _ => None,
    })
}

/// Whether anything is in force on a clock.
pub(crate) fn touched(skews: &[Skew], hand: Hand) -> bool {
    on(skews, hand).next().is_some()
}

/// What is to be done to a clock so that a change comes into force on top of others.
fn enter(change: ClockChange, hand: Hand, all: &[Skew]) -> Change {
    match change {
        ClockChange::Jump(by) => Change::Jump(by),
        ClockChange::Rate(_) | ClockChange::Freeze => Change::Rate(ppm(all, hand)),
        ClockChange::Strobe { by, every } => Change::Strobe { by, every },
    }
}

/// What is to be done to a clock so that a change goes and these stay.
fn leave(change: ClockChange, hand: Hand, rest: &[Skew]) -> Option<Change> {
    if !touched(rest, hand) {
        return Some(Change::Reset);
    }
    match change {
        ClockChange::Jump(by) => (hand == Hand::Wall).then_some(Change::Jump(by.saturating_neg())),
        ClockChange::Rate(_) | ClockChange::Freeze => Some(Change::Rate(ppm(rest, hand))),
        ClockChange::Strobe { every, .. } => {
            let other = on(rest, hand).rev().find_map(|change| match change {
                ClockChange::Strobe { by, every } => Some(Change::Strobe { by, every }),
                _ => None,
            });
            Some(other.unwrap_or(Change::Strobe { by: 0, every }))
        }
    }
}

/// Brings the last of these into force in a process in which the others are.
pub(crate) fn apply(site: &dyn Site, host: &str, process: ProcessId, all: &[Skew]) -> Result<(), String> {
    let Some(last) = all.last().filter(|skew| !skew.sabotaged) else { return Ok(()) };
    let steps = Hand::of(last.clocks).iter().map(|hand| (*hand, enter(last.change, *hand, all)));
    carry_out(site, host, process, steps)
}

/// Brings all of these into force in a new process.
pub(crate) fn apply_all(site: &dyn Site, host: &str, process: ProcessId, all: &[Skew]) -> Result<(), String> {
    (1..=all.len()).try_for_each(|some| apply(site, host, process, &all[..some]))
}

/// Takes one back in a process in which these stay.
pub(crate) fn heal(site: &dyn Site, host: &str, process: ProcessId, skew: &Skew, rest: &[Skew]) -> Result<(), String> {
    if skew.sabotaged {
        return Ok(());
    }
    let steps = Hand::of(skew.clocks).iter().filter_map(|hand| Some((*hand, leave(skew.change, *hand, rest)?)));
    carry_out(site, host, process, steps)
}

fn carry_out(
    site: &dyn Site,
    host: &str,
    process: ProcessId,
    steps: impl Iterator<Item = (Hand, Change)>,
) -> Result<(), String> {
    let clocks = |(hand, change): (Hand, Change)| hand.clocks().iter().map(move |clock| (*clock, change));
    let changes: Vec<_> = steps.flat_map(clocks).collect();
    if changes.is_empty() {
        return Ok(());
    }
    let clocks = site.clocks().map_err(|e| e.to_string())?;
    clocks.skew(host, process, &changes).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn skew(clocks: Clocks, change: ClockChange) -> Skew {
        Skew { clocks, change, before: None, trouble: None, sabotaged: false }
    }

    #[test]
    fn what_overlaps_adds_up() {
        let rate = skew(Clocks::All, ClockChange::Rate(500));
        let jump = skew(Clocks::All, ClockChange::Jump(7));
        let freeze = skew(Clocks::Monotonic, ClockChange::Freeze);
        let all = [rate.clone(), jump.clone(), rate.clone(), freeze];
        assert_eq!((ppm(&all, Hand::Wall), ppm(&all, Hand::Monotonic)), (1_000.0, -1e6));
        assert_eq!(enter(jump.change, Hand::Wall, &all[..2]), Change::Jump(7));
        assert_eq!(enter(rate.change, Hand::Wall, &all[..3]), Change::Rate(1_000.0));
        assert_eq!(leave(ClockChange::Freeze, Hand::Monotonic, &all[..3]), Some(Change::Rate(1_000.0)));
        assert_eq!(leave(jump.change, Hand::Wall, &all[..1]), Some(Change::Jump(-7)));
        assert_eq!(leave(jump.change, Hand::Monotonic, &all[..1]), None, "it can't go back");
        assert_eq!(leave(rate.change, Hand::Wall, &[]), Some(Change::Reset));
    }

    #[test]
    fn of_several_strobes_the_latest_is_seen() {
        let strobe = |by| ClockChange::Strobe { by, every: Duration::from_millis(1) };
        let all = [skew(Clocks::Wall, strobe(5)), skew(Clocks::Wall, strobe(9))];
        assert_eq!(self::strobe(&all, Hand::Wall), Some(9));
        assert_eq!(self::strobe(&all, Hand::Monotonic), None);
        let left = leave(strobe(9), Hand::Wall, &all[..1]);
        assert_eq!(left, Some(Change::Strobe { by: 5, every: Duration::from_millis(1) }));
        let jumped = [skew(Clocks::Wall, ClockChange::Jump(1))];
        let left = leave(strobe(9), Hand::Wall, &jumped);
        assert_eq!(left, Some(Change::Strobe { by: 0, every: Duration::from_millis(1) }));
    }
}

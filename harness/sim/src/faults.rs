//! What can be done to a simulated cluster.

use std::time::Duration;

use duress_fault::{Effect, Fault, Resolved, Selector, Trigger, Unresolvable, View};
use duress_seed::Seed;

/// One thing to be done to a simulated cluster. Each is undone at its end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SimFault {
    /// A fault that every world knows.
    Common(Fault),
    /// The power of nodes fails: they lose their memory, and what was not synced is lost or torn
    /// on their disks. They start again at the fault's end.
    PowerLoss(Selector),
    /// Syncs of nodes take longer.
    SlowDisk {
        /// Whose.
        who: Selector,
        /// By how much.
        by: Duration,
    },
    /// The disks of nodes are full: a node that has to write stops, as the real one does, and
    /// starts again at the fault's end.
    FullDisk(Selector),
    /// The wall clocks of hosts jump, and jump back at the fault's end.
    ClockJump {
        /// Whose.
        who: Selector,
        /// By how much.
        by: Duration,
        /// Into the past instead of the future.
        back: bool,
    },
    /// The clocks of hosts run at another rate.
    ClockRate {
        /// Whose.
        who: Selector,
        /// How much faster than true time, in parts per million; slower if negative. Kept between
        /// half and double speed.
        ppm: i32,
    },
    /// Nodes take this long for each input.
    SlowNode {
        /// Which.
        who: Selector,
        /// How long.
        by: Duration,
    },
}

/// A fault and when it is in force.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Timed {
    /// Names the fault within its run, and is the key of every decision about it.
    pub number: u64,
    /// When it is injected: since the main phase began, or since its trigger fired.
    pub at: Duration,
    /// How long until it is healed.
    pub lasts: Duration,
    /// What is done.
    pub fault: SimFault,
    /// What it waits for first.
    pub when: Option<Trigger>,
}

impl From<&duress_fault::Timed> for Timed {
    fn from(timed: &duress_fault::Timed) -> Timed {
        let duress_fault::Timed { number, at, lasts, fault, when } = timed;
        let fault = SimFault::Common(fault.clone());
        Timed { number: *number, at: *at, lasts: *lasts, fault, when: when.clone() }
    }
}

/// What is done to the hosts or links of a fault that has been resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Cut,
    Delay(u64),
    Kill,
    Stop,
    PowerLoss,
    SlowDisk(u64),
    FullDisk,
    ClockJump(i64),
    ClockRate(i32),
    SlowNode(u64),
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX >> 8)
}

impl SimFault {
    /// The kind's short name: `partition`, `power-loss`, ….
    pub fn kind(&self) -> &'static str {
        match self {
            SimFault::Common(fault) => fault.kind().name(),
            SimFault::PowerLoss(_) => "power-loss",
            SimFault::SlowDisk { .. } => "slow-disk",
            SimFault::FullDisk(_) => "full-disk",
            SimFault::ClockJump { .. } => "clock-jump",
            SimFault::ClockRate { .. } => "clock-rate",
            SimFault::SlowNode { .. } => "slow-node",
        }
    }

    /// Names whom the fault hits, as [`Fault::resolve`] does.
    pub(crate) fn resolve(&self, view: &View, seed: Seed, key: u64) -> Result<(Resolved, Deed), Unresolvable> {
        let (who, deed, more) = match self {
            SimFault::Common(fault) => {
                let resolved = fault.resolve(view, seed, key)?;
                let deed = match resolved.effect {
                    Effect::Cut => Deed::Cut,
                    Effect::Delay(by) => Deed::Delay(nanos(by)),
                    Effect::Kill => Deed::Kill,
                    Effect::Stop => Deed::Stop,
                };
                return Ok((resolved, deed));
            }
            SimFault::PowerLoss(who) => (who, Deed::PowerLoss, String::new()),
            SimFault::SlowDisk { who, by } => (who, Deed::SlowDisk(nanos(*by)), format!(" by {by:?}")),
            SimFault::FullDisk(who) => (who, Deed::FullDisk, String::new()),
            SimFault::ClockJump { who, by, back } => {
                let by_nanos = i64::try_from(nanos(*by)).unwrap_or(i64::MAX);
                let sign = if *back { '-' } else { '+' };
                (who, Deed::ClockJump(if *back { -by_nanos } else { by_nanos }), format!(" by {sign}{by:?}"))
            }
            SimFault::ClockRate { who, ppm } => (who, Deed::ClockRate(*ppm), format!(" by {ppm} ppm")),
            SimFault::SlowNode { who, by } => (who, Deed::SlowNode(nanos(*by)), format!(" by {by:?} per input")),
        };
        // Whom a selector means doesn't depend on what is done to them.
        let mut resolved = Fault::Pause(who.clone()).resolve(view, seed, key)?;
        resolved.kind = self.kind();
        resolved.what = format!("{}{more}", resolved.what.replacen("pause", resolved.kind, 1));
        Ok((resolved, deed))
    }
}

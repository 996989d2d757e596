//! Planted bugs: small, realistic deviations, to test the tester with.
//!
//! A configuration names at most one ([`paxos::Config::bug`](crate::paxos::Config::bug) and its
//! like in the other modes), never by default. At its place each is a single marked condition
//! beside the correct path, and costs a comparison when it is off. `docs/bugs.md` repeats this
//! catalogue and tells how soon each is found.

mod catalogue;

use std::fmt;

use duress_machine::wal::{self, Damage, Recovered};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A planted bug. What each does is told by [`description`](Bug::description).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "each is described in the catalogue, from which the documentation is generated")]
pub enum Bug {
    AckBeforeDurable,
    LeaderCountsItselfBeforeDurable,
    PromiseBeforeDurable,
    LostBallotOnRestart,
    LastRecordDroppedOnRestart,
    TornRecordTakenAsValid,
    AcceptorForgetsAfterSnapshot,
    AcceptWithoutCheckingPromise,
    HighestAcceptedBallotIgnored,
    VoteCountedTwice,
    OffByOneMajority,
    DuellingProposers,
    CommitIndexRegresses,
    ReadBeforeApply,
    StaleLeaseAfterLeaderChange,
    LeaseIgnoresClockDrift,
    LeaseCountedFromAnswer,
    LeaseGrantLostOnRestart,
    RetryAppliedTwice,
    ClientTableLostInSnapshot,
    PromotionWithoutCatchUp,
    DeposedPrimaryStillAcks,
    AsyncAckDuringViewChange,
    LogTruncatedPastCommit,
    BackupAnswersReads,
    BackupDroppedWithoutFencing,
    QuorumsDoNotOverlap,
    ReadRepairWritesOlderTag,
    TieBrokenByArrival,
    LifeReusedAfterRestart,
    FencingTokenReused,
    LockReleasedByStaleHolder,
    LeaseRenewedAfterExpiry,
    LockLeaseForgottenOnRestart,
}

/// A mode of the bundled service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// [`paxos`](crate::paxos).
    Paxos,
    /// [`primary_backup`](crate::primary_backup).
    PrimaryBackup,
    /// [`quorum`](crate::quorum).
    Quorum,
}

impl Mode {
    /// The mode's name: `paxos`, `primary-backup`, `quorum`.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Paxos => "paxos",
            Mode::PrimaryBackup => "primary-backup",
            Mode::Quorum => "quorum",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What must happen to a cluster, besides load, for a bug to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trigger {
    /// Processes die and are started again; what they wrote is kept.
    Crash,
    /// Nodes lose what they have not synced. A plain crash does not show the bug.
    PowerLoss,
    /// Links are cut.
    Partition,
    /// Processes stop for a while and go on.
    Pause,
    /// Monotonic clocks run at different rates.
    ClockDrift,
    /// Messages between nodes are delayed, repeated or overtake each other.
    Network,
    /// Syncs are slow.
    SlowDisk,
}

impl Trigger {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Trigger::Crash => "crash",
            Trigger::PowerLoss => "power loss",
            Trigger::Partition => "partition",
            Trigger::Pause => "pause",
            Trigger::ClockDrift => "clock drift",
            Trigger::Network => "delay, duplicates, reordering",
            Trigger::SlowDisk => "slow disk",
        }
    }
}

/// The workload that shows a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Workload {
    /// Reads and writes (with cas, where the mode has it) of registers.
    Register,
    /// Locks.
    Lock,
}

impl Workload {
    /// The workload's name: `register`, `lock`.
    pub fn name(self) -> &'static str {
        match self {
            Workload::Register => "register",
            Workload::Lock => "lock",
        }
    }
}

/// What a bug needs to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// The workload.
    pub workload: Workload,
    /// What must happen to the cluster: all of it, normally. Empty: nothing but load.
    pub triggers: &'static [Trigger],
    /// Options of the target that are not the defaults: the mode that has it, name and value, as
    /// in the mode's `Config`.
    pub options: &'static [(Mode, &'static str, &'static str)],
    /// Clients must be impatient: repeat a request, elsewhere, soon after they have missed its
    /// answer.
    pub retries: bool,
}

impl Bug {
    /// Every bug, in the order of the catalogue.
    pub const ALL: &'static [Bug] = &catalogue::ALL;

    /// Its name, in kebab-case.
    pub fn name(self) -> &'static str {
        self.entry().name
    }

    /// The bug of that name.
    pub fn named(name: &str) -> Option<Bug> {
        Bug::ALL.iter().copied().find(|bug| bug.name() == name)
    }

    /// The modes that have it. In the others it does nothing.
    pub fn modes(self) -> &'static [Mode] {
        self.entry().modes
    }

    /// What is wrong, in one line.
    pub fn description(self) -> &'static str {
        self.entry().description
    }

    /// The public incident or known defect that it resembles; where none is known to us, the
    /// published rule that it breaks.
    pub fn resembles(self) -> &'static str {
        self.entry().resembles
    }

    /// What it needs to show.
    pub fn needs(self) -> &'static Needs {
        &self.entry().needs
    }

    fn entry(self) -> &'static catalogue::Entry {
        &catalogue::ENTRIES[self as usize]
    }
}

/// Reads a node's log.
pub(crate) fn read_log<R: DeserializeOwned>(bug: Option<Bug>, bytes: &[u8]) -> Result<Recovered<R>, Damage> {
    if bug == Some(Bug::TornRecordTakenAsValid) {
        return Ok(wal::recover_unchecked(bytes));
    }
    wal::recover(bytes)
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_is_in_the_order_of_the_bugs() {
        for (place, bug) in Bug::ALL.iter().enumerate() {
            assert_eq!(*bug as usize, place);
            assert_eq!(catalogue::ENTRIES[place].bug, *bug);
            assert_eq!(Bug::named(bug.name()), Some(*bug));
            // Postcard writes a unit variant as its number: as many as there are entries.
            assert_eq!(postcard::from_bytes::<Bug>(&[place as u8]).ok(), Some(*bug));
            // The name is that of the variant.
            let kebab: String = format!("{bug:?}")
                .chars()
                .flat_map(|c| [c.is_uppercase().then_some('-'), Some(c.to_ascii_lowercase())])
                .flatten()
                .skip(1)
                .collect();
            assert_eq!(bug.name(), kebab);
            assert!(!bug.modes().is_empty());
            assert!(bug.needs().options.iter().all(|(mode, ..)| bug.modes().contains(mode)));
        }
        assert!(postcard::from_bytes::<Bug>(&[Bug::ALL.len() as u8]).is_err());
        assert_eq!(Bug::named("no-such-bug"), None);
    }
}

//! Which scenario finds which bug, and within how many seeds.

use std::collections::BTreeSet;

use duress_kv::bugs::{Bug, Mode};

/// In which scenario of `examples/bugs/` a bug of a mode shows.
pub(crate) struct Row {
    pub(crate) bug: Bug,
    pub(crate) mode: Mode,
    pub(crate) scenario: &'static str,
    /// It is found within so many, whichever is the first. None: it takes too long for a test.
    pub(crate) seeds: Option<u64>,
}

const fn row(bug: Bug, mode: Mode, scenario: &'static str, seeds: u64) -> Row {
    Row { bug, mode, scenario, seeds: if seeds == 0 { None } else { Some(seeds) } }
}

/// At least twice what the slowest of the measured hunts took; 0: only measured.
pub(crate) const ROWS: &[Row] = &[
    row(Bug::AckBeforeDurable, Mode::Paxos, "paxos-power-cuts", 500),
    row(Bug::AckBeforeDurable, Mode::PrimaryBackup, "vote-power-cuts", 1000),
    row(Bug::AckBeforeDurable, Mode::Quorum, "quorum", 1000),
    row(Bug::LeaderCountsItselfBeforeDurable, Mode::Paxos, "paxos-power-cuts", 40000),
    row(Bug::LeaderCountsItselfBeforeDurable, Mode::PrimaryBackup, "vote-power-cuts", 15000),
    row(Bug::PromiseBeforeDurable, Mode::Paxos, "paxos-power-cuts", 0),
    row(Bug::PromiseBeforeDurable, Mode::PrimaryBackup, "vote-promises", 7000),
    row(Bug::LostBallotOnRestart, Mode::Paxos, "paxos-power-cuts", 5000),
    row(Bug::LostBallotOnRestart, Mode::PrimaryBackup, "vote", 50),
    row(Bug::LastRecordDroppedOnRestart, Mode::Paxos, "paxos-power-cuts", 50),
    row(Bug::LastRecordDroppedOnRestart, Mode::PrimaryBackup, "vote", 50),
    row(Bug::LastRecordDroppedOnRestart, Mode::Quorum, "quorum", 50),
    row(Bug::TornRecordTakenAsValid, Mode::Paxos, "paxos-power-cuts", 700),
    row(Bug::TornRecordTakenAsValid, Mode::PrimaryBackup, "vote", 500),
    row(Bug::TornRecordTakenAsValid, Mode::Quorum, "quorum", 1500),
    row(Bug::AcceptorForgetsAfterSnapshot, Mode::Paxos, "paxos-power-cuts", 100),
    row(Bug::AcceptWithoutCheckingPromise, Mode::Paxos, "paxos-elections", 700),
    row(Bug::HighestAcceptedBallotIgnored, Mode::Paxos, "paxos-elections", 700),
    row(Bug::VoteCountedTwice, Mode::Paxos, "paxos-elections", 700),
    row(Bug::OffByOneMajority, Mode::Paxos, "paxos-of-four", 50),
    row(Bug::OffByOneMajority, Mode::PrimaryBackup, "vote-of-four", 50),
    row(Bug::DuellingProposers, Mode::Paxos, "paxos-elections", 50),
    row(Bug::CommitIndexRegresses, Mode::Paxos, "paxos-late-snapshots", 40000),
    row(Bug::ReadBeforeApply, Mode::Paxos, "paxos-elections", 300),
    row(Bug::ReadBeforeApply, Mode::PrimaryBackup, "vote", 200),
    row(Bug::StaleLeaseAfterLeaderChange, Mode::Paxos, "paxos-leases", 15000),
    row(Bug::LeaseIgnoresClockDrift, Mode::Paxos, "paxos-lease-drift", 7000),
    row(Bug::LeaseCountedFromAnswer, Mode::Paxos, "paxos-lease-pause", 50),
    row(Bug::LeaseGrantLostOnRestart, Mode::Paxos, "paxos-lease-restart", 7000),
    row(Bug::RetryAppliedTwice, Mode::Paxos, "paxos-snapshots", 200),
    row(Bug::RetryAppliedTwice, Mode::PrimaryBackup, "vote", 200),
    row(Bug::ClientTableLostInSnapshot, Mode::Paxos, "paxos-snapshots", 10000),
    row(Bug::ClientTableLostInSnapshot, Mode::PrimaryBackup, "vote-snapshots", 10000),
    row(Bug::PromotionWithoutCatchUp, Mode::PrimaryBackup, "vote", 50),
    row(Bug::DeposedPrimaryStillAcks, Mode::PrimaryBackup, "vote", 50),
    row(Bug::AsyncAckDuringViewChange, Mode::PrimaryBackup, "vote", 200),
    row(Bug::LogTruncatedPastCommit, Mode::PrimaryBackup, "vote", 50),
    row(Bug::BackupAnswersReads, Mode::PrimaryBackup, "vote", 50),
    row(Bug::BackupDroppedWithoutFencing, Mode::PrimaryBackup, "fenced", 50),
    row(Bug::QuorumsDoNotOverlap, Mode::Quorum, "quorum", 100),
    row(Bug::ReadRepairWritesOlderTag, Mode::Quorum, "quorum", 300),
    row(Bug::TieBrokenByArrival, Mode::Quorum, "quorum", 50),
    row(Bug::LifeReusedAfterRestart, Mode::Quorum, "quorum", 500),
    row(Bug::FencingTokenReused, Mode::Paxos, "paxos-locks", 50),
    row(Bug::FencingTokenReused, Mode::PrimaryBackup, "vote-locks", 50),
    row(Bug::FencingTokenReused, Mode::Quorum, "quorum-locks", 50),
    row(Bug::LockReleasedByStaleHolder, Mode::Paxos, "paxos-locks", 50),
    row(Bug::LockReleasedByStaleHolder, Mode::PrimaryBackup, "vote-locks", 50),
    row(Bug::LockReleasedByStaleHolder, Mode::Quorum, "quorum-locks", 700),
    row(Bug::LeaseRenewedAfterExpiry, Mode::Paxos, "paxos-locks", 50),
    row(Bug::LeaseRenewedAfterExpiry, Mode::PrimaryBackup, "vote-locks", 50),
    row(Bug::LeaseRenewedAfterExpiry, Mode::Quorum, "quorum-locks", 100),
    row(Bug::LockLeaseForgottenOnRestart, Mode::Quorum, "quorum-locks-restarts", 50),
];

/// Every scenario of the rows.
pub(crate) fn scenarios() -> BTreeSet<&'static str> {
    ROWS.iter().map(|row| row.scenario).collect()
}

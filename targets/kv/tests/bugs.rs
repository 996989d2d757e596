//! The planted bugs, without the harness: every one does harm in a named storm within a stated number
//! of seeds, and the same seeds are clean without it. That hunts find them is tested with the binary.

mod cluster;
#[path = "bugs/storms.rs"]
mod storms;
#[path = "bugs/world.rs"]
mod world;

use duress_kv::bugs::{Bug, Mode};
use storms::*;

/// Finds what is wrong with a seed's run.
type Run = fn(Option<Bug>, u64) -> Option<String>;

/// In which storm a bug of a mode shows, within how many seeds.
struct Row {
    bug: Bug,
    mode: Mode,
    storm: &'static str,
    run: Run,
    seeds: u64,
}

macro_rules! rows {
    ($($bug:ident in $mode:ident: $storm:ident, $seeds:literal;)*) => {
        &[$(Row { bug: Bug::$bug, mode: Mode::$mode, storm: stringify!($storm), run: $storm, seeds: $seeds }),*]
    };
}

/// The numbers leave room: a bug that shows in one of `n` runs is given several times `n` seeds.
const ROWS: &[Row] = rows! {
    AckBeforeDurable in Paxos: paxos_power_cuts, 30;
    AckBeforeDurable in PrimaryBackup: vote_power_cuts, 30;
    AckBeforeDurable in Quorum: quorum_power_cuts, 30;
    LeaderCountsItselfBeforeDurable in Paxos: paxos_power_cuts, 200;
    LeaderCountsItselfBeforeDurable in PrimaryBackup: vote_power_cuts, 200;
    PromiseBeforeDurable in Paxos: paxos_restarts, 100;
    PromiseBeforeDurable in PrimaryBackup: vote_restarts, 150;
    LostBallotOnRestart in Paxos: paxos_very_rough, 150;
    LostBallotOnRestart in PrimaryBackup: vote_power_cuts, 30;
    LastRecordDroppedOnRestart in Paxos: paxos_power_cuts, 80;
    LastRecordDroppedOnRestart in PrimaryBackup: vote_power_cuts, 80;
    LastRecordDroppedOnRestart in Quorum: quorum_power_cuts, 50;
    AcceptorForgetsAfterSnapshot in Paxos: paxos_power_cuts, 30;
    AcceptWithoutCheckingPromise in Paxos: paxos_impatient_three, 1500;
    HighestAcceptedBallotIgnored in Paxos: paxos_pauses, 150;
    VoteCountedTwice in Paxos: paxos_impatient_five, 100;
    OffByOneMajority in Paxos: paxos_of_four, 50;
    OffByOneMajority in PrimaryBackup: vote_of_four, 50;
    DuellingProposers in Paxos: paxos_of_five, 20;
    CommitIndexRegresses in Paxos: paxos_late_snapshots, 1500;
    ReadBeforeApply in Paxos: paxos_slow_disks, 30;
    ReadBeforeApply in PrimaryBackup: vote_slow_disks, 30;
    StaleLeaseAfterLeaderChange in Paxos: paxos_deposed_long_lease, 50;
    LeaseIgnoresClockDrift in Paxos: paxos_deposed_leader, 80;
    LeaseCountedFromAnswer in Paxos: paxos_paused_leader, 10;
    LeaseGrantLostOnRestart in Paxos: paxos_deposed_by_restarted, 30;
    RetryAppliedTwice in Paxos: paxos_impatient_clients, 20;
    RetryAppliedTwice in PrimaryBackup: vote_impatient_clients, 20;
    ClientTableLostInSnapshot in Paxos: paxos_impatient_clients, 600;
    ClientTableLostInSnapshot in PrimaryBackup: vote_impatient_clients, 120;
    PromotionWithoutCatchUp in PrimaryBackup: vote_everything, 50;
    DeposedPrimaryStillAcks in PrimaryBackup: vote_everything, 60;
    AsyncAckDuringViewChange in PrimaryBackup: vote_restarts, 200;
    LogTruncatedPastCommit in PrimaryBackup: vote_everything, 20;
    BackupAnswersReads in PrimaryBackup: vote_everything, 10;
    BackupDroppedWithoutFencing in PrimaryBackup: fenced_everything, 60;
    QuorumsDoNotOverlap in Quorum: quorum_everything, 200;
    ReadRepairWritesOlderTag in Quorum: quorum_rough, 400;
    TieBrokenByArrival in Quorum: quorum_everything, 20;
    LifeReusedAfterRestart in Quorum: quorum_very_rough, 1500;
    FencingTokenReused in Paxos: paxos_locks, 20;
    FencingTokenReused in PrimaryBackup: vote_locks, 20;
    FencingTokenReused in Quorum: quorum_locks, 20;
    LockReleasedByStaleHolder in Paxos: paxos_locks, 20;
    LockReleasedByStaleHolder in PrimaryBackup: vote_locks, 20;
    LockReleasedByStaleHolder in Quorum: quorum_locks, 20;
    LeaseRenewedAfterExpiry in Paxos: paxos_locks, 20;
    LeaseRenewedAfterExpiry in PrimaryBackup: vote_locks, 20;
    LeaseRenewedAfterExpiry in Quorum: quorum_locks, 20;
    LockLeaseForgottenOnRestart in Quorum: quorum_locks, 30;
};

#[test]
fn every_bug_of_every_mode_has_a_row() {
    let rows: Vec<(Bug, Mode)> = ROWS.iter().map(|row| (row.bug, row.mode)).collect();
    // Storms keep records whole: they have no bytes that could be torn.
    let bugs = Bug::ALL.iter().filter(|bug| **bug != Bug::TornRecordTakenAsValid);
    let bugs: Vec<(Bug, Mode)> = bugs.flat_map(|bug| bug.modes().iter().map(move |mode| (*bug, *mode))).collect();
    assert_eq!(rows, bugs);
}

/// Every bug of a mode is found, and the seeds that it took are clean without it.
fn found_with_and_not_without(mode: Mode) {
    let mut clean: Vec<(&str, u64)> = Vec::new();
    for row in ROWS.iter().filter(|row| row.mode == mode) {
        let found = (0..row.seeds).find(|seed| (row.run)(Some(row.bug), *seed).is_some());
        let Some(found) = found else { panic!("{} in {} seeds of {}: not found", row.bug, row.seeds, row.storm) };
        // Storms are shared by several bugs: each seed need be run without a bug only once.
        let done = clean.iter().filter(|(storm, _)| *storm == row.storm).map(|(_, seeds)| *seeds).max().unwrap_or(0);
        for seed in done..=found {
            let wrong = (row.run)(None, seed);
            assert_eq!(wrong, None, "seed {seed} of {} without a bug", row.storm);
        }
        clean.push((row.storm, done.max(found + 1)));
    }
}

#[test]
fn bugs_of_paxos_are_found_and_its_twin_is_clean() {
    found_with_and_not_without(Mode::Paxos);
}

#[test]
fn bugs_of_primary_backup_are_found_and_its_twin_is_clean() {
    found_with_and_not_without(Mode::PrimaryBackup);
}

#[test]
fn bugs_of_quorum_are_found_and_its_twin_is_clean() {
    found_with_and_not_without(Mode::Quorum);
}

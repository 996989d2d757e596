//! Every kind of fault, on a real cluster: that it is proven when it is done, and found out when it
//! is only claimed. A kind that is added must be added here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use duress_fault::{Effect, Kind};

use super::support::*;

/// A fault of this kind, as scenarios have it, on a cluster of three nodes.
pub(crate) fn scripted(kind: Kind) -> &'static str {
    match kind {
        Kind::Partition => "partition: {links: [[n1, n2]]}",
        Kind::Crash => "crash: n1",
        Kind::Pause => "pause: n1",
        Kind::Delay => "delay: {links: [[n1, n3]], by: 30ms, jitter: 5ms, shape: normal}",
        Kind::Loss => "loss: {links: [[n1, n2]], share: 20%}",
        Kind::Reorder => "reorder: {links: [[n2, n3]], share: 20%, by: 10ms}",
        Kind::Duplicate => "duplicate: {links: [[n1, n2]], share: 20%}",
        Kind::Corrupt => "corrupt: {links: [[n2, n3]], share: 20%}",
        Kind::Bandwidth => "bandwidth: {links: [[n1, n3]], rate: 2mbit}",
        Kind::BlackHole => "black-hole: {links: [[n1, n2]], above: 576}",
        Kind::Reset => "reset: {links: [[n1, n3]]}",
        Kind::Flap => "flap: {links: [[n2, n3]], every: 50ms}",
        Kind::Slow => "slow: {who: n2, share: 20%}",
        Kind::CrashLoop => "crash-loop: {who: n2, every: 20ms}",
        Kind::Memory => "memory: {who: n3, headroom: 1MB}",
        Kind::Descriptors => "descriptors: {who: n3, spare: 1}",
        Kind::NewAddress => "new-address: n1",
        Kind::ClockJump => "clock-jump: {who: n1, by: -500ms}",
        Kind::ClockRate => "clock-rate: {who: n2, by: 2000ppm, clocks: all}",
        Kind::ClockStrobe => "clock-strobe: {who: n3, by: 200ms, every: 10ms}",
        Kind::ClockFreeze => "clock-freeze: {who: n2}",
        Kind::PowerLoss => "power-loss: n3",
        Kind::SlowDisk => "slow-disk: {who: n1, by: 5ms}",
        Kind::FullDisk => "full-disk: n2",
        Kind::ReadOnlyDisk => "read-only-disk: n3",
        Kind::SyncFails => "sync-fails: n1",
        Kind::SyncLies => "sync-lies: n2",
        Kind::BitFlip => "bit-flip: n3",
        Kind::ReadError => "read-error: n1",
    }
}

/// Time from one fault to the next, and how long each lasts: none overlaps.
const EVERY: u64 = 800;
const LASTS: u64 = 300;

/// Runs a fault of each kind, one after the other: the exit code, what was said, and for each kind
/// the evidence of its start and end, in the history's words.
fn one_after_the_other(kinds: &[Kind], sabotage: &str) -> (Option<i32>, String, BTreeMap<Kind, Vec<String>>) {
    let out = tempfile::tempdir().unwrap();
    let fault = |(at, kind): (usize, &Kind)| {
        format!("{{at: {}ms, lasts: {LASTS}ms, {}}}", 200 + at as u64 * EVERY, scripted(*kind))
    };
    let faults: Vec<String> = kinds.iter().enumerate().map(fault).collect();
    let faults = format!("faults=[{}]", faults.join(", "));
    let time = format!("{}ms", 500 + kinds.len() as u64 * EVERY);
    let mut command = duress(&["run", "--nodes", "3", "--rate", "300", "--time", &time, "--set", &faults]);
    command.arg("--out").arg(out.path()).env("DURESS_TEST_SABOTAGE", sabotage);
    let output = finish(command, Duration::from_secs(180));
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let run = std::fs::read_dir(out.path()).unwrap().next().unwrap().unwrap().path().join("latest");
    let history = std::fs::read_to_string(run.join("history.jsonl")).unwrap();
    let mut evidence: BTreeMap<Kind, Vec<String>> = BTreeMap::new();
    for line in history.lines().filter(|line| line.contains("\"evidence\"")) {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        let number = event["fault"].as_u64().unwrap() as usize;
        if let Some(kind) = number.checked_sub(1).and_then(|place| kinds.get(place)) {
            evidence.entry(*kind).or_default().push(line.into());
        }
    }
    (output.status.code(), said, evidence)
}

/// Whether faults of disks can be tried here. If not, says so loudly; where CI is set that is an
/// error.
pub(crate) fn can_break_disks() -> bool {
    let doctor = duress(&["doctor", "--json"]).output().unwrap();
    let found: serde_json::Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let is_fuse = |check: &&serde_json::Value| check["name"].as_str().is_some_and(|name| name.contains("FUSE"));
    let fuse = found["checks"].as_array().unwrap().iter().find(is_fuse).unwrap();
    let can = fuse["state"] == "ok";
    assert!(can || std::env::var_os("CI").is_none(), "CI must have FUSE: {fuse}");
    if !can {
        eprintln!("SKIPPED: faults of disks: {fuse}");
    }
    can
}

/// Every kind that can be tried here.
pub(crate) fn all() -> Vec<Kind> {
    let disks = can_break_disks();
    let on_disks =
        |kind: Kind| kind.typical().iter().any(|does| matches!(does, Effect::Hosts(harm) if harm.needs_disk()));
    let kinds = Kind::ALL.iter().map(|(kind, _)| *kind);
    kinds.filter(|kind| disks || !on_disks(*kind)).collect()
}

#[test]
fn a_fault_of_any_kind_that_is_only_claimed_is_found_out() {
    let _alone = one_at_a_time();
    if !can_run() {
        return;
    }
    let kinds = all();
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
    let (code, said, evidence) = one_after_the_other(&kinds, &names.join(","));
    assert_eq!(code, Some(2), "{said}");
    for kind in kinds {
        let found = &evidence[&kind];
        assert!(found[0].contains("\"proven\":false"), "{kind} was not done, and yet: {}", found[0]);
        // Because nothing was to be seen of it, and not because it was not tried.
        assert!(!found[0].contains("not injected") && !found[0].contains("before: the"), "{kind}: {}", found[0]);
    }
}

#[test]
fn a_fault_of_any_kind_is_proven_and_healed() {
    let _alone = one_at_a_time();
    if !can_run() {
        return;
    }
    let kinds = all();
    let (code, said, evidence) = one_after_the_other(&kinds, "");
    let unproven: Vec<&String> = evidence.values().flatten().filter(|line| line.contains("\"proven\":false")).collect();
    assert!(unproven.is_empty(), "{unproven:#?}");
    assert_eq!(evidence.keys().copied().collect::<BTreeSet<_>>(), kinds.into_iter().collect());
    assert_eq!(code, Some(0), "{said}");
}

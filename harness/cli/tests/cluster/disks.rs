//! Faults of disks: what they must not do to a cluster that syncs, what they must do to one whose
//! disks lie, and that a fault that was not carried out is noticed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use super::kinds::can_break_disks;
use super::stories::story;
use super::support::{can_run, duress, finish, one_at_a_time};

/// Every kind, some beside each other, and never on more than a minority.
const EVERY_KIND: &str = "
target: {kind: paxos, nodes: 5}
workload: {kind: register, concurrency: 6}
time: 6s
faults:
  - {at: 300ms, lasts: 700ms, slow-disk: {who: n1, by: 20ms}}
  - {at: 300ms, lasts: 700ms, sync-lies: n2}
  - {at: 1400ms, lasts: 700ms, read-only-disk: n1}
  - {at: 1400ms, lasts: 700ms, sync-fails: n2}
  - {at: 2500ms, lasts: 800ms, read-error: n3}
  - {at: 2600ms, lasts: 300ms, crash: n3}
  - {at: 2500ms, lasts: 800ms, bit-flip: n4}
  - {at: 2600ms, lasts: 300ms, crash: n4}
  - {at: 3800ms, lasts: 400ms, full-disk: n1}
  - {at: 3800ms, lasts: 400ms, power-loss: n5}
  - {at: 4600ms, lasts: 400ms, power-loss: {who: n5, torn: true}}
";

const KINDS: [&str; 8] =
    ["slow-disk", "sync-lies", "read-only-disk", "sync-fails", "read-error", "bit-flip", "full-disk", "power-loss"];

/// The worlds in which disks can be broken here.
fn worlds() -> &'static [&'static str] {
    if can_break_disks() { &["sim", "local"] } else { &["sim"] }
}

#[test]
fn paxos_keeps_every_acknowledged_write_through_power_losses() {
    for world in worlds() {
        story(&["examples/power-loss.yaml", "--world", world], 0, &["VALID"]);
    }
    hunt("examples/power-loss.yaml", 0);
}

#[test]
fn disks_that_lie_are_found_out() {
    for world in worlds() {
        story(&["examples/sync-lies.yaml", "--world", world], 1, &["INVALID", "linearizable"]);
    }
    hunt("examples/sync-lies.yaml", 1);
}

fn hunt(scenario: &str, code: i32) {
    let out = tempfile::tempdir().unwrap();
    let args = ["hunt", scenario, "--seeds", "40", "--seed", "1", "--shrink", "2s", "--out"];
    let output = finish(duress(&[&args[..], &[out.path().to_str().unwrap()]].concat()), Duration::from_secs(120));
    assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Linux takes what a sync failed to write for clean: a node that read it back from memory, and
/// relied on the next sync, would lose it with the power.
#[test]
fn what_a_failed_sync_left_behind_is_not_relied_on() {
    let faults = "faults=[{at: 500ms, lasts: 300ms, sync-fails: all}, {at: 2s, lasts: 300ms, power-loss: all}]";
    for world in worlds() {
        let args = ["--set", faults, "--set", "target.nodes=3", "--time", "4s", "--world", world];
        story(&[&["examples/power-loss.yaml"], &args[..]].concat(), 0, &["VALID"]);
    }
}

#[test]
fn every_kind_of_broken_disk_is_proven_and_one_that_was_only_claimed_is_not() {
    let _alone = one_at_a_time();
    if !can_run() {
        return;
    }
    let out = tempfile::tempdir().unwrap();
    let scenario = out.path().join("disks.yaml");
    std::fs::write(&scenario, EVERY_KIND).unwrap();
    let run = |world: &str, sabotage: &str| {
        let out = out.path().to_str().unwrap();
        let mut command = duress(&["run", scenario.to_str().unwrap(), "--world", world, "--out", out]);
        command.env("DURESS_TEST_SABOTAGE", sabotage);
        let output = finish(command, Duration::from_secs(90));
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    for world in worlds() {
        let (code, said) = run(world, "");
        assert_eq!(code, Some(0), "{world}: {said}");
    }
    if !can_break_disks() {
        return;
    }
    let (code, said) = run("local", &KINDS.join(","));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("not proven"), "{said}");
    let doubted = doubted(&out.path().join("disks/latest/history.jsonl"));
    assert_eq!(doubted, KINDS.map(String::from).into_iter().collect());
}

/// The kinds of faults that were not shown to have taken effect.
fn doubted(history: &Path) -> BTreeSet<String> {
    let mut kinds = BTreeMap::new();
    let mut doubted = BTreeSet::new();
    for line in std::fs::read_to_string(history).unwrap().lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        if event["type"] == "fault" {
            kinds.insert(event["fault"].as_u64().unwrap(), event["kind"].as_str().unwrap().to_owned());
        } else if event["type"] == "evidence" && event["stage"] == "start" && event["proven"] == false {
            doubted.insert(kinds[&event["fault"].as_u64().unwrap()].clone());
        }
    }
    doubted
}

#[test]
fn without_fuse_a_fault_of_disks_is_refused_before_anything_runs() {
    // Hiding the device takes that it is there.
    if !can_run() || !can_break_disks() {
        return;
    }
    let out = tempfile::tempdir().unwrap();
    let binary = duress(&[]).get_program().to_owned();
    let mut command = std::process::Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c"]);
    command.arg("mount --bind /dev/null /dev/fuse && exec \"$@\"").arg("sh").arg(binary);
    command.args(["run", "examples/power-loss.yaml", "--out"]).arg(out.path()).current_dir(super::support::root());
    let output = finish(command, Duration::from_secs(60));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(254), "{said}");
    assert!(said.contains("power-loss") && said.contains("FUSE"), "{said}");
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0, "nothing was begun");
}

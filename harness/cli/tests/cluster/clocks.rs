//! Clocks that tell another time: the stories in both worlds, and what is proven of each fault.

use std::time::Duration;

use super::stories::story;
use super::support::{can_run, duress, finish, one_at_a_time};

/// Each story, what makes it harmless, and a word of its violation.
const STORIES: &[(&str, &str, &str)] = &[
    ("examples/lease-clock-jump.yaml", "target.max_clock_drift_ppm=900000", "not linearizable"),
    ("examples/quorum-wall-clock.yaml", "target.timestamps=logical", "not linearizable"),
    ("examples/lock-clock-drift.yaml", "workload.fencing=true", "Two held"),
];

#[test]
fn clocks_break_what_rests_on_them() {
    for (scenario, _, word) in STORIES {
        for world in ["sim", "local"] {
            story(&[scenario, "--world", world, "--seed", "1"], 1, &["INVALID", word]);
        }
    }
}

#[test]
fn what_doesn_t_rest_on_clocks_stands_them() {
    for (scenario, harmless, _) in STORIES {
        for world in ["sim", "local"] {
            story(&[scenario, "--set", harmless, "--world", world, "--seed", "1"], 0, &["VALID"]);
        }
    }
}

/// Every kind, on nodes and on a client host, some of them overlapping; and a node that is
/// restarted while its clock is wrong.
const EVERY_KIND: &str = "faults=[
    {at: 500ms, lasts: 4s, clock-jump: {who: n1, by: 60s}},
    {at: 1s, lasts: 500ms, crash: n1},
    {at: 3s, lasts: 1s, clock-jump: {who: n1, by: -1s}},
    {at: 500ms, lasts: 2s, clock-rate: {who: n2, by: 1.5x, clocks: all}},
    {at: 1500ms, lasts: 500ms, clock-freeze: {who: n2, clocks: monotonic}},
    {at: 2s, lasts: 1s, clock-strobe: {who: n3, by: -200ms, every: 10ms}},
    {at: 3s, lasts: 1s, clock-rate: {who: c1, by: -500ppm, clocks: monotonic}}]";

/// Runs it: what it printed and its history.
fn every_kind() -> (Option<i32>, String, String) {
    let out = tempfile::tempdir().unwrap();
    let faults = EVERY_KIND.replace('\n', "");
    let mut command = duress(&["run", "--time", "5s", "--nodes", "3", "--set", &faults]);
    command.arg("--out").arg(out.path());
    let output = finish(command, Duration::from_secs(60));
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let run = std::fs::read_dir(out.path()).unwrap().next().unwrap().unwrap().path().join("latest");
    (output.status.code(), said, std::fs::read_to_string(run.join("history.jsonl")).unwrap())
}

#[test]
fn every_fault_of_clocks_is_proven_and_a_restarted_node_is_skewed_again() {
    let _alone = one_at_a_time();
    if !can_run() {
        return;
    }
    let (code, said, history) = every_kind();
    assert_eq!(code, Some(0), "{said}");
    // The second jump comes on top of the first, which was made in an earlier life of the node.
    let evidence = history.lines().find(|line| line.contains("evidence") && line.contains("59000.000 ms"));
    assert!(evidence.is_some_and(|line| line.contains("\"n1_wall_ahead_ms\":59000.0")), "{said}");
}

/// A client host hardly asks for the wall clock. Whether a program bypasses the vDSO or never looks at
/// a clock, skewing that clock did nothing, and a run in which a fault did nothing proves nothing.
#[test]
fn a_process_that_does_not_ask_the_vdso_makes_the_verdict_unknown() {
    let _alone = one_at_a_time();
    if !can_run() {
        return;
    }
    let out = tempfile::tempdir().unwrap();
    let faults = "faults=[{at: 500ms, lasts: 1s, clock-jump: {who: c1, by: 1s}}]";
    let mut command = duress(&["run", "--time", "3s", "--nodes", "3", "--seed", "1", "--set", faults]);
    command.arg("--out").arg(out.path());
    let output = finish(command, Duration::from_secs(60));
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("it bypasses the vDSO, or has no use for it"), "{said}");
}

//! Faults of processes on a real cluster: what overlaps, what a node dies of, and what it must
//! stand.

use std::time::Duration;

use super::support::*;

/// A run of three nodes under these faults, which must be valid: its history.
fn valid(time: &str, rate: &str, faults: &str) -> String {
    let out = tempfile::tempdir().unwrap();
    let faults = format!("faults=[{}]", faults.replace('\n', ""));
    let mut command = duress(&["run", "--time", time, "--nodes", "3", "--rate", rate, "--set", &faults]);
    command.arg("--out").arg(out.path());
    let output = finish(command, Duration::from_secs(90));
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{said}");
    std::fs::read_to_string(out.path().join("paxos-register/latest/history.jsonl")).unwrap()
}

/// A figure of the evidence for the end (or start) of a fault.
fn figure(history: &str, fault: u64, stage: &str, name: &str) -> f64 {
    let mut events = history.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let evidence = events
        .find(|event| event["type"] == "evidence" && event["fault"] == fault && event["stage"] == stage)
        .unwrap_or_else(|| panic!("no evidence for the {stage} of fault {fault}"));
    evidence["measured"][name].as_f64().unwrap_or_else(|| panic!("no {name} in {evidence}"))
}

#[test]
fn what_overlaps_is_proven_and_healed() {
    let _alone = one_at_a_time();
    if !can_run() {
        return;
    }
    let history = valid(
        "6s",
        "500",
        "{at: 300ms, lasts: 3s, slow: {who: n2, share: 20%}},
         {at: 900ms, lasts: 500ms, pause: n2},
         {at: 1s, lasts: 1s, slow: {who: n2, share: 50%}},
         {at: 500ms, lasts: 2s, crash-loop: {who: n1, every: 30ms}},
         {at: 1s, lasts: 500ms, crash: n1},
         {at: 700ms, lasts: 2500ms, descriptors: {who: n3, spare: 1}},
         {at: 1500ms, lasts: 500ms, crash: n3},
         {at: 4500ms, lasts: 500ms, crash: all}",
    );
    let lives = figure(&history, 4, "end", "lives_n1");
    assert!(lives >= 10.0, "{lives} lives in 2 s");
    assert!(figure(&history, 6, "start", "connections_waiting_n3") >= 1.0);
    let stopped = figure(&history, 1, "start", "stopped_share_n2");
    assert!((0.5..1.0).contains(&stopped), "stopped for {stopped} of the time");
}

#[test]
fn a_node_that_dies_of_want_of_memory_is_the_fault_s_victim_and_comes_back() {
    let _alone = one_at_a_time();
    if !can_run() {
        return;
    }
    // A page more is not enough for a longer log, which a busy node wants sooner or later.
    let mut died = 0.0;
    for _ in 0..6 {
        let history = valid("4s", "100000", "{at: 300ms, lasts: 2500ms, memory: {who: all, headroom: 4KB}}");
        died +=
            ["n1", "n2", "n3"].map(|node| figure(&history, 1, "end", &format!("deaths_{node}"))).iter().sum::<f64>();
        assert!(!history.contains("nobody asked it to"), "an unscheduled end is on record");
        if died > 0.0 {
            return;
        }
    }
    panic!("no node wanted more memory in six runs");
}

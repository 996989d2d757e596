//! Faults of links on real clusters: each is proven, none makes the bundled cluster break a promise,
//! and one that is claimed but not carried out is found out.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::stories::story;
use super::support::{can_run, duress, finish, one_at_a_time};

/// Every kind, on both directions of one link.
const KINDS: &[(&str, &str)] = &[
    ("loss", "share: 10%"),
    ("delay", "by: 10ms, jitter: 3ms, shape: normal"),
    ("reorder", "share: 10%, by: 5ms"),
    ("duplicate", "share: 10%"),
    ("corrupt", "share: 10%"),
    ("corrupt", "share: 10%, checksum: right"),
    ("bandwidth", "rate: 1mbit"),
    ("black-hole", "above: 500"),
    ("reset", ""),
    ("flap", "every: 40ms"),
];

/// All kinds one after the other, as the value of `faults`, and how long that takes.
fn one_after_the_other() -> (String, String) {
    let mut faults = Vec::new();
    let mut at = 300;
    for (kind, measures) in KINDS {
        let comma = if measures.is_empty() { "" } else { ", " };
        faults.push(format!("{{at: {at}ms, lasts: 200ms, {kind}: {{links: [[n1, n2]]{comma}{measures}}}}}"));
        at += 700;
    }
    // One way, and only at the end of the run.
    faults.push(format!("{{at: {at}ms, lasts: 200ms, partition: half-open}}"));
    (format!("faults=[{}]", faults.join(", ")), format!("{}ms", at + 2500))
}

#[test]
fn paxos_survives_a_rough_network() {
    story(&["examples/paxos-rough-network.yaml"], 0, &["VALID", "5 faults proven and healed"]);
}

/// One run with every kind of fault and a capture of it, and the same with every injector broken.
#[test]
fn every_fault_of_links_is_proven_captured_and_found_out_if_it_did_nothing() {
    let _alone = one_at_a_time();
    if !can_run() {
        return;
    }
    let (faults, time) = one_after_the_other();
    let broken: Vec<&str> = KINDS.iter().map(|(kind, _)| *kind).chain(["partition"]).collect();
    for (sabotage, code) in [(String::new(), 0), (broken.join(","), 2)] {
        let out = tempfile::tempdir().unwrap();
        let path = out.path().to_str().unwrap();
        let args = ["run", "--time", &time, "--nodes", "3", "--pcap", "--set", &faults, "--out", path];
        let mut command = duress(&args);
        command.env("DURESS_TEST_SABOTAGE", &sabotage);
        let output = finish(command, Duration::from_secs(90));
        let said = format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "sabotaged: {sabotage:?}\n{said}");
        let run = std::fs::read_dir(out.path()).unwrap().next().unwrap().unwrap().path().join("latest");
        let history = std::fs::read_to_string(run.join("history.jsonl")).unwrap();
        let starts = |proven: bool| {
            let proven = format!("\"stage\":\"start\",\"proven\":{proven}");
            history.lines().filter(|line| line.contains("\"type\":\"evidence\"") && line.contains(&proven)).count()
        };
        let (proven, unproven) = (starts(true), starts(false));
        let expected = if code == 0 { (KINDS.len() + 1, 0) } else { (0, KINDS.len() + 1) };
        assert_eq!((proven, unproven), expected, "sabotaged: {sabotage:?}\n{history}");
        if code == 0 {
            read_capture(&run.join("capture.pcapng"));
        }
    }
}

/// What the capture must tell: the faults, and what became of frames.
fn read_capture(path: &Path) {
    if Command::new("tshark").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "tshark is not installed");
        return eprintln!("SKIPPED: the capture is not read, because tshark is not installed");
    }
    let mut reader = Command::new("tshark");
    reader.arg("-r").arg(path).args(["-Y", "frame.comment", "-T", "fields", "-e", "frame.comment"]);
    let output = finish(reader, Duration::from_secs(60));
    let comments = String::from_utf8_lossy(&output.stdout);
    for wanted in [
        "fault 1 starts: loss of 10%: n1 <-> n2 (links)",
        "fault 1 ends: loss",
        "n1 -> n2: loss of 10%; n2 -> n1: loss of 10%",
        "dropped: loss",
        "dropped: black hole",
        "dropped: its connection is reset",
        "forged: reset",
        "dropped: the link flaps and is cut",
        "dropped: the link is cut",
        "duplicated",
        "corrupted, checksum left wrong",
        "corrupted, checksum made right",
        "delayed by 5ms to be overtaken",
        "end of the capture: ",
    ] {
        assert!(comments.lines().any(|comment| comment.contains(wanted)), "no comment says {wanted:?}");
    }
}

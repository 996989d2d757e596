//! Faults of links on real clusters: each is proven and captured, and none makes the bundled cluster
//! break a promise.

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
    (format!("faults=[{}]", faults.join(", ")), format!("{}ms", at + 1000))
}

#[test]
fn paxos_survives_a_rough_network() {
    story(&["examples/paxos-rough-network.yaml"], 0, &["VALID", "5 faults proven and healed"]);
}

/// One run with every kind of fault, and a capture of it.
#[test]
fn every_fault_of_links_is_proven_and_captured() {
    let _alone = one_at_a_time();
    if !can_run() {
        return;
    }
    let (faults, time) = one_after_the_other();
    let out = tempfile::tempdir().unwrap();
    let path = out.path().to_str().unwrap();
    let command = duress(&["run", "--time", &time, "--nodes", "3", "--pcap", "--set", &faults, "--out", path]);
    let output = finish(command, Duration::from_secs(90));
    let said = format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{said}");
    let proven = format!("{} faults proven and healed", KINDS.len() + 1);
    assert!(said.contains(&proven), "{said}");
    let run = std::fs::read_dir(out.path()).unwrap().next().unwrap().unwrap().path().join("latest");
    read_capture(&run.join("capture.pcapng"));
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

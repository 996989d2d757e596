//! `duress schedule`: the timetable of faults, before anything runs.

use std::path::Path;
use std::process::{Command, Output};

fn duress(args: &[&str]) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    Command::new(env!("CARGO_BIN_EXE_duress")).args(args).current_dir(root).output().expect("duress runs")
}

fn said(args: &[&str]) -> String {
    let output = duress(args);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn triggers_stand_in_the_timetable_as_such() {
    let said = said(&["schedule", "examples/takeover-cut.yaml", "--seed", "7"]);
    for words in ["2s", "1500ms", "crash: primary", "when any node becomes primary + 200ms", "partition: primary-alone"]
    {
        assert!(said.contains(words), "{words:?} is missing in:\n{said}");
    }
    assert!(said.contains("at 9s everything is healed"), "{said}");
}

#[test]
fn a_seed_has_one_timetable() {
    let plan = ["schedule", "--target", "quorum", "--faults", "partition,pause", "--time", "40s", "--json", "--seed"];
    let of = |seed: &str| -> serde_json::Value {
        serde_json::from_str(&said(&[&plan[..], &[seed]].concat())).expect("JSON")
    };
    assert_eq!(of("3"), of("3"));
    assert_ne!(of("3"), of("4"));
    let faults = of("3")["faults"].as_array().expect("a list").clone();
    assert_eq!(faults.len(), 8, "one every five seconds");
    for pair in faults.windows(2) {
        let end = pair[0]["at_ms"].as_f64().expect("a time") + pair[0]["lasts_ms"].as_f64().expect("a time");
        assert!(end < pair[1]["at_ms"].as_f64().expect("a time"));
    }
}

#[test]
fn what_follows_what_is_said_with_its_earliest_time() {
    let steps = "faults=[{at: 2s, sequence: [{lasts: 3s, crash: n1}, {after: 500ms, lasts: 1s, pause: n2}]}]";
    let said = said(&["schedule", "--target", "paxos", "--seed", "1", "--set", steps, "--set", "limits.heal=quorum"]);
    assert!(said.contains("when fault 1 ends + 500ms (5500ms at the earliest)"), "{said}");
    assert!(said.contains("at 30s 3 of 5 nodes are healed, and must serve within 20s; then everything"), "{said}");
}

#[test]
fn a_scenario_that_makes_no_sense_has_no_timetable() {
    let output = duress(&["schedule", "--set", "faults=[{when: {ends: nothing}, lasts: 1s, crash: one}]"]);
    assert_eq!(output.status.code(), Some(255));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("there is no fault named `nothing`"), "{said}");
}

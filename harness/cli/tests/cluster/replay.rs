//! Findings of the simulator, played on a real cluster.

use std::time::Duration;

use super::support::{can_run, duress, finish, one_at_a_time};

/// A split brain whose line is cut for seconds shows in reality as well, nearly always.
#[test]
fn a_split_brain_found_by_a_hunt_shows_in_reality() {
    let out = tempfile::tempdir().unwrap();
    let kept = out.path().to_str().unwrap();
    let hunt = ["hunt", "examples/atc-split-brain.yaml", "--seed", "1", "--seeds", "50", "--shrink", "2s", "--json"];
    let output = finish(duress(&[&hunt[..], &["--out", kept]].concat()), Duration::from_secs(120));
    let hunted: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = hunted["findings"].as_array().unwrap();
    let split = findings.iter().find(|finding| finding["property"] == "split-brain").unwrap();
    let repro = split["repro"].as_str().unwrap();
    let _alone = one_at_a_time();
    if !can_run() {
        return;
    }
    let args = ["replay", repro, "--world", "local", "--times", "3", "--out", kept];
    let output = finish(duress(&args), Duration::from_secs(240));
    let said = format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{said}");
    let shows = (1..=3).any(|count| said.contains(&format!("split-brain shows in {count} of 3 real runs")));
    assert!(shows && said.contains("3 of 3: "), "{said}");
}

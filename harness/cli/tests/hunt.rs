//! Hunting, shrinking and replaying with the real binary.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn duress(args: &[&str], out: &Path) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut command = Command::new(env!("CARGO_BIN_EXE_duress"));
    command.args(args).arg("--out").arg(out).current_dir(root);
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Hunts with `--json`; the exit code and the results.
fn hunt(args: &[&str], out: &Path) -> (Option<i32>, serde_json::Value) {
    let args: Vec<&str> = ["hunt"].into_iter().chain(args.iter().copied()).chain(["--json"]).collect();
    let output = duress(&args, out);
    let results = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output)));
    (output.status.code(), results)
}

/// Hunts, expects a finding that shrinks well, and replays it.
fn found(args: &[&str]) -> serde_json::Value {
    let out = tempfile::tempdir().unwrap();
    let (code, results) = hunt(args, out.path());
    assert_eq!(code, Some(1), "{results:#}");
    for finding in results["findings"].as_array().unwrap() {
        assert!(finding["faults"].as_u64().unwrap() <= 5, "{finding:#}");
        let repro = PathBuf::from(finding["repro"].as_str().unwrap());
        let output = duress(&["replay", repro.to_str().unwrap(), "--times", "100"], out.path());
        let said = text(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("repeated exactly, 100 of 100 times"), "{said}");
        let output = duress(&["replay", repro.to_str().unwrap(), "--trace"], out.path());
        let said = text(&output);
        assert!(said.contains("repeated exactly") && said.contains("seconds") && said.contains("1. At "), "{said}");
        // Another version of the code gives another hash, which has to be said loudly.
        let changed = std::fs::read_to_string(&repro).unwrap();
        let hash = finding["trace_hash"].as_str().unwrap();
        let other = out.path().join("other.repro.yaml");
        std::fs::write(&other, changed.replace(hash, "0000000000000000")).unwrap();
        let said = text(&duress(&["replay", other.to_str().unwrap()], out.path()));
        assert!(said.contains("THE RUN DIFFERS"), "{said}");
    }
    results
}

fn clean(args: &[&str]) {
    let out = tempfile::tempdir().unwrap();
    let (code, results) = hunt(args, out.path());
    assert_eq!(code, Some(0), "{results:#}");
    assert!(results["clean"].as_u64().unwrap() * 10 > results["runs"].as_u64().unwrap() * 9, "{results:#}");
}

#[test]
fn a_split_brain_is_found_shrunk_and_replayed() {
    let results = found(&["examples/atc-split-brain.yaml", "--seed", "1", "--seeds", "200", "--shrink", "5s"]);
    let properties: Vec<&str> =
        results["findings"].as_array().unwrap().iter().map(|finding| finding["property"].as_str().unwrap()).collect();
    assert!(properties.contains(&"split-brain") || properties.contains(&"linearizable"), "{properties:?}");
}

#[test]
fn a_stale_read_is_found_shrunk_and_replayed() {
    let results = found(&["examples/quorum-r1w1.yaml", "--seed", "1", "--seeds", "200", "--shrink", "5s"]);
    assert_eq!(results["findings"][0]["property"], "linearizable");
}

#[test]
fn safe_settings_are_clean() {
    for failover in ["target.failover=vote", "target.failover=fenced"] {
        clean(&["examples/atc-split-brain.yaml", "--set", failover, "--seed", "1", "--seeds", "150"]);
    }
    clean(&["examples/quorum-r2w2.yaml", "--seed", "1", "--seeds", "150"]);
}

#[test]
fn threads_do_not_change_what_is_found() {
    let first = |jobs: &str| {
        let out = tempfile::tempdir().unwrap();
        let args = ["examples/quorum-r1w1.yaml", "--seed", "5", "--seeds", "100", "--shrink", "0s", "--jobs", jobs];
        let (_, results) = hunt(&args, out.path());
        (results["findings"][0]["seed"].clone(), results["findings"][0]["property"].clone())
    };
    assert_eq!(first("1"), first("4"));
}

#[test]
fn a_simulated_run_is_kept_and_judged_like_a_real_one() {
    let out = tempfile::tempdir().unwrap();
    let args = ["run", "--world", "sim", "--time", "2s", "--rate", "100", "--seed", "3"];
    let output = duress(&args, out.path());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let kept = out.path().join("paxos-register/latest");
    for file in ["scenario.yaml", "history.jsonl", "results.json"] {
        assert!(kept.join(file).exists(), "{file}");
    }
    let check = Command::new(env!("CARGO_BIN_EXE_duress")).arg("check").arg(&kept).output().unwrap();
    assert_eq!(check.status.code(), Some(0), "{}", text(&check));
}

#[test]
fn what_makes_no_sense_is_a_usage_error() {
    let out = tempfile::tempdir().unwrap();
    let rubbish = out.path().join("rubbish.repro.yaml");
    std::fs::write(&rubbish, "format: 1\nnothing: else\n").unwrap();
    for args in [
        &["hunt", "--seeds", "0"][..],
        &["hunt", "--time", "soon"],
        &["hunt", "--also", "meteorite"],
        &["hunt", "examples/no-such-file.yaml"],
        &["replay", rubbish.to_str().unwrap()],
        &["replay", "no-such.repro.yaml"],
        &["run", "--world", "moon"],
    ] {
        let output = duress(args, out.path());
        assert_eq!(output.status.code(), Some(255), "{args:?}: {}", text(&output));
    }
}

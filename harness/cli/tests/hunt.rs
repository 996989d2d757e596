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
        for _ in 0..3 {
            let said = text(&duress(&["replay", repro.to_str().unwrap()], out.path()));
            assert!(said.contains(&format!("trace hash {}", finding["trace_hash"].as_str().unwrap())), "{said}");
        }
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

/// A backup once dropped, with a snapshot's coming, what it had acknowledged behind it: one run in some
/// tens of thousands. What keeps it is tested in `targets/kv/tests/snapshots_scripted.rs`, whatever a
/// seed comes to mean.
#[test]
fn a_seed_that_lost_a_write_is_clean() {
    clean(&["examples/bugs/vote.yaml", "--seed", "18785", "--seeds", "1"]);
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
fn lock_and_set_findings_are_kept_and_replayed() {
    let results = found(&["examples/lock-pause.yaml", "--seed", "1", "--seeds", "400", "--shrink", "5s"]);
    assert_eq!(results["findings"][0]["property"], "mutual-exclusion");
    let set = ["--target", "primary-backup", "--set", "target.replication=async", "--set", "target.failover=timeout"];
    let more = ["--workload", "set", "--faults", "crash,partition", "--seed", "1", "--seeds", "400", "--shrink", "5s"];
    let results = found(&[&set[..], &more].concat());
    assert_eq!(results["findings"][0]["class"], "bug");
}

/// A target that is no key-value store: found, shrunk and replayed like the others.
#[test]
fn a_ring_with_two_holders_is_found_shrunk_and_replayed() {
    let results = found(&["examples/ring-pause.yaml", "--seed", "1", "--seeds", "100", "--shrink", "5s"]);
    assert_eq!(results["findings"][0]["property"], "mutual-exclusion");
    clean(&["examples/ring-pause.yaml", "--set", "workload.fencing=true", "--seed", "1", "--seeds", "60"]);
}

/// What rests on clocks is found by skewed ones, shrunk to them, and stands them where it doesn't.
#[test]
fn clock_findings_are_kept_and_replayed() {
    for (scenario, property, harmless) in [
        ("examples/lease-clock-jump.yaml", "linearizable", "target.max_clock_drift_ppm=900000"),
        ("examples/quorum-wall-clock.yaml", "linearizable", "target.timestamps=logical"),
        ("examples/lock-clock-drift.yaml", "mutual-exclusion", "workload.fencing=true"),
    ] {
        let results = found(&[scenario, "--seed", "1", "--seeds", "100", "--shrink", "5s"]);
        assert_eq!(results["findings"][0]["property"], property, "{scenario}");
        clean(&[scenario, "--set", harmless, "--seed", "1", "--seeds", "60"]);
    }
}

#[test]
fn a_cluster_that_stays_unavailable_is_a_finding() {
    let out = tempfile::tempdir().unwrap();
    let (code, results) =
        hunt(&["--bug", "duelling-proposers", "--seed", "1", "--seeds", "200", "--shrink", "3s"], out.path());
    assert_eq!(code, Some(1), "{results:#}");
    let finding = &results["findings"][0];
    assert_eq!((&finding["property"], &finding["class"]), (&"unavailable".into(), &"unavailable".into()));
    assert_eq!(results["class"], "unavailable");
}

#[test]
fn findings_are_grouped_and_coverage_is_kept() {
    let out = tempfile::tempdir().unwrap();
    let args = ["examples/quorum-r1w1.yaml", "--keep-going", "--seed", "1", "--seeds", "60", "--shrink", "0s"];
    let (_, results) = hunt(&args, out.path());
    let few = ["hunt", "examples/atc-split-brain.yaml", "--seed", "5", "--seeds", "2"];
    let plain = duress(&few, out.path());
    assert!(plain.stderr.is_empty(), "nobody looks at a terminal: {}", text(&plain));
    assert!(text(&plain).contains("were never tested: "), "{}", text(&plain));
    let findings = results["findings"].as_array().unwrap();
    let names: std::collections::BTreeSet<&str> = findings.iter().map(|f| f["property"].as_str().unwrap()).collect();
    assert_eq!(names.len(), findings.len(), "one group for each property");
    assert!(findings.iter().any(|finding| finding["runs"].as_u64().unwrap() > 1), "{results:#}");
    let kept = out.path().join("quorum-r1w1-hunt/latest");
    let coverage = std::fs::read_to_string(kept.join("coverage.json")).unwrap();
    let coverage: Vec<serde_json::Value> = serde_json::from_str(&coverage).unwrap();
    assert!(coverage.iter().any(|row| row["count"].as_u64().unwrap() > 0));
    assert_eq!(serde_json::Value::from(coverage), results["coverage"]);
}

#[test]
fn every_extra_fault_can_be_asked_for_and_shows_in_the_coverage() {
    let kinds = ["power-loss", "slow-disk", "full-disk", "clock-jump", "clock-rate", "slow"];
    let listed = Command::new(env!("CARGO_BIN_EXE_duress")).args(["list", "faults"]).output().unwrap();
    for kind in kinds {
        assert!(text(&listed).contains(kind), "{}", text(&listed));
        let out = tempfile::tempdir().unwrap();
        let args = ["--faults", "none", "--also", kind, "--seed", "1", "--seeds", "40"];
        let (code, results) = hunt(&args, out.path());
        assert_eq!(code, Some(0), "{kind}: {results:#}");
        let rows = results["coverage"].as_array().unwrap();
        let met = rows.iter().filter(|row| row["what"] == kind).map(|row| row["count"].as_u64().unwrap());
        assert!(met.sum::<u64>() > 0, "{kind}: {rows:#?}");
        let known = ["leader", "follower", "candidate", "recovering", "dead node", "nobody", "client"];
        for row in rows.iter().filter(|row| row["what"] == kind) {
            assert!(known.contains(&row["whom"].as_str().unwrap()), "{row}");
        }
    }
}

/// A process that is ended when the test is over, however it is over.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until a hunt has made its directory, which is where it begins.
fn wait_for(path: &Path) {
    let began = std::time::Instant::now();
    while !path.exists() {
        assert!(began.elapsed().as_secs() < 60, "{} is not there after a minute", path.display());
        std::thread::yield_now();
    }
}

#[test]
fn an_interrupt_ends_a_hunt_with_what_it_found() {
    for (scenario, code, verdict) in [("quorum-r2w2", 0, "valid"), ("quorum-r1w1", 1, "invalid")] {
        let out = tempfile::tempdir().unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut command = Command::new(env!("CARGO_BIN_EXE_duress"));
        command.args(["hunt", &format!("examples/{scenario}.yaml"), "--keep-going", "--time", "5m", "--seed", "1"]);
        command.args(["--shrink", "0s", "--json", "--out"]).arg(out.path()).current_dir(root);
        let command = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let mut child = Running(command.spawn().unwrap());
        wait_for(&out.path().join(format!("{scenario}-hunt/latest/scenario.yaml")));
        // It listens before it makes its directory, and would not be over for minutes.
        let pid = nix::unistd::Pid::from_raw(child.0.id().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
        let mut json = String::new();
        std::io::Read::read_to_string(child.0.stdout.as_mut().unwrap(), &mut json).unwrap();
        let status = child.0.wait().unwrap();
        let results: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(status.code(), Some(code), "{results:#}");
        assert_eq!((&results["verdict"], &results["interrupted"]), (&verdict.into(), &true.into()));
    }
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

//! What users and machines do to a run: kill it, interrupt it, feed it rubbish.

use std::process::Stdio;
use std::time::{Duration, Instant};

use super::support::*;
use nix::sys::signal::Signal;

#[test]
fn a_kill_at_any_moment_leaves_nothing_behind() {
    let _alone = one_at_a_time();
    if !can_run() {
        return;
    }
    let before = machine();
    let out = tempfile::tempdir().unwrap();
    let seed = duress_seed::Seed(std::process::id().into());
    println!("seed of the moments: {}", seed.0);
    let mut histories = 0;
    for round in 0..20 {
        let mark = format!("DURESS_TEST_MARK=kill-{}-{round}", std::process::id());
        let (name, value) = mark.split_once('=').unwrap();
        let moment = seed.decide(&[round]).between(Duration::ZERO, Duration::from_millis(4000));
        let directory = out.path().join(round.to_string());
        let mut child = start(
            duress(&["run", "--time", "20s", "--out", directory.to_str().unwrap()])
                .env(name, value)
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        );
        let started = Instant::now();
        eventually(moment + Duration::from_secs(5), || started.elapsed(), |elapsed| *elapsed >= moment);
        kill(child.0.id(), Signal::SIGKILL);
        reap(&mut child, Duration::from_secs(5));
        eventually(Duration::from_secs(10), || marked(&mark), Vec::is_empty);
        let Some(latest) = std::fs::read_dir(&directory).ok().and_then(|mut d| d.next()) else { continue };
        let latest = latest.unwrap().path().join("latest");
        if !latest.join("history.jsonl").exists() {
            continue;
        }
        histories += 1;
        let check = finish(duress(&["check", latest.to_str().unwrap()]), Duration::from_secs(60));
        let said = String::from_utf8_lossy(&check.stdout);
        // Cut short: never valid, and never a finding that is not there.
        assert_eq!(check.status.code(), Some(2), "{said}\n{}", String::from_utf8_lossy(&check.stderr));
    }
    assert!(histories >= 5, "only {histories} of 20 runs got as far as a history");
    assert_eq!(machine(), before);
}

#[test]
fn an_interrupted_run_heals_and_is_judged() {
    let _alone = one_at_a_time();
    if !can_run() {
        return;
    }
    let out = tempfile::tempdir().unwrap();
    let mark = format!("DURESS_TEST_MARK=interrupt-{}", std::process::id());
    let (name, value) = mark.split_once('=').unwrap();
    let mut child = start(
        duress(&["run", "--time", "60s", "--nodes", "3", "--out", out.path().to_str().unwrap()])
            .env(name, value)
            .stdout(Stdio::piped())
            .stderr(Stdio::null()),
    );
    let history = out.path().join("paxos-register/latest/history.jsonl");
    let text = || std::fs::read_to_string(&history).unwrap_or_default();
    eventually(Duration::from_secs(30), text, |text| text.matches("\"outcome\":\"ok\"").count() > 2000);
    kill(child.0.id(), Signal::SIGINT);
    let status = reap(&mut child, Duration::from_secs(40));
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.0.stdout.take().unwrap(), &mut said).unwrap();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(said.contains("interrupted after"), "{said}");
    assert!(marked(&mark).is_empty());
}

#[test]
fn a_fault_that_did_nothing_makes_the_run_unknown() {
    let _alone = one_at_a_time();
    if !can_run() {
        return;
    }
    for kind in ["partition", "crash", "pause", "delay"] {
        let out = tempfile::tempdir().unwrap();
        let faults = format!(
            "faults=[{{at: 1s, lasts: 1s, {kind}: {}}}]",
            if kind == "delay" {
                "{links: [[n1, n2]], by: 50ms}"
            } else if kind == "partition" {
                "isolate-one"
            } else {
                "one"
            }
        );
        let args = ["run", "--time", "3s", "--nodes", "3", "--set", &faults, "--out", out.path().to_str().unwrap()];
        for (sabotage, code) in [("", 0), (kind, 2)] {
            let mut command = duress(&args);
            command.env("DURESS_TEST_SABOTAGE", sabotage);
            let output = finish(command, Duration::from_secs(60));
            let said = String::from_utf8_lossy(&output.stdout);
            let errors = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{kind}, sabotaged: {sabotage:?}\n{said}\n{errors}");
            assert_eq!(said.contains("not proven"), code == 2, "{said}");
        }
    }
}

#[test]
fn malformed_scenarios_are_refused_with_their_place() {
    let folder = root().join("harness/scenario/tests/malformed");
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "yaml") {
            continue;
        }
        let output = finish(duress(&["run", path.to_str().unwrap()]), Duration::from_secs(20));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(255), "{}: {said}", path.display());
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(said.contains(name) && !said.contains("panicked"), "{}: {said}", path.display());
        count += 1;
    }
    assert!(count >= 50, "only {count} malformed scenarios were found");
}

#[test]
fn usage_errors_are_255_and_say_what_to_do() {
    for (args, word) in [
        (&["run", "--nodes", "99"][..], "nodes"),
        (&["run", "--target", "pacsos"], "paxos"),
        (&["run", "--set", "target.raeds=local"], "reads"),
        (&["run", "--target", "primary-backup", "--set", "target.fallover=vote"], "failover"),
        (&["run", "--set", "nonsense"], "key=value"),
        (&["run", "no-such-file.yaml"], "no-such-file.yaml"),
        (&["run", "--faults", "gravity"], "gravity"),
        (&["check", "no-such-directory"], "no-such-directory"),
        (&["frobnicate"], "frobnicate"),
    ] {
        let output = finish(duress(args), Duration::from_secs(20));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(255), "{args:?}: {said}");
        assert!(said.contains(word), "{args:?} does not mention {word}: {said}");
    }
}

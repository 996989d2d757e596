//! What users do to a run: interrupt it, feed it rubbish.

use std::process::Stdio;
use std::time::Duration;

use super::support::*;
use nix::sys::signal::Signal;

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

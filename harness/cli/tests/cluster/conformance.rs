//! One suite of scripts for both worlds: what comes of each operation is what the script expects,
//! in the simulator and on a real cluster. Where they differ, one of them is modelled wrongly.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use super::support::{can_run, duress, finish, one_at_a_time, root};

/// So many clusters at a time: they are idle for the most part.
const AT_A_TIME: usize = 3;

fn scripts() -> Vec<PathBuf> {
    let folder = root().join("harness/cli/tests/conformance");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "script"));
    files.sort();
    assert!(files.len() >= 25, "only {} scripts were found", files.len());
    files
}

/// Plays scripts, and says which did not do what they expect.
fn play(files: Vec<PathBuf>, world: &str) -> Vec<String> {
    let out = tempfile::tempdir().unwrap();
    let queue = Mutex::new(files);
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let Some(file) = queue.lock().unwrap().pop() else { return };
                    let (out, file) = (out.path().to_str().unwrap(), file.to_str().unwrap());
                    let command = duress(&["conform", "--world", world, "--out", out, file]);
                    let output = finish(command, Duration::from_secs(120));
                    if !output.status.success() {
                        let said = String::from_utf8_lossy(&output.stdout).into_owned();
                        wrong.lock().unwrap().push(said + &String::from_utf8_lossy(&output.stderr));
                    }
                }
            });
        }
    });
    wrong.into_inner().unwrap()
}

#[test]
fn the_simulator_does_what_scripts_expect() {
    let wrong = play(scripts(), "sim");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_real_cluster_does_the_same() {
    let _alone = one_at_a_time();
    if !can_run() {
        return;
    }
    let wrong = play(scripts(), "both");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A script that expects what doesn't happen is told so, line by line.
#[test]
fn what_is_not_as_expected_is_told() {
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("wrong.script");
    let script = "target: {kind: paxos, nodes: 3}\nclients: 2\n---\n\
                  0ms  c1.n1  write x 1  -> fail\nthen c2.n2  read x  -> ok 1\nfinally linearizable\n";
    std::fs::write(&file, script).unwrap();
    let out = out.path().to_str().unwrap();
    let args = ["conform", "--world", "sim", "--out", out, file.to_str().unwrap()];
    let output = finish(duress(&args), Duration::from_secs(60));
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("write x 1  -> fail   but in sim: ok by n"), "{said}");
    assert!(said.contains("invalid is nothing, not linearizable") && !said.contains("read x"), "{said}");
}

#[test]
fn malformed_scripts_are_usage_errors_with_their_place() {
    let out = tempfile::tempdir().unwrap();
    let head = "target: {kind: paxos, nodes: 3}\nclients: 2\n---\n";
    for (script, said) in [
        ("target: {kind: paxos}\n".to_owned(), "a line ---"),
        (head.to_owned(), "no operation"),
        (format!("{head}0ms c1.n1 read x\n"), "wrong.script:4: write `WHEN"),
        (format!("{head}soon c1.n1 read x -> ok\n"), "wrong.script:4: `soon`"),
        (format!("{head}\n0ms c9.n1 read x -> ok\n"), "wrong.script:5: `c9.n1`"),
        (format!("{head}0ms c1.n1 frobnicate x -> ok\n"), "wrong.script:4: `frobnicate x`"),
        (format!("{head}0ms c1.n1 read x -> maybe\n"), "wrong.script:4: `maybe`"),
        (format!("{head}0ms c1.n1 add x -> ok\n"), "wrong.script:4: `x`"),
        ("target: {kind: pacsos}\n---\n0ms c1.n1 read x -> ok\n".to_owned(), "paxos"),
        ("target: {kind: quorum, nodes: 2}\nclients: 2\n---\n0ms c1.n2 read x -> ok\n".to_owned(), "c1.n2: with 2"),
    ] {
        let file = out.path().join("wrong.script");
        std::fs::write(&file, &script).unwrap();
        let output = finish(duress(&["conform", file.to_str().unwrap()]), Duration::from_secs(20));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(255), "{script}\n{errors}");
        assert!(errors.contains(said), "{said:?} is missing in: {errors}");
    }
}

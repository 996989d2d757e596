//! Model checking with the real binary.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

fn model(args: &[&str]) -> (Option<i32>, String) {
    let output: Output = Command::new(env!("CARGO_BIN_EXE_duress")).arg("model").args(args).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code(), said)
}

#[test]
fn every_state_of_a_sound_cluster_is_reached() {
    let (code, said) = model(&["paxos", "--nodes", "2", "--crashes", "1"]);
    assert_eq!(code, Some(0), "{said}");
    for words in ["4,207 states", "complete: every state", "VALID", "1 timeout, 1 crash"] {
        assert!(said.contains(words), "{words:?} is missing in: {said}");
    }
}

#[test]
fn a_counterexample_is_a_story_and_a_chart() {
    let split = ["primary-backup", "--set", "target.failover=timeout", "--threads", "1"];
    let (code, said) = model(&[&split[..], &["--chart"]].concat());
    assert_eq!(code, Some(1), "{said}");
    for words in ["INVALID", "1. n2 has heard from no primary", "No order of the operations", "step       n1"] {
        assert!(said.contains(words), "{words:?} is missing in: {said}");
    }
    let (code, said) = model(&[&split[..], &["--json"]].concat());
    let results: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, results["verdict"].as_str()), (Some(1), Some("invalid")), "{said}");
    assert_eq!(results["counterexample"]["steps"].as_array().unwrap().len(), 3, "{said}");
    assert_eq!(results["complete"], false, "{said}");
}

#[test]
fn a_planted_bug_is_named_and_found() {
    let (code, said) = model(&["paxos", "--nodes", "2", "--bug", "off-by-one-majority", "--threads", "1"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("planted bug: off-by-one-majority") && said.contains("5. "), "{said}");
}

#[test]
fn what_is_cut_short_is_unknown() {
    for (bound, words) in [(["--max-states", "2000"], "raise --max-states"), (["--time", "0s"], "raise --time")] {
        let (code, said) = model(&[&["paxos", "--timeouts", "2"][..], &bound].concat());
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("bounded: not all states") && said.contains(words), "{said}");
        assert!(said.contains("UNKNOWN") && !said.contains("VALID:"), "{said}");
    }
}

#[test]
fn clients_can_be_scripted() {
    let (code, said) = model(&["quorum", "--nodes", "2", "--client", "write,read", "--client", "write", "--json"]);
    let results: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(code, Some(0), "{said}");
    assert!(results["bounds"].as_str().unwrap().contains("2 clients (write then read | write)"), "{said}");
    assert!(results["states_per_second"].as_u64().unwrap() > 0 && results["depth"].as_u64().unwrap() > 5, "{said}");
}

#[test]
fn what_makes_no_sense_is_a_usage_error() {
    for (args, word) in [
        (&["pacsos"][..], "paxos"),
        (&["paxos", "--nodes", "99"], "nodes"),
        (&["paxos", "--bug", "no-such-bug"], "no-such-bug"),
        (&["paxos", "--bug", "lock-released-by-stale-holder"], "locks only"),
        (&["paxos", "--client", "reed"], "reed"),
        (&["quorum", "--client", "cas"], "cas"),
        (&["paxos", "--time", "soon"], "soon"),
        (&["paxos", "--explore", "nowhere"], "127.0.0.1:3000"),
        (&[], "TARGET"),
    ] {
        let (code, said) = model(args);
        assert_eq!(code, Some(255), "{args:?}: {said}");
        assert!(said.contains(word), "{args:?} does not mention {word}: {said}");
    }
}

#[test]
fn the_explorer_answers() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_duress"))
        .args(["model", "primary-backup", "--explore", "0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Held open until the end: it goes on writing.
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    let addr = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()).map(str::to_owned);
    let answer = addr.and_then(|addr| get(&addr, "/.states"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(line.contains("http://127.0.0.1:"), "{line}");
    assert!(answer.as_ref().is_some_and(|answer| answer.contains("200 OK")), "{line}{answer:?}");
}

/// Asks as soon as somebody listens, for ten seconds at most.
fn get(addr: &str, path: &str) -> Option<String> {
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while std::time::Instant::now() < deadline {
        if let Ok(mut stream) = TcpStream::connect(addr) {
            stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: model\r\nConnection: close\r\n\r\n").ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            return Some(answer);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    None
}

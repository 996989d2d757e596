//! The client host as a process: calls, leases, and the pause between check and write.

mod support;

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use duress_checkers::mutex::LockOp;
use duress_driver::client_host::{CallOutcome, ClientHostConfig, Command, Completion, run_client_host};
use duress_driver::control;
use duress_history::{Op, Value};
use duress_machine::{Asker, NodeId};
use nix::sys::signal::Signal;
use support::{Layout, Process, child, policy, read, spawn_toy, write};

/// A client host, when started as a child with its configuration and its channel as its input.
#[test]
fn child_client_host() {
    let Some(config) = child() else { return };
    run_client_host(serde_json::from_str(&config).unwrap(), support::child_control()).unwrap();
}

/// A client host of a one-node toy cluster, and the controller's side of its channel.
struct Stage {
    host: Process,
    channel: UnixStream,
    _directory: tempfile::TempDir,
}

impl Stage {
    fn new() -> Stage {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(1, directory.path());
        // It ends with the test program.
        let _node = spawn_toy(&layout, 0, None);
        let (channel, theirs) = UnixStream::pair().unwrap();
        channel.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let config = ClientHostConfig { nodes: layout.http.clone(), policy: policy() };
        let host = Process::again("child_client_host", &serde_json::to_string(&config).unwrap(), Some(theirs));
        Stage { host, channel, _directory: directory }
    }

    fn say(&mut self, command: &Command) {
        self.channel.write_all(&control::encode(command).unwrap()).unwrap();
    }

    fn hear(&mut self) -> Completion {
        control::read_blocking(&mut self.channel).unwrap().expect("the client host still speaks")
    }

    fn perform(&mut self, call: u64, op: Op) {
        let who = Asker { client: 1000 + call, sequence: 1 };
        self.say(&Command::Perform { call, who, op, first: NodeId(0) });
    }

    fn call(&mut self, call: u64, op: Op) -> CallOutcome {
        self.perform(call, op);
        match self.hear() {
            Completion::Called { call: called, outcome } if called == call => outcome,
            other => panic!("not the end of call {call}: {other:?}"),
        }
    }

    fn acquire(&mut self, lease: Duration) -> u64 {
        let lease_ms = lease.as_millis() as u64;
        match self.call(1, LockOp::Acquire { lease_ms }.on("l")) {
            CallOutcome::Ok { reply, .. } if reply.result == Value::Int(4) => 4,
            other => panic!("not granted: {other:?}"),
        }
    }

    fn access(&mut self, call: u64, work: Duration) {
        self.perform(call, LockOp::Access { token: 4, work_ms: work.as_millis() as u64 }.on("l"));
    }
}

/// An access that the client host did not go about.
fn refused(call: u64) -> Completion {
    Completion::Refused { call, error: "lease-expired".into() }
}

#[test]
fn calls_are_made_concurrently() {
    let mut stage = Stage::new();
    for call in 0..200 {
        let op = if call % 2 == 0 { write(&format!("k{call}"), "v") } else { read("unset") };
        stage.perform(call, op);
    }
    let mut seen: Vec<u64> = (0..200)
        .map(|_| match stage.hear() {
            Completion::Called { call, outcome: CallOutcome::Ok { reply, .. } } => {
                assert_eq!((reply.result, reply.error), (Value::Nil, None), "call {call}");
                call
            }
            other => panic!("{other:?}"),
        })
        .collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..200).collect::<Vec<_>>());
}

#[test]
fn an_access_under_a_running_lease_reaches_the_resource_and_back() {
    let mut stage = Stage::new();
    stage.access(7, Duration::ZERO);
    assert_eq!(stage.hear(), refused(7), "without a lease");
    stage.acquire(Duration::from_secs(600));
    for (call, refused) in [(8, None), (9, Some("fenced".into()))] {
        stage.access(call, Duration::from_millis(5));
        assert_eq!(stage.hear(), Completion::Write { call, lock: "l".into(), token: 4 });
        stage.say(&Command::ResourceAnswer { call, refused: refused.clone() });
        assert_eq!(stage.hear(), Completion::Written { call, refused });
    }
    // An answer that nobody waits for is passed over, and a lease given back is no lease.
    stage.say(&Command::ResourceAnswer { call: 8, refused: None });
    stage.call(10, LockOp::Release { token: 4 }.on("l"));
    stage.access(11, Duration::ZERO);
    assert_eq!(stage.hear(), refused(11));
}

#[test]
fn an_access_after_the_lease_is_refused() {
    let mut stage = Stage::new();
    stage.acquire(Duration::ZERO);
    stage.access(2, Duration::ZERO);
    assert_eq!(stage.hear(), refused(2));
}

#[test]
fn a_pause_between_check_and_write_lets_a_stale_write_through() {
    let mut stage = Stage::new();
    let lease = Duration::from_millis(1500);
    let acquired = std::time::Instant::now();
    stage.acquire(lease);
    stage.access(2, Duration::from_millis(1000));
    // An answer to a later command shows that the access has passed its check.
    stage.call(3, read("unset"));
    stage.host.signal(Signal::SIGSTOP);
    stage.channel.set_read_timeout(Some(lease.saturating_sub(acquired.elapsed()) + Duration::from_millis(1))).unwrap();
    let silent = control::read_blocking::<Completion>(&mut stage.channel);
    assert!(silent.is_err(), "a stopped process said {silent:?}");
    assert!(acquired.elapsed() > lease);
    stage.host.signal(Signal::SIGCONT);
    stage.channel.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(stage.hear(), Completion::Write { call: 2, lock: "l".into(), token: 4 });
    // The next check finds out.
    stage.access(4, Duration::ZERO);
    assert_eq!(stage.hear(), refused(4));
}

#[test]
fn the_process_ends_with_its_channel() {
    let mut stage = Stage::new();
    stage.call(1, read("unset"));
    stage.channel.shutdown(std::net::Shutdown::Both).unwrap();
    assert!(stage.host.0.wait().unwrap().success());
}

//! `duress clock`: a skew that is held for a time ends, whoever is killed meanwhile.

use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process with clocks; killed at the end.
struct Sleeper(Child);

impl Sleeper {
    fn start() -> Sleeper {
        Sleeper(Command::new("sleep").arg("60").spawn().expect("sleep"))
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }

    fn skewed(&self) -> bool {
        let output = finished(&["clock", &self.pid(), "--json"]);
        let state: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        state["replaced"].as_bool().expect("whether its clocks are replaced")
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn duress(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_duress"));
    command.args(args).stdin(Stdio::null());
    command
}

fn finished(args: &[&str]) -> Output {
    duress(args).output().expect("duress runs")
}

/// Whether processes that are no children of `duress` may be skewed here: as root, or where
/// tracing is not restricted. In CI it must be so.
fn may_trace(sleeper: &Sleeper) -> bool {
    let output = finished(&["clock", &sleeper.pid(), "--jump", "1s"]);
    let may = output.status.success();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(may || std::env::var_os("CI").is_none(), "CI must allow tracing: {said}");
    if !may {
        eprintln!("SKIPPED: {said}");
    }
    finished(&["clock", &sleeper.pid(), "--reset"]);
    may
}

fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !so() {
        assert!(Instant::now() < deadline, "still not so: {what}");
    }
}

/// Starts a skew of a minute and returns when it is in force: the process, and the one that it
/// has hold the clocks.
fn held(sleeper: &Sleeper) -> (Child, Pid) {
    let mut holding = duress(&["clock", &sleeper.pid(), "--jump", "1h", "--for", "60s"]);
    let holding = holding.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("duress clock");
    eventually("the clock is skewed", || sleeper.skewed());
    let children = format!("/proc/{0}/task/{0}/children", holding.id());
    let keeper = std::fs::read_to_string(children).expect("its children");
    (holding, Pid::from_raw(keeper.trim().parse().expect("one child")))
}

#[test]
fn a_skew_ends_with_its_time() {
    let sleeper = Sleeper::start();
    if !may_trace(&sleeper) {
        return;
    }
    let output = finished(&["clock", &sleeper.pid(), "--jump=-1h", "--for", "50ms"]);
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("-3600000.0") && said.ends_with("true time\n"), "{said}");
    assert!(!sleeper.skewed());
}

#[test]
fn a_skew_ends_when_its_controller_is_killed() {
    let sleeper = Sleeper::start();
    if !may_trace(&sleeper) {
        return;
    }
    let (mut holding, keeper) = held(&sleeper);
    holding.kill().expect("SIGKILL");
    holding.wait().expect("it is gone");
    eventually("the clock is true again", || !sleeper.skewed());
    eventually("the process that held it is gone", || kill(keeper, None).is_err());
}

#[test]
fn a_skew_ends_when_its_keeper_is_killed() {
    let sleeper = Sleeper::start();
    if !may_trace(&sleeper) {
        return;
    }
    let (mut holding, keeper) = held(&sleeper);
    kill(keeper, Signal::SIGKILL).expect("SIGKILL");
    let status = holding.wait().expect("it ends");
    assert_eq!(status.code(), Some(254));
    assert!(!sleeper.skewed());
}

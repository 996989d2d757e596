//! `duress cleanup` and `duress doctor`: what dead controllers left is undone, and nothing else.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use duress_local::{Identity, MARK};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process that is killed at the end.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Killed {
    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

fn duress(args: &[&str], journal: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_duress"));
    command.args(args).env("XDG_RUNTIME_DIR", journal).env_remove(MARK).stdin(Stdio::null());
    command
}

fn said(args: &[&str], journal: &Path) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = duress(args, journal).output().unwrap();
    (status.code(), String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr))
}

fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !so() {
        assert!(Instant::now() < deadline, "still not so: {what}");
    }
}

fn sleeper(mark: Option<&str>) -> Killed {
    let mut command = Command::new("sleep");
    command.arg("60").env_remove(MARK).process_group(0);
    if let Some(mark) = mark {
        command.env(MARK, mark);
    }
    Killed(command.spawn().unwrap())
}

fn skewed(process: &Killed, journal: &Path) -> bool {
    let (_, text) = said(&["clock", &process.pid(), "--json"], journal);
    text.contains("\"replaced\":true")
}

/// Whether foreign processes may be traced here. In CI it must be so.
fn may_trace(process: &Killed, journal: &Path) -> bool {
    let (code, text) = said(&["clock", &process.pid(), "--jump", "1s"], journal);
    assert!(code == Some(0) || std::env::var_os("CI").is_none(), "CI must allow tracing: {text}");
    if code != Some(0) {
        eprintln!("SKIPPED: {text}");
        return false;
    }
    said(&["clock", &process.pid(), "--reset"], journal);
    true
}

#[test]
fn a_skew_whose_holders_are_both_killed_is_undone() {
    let journal = tempfile::tempdir().unwrap();
    let journal = journal.path();
    let (victim, other) = (sleeper(None), sleeper(None));
    if !may_trace(&victim, journal) {
        return;
    }
    let hold = |process: &Killed| {
        let mut command = duress(&["clock", &process.pid(), "--jump", "1h", "--for", "60s"], journal);
        Killed(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    };
    let (doomed, healthy) = (hold(&victim), hold(&other));
    for process in [&victim, &other] {
        eventually("the clocks are skewed", || skewed(process, journal));
    }
    let (code, text) = said(&["cleanup"], journal);
    assert_eq!((code, text.matches("is at work").count()), (Some(0), 2), "{text}");
    // Both stand still first, so that neither sees the other one go.
    let keeper = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", doomed.pid())).unwrap();
    let both = [doomed.0.id() as i32, keeper.trim().parse().unwrap()].map(Pid::from_raw);
    for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
        both.iter().for_each(|pid| kill(*pid, signal).unwrap());
    }
    drop(doomed);
    eventually("the keeper is gone", || {
        std::fs::read_to_string(format!("/proc/{}/stat", both[1])).is_ok_and(|stat| stat.contains(") Z"))
            || kill(both[1], None).is_err()
    });
    assert!(skewed(&victim, journal), "nobody was left to reset it");

    let (code, text) = said(&["cleanup", "--dry-run"], journal);
    assert!(code == Some(0) && text.contains("would undo"), "{text}");
    assert!(skewed(&victim, journal), "a dry run does nothing");
    let (code, text) = said(&["cleanup"], journal);
    let line = format!("undone:  skewed clocks (realtime) of process {}", victim.pid());
    assert!(code == Some(0) && text.contains(&line), "{text}");
    assert!(!skewed(&victim, journal));
    assert!(skewed(&other, journal), "that of a living controller stays");
    let (code, text) = said(&["cleanup"], journal);
    assert!(code == Some(0) && !text.contains("undone") && text.contains("nothing is left"), "{text}");
    drop(healthy);
    eventually("the other is true again", || !skewed(&other, journal));
}

#[test]
fn processes_of_a_dead_controller_are_ended_and_no_others() {
    let journal = tempfile::tempdir().unwrap();
    let controller = sleeper(None);
    let of_dead = Identity::of(controller.0.id()).unwrap().to_string();
    drop(controller);
    let own = Identity::own().unwrap().to_string();
    let (mut left, mut working, mut foreign) = (sleeper(Some(&of_dead)), sleeper(Some(&own)), sleeper(None));
    let (code, text) = said(&["cleanup", "--dry-run"], journal.path());
    let line = format!("process {} (sleep 60)", left.pid());
    assert!(code == Some(0) && text.contains(&format!("would undo:  {line}")), "{text}");
    assert!(left.0.try_wait().unwrap().is_none());
    let (code, text) = said(&["cleanup"], journal.path());
    assert!(code == Some(0) && text.contains(&format!("undone:  {line}")), "{text}");
    assert!(left.0.try_wait().unwrap().is_some());
    let (code, text) = said(&["cleanup"], journal.path());
    assert!(code == Some(0) && !text.contains(&line), "{text}");
    assert!(working.0.try_wait().unwrap().is_none() && foreign.0.try_wait().unwrap().is_none());
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let parent = tempfile::tempdir().unwrap();
    let precious = parent.path().join("duress-precious");
    std::fs::create_dir(&precious).unwrap();
    let journal = parent.path().join("duress");
    std::fs::DirBuilder::new().create(&journal).unwrap();
    std::fs::set_permissions(&journal, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let controller = sleeper(None);
    let dead = Identity::of(controller.0.id()).unwrap().to_string();
    drop(controller);
    let entry = |name: &str, undo: &str| {
        let text = format!("{{\"version\":1,\"controller\":\"{dead}\",\"undo\":{undo}}}");
        std::fs::write(journal.join(name), text).unwrap();
    };
    entry("a.json", &format!("{{\"cgroup\":{{\"path\":{precious:?}}}}}"));
    entry("b.json", "{\"cgroup\":{\"path\":\"/etc\"}}");
    entry("c.json", "{\"clocks\":{\"process\":\"1\",\"clocks\":[\"realtime\"]}}");
    entry("d.json", "{\"rm\":{\"path\":\"/\"}}");
    let (code, text) = said(&["cleanup"], parent.path());
    assert_eq!((code, text.matches("left alone").count()), (Some(0), 4), "{text}");
    assert!(precious.exists() && text.contains("no control group") && text.contains("doesn't bear our name"), "{text}");
    // In a directory that others can write to, nothing is believed.
    std::fs::set_permissions(&journal, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let (code, text) = said(&["cleanup"], parent.path());
    assert!(code == Some(254) && text.contains("open to others"), "{text}");
}

#[test]
fn the_doctor_says_what_it_found_for_people_and_programs() {
    let directory = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| duress(args, directory.path()).current_dir(directory.path()).output().unwrap();
    let output = run(&["doctor", "--json"]);
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(if found["ok"] == true { 0 } else { 254 }), "{found}");
    let checks = found["checks"].as_array().unwrap();
    for what in ["namespaces", "PACKET_VNET_HDR", "veth", "FUSE", "control groups", "Docker", "KVM", "clock patching"] {
        let about = |check: &&serde_json::Value| check["name"].as_str().unwrap().contains(what);
        assert!(found["ok"] == false || checks.iter().any(|check| about(&check)), "nothing on {what} in {found}");
    }
    for check in checks.iter().filter(|check| check["state"] != "ok") {
        assert!(
            check["needed_for"].as_str().unwrap().len() > 3 && check["found"].as_str().unwrap().len() > 3,
            "{check}"
        );
    }
    // Without a terminal: a line for each, and the old name is understood.
    let output = run(&["preflight"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.lines().filter(|line| !line.starts_with(' ')).count(), checks.len(), "{text}");
    assert_eq!(std::fs::read_dir(directory.path().join("duress")).map(Iterator::count).unwrap_or(0), 0);
    let files: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(files.iter().all(|name| name == "duress"), "something is left: {files:?}");
}

#[test]
fn the_doctor_knows_a_machine_that_lacks_something() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = duress(&["doctor"], directory.path());
    let few = || {
        let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?;
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, 100, hard)?;
        Ok(())
    };
    #[expect(unsafe_code, reason = "a limit of the child alone can only be set between fork and exec")]
    // SAFETY: only system calls are made there.
    unsafe {
        command.pre_exec(few)
    };
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(254), "{text}");
    assert!(text.contains("LACKING  open files: at most 100") && text.contains("ulimit -n 1024"), "{text}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("one thing is lacking"), "{output:?}");
}

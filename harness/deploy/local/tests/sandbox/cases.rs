//! The cases, as seen from outside the sandbox.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use duress_local::sandbox::{self, SandboxProcess};
use duress_seed::Seed;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// One case.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) run: fn(),
}

/// Every case.
pub(crate) const ALL: &[Case] = &[
    Case { name: "preflight_finds_all_there", run: preflight_finds_all_there },
    Case { name: "what_is_missing_is_said", run: || succeeds("missing", &[]) },
    Case { name: "root_does_without_a_user_namespace", run: || succeeds("without_user_namespace", &[]) },
    Case { name: "inside_is_a_world_of_its_own", run: || succeeds("own_world", &[]) },
    Case { name: "orphans_are_reaped_and_children_are_not_stolen", run: || succeeds("orphans", &[]) },
    Case { name: "exit_codes_come_out", run: exit_codes_come_out },
    Case { name: "an_interrupt_is_never_lost", run: an_interrupt_is_never_lost },
    Case { name: "a_dropped_sandbox_is_gone", run: a_dropped_sandbox_is_gone },
    Case { name: "hosts_reach_each_other_through_the_fabric", run: || succeeds("hosts", &[]) },
    Case { name: "a_one_way_cut_is_seen_by_the_prober", run: || succeeds("cut", &[]) },
    Case { name: "a_process_is_at_home_on_its_host", run: || with_directory("process") },
    Case { name: "a_process_is_paused_resumed_and_killed", run: || with_directory("signals") },
    Case { name: "a_process_is_slowed_by_dozing", run: || with_directory("dozes") },
    Case { name: "a_process_is_limited", run: || with_directory("limits") },
    Case { name: "what_cannot_be_started_is_said", run: || with_directory("refused") },
    Case { name: "seven_hosts_are_up_in_no_time", run: || succeeds("seven", &[]) },
    Case { name: "sigkill_at_any_moment_leaves_nothing", run: sigkill_at_any_moment_leaves_nothing },
];

pub(crate) fn find(name: &str) -> Option<&'static Case> {
    ALL.iter().find(|case| case.name == name)
}

/// In this variable of the environment, a value that only the processes of one case have.
pub(crate) const MARK: &str = "DURESS_TEST_MARK";

fn enter(what: &str, rest: &[&str]) -> SandboxProcess {
    let args: Vec<OsString> = ["inside", what].iter().chain(rest).map(Into::into).collect();
    sandbox::enter(&args).expect("a sandbox")
}

fn exit_code(what: &str, rest: &[&str]) -> i32 {
    enter(what, rest).wait().expect("a status").code().expect("an exit code")
}

fn succeeds(what: &str, rest: &[&str]) {
    assert_eq!(exit_code(what, rest), 0, "inside {what} failed");
}

fn with_directory(what: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    succeeds(what, &[directory.path().to_str().expect("a readable path")]);
}

fn preflight_finds_all_there() {
    let began = Instant::now();
    let preflight = duress_local::preflight();
    println!("measured: preflight in {:?}", began.elapsed());
    assert!(preflight.ok(), "{preflight}");
    assert_eq!(preflight.checks.len(), 11, "{preflight}");
}

fn exit_codes_come_out() {
    assert_eq!(exit_code("exit", &["42"]), 42);
    assert_eq!(exit_code("exit", &["0"]), 0);
    // By SIGKILL, which is 9.
    assert_eq!(exit_code("exit", &["killed"]), 128 + 9);
}

fn an_interrupt_is_never_lost() {
    // At once, so that it usually comes before inside has a handler for it, or is even executed.
    for _ in 0..5 {
        let sandbox = enter("wait_for_interrupt", &[]);
        sandbox.interrupt().expect("the sandbox can be signalled");
        assert_eq!(sandbox.wait().expect("a status").code(), Some(5));
        sandbox.interrupt().expect("interrupting what has ended is no error");
    }
}

fn a_dropped_sandbox_is_gone() {
    let sandbox = enter("wait_for_interrupt", &[]);
    let pid = sandbox.pid();
    assert!(fs::exists(format!("/proc/{pid}")).expect("/proc can be read"));
    drop(sandbox);
    assert!(!fs::exists(format!("/proc/{pid}")).expect("/proc can be read"));
}

/// What is started to be killed: an outside with a sandbox with hosts with processes.
pub(crate) fn victim(directory: &str) -> ExitCode {
    enter("victim", &[directory]).wait().expect("a status");
    ExitCode::FAILURE
}

fn sigkill_at_any_moment_leaves_nothing() {
    const ROUNDS: u64 = 20;
    let directory = tempfile::tempdir().expect("a directory");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    let seed = Seed(now.as_nanos() as u64);
    println!("seed {seed:?}");
    let before = traces();
    let mut until_up = Duration::ZERO;
    let mut found_alive = 0;
    // Round 0 runs until everything is up, and tells how long that takes; so do the last ones.
    for round in 0..ROUNDS {
        let mark = format!("{}-{round}", seed.0);
        let began = Instant::now();
        let outside = Command::new("/proc/self/exe")
            .args(["victim", directory.path().to_str().expect("a readable path")])
            .arg0("victim")
            .env(MARK, &mark)
            .stdout(Stdio::piped())
            .spawn();
        let mut outside = Killed(outside.expect("this program can be started"));
        if round == 0 || round >= ROUNDS - 3 {
            let said = BufReader::new(outside.0.stdout.take().expect("piped")).lines().next();
            assert_eq!(said.expect("a line").expect("text"), "up");
            until_up = until_up.max(began.elapsed());
            // Outside, init, inside, and on three hosts a process with its orphan.
            // A process in the middle of execve(2) shows no environment, so look until all do.
            loop {
                let alive = marked(&mark);
                if alive.len() >= 9 {
                    break;
                }
                assert!(began.elapsed() < Duration::from_secs(20), "only these are marked: {alive:?}");
                thread::yield_now();
            }
        } else {
            // Not a wait for anything: the moment is what is varied here.
            let moment = seed.decide(&[round]).between(Duration::ZERO, until_up + until_up / 4);
            thread::sleep(moment.saturating_sub(began.elapsed()));
        }
        found_alive += marked(&mark).len();
        drop(outside);
        let killed = Instant::now();
        loop {
            let left = marked(&mark);
            if left.is_empty() {
                break;
            }
            if killed.elapsed() > Duration::from_secs(5) {
                // By their mark they are ours; the machine is not to suffer for our bug.
                for (path, _) in &left {
                    let pid = path.trim_start_matches("/proc/").parse().expect("a process id");
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                }
                panic!("round {round}: these are left: {left:?}");
            }
            thread::yield_now();
        }
    }
    assert_eq!(traces(), before, "mounts or interfaces are left");
    println!("measured: {found_alive} processes found alive at {ROUNDS} moments, none afterwards; up in {until_up:?}");
}

/// A child that is killed by SIGKILL and reaped when dropped, by a failed assertion too.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().expect("the victim can be killed");
        self.0.wait().expect("the victim can be reaped");
    }
}

/// Mounts and interfaces, as seen from here.
fn traces() -> (BTreeSet<String>, BTreeSet<String>) {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("/proc can be read");
    let interfaces = fs::read_to_string("/proc/net/dev").expect("/proc can be read");
    let names = interfaces.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim().to_string());
    (mounts.lines().map(str::to_string).collect(), names.collect())
}

/// The processes with this mark in their environment: id and command line.
fn marked(mark: &str) -> Vec<(String, String)> {
    let wanted = format!("{MARK}={mark}");
    fs::read_dir("/proc")
        .expect("/proc can be read")
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let environment = fs::read(path.join("environ")).ok()?;
            let command = fs::read(path.join("cmdline")).unwrap_or_default();
            environment
                .split(|b| *b == 0)
                .any(|variable| variable == wanted.as_bytes())
                .then(|| (path.display().to_string(), String::from_utf8_lossy(&command).replace('\0', " ")))
        })
        .collect()
}

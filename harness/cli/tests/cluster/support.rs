//! Runs the real binary the way a user does.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// One cluster at a time: a test machine has two cores, and a starved cluster is another test.
pub(crate) fn one_at_a_time() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Whether this machine can run clusters. If not, says so loudly; where CI is set that is an error.
pub(crate) fn can_run() -> bool {
    let doctor = duress(&["doctor"]).output().unwrap();
    if doctor.status.success() {
        return true;
    }
    let why = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(std::env::var_os("CI").is_none(), "CI must be able to run clusters:\n{why}");
    eprintln!("SKIPPED: this machine can't run clusters:\n{why}");
    false
}

pub(crate) fn duress(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_duress"));
    command.args(args).current_dir(root()).stdin(Stdio::null());
    command
}

/// Runs to the end; a run that takes longer than `bound` is killed and fails the test.
pub(crate) fn finish(mut command: Command, bound: Duration) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let (done, waiting) = std::sync::mpsc::channel();
    let waiter = std::thread::spawn(move || {
        let output = child.wait_with_output().unwrap();
        let _ = done.send(());
        output
    });
    if waiting.recv_timeout(bound).is_err() {
        kill(pid, nix::sys::signal::Signal::SIGKILL);
        panic!("{command:?} did not end within {bound:?}");
    }
    waiter.join().unwrap()
}

pub(crate) fn kill(pid: u32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), signal).unwrap();
}

/// Waits until `condition` holds; says what was last seen when it does not come to hold.
pub(crate) fn eventually<T: std::fmt::Debug>(
    bound: Duration,
    mut look: impl FnMut() -> T,
    good: impl Fn(&T) -> bool,
) -> T {
    let deadline = Instant::now() + bound;
    loop {
        let seen = look();
        if good(&seen) {
            return seen;
        }
        assert!(Instant::now() < deadline, "still not so after {bound:?}; last seen: {seen:?}");
        std::thread::yield_now();
    }
}

/// Processes that carry this mark in their environment.
pub(crate) fn marked(mark: &str) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment.windows(mark.len()).any(|window| window == mark.as_bytes()) {
            found.push(pid);
        }
    }
    found
}

/// Mounts and interfaces of this machine, to be compared before and after.
pub(crate) fn machine() -> (String, Vec<String>) {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let mut interfaces: Vec<String> = std::fs::read_dir("/sys/class/net")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    interfaces.sort();
    (mounts, interfaces)
}

/// A run in progress; killed when the test ends before it does.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a run.
pub(crate) fn start(command: &mut Command) -> Running {
    Running(command.spawn().unwrap())
}

/// Waits for a run with a bound.
pub(crate) fn reap(run: &mut Running, bound: Duration) -> std::process::ExitStatus {
    eventually(bound, || run.0.try_wait().unwrap(), Option::is_some).unwrap()
}

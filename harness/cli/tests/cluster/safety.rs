//! A controller that dies takes its cluster and its faults with it, whenever it dies.

use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use duress_fault::Kind;
use duress_seed::Seed;
use nix::sys::signal::Signal;

use super::kinds::{all, scripted};
use super::support::*;

/// How many runs are killed, and how many at a time.
const RUNS: u64 = 100;
const AT_A_TIME: u64 = 4;
/// How many faults each has.
const FAULTS: u64 = 4;
/// A run is killed before it has lasted so long.
const LATEST: Duration = Duration::from_millis(1600);

/// Four kinds of faults that come soon and stay long: every kind has its turns.
fn faults(kinds: &[Kind], seed: Seed, run: u64) -> Vec<Kind> {
    let first = seed.decide(&[run / kinds.len() as u64, 0]).below(kinds.len() as u64);
    let step = 1 + seed.decide(&[run / kinds.len() as u64, 1]).below(kinds.len() as u64 / FAULTS - 1);
    (0..FAULTS).map(|number| kinds[((run + first + number * step) % kinds.len() as u64) as usize]).collect()
}

/// A run with these faults, killed at a moment; whether it got as far as a fault in force.
fn killed(directory: &Path, kinds: &[Kind], seed: Seed, run: u64) -> bool {
    let mark = format!("DURESS_TEST_MARK=kill-{}-{run}", std::process::id());
    let (name, value) = mark.split_once('=').unwrap();
    let kinds = faults(kinds, seed, run);
    let at = |number: usize| format!("at: {}ms, lasts: 10s", 20 + 30 * number);
    let faults: Vec<String> =
        kinds.iter().enumerate().map(|(number, kind)| format!("{{{}, {}}}", at(number), scripted(*kind))).collect();
    let faults = format!("faults=[{}]", faults.join(", "));
    let out = directory.join(run.to_string());
    let mut command = duress(&["run", "--nodes", "3", "--rate", "200", "--time", "20s", "--set", &faults]);
    command.arg("--out").arg(&out).env(name, value).env("XDG_RUNTIME_DIR", directory.join("runtime"));
    command.env("TMPDIR", directory.join("temporary"));
    let mut child = start(command.stdout(Stdio::null()).stderr(Stdio::null()));
    let moment = seed.decide(&[run, 2]).between(Duration::ZERO, LATEST);
    let started = Instant::now();
    std::thread::sleep(moment.saturating_sub(started.elapsed()));
    kill(child.0.id(), Signal::SIGKILL);
    reap(&mut child, Duration::from_secs(5));
    eventually(Duration::from_secs(10), || marked(&mark), Vec::is_empty);

    // What it left can be read, and is judged for what it is: cut short.
    let latest = out.join("paxos-register/latest");
    let Ok(history) = std::fs::read_to_string(latest.join("history.jsonl")) else { return false };
    let check = finish(duress(&["check", latest.to_str().unwrap()]), Duration::from_secs(60));
    let said = format!("{}{}", String::from_utf8_lossy(&check.stdout), String::from_utf8_lossy(&check.stderr));
    // A disk that lies about its syncs may have made a cluster lose data by then.
    let broken = kinds.contains(&Kind::SyncLies) && check.status.code() == Some(1);
    assert!(check.status.code() == Some(2) || broken, "{kinds:?}, killed after {moment:?}: {said}");
    history.contains("\"evidence\"")
}

/// Control groups of ours.
fn cgroups(under: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(under).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if entry.file_name().to_str().is_some_and(|name| name.starts_with("duress-")) {
                found.push(entry.path());
            }
            found.extend(cgroups(&entry.path()));
        }
    }
    found
}

#[test]
fn a_kill_at_any_moment_leaves_nothing_behind() {
    let _alone = one_at_a_time();
    if !can_run() {
        return;
    }
    let before = machine();
    let out = tempfile::tempdir().unwrap();
    for directory in ["runtime", "temporary"] {
        std::fs::create_dir(out.path().join(directory)).unwrap();
    }
    let seed = Seed(std::process::id().into());
    println!("seed of the moments and faults: {}", seed.0);
    let kinds = all();
    let (next, hurt) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let run = next.fetch_add(1, Ordering::Relaxed);
                    if run >= RUNS {
                        return;
                    }
                    hurt.fetch_add(u64::from(killed(out.path(), &kinds, seed, run)), Ordering::Relaxed);
                }
            });
        }
    });
    let hurt = hurt.into_inner();
    assert!(hurt >= RUNS / 2, "only {hurt} of {RUNS} runs were killed during a fault");
    // No mount, no interface, no control group, no file outside the run's directory.
    assert_eq!(machine(), before);
    assert_eq!(cgroups(Path::new("/sys/fs/cgroup")), Vec::<std::path::PathBuf>::new());
    for directory in ["runtime", "temporary"] {
        let left: Vec<_> = std::fs::read_dir(out.path().join(directory)).unwrap().map(|e| e.unwrap().path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
    let cleanup = finish(duress(&["cleanup", "--dry-run"]), Duration::from_secs(20));
    let said = String::from_utf8_lossy(&cleanup.stdout);
    assert!(cleanup.status.success() && !said.contains("would undo:  process"), "{said}");
    // The next run is as if nothing had been.
    let mut command = duress(&["run", "--nodes", "3", "--time", "2s", "--faults", "none"]);
    command.arg("--out").arg(out.path().join("next"));
    let output = finish(command, Duration::from_secs(60));
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
}

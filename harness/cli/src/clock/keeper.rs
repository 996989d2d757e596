//! Skews that end for certain: the clocks are held by a second process, and each of the two
//! resets them when the other one is killed. If both are, the undo journal knows of them.

use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use duress_clock::{Change, Clock, ClockError, read, skew};
use duress_local::{Identity, MARK};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{ClockArgs, failure, show};
use crate::exit::Failure;
use crate::journal::{Journal, Noted, Undo};

/// How often the descendants of a process are looked for.
const LOOK: Duration = Duration::from_millis(20);
/// How often the process itself is looked for without descendants: whether it executes another
/// program. Also the longest that is waited at a time.
const GLANCE: Duration = Duration::from_millis(500);

/// Has a second process hold the clocks, and waits for its end.
pub(super) fn employ(args: &ClockArgs) -> Result<ExitCode, Failure> {
    let failed = |e| Failure::infrastructure("can't start the process that holds the clocks", e);
    // In a process group of its own, so that what interrupts this one from a terminal spares it.
    let mut keeper = Command::new("/proc/self/exe")
        .args(std::env::args_os().skip(1))
        .arg("--kept")
        .stdin(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    // It lives as long as this end of the pipe is open, and `wait` would close it.
    let lifeline = keeper.stdin.take();
    let status = keeper.wait().map_err(failed)?;
    drop(lifeline);
    if let Some(code) = status.code() {
        return Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)));
    }
    for pid in args.processes() {
        reset(args, pid)?;
    }
    let killed = std::io::Error::other(format!("it ended early ({status}); the clocks are reset"));
    Err(Failure::infrastructure("the process that held the clocks was killed", killed))
}

/// Skews, and holds the skew for a time if there is one, or until the lifeline breaks.
pub(super) fn hold(args: &ClockArgs, change: Change, lasts: Option<Duration>) -> Result<ExitCode, Failure> {
    let changes = args.changes(change);
    let mut skewed: Vec<i32> = Vec::new();
    let mut noted: Vec<Noted> = Vec::new();
    let mut skew_new = |first: bool| -> Result<(), Failure> {
        for pid in args.processes() {
            // One that has executed another program has true clocks again.
            let stale = skewed.contains(&pid) && read(pid).is_ok_and(|state| !state.replaced);
            if skewed.contains(&pid) && !(stale && change != Change::Reset) {
                continue;
            }
            if lasts.is_some() && !stale {
                noted.extend(note(args, pid)?);
            }
            match skew(pid, &changes) {
                Ok(state) => show(args, pid, &state),
                // A descendant may end at any time.
                Err(ClockError::Gone(gone)) if gone != args.pid => continue,
                Err(error) if first => return Err(failure(error)),
                Err(_) => continue,
            }
            if !stale {
                skewed.push(pid);
            }
        }
        Ok(())
    };
    let begun = skew_new(true);
    let Some(lasts) = lasts else { return begun.map(|()| ExitCode::SUCCESS) };
    let until = Instant::now() + lasts;
    let pause = if args.tree { LOOK } else { GLANCE };
    while begun.is_ok() && Instant::now() < until {
        if broken(pause.min(until.saturating_duration_since(Instant::now()))) {
            break;
        }
        skew_new(false)?;
    }
    // All of them, whatever becomes of one.
    let ended: Vec<_> = skewed.into_iter().map(|pid| reset(args, pid)).collect();
    let ended = ended.into_iter().fold(Ok(()), Result::and);
    if ended.is_ok() {
        let struck = |noted: Noted| noted.undone().map_err(|e| Failure::infrastructure("can't strike out an entry", e));
        noted.into_iter().map(struck).fold(Ok(()), Result::and)?;
    }
    begun.and(ended).map(|()| ExitCode::SUCCESS)
}

/// Notes a skew before it comes into force. In a sandbox there is no need: the process doesn't
/// outlive it.
fn note(args: &ClockArgs, pid: i32) -> Result<Option<Noted>, Failure> {
    if std::env::var_os(MARK).is_some() {
        return Ok(None);
    }
    // One that is gone is reported by whoever tries to skew it.
    let Ok(process) = Identity::of(pid.unsigned_abs()) else { return Ok(None) };
    let clocks = args.clocks.iter().map(|which| Clock::from(*which).to_string()).collect();
    let journal = Journal::of_this_user();
    let noted = journal.note(Undo::Clocks { process: process.to_string(), clocks });
    let refused = |e| Failure::infrastructure(&format!("can't note the skew in {}", journal.directory().display()), e);
    noted.map(Some).map_err(refused)
}

/// Waits; true if whoever started this process is gone.
fn broken(within: Duration) -> bool {
    let milliseconds = u16::try_from(within.as_millis().max(1)).unwrap_or(u16::MAX);
    let stdin = std::io::stdin();
    let mut lifeline = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    // Nothing is ever said on it: that it can be read means that it has ended.
    poll(&mut lifeline, PollTimeout::from(milliseconds)).is_ok_and(|ready| ready > 0)
}

fn reset(args: &ClockArgs, pid: i32) -> Result<(), Failure> {
    match skew(pid, &args.changes(Change::Reset)) {
        Ok(state) => show(args, pid, &state),
        Err(ClockError::Gone(_)) => {}
        Err(error) => return Err(failure(error)),
    }
    Ok(())
}

//! `duress cleanup`: undoes what controllers that are gone have left on this machine. Only what is
//! this user's and bears our name is touched, and it may be run as often as one likes.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use duress_clock::{Change, Clock, ClockError, read, skew};
use duress_local::{Identity, Life, leftovers};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use crate::exit::Failure;
use crate::journal::{Entry, Journal, Undo};

pub(crate) const EXAMPLES: &str = "\
Examples:
  duress cleanup --dry-run    say what is left, and leave it
  duress cleanup              undo it

A run needs no cleaning up after: it ends with its sandbox, whatever kills it. What this undoes is
what reaches beyond one: clocks of foreign processes that `duress clock --for` skewed before it was
killed, and whatever else the undo journal holds; and processes that carry the mark of a controller
that is gone, should there ever be any.

Exit codes: 0 nothing is left; 254 something could not be undone.";

#[derive(Debug, Args)]
pub(crate) struct CleanupArgs {
    /// Say what would be undone, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// What became of one thing that was found.
enum Outcome {
    Undone,
    /// There was nothing left to undo, for this reason.
    Over(String),
    /// It isn't ours to undo now, for this reason.
    Left(String),
    Failed(String),
}

#[derive(Default)]
struct Tally {
    undone: usize,
    over: usize,
    failed: usize,
}

pub(crate) fn run(args: &CleanupArgs) -> Result<ExitCode, Failure> {
    let journal = Journal::of_this_user();
    let mut tally = Tally::default();
    processes(args.dry_run, &mut tally).map_err(|e| Failure::infrastructure("can't look for processes", e))?;
    let unreadable =
        |e| Failure::infrastructure(&format!("can't read the journal {}", journal.directory().display()), e);
    for found in journal.entries().map_err(unreadable)? {
        let (what, outcome) = match &found.entry {
            Ok(entry) => (describe(&entry.undo), undo(entry, args.dry_run)),
            Err(why) => (format!("the entry {}", found.path.display()), Outcome::Left(why.clone())),
        };
        let over = matches!(outcome, Outcome::Undone | Outcome::Over(_));
        tally.tell(&what, outcome, args.dry_run);
        if over && !args.dry_run {
            found.noted().undone().map_err(|e| Failure::infrastructure("can't strike out an entry", e))?;
        }
    }
    if tally.failed > 0 {
        return Err(Failure::Infrastructure(format!("{} could not be undone", tally.failed)));
    }
    if tally.undone + tally.over == 0 {
        println!("nothing is left behind");
    }
    Ok(ExitCode::SUCCESS)
}

impl Tally {
    fn tell(&mut self, what: &str, outcome: Outcome, dry: bool) {
        match outcome {
            Outcome::Undone => {
                self.undone += 1;
                println!("{} {what}", if dry { "would undo: " } else { "undone: " });
            }
            Outcome::Over(why) => {
                self.over += 1;
                println!("over already: {what}: {why}");
            }
            Outcome::Left(why) => println!("left alone: {what}: {why}"),
            Outcome::Failed(why) => {
                self.failed += 1;
                println!("FAILED: {what}: {why}");
            }
        }
    }
}

/// Ends processes of sandboxes whose controller is gone.
fn processes(dry: bool, tally: &mut Tally) -> io::Result<()> {
    for leftover in leftovers()? {
        let (pid, command, controller) = (leftover.pid, &leftover.command, leftover.controller.pid());
        let what = format!("process {pid} ({command}), which controller {controller} started");
        let ended = if dry { Ok(()) } else { leftover.end() };
        tally.tell(&what, ended.map_or_else(|e| Outcome::Failed(e.to_string()), |()| Outcome::Undone), dry);
    }
    Ok(())
}

fn describe(undo: &Undo) -> String {
    match undo {
        Undo::Clocks { process, clocks } => {
            let pid = process.split('.').next().unwrap_or_default();
            format!("skewed clocks ({}) of process {pid}", clocks.join(", "))
        }
        Undo::Cgroup { path } => format!("control group {}", path.display()),
    }
}

/// The life of the process that a text names, or what hinders knowing it.
fn life(of: &str) -> Result<(Identity, Life), Outcome> {
    let identity: Identity = of.parse().map_err(Outcome::Left)?;
    let life = identity.life().map_err(|e| Outcome::Failed(e.to_string()))?;
    Ok((identity, life))
}

fn undo(entry: &Entry, dry: bool) -> Outcome {
    match life(&entry.controller) {
        Err(outcome) => return outcome,
        Ok((controller, Life::Alive)) => {
            return Outcome::Left(format!("its controller, process {}, is at work", controller.pid()));
        }
        Ok((_, Life::Elsewhere)) => {
            return Outcome::Left("its controller is in another PID namespace; run this there".into());
        }
        Ok((_, Life::Over)) => {}
    }
    match &entry.undo {
        Undo::Clocks { process, clocks } => reset_clocks(process, clocks, dry),
        Undo::Cgroup { path } => remove_cgroup(path, dry),
    }
}

fn reset_clocks(process: &str, clocks: &[String], dry: bool) -> Outcome {
    let identity = match life(process) {
        Ok((identity, Life::Alive)) => identity,
        Ok((_, Life::Over)) => return Outcome::Over("the process has ended".into()),
        Ok((_, Life::Elsewhere)) => return Outcome::Left("the process is in another PID namespace".into()),
        Err(outcome) => return outcome,
    };
    let known = |name: &String| Clock::ALL.into_iter().find(|clock| clock.to_string() == *name);
    let Some(clocks) = clocks.iter().map(known).collect::<Option<Vec<_>>>() else {
        return Outcome::Left("it names a clock that is unknown here".into());
    };
    let state = match read(identity.pid() as i32) {
        Ok(state) => state,
        Err(ClockError::Gone(_)) => return Outcome::Over("the process has ended".into()),
        Err(e) => return Outcome::Failed(e.to_string()),
    };
    if !clocks.iter().any(|clock| state.of(*clock).skewed) {
        return Outcome::Over("they tell the true time".into());
    }
    if dry {
        return Outcome::Undone;
    }
    let changes: Vec<_> = clocks.into_iter().map(|clock| (clock, Change::Reset)).collect();
    match skew(identity.pid() as i32, &changes) {
        Ok(_) => Outcome::Undone,
        Err(ClockError::Gone(_)) => Outcome::Over("the process has ended".into()),
        Err(e) => Outcome::Failed(e.to_string()),
    }
}

fn remove_cgroup(path: &Path, dry: bool) -> Outcome {
    let ours = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("duress-"));
    if !ours || path.components().any(|part| part.as_os_str() == "..") {
        return Outcome::Left("it doesn't bear our name".into());
    }
    match statfs(path) {
        Err(nix::errno::Errno::ENOENT) => return Outcome::Over("it is gone".into()),
        Err(e) => return Outcome::Failed(e.to_string()),
        Ok(found) if found.filesystem_type() != CGROUP2_SUPER_MAGIC => {
            return Outcome::Left("it is no control group".into());
        }
        Ok(_) if dry => return Outcome::Undone,
        Ok(_) => {}
    }
    // An empty one can be removed, and only by who may.
    match std::fs::remove_dir(path) {
        Ok(()) => Outcome::Undone,
        Err(e) => Outcome::Failed(e.to_string()),
    }
}

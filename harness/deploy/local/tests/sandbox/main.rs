//! The local back end on the real kernel: real namespaces, interfaces, processes and signals.
//!
//! A program of its own rather than libtest's, because a sandbox needs a single-threaded start.
//! Each case is a process, so that it can't disturb the next, and runs as the user who started
//! the tests; if that is root, once more as nobody.

mod cases;
mod inside;
mod node;

use std::env;
use std::io::{Read, Seek};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use duress_trials::Case;
use nix::unistd::{alarm, geteuid};

/// The user that owns nothing, by convention (user_namespaces(7)).
const NOBODY: u32 = 65534;
/// A case that hasn't ended after so many seconds is killed, and its sandbox with it.
const BOUND: u32 = 60;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["case", name] => {
            alarm::set(BOUND);
            (cases::find(name).expect("a case by that name").run)();
            ExitCode::SUCCESS
        }
        ["missing"] => {
            print!("{}", duress_local::preflight());
            ExitCode::from(u8::from(!duress_local::preflight().ok()))
        }
        ["inside", what, rest @ ..] => inside::main(what, rest),
        ["node", what] => node::main(what),
        ["victim", path] => cases::victim(path),
        _ => run_all(),
    }
}

fn run_all() -> ExitCode {
    let users: &[(&str, Option<u32>)] =
        if geteuid().is_root() { &[("", None), ("::as_nobody", Some(NOBODY))] } else { &[("", None)] };
    let mut trials = Vec::new();
    for &(suffix, user) in users {
        let missing = missing(user).map(|what| {
            let who = user.map_or("this user", |_| "nobody");
            format!("what runs as {who} needs more than there is here:\n{what}")
        });
        for case in cases::ALL {
            let run = move || {
                let (status, said) = run_one(case.name, user);
                if !status.success() {
                    return Err(format!("{status}\n{said}"));
                }
                // What was measured is worth seeing.
                said.lines().filter(|line| line.starts_with("measured: ")).for_each(|line| println!("     {line}"));
                Ok(())
            };
            trials.push(Case::new(format!("{}{suffix}", case.name), run).lacking(missing.clone()));
        }
    }
    duress_trials::run_cases(trials)
}

/// Runs a case: its status and what it said. A file takes that down, not a pipe, whose end would
/// have to wait for every process that a failed case leaves behind.
fn run_one(case: &str, user: Option<u32>) -> (ExitStatus, String) {
    let mut said = tempfile::tempfile().expect("a file");
    let copy = || said.try_clone().expect("a file can be opened twice");
    let mut command = this_program(&["case", case], user);
    let status = command.stdin(Stdio::null()).stdout(copy()).stderr(copy()).status();
    let mut text = Vec::new();
    said.rewind().and_then(|()| said.read_to_end(&mut text)).expect("what was said can be read");
    (status.expect("this program can be started"), String::from_utf8_lossy(&text).into_owned())
}

/// What that user would miss on this machine, in the preflight's words.
fn missing(user: Option<u32>) -> Option<String> {
    let output = this_program(&["missing"], user).output().expect("this program can be started");
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn this_program(args: &[&str], user: Option<u32>) -> Command {
    // Nobody may not be allowed to look into the directory where the program is; by this name it
    // need not be looked up.
    let mut command = Command::new("/proc/self/exe");
    command.args(args).current_dir("/");
    if let Some(id) = user {
        command.uid(id).gid(id);
    }
    command
}

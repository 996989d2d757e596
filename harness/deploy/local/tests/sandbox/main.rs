//! The local back end on the real kernel: real namespaces, interfaces, processes and signals.
//!
//! A program of its own rather than libtest's, because a sandbox needs a single-threaded start.
//! Each case is a process, so that it can't disturb the next, and runs as the user who started
//! the tests; if that is root, once more as nobody. Output and filter are those of libtest.

mod cases;
mod inside;
mod node;

use std::env;
use std::io::{Read, Seek};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::Instant;

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
        options => run_all(options),
    }
}

fn run_all(options: &[&str]) -> ExitCode {
    let filter = options.iter().find(|option| !option.starts_with('-')).copied().unwrap_or("");
    let users: &[(&str, Option<u32>)] =
        if geteuid().is_root() { &[("", None), ("::as_nobody", Some(NOBODY))] } else { &[("", None)] };
    let wanted: Vec<_> = users
        .iter()
        .flat_map(|(suffix, user)| cases::ALL.iter().map(move |case| (case, format!("{}{suffix}", case.name), *user)))
        .filter(|(_, full_name, _)| full_name.contains(filter))
        .collect();
    if options.contains(&"--list") {
        wanted.iter().for_each(|(_, full_name, _)| println!("{full_name}: test"));
        return ExitCode::SUCCESS;
    }

    println!("\nrunning {} tests", wanted.len());
    let missing: Vec<_> = users.iter().filter_map(|(_, user)| Some((*user, missing(*user)?))).collect();
    for (user, what) in &missing {
        println!(
            "SKIPPED: what runs as {} needs more than there is here:\n{what}",
            user.map_or("this user", |_| "nobody")
        );
    }
    let began = Instant::now();
    let (mut passed, mut failed, mut ignored) = (0, Vec::new(), 0);
    for (case, full_name, user) in wanted {
        if let Some((_, missing)) = missing.iter().find(|(who, _)| *who == user) {
            if env::var_os("CI").is_some() {
                println!("test {full_name} ... FAILED");
                failed.push((full_name, format!("this machine lacks something:\n{missing}")));
            } else {
                println!("test {full_name} ... ignored, SKIPPED: see above what is missing");
                ignored += 1;
            }
            continue;
        }
        let (status, said) = run_one(case.name, user);
        if status.success() {
            passed += 1;
            println!("test {full_name} ... ok");
            // What was measured is worth seeing.
            said.lines().filter(|line| line.starts_with("measured: ")).for_each(|line| println!("     {line}"));
        } else {
            println!("test {full_name} ... FAILED");
            failed.push((full_name, format!("{status}\n{said}")));
        }
    }
    for (name, why) in &failed {
        println!("\n---- {name} ----\n{why}");
    }
    let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {passed} passed; {} failed; {ignored} ignored; 0 measured; 0 filtered out; \
         finished in {:.2}s\n",
        failed.len(),
        began.elapsed().as_secs_f64()
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(101) }
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

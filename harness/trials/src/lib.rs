//! Tests that need a `main` of their own, run as the standard test harness would run them.
//!
//! Namespaces can only be entered by a process with one thread, so tests of real networks, mounts
//! and sandboxes can't be libtest's. This runs them one after the other on the main thread, takes
//! libtest's arguments (filter, `--exact`, `--list`, …) and prints as it does.
//!
//! What a machine lacks is said aloud, and its tests count as ignored; where `CI` is set they fail,
//! so that nothing is skipped unseen. This crate knows nothing of what is tested.

use std::collections::BTreeMap;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Conclusion, Failed, Trial};

/// One test.
pub struct Case {
    name: String,
    lacking: Option<String>,
    run: Box<dyn FnOnce() -> Result<(), String> + Send>,
}

impl Case {
    /// A test that fails with a message, or by a panic.
    pub fn new(name: impl Into<String>, run: impl FnOnce() -> Result<(), String> + Send + 'static) -> Case {
        Case { name: name.into(), lacking: None, run: Box::new(run) }
    }

    /// Says what this machine lacks for the test, if anything.
    #[must_use]
    pub fn lacking(mut self, what: Option<String>) -> Case {
        self.lacking = what;
        self
    }
}

/// Runs those of the named tests that the command line chooses. To be called by the main thread of
/// a process that has no other. `usable` prepares what all of them need, and says what is lacking
/// if it can't.
pub fn run(tests: &[(&'static str, fn())], usable: impl FnOnce() -> Result<(), String>) -> ExitCode {
    let arguments = Arguments::from_args();
    let lacking = if arguments.list { None } else { usable().err() };
    let case = |(name, test): &(&'static str, fn())| {
        let test = *test;
        let run = move || {
            test();
            Ok(())
        };
        Case::new(*name, run).lacking(lacking.clone())
    };
    conclude(arguments, required(), tests.iter().map(case).collect()).exit_code()
}

/// As [`run`], for tests of which each may lack something else.
pub fn run_cases(cases: Vec<Case>) -> ExitCode {
    conclude(Arguments::from_args(), required(), cases).exit_code()
}

/// Whether a machine that lacks something fails.
fn required() -> bool {
    std::env::var_os("CI").is_some()
}

fn conclude(mut arguments: Arguments, required: bool, cases: Vec<Case>) -> Conclusion {
    arguments.test_threads = Some(1);
    let mut lacking: BTreeMap<String, usize> = BTreeMap::new();
    let mut trials = Vec::new();
    for Case { name, lacking: lacks, run } in cases {
        let Some(reason) = lacks else {
            trials.push(Trial::test(name, || run().map_err(Failed::from)));
            continue;
        };
        *lacking.entry(reason.clone()).or_default() += 1;
        let fails = move || Err(Failed::from(format!("this machine lacks something: {reason}")));
        trials.push(Trial::test(name, fails).with_ignored_flag(!required));
    }
    if !required && !arguments.list {
        for (reason, count) in lacking {
            eprintln!("SKIPPED: {count} tests can't run on this machine: {reason}");
        }
    }
    libtest_mimic::run(&arguments, trials)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cases() -> Vec<Case> {
        vec![
            Case::new("passes", || Ok(())),
            Case::new("fails", || Err("as it should".to_owned())),
            Case::new("panics", || panic!("as it should")),
            Case::new("passes::elsewhere", || Ok(())).lacking(Some("no such thing here".to_owned())),
        ]
    }

    fn counts(required: bool, filter: &[&str]) -> [u64; 4] {
        let arguments = Arguments::from_iter(["test"].iter().chain(filter));
        let ended = conclude(arguments, required, cases());
        [ended.num_passed, ended.num_failed, ended.num_ignored, ended.num_filtered_out]
    }

    #[test]
    fn what_a_machine_lacks_is_ignored_and_fails_where_nothing_may_be_skipped() {
        assert_eq!(counts(false, &[]), [1, 2, 1, 0]);
        assert_eq!(counts(true, &[]), [1, 3, 0, 0]);
    }

    #[test]
    fn the_arguments_are_those_of_the_standard_harness() {
        assert_eq!(counts(false, &["passes"]), [1, 0, 1, 2]);
        assert_eq!(counts(false, &["passes", "--exact"]), [1, 0, 0, 3]);
        assert_eq!(counts(false, &["--skip", "passes"]), [0, 2, 0, 2]);
        assert_eq!(counts(false, &["nothing"]), [0, 0, 0, 4]);
    }

    #[test]
    fn tests_run_on_the_main_thread() {
        let here = std::thread::current().id();
        let case = Case::new("here", move || {
            if std::thread::current().id() == here { Ok(()) } else { Err("on another thread".to_owned()) }
        });
        assert!(!conclude(Arguments::from_iter(["test"]), true, vec![case]).has_failed());
    }
}

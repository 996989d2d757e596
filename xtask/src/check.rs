//! Exactly what CI checks.

use std::path::Path;

use clap::ValueEnum;

use crate::cargo;

/// One of the checks, in the order in which they are made.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Step {
    /// The format of all source files
    Fmt,
    /// Lints: a warning is an error
    Clippy,
    /// All tests, on real clusters too
    Test,
}

impl Step {
    fn command(self) -> &'static [&'static str] {
        match self {
            Step::Fmt => &["fmt", "--all", "--check"],
            Step::Clippy => &["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"],
            Step::Test => &["test", "--workspace", "--no-fail-fast"],
        }
    }
}

pub(crate) fn run(root: &Path, steps: &[Step]) -> Result<(), String> {
    steps.iter().try_for_each(|step| run_one(root, *step))
}

fn run_one(root: &Path, step: Step) -> Result<(), String> {
    crate::run(cargo(root, step.command()))
}

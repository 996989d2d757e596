//! What developers and CI run: `cargo xtask check`, `cargo xtask docs`, `cargo xtask new`.
//!
//! It uses no other crate of ours, so that it builds when they don't.

mod check;
mod create;
mod docs;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand, ValueEnum};

use create::Kind;

/// The tasks of this repository.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Everything that CI checks: format, lints, all tests
    Check {
        /// Only these, in this order
        #[arg(value_enum)]
        only: Vec<check::Step>,
    },
    /// Writes the generated parts of the documents
    Docs {
        /// Changes nothing; fails if one of them is stale
        #[arg(long)]
        check: bool,
    },
    /// Makes a new folder from the templates, and adds it to the list
    New {
        /// What it is to be
        #[arg(value_enum)]
        kind: Kind,
        /// Its name, in lower case, with hyphens between words
        name: String,
    },
}

fn main() -> ExitCode {
    let root = root();
    let done = match Arguments::parse().task {
        Task::Check { only } if only.is_empty() => check::run(&root, check::Step::value_variants()),
        Task::Check { only } => check::run(&root, &only),
        Task::Docs { check } => docs::run(&root, check),
        Task::New { kind, name } => create::create(&root, kind, &name).map(|created| print!("{created}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("xtask: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// The top of the tree: that of the manifest that cargo has read, so that a copy of the tree works on
/// itself.
fn root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&manifest).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// A command of this cargo, at the top of the tree.
fn cargo(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root);
    command
}

/// Runs a command and shows what it does.
fn run(mut command: Command) -> Result<(), String> {
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    let shown = format!("cargo {}", words.join(" "));
    println!("$ {shown}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{shown}` failed: {status}")),
        Err(error) => Err(format!("can't run `{shown}`: {error}")),
    }
}

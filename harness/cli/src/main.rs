//! The `duress` binary: the one place that names everything.
//!
//! - [`schedule`] shows a scenario's faults before anything runs.
//! - [`run`] and [`inside`] are the two halves of `duress run`: outside and inside the sandbox.
//! - [`options`] turns the command line into a scenario, [`assemble`] a scenario into something
//!   that can be run and judged, [`judge`] a stored run into a verdict.
//! - [`plugs`] lists the targets; [`machines`] makes those whose nodes are machines targets of the
//!   real world, [`simulated`] of the simulated one.
//! - [`model`] explores every state of a tiny cluster.
//! - [`conform`] plays [`script`]s in both worlds and compares.
//! - [`check`] judges anybody's history, [`convert`] and [`generate`] make histories.
//! - [`clock`] skews the clocks of any process.
//! - [`doctor`] says what the machine can do; [`cleanup`] undoes what dead controllers left, by the
//!   undo [`journal`].
//! - [`onlooker`] follows a run and ends it when a violation shows.
//! - [`hunt`] runs many seeds in the simulator, [`replay`] repeats what was found.

mod args;
mod assemble;
mod backends;
mod check;
mod cleanup;
mod clock;
mod conform;
mod convert;
mod doctor;
mod exit;
mod generate;
mod hunt;
mod inside;
mod internal;
mod journal;
mod judge;
mod list;
mod machines;
mod model;
mod onlooker;
mod options;
mod plugs;
mod replay;
mod run;
mod rundir;
mod schedule;
mod script;
mod simulated;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; everything else is a usage error: 255, not clap's 2,
            // which means "unknown" here.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 255 } else { 0 });
        }
    };
    let result = match &cli.command {
        Command::Run(args) if args.world == backends::SIM => simulated::run(args),
        Command::Run(args) => run::run(args),
        Command::Hunt(args) => hunt::hunt(args),
        Command::Schedule(args) => schedule::schedule(args),
        Command::Replay(args) => replay::replay(args),
        Command::Model(args) => model::model(args),
        Command::Conform(args) => conform::conform(args),
        Command::Check(args) => check::check(args),
        Command::Convert(args) => convert::convert(args),
        Command::Generate(args) => generate::generate(args),
        Command::Clock(args) => clock::run(args),
        Command::List(args) => list::list(args),
        Command::Doctor(args) => doctor::doctor(args),
        Command::Cleanup(args) => cleanup::run(args),
        Command::TellTime => internal::tell_time(),
        Command::Node(args) => internal::node(args),
        Command::Client(args) => internal::client(args),
        Command::Inside(args) => inside::inside(args),
    };
    result.unwrap_or_else(|failure| {
        eprintln!("duress: {failure}");
        failure.code()
    })
}

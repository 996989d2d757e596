//! `duress generate`: labelled histories from a seed.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use duress_checkers::generate::{self, Label, Request};
use duress_history::formats::{Format, write};
use duress_seed::Seed;

use crate::check::input::{Named, format};
use crate::convert;
use crate::exit::Failure;

pub(crate) const EXAMPLES: &str = "\
Examples:
  duress generate --model cas-register --ops 1000 --values 5 -o h.edn
  duress generate --model queue --anomaly duplicate --seed 7 --format json | duress check -
  duress generate --model kv --keys 10 --clients 50 --indeterminate 1% --format porcupine
  duress generate --list-anomalies

A history is a function of the seed and the options. It is valid by construction, or has the anomaly
that was asked for; the label on standard error says what a checker must find.";

#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// Whose operations they are
    #[arg(long, value_name = "MODEL", default_value = "cas-register")]
    model: String,
    /// How many operations
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    ops: u32,
    /// How many clients
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    clients: u32,
    /// How many keys
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    keys: u32,
    /// How many different values there are, or unique
    #[arg(long, value_name = "N", default_value = "unique", value_parser = values)]
    values: Values,
    /// The share of operations of which nobody learns whether they happened, such as 1%
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = share)]
    indeterminate: f64,
    /// The share of operations that fail
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = share)]
    failed: f64,
    /// What is to be wrong with it: --list-anomalies
    #[arg(long, value_name = "NAME")]
    anomaly: Option<String>,
    /// Fixes the history [default: a new one, printed]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How it is written: edn, json, jsonl, porcupine, jepsen-log or history-text [default: edn, or
    /// by the file's ending]
    #[arg(long, value_name = "FORMAT", value_parser = format)]
    format: Option<Named<Option<Format>>>,
    /// The file to be written [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Show what can be wrong with each model's histories
    #[arg(long)]
    list_anomalies: bool,
}

/// How many values there are; `None`: each is used once.
#[derive(Clone, Copy, Debug)]
struct Values(Option<u32>);

fn values(text: &str) -> Result<Values, String> {
    match text {
        "unique" => Ok(Values(None)),
        number => match number.parse() {
            Ok(n) if n > 0 => Ok(Values(Some(n))),
            _ => Err("it is a number above 0, or unique".to_string()),
        },
    }
}

/// A share: `1%` or `0.01`.
fn share(text: &str) -> Result<f64, String> {
    let (number, unit) = match text.strip_suffix('%') {
        Some(percent) => (percent, 100.0),
        None => (text, 1.0),
    };
    match number.trim().parse::<f64>() {
        Ok(number) if (0.0..=unit).contains(&number) => Ok(number / unit),
        _ => Err("it is from 0% to 100%".to_string()),
    }
}

pub(crate) fn generate(args: &GenerateArgs) -> Result<ExitCode, Failure> {
    if args.list_anomalies {
        crate::list::anomalies();
        return Ok(ExitCode::SUCCESS);
    }
    let to = match (args.format, &args.output) {
        (Some(Named(Some(format))), _) => format,
        (_, Some(path)) if path.extension().is_some() => convert::by_name(path)?,
        _ => Format::Edn,
    };
    let seed = args.seed.unwrap_or_else(crate::options::fresh_seed);
    let request = Request {
        operations: args.ops,
        clients: args.clients,
        keys: args.keys,
        values: args.values.0,
        indeterminate: args.indeterminate,
        failed: args.failed,
        anomaly: args.anomaly.clone(),
    };
    let made =
        generate::imported(&args.model, Seed(seed), &request).map_err(|unfit| Failure::Usage(unfit.to_string()))?;
    let path = args.output.as_deref().unwrap_or(Path::new("-"));
    let failed = |e| Failure::infrastructure(&format!("can't write {}", path.display()), e);
    let mut out = convert::open(path)?;
    let lost = write(&made.history, to, &mut out).map_err(failed)?;
    out.flush().map_err(failed)?;
    for loss in lost.iter().filter(|loss| loss.grave) {
        eprintln!("duress: {} can't say {}: {}", to.name(), loss.what, loss.count);
    }
    eprintln!("{}, seed {seed}", label(&made, args.anomaly.as_deref()));
    Ok(ExitCode::SUCCESS)
}

/// What a checker must find, in words.
fn label(made: &generate::Labelled, anomaly: Option<&str>) -> String {
    let at = made.planted.and_then(|at| made.history.operations.get(at)).map(|operation| operation.invoked.line);
    let planted = match (anomaly, at) {
        (Some(anomaly), Some(line)) => format!(": {anomaly} at the operation of line {line}"),
        (Some(anomaly), None) => format!(": there was no fit place for {anomaly}"),
        (None, _) => String::new(),
    };
    let word = match made.label {
        Label::Valid => "valid",
        Label::Invalid => "invalid",
        Label::Perhaps => "perhaps invalid",
    };
    format!("{word}{planted}")
}

//! `duress check`: judges a stored run again, or anybody's history.

mod guess;
pub(crate) mod input;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use duress_checkers::{Budget, Judge, Report, Results, Run, Settings};
use duress_history::formats::Imported;
use duress_report::checked::{Checked, Judgement};
use duress_report::{html, terminal};

use self::input::{Input, Reading};
use crate::exit::{self, Failure};
use crate::judge;

pub(crate) const EXAMPLES: &str = "\
Examples:
  duress check duress-runs/paxos-register/latest        judge a stored run again
  duress check history.edn                              the model is guessed from the operations
  duress check store/etcd/latest --model cas-register   a Jepsen store: finds its history.edn
  duress check kv.txt --model kv --explain              Porcupine's text, with the whole story
  duress check h.json.gz --model mutex --html page.html
  zcat h.edn.gz | duress check - --model register,counter --json
  duress check --list-models

Formats are told by the text: Jepsen's and Maelstrom's EDN, history.txt and log, operation maps in
JSON (elle-cli's), Porcupine's key-value text, Duress's own; plain, gzip or zstd. docs/checking.md
says what each means.

Exit codes: 0 valid, 1 invalid, 2 unknown, 254 the harness failed, 255 the history can't be read or
the command line is wrong.";

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// A run directory, a history, a Jepsen store directory, or - for standard input
    #[arg(value_name = "PATH", required_unless_present = "list_models")]
    path: Option<PathBuf>,
    /// What to judge it against; several may be given [default: guessed from the operations]
    #[arg(long, value_name = "MODEL", value_delimiter = ',')]
    model: Vec<String>,
    #[command(flatten)]
    reading: Reading,
    /// How long judging may take [default: 60s, or what the run's scenario says]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    budget_time: Option<Duration>,
    /// How much memory searches may use, such as 512MiB [default: 1GiB, or what the scenario says]
    #[arg(long, value_name = "SIZE", value_parser = input::size)]
    budget_memory: Option<u64>,
    /// Confirm each answer of a search by an independent verifier
    #[arg(long)]
    certify: bool,
    /// How many permits the semaphore has, for --model semaphore
    #[arg(long, value_name = "N")]
    permits: Option<u64>,
    /// Tell the whole story, with a timeline
    #[arg(long)]
    explain: bool,
    /// Print the results as JSON instead of a summary
    #[arg(long)]
    json: bool,
    /// Also write the results as one page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Show the models
    #[arg(long)]
    list_models: bool,
}

pub(crate) fn check(args: &CheckArgs) -> Result<ExitCode, Failure> {
    let path = match &args.path {
        Some(path) if !args.list_models => path,
        _ => {
            crate::list::models();
            return Ok(ExitCode::SUCCESS);
        }
    };
    let chosen: Vec<&dyn Judge> = args.model.iter().map(|name| model(name)).collect::<Result<_, _>>()?;
    let input = Input::find(path)?;
    if let Input::Run(directory) = &input
        && chosen.is_empty()
        && args.html.is_none()
    {
        let budget = |scenario: Budget| Budget {
            time: args.budget_time.unwrap_or(scenario.time),
            memory_bytes: args.budget_memory.map_or(scenario.memory_bytes, |bytes| bytes as usize),
        };
        return judge::again(directory, budget, args.json);
    }
    let read = input.read(&args.reading)?;
    let budget = Budget {
        time: args.budget_time.unwrap_or(Duration::from_secs(60)),
        memory_bytes: args.budget_memory.map_or(1 << 30, |bytes| bytes as usize),
    };
    let (models, guess) = match chosen.is_empty() {
        true => {
            let (models, why) = guess::models(&read.history).map_err(Failure::Usage)?;
            (models, Some(why))
        }
        false => (chosen, None),
    };
    let (reports, judgements) = {
        let settings = Settings { budget, certify: args.certify, permits: args.permits };
        judge_by(&models, guess.as_deref(), &read.history, &settings)
    };
    let results = Results::of(reports);
    let checked = Checked {
        name: &read.name,
        bytes: read.bytes,
        history: &read.history,
        read: read.took,
        judgements: &judgements,
        budget,
        results: &results,
    };
    if let Some(file) = &args.html {
        std::fs::write(file, html::page(&checked))
            .map_err(|e| Failure::infrastructure(&format!("can't write {}", file.display()), e))?;
    }
    let text = if args.json {
        format!("{:#}\n", checked.json())
    } else {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        checked.text(args.explain, terminal::Options { colour })
    };
    // Whoever reads may stop before the end, which changes no verdict.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(exit::of(results.verdict))
}

/// The model of a name, or what else there is.
fn model(name: &str) -> Result<&'static dyn Judge, Failure> {
    duress_checkers::named(name).ok_or_else(|| {
        let names: Vec<&str> = duress_checkers::all().map(|model| model.name()).collect();
        Failure::Usage(format!("there is no model {name:?}; there are {}", names.join(", ")))
    })
}

/// Judges a history by each model; they share the budget's time. A model that panics says nothing
/// of the history.
fn judge_by(
    models: &[&dyn Judge],
    guess: Option<&str>,
    history: &Imported,
    settings: &Settings,
) -> (Vec<Report>, Vec<Judgement>) {
    let begun = Instant::now();
    let run = Run::imported(history);
    let judge = |model: &&dyn Judge| {
        let start = Instant::now();
        let time = settings.budget.time.saturating_sub(begun.elapsed());
        let settings = Settings { budget: Budget { time, ..settings.budget }, ..*settings };
        let report = duress_checkers::judge(*model, &run, &settings);
        let (model, guess) = (model.name().to_string(), guess.map(String::from));
        (report, Judgement { model, guess, took: start.elapsed() })
    };
    models.iter().map(judge).unzip()
}

//! `duress schedule`: the timetable of a scenario's faults, before anything runs.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use duress_fault::{Schedule, Timed, Trigger};
use duress_scenario::{Heal, Scenario, format_duration};
use duress_seed::Seed;
use serde_json::json;
use tabled::builder::Builder;
use tabled::settings::Style;

use crate::args::ScenarioArgs;
use crate::exit::Failure;
use crate::options;

pub(crate) const EXAMPLES: &str = "\
Examples:
  duress schedule examples/paxos-crashes.yaml --seed 7
  duress schedule --target quorum --faults partition,pause --time 60s
  duress schedule examples/takeover-cut.yaml --json

The same seed gives the same timetable in every run, in both worlds. Whom a selector such as
`primary` means is decided at the moment of injection, and so is when a trigger fires.";

#[derive(Debug, Args)]
pub(crate) struct ScheduleArgs {
    #[command(flatten)]
    asked: ScenarioArgs,
    /// How long the clients work [default: 30s]
    #[arg(long, value_name = "DURATION")]
    time: Option<String>,
}

pub(crate) fn schedule(args: &ScheduleArgs) -> Result<ExitCode, Failure> {
    let scenario = options::scenario(&args.asked, args.time.as_deref())?;
    let seed = scenario.seed.unwrap_or_default();
    let schedule = scenario.schedule(Seed(seed));
    let rows = rows(&schedule);
    if args.asked.json {
        println!("{:#}", as_json(&scenario, seed, &rows));
        return Ok(ExitCode::SUCCESS);
    }
    println!("{}", options::describe(&scenario));
    if rows.is_empty() {
        println!("no faults");
    } else {
        println!("{}", table(&rows));
    }
    println!("{}", end(&scenario));
    Ok(ExitCode::SUCCESS)
}

/// The faults in the order in which they can begin, each with that moment.
fn rows(schedule: &Schedule) -> Vec<(&Timed, Option<Duration>)> {
    let earliest: BTreeMap<u64, Duration> = schedule.earliest();
    let mut rows: Vec<_> =
        schedule.faults().iter().map(|timed| (timed, earliest.get(&timed.number).copied())).collect();
    rows.sort_by_key(|(timed, earliest)| (earliest.unwrap_or(Duration::MAX), timed.number));
    rows
}

fn table(rows: &[(&Timed, Option<Duration>)]) -> String {
    let mut builder = Builder::default();
    builder.push_record(["no.", "begins", "lasts", "fault"]);
    for (timed, earliest) in rows {
        builder.push_record([
            timed.number.to_string(),
            begins(timed, *earliest),
            rounded(timed.lasts),
            timed.fault.to_string(),
        ]);
    }
    builder.build().with(Style::sharp()).to_string()
}

/// When a fault begins, in words.
fn begins(timed: &Timed, earliest: Option<Duration>) -> String {
    let Some(trigger) = &timed.when else { return rounded(timed.at) };
    let delay = if timed.at.is_zero() { String::new() } else { format!(" + {}", rounded(timed.at)) };
    match (trigger, earliest) {
        (Trigger::Faults { .. }, Some(earliest)) => {
            format!("{trigger}{delay} ({} at the earliest)", rounded(earliest))
        }
        _ => format!("{trigger}{delay}"),
    }
}

/// What comes after the main phase.
fn end(scenario: &Scenario) -> String {
    let time = format_duration(scenario.time);
    let bound = format_duration(scenario.limits.recovery);
    match (scenario.limits.heal, scenario.target.quorum()) {
        (Some(Heal::Quorum), Some(quorum)) => format!(
            "at {time} {quorum} of {} nodes are healed, and must serve within {bound}; then everything is healed",
            scenario.target.nodes()
        ),
        _ => format!("at {time} everything is healed, and every node must serve again within {bound}"),
    }
}

/// A duration to the millisecond. The exact one is in the JSON.
fn rounded(duration: Duration) -> String {
    let ms = Duration::from_millis((duration + Duration::from_micros(500)).as_millis() as u64);
    format_duration(if ms.is_zero() { duration } else { ms })
}

fn as_json(scenario: &Scenario, seed: u64, rows: &[(&Timed, Option<Duration>)]) -> serde_json::Value {
    let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
    let faults: Vec<serde_json::Value> = rows
        .iter()
        .map(|(timed, earliest)| {
            json!({
                "fault": timed.number,
                "when": timed.when.as_ref().map(ToString::to_string),
                "at_ms": timed.when.is_none().then(|| ms(timed.at)),
                "after_ms": timed.when.as_ref().map(|_| ms(timed.at)),
                "earliest_ms": earliest.map(ms),
                "lasts_ms": ms(timed.lasts),
                "kind": timed.fault.kind().name(),
                "what": timed.fault.to_string(),
            })
        })
        .collect();
    json!({
        "scenario": scenario.name,
        "seed": seed,
        "time_ms": ms(scenario.time),
        "recovery_ms": ms(scenario.limits.recovery),
        "healed_first": match scenario.limits.heal {
            Some(Heal::Quorum) => scenario.target.quorum(),
            _ => None,
        },
        "faults": faults,
    })
}

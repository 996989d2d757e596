//! From a run directory to a verdict: the same way for `duress run` and `duress check`.

use std::collections::BTreeSet;
use std::io::{BufReader, IsTerminal, Read, Seek, SeekFrom};
use std::process::ExitCode;

use duress_checkers::{Budget, Results, Run, check_all, log_patterns};
use duress_fault::Kind;
use duress_history::{Event, EventKind, Host, jsonl};
use duress_report::terminal;
use duress_run::Ended;
use duress_scenario::Scenario;

use crate::exit::{self, Failure};
use crate::rundir::RunDir;
use crate::{assemble, options};

/// A judged run.
pub(crate) struct Judged {
    pub(crate) results: Results,
    facts: Vec<terminal::Fact>,
}

/// Judges a stored run again. `budget` may change what its scenario allows.
pub(crate) fn again(
    directory: &RunDir,
    budget: impl FnOnce(Budget) -> Budget,
    json: bool,
) -> Result<ExitCode, Failure> {
    let scenario = options::stored(directory)?;
    let budget = budget(budget_of(&scenario));
    let judged = judge_within(directory, &scenario, &budget)?;
    show(&judged, directory, json);
    Ok(exit::of(judged.results.verdict))
}

fn budget_of(scenario: &Scenario) -> Budget {
    Budget { time: scenario.limits.check_time, memory_bytes: scenario.limits.check_memory_mb as usize * (1 << 20) }
}

/// Reads the history, runs the scenario's checkers, and stores the results.
pub(crate) fn judge(directory: &RunDir, scenario: &Scenario) -> Result<Judged, Failure> {
    judge_within(directory, scenario, &budget_of(scenario))
}

fn judge_within(directory: &RunDir, scenario: &Scenario, budget: &Budget) -> Result<Judged, Failure> {
    let path = directory.history();
    let failed = |e: &dyn std::fmt::Display| Failure::Infrastructure(format!("{}: {e}", path.display()));
    let file = std::fs::File::open(&path).map_err(|e| failed(&e))?;
    let stored = jsonl::read(BufReader::with_capacity(1 << 20, file)).map_err(|e| failed(&e))?;
    let run = Run::new(&stored.events, stored.truncated).map_err(|e| failed(&e))?;
    let mut results = check_all(&run, &assemble::checkers(scenario), &(*budget).into());
    let mut logs = logs(directory);
    let starved = starved(&stored.events);
    for (node, log) in &mut logs {
        if node.split(' ').next().is_some_and(|name| starved.contains(name)) {
            *log = log_patterns::without(log, log_patterns::OUT_OF_MEMORY);
        }
    }
    if !logs.is_empty() {
        let logs = logs.iter().map(|(node, log)| (node.as_str(), log.as_str()));
        results.reports.push(log_patterns::check(logs, log_patterns::FAILURES));
        results = Results::of(results.reports);
    }
    let text = serde_json::to_string_pretty(&results).map_err(|e| failed(&e))?;
    std::fs::write(directory.results(), text + "\n")
        .map_err(|e| Failure::infrastructure(&format!("can't write {}", directory.results().display()), e))?;
    Ok(Judged { results, facts: facts(directory) })
}

/// The nodes that were given too little memory: that they say so is no failure of theirs.
fn starved(events: &[Event]) -> BTreeSet<Host> {
    let faults = events.iter().filter_map(|event| match &event.kind {
        EventKind::Fault(fault) if fault.kind == Kind::Memory.name() => Some(&fault.hosts),
        _ => None,
    });
    faults.flatten().cloned().collect()
}

/// No more than this is read of the end of a node's log, in bytes.
const LOG_BYTES: u64 = 16 << 20;

/// The nodes' logs, by their names. A simulated run has none.
fn logs(directory: &RunDir) -> Vec<(String, String)> {
    let read = |folder: std::path::PathBuf| {
        let mut node = folder.file_name()?.to_str()?.to_owned();
        let mut log = std::fs::File::open(folder.join("log")).ok()?;
        if let Some(left_out) = log.metadata().ok()?.len().checked_sub(LOG_BYTES).filter(|bytes| *bytes > 0) {
            // What a program says last tells why it ended.
            log.seek(SeekFrom::Start(left_out)).ok()?;
            node.push_str(&format!(" after byte {left_out}"));
        }
        let mut bytes = Vec::new();
        log.take(LOG_BYTES).read_to_end(&mut bytes).ok()?;
        Some((node, String::from_utf8_lossy(&bytes).into_owned()))
    };
    let entries = std::fs::read_dir(directory.path().join("nodes")).into_iter().flatten().flatten();
    let mut logs: Vec<_> = entries.filter_map(|entry| read(entry.path())).collect();
    logs.sort();
    logs
}

/// What is known of the run besides its history; nothing, if the run was killed.
fn facts(directory: &RunDir) -> Vec<terminal::Fact> {
    let Ok(text) = std::fs::read_to_string(directory.ended()) else { return Vec::new() };
    let Ok(ended) = serde_json::from_str::<Ended>(&text) else { return Vec::new() };
    let seconds = |d: std::time::Duration| format!("{:.2} s", d.as_secs_f64());
    let cores = |d: std::time::Duration| d.as_secs_f64() / ended.main.as_secs_f64().max(0.001);
    let mut facts = vec![
        ("deployed in".to_string(), seconds(ended.deployed)),
        ("serving after".to_string(), seconds(ended.serving)),
        (
            "harness CPU".to_string(),
            format!("{:.2} cores, and {:.2} for the clients", cores(ended.harness_cpu), cores(ended.clients_cpu)),
        ),
        (
            "all nodes answered".to_string(),
            match ended.recovery {
                Some(recovery) => format!("{} after everything was healed", seconds(recovery)),
                None if ended.interrupted => "not waited for: the run was interrupted".to_string(),
                None if !ended.away.is_empty() => {
                    format!("never again without {}, though the others are a quorum", ended.away.join(", "))
                }
                None => "never again, though everything was healed".to_string(),
            },
        ),
    ];
    if let Some((frames, missed)) = ended.captured {
        let left_out = if missed > 0 { format!(", and {missed} left out") } else { String::new() };
        facts.push(("frames captured".to_string(), format!("{frames}{left_out}")));
    }
    if ended.interrupted {
        facts.push(("interrupted after".to_string(), seconds(ended.main)));
    }
    if ended.seen_enough {
        facts.push(("stopped after".to_string(), format!("{}, because of a violation", seconds(ended.main))));
    }
    facts
}

/// Prints a judged run.
pub(crate) fn show(judged: &Judged, directory: &RunDir, json: bool) {
    if json {
        let shown = serde_json::json!({ "run": directory.path(), "results": judged.results });
        println!("{shown:#}");
        return;
    }
    let options =
        terminal::Options { colour: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() };
    print!("{}", terminal::summary(&judged.results, &judged.facts, options));
    println!("\nthe whole story: {}", directory.path().display());
}

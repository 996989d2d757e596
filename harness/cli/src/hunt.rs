//! `duress hunt`: many simulated runs, what they found, and what they say.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use duress_checkers::Verdict;
use duress_hunt::{Extra, Found, Hunted, Options, Progress, Property, Repro, Shrunk, statistics, story};
use duress_scenario::Scenario;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tabled::builder::Builder;
use tabled::settings::Style;

use crate::args::HuntArgs;
use crate::exit::{self, Failure};
use crate::rundir::RunDir;
use crate::simulated::{simulator, write};
use crate::{options, run};

/// Unless told otherwise a hunt lasts this long.
const TIME: Duration = Duration::from_secs(60);

pub(crate) fn hunt(args: &HuntArgs) -> Result<ExitCode, Failure> {
    let asked = &args.asked;
    let scenario = options::scenario(asked, None)?;
    let how = how(args, &scenario)?;
    let shrink = duration("--shrink", &args.shrink)?;
    let directory = RunDir::create(&asked.out, &format!("{}-hunt", scenario.name))
        .map_err(|e| Failure::infrastructure(&format!("can't make a directory in {}", asked.out.display()), e))?;
    write(&directory.scenario(), scenario.to_yaml().as_bytes())?;
    let say = |line: String| {
        if !asked.json {
            println!("{line}");
        }
    };
    say(options::describe(&scenario));
    let extras: Vec<&str> = how.extras.iter().map(|extra| extra.name()).collect();
    if !extras.is_empty() {
        say(format!("also: {}", extras.join(", ")));
    }
    say(format!("seeds from {} on {} threads; kept in {}\n", how.base, how.jobs, directory.path().display()));
    let hunted = watched(&scenario, &how, asked.json)?;
    let verdict = verdict(&hunted);
    say(summary(&hunted));
    let mut kept = Vec::new();
    for (property, found) in &hunted.findings {
        kept.push(keep(&scenario, &how, property, found, &hunted, (shrink, asked.json), &directory)?);
    }
    let results = results(&hunted, verdict, &kept);
    write(&directory.path().join("hunt.json"), format!("{results:#}\n").as_bytes())?;
    if asked.json {
        println!("{results:#}");
    } else {
        say(coverage(&hunted));
        say(words(&hunted, verdict));
    }
    Ok(exit::of(verdict))
}

fn how(args: &HuntArgs, scenario: &Scenario) -> Result<Options, Failure> {
    let time = args.time.as_ref().map(|text| duration("--time", text)).transpose()?;
    let extras = match &args.also {
        None => Extra::implied(scenario),
        Some(names) => {
            let known: Vec<&str> = Extra::ALL.iter().map(|(extra, _)| extra.name()).collect();
            let names = names.iter().filter(|name| *name != "none");
            let extra = |name: &String| {
                Extra::named(name).ok_or_else(|| {
                    Failure::Usage(format!("--also {name}: there is no such fault; choose from {}", known.join(", ")))
                })
            };
            names.map(extra).collect::<Result<_, _>>()?
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(Options {
        runs: args.seeds,
        time: if args.seeds.is_none() { Some(time.unwrap_or(TIME)) } else { time },
        jobs: args.jobs.map_or(cores, usize::from).clamp(1, 512),
        keep_going: args.keep_going,
        base: scenario.seed.unwrap_or_default(),
        extras,
    })
}

/// A duration of the command line.
pub(crate) fn duration(option: &str, text: &str) -> Result<Duration, Failure> {
    humantime::parse_duration(text).map_err(|e| Failure::Usage(format!("{option} {text}: {e}; write it like 30s")))
}

/// Hunts, with a line that lives where somebody looks at a terminal.
fn watched(scenario: &Scenario, how: &Options, quiet: bool) -> Result<Hunted, Failure> {
    let progress = Arc::new(Progress::default());
    stop_on_signal(progress.clone())?;
    let over = AtomicBool::new(false);
    let hunted = std::thread::scope(|scope| {
        if !quiet && std::io::stderr().is_terminal() {
            scope.spawn(|| show(&progress, &over));
        }
        let make = || simulator();
        let hunted = duress_hunt::hunt(scenario, how, &make, &progress);
        over.store(true, Ordering::Relaxed);
        hunted
    });
    hunted.map_err(|e| Failure::infrastructure("can't start the threads", e))
}

/// Ctrl-C ends a hunt; what it found is reported all the same.
fn stop_on_signal(progress: Arc<Progress>) -> Result<(), Failure> {
    let failure = |e| Failure::infrastructure("can't handle signals", e);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failure)?;
    let signals = std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            if run::next_signal().await.is_ok() {
                progress.stop.store(true, Ordering::Relaxed);
            }
            // The second one means it.
            if run::next_signal().await.is_ok() {
                std::process::exit(254);
            }
        });
    });
    signals.map(drop).map_err(failure)
}

fn show(progress: &Progress, over: &AtomicBool) {
    let bar = ProgressBar::new_spinner();
    bar.set_style(ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
    let began = Instant::now();
    while !over.load(Ordering::Relaxed) {
        let elapsed = began.elapsed().as_secs_f64().max(0.001);
        let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let simulated = get(&progress.simulated_us) as f64 / 1e6;
        bar.set_message(format!(
            "{} seeds, {:.0}/s | {simulated:.0} s simulated, {:.0} x real time | {:.1} M events/s | {} situations | {} findings",
            statistics::grouped(get(&progress.runs)),
            get(&progress.runs) as f64 / elapsed,
            simulated / elapsed,
            get(&progress.events) as f64 / 1e6 / elapsed,
            get(&progress.situations),
            get(&progress.findings),
        ));
        bar.tick();
        std::thread::sleep(Duration::from_millis(100));
    }
    bar.finish_and_clear();
}

/// Whatever was found is a broken promise: that a healed cluster serves again is one, too.
fn verdict(hunted: &Hunted) -> Verdict {
    if !hunted.findings.is_empty() {
        Verdict::Invalid
    } else if hunted.clean() == 0 {
        Verdict::Unknown
    } else {
        Verdict::Valid
    }
}

fn summary(hunted: &Hunted) -> String {
    let elapsed = hunted.elapsed.as_secs_f64().max(0.001);
    let [ok, fail, info] = hunted.operations.map(statistics::grouped);
    format!(
        "{} runs in {elapsed:.1} s ({:.0}/s), {:.0} s simulated ({:.0} x real time), {:.1} M events/s\noperations: {ok} ok, {fail} failed, {info} unknown",
        statistics::grouped(hunted.runs),
        hunted.runs as f64 / elapsed,
        hunted.simulated.as_secs_f64(),
        hunted.simulated.as_secs_f64() / elapsed,
        hunted.events as f64 / 1e6 / elapsed,
    )
}

/// Shrinks the earliest run of a finding, keeps it in a file and tells its story.
fn keep(
    scenario: &Scenario,
    how: &Options,
    property: &Property,
    found: &Found,
    hunted: &Hunted,
    (time, quiet): (Duration, bool),
    directory: &RunDir,
) -> Result<serde_json::Value, Failure> {
    let case = duress_hunt::case(scenario, how, found.seed);
    let shrunk = duress_hunt::shrink(&case, property, simulator().as_mut(), time).ok_or_else(|| {
        Failure::Infrastructure(format!(
            "seed {} violated {property} once and not again: the simulation is not deterministic",
            found.seed
        ))
    })?;
    let Shrunk { case: small, violation, run, tried, .. } = &shrunk;
    let repro = Repro {
        version: env!("CARGO_PKG_VERSION").into(),
        property: property.clone(),
        summary: violation.summary.clone(),
        trace_hash: run.trace_hash,
        case: small.clone(),
    };
    let path = directory.path().join(format!("{property}.repro.yaml"));
    write(&path, repro.to_yaml().as_bytes())?;
    let asked = |events: &[duress_history::Event]| {
        events.iter().filter(|event| matches!(event.kind, duress_history::EventKind::Invoke(_))).count()
    };
    if !quiet {
        println!("\nFOUND {property}: {}", violation.summary);
        println!(
            "  in {} of {} runs, first with seed {}; shrunk in {tried} tries to {} faults, {} nodes, {} operations (final reads and probes included)",
            found.count,
            statistics::grouped(hunted.runs),
            found.seed,
            small.schedule.len(),
            small.scenario.target.nodes(),
            asked(&run.events)
        );
        for line in story::story(&run.events).iter().chain(&violation.explanation) {
            println!("  {line}");
        }
        println!("  replay: duress replay {}", path.display());
    }
    Ok(json!({
        "property": property.name(),
        "summary": violation.summary,
        "explanation": violation.explanation,
        "story": story::story(&run.events),
        "runs": found.count,
        "seed": found.seed,
        "faults": small.schedule.len(),
        "nodes": small.scenario.target.nodes(),
        "tried": tried,
        "shrunk_completely": shrunk.complete,
        "trace_hash": format!("{:016x}", run.trace_hash),
        "repro": path,
    }))
}

fn results(hunted: &Hunted, verdict: Verdict, findings: &[serde_json::Value]) -> serde_json::Value {
    json!({
        "verdict": verdict,
        "statistics": statistics::in_words(hunted.failed, hunted.failed + hunted.clean()),
        "runs": hunted.runs,
        "clean": hunted.clean(),
        "failed": hunted.failed,
        "unknown": hunted.unknown,
        "reasons": hunted.reasons,
        "failure_rate_at_most": statistics::upper_bound(hunted.failed, hunted.failed + hunted.clean()),
        "operations": { "ok": hunted.operations[0], "fail": hunted.operations[1], "info": hunted.operations[2] },
        "events": hunted.events,
        "simulated_s": hunted.simulated.as_secs_f64(),
        "elapsed_s": hunted.elapsed.as_secs_f64(),
        "findings": findings,
        "coverage": hunted.coverage.named(),
    })
}

/// What was tested: each fault and whom it met, by what the cluster was doing. A zero is something
/// that this hunt says nothing about.
fn coverage(hunted: &Hunted) -> String {
    use std::collections::{BTreeMap, BTreeSet};
    let counts = hunted.coverage.counts();
    /// (what, whom) → when → how often.
    type Rows<'a> = BTreeMap<(&'a str, &'a str), BTreeMap<&'a str, u64>>;
    let mut groups: BTreeMap<bool, Rows<'_>> = BTreeMap::new();
    for (situation, count) in counts {
        let rows = groups.entry(situation.what == "restart").or_default();
        rows.entry((situation.what, situation.whom)).or_default().insert(situation.when, *count);
    }
    let mut text = String::new();
    for rows in groups.values() {
        let columns: BTreeSet<&str> = rows.values().flat_map(|row| row.keys().copied()).collect();
        let mut builder = Builder::default();
        builder.push_record(["tested", "whom"].into_iter().chain(columns.iter().copied()));
        for ((what, whom), row) in rows {
            let cells = columns.iter().map(|column| row.get(column).copied().unwrap_or(0).to_string());
            builder.push_record([what.to_string(), whom.to_string()].into_iter().chain(cells));
        }
        text.push_str(&format!("\n{}\n", builder.build().with(Style::sharp())));
    }
    text
}

fn words(hunted: &Hunted, verdict: Verdict) -> String {
    let mut text = statistics::in_words(hunted.failed, hunted.failed + hunted.clean());
    if hunted.unknown > 0 {
        text.push_str(&format!("\n{} more runs say nothing:", statistics::grouped(hunted.unknown)));
        for (reason, count) in &hunted.reasons {
            text.push_str(&format!("\n  {count} x {reason}"));
        }
    }
    let verdict = verdict.to_string().to_uppercase();
    format!("{text}\n\n{verdict}")
}

//! `duress hunt`: many simulated runs, what they found, and what they say.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use duress_checkers::{Class, Verdict};
use duress_fault::Kind;
use duress_hunt::{Found, Hunted, Options, Progress, Property, Repro, Shrunk, Size, statistics, story};
use duress_scenario::Scenario;
use duress_sim::{Chance, Situation};
use serde_json::json;

use crate::args::HuntArgs;
use crate::exit::{self, Failure};
use crate::options;
use crate::rundir::RunDir;
use crate::simulated::{simulator, write};

mod coverage;
mod live;

/// Unless told otherwise a hunt lasts this long.
const TIME: Duration = Duration::from_secs(60);

pub(crate) fn hunt(args: &HuntArgs) -> Result<ExitCode, Failure> {
    let asked = &args.asked;
    let scenario = options::scenario(asked, None)?;
    let how = how(args, &scenario)?;
    let shrink = duration("--shrink", &args.shrink)?;
    let progress = Arc::new(Progress::default());
    live::stop_on_signal(progress.clone())?;
    live::show_one_panic();
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
    let hunted = watched(&scenario, &how, asked.json, &progress)?;
    if let Some((seed, words)) = &hunted.broken {
        let words = format!("the simulator failed in the run with seed {seed}, which is a fault of Duress: {words}");
        return Err(Failure::Infrastructure(words));
    }
    let verdict = verdict(&hunted);
    say(summary(&hunted));
    if hunted.interrupted {
        say("interrupted: this is what was found until then".into());
    }
    let mut kept = Vec::new();
    for (property, found) in &hunted.findings {
        let kept_finding = keep(&scenario, &how, property, found, shrink, &directory)?;
        if !asked.json {
            kept_finding.print(found.count, hunted.runs);
        }
        kept.push(kept_finding.results(found.count));
    }
    let situations = duress_hunt::coverage::with_zeros(&hunted.coverage, &scenario, &how.extras);
    let results = results(&hunted, verdict, &kept, &situations);
    write(&directory.path().join("hunt.json"), format!("{results:#}\n").as_bytes())?;
    let stored = coverage::stored(&situations);
    write(&directory.path().join("coverage.json"), format!("{stored:#}\n").as_bytes())?;
    if asked.json {
        println!("{results:#}");
    } else {
        say(coverage::table(&situations));
        say(words(&hunted, verdict));
    }
    Ok(exit::of(verdict))
}

fn how(args: &HuntArgs, scenario: &Scenario) -> Result<Options, Failure> {
    let time = args.time.as_ref().map(|text| duration("--time", text)).transpose()?;
    let extras = match &args.also {
        None => duress_hunt::implied(scenario),
        Some(names) => {
            let known: Vec<&str> = Kind::ALL.iter().map(|(kind, _)| kind.name()).collect();
            let names = names.iter().filter(|name| *name != "none");
            let extra = |name: &String| {
                Kind::named(name).ok_or_else(|| {
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
    duress_plug::duration::read(text).map_err(|e| Failure::Usage(format!("{option} {text}: {e}")))
}

/// Hunts, with a line that lives where somebody looks at a terminal.
fn watched(scenario: &Scenario, how: &Options, quiet: bool, progress: &Progress) -> Result<Hunted, Failure> {
    let over = AtomicBool::new(false);
    let hunted = std::thread::scope(|scope| {
        if !quiet && std::io::stderr().is_terminal() {
            scope.spawn(|| live::show(progress, &over));
        }
        let make = || simulator();
        let hunted = duress_hunt::hunt(scenario, how, &make, progress);
        over.store(true, Ordering::Relaxed);
        hunted
    });
    hunted.map_err(|e| Failure::infrastructure("can't start the threads", e))
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

/// A finding that was made small and is kept in a file.
struct Kept {
    property: Property,
    seed: u64,
    shrunk: Shrunk,
    path: std::path::PathBuf,
}

/// Shrinks the earliest run of a finding and keeps it in a file.
fn keep(
    scenario: &Scenario,
    how: &Options,
    property: &Property,
    found: &Found,
    time: Duration,
    directory: &RunDir,
) -> Result<Kept, Failure> {
    let case = duress_hunt::case(scenario, how, found.seed);
    let shrunk = duress_hunt::shrink(&case, property, &simulator, how.jobs, time).ok_or_else(|| {
        Failure::Infrastructure(format!(
            "seed {} violated {property} once and not again: the simulation is not deterministic",
            found.seed
        ))
    })?;
    let repro = Repro {
        version: env!("CARGO_PKG_VERSION").into(),
        property: property.clone(),
        summary: shrunk.violation.summary.clone(),
        trace_hash: shrunk.run.trace_hash,
        case: shrunk.case.clone(),
    };
    let path = directory.path().join(format!("{property}.repro.yaml"));
    write(&path, repro.to_yaml().as_bytes())?;
    Ok(Kept { property: property.clone(), seed: found.seed, shrunk, path })
}

/// No more steps of a story than this are printed. One that was shrunk has fewer.
const TOLD: usize = 40;

impl Kept {
    fn print(&self, count: u64, runs: u64) {
        let Shrunk { case, violation, run, before, after, tried, complete, took } = &self.shrunk;
        println!("\nFOUND {}: {}", self.property, violation.summary);
        println!("  in {count} of {} runs, first with seed {}", statistics::grouped(runs), self.seed);
        println!("  shrunk from {}", size(before));
        println!("         to   {}", size(after));
        let end = if *complete { "" } else { ", and time was over: it may get smaller with a longer --shrink" };
        println!("  in {:.1} s and {} tries{end}", took.as_secs_f64(), statistics::grouped(*tried));
        if let Chance::Only(links) = &case.chance
            && !links.is_empty()
        {
            println!("  left to chance: {}", chance(links));
        }
        let story = story::story(&run.events);
        for line in &story[..story.len().min(TOLD)] {
            println!("  {line}");
        }
        if story.len() > TOLD {
            println!("  … {} more steps: the replay tells them", story.len() - TOLD);
        }
        for line in &violation.explanation {
            println!("  {line}");
        }
        println!("  replay: duress replay {}", self.path.display());
    }

    fn results(&self, count: u64) -> serde_json::Value {
        let Shrunk { violation, run, before, after, tried, complete, took, .. } = &self.shrunk;
        let size = |size: &Size| {
            json!({
                "faults": size.faults,
                "nodes": size.nodes,
                "clients": size.clients,
                "keys": size.keys,
                "operations": size.operations,
                "messages_left_to_chance": size.chance,
            })
        };
        json!({
            "property": self.property.name(),
            "class": class(&self.property),
            "summary": violation.summary,
            "explanation": violation.explanation,
            "story": story::story(&run.events),
            "runs": count,
            "seed": self.seed,
            "faults": after.faults,
            "nodes": after.nodes,
            "operations": after.operations,
            "before": size(before),
            "after": size(after),
            "tried": tried,
            "shrunk_completely": complete,
            "shrunk_in_s": took.as_secs_f64(),
            "trace_hash": format!("{:016x}", run.trace_hash),
            "repro": self.path,
        })
    }
}

/// Which kind of not valid a finding is.
fn class(property: &Property) -> Class {
    match property {
        Property::Unavailable => Class::Unavailable,
        Property::Checker(_) | Property::Panic => Class::Bug,
    }
}

/// A case's size in words.
fn size(size: &Size) -> String {
    let count = |number: u64, what: &str| {
        let s = if number == 1 { "" } else { "s" };
        format!("{} {what}{s}", statistics::grouped(number))
    };
    format!(
        "{}, {}, {}, {}, {}, {} left to chance",
        count(size.faults as u64, "fault"),
        count(u64::from(size.nodes), "node"),
        count(u64::from(size.clients), "client host"),
        count(u64::from(size.keys), "key"),
        count(size.operations as u64, "operation"),
        count(size.chance, "message"),
    )
}

/// `n1 -> n2: 4, 7-9`.
fn chance(
    links: &BTreeMap<(duress_history::Host, duress_history::Host), Vec<std::ops::RangeInclusive<u64>>>,
) -> String {
    let range = |range: &std::ops::RangeInclusive<u64>| match range.start() == range.end() {
        true => range.start().to_string(),
        false => format!("{}-{}", range.start(), range.end()),
    };
    let link = |((from, to), ranges): (&(_, _), &Vec<_>)| {
        let ranges: Vec<String> = ranges.iter().map(range).collect();
        format!("{from} -> {to}: {}", ranges.join(", "))
    };
    links.iter().map(link).collect::<Vec<_>>().join("; ")
}

fn results(
    hunted: &Hunted,
    verdict: Verdict,
    findings: &[serde_json::Value],
    situations: &BTreeMap<Situation, u64>,
) -> serde_json::Value {
    let classes = hunted.findings.keys().map(class);
    let inconclusive = (verdict == Verdict::Unknown).then_some(Class::Inconclusive);

    json!({
        "verdict": verdict,
        "class": classes.max().or(inconclusive),
        "interrupted": hunted.interrupted,
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
        "coverage": coverage::stored(situations),
    })
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

//! `duress replay`: repeats what a hunt found, exactly in the simulator, or as far as that goes on
//! a real cluster.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use duress_backend::Backend;
use duress_checkers::{Class, Results, Verdict};
use duress_fault::{Fault, Selector, Timed, Trigger};
use duress_history::{Event, EventKind};
use duress_hunt::{BUDGET, Property, Repro, Step, What, judge, story, target_checkers, trace};
use duress_scenario::{Faults, Scenario};
use duress_sim::SimRun;

use crate::args::ReplayArgs;
use crate::assemble::plugs;
use crate::exit::{self, Failure};
use crate::rundir::RunDir;
use crate::simulated::{simulator, write};
use crate::{backends, options, run};

pub(crate) fn replay(args: &ReplayArgs) -> Result<ExitCode, Failure> {
    let bytes = options::read(&args.file)?;
    let repro =
        Repro::parse(&bytes, &args.file.display().to_string(), &plugs()).map_err(|e| Failure::Usage(e.to_string()))?;
    match args.world.as_str() {
        backends::SIM => simulated(&repro, args),
        world => real(run::backend(world)?, &repro, args),
    }
}

/// No more steps than this are drawn; a chart that long is read by nobody.
const CHARTED: usize = 2_000;

fn simulated(repro: &Repro, args: &ReplayArgs) -> Result<ExitCode, Failure> {
    let mut simulator = simulator();
    let mut steps = Vec::new();
    let mut run = match args.trace {
        true => simulator.traced(&repro.case, &mut |step| steps.push(step)),
        false => simulator.simulate(&repro.case),
    };
    for _ in 1..args.times {
        let again = simulator.simulate(&repro.case);
        if again.trace_hash != run.trace_hash {
            return Err(Failure::Infrastructure("two runs of the same file differ: a fault of the simulator".into()));
        }
        simulator.recycle(std::mem::replace(&mut run, again));
    }
    if args.trace {
        show_trace(repro, &run, steps);
    }
    let checkers = target_checkers(simulator.as_ref(), &repro.case.scenario);
    let judgement = judge(&run, &checkers, &BUDGET);
    for line in story::story(&run.events) {
        println!("{line}");
    }
    println!();
    let verdict = match judgement.of(&repro.property) {
        Some(violation) => {
            println!("INVALID, {}: {}", repro.property, violation.summary);
            for line in &violation.explanation {
                println!("  {line}");
            }
            Verdict::Invalid
        }
        None if !judgement.violations.is_empty() => {
            let others: Vec<&str> = judgement.violations.iter().map(|v| v.property.name()).collect();
            println!("INVALID, but not {}: {} is violated", repro.property, others.join(", "));
            Verdict::Invalid
        }
        None if judgement.unknown.is_some() => {
            println!("UNKNOWN: {}", judgement.unknown.unwrap_or_default());
            Verdict::Unknown
        }
        None => {
            println!("VALID: {} is not violated any more", repro.property);
            Verdict::Valid
        }
    };
    if run.trace_hash == repro.trace_hash {
        let times = if args.times > 1 { format!(", {} of {} times", args.times, args.times) } else { String::new() };
        println!("repeated exactly{times}: trace hash {:016x}", run.trace_hash);
    } else {
        println!(
            "\nTHE RUN DIFFERS: its trace hash is {:016x}, and the file's is {:016x}.\nThe file was written by Duress {}, this is {}; the code of the cluster or of the simulator\nhas changed since, so this is another run than the one that was found.",
            run.trace_hash,
            repro.trace_hash,
            repro.version,
            env!("CARGO_PKG_VERSION"),
        );
    }
    Ok(exit::of(verdict))
}

fn show_trace(repro: &Repro, run: &SimRun, mut steps: Vec<Step>) {
    let noted =
        run.events.iter().filter_map(|event| Some(Step { at: event.time, what: What::Noted(story::noted(event)?) }));
    steps.extend(noted);
    // Stable: at the same moment, what happened inside comes before what the history says of it.
    steps.sort_by_key(|step| step.at);
    for step in &steps {
        println!("{}", trace::line(step));
    }
    println!("\n{}", trace::chart(&repro.case.scenario.node_names(), &steps[..steps.len().min(CHARTED)]));
    if steps.len() > CHARTED {
        println!("… {} more steps are in the log above", steps.len() - CHARTED);
    }
}

/// How often a finding showed.
#[derive(Default)]
struct Tally {
    shown: u32,
    valid: u32,
    /// Another promise was broken.
    other: u32,
    unknown: u32,
    /// Runs that could not be carried out.
    failed: u32,
}

/// Plays the schedule on a real cluster, again and again. There the file fixes what is asked for;
/// what happens is up to the machine.
fn real(backend: &dyn Backend, repro: &Repro, args: &ReplayArgs) -> Result<ExitCode, Failure> {
    let scenario = stretched(repro, args.stretch);
    run::check(backend, &scenario)?;
    println!("{}", options::describe(&scenario));
    let times = match args.stretch {
        1 => "at the file's times".to_owned(),
        factor => format!("with {factor} times the file's times"),
    };
    println!("on a real cluster: faults {times}, as many operations as go (the file's few seldom hit the moment)");
    println!();
    let mut tally = Tally::default();
    for number in 1..=args.times {
        let directory = RunDir::create(&args.out, &format!("{}-replay", scenario.name))
            .map_err(|e| Failure::infrastructure(&format!("can't make a directory in {}", args.out.display()), e))?;
        write(&directory.scenario(), scenario.to_yaml().as_bytes())?;
        let said = match run::carry_out(backend, &directory, &scenario, run::How::QUIET, |_| {}) {
            Ok(judged) => tally.count(&repro.property, &judged.results),
            // One run that can't be carried out doesn't undo the others.
            Err(Failure::Infrastructure(why)) if args.times > 1 => {
                tally.failed += 1;
                format!("not carried out: {why}")
            }
            Err(other) => return Err(other),
        };
        println!("{number:>4} of {}: {said}   {}", args.times, directory.path().display());
    }
    println!("\n{}", tally.words(&repro.property, args.times));
    match tally {
        Tally { failed, .. } if failed == args.times => {
            Err(Failure::Infrastructure("no run could be carried out".into()))
        }
        Tally { shown: 0, other: 0, unknown: 0, .. } => Ok(exit::of(Verdict::Valid)),
        Tally { shown: 0, other: 0, .. } => Ok(exit::of(Verdict::Unknown)),
        _ => Ok(exit::of(Verdict::Invalid)),
    }
}

impl Tally {
    /// Counts a run, and says what it showed.
    fn count(&mut self, property: &Property, results: &Results) -> String {
        let invalid: Vec<&str> = results
            .reports
            .iter()
            .filter(|report| report.verdict == Verdict::Invalid)
            .map(|report| report.checker.as_ref())
            .collect();
        let violated = match property {
            Property::Checker(name) => invalid.contains(&name.as_str()),
            // In a real run a cluster that doesn't serve makes the verdict unknown.
            _ => results.class == Some(Class::Unavailable),
        };
        match (violated, results.verdict) {
            (true, _) => {
                self.shown += 1;
                "it shows".into()
            }
            (false, Verdict::Valid) => {
                self.valid += 1;
                "it doesn't show (valid)".into()
            }
            (false, Verdict::Invalid) => {
                self.other += 1;
                format!("it doesn't show, but {} is violated", invalid.join(", "))
            }
            (false, Verdict::Unknown) => {
                self.unknown += 1;
                let why = results.reports.iter().find(|report| report.verdict == Verdict::Unknown);
                format!("unknown: {}", why.map_or("", |report| report.summary.as_ref()))
            }
        }
    }

    fn words(&self, property: &Property, times: u32) -> String {
        let mut text = format!("{property} shows in {} of {times} real runs", self.shown);
        for (count, words) in [
            (self.valid, "valid"),
            (self.other, "with another violation"),
            (self.unknown, "unknown"),
            (self.failed, "not carried out"),
        ] {
            if count > 0 {
                text += &format!("; {count} {words}");
            }
        }
        text
    }
}

/// The scenario that asks a real cluster for the same faults, under as much load as goes: the few
/// operations that are left in the simulator would seldom hit the moment in reality. All times
/// are stretched, and who led or held a lock in the simulator is named by that part.
fn stretched(repro: &Repro, stretch: u32) -> Scenario {
    let run = simulator().simulate(&repro.case);
    let mut scenario = repro.case.scenario.clone();
    let mut faults = Vec::new();
    // Shrinking leaves gaps in the numbers, which triggers refer to.
    let mut renumbered = BTreeMap::new();
    for timed in &repro.case.schedule {
        let fault = by_part(&timed.fault, timed.number, &run.events);
        let number = faults.len() as u64 + 1;
        renumbered.insert(timed.number, number);
        let (at, lasts) = (timed.at * stretch, (timed.lasts * stretch).max(Duration::from_millis(1)));
        faults.push(Timed { number, at, lasts, fault, when: timed.when.clone() });
    }
    for fault in &mut faults {
        if let Some(Trigger::Faults { numbers, .. }) = &mut fault.when {
            *numbers = numbers.iter().filter_map(|number| renumbered.get(number).copied()).collect();
        }
    }
    let end = faults.iter().map(Timed::end).max().unwrap_or_default();
    scenario.time = scenario.time.max(end + Duration::from_secs(1));
    scenario.faults = if faults.is_empty() { Faults::None } else { Faults::Scripted(faults) };
    let workload = &mut scenario.workload;
    let least = if workload.has_own_pace() { 4 } else { 10 };
    workload.set_rate(None);
    workload.free_ops(2_000);
    workload.set_concurrency(workload.concurrency().max(least));
    scenario
}

/// A fault of one host that led, or that was using what a lock protects, hits whoever does so: in
/// reality it may be another one.
fn by_part(fault: &Fault, number: u64, events: &[Event]) -> Fault {
    let Fault::Hosts { who: Selector::Names(names), harm } = fault else { return fault.clone() };
    let [name] = &names[..] else { return fault.clone() };
    let mut leads = false;
    let mut at_work = BTreeMap::new();
    for event in events {
        match &event.kind {
            EventKind::Observation(report) if report.node == *name && report.role.is_some() => leads = report.leads,
            EventKind::Invoke(invocation) if duress_workloads::client::work(&invocation.op).is_some() => {
                at_work.insert(invocation.process, invocation.client.as_ref().map(|client| client.host.clone()));
            }
            EventKind::Complete(completion) => {
                at_work.remove(&completion.process);
            }
            EventKind::Fault(event) if event.fault == number => break,
            _ => {}
        }
    }
    let part = match () {
        () if leads => Selector::Primary,
        () if at_work.values().any(|host| host.as_ref() == Some(name)) => Selector::Holder,
        () => return fault.clone(),
    };
    Fault::Hosts { who: part, harm: *harm }
}

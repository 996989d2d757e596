//! `duress replay`: repeats what a hunt found, exactly in the simulator, or as far as that goes on
//! a real cluster.

use std::process::ExitCode;
use std::time::Duration;

use duress_checkers::Verdict;
use duress_fault::{Fault, Timed};
use duress_hunt::{BUDGET, Property, Repro, Step, What, judge, story, target_checkers, trace};
use duress_scenario::{Faults, Scenario, Workload};
use duress_sim::{SimFault, SimRun};

use crate::args::ReplayArgs;
use crate::exit::{self, Failure};
use crate::rundir::RunDir;
use crate::simulated::{simulator, write};
use crate::{options, run};

pub(crate) fn replay(args: &ReplayArgs) -> Result<ExitCode, Failure> {
    let bytes = options::read(&args.file)?;
    let repro = Repro::parse(&bytes, &args.file.display().to_string()).map_err(|e| Failure::Usage(e.to_string()))?;
    match args.world.as_str() {
        "local" => local(&repro, args),
        _ => simulated(&repro, args),
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

/// Plays the schedule on a real cluster, again and again. There the file fixes what is asked for;
/// what happens is up to the machine.
fn local(repro: &Repro, args: &ReplayArgs) -> Result<ExitCode, Failure> {
    let (scenario, left_out) = real(repro);
    println!("{}", options::describe(&scenario));
    for fault in &left_out {
        println!("left out: {fault}, which a real cluster can't be made to do here");
    }
    let mut shown = 0;
    let mut unknown = 0;
    for number in 1..=args.times {
        let directory = RunDir::create(&args.out, &format!("{}-replay", scenario.name))
            .map_err(|e| Failure::infrastructure(&format!("can't make a directory in {}", args.out.display()), e))?;
        write(&directory.scenario(), scenario.to_yaml().as_bytes())?;
        let judged = run::carry_out(&directory, &scenario, true, |_| {})?;
        let violated = match &repro.property {
            Property::Checker(name) => {
                let reports = &judged.results.reports;
                reports.iter().any(|report| report.checker == *name && report.verdict == Verdict::Invalid)
            }
            // In a real run a cluster that doesn't serve makes the verdict unknown.
            _ => judged.results.class == Some(duress_checkers::Class::Unavailable),
        };
        shown += u32::from(violated);
        unknown += u32::from(!violated && judged.results.verdict == Verdict::Unknown);
        let word = if violated { "it shows" } else { "it doesn't show" };
        println!(
            "{number} of {}: {word} (verdict {}); {}",
            args.times,
            judged.results.verdict,
            directory.path().display()
        );
    }
    println!("\n{} shows in {shown} of {} real runs", repro.property, args.times);
    Ok(exit::of(match (shown, unknown) {
        (0, 0) => Verdict::Valid,
        (0, _) => Verdict::Unknown,
        _ => Verdict::Invalid,
    }))
}

/// The scenario that asks a real cluster for the same faults, under as much load as goes: the few
/// operations that are left in the simulator would seldom hit the moment in reality.
fn real(repro: &Repro) -> (Scenario, Vec<&'static str>) {
    let mut scenario = repro.case.scenario.clone();
    let mut left_out = Vec::new();
    let mut faults = Vec::new();
    for timed in &repro.case.schedule {
        let fault = match &timed.fault {
            SimFault::Common(fault) => fault.clone(),
            // The nearest thing: what was written stays, but memory is lost.
            SimFault::PowerLoss(who) => Fault::Crash(who.clone()),
            other => {
                left_out.push(other.kind());
                continue;
            }
        };
        let number = faults.len() as u64 + 1;
        let lasts = timed.lasts.max(Duration::from_millis(1));
        faults.push(Timed { number, at: timed.at, lasts, fault, when: None });
    }
    let end = faults.iter().map(Timed::end).max().unwrap_or_default();
    scenario.time = scenario.time.max(end + Duration::from_secs(1));
    scenario.faults = if faults.is_empty() { Faults::None } else { Faults::Scripted(faults) };
    match &mut scenario.workload {
        Workload::Register(register) => {
            (register.rate, register.ops) = (None, None);
            register.concurrency = register.concurrency.max(10);
        }
        Workload::Lock(lock) => {
            lock.ops = None;
            lock.concurrency = lock.concurrency.max(4);
        }
        Workload::Set(set) => {
            set.rate = None;
            set.ops = set.ops.max(2_000);
            set.concurrency = set.concurrency.max(10);
        }
    }
    (scenario, left_out)
}

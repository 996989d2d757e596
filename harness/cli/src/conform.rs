//! `duress conform`: plays scripts in the simulated and in the real world, and compares what
//! comes of each operation with what the script expects, and the worlds with each other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use duress_backend::Backend;
use duress_checkers::Verdict;
use duress_history::{Completion, Event, EventKind, Function, Phase, Process, Stage, Value, jsonl};
use duress_hunt::Case;

use crate::exit::Failure;
use crate::rundir::RunDir;
use crate::script::{Script, ending};
use crate::{backends, judge, options, run, simulated};

pub(crate) const EXAMPLES: &str = "\
Examples:
  duress conform harness/cli/tests/conformance/*.script
  duress conform --world sim my.script

A script is a scenario, a line ---, and a line for each operation with what must come of it:

  500ms  c1.n1  write x 1  -> ok
  then   c2.n2  read x     -> ok 1 | info timeout
  then   c2.n3  read x     until ok 1

Exit codes: 0 every script did in every world what it expects, 1 some did not,
254 the harness or the infrastructure failed, 255 usage or configuration error.";

#[derive(Debug, Args)]
pub(crate) struct ConformArgs {
    /// Script files
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Where they are played: sim, local or both
    #[arg(long, value_name = "WORLD", default_value = "both", value_parser = backends::worlds_or_both())]
    world: String,
    /// Where runs are kept
    #[arg(long, value_name = "DIR", default_value = "duress-runs")]
    out: PathBuf,
}

/// What came of a script in one world.
struct Played {
    world: &'static str,
    directory: PathBuf,
    /// For each line, how it ended the last time; `None` if it never began or never ended.
    endings: Vec<Option<Completion>>,
    /// The checkers that found the run invalid.
    broken: Vec<String>,
    /// Faults that did not do what they should.
    unproven: Vec<String>,
}

pub(crate) fn conform(args: &ConformArgs) -> Result<ExitCode, Failure> {
    let scripts = args.files.iter().map(|file| read(file)).collect::<Result<Vec<_>, _>>()?;
    let mut failed = 0;
    for (file, script) in args.files.iter().zip(&scripts) {
        let mut played = Vec::new();
        if ["both", backends::SIM].contains(&args.world.as_str()) {
            played.push(in_sim(file, script, &args.out)?);
        }
        if args.world != backends::SIM {
            let backend = backends::named(&args.world).unwrap_or(backends::ALL[0]);
            played.push(in_reality(backend, file, script, &args.out)?);
        }
        let wrong = wrong(script, &played);
        let worlds: Vec<&str> = played.iter().map(|played| played.world).collect();
        match wrong.is_empty() {
            true => println!("{}: as expected ({})", file.display(), worlds.join(", ")),
            false => {
                failed += 1;
                println!("{}: NOT AS EXPECTED", file.display());
                wrong.iter().for_each(|line| println!("  {line}"));
                played.iter().for_each(|played| println!("  {}: {}", played.world, played.directory.display()));
            }
        }
    }
    Ok(ExitCode::from(u8::from(failed > 0)))
}

/// Reads a script file.
pub(crate) fn read(file: &Path) -> Result<Script, Failure> {
    Script::parse(&options::read(file)?, &file.display().to_string()).map_err(|e| Failure::Usage(e.to_string()))
}

fn directory(file: &Path, script: &Script, out: &Path, world: &str) -> Result<RunDir, Failure> {
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    let directory = RunDir::create(out, &format!("{name}-{world}"))
        .map_err(|e| Failure::infrastructure(&format!("can't make a directory in {}", out.display()), e))?;
    simulated::write(&directory.scenario(), script.scenario.to_yaml().as_bytes())?;
    Ok(directory)
}

fn in_sim(file: &Path, script: &Script, out: &Path) -> Result<Played, Failure> {
    let directory = directory(file, script, out, backends::SIM)?;
    let mut generator = script.generator();
    let run = simulated::scripted(&Case::of(&script.scenario), generator.as_mut());
    simulated::keep(&run, &directory)?;
    let judged = judge::judge(&directory, &script.scenario)?;
    Ok(played(backends::SIM, script, &directory, &run.events, &judged))
}

fn in_reality(backend: &dyn Backend, file: &Path, script: &Script, out: &Path) -> Result<Played, Failure> {
    let directory = directory(file, script, out, backend.name())?;
    // The harness inside the sandbox reads it again.
    simulated::write(&directory.script(), &options::read(file)?)?;
    let judged = run::carry_out(backend, &directory, &script.scenario, run::How::QUIET, |_| {})?;
    let failed = |e: &dyn std::fmt::Display| Failure::infrastructure("can't read the history back", e);
    let history = std::fs::File::open(directory.history()).map_err(|e| failed(&e))?;
    let stored = jsonl::read(std::io::BufReader::new(history)).map_err(|e| failed(&e))?;
    Ok(played(backend.name(), script, &directory, &stored.events, &judged))
}

fn played(
    world: &'static str,
    script: &Script,
    directory: &RunDir,
    events: &[Event],
    judged: &judge::Judged,
) -> Played {
    let invalid = judged.results.reports.iter().filter(|report| report.verdict == Verdict::Invalid);
    Played {
        world,
        directory: directory.path().to_path_buf(),
        endings: endings(script, events),
        broken: invalid.map(|report| report.checker.to_string()).collect(),
        unproven: unproven(events),
    }
}

/// For each line, how it ended. A line is known by its client host and node, and by its place
/// among that process's operations.
fn endings(script: &Script, events: &[Event]) -> Vec<Option<Completion>> {
    let mut endings = vec![None; script.lines.len()];
    let hosts = (script.scenario.client_names(), script.scenario.node_names());
    let mut asked: BTreeMap<Process, usize> = BTreeMap::new();
    let mut over = vec![false; script.lines.len()];
    let mut main = false;
    for event in events {
        match &event.kind {
            EventKind::Phase { phase } => main = *phase == Phase::Main,
            EventKind::Invoke(invocation) if main => {
                let Some(client) = &invocation.client else { continue };
                let by = |line: &crate::script::Line| {
                    hosts.0[line.client] == client.host && hosts.1[line.node] == client.node
                };
                let present = (0..endings.len()).find(|at| !over[*at] && by(&script.lines[*at]));
                if let Some(present) = present.filter(|_| !is_probe(&invocation.op)) {
                    asked.insert(invocation.process, present);
                }
            }
            EventKind::Complete(completion) => {
                if let Some(at) = asked.remove(&completion.process) {
                    over[at] = script.lines[at].is_over(completion);
                    endings[at] = Some(completion.clone());
                }
            }
            _ => {}
        }
    }
    endings
}

/// Whether the harness asks only to see whether a node answers.
fn is_probe(op: &duress_history::Op) -> bool {
    op.is_probe()
}

fn unproven(events: &[Event]) -> Vec<String> {
    let evidence = events.iter().filter_map(|event| match &event.kind {
        EventKind::Evidence(evidence) if !evidence.proven => Some(evidence),
        _ => None,
    });
    evidence
        .map(|evidence| {
            let stage = if evidence.stage == Stage::Start { "at its start" } else { "at its end" };
            format!("fault {} not proven {stage}: {}", evidence.fault, evidence.what)
        })
        .collect()
}

/// What is not as expected, and where the worlds differ though there is one expectation only.
fn wrong(script: &Script, played: &[Played]) -> Vec<String> {
    let mut wrong = Vec::new();
    let ended = |completion: &Option<Completion>| completion.as_ref().map_or_else(|| "never ended".into(), ending);
    for (at, line) in script.lines.iter().enumerate() {
        for world in played {
            let ending = &world.endings[at];
            if !ending.as_ref().is_some_and(|ending| line.expects(ending)) {
                wrong.push(format!("{}   but in {}: {}", line.text, world.world, ended(ending)));
            }
        }
        if let [one, other] = played
            && let (Some(one), Some(other)) = (&one.endings[at], &other.endings[at])
            && line.is_certain()
            && !alike(one, other)
        {
            wrong.push(format!("{}   differs: {} or {}", line.text, ending(one), ending(other)));
        }
    }
    for world in played {
        let mut expected = script.broken.clone();
        let mut broken = world.broken.clone();
        expected.sort();
        broken.sort();
        if expected != broken {
            let named = |names: &[String]| if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
            wrong.push(format!("{}: invalid is {}, not {}", world.world, named(&broken), named(&expected)));
        }
        wrong.extend(world.unproven.iter().map(|what| format!("{}: {what}", world.world)));
    }
    wrong
}

/// Whether two endings are the same, whoever answered and for whatever reason: of several attempts
/// the last one gives the reason, and which one that is may be a matter of microseconds. Tokens are
/// any that grow.
fn alike(one: &Completion, other: &Completion) -> bool {
    let given = |completion: &Completion| match &completion.op.f {
        Function::Acquire => Value::Nil,
        _ => completion.result.clone(),
    };
    (one.outcome, given(one)) == (other.outcome, given(other))
}

//! From the command line to a scenario, and a scenario in a few words.

use std::hash::{BuildHasher, Hasher};
use std::path::Path;

use duress_scenario::{Faults, Options, Scenario};

use crate::args::{RunArgs, ScenarioArgs};
use crate::assemble::plugs;
use crate::exit::Failure;
use crate::rundir::RunDir;

/// The scenario that the command line asks for, with a seed. `time` is its `--time`.
pub(crate) fn scenario(args: &ScenarioArgs, time: Option<&str>) -> Result<Scenario, Failure> {
    let options = Options {
        target: args.target.clone(),
        bug: args.bug.clone(),
        workload: args.workload.clone(),
        faults: args.faults.as_ref().map(|kinds| kinds.join(",")),
        time: time.map(str::to_string),
        nodes: args.nodes.clone(),
        concurrency: args.concurrency.clone(),
        rate: args.rate.clone(),
        seed: args.seed.map(|seed| seed.to_string()),
        set: args.set.clone(),
    };
    let overrides = options.overrides().map_err(usage)?;
    let mut scenario = match &args.scenario {
        Some(file) => Scenario::parse_bytes(&read(file)?, &file.display().to_string(), &overrides, &plugs()),
        None => Scenario::from_options(&options, &plugs()),
    }
    .map_err(usage)?;
    scenario.seed.get_or_insert_with(fresh_seed);
    Ok(scenario)
}

/// The scenario of a stored run, as it was run.
pub(crate) fn stored(directory: &RunDir) -> Result<Scenario, Failure> {
    let file = directory.scenario();
    Scenario::parse_bytes(&read(&file)?, &file.display().to_string(), &[], &plugs()).map_err(usage)
}

fn usage(error: duress_scenario::Error) -> Failure {
    Failure::Usage(error.to_string())
}

/// No scenario file is longer; anything longer is something else.
const MAX_FILE: u64 = 1 << 20;

pub(crate) fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |e: &dyn std::fmt::Display| Failure::Usage(format!("can't read {}: {e}", file.display()));
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file).map_err(|e| failed(&e))?;
    std::io::Read::read_to_end(&mut std::io::Read::take(opened, MAX_FILE + 1), &mut bytes).map_err(|e| failed(&e))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(failed(&format!("longer than {} KiB, so it is neither a scenario nor a repro", MAX_FILE >> 10)));
    }
    Ok(bytes)
}

/// A seed that nobody chose. Small enough to be read out and typed.
pub(crate) fn fresh_seed() -> u64 {
    let state = std::collections::hash_map::RandomState::new();
    state.build_hasher().finish() % 1_000_000_000
}

/// A scenario in a line, after a word of warning if a bug is planted in its target.
pub(crate) fn describe(scenario: &Scenario) -> String {
    let faults = match &scenario.faults {
        Faults::None => "no faults".to_string(),
        Faults::Planned(plan) => {
            let kinds: Vec<_> = plan.kinds.iter().map(|kind| kind.name()).collect();
            format!("faults: {}", kinds.join(", "))
        }
        Faults::Scripted(faults) => match faults.len() {
            1 => "one scripted fault".to_string(),
            n => format!("{n} scripted faults"),
        },
    };
    let bug = scenario.target.bug().map(|bug| format!("planted bug: {}. {}\n", bug.name, bug.about));
    format!(
        "{}{}: {} {} nodes, {} workload by {} processes on {} client hosts, {}, {}, seed {}",
        bug.unwrap_or_default(),
        scenario.name,
        scenario.target.nodes(),
        scenario.target.kind(),
        scenario.workload.kind(),
        scenario.workload.concurrency(),
        scenario.clients,
        faults,
        duress_scenario::format_duration(scenario.time),
        scenario.seed.unwrap_or_default(),
    )
}

/// The command that asks for the same again. In the real world the seed fixes what is asked for,
/// not what happens.
pub(crate) fn again(scenario: &Scenario, args: &RunArgs) -> String {
    let run = args;
    let RunArgs { asked: args, time, .. } = args;
    let mut words = vec!["duress run".to_string()];
    words.extend(args.scenario.as_ref().map(|file| quote(&file.display().to_string())));
    let faults = args.faults.as_ref().map(|kinds| kinds.join(","));
    for (flag, value) in [
        ("--target", &args.target),
        ("--bug", &args.bug),
        ("--workload", &args.workload),
        ("--faults", &faults),
        ("--time", time),
        ("--nodes", &args.nodes),
        ("--concurrency", &args.concurrency),
        ("--rate", &args.rate),
    ] {
        words.extend(value.as_ref().map(|value| format!("{flag} {}", quote(value))));
    }
    words.extend(args.set.iter().map(|assignment| format!("--set {}", quote(assignment))));
    words.extend(run.pcap.then(|| "--pcap".to_string()));
    words.push(format!("--seed {}", scenario.seed.unwrap_or_default()));
    words.join(" ")
}

/// A word as a shell wants it.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./,=:+%@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_string()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

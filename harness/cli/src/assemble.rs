//! From a scenario to something that can be run and judged.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use duress_checkers::Judge;
use duress_checkers::service_level::ServiceLevel;
use duress_checkers::split_brain::SplitBrain;
use duress_kit::Kit;
use duress_machine::client::Policy;
use duress_plug::Plugs;
use duress_run::{Plan, Target};
use duress_scenario::{Heal, Scenario};
use duress_seed::Seed;
use duress_workloads::{Chosen, Generator, Size};

use crate::exit::Failure;
use crate::machines::Machines;

/// The targets and workloads that there are.
pub(crate) fn plugs() -> Plugs<'static> {
    Plugs { targets: crate::plugs::targets(), workloads: duress_workloads::plugs() }
}

/// What runs a scenario's target.
pub(crate) fn kit(scenario: &Scenario) -> Result<&'static dyn Kit, Failure> {
    crate::plugs::kit(scenario.target.kind())
        .ok_or_else(|| Failure::Usage(format!("a {} target can't be run by this binary", scenario.target.kind())))
}

/// Everything that a run needs.
pub(crate) struct Assembled {
    pub(crate) plan: Plan,
    pub(crate) target: Arc<dyn Target>,
    pub(crate) generator: Box<dyn Generator>,
}

/// How a client goes about its calls.
pub(crate) fn policy(scenario: &Scenario) -> Policy {
    Policy {
        timeout: Duration::from_secs(2),
        attempt_timeout: scenario.target.attempt_timeout(),
        max_attempts: 100,
        backoff: Duration::from_millis(20),
        exactly_once: scenario.target.facts().exactly_once,
        roam: true,
    }
}

pub(crate) fn assemble(scenario: &Scenario, directory: &Path) -> Result<Assembled, Failure> {
    let seed = Seed(scenario.seed.ok_or_else(|| Failure::Usage("the stored scenario has no seed".into()))?);
    let policy = policy(scenario);
    let schedule = scenario.schedule(seed);
    let longest_fault = schedule.faults().iter().map(|timed| timed.lasts).max().unwrap_or_default();
    let concurrency = usize::from(scenario.workload.concurrency());
    let plan = Plan {
        scenario: scenario.name.as_str().into(),
        directory: directory.to_path_buf(),
        nodes: scenario.node_names(),
        clients: scenario.client_names(),
        concurrency,
        time: scenario.time,
        schedule,
        seed,
        recovery: scenario.limits.recovery,
        heal_first: heal_first(scenario),
        patience: policy.timeout + longest_fault + Duration::from_secs(5),
        probe: scenario.target.facts().probe,
        fencing: scenario.workload.fencing(),
        sabotage: sabotage(),
        max_operations: scenario.limits.history_events / 2,
        onlooker: None,
        capture: None,
    };
    let generator = generator(scenario, seed);
    let target = Machines::new(scenario, seed.derive("target"), policy)?;
    Ok(Assembled { plan, target: Arc::new(target), generator })
}

/// The workload with what it is judged by.
fn workload(scenario: &Scenario) -> Chosen {
    // Scenarios are read with the plugs of this binary, and no others.
    let workload = duress_workloads::named(scenario.workload.kind()).expect("a workload of this binary");
    Chosen { workload, options: scenario.workload.options.clone() }
}

/// The scenario's operations, every choice drawn from the run's seed.
pub(crate) fn generator(scenario: &Scenario, seed: Seed) -> Box<dyn Generator> {
    let size = Size {
        nodes: scenario.target.nodes().into(),
        concurrency: scenario.workload.concurrency().into(),
        time: scenario.time,
    };
    workload(scenario).generator(&size, seed)
}

/// How many nodes are healed first and must serve then, if that is asked for.
pub(crate) fn heal_first(scenario: &Scenario) -> Option<usize> {
    match scenario.limits.heal {
        Some(Heal::Quorum) => scenario.target.quorum().map(usize::from),
        Some(Heal::All) | None => None,
    }
}

/// Kinds of faults, with commas between them, that a run is to claim without carrying them out. Our
/// own tests set this, to see that the evidence finds it out.
fn sabotage() -> Vec<smol_str::SmolStr> {
    let kinds = std::env::var("DURESS_TEST_SABOTAGE").unwrap_or_default();
    kinds.split(',').filter(|kind| !kind.is_empty()).map(Into::into).collect()
}

/// What a run of this scenario is judged by.
pub(crate) fn checkers(scenario: &Scenario) -> Vec<Box<dyn Judge>> {
    // Every target must end up with the same elements everywhere, once it had the time.
    let mut checkers = workload(scenario).checkers(scenario.limits.min_ok, true);
    if let Some(min_available) = scenario.limits.min_available {
        checkers.push(Box::new(ServiceLevel { min_available }));
    }
    if scenario.target.leads() {
        // Beside the workload's own checker: what the target promised comes before what the run did.
        checkers.insert(1, Box::new(SplitBrain));
    }
    checkers
}

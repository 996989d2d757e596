//! From a scenario to something that can be run and judged.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use duress_checkers::Checker;
use duress_checkers::service_level::ServiceLevel;
use duress_checkers::split_brain::SplitBrain;
use duress_kv::config::Config;
use duress_kv::{paxos, primary_backup, quorum};
use duress_machine::client::Policy;
use duress_run::{Plan, Target};
use duress_scenario::{Heal, Scenario, Workload, target};
use duress_seed::Seed;
use duress_workloads::{Generator, lock, register, set};

use crate::bundled::Bundled;
use crate::exit::Failure;

/// Everything that a run needs.
pub(crate) struct Assembled {
    pub(crate) plan: Plan,
    pub(crate) target: Arc<dyn Target>,
    pub(crate) generator: Box<dyn Generator>,
}

/// How a client goes about its calls.
pub(crate) fn policy(scenario: &Scenario) -> Policy {
    // Quorum writes are not remembered, so a repeated one might undo what came in between.
    let exactly_once = !matches!(scenario.target, duress_scenario::Target::Quorum(_));
    Policy {
        timeout: Duration::from_secs(2),
        attempt_timeout: scenario.target.attempt_timeout(),
        max_attempts: 100,
        backoff: Duration::from_millis(20),
        exactly_once,
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
        fencing: matches!(&scenario.workload, Workload::Lock(lock) if lock.fencing),
        sabotage: sabotage(),
        max_operations: scenario.limits.history_events / 2,
        onlooker: None,
        capture: None,
    };
    let nodes = usize::from(scenario.target.nodes());
    let workload = duress_workloads::Workload::new(
        duress_workloads::Config {
            nodes,
            concurrency,
            time: scenario.time,
            options: workload_options(&scenario.workload),
        },
        seed,
    );
    let target = Bundled::new(config(&scenario.target, seed.derive("target")), nodes, policy);
    Ok(Assembled { plan, target: Arc::new(target), generator: workload.generator })
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
pub(crate) fn checkers(scenario: &Scenario) -> Vec<Box<dyn Checker>> {
    // Every target must end up with the same elements everywhere, once it had the time.
    let mut checkers = workload_options(&scenario.workload).checkers(scenario.limits.min_ok, true);
    if let Some(min_available) = scenario.limits.min_available {
        checkers.push(Box::new(ServiceLevel { min_available }));
    }
    if scenario.target.leads() {
        // Beside the workload's own checker: what the target promised comes before what the run did.
        checkers.insert(1, Box::new(SplitBrain));
    }
    checkers
}

pub(crate) fn workload_options(workload: &Workload) -> duress_workloads::Options {
    match workload {
        Workload::Register(asked) => duress_workloads::Options::Register(register::Options {
            keys: asked.keys as usize,
            ops_per_key: asked.ops_per_key,
            prefix: asked.prefix.clone(),
            mix: register::Mix { read: asked.mix.read, write: asked.mix.write, cas: asked.mix.cas },
            rate: asked.rate,
            ops: asked.ops,
        }),
        Workload::Lock(asked) => duress_workloads::Options::Lock(lock::Options {
            locks: asked.locks as usize,
            lease: asked.lease,
            hold: asked.hold,
            work: asked.work,
            fencing: asked.fencing,
            ops: asked.ops,
        }),
        Workload::Set(asked) => duress_workloads::Options::Set(set::Options { rate: asked.rate, ops: Some(asked.ops) }),
    }
}

/// The machines' own configuration.
pub(crate) fn config(asked: &duress_scenario::Target, seed: Seed) -> Config {
    match asked {
        duress_scenario::Target::Paxos(asked) => Config::Paxos(paxos::Config {
            reads: match asked.reads {
                target::PaxosReads::Log => paxos::Reads::Log,
                target::PaxosReads::Lease => paxos::Reads::Lease,
                target::PaxosReads::Local => paxos::Reads::Local,
            },
            heartbeat: asked.heartbeat,
            election_timeout: asked.election_timeout,
            lease: asked.lease,
            max_clock_drift_ppm: asked.max_clock_drift_ppm,
            snapshot_every: asked.snapshot_every,
            bug: asked.bug,
            ..paxos::Config::new(asked.nodes, seed)
        }),
        duress_scenario::Target::Quorum(asked) => Config::Quorum(quorum::Config {
            replicas: Some(asked.replicas),
            timestamps: match asked.timestamps {
                target::Timestamps::Logical => quorum::Timestamps::Logical,
                target::Timestamps::Wall => quorum::Timestamps::Wall,
            },
            write_back: asked.write_back,
            read_repair: asked.read_repair,
            request_timeout: asked.request_timeout,
            snapshot_every: asked.snapshot_every,
            bug: asked.bug,
            ..quorum::Config::new(asked.nodes, asked.read_quorum, asked.write_quorum, seed)
        }),
        duress_scenario::Target::PrimaryBackup(asked) => Config::PrimaryBackup(primary_backup::Config {
            replication: match asked.replication {
                target::Replication::Sync => primary_backup::Replication::Sync,
                target::Replication::Async => primary_backup::Replication::Async,
            },
            failover: match asked.failover {
                target::Failover::None => primary_backup::Failover::None,
                target::Failover::Timeout => primary_backup::Failover::Timeout,
                target::Failover::Fenced => primary_backup::Failover::Fenced,
                target::Failover::Vote => primary_backup::Failover::Vote,
            },
            reads: match asked.reads {
                target::PrimaryBackupReads::Primary => primary_backup::Reads::Primary,
                target::PrimaryBackupReads::Any => primary_backup::Reads::Any,
            },
            heartbeat: asked.heartbeat,
            failover_timeout: asked.failover_timeout,
            snapshot_every: asked.snapshot_every,
            bug: asked.bug,
            ..primary_backup::Config::new(asked.nodes, seed)
        }),
    }
}

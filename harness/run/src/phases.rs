//! A run, phase by phase.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use duress_conductor::READY;
use duress_deploy::{DeployError, HostSpec, Local};
use duress_fault::Schedule;
use duress_history::{EventKind, Function, Header, Host, Op, Outcome, Phase, Time};
use duress_seed::Seed;
use duress_workloads::{FinalOp, Generator};
use serde::{Deserialize, Serialize};
use smol_str::{SmolStr, format_smolstr};
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::clients::{Clients, work};
use crate::cluster::Cluster;
use crate::nemesis::Nemesis;
use crate::{Onlooker, Progress, Recorder, Target, TargetError};

/// What is to be run.
pub struct Plan {
    /// The scenario's name.
    pub scenario: SmolStr,
    /// The run directory; it exists, and `history.jsonl` in it does not.
    pub directory: PathBuf,
    /// The members of the target.
    pub nodes: Vec<Host>,
    /// The client hosts.
    pub clients: Vec<Host>,
    /// How many processes are at work at a time.
    pub concurrency: usize,
    /// How long the main phase lasts.
    pub time: Duration,
    /// What is done to the target meanwhile.
    pub schedule: Schedule,
    /// Fixes everything that is asked for.
    pub seed: Seed,
    /// How long the healed target may take to answer again.
    pub recovery: Duration,
    /// So many nodes, drawn from the seed, are healed first and must answer within
    /// [`recovery`](Plan::recovery), while all others are down or cut off from everybody. `None`:
    /// everything is healed at once.
    pub heal_first: Option<usize>,
    /// An operation may take this long before its client host is given up on.
    pub patience: Duration,
    /// Whether the resource that locks protect checks tokens.
    pub fencing: bool,
    /// Kinds of faults that are claimed but not carried out: for tests that such a run is not
    /// taken for a proven one.
    pub sabotage: Vec<SmolStr>,
    /// The main phase ends when this many operations have ended.
    pub max_operations: u64,
    /// Who looks on, and may end the main phase.
    pub onlooker: Option<Onlooker>,
    /// Where to write every frame between hosts, as a pcapng file, if anywhere.
    pub capture: Option<PathBuf>,
}

/// How a run ended, apart from its history.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Ended {
    /// From the start of deployment until every node was ready.
    pub deployed: Duration,
    /// From the start of deployment until a client got its first answer.
    pub serving: Duration,
    /// How long the main phase lasted.
    pub main: Duration,
    /// From the healing of all faults until every node answered; `None` if that never came.
    pub recovery: Option<Duration>,
    /// The nodes that were down or cut off when the others, a quorum, did not answer in time; empty
    /// if that was not asked for or did not happen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub away: Vec<Host>,
    /// Somebody stopped the run before its time.
    pub interrupted: bool,
    /// The onlooker ended the main phase before its time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub seen_enough: bool,
    /// CPU time of the harness in the main phase: fabric, clients' slots, nemesis, recorder.
    pub harness_cpu: Duration,
    /// CPU time of the client hosts in the main phase.
    pub clients_cpu: Duration,
    /// Frames in the capture, and frames that came too fast for it or found it full; `None` if
    /// there is no capture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub captured: Option<(u64, u64)>,
}

/// Why a run could not be carried out. Never the target's fault, except where it says so.
#[derive(Debug, Error)]
pub enum RunError {
    /// Deployment or process control failed.
    #[error(transparent)]
    Deploy(#[from] DeployError),
    /// A disk that fails on demand could not be had.
    #[error(transparent)]
    Disk(#[from] duress_disk::DiskError),
    /// The target's own messages could not be made or read.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Reading or writing failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// A node did not come up.
    #[error("{node} was not ready within {} s; its log is {}", within.as_secs(), log.display())]
    NotReady {
        /// Which node.
        node: Host,
        /// How long it was waited for.
        within: Duration,
        /// Its log.
        log: PathBuf,
    },
    /// A node ended instead of coming up.
    #[error("{node} ended before it was ready; its log is {}", log.display())]
    Ended {
        /// Which node.
        node: Host,
        /// Its log.
        log: PathBuf,
    },
    /// The network is broken before anything was done to it.
    #[error("before any fault, probes did not get through: {0}")]
    Network(String),
    /// The target never served, though nothing was done to it.
    #[error("no client got an answer within {} s of deployment, before any fault; see the nodes' logs", .0.as_secs())]
    NeverServed(Duration),
    /// A fault in Duress.
    #[error("{0}")]
    Harness(String),
}

/// Tells a run to stop early: it heals, stops the target and ends its history properly.
pub type Stop = watch::Receiver<bool>;

/// Carries out a run. Must be called inside the sandbox, on a current-thread tokio runtime.
///
/// # Errors
/// When the harness or the infrastructure failed. The history up to then is in its file.
pub async fn run(
    mut plan: Plan,
    target: Arc<dyn Target>,
    generator: Box<dyn Generator>,
    progress: Progress,
    stop: Stop,
) -> Result<Ended, RunError> {
    let recorder = Recorder::create(&plan.directory.join("history.jsonl"), plan.onlooker.take())?;
    recorder.record(EventKind::Header(Header {
        version: Header::VERSION,
        scenario: plan.scenario.clone(),
        seed: plan.seed.0,
        nodes: plan.nodes.clone(),
        clients: plan.clients.clone(),
        started_unix_ms: std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX)),
    }));
    let result = go(&plan, target, generator, &recorder, progress, stop).await;
    recorder.finish()?;
    result
}

async fn go(
    plan: &Plan,
    target: Arc<dyn Target>,
    generator: Box<dyn Generator>,
    recorder: &Recorder,
    progress: Progress,
    mut stop: Stop,
) -> Result<Ended, RunError> {
    let began = Instant::now();
    let mut ended = Ended::default();
    let hosts: Vec<_> =
        plan.nodes.iter().chain(&plan.clients).map(|name| HostSpec { name: name.to_string() }).collect();
    let options = duress_fabric::Options { capture: plan.capture.clone(), ..duress_fabric::Options::default() };
    let local = Local::with_options(&hosts, plan.seed.derive("fabric"), &options)?;
    let (client_frames, frames) = mpsc::unbounded_channel();
    let (waker, woken) = mpsc::unbounded_channel();
    let cluster = Cluster::start(local, target, recorder.clone(), plan, client_frames, waker)?;
    let clients = Clients::new(cluster.clone(), progress.clone(), plan.concurrency, plan.fencing, plan.patience);
    tokio::spawn(clients.clone().listen(frames));
    for node in 0..plan.nodes.len() {
        cluster.wait_ready(node, READY).await?;
    }
    ended.deployed = began.elapsed();
    let seed = plan.seed.derive("nemesis");
    let nemesis = Nemesis::new(cluster.clone(), clients.clone(), progress.clone(), seed, plan.sabotage.clone());
    nemesis.check_network().await?;
    let all: Vec<usize> = (0..plan.nodes.len()).collect();
    if !serves(&clients, &all, READY, Any).await {
        return Err(RunError::NeverServed(READY));
    }
    ended.serving = began.elapsed();

    enter(recorder, &progress, Phase::Main);
    let cpu = (duress_deploy::cpu_time_self(), cluster.cpu_times().1);
    let main = Instant::now();
    let follower = tokio::spawn(nemesis.clone().follow(woken));
    cluster.conducting.begin();
    let generator = Arc::new(Mutex::new(generator));
    let (halt, halted) = watch::channel(false);
    let mut slots = tokio::task::JoinSet::new();
    for slot in 0..plan.concurrency {
        slots.spawn(work(clients.clone(), generator.clone(), slot, main, halted.clone()));
    }
    tokio::select! {
        () = tokio::time::sleep(plan.time) => {}
        _ = stop.wait_for(|stop| *stop) => ended.interrupted = true,
        () = async { while slots.join_next().await.is_some() {} } => {}
        () = enough(&progress, plan.max_operations) => {}
        () = recorder.seen_enough() => ended.seen_enough = true,
    }
    // Before anything is healed, so that who is to stay away is never there in between.
    nemesis.main_over(!ended.interrupted && !ended.seen_enough).await;
    halt.send_replace(true);
    ended.main = main.elapsed();
    ended.harness_cpu = duress_deploy::cpu_time_self().saturating_sub(cpu.0);
    ended.clients_cpu = cluster.cpu_times().1.saturating_sub(cpu.1);
    nemesis.heal_all().await?;

    let mut quorum_serves = true;
    let held = cluster.conducting.lock().held().cloned();
    if let Some(held) = held {
        let quorum: Vec<usize> = held.healed.iter().filter_map(|node| cluster.node_index(node)).collect();
        quorum_serves = serves(&clients, &quorum, plan.recovery, All).await;
        nemesis.end_hold().await?;
        if !quorum_serves {
            ended.away = held.away;
        }
    }

    enter(recorder, &progress, Phase::Recovery);
    let healed = Instant::now();
    nemesis.repair().await?;
    while slots.join_next().await.is_some() {}
    if quorum_serves && !ended.interrupted && serves(&clients, &all, plan.recovery, All).await {
        ended.recovery = Some(healed.elapsed());
        enter(recorder, &progress, Phase::Final);
        finale(plan, &cluster, &clients, &generator).await;
    }
    nemesis.end(follower).await;
    enter(recorder, &progress, Phase::End);
    cluster.write_statuses()?;
    cluster.stop()?;
    cluster.unmount();
    ended.captured = cluster.local.links().captured().map(|captured| (captured.frames, captured.missed));
    Ok(ended)
}

fn enter(recorder: &Recorder, progress: &Progress, phase: Phase) -> Time {
    progress.phase(phase);
    recorder.record(EventKind::Phase { phase })
}

async fn enough(progress: &Progress, operations: u64) {
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let seen = progress.snapshot();
        if seen.ok + seen.fail + seen.info >= operations {
            return;
        }
    }
}

use Answering::{All, Any};

/// Which nodes have to answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answering {
    Any,
    All,
}

/// Asks nodes, all at the same time and again and again, until they have answered an operation.
async fn serves(clients: &Arc<Clients>, nodes: &[usize], within: Duration, which: Answering) -> bool {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let mut asked = tokio::task::JoinSet::new();
    let deadline = Instant::now() + within;
    for node in nodes.iter().copied() {
        let clients = clients.clone();
        let mut seat = clients.extra_seat(node, node);
        asked.spawn(async move {
            for _ in 0..PROBES {
                // A register of its own each time, so that what becomes of a probe never matters.
                let number = NUMBER.fetch_add(1, Ordering::Relaxed);
                let op = Op::on(Function::Write, format_smolstr!("probe-{number}"), 1);
                if clients.perform(&mut seat, op).await.outcome == Outcome::Ok {
                    return true;
                }
                if Instant::now() > deadline {
                    return false;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            false
        });
    }
    let all = tokio::time::timeout_at(deadline, async {
        let mut answered = true;
        while let Some(result) = asked.join_next().await {
            let ok = result.unwrap_or(false);
            if ok && which == Any {
                // The others' probes end by themselves.
                asked.detach_all();
                return true;
            }
            answered &= ok;
        }
        answered && which == All
    });
    all.await.unwrap_or(false)
}

/// How often a node is asked whether it serves; at 20 ms apart, more than fits in any bound.
const PROBES: usize = 2000;

/// The last questions: every node has had the time to catch up, nothing disturbs.
async fn finale(
    plan: &Plan,
    cluster: &Arc<Cluster>,
    clients: &Arc<Clients>,
    generator: &Arc<Mutex<Box<dyn Generator>>>,
) {
    if cluster.target.has_log() {
        let converged = async {
            while !agreed(cluster) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(plan.recovery, converged).await.is_err() {
            tracing::warn!("the nodes did not come to the same log position within {:?}", plan.recovery);
        }
    }
    let operations = generator.lock().unwrap_or_else(std::sync::PoisonError::into_inner).finale();
    let mut asked = tokio::task::JoinSet::new();
    for (number, FinalOp { node, op }) in operations.into_iter().enumerate() {
        let clients = clients.clone();
        let mut seat = clients.extra_seat(number, node);
        asked.spawn(async move { clients.perform(&mut seat, op).await });
        // As many at a time as in the main phase.
        if asked.len() >= plan.concurrency.max(1) {
            asked.join_next().await;
        }
    }
    while asked.join_next().await.is_some() {}
}

/// Whether all nodes say that they have the same log.
fn agreed(cluster: &Cluster) -> bool {
    let reports = cluster.reports();
    let mut positions = reports.iter().map(|report| report.as_ref().map(|r| (r.index, r.digest)));
    match positions.next() {
        Some(Some(first)) => positions.all(|position| position == Some(first)),
        _ => false,
    }
}

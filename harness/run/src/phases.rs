//! A run, phase by phase.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use duress_backend::{Backend, HostSpec, Options};
use duress_conductor::READY;
use duress_history::{EventKind, Header, Outcome, Phase, Time};
use duress_workloads::{FinalOp, Generator, probe};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::clients::{Clients, work};
use crate::cluster::Cluster;
use crate::nemesis::Nemesis;
use crate::{Ended, Plan, Progress, Recorder, RunError, Stop, Target, needs};

/// Carries out a run. Must be called in a process that the back end has
/// [prepared](Backend::prepare), on a current-thread tokio runtime.
///
/// # Errors
/// When the back end lacks what the plan needs: then nothing was begun. When the harness or the
/// infrastructure failed: then the history up to then is in its file.
pub async fn run(
    mut plan: Plan,
    backend: &dyn Backend,
    target: Arc<dyn Target>,
    generator: Box<dyn Generator>,
    progress: Progress,
    stop: Stop,
) -> Result<Ended, RunError> {
    needs::check(backend, &plan.schedule, plan.heal_first.is_some())?;
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
    let result = go(&plan, backend, target, generator, &recorder, progress, stop).await;
    recorder.finish()?;
    result
}

async fn go(
    plan: &Plan,
    backend: &dyn Backend,
    target: Arc<dyn Target>,
    generator: Box<dyn Generator>,
    recorder: &Recorder,
    progress: Progress,
    mut stop: Stop,
) -> Result<Ended, RunError> {
    let began = Instant::now();
    let mut ended = Ended::default();
    let hosts: Vec<_> = plan.nodes.iter().chain(&plan.clients).map(|name| HostSpec::new(name.as_str())).collect();
    let options = Options { seed: plan.seed.derive("fabric"), capture: plan.capture.clone() };
    let site = backend.up(&hosts, &options)?;
    let (client_frames, frames) = mpsc::unbounded_channel();
    let (waker, woken) = mpsc::unbounded_channel();
    let cluster = Cluster::start(site, target, recorder.clone(), plan, client_frames, waker)?;
    let clients = Clients::new(cluster.clone(), progress.clone(), plan.concurrency, plan.fencing, plan.patience);
    tokio::spawn(clients.clone().listen(frames));
    for node in 0..plan.nodes.len() {
        cluster.wait_ready(node, READY).await?;
    }
    ended.deployed = began.elapsed();
    let seed = plan.seed.derive("nemesis");
    let nemesis = Nemesis::new(cluster.clone(), clients.clone(), progress.clone(), seed, plan.sabotage.clone());
    // Without harm of links there is nobody who could probe them; what doesn't serve shows below.
    if cluster.site.links().is_ok() {
        nemesis.check_network().await?;
    }
    let all: Vec<usize> = (0..plan.nodes.len()).collect();
    if !serves(&clients, plan.probe, &all, READY, Any).await {
        return Err(RunError::NeverServed(READY));
    }
    ended.serving = began.elapsed();

    enter(recorder, &progress, Phase::Main);
    let cpu = (cluster.site.cpu_time(), cluster.cpu_times().1);
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
    ended.harness_cpu = cluster.site.cpu_time().saturating_sub(cpu.0);
    ended.clients_cpu = cluster.cpu_times().1.saturating_sub(cpu.1);
    nemesis.heal_all().await?;

    let mut quorum_serves = true;
    let held = cluster.conducting.lock().held().cloned();
    if let Some(held) = held {
        let quorum: Vec<usize> = held.healed.iter().filter_map(|node| cluster.node_index(node)).collect();
        quorum_serves = serves(&clients, plan.probe, &quorum, plan.recovery, All).await;
        nemesis.end_hold().await?;
        if !quorum_serves {
            ended.away = held.away;
        }
    }

    enter(recorder, &progress, Phase::Recovery);
    let healed = Instant::now();
    nemesis.repair().await?;
    while slots.join_next().await.is_some() {}
    if quorum_serves && !ended.interrupted && serves(&clients, plan.probe, &all, plan.recovery, All).await {
        ended.recovery = Some(healed.elapsed());
        enter(recorder, &progress, Phase::Final);
        finale(plan, &cluster, &clients, &generator).await;
    }
    nemesis.end(follower).await;
    enter(recorder, &progress, Phase::End);
    cluster.write_statuses()?;
    cluster.stop()?;
    ended.captured = cluster.site.captured().map(|captured| (captured.frames, captured.missed));
    cluster.site.down()?;
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
async fn serves(
    clients: &Arc<Clients>,
    function: &'static str,
    nodes: &[usize],
    within: Duration,
    which: Answering,
) -> bool {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let mut asked = tokio::task::JoinSet::new();
    let deadline = Instant::now() + within;
    for node in nodes.iter().copied() {
        let clients = clients.clone();
        let mut seat = clients.extra_seat(node, node);
        asked.spawn(async move {
            for _ in 0..PROBES {
                // About something of its own each time, so that what becomes of a probe never matters.
                let number = NUMBER.fetch_add(1, Ordering::Relaxed);
                let op = probe(function, number);
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

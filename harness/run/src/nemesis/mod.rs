//! The nemesis: applies a schedule of faults, measures that each took effect, and heals them.

mod addresses;
mod clocks;
pub(crate) mod disks;
mod links;
mod lives;
mod processes;
mod slow;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use duress_fault::{Effect, HeldBack, HostHarm, Resolved, Schedule, Timed, Turn, View};
use duress_history::{EventKind, Evidence, FaultEvent, Host, Stage};
use duress_seed::Seed;
use smol_str::SmolStr;
use tokio::sync::{Mutex, MutexGuard, watch};
use tokio::time::Instant;

use crate::clients::Clients;
use crate::cluster::Cluster;
use crate::{Progress, RunError};

/// A restarted node may take this long to answer.
const READY: Duration = Duration::from_secs(20);
/// How often the operator comes by.
const OPERATOR: Duration = Duration::from_secs(1);
/// How long a fault waits, at least, for whom it is to hit: a primary, a holder.
const PATIENCE: Duration = Duration::from_secs(3);

/// Applies faults to a cluster.
pub(crate) struct Nemesis {
    cluster: Arc<Cluster>,
    clients: Arc<Clients>,
    progress: Progress,
    seed: Seed,
    sabotage: Vec<SmolStr>,
    /// Held while faults are applied, healed or measured, so that a measurement sees one state.
    force: Mutex<Force>,
}

/// What is in force. Faults may overlap, so everything is counted.
#[derive(Default)]
struct Force {
    links: links::Force,
    processes: processes::Force,
    disks: disks::Force,
    /// The old and the new address of nodes that have come back under another one.
    moved: BTreeMap<Host, (Ipv4Addr, Ipv4Addr)>,
    faults: BTreeSet<u64>,
}

/// What was measured of a fault.
#[derive(Default)]
struct Found {
    /// What is not as it should be. Nothing: all is as claimed.
    wrong: Vec<String>,
    /// What is as claimed.
    seen: Vec<String>,
    /// In numbers, for the history.
    figures: BTreeMap<SmolStr, f64>,
}

/// A fault in force. Only [`Nemesis::heal`] ends it, and whoever applied it must.
#[must_use = "a fault that is applied must be healed"]
pub(crate) struct InForce {
    number: u64,
    resolved: Resolved,
    harmed_before: u64,
}

impl Nemesis {
    pub(crate) fn new(
        cluster: Arc<Cluster>,
        clients: Arc<Clients>,
        progress: Progress,
        seed: Seed,
        sabotage: Vec<SmolStr>,
    ) -> Arc<Nemesis> {
        Arc::new(Nemesis { cluster, clients, progress, seed, sabotage, force: Mutex::default() })
    }

    /// Before anything is done, every host must reach every other.
    pub(crate) async fn check_network(self: &Arc<Self>) -> Result<(), RunError> {
        let wrong = self.wrong_links(&Force::default()).await?;
        if wrong.is_empty() { Ok(()) } else { Err(RunError::Network(wrong.join(", "))) }
    }

    /// Follows the schedule until its end, or until told to halt; everything is healed then.
    pub(crate) async fn follow(
        self: Arc<Self>,
        schedule: Schedule,
        began: Instant,
        halted: watch::Receiver<bool>,
    ) -> Result<(), RunError> {
        let mut faults = tokio::task::JoinSet::new();
        for timed in schedule.faults() {
            faults.spawn(self.clone().carry_out(timed.clone(), began, halted.clone()));
        }
        faults.spawn(self.clone().operator(halted));
        let mut result = Ok(());
        while let Some(ended) = faults.join_next().await {
            let ended = ended.unwrap_or_else(|e| Err(RunError::Harness(format!("a fault's task died: {e}"))));
            // The others are healed all the same.
            result = result.and(ended);
        }
        result
    }

    /// While no fault is in force, the operator comes by and repairs what the cluster itself shut
    /// off, as after every heal.
    async fn operator(self: Arc<Self>, mut halted: watch::Receiver<bool>) -> Result<(), RunError> {
        while !pause_until(Instant::now() + OPERATOR, &mut halted).await {
            let force = self.force.lock().await;
            if force.faults.is_empty() {
                self.cluster.repair(READY).await?;
            }
        }
        Ok(())
    }

    /// One fault, from its time to its heal.
    async fn carry_out(
        self: Arc<Self>,
        timed: Timed,
        began: Instant,
        mut halted: watch::Receiver<bool>,
    ) -> Result<(), RunError> {
        let began = match &timed.when {
            None => began,
            Some(trigger) => tokio::select! {
                fired = self.cluster.sightings.fired(timed.number) => fired,
                _ = halted.wait_for(|halted| *halted) => {
                    self.record_impossible(&timed, &format!("it waited in vain for its trigger ({trigger})"));
                    return Ok(());
                }
            },
        };
        if pause_until(began + timed.at, &mut halted).await {
            self.record_too_late(&timed);
            return Ok(());
        }
        let deadline = Instant::now() + timed.lasts.max(PATIENCE);
        // Whom it hits is decided and done in one go, or another fault might come in between.
        let (force, resolved) = loop {
            let force = self.force.lock().await;
            match timed.fault.resolve(&self.view(&force), self.seed, timed.number) {
                Ok(resolved) => break (force, resolved),
                // A primary or a holder may be there in a moment.
                Err(why) if why.may_pass() && Instant::now() < deadline => {
                    drop(force);
                    if pause_until(Instant::now() + Duration::from_millis(5), &mut halted).await {
                        self.record_too_late(&timed);
                        return Ok(());
                    }
                }
                Err(why) => {
                    self.record_impossible(&timed, &why.to_string());
                    return Ok(());
                }
            }
        };
        if resolved.effect == Effect::Hosts(HostHarm::NewAddress) && !self.can_move(&resolved) {
            self.record_impossible(&timed, "nodes of this target can't be told of each other's new addresses");
            return Ok(());
        }
        let in_force = self.apply(timed.number, resolved, force).await?;
        pause_until(Instant::now() + timed.lasts, &mut halted).await;
        self.heal(in_force).await
    }

    fn view(&self, force: &Force) -> View {
        let nodes = &self.cluster.node_names;
        // A node that something else has shut off is down as well: there is no process to hit.
        let gone = nodes.iter().enumerate().filter(|(node, _)| !self.cluster.is_up(*node)).map(|(_, name)| name);
        View {
            nodes: nodes.clone(),
            clients: self.cluster.client_names.clone(),
            primaries: self.cluster.leaders(),
            holder: self.clients.holder(),
            down: force.processes.down().chain(gone).cloned().collect(),
        }
    }

    /// A fault that had waited for something, and whose time had not come when the main phase was
    /// over, is on record. Other faults belong to times that the run never reached.
    fn record_too_late(&self, timed: &Timed) {
        if timed.when.is_some() {
            self.record_impossible(timed, "the main phase was over before its time came");
        }
    }

    /// Keeps the nodes away that are not healed first; what it returns must be healed.
    pub(crate) async fn hold_back(self: &Arc<Self>, held: &HeldBack) -> Result<InForce, RunError> {
        let force = self.force.lock().await;
        self.apply(self.cluster.next_unscheduled(), held.fault.clone(), force).await
    }

    /// A fault whose target never was there is on record as not proven.
    fn record_impossible(&self, timed: &Timed, why: &str) {
        let number = timed.number;
        let kind = timed.fault.kind().name();
        let what = format!("{kind}: not injected: {why}");
        for stage in [Stage::Start, Stage::End] {
            self.cluster.recorder.record(EventKind::Fault(FaultEvent {
                fault: number,
                stage,
                kind: kind.into(),
                what: what.clone(),
                hosts: Vec::new(),
                links: Vec::new(),
            }));
        }
        self.evidence(number, Stage::Start, false, what, BTreeMap::new());
        for turn in [Turn::Starts, Turn::Ends] {
            self.cluster.sightings.fault(number, turn);
        }
    }

    async fn apply(
        self: &Arc<Self>,
        number: u64,
        resolved: Resolved,
        mut force: MutexGuard<'_, Force>,
    ) -> Result<InForce, RunError> {
        // What a fault is said to change must have been otherwise before.
        let before = self.measure_before(&resolved, &force).await?;
        let in_force = InForce { number, harmed_before: self.harmed_frames(&resolved), resolved };
        let resolved = &in_force.resolved;
        let real = !self.sabotage.iter().any(|kind| kind == resolved.kind);
        match resolved.effect {
            Effect::Links(harm) => self.harm_links(resolved, harm, &mut force, real).await?,
            Effect::Hosts(HostHarm::Clock { clocks, change }) => {
                self.skew_clocks(resolved, (clocks, change), real).await?;
            }
            Effect::Hosts(harm) if harm.needs_disk() => self.harm_disks(&in_force, harm, &mut force, real).await?,
            Effect::Hosts(HostHarm::NewAddress) => {
                self.harm_processes(resolved, HostHarm::Kill, &mut force, real).await?;
            }
            Effect::Hosts(harm) => self.harm_processes(resolved, harm, &mut force, real).await?,
        }
        force.faults.insert(number);
        self.event(&in_force, Stage::Start);
        self.progress.fault(number, Some(resolved.what.clone()));
        let during = self.measure(&in_force, &force, Stage::Start).await?;
        let words = during.words();
        let what = match before.is_empty() {
            true => format!("before: as it should be; {words}"),
            false => format!("before: {}; {words}", before.join(", ")),
        };
        self.evidence(number, Stage::Start, during.wrong.is_empty() && before.is_empty(), what, during.figures);
        Ok(in_force)
    }

    /// What is not as it should be before a fault is applied.
    async fn measure_before(self: &Arc<Self>, resolved: &Resolved, force: &Force) -> Result<Vec<String>, RunError> {
        match resolved.effect {
            Effect::Links(_) => {
                let mut wrong = self.wrong_links(force).await?;
                wrong.extend(self.wrong_volley(resolved, force).await?);
                Ok(wrong)
            }
            Effect::Hosts(HostHarm::Clock { clocks, .. }) => Ok(self.wrong_clocks(resolved, clocks).await),
            Effect::Hosts(harm) if harm.needs_disk() => self.wrong_disks(resolved, harm, force).await,
            Effect::Hosts(_) => Ok(self.wrong_processes(resolved, force).await),
        }
    }

    pub(crate) async fn heal(self: &Arc<Self>, in_force: InForce) -> Result<(), RunError> {
        let mut force = self.force.lock().await;
        let resolved = &in_force.resolved;
        match resolved.effect {
            Effect::Links(harm) => self.mend_links(resolved, harm, &mut force)?,
            Effect::Hosts(HostHarm::Clock { clocks, change }) => self.mend_clocks(resolved, (clocks, change)).await?,
            Effect::Hosts(harm) if harm.needs_disk() => self.mend_disks(&in_force, harm, &mut force).await?,
            Effect::Hosts(HostHarm::NewAddress) => self.move_nodes(resolved, &mut force).await?,
            Effect::Hosts(harm) => self.mend_processes(resolved, harm, &mut force).await?,
        }
        force.faults.remove(&in_force.number);
        self.event(&in_force, Stage::End);
        self.progress.fault(in_force.number, None);
        let after = self.measure(&in_force, &force, Stage::End).await?;
        let (proven, what) = (after.wrong.is_empty(), after.words());
        self.evidence(in_force.number, Stage::End, proven, what, after.figures);
        if force.faults.is_empty() {
            // The operator comes by and repairs what the cluster itself shut off.
            self.cluster.repair(READY).await?;
        }
        Ok(())
    }

    fn node(&self, host: &str) -> Result<usize, RunError> {
        let node = self.cluster.node_index(host);
        node.ok_or_else(|| RunError::Harness(format!("{host} can't be crashed: it is no node")))
    }

    fn event(&self, in_force: &InForce, stage: Stage) {
        self.cluster.recorder.record(EventKind::Fault(FaultEvent {
            fault: in_force.number,
            stage,
            kind: in_force.resolved.kind.into(),
            what: in_force.resolved.what.clone(),
            hosts: in_force.resolved.hosts.clone(),
            links: in_force.resolved.links.iter().cloned().collect(),
        }));
        let (turn, word) = if stage == Stage::Start { (Turn::Starts, "starts") } else { (Turn::Ends, "ends") };
        self.cluster.site.note(&format!("fault {} {word}: {}", in_force.number, in_force.resolved.what));
        self.cluster.sightings.fault(in_force.number, turn);
    }

    fn evidence(&self, fault: u64, stage: Stage, proven: bool, what: String, measured: BTreeMap<SmolStr, f64>) {
        self.cluster.recorder.record(EventKind::Evidence(Evidence { fault, stage, proven, what, measured }));
    }

    /// Measures what a stage of a fault claims.
    async fn measure(self: &Arc<Self>, in_force: &InForce, force: &Force, stage: Stage) -> Result<Found, RunError> {
        let mut found = match in_force.resolved.effect {
            Effect::Links(harm) => self.measure_links(in_force, harm, force, stage).await?,
            Effect::Hosts(HostHarm::Clock { clocks, change }) => {
                self.measure_clocks(in_force, (clocks, change), stage).await
            }
            Effect::Hosts(harm) if harm.needs_disk() => self.measure_disks(in_force, harm, force, stage).await?,
            Effect::Hosts(HostHarm::NewAddress) => self.measure_moves(in_force, force, stage).await?,
            Effect::Hosts(harm) => self.measure_processes(in_force, harm, force, stage).await,
        };
        if found.seen.is_empty() && found.wrong.is_empty() {
            found.wrong.push("the fault hit nothing".into());
        }
        Ok(found)
    }
}

impl Found {
    /// Notes a claim, and whether it was found to hold.
    fn claim(&mut self, (words, holds): (String, bool)) {
        if holds { &mut self.seen } else { &mut self.wrong }.push(words);
    }

    /// Notes a figure of one of the hosts.
    fn figure(&mut self, name: &str, host: &str, value: f64) {
        self.figures.insert(smol_str::format_smolstr!("{name}_{host}"), value);
    }

    fn words(&self) -> String {
        if self.wrong.is_empty() { self.seen.join(", ") } else { self.wrong.join(", ") }
    }
}

/// Waits; true if the run was halted meanwhile.
async fn pause_until(at: Instant, halted: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        () = tokio::time::sleep_until(at) => false,
        _ = halted.wait_for(|halted| *halted) => true,
    }
}

fn release<K: Ord + Clone>(counted: &mut BTreeMap<K, usize>, key: &K) {
    if let Some(count) = counted.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counted.remove(key);
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, RunError> {
    tokio::task::spawn_blocking(work).await.map_err(|e| RunError::Harness(format!("a task died: {e}")))
}

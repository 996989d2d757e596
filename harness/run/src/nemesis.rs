//! The nemesis: applies a schedule of faults, measures that each took effect, and heals them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use duress_deploy::ProcessState;
use duress_fabric::Rule;
use duress_fault::{Effect, HeldBack, Resolved, Schedule, Timed, Turn, View};
use duress_history::{EventKind, Evidence, FaultEvent, Host, Stage};
use duress_seed::Seed;
use smol_str::SmolStr;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use crate::clients::Clients;
use crate::cluster::Cluster;
use crate::{Progress, RunError};

/// How long a probe that should not arrive is waited for.
const SILENCE: Duration = Duration::from_millis(100);
/// How often a measurement that contradicts the claim is repeated before it is believed: on a
/// busy machine a probe may be late.
const ATTEMPTS: usize = 4;
/// A restarted node may take this long to answer.
const READY: Duration = Duration::from_secs(20);
/// How often the operator comes by.
const OPERATOR: Duration = Duration::from_secs(1);
/// How long a fault waits, at least, for whom it is to hit: a primary, a holder.
const PATIENCE: Duration = Duration::from_secs(3);

type Link = (Host, Host);

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
    cuts: BTreeMap<Link, usize>,
    delays: BTreeMap<Link, Vec<Duration>>,
    paused: BTreeMap<Host, usize>,
    crashed: BTreeMap<Host, usize>,
    faults: BTreeSet<u64>,
}

impl Force {
    fn release_delay(&mut self, link: &Link, by: Duration) {
        if let Some(delays) = self.delays.get_mut(link) {
            if let Some(at) = delays.iter().position(|delay| *delay == by) {
                delays.swap_remove(at);
            }
            if delays.is_empty() {
                self.delays.remove(link);
            }
        }
    }
}

/// The processes that a resolved fault kills or stops; a fault of links has none.
trait Victims {
    fn victims(&self) -> &[Host];
}

impl Victims for Resolved {
    fn victims(&self) -> &[Host] {
        if self.links.is_empty() { &self.hosts } else { &[] }
    }
}

/// A fault in force. Only [`Nemesis::heal`] ends it, and whoever applied it must.
#[must_use = "a fault that is applied must be healed"]
pub(crate) struct InForce {
    number: u64,
    resolved: Resolved,
    dropped_before: u64,
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
        let measured = self.measure_links(&Force::default()).await?;
        match measured.wrong.is_empty() {
            true => Ok(()),
            false => Err(RunError::Network(measured.wrong.join(", "))),
        }
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
        let resolved = loop {
            match timed.fault.resolve(&self.view().await, self.seed, timed.number) {
                Ok(resolved) => break resolved,
                // A primary or a holder may be there in a moment.
                Err(why) if why.may_pass() && Instant::now() < deadline => {
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
        let in_force = self.apply(timed.number, resolved).await?;
        pause_until(Instant::now() + timed.lasts, &mut halted).await;
        self.heal(in_force).await
    }

    async fn view(&self) -> View {
        let force = self.force.lock().await;
        let nodes = &self.cluster.node_names;
        // A node that something else has shut off is down as well: there is no process to hit.
        let gone = nodes.iter().enumerate().filter(|(node, _)| !self.cluster.is_up(*node)).map(|(_, name)| name);
        View {
            nodes: nodes.clone(),
            clients: self.cluster.client_names.clone(),
            primaries: self.cluster.leaders(),
            holder: self.clients.holder(),
            down: force.paused.keys().chain(force.crashed.keys()).chain(gone).cloned().collect(),
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
        self.apply(self.cluster.next_unscheduled(), held.fault.clone()).await
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

    async fn apply(self: &Arc<Self>, number: u64, resolved: Resolved) -> Result<InForce, RunError> {
        let mut force = self.force.lock().await;
        // What a fault is said to change must have been otherwise before.
        let before = self.measure_before(&resolved, &force).await?;
        let in_force = InForce { number, dropped_before: self.dropped(&resolved), resolved };
        let resolved = &in_force.resolved;
        for link in &resolved.links {
            match resolved.effect {
                Effect::Delay(by) => force.delays.entry(link.clone()).or_default().push(by),
                _ => *force.cuts.entry(link.clone()).or_default() += 1,
            }
        }
        let real = !self.sabotage.iter().any(|kind| kind == resolved.kind);
        if real {
            self.set_rules(&force, &resolved.links)?;
        }
        for host in resolved.victims() {
            match resolved.effect {
                Effect::Kill => {
                    let node = self.node(host)?;
                    *force.crashed.entry(host.clone()).or_default() += 1;
                    let cluster = self.cluster.clone();
                    if real {
                        blocking(move || cluster.kill_node(node)).await??;
                    }
                }
                _ => {
                    *force.paused.entry(host.clone()).or_default() += 1;
                    let (cluster, host) = (self.cluster.clone(), host.clone());
                    if real {
                        blocking(move || cluster.set_paused(&host, true)).await??;
                    }
                }
            }
        }
        force.faults.insert(number);
        self.event(&in_force, Stage::Start);
        self.progress.fault(number, Some(resolved.what.clone()));
        let (proven, during, measured) = self.measure(&in_force, &force, Stage::Start).await?;
        let what = match before.is_empty() {
            true => format!("before: as it should be; {during}"),
            false => format!("before: {}; {during}", before.join(", ")),
        };
        self.evidence(number, Stage::Start, proven && before.is_empty(), what, measured);
        Ok(in_force)
    }

    /// What is not as it should be before a fault is applied.
    async fn measure_before(self: &Arc<Self>, resolved: &Resolved, force: &Force) -> Result<Vec<String>, RunError> {
        if !resolved.links.is_empty() {
            return Ok(self.measure_links(force).await?.wrong);
        }
        let mut wrong = Vec::new();
        for host in resolved.victims() {
            let (claim, ok) = self.measure_process(resolved.effect, host, force, Stage::Start).await;
            if !ok {
                wrong.push(claim);
            }
        }
        Ok(wrong)
    }

    pub(crate) async fn heal(self: &Arc<Self>, in_force: InForce) -> Result<(), RunError> {
        let mut force = self.force.lock().await;
        let resolved = &in_force.resolved;
        for link in &resolved.links {
            match resolved.effect {
                Effect::Delay(by) => force.release_delay(link, by),
                _ => release(&mut force.cuts, link),
            }
        }
        self.set_rules(&force, &resolved.links)?;
        for host in resolved.victims() {
            match resolved.effect {
                Effect::Kill => {
                    release(&mut force.crashed, host);
                    if !force.crashed.contains_key(host) {
                        self.cluster.start_node(self.node(host)?)?;
                    }
                }
                _ => {
                    release(&mut force.paused, host);
                    if !force.paused.contains_key(host) {
                        let (cluster, host) = (self.cluster.clone(), host.clone());
                        blocking(move || cluster.set_paused(&host, false)).await??;
                    }
                }
            }
        }
        force.faults.remove(&in_force.number);
        self.event(&in_force, Stage::End);
        self.progress.fault(in_force.number, None);
        let (proven, what, measured) = self.measure(&in_force, &force, Stage::End).await?;
        self.evidence(in_force.number, Stage::End, proven, what, measured);
        if force.faults.is_empty() {
            // The operator comes by and repairs what the cluster itself shut off.
            self.cluster.repair(READY).await?;
        }
        Ok(())
    }

    /// Makes links do what is in force on them, all at the same moment.
    fn set_rules(&self, force: &Force, changed: &BTreeSet<Link>) -> Result<(), RunError> {
        let links = self.cluster.local.links();
        let mut rules = Vec::new();
        for link in changed {
            let (Some(from), Some(to)) = (links.port(&link.0), links.port(&link.1)) else {
                return Err(RunError::Harness(format!("there is no link {} -> {}", link.0, link.1)));
            };
            let delay = force.delays.get(link).into_iter().flatten().max().copied().unwrap_or_default();
            rules.push((duress_fabric::Link { from, to }, Rule { drop: force.cuts.contains_key(link), delay }));
        }
        links.set_many(&rules);
        Ok(())
    }

    fn node(&self, host: &str) -> Result<usize, RunError> {
        let node = self.cluster.node_index(host);
        node.ok_or_else(|| RunError::Harness(format!("{host} can't be crashed: it is no node")))
    }

    /// Frames dropped so far on a fault's links.
    fn dropped(&self, resolved: &Resolved) -> u64 {
        let links = self.cluster.local.links();
        let dropped = |(from, to): &Link| Some(links.counters(links.port(from)?, links.port(to)?).dropped);
        resolved.links.iter().filter_map(dropped).sum()
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
        let turn = if stage == Stage::Start { Turn::Starts } else { Turn::Ends };
        self.cluster.sightings.fault(in_force.number, turn);
    }

    fn evidence(&self, fault: u64, stage: Stage, proven: bool, what: String, measured: BTreeMap<SmolStr, f64>) {
        self.cluster.recorder.record(EventKind::Evidence(Evidence { fault, stage, proven, what, measured }));
    }

    /// Measures what a stage of a fault claims.
    async fn measure(
        self: &Arc<Self>,
        in_force: &InForce,
        force: &Force,
        stage: Stage,
    ) -> Result<(bool, String, BTreeMap<SmolStr, f64>), RunError> {
        let resolved = &in_force.resolved;
        let mut measured = BTreeMap::new();
        if !resolved.links.is_empty() {
            let found = self.measure_links(force).await?;
            let dropped = self.dropped(resolved).saturating_sub(in_force.dropped_before);
            measured.insert("links".into(), resolved.links.len() as f64);
            measured.insert("frames_dropped".into(), dropped as f64);
            measured.insert("probes_arrived".into(), found.arrived as f64);
            measured.insert("probes_silent".into(), found.silent as f64);
            let mut wrong = found.wrong;
            if resolved.effect == Effect::Cut && dropped == 0 {
                wrong.push("no frame was dropped on the cut links".into());
            }
            let proven = wrong.is_empty();
            let what = match (proven, stage) {
                (false, _) => wrong.join(", "),
                (true, Stage::Start) => format!(
                    "probes: {} links silent, {} open, all as claimed; {dropped} frames dropped",
                    found.silent, found.arrived
                ),
                (true, Stage::End) => format!("probes: the links carry frames again; {dropped} frames were dropped"),
            };
            return Ok((proven, what, measured));
        }
        let mut wrong = Vec::new();
        let mut seen = Vec::new();
        for host in resolved.victims() {
            let (claim, ok) = self.measure_process(resolved.effect, host, force, stage).await;
            if ok { seen.push(claim) } else { wrong.push(claim) }
        }
        if seen.is_empty() && wrong.is_empty() {
            wrong.push("the fault hit nothing".into());
        }
        let proven = wrong.is_empty();
        Ok((proven, if proven { seen } else { wrong }.join(", "), measured))
    }

    /// The state of one process against what is claimed of it.
    async fn measure_process(&self, effect: Effect, host: &Host, force: &Force, stage: Stage) -> (String, bool) {
        let began = Instant::now();
        let restarted = effect == Effect::Kill && stage == Stage::End && !force.crashed.contains_key(host);
        if restarted && !force.paused.contains_key(host) {
            let ready = match self.cluster.node_index(host) {
                Some(node) => self.cluster.wait_ready(node, READY).await,
                None => Err(RunError::Harness(format!("{host} is no node"))),
            };
            return match ready {
                Ok(()) => (format!("{host} answers again after {} ms", began.elapsed().as_millis()), true),
                Err(e) => (e.to_string(), false),
            };
        }
        let state = self.cluster.process_state(host);
        let ok = if force.crashed.contains_key(host) {
            state == ProcessState::Gone
        } else if force.paused.contains_key(host) {
            state == ProcessState::Stopped
        } else {
            state == ProcessState::Running
        };
        (format!("the process of {host} is {state}"), ok)
    }

    /// Probes every link against what is in force.
    async fn measure_links(self: &Arc<Self>, force: &Force) -> Result<LinksMeasured, RunError> {
        let mut measured = LinksMeasured::default();
        for _ in 0..ATTEMPTS {
            let nemesis = self.clone();
            let cuts: BTreeSet<Link> = force.cuts.keys().cloned().collect();
            let delays: BTreeMap<Link, Duration> =
                force.delays.iter().filter_map(|(link, ds)| Some((link.clone(), *ds.iter().max()?))).collect();
            measured = blocking(move || nemesis.probe_links(&cuts, &delays)).await?;
            if measured.wrong.is_empty() {
                break;
            }
        }
        Ok(measured)
    }

    fn probe_links(&self, cuts: &BTreeSet<Link>, delays: &BTreeMap<Link, Duration>) -> LinksMeasured {
        let hosts: Vec<&Host> = self.cluster.node_names.iter().chain(&self.cluster.client_names).collect();
        let slowest = delays.values().max().copied().unwrap_or_default();
        let link = |from: usize, to: usize| (hosts[from].clone(), hosts[to].clone());
        let expected = |from: usize, to: usize| !cuts.contains(&link(from, to));
        let matrix = self.cluster.local.prober().matrix(SILENCE + slowest);
        let mut measured = LinksMeasured::default();
        for from in 0..hosts.len() {
            for to in (0..hosts.len()).filter(|to| *to != from) {
                let reached = matrix.reached(from, to);
                *(if reached { &mut measured.arrived } else { &mut measured.silent }) += 1;
                let (a, b) = (hosts[from], hosts[to]);
                if reached != expected(from, to) {
                    let claim = if reached { "carries frames though it is cut" } else { "is silent though it is open" };
                    measured.wrong.push(format!("link {a} -> {b} {claim}"));
                }
                let latency = matrix.latency(from, to);
                if let (Some(delay), Some(latency)) = (delays.get(&link(from, to)), latency)
                    && latency < *delay
                {
                    measured.wrong.push(format!("link {a} -> {b} takes {latency:?}, less than its delay of {delay:?}"));
                }
            }
        }
        measured
    }
}

/// What probes said of all links.
#[derive(Default)]
struct LinksMeasured {
    arrived: usize,
    silent: usize,
    wrong: Vec<String>,
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

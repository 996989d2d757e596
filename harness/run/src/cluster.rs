//! The processes of a run: nodes and client hosts, their control channels, and what is known of
//! them.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use duress_conductor::{Conductor, Departure, Fencing, NodeSight, Script, Wake};
use duress_deploy::{Local, Process, ProcessSpec, ProcessState, Resource};
use duress_disk::Disk;
use duress_fault::Fault;
use duress_history::{EventKind, Host, NodeReport};
use tokio::sync::{mpsc, watch};

use crate::conducting::Conducting;
use crate::frames::{self, Receiver, Sender};
use crate::nemesis;
use crate::skews::{self, Skews};
use crate::{NodeMessage, Plan, Recorder, RunError, Target};

/// How often it is looked whether a node that is waited for has stopped.
const GLANCE: Duration = Duration::from_millis(20);

/// The deployed target.
pub(crate) struct Cluster {
    pub(crate) local: Local,
    pub(crate) target: Arc<dyn Target>,
    pub(crate) recorder: Recorder,
    pub(crate) conducting: Conducting,
    /// What faults have in force on clocks.
    pub(crate) skews: Skews,
    pub(crate) node_names: Vec<Host>,
    pub(crate) client_names: Vec<Host>,
    directory: PathBuf,
    /// Of the nodes and then of the client hosts.
    addresses: Mutex<Vec<Ipv4Addr>>,
    nodes: Vec<Mutex<Node>>,
    clients: Vec<Mutex<ClientHost>>,
    /// The nodes' disks, if the schedule does anything to them.
    disks: Vec<Arc<Disk>>,
    /// Counts starts of nodes that have become ready.
    ready: Vec<watch::Sender<u64>>,
    /// Held while a node is shut off for another or started: of two nodes that fence each other
    /// one must win, and the winner must hear of it before the loser may be back.
    power: Mutex<()>,
}

#[derive(Default)]
struct Node {
    process: Option<Process>,
    control: Option<Sender>,
    /// Which start this is.
    life: u64,
    /// The last thing it said of itself.
    report: Option<NodeReport>,
    /// How many calls its disk had failed when it was started.
    failed_before: u64,
    /// How many faults are in force of which it may die.
    mortal: usize,
    /// How often it has died of such faults.
    deaths: u64,
    /// Limits in force, which every life has.
    limits: BTreeMap<Resource, u64>,
}

struct ClientHost {
    process: Process,
    control: Sender,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cluster {
    /// Starts every process of the target on hosts that are there already.
    pub(crate) fn start(
        local: Local,
        target: Arc<dyn Target>,
        recorder: Recorder,
        plan: &Plan,
        client_frames: mpsc::UnboundedSender<Vec<u8>>,
        woken: mpsc::UnboundedSender<Wake>,
    ) -> Result<Arc<Cluster>, RunError> {
        let mut addresses = Vec::new();
        for name in plan.nodes.iter().chain(&plan.clients) {
            addresses
                .push(local.address(name).ok_or_else(|| RunError::Harness(format!("host {name} has no address")))?);
        }
        let disks = match plan.schedule.faults().iter().any(|timed| needs_disk(&timed.fault)) {
            true => plan.nodes.iter().map(|name| mount(&data(&plan.directory, name))).collect::<Result<_, _>>()?,
            false => Vec::new(),
        };
        let mut clients = Vec::new();
        for name in &plan.clients {
            let spec = target.client_host(&addresses)?;
            let log = plan.directory.join("clients").join(name.as_str()).join("log");
            let (process, control) = spawn(&local, name, spec.args, &log)?;
            let (sender, receiver) = frames::open(control)?;
            tokio::spawn(forward(name.clone(), receiver, client_frames.clone()));
            clients.push(Mutex::new(ClientHost { process, control: sender }));
        }
        let conductor = Conductor::new(Script {
            nodes: plan.nodes.clone(),
            clients: plan.clients.clone(),
            faults: plan.schedule.faults().to_vec(),
            seed: plan.seed,
            heal_first: plan.heal_first,
        });
        let conducting = Conducting::new(conductor, recorder.clone(), woken);
        let cluster = Arc::new(Cluster {
            local,
            target,
            recorder,
            conducting,
            skews: Skews::default(),
            node_names: plan.nodes.clone(),
            client_names: plan.clients.clone(),
            directory: plan.directory.clone(),
            addresses: Mutex::new(addresses),
            nodes: plan.nodes.iter().map(|_| Mutex::default()).collect(),
            clients,
            disks,
            ready: plan.nodes.iter().map(|_| watch::Sender::new(0)).collect(),
            power: Mutex::default(),
        });
        for node in 0..cluster.nodes.len() {
            cluster.start_node(node)?;
        }
        Ok(cluster)
    }

    /// Starts a node that is not running.
    pub(crate) fn start_node(self: &Arc<Self>, node: usize) -> Result<(), RunError> {
        let name = &self.node_names[node];
        let directory = self.directory.join("nodes").join(name.as_str());
        let data = data(&self.directory, name);
        std::fs::create_dir_all(&data)?;
        let _power = lock(&self.power);
        let mut state = lock(&self.nodes[node]);
        if state.process.is_some() {
            return Ok(());
        }
        let spec = self.target.node(node, &lock(&self.addresses), &data)?;
        let failed_before = self.disk(node).map_or(0, |disk| disk.counters().failed());
        let (mut process, control) = spawn(&self.local, name, spec.args, &directory.join("log"))?;
        self.skew(name, &mut process);
        for (resource, limit) in &state.limits {
            process.set_limit(*resource, Some(*limit))?;
        }
        let (sender, receiver) = frames::open(control)?;
        state.life += 1;
        let life = state.life;
        state.process = Some(process);
        state.control = Some(sender);
        state.failed_before = failed_before;
        drop(state);
        tokio::spawn(listen(self.clone(), node, life, receiver));
        Ok(())
    }

    /// Skews the clocks of a new process as the faults in force have it. It is stopped for that as
    /// soon as its program is loaded: before it has come to read a clock.
    fn skew(&self, host: &str, process: &mut Process) {
        let skews = self.skews.of(host);
        if skews.is_empty() {
            return;
        }
        let stopped = process.pause().map_err(|e| e.to_string());
        let skewed = stopped.and_then(|()| skews::apply_all(process.pid(), &skews));
        let resumed = process.resume().map_err(|e| e.to_string());
        // One that has ended already is heard of by its control channel.
        if let Err(trouble) = skewed.and(resumed) {
            tracing::warn!(host, "clocks not skewed at the start: {trouble}");
        }
    }

    /// Whether a node may come back under another address.
    pub(crate) fn can_move(&self, node: usize) -> bool {
        self.target.moved(node, &lock(&self.addresses)).is_some()
    }

    /// Gives a node's host another address, and tells everybody who runs. Returns the old address
    /// and the new one.
    pub(crate) fn renumber(&self, node: usize) -> Result<(Ipv4Addr, Ipv4Addr), RunError> {
        let new = self.local.renumber(&self.node_names[node])?;
        let mut addresses = lock(&self.addresses);
        let old = std::mem::replace(&mut addresses[node], new);
        if let Some(moved) = self.target.moved(node, &addresses) {
            for (_, other) in self.nodes.iter().enumerate().filter(|(other, _)| *other != node) {
                if let Some(control) = &lock(other).control {
                    control.send(moved.for_nodes.clone());
                }
            }
            for client in &self.clients {
                lock(client).control.send(moved.for_clients.clone());
            }
        }
        Ok((old, new))
    }

    /// Waits until a node's present life is ready, or until it died.
    pub(crate) async fn wait_ready(&self, node: usize, within: Duration) -> Result<(), RunError> {
        let life = lock(&self.nodes[node]).life;
        let mut ready = self.ready[node].subscribe();
        let dies = async {
            while self.is_up(node) {
                tokio::time::sleep(GLANCE).await;
            }
        };
        let (name, log) = (self.node_names[node].clone(), self.log(node));
        tokio::select! {
            Ok(_) = ready.wait_for(|ready| *ready >= life) => Ok(()),
            () = dies => Err(RunError::Ended { node: name, log }),
            () = tokio::time::sleep(within) => Err(RunError::NotReady { node: name, within, log }),
        }
    }

    fn log(&self, node: usize) -> PathBuf {
        self.directory.join("nodes").join(self.node_names[node].as_str()).join("log")
    }

    /// Kills a node with SIGKILL and waits until it is gone.
    pub(crate) fn kill_node(&self, node: usize) -> Result<(), RunError> {
        let mut state = lock(&self.nodes[node]);
        if let Some(mut process) = state.process.take() {
            state.control = None;
            state.report = None;
            process.kill()?;
            self.conducting.down(node);
        }
        Ok(())
    }

    /// Whether a node has a process, running or paused.
    pub(crate) fn is_up(&self, node: usize) -> bool {
        lock(&self.nodes[node]).process.is_some()
    }

    /// Stops or continues a host's process, and returns when the kernel shows it.
    pub(crate) fn set_paused(&self, host: &str, paused: bool) -> Result<(), RunError> {
        self.with_process(host, |process| match (process, paused) {
            (Some(process), true) => process.pause().map_err(RunError::from),
            (Some(process), false) => process.resume().map_err(RunError::from),
            // Shut off at this very moment, which the evidence will tell; or killed while it was
            // paused: nothing to resume.
            (None, _) => Ok(()),
        })
    }

    /// The number of a host's process, if it has one.
    pub(crate) fn pid(&self, host: &str) -> Option<u32> {
        self.with_process(host, |process| process.map(|process| process.pid()))
    }

    /// A host's process as the kernel shows it.
    pub(crate) fn process_state(&self, host: &str) -> ProcessState {
        self.with_process(host, |process| process.map_or(ProcessState::Gone, |process| process.state()))
    }

    /// A fault comes into force of which a node may die, or goes. The death of a node is such a
    /// fault's doing as long as one is in force: it stays dead until somebody starts it.
    pub(crate) fn set_mortal(&self, node: usize, mortal: bool) {
        let mut state = lock(&self.nodes[node]);
        if mortal {
            state.mortal += 1;
            return;
        }
        // It may have died already, and the end of its control channel not been noticed.
        if state.process.as_ref().is_some_and(|process| process.state() == ProcessState::Gone) {
            state.process = None;
            state.control = None;
            state.report = None;
            state.deaths += 1;
            self.conducting.down(node);
        }
        state.mortal -= 1;
    }

    /// How often a node has died of faults so far.
    pub(crate) fn deaths(&self, node: usize) -> u64 {
        lock(&self.nodes[node]).deaths
    }

    /// Limits what a node may have, in this life and those that follow, or lifts that limit.
    pub(crate) fn set_limit(&self, node: usize, resource: Resource, limit: Option<u64>) -> Result<(), RunError> {
        let mut state = lock(&self.nodes[node]);
        match limit {
            Some(limit) => state.limits.insert(resource, limit),
            None => state.limits.remove(&resource),
        };
        match &mut state.process {
            // One that has just died needs no limits.
            Some(process) if process.state() != ProcessState::Gone => Ok(process.set_limit(resource, limit)?),
            _ => Ok(()),
        }
    }

    pub(crate) fn with_process<R>(&self, host: &str, f: impl FnOnce(Option<&mut Process>) -> R) -> R {
        if let Some(node) = self.node_index(host) {
            return f(lock(&self.nodes[node]).process.as_mut());
        }
        match self.client_names.iter().position(|name| name == host) {
            Some(client) => f(Some(&mut lock(&self.clients[client]).process)),
            None => f(None),
        }
    }

    /// The number of a node.
    pub(crate) fn node_index(&self, host: &str) -> Option<usize> {
        self.node_names.iter().position(|name| name == host)
    }

    /// Hands a frame to a client host.
    pub(crate) fn tell_client(&self, client: usize, frame: Vec<u8>) {
        lock(&self.clients[client]).control.send(frame);
    }

    /// What the nodes last said of themselves; `None` for a node that is down or has said nothing.
    pub(crate) fn reports(&self) -> Vec<Option<NodeReport>> {
        self.nodes.iter().map(|node| lock(node).report.clone()).collect()
    }

    /// What is seen of the nodes.
    pub(crate) fn sight(&self) -> Vec<NodeSight> {
        let sight = |node: &Mutex<Node>| {
            let node = lock(node);
            let leader = node.report.as_ref().filter(|report| report.leads);
            NodeSight { runs: node.process.is_some(), leads: leader.map(|report| report.term.unwrap_or_default()) }
        };
        self.nodes.iter().map(sight).collect()
    }

    /// CPU time of the nodes that run, and of the client hosts.
    pub(crate) fn cpu_times(&self) -> (Duration, Duration) {
        let nodes = self.nodes.iter().filter_map(|node| lock(node).process.as_ref().map(Process::cpu_time)).sum();
        let clients = self.clients.iter().map(|client| lock(client).process.cpu_time()).sum();
        (nodes, clients)
    }

    /// Starts a node again if it was fenced off or died by itself.
    pub(crate) async fn repair_node(self: &Arc<Self>, node: usize, within: Duration) -> Result<(), RunError> {
        let Some(fault) = self.conducting.lock().down_by(node) else { return Ok(()) };
        self.start_node(node)?;
        let serves = self.wait_ready(node, within).await.map_err(|e| e.to_string());
        // It may have ended once more meanwhile, which is another fault.
        self.conducting.tell(|conductor, _| match conductor.down_by(node) == Some(fault) {
            true => conductor.runs(node, serves),
            false => Vec::new(),
        });
        Ok(())
    }

    /// A node asked for another one to be shut off: pulls the plug and tells it so, unless the
    /// conductor has reasons not to.
    fn fence(&self, asker: usize, life: u64, victim: usize) -> Result<(), RunError> {
        let _power = lock(&self.power);
        let lives = {
            let state = lock(&self.nodes[asker]);
            state.life == life && state.process.is_some()
        };
        let runs = victim < self.nodes.len() && self.is_up(victim);
        match Fencing::of(self.nodes.len(), asker, lives, victim, runs) {
            Fencing::Void => return Ok(()),
            Fencing::Nonsense => {
                return Err(RunError::Harness(format!("{} asks to fence node {victim}", self.node_names[asker])));
            }
            Fencing::ShutOff => {
                self.kill_node(victim)?;
                let gone = self.process_state(&self.node_names[victim]) == ProcessState::Gone;
                self.conducting
                    .tell(|conductor, now| conductor.left(victim, Departure::Fenced { by: asker, gone }, now));
            }
            Fencing::Told => {}
        }
        if let Some(control) = &lock(&self.nodes[asker]).control {
            control.send(self.target.fenced(victim));
        }
        Ok(())
    }

    /// A node's control channel has ended. If that life was not ended by us, the node died.
    fn lost(&self, node: usize, life: u64) {
        let mut state = lock(&self.nodes[node]);
        if state.life != life || state.process.is_none() {
            return;
        }
        let status = match state.process.take() {
            Some(mut process) => {
                let status = process.wait(Duration::from_secs(2)).ok().flatten();
                let _ = process.kill();
                status
            }
            None => None,
        };
        state.control = None;
        state.report = None;
        if state.mortal > 0 {
            state.deaths += 1;
            drop(state);
            self.conducting.down(node);
            return;
        }
        let broken = self.broken_disk(node, state.failed_before);
        let name = &self.node_names[node];
        self.conducting.down(node);
        let how = status.map_or_else(|| "closed its control channel".into(), |status| format!("ended: {status}"));
        let log = self.log(node);
        let left = match &broken {
            Some(broken) => Departure::Halt(format!("{name} {how}, for {broken}; see {}", log.display())),
            None => Departure::Exit(format!("{name} {how}, and nobody asked it to; see {}", log.display())),
        };
        // Before anybody else can see that it is down.
        self.conducting.tell(|conductor, now| conductor.left(node, left, now));
        drop(state);
    }

    /// A node's disk, if the schedule does anything to disks.
    pub(crate) fn disk(&self, node: usize) -> Option<&Arc<Disk>> {
        self.disks.get(node)
    }

    /// What is wrong with a node's disk, if it has failed more calls than so many, or is damaged: a
    /// good reason for the node to stop.
    fn broken_disk(&self, node: usize, before: u64) -> Option<String> {
        let disk = self.disk(node)?;
        let failed = disk.counters().failed().saturating_sub(before);
        match (failed, disk.is_damaged()) {
            (0, false) => None,
            (0, true) => Some("its disk is damaged".into()),
            (1, _) => Some("its disk failed a call".into()),
            (failed, _) => Some(format!("its disk failed {failed} calls")),
        }
    }

    /// Whether a node is down because its disk failed.
    pub(crate) fn is_halted(&self, node: usize) -> bool {
        let state = lock(&self.nodes[node]);
        state.process.is_none() && self.conducting.lock().is_halted(node)
    }

    /// Makes the nodes' data directories plain ones again. No node may run any more.
    pub(crate) fn unmount(&self) {
        for disk in &self.disks {
            if let Err(e) = disk.unmount() {
                tracing::warn!("{e}");
            }
        }
    }

    /// Ends every process.
    pub(crate) fn stop(&self) -> Result<(), RunError> {
        for node in 0..self.nodes.len() {
            self.kill_node(node)?;
        }
        for client in &self.clients {
            lock(client).process.kill()?;
        }
        Ok(())
    }

    /// Writes what each node last said of itself beside its log.
    pub(crate) fn write_statuses(&self) -> io::Result<()> {
        for (name, report) in self.node_names.iter().zip(self.reports()) {
            let path = self.directory.join("nodes").join(name.as_str()).join("status.json");
            let text = serde_json::to_string_pretty(&report).map_err(io::Error::other)?;
            std::fs::write(path, text + "\n")?;
        }
        Ok(())
    }
}

/// Where a node keeps its data.
fn data(directory: &Path, name: &Host) -> PathBuf {
    directory.join("nodes").join(name.as_str()).join("data")
}

/// Whether a fault is done to disks.
fn needs_disk(fault: &Fault) -> bool {
    matches!(fault, Fault::Hosts { harm, .. } if harm.needs_disk())
}

fn mount(data: &Path) -> Result<Arc<Disk>, RunError> {
    std::fs::create_dir_all(data)?;
    let disk = Disk::mount(data)?;
    nemesis::disks::prepare(&disk)?;
    Ok(Arc::new(disk))
}

fn spawn(
    local: &Local,
    host: &str,
    args: Vec<std::ffi::OsString>,
    log: &Path,
) -> Result<(Process, std::os::unix::net::UnixStream), RunError> {
    if let Some(directory) = log.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let mut process =
        local.spawn(host, ProcessSpec { args, log: log.to_path_buf(), control: true, ..Default::default() })?;
    let control = process
        .take_control()
        .ok_or_else(|| RunError::Harness(format!("the process on {host} has no control channel")))?;
    Ok((process, control))
}

/// Hears out one life of a node.
async fn listen(cluster: Arc<Cluster>, node: usize, life: u64, mut from: Receiver) {
    loop {
        let frame = match from.next().await {
            Ok(Some(frame)) => frame,
            Ok(None) => break,
            Err(e) => {
                tracing::warn!(node = %cluster.node_names[node], "control channel: {e}");
                break;
            }
        };
        match cluster.target.node_message(node, &frame) {
            Ok(None) => {}
            Ok(Some(NodeMessage::Ready)) => {
                cluster.ready[node].send_replace(life);
            }
            Ok(Some(NodeMessage::Report(report))) => cluster.heard(node, life, report),
            Ok(Some(NodeMessage::Fence(victim))) => {
                let cluster = cluster.clone();
                tokio::task::spawn_blocking(move || {
                    if let Err(e) = cluster.fence(node, life, victim) {
                        tracing::error!("fencing failed: {e}");
                    }
                });
            }
            Err(e) => tracing::warn!(node = %cluster.node_names[node], "not understood: {e}"),
        }
    }
    let _ = tokio::task::spawn_blocking(move || cluster.lost(node, life)).await;
}

impl Cluster {
    /// Keeps and records what a node says of itself.
    fn heard(&self, node: usize, life: u64, report: NodeReport) {
        let mut state = lock(&self.nodes[node]);
        if state.life != life || state.process.is_none() {
            return;
        }
        let Some(last) = &mut state.report else {
            state.report = Some(report.clone());
            drop(state);
            self.conducting.report(node, &report);
            self.recorder.record(EventKind::Observation(report));
            return;
        };
        // A checkpoint says nothing of the role; a status that only moved on is not worth a line.
        let checkpoint = report.role.is_none();
        let changed = (&last.role, last.leads, last.term, &last.leader)
            != (&report.role, report.leads, report.term, &report.leader);
        if !checkpoint {
            *last = report.clone();
        }
        drop(state);
        self.conducting.report(node, &report);
        if checkpoint || changed {
            self.recorder.record(EventKind::Observation(report));
        }
    }
}

/// Passes on what a client host says.
async fn forward(name: Host, mut from: Receiver, to: mpsc::UnboundedSender<Vec<u8>>) {
    loop {
        match from.next().await {
            Ok(Some(frame)) => {
                if to.send(frame).is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(e) => {
                tracing::warn!(client = %name, "control channel: {e}");
                return;
            }
        }
    }
}

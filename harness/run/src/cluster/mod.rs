//! The processes of a run: nodes and client hosts, their control channels, and what is known of
//! them.
//!
//! - [`lives`]: a node's lives, from its start to its death.
//! - [`power`]: what shuts nodes off that nobody scheduled, and their repair.
//! - [`heard`]: what nodes say of themselves.

mod heard;
mod lives;
mod power;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use duress_backend::disks::Disk;
use duress_backend::{Process, ProcessId, ProcessSpec, ProcessState, Resource, Site, Slowness};
use duress_conductor::{Conductor, Script, Wake};
use duress_history::{Host, NodeReport};
use tokio::sync::{mpsc, watch};

use crate::conducting::Conducting;
use crate::frames::{self, Sender};
use crate::needs::needs_disk;
use crate::skews::Skews;
use crate::{Plan, Recorder, RunError, Target};

/// The deployed target.
pub(crate) struct Cluster {
    pub(crate) site: Box<dyn Site>,
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
    disks: Vec<Arc<dyn Disk>>,
    /// Counts starts of nodes that have become ready.
    ready: Vec<watch::Sender<u64>>,
    /// Held while a node is shut off for another or started: of two nodes that fence each other
    /// one must win, and the winner must hear of it before the loser may be back.
    power: Mutex<()>,
}

#[derive(Default)]
struct Node {
    process: Option<Arc<dyn Process>>,
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
    /// For how much of the time every life may run.
    slowness: Option<Slowness>,
}

struct ClientHost {
    process: Arc<dyn Process>,
    control: Sender,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cluster {
    /// Starts every process of the target on hosts that are there already.
    pub(crate) fn start(
        site: Box<dyn Site>,
        target: Arc<dyn Target>,
        recorder: Recorder,
        plan: &Plan,
        client_frames: mpsc::UnboundedSender<Vec<u8>>,
        woken: mpsc::UnboundedSender<Wake>,
    ) -> Result<Arc<Cluster>, RunError> {
        let mut addresses = Vec::new();
        for name in plan.nodes.iter().chain(&plan.clients) {
            addresses.push(site.address(name).ok_or_else(|| RunError::Harness(format!("host {name} has no address")))?);
        }
        let disks = match plan.schedule.faults().iter().any(|timed| needs_disk(&timed.fault)) {
            true => {
                let disks = site.disks().map_err(duress_backend::Error::from)?;
                let mount = |name: &Host| disks.mount(name, &data(&plan.directory, name));
                plan.nodes.iter().map(mount).collect::<Result<_, _>>()?
            }
            false => Vec::new(),
        };
        let mut clients = Vec::new();
        for name in &plan.clients {
            let spec = target.client_host(&addresses)?;
            let log = plan.directory.join("clients").join(name.as_str()).join("log");
            let (process, control) = spawn(&*site, name, spec.args, &log, None)?;
            let (sender, receiver) = frames::open(control)?;
            tokio::spawn(heard::forward(name.clone(), receiver, client_frames.clone()));
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
            site,
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

    /// A host's process, if it has one.
    pub(crate) fn process(&self, host: &str) -> Option<Arc<dyn Process>> {
        if let Some(node) = self.node_index(host) {
            return lock(&self.nodes[node]).process.clone();
        }
        let client = self.client_names.iter().position(|name| name == host)?;
        Some(lock(&self.clients[client]).process.clone())
    }

    /// By what the site knows a host's process, if it has one.
    pub(crate) fn process_id(&self, host: &str) -> Option<ProcessId> {
        self.process(host).map(|process| process.id())
    }

    /// Lets a host run for a share of the time only, in this life and those that follow, or lets it
    /// run freely.
    pub(crate) fn set_slowness(&self, host: &str, slowness: Option<Slowness>) -> Result<(), RunError> {
        if let Some(node) = self.node_index(host) {
            lock(&self.nodes[node]).slowness = slowness;
        }
        // It may take a while, in which others may look at the host.
        self.process(host).map_or(Ok(()), |process| Ok(process.slow(slowness)?))
    }

    /// A host's process as the kernel shows it.
    pub(crate) fn process_state(&self, host: &str) -> ProcessState {
        self.with_process(host, |process| process.map_or(ProcessState::Gone, |process| process.state()))
    }

    /// Does something to a host's process, if it has one, which nobody takes from it meanwhile.
    pub(crate) fn with_process<R>(&self, host: &str, f: impl FnOnce(Option<&dyn Process>) -> R) -> R {
        if let Some(node) = self.node_index(host) {
            return f(lock(&self.nodes[node]).process.as_deref());
        }
        match self.client_names.iter().position(|name| name == host) {
            Some(client) => f(Some(&*lock(&self.clients[client]).process)),
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

    /// CPU time of the nodes that run, and of the client hosts.
    pub(crate) fn cpu_times(&self) -> (Duration, Duration) {
        let nodes =
            self.nodes.iter().filter_map(|node| lock(node).process.as_ref().map(|process| process.cpu_time())).sum();
        let clients = self.clients.iter().map(|client| lock(client).process.cpu_time()).sum();
        (nodes, clients)
    }

    /// A node's disk, if the schedule does anything to disks.
    pub(crate) fn disk(&self, node: usize) -> Option<&Arc<dyn Disk>> {
        self.disks.get(node)
    }

    /// Makes the nodes' data directories plain ones again. No node may run any more.
    fn unmount(&self) {
        for disk in &self.disks {
            if let Err(e) = disk.unmount() {
                tracing::warn!("{e}");
            }
        }
    }

    /// Ends every process, and lets go of the disks.
    pub(crate) fn stop(&self) -> Result<(), RunError> {
        for node in 0..self.nodes.len() {
            self.kill_node(node)?;
        }
        for client in &self.clients {
            lock(client).process.kill()?;
        }
        self.unmount();
        Ok(())
    }
}

/// Where a node keeps its data.
fn data(directory: &Path, name: &Host) -> PathBuf {
    directory.join("nodes").join(name.as_str()).join("data")
}

fn spawn(
    site: &dyn Site,
    host: &str,
    args: Vec<OsString>,
    log: &Path,
    data_dir: Option<PathBuf>,
) -> Result<(Arc<dyn Process>, UnixStream), RunError> {
    let spec = ProcessSpec { args, log: log.to_path_buf(), control: true, data_dir, ..ProcessSpec::default() };
    let process = site.spawn(host, spec)?;
    let control = process
        .take_control()
        .ok_or_else(|| RunError::Harness(format!("the process on {host} has no control channel")))?;
    Ok((process, control))
}

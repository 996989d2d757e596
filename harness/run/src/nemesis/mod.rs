//! The nemesis: obeys the [conductor](duress_conductor), which has faults applied, measured and
//! undone.

mod addresses;
mod clocks;
pub(crate) mod disks;
mod links;
mod lives;
mod processes;
mod slow;

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::Arc;

use duress_conductor::{Conductor, Found, Order, READY, Sight, Wake};
use duress_fault::{Effect, HostHarm, Resolved};
use duress_history::{Host, Stage};
use duress_seed::Seed;
use smol_str::SmolStr;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;

use crate::clients::Clients;
use crate::cluster::Cluster;
use crate::{Progress, RunError};

/// Applies faults to a cluster.
pub(crate) struct Nemesis {
    cluster: Arc<Cluster>,
    clients: Arc<Clients>,
    progress: Progress,
    seed: Seed,
    sabotage: Vec<SmolStr>,
    /// Held while an order is obeyed and all that follows from it, so that a measurement sees one
    /// state, and nobody comes between the choice of whom a fault hits and its injection.
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
    /// The fault that is being applied.
    applying: u64,
    faults: BTreeMap<u64, Arc<InForce>>,
    /// The first thing that went wrong with the harness itself.
    trouble: Option<RunError>,
}

/// A fault in force, and what is remembered of the time before.
struct InForce {
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

    /// Does what the conductor has waited for, for as long as it is asked to.
    pub(crate) async fn follow(self: Arc<Self>, mut woken: mpsc::UnboundedReceiver<Wake>) {
        while let Some(wake) = woken.recv().await {
            let mut force = self.force.lock().await;
            self.carry_out(&mut force, |conductor, _| conductor.wake(wake)).await;
        }
    }

    /// The main phase is over. Nothing is injected any more; unless `hold` is false, the nodes are
    /// kept away that are not healed first.
    pub(crate) async fn main_over(self: &Arc<Self>, hold: bool) {
        let mut force = self.force.lock().await;
        self.carry_out(&mut force, |conductor, now| conductor.main_over(hold, now)).await;
    }

    /// Heals whatever is still in force, except what holds nodes back. Tells what has gone wrong
    /// with the harness so far.
    pub(crate) async fn heal_all(self: &Arc<Self>) -> Result<(), RunError> {
        let mut force = self.force.lock().await;
        self.carry_out(&mut force, |conductor, _| conductor.heal_all()).await;
        self.carry_out(&mut force, |conductor, _| conductor.quorum()).await;
        force.trouble.take().map_or(Ok(()), Err)
    }

    /// Heals the rest as well.
    pub(crate) async fn end_hold(self: &Arc<Self>) -> Result<(), RunError> {
        let mut force = self.force.lock().await;
        self.carry_out(&mut force, |conductor, _| conductor.end_hold()).await;
        force.trouble.take().map_or(Ok(()), Err)
    }

    /// Brings the operator, who starts what the cluster itself shut off.
    pub(crate) async fn repair(self: &Arc<Self>) -> Result<(), RunError> {
        let mut force = self.force.lock().await;
        self.carry_out(&mut force, |conductor, _| conductor.operator()).await;
        force.trouble.take().map_or(Ok(()), Err)
    }

    /// Nothing that the conductor still waits for is done any more.
    pub(crate) async fn end(&self, follower: JoinHandle<()>) {
        // Not in the middle of something.
        let _force = self.force.lock().await;
        follower.abort();
    }

    /// Tells the conductor of something, and does what it orders then. If that fails, the rest is
    /// done all the same: above all, other faults are healed.
    async fn carry_out(
        self: &Arc<Self>,
        force: &mut Force,
        told: impl FnOnce(&mut Conductor, u64) -> Vec<Order> + Send,
    ) {
        let mut orders = VecDeque::from(self.cluster.conducting.ask(told));
        while let Some(order) = orders.pop_front() {
            match self.obey(order, force).await {
                // What follows from an order comes before the next.
                Ok(more) => more.into_iter().rev().for_each(|order| orders.push_front(order)),
                Err(trouble) => {
                    force.trouble.get_or_insert(trouble);
                }
            }
        }
    }

    /// Does one thing, and returns what is to be done then.
    async fn obey(self: &Arc<Self>, order: Order, force: &mut Force) -> Result<Vec<Order>, RunError> {
        let conducting = &self.cluster.conducting;
        match order {
            Order::Look { number } => {
                let sight = Sight { nodes: self.cluster.sight(), holder: self.holder() };
                Ok(conducting.ask(|conductor, now| conductor.choose(number, &sight, now)))
            }
            Order::Apply { number, resolved } => {
                if resolved.effect == Effect::Hosts(HostHarm::NewAddress) && !self.can_move(&resolved) {
                    let why = "nodes of this target can't be told of each other's new addresses";
                    return Ok(conducting.ask(|conductor, now| conductor.refused(number, why, now)));
                }
                let before = self.apply(number, resolved, force).await?;
                let orders = conducting.ask(|conductor, now| conductor.applied(number, before, now));
                self.note(force, number, Stage::Start);
                Ok(orders)
            }
            Order::Measure { number, stage } => {
                let in_force = of(force, number)?;
                let found = self.measure(&in_force, force, stage).await?;
                if stage == Stage::End {
                    force.faults.remove(&number);
                }
                Ok(conducting.ask(|conductor, now| conductor.measured(number, stage, found, now)))
            }
            Order::Undo { number } => {
                let in_force = of(force, number)?;
                self.undo(&in_force, force).await?;
                // The measurement that follows waits for those who start.
                let orders = conducting.ask(|conductor, now| conductor.undone(number, Vec::new(), now));
                self.note(force, number, Stage::End);
                Ok(orders)
            }
            Order::Start { node } => {
                self.cluster.repair_node(node, READY).await?;
                Ok(Vec::new())
            }
            // Crash loops keep their own time.
            Order::Strike { .. } => Ok(Vec::new()),
            order => {
                conducting.obey(&order);
                Ok(Vec::new())
            }
        }
    }

    fn holder(&self) -> Option<usize> {
        let holder = self.clients.holder()?;
        self.cluster.client_names.iter().position(|client| *client == holder)
    }

    /// Shows a fault's beginning or end to those who look on.
    fn note(&self, force: &Force, number: u64, stage: Stage) {
        let Some(what) = force.faults.get(&number).map(|one| &one.resolved.what) else { return };
        let (word, now) = if stage == Stage::Start { ("starts", Some(what.clone())) } else { ("ends", None) };
        self.cluster.site.note(&format!("fault {number} {word}: {what}"));
        self.progress.fault(number, now);
    }

    /// Applies a fault; returns what was not as it should be before.
    async fn apply(
        self: &Arc<Self>,
        number: u64,
        resolved: Resolved,
        force: &mut Force,
    ) -> Result<Vec<String>, RunError> {
        // What a fault is said to change must have been otherwise before.
        let before = self.measure_before(&resolved, force).await?;
        let harmed_before = self.harmed_frames(&resolved);
        let in_force = Arc::new(InForce { number, resolved, harmed_before });
        force.faults.insert(number, in_force.clone());
        force.applying = number;
        let resolved = &in_force.resolved;
        let real = !self.sabotage.iter().any(|kind| kind == resolved.kind);
        match resolved.effect {
            Effect::Links(harm) => self.harm_links(resolved, harm, force, real).await?,
            Effect::Hosts(HostHarm::Clock { clocks, change }) => {
                self.skew_clocks(resolved, (clocks, change), real).await?;
            }
            Effect::Hosts(harm) if harm.needs_disk() => self.harm_disks(&in_force, harm, force, real).await?,
            Effect::Hosts(HostHarm::NewAddress) => self.harm_processes(resolved, HostHarm::Kill, force, real).await?,
            Effect::Hosts(harm) => self.harm_processes(resolved, harm, force, real).await?,
        }
        Ok(before)
    }

    async fn undo(self: &Arc<Self>, in_force: &InForce, force: &mut Force) -> Result<(), RunError> {
        let resolved = &in_force.resolved;
        match resolved.effect {
            Effect::Links(harm) => self.mend_links(resolved, harm, force),
            Effect::Hosts(HostHarm::Clock { clocks, change }) => self.mend_clocks(resolved, (clocks, change)).await,
            Effect::Hosts(harm) if harm.needs_disk() => self.mend_disks(in_force, harm, force).await,
            Effect::Hosts(HostHarm::NewAddress) => self.move_nodes(resolved, force).await,
            Effect::Hosts(harm) => self.mend_processes(resolved, harm, force).await,
        }
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

    fn node(&self, host: &str) -> Result<usize, RunError> {
        let node = self.cluster.node_index(host);
        node.ok_or_else(|| RunError::Harness(format!("{host} can't be crashed: it is no node")))
    }

    /// Measures what a stage of a fault claims.
    async fn measure(self: &Arc<Self>, in_force: &InForce, force: &Force, stage: Stage) -> Result<Found, RunError> {
        match in_force.resolved.effect {
            Effect::Links(harm) => self.measure_links(in_force, harm, force, stage).await,
            Effect::Hosts(HostHarm::Clock { clocks, change }) => {
                Ok(self.measure_clocks(in_force, (clocks, change), stage).await)
            }
            Effect::Hosts(harm) if harm.needs_disk() => self.measure_disks(in_force, harm, force, stage).await,
            Effect::Hosts(HostHarm::NewAddress) => self.measure_moves(in_force, force, stage).await,
            Effect::Hosts(harm) => Ok(self.measure_processes(in_force, harm, force, stage).await),
        }
    }
}

/// What is known of a fault in force.
fn of(force: &Force, number: u64) -> Result<Arc<InForce>, RunError> {
    let known = force.faults.get(&number).cloned();
    known.ok_or_else(|| RunError::Harness(format!("fault {number} is not in force")))
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

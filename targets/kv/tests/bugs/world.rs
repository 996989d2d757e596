//! One run of a seed with a planted bug, or without: load, a storm, the heal after it, and all
//! that must hold of any safe configuration.

use std::collections::BTreeMap;
use std::time::Duration;

use duress_kv::api::{ClientId, LockName, Op, Reply, Token};
use duress_machine::NodeId;
use duress_machine::client::Policy;
use duress_seed::Seed;

use crate::cluster::{
    Call, Clock, Cluster, Replies, Service, Settings, Storm, Workload, check_registers, mixed_workload, patient,
    reading_workload,
};

/// The lease that clients of the lock load ask for.
const LEASE: Duration = Duration::from_millis(150);
/// Within this time of the heal the cluster must serve again and be at rest.
const RECOVERY: Duration = Duration::from_secs(12);

pub(crate) fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// What clients do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    /// Reads, writes and cas of a few registers.
    Registers,
    /// Holders of one lock, some of whom come late.
    Locks,
}

/// What a run is like.
pub(crate) struct World<M: Service> {
    pub(crate) config: M::Config,
    pub(crate) settings: Settings,
    pub(crate) storm: Storm,
    pub(crate) load: Load,
    /// How clients go about their calls.
    pub(crate) policy: Policy,
    /// The same of those who only read.
    pub(crate) readers: Policy,
    /// Between this share slow and this share fast run the nodes' clocks.
    pub(crate) drift: f64,
}

impl<M: Service> World<M> {
    /// Calm but for the storm, with exact clocks.
    pub(crate) fn new(config: M::Config, settings: Settings, storm: Storm) -> Self {
        World { config, settings, storm, load: Load::Registers, policy: patient(), readers: patient(), drift: 0.0 }
    }

    /// The world at its beginning, with its clients.
    pub(crate) fn started(self) -> Cluster<M> {
        let World { config, settings, load, policy, readers, drift, .. } = self;
        let (seed, nodes) = (settings.seed, settings.nodes);
        let mut cluster = Cluster::<M>::new(config, settings);
        for node in cluster.node_ids() {
            let rate = 1.0 - drift + 2.0 * drift * Seed(seed).decide(&[u64::from(node.0), 1]).unit();
            cluster.set_clock(node, Clock { rate, ..Clock::default() });
            cluster.start(node);
        }
        for client in 0..6 {
            let node = NodeId(client as u16 % nodes);
            let (think, workload) = match load {
                Load::Registers if client < 4 => (millis(10), mixed_workload(seed, client, 3, u64::MAX)),
                Load::Registers => (millis(5), reading_workload(seed, client, 3, u64::MAX)),
                Load::Locks => (millis(5 + 60 * (client % 4)), lock_workload(seed, client, cluster.replies.clone())),
            };
            let reads_only = matches!(load, Load::Registers) && client >= 4;
            cluster.add_client(node, if reads_only { readers } else { policy }, think, workload);
        }
        cluster
    }

    /// What is wrong with the run, if anything is.
    pub(crate) fn run(self) -> Option<String> {
        let World { storm, load, policy, .. } = self;
        let mut cluster = self.started();
        cluster.storm(storm);
        cluster.run_until(storm.until);
        cluster.stop_clients();
        let recovered = recover(&mut cluster, policy);
        judge(&cluster, load).or(recovered.err())
    }
}

/// What went wrong, if anything did.
pub(crate) fn judge<M: Service>(cluster: &Cluster<M>, load: Load) -> Option<String> {
    if !cluster.violations.is_empty() {
        return Some(cluster.violations.join("; "));
    }
    match load {
        Load::Registers => check_registers(&cluster.history),
        Load::Locks => check_locks(&cluster.history),
    }
    .err()
}

/// Heals as an operator would until the cluster serves at every node, and then stays as it is.
fn recover<M: Service>(cluster: &mut Cluster<M>, policy: Policy) -> Result<(), String> {
    cluster.settings = Settings::calm(cluster.settings.seed, cluster.settings.nodes);
    let limit = cluster.now + RECOVERY;
    let terms = |cluster: &Cluster<M>| -> Vec<Option<u64>> {
        cluster.node_ids().into_iter().map(|node| Some(cluster.status(node)?.term)).collect()
    };
    while cluster.now < limit {
        cluster.heal();
        cluster.run_for(millis(600));
        let before = terms(cluster);
        let all = cluster.node_ids().into_iter().all(|node| {
            let op = Op::Write { key: "after".into(), value: format!("{node} at {:?}", cluster.now).into() };
            cluster.call_and_wait(node, policy, op).ok().is_some()
        });
        cluster.run_for(millis(400));
        if all && terms(cluster) == before && same_state(cluster) {
            return Ok(());
        }
    }
    Err(format!(
        "not available and at rest {RECOVERY:?} after the heal: {:?}",
        cluster.node_ids().into_iter().map(|node| cluster.status(node)).collect::<Vec<_>>()
    ))
}

/// Whether all nodes have applied the same. Says nothing in a leaderless system.
fn same_state<M: Service>(cluster: &Cluster<M>) -> bool {
    let states: Vec<_> = cluster.node_ids().into_iter().filter_map(|node| cluster.status(node)).collect();
    states.iter().all(|state| (state.commit_index, state.digest) == (states[0].commit_index, states[0].digest))
        || states.iter().all(|state| state.commit_index == 0)
}

/// Asks for the lock until it is granted, renews it now and then, gives it back: in time or not,
/// as the client's pauses between calls have it.
fn lock_workload(seed: u64, client: u64, replies: Replies) -> Workload {
    let lock = || LockName::from("l");
    let mut held: Option<Token> = None;
    let mut acquiring = false;
    Box::new(move |n| {
        if acquiring {
            held = match replies.borrow().get(&ClientId(client)) {
                Some(Some(Reply::Granted(token))) => Some(*token),
                _ => None,
            };
        }
        acquiring = held.is_none();
        let Some(token) = held else { return Some(Op::Acquire { lock: lock(), lease: LEASE }) };
        if Seed(seed).derive("locks").decide(&[client, n]).chance(0.5) {
            return Some(Op::Renew { lock: lock(), token, lease: LEASE });
        }
        held = None;
        acquiring = false;
        Some(Op::Release { lock: lock(), token })
    })
}

/// Whether no two clients held the lock at once, each by its own reckoning (a lease counts from
/// when it was asked for), and tokens grew.
fn check_locks(history: &[Call]) -> Result<(), String> {
    let mut holds: Vec<(ClientId, Duration, Duration)> = Vec::new();
    let mut grants: Vec<(Token, Duration, Duration)> = Vec::new();
    // Since its acquisition or its last release.
    let mut open: BTreeMap<ClientId, Vec<usize>> = BTreeMap::new();
    for call in history {
        let completed = call.completed.as_ref().map(|(at, _)| *at);
        match (&call.op, call.ok(), completed) {
            (Op::Acquire { lease, .. }, Some(Reply::Granted(token)), Some(at)) => {
                grants.push((*token, call.invoked, at));
                open.entry(call.client).or_default().push(holds.len());
                holds.push((call.client, at, call.invoked + *lease));
            }
            (Op::Renew { lease, .. }, Some(_), Some(at)) => {
                open.entry(call.client).or_default().push(holds.len());
                holds.push((call.client, at, call.invoked + *lease));
            }
            (Op::Release { .. }, ..) => {
                for hold in open.remove(&call.client).unwrap_or_default() {
                    holds[hold].2 = holds[hold].2.min(call.invoked);
                }
            }
            _ => {}
        }
    }
    holds.retain(|(_, from, until)| from < until);
    holds.sort_by_key(|(_, from, _)| *from);
    for (i, (client, from, until)) in holds.iter().enumerate() {
        let overlap = holds[i + 1..].iter().take_while(|next| next.1 < *until).find(|next| next.0 != *client);
        if let Some(next) = overlap {
            return Err(format!("{client:?} held the lock from {from:?} to {until:?}, and so did {next:?}"));
        }
    }
    for (token, invoked, _) in &grants {
        if let Some(earlier) = grants.iter().find(|(t, _, at)| at < invoked && t >= token) {
            return Err(format!("{token:?} was granted after {earlier:?}"));
        }
    }
    Ok(())
}

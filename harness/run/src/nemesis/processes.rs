//! Faults of processes: killed once or again and again, stopped, slowed, limited; and what the
//! kernel shows of that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use duress_backend::{Knocked, ProcessState, Resource};
use duress_fault::{HostHarm, Resolved, Share};
use duress_history::{Host, Stage};
use tokio::time::Instant;

use super::lives::Lives;
use super::slow;
use super::{Found, InForce, Nemesis, READY, blocking, release};
use crate::RunError;

/// A node that is out of descriptors is tried with so many connections more than it has room for.
const KNOCKS: u32 = 4;
/// So long after a limit was lifted the end of a node is still that fault's doing.
const LAST_WORDS: Duration = Duration::from_millis(20);
/// How often a measurement that contradicts the claim is repeated before it is believed: on a
/// busy machine a slice of time may come late.
const ATTEMPTS: usize = 4;
/// With more room than this it isn't tried: the limit itself is evidence enough.
const MAX_SPARE: u32 = 64;

/// What is in force on processes.
#[derive(Default)]
pub(super) struct Force {
    paused: BTreeMap<Host, usize>,
    crashed: BTreeMap<Host, usize>,
    slowed: BTreeMap<Host, Slowed>,
    looping: BTreeMap<Host, Lives>,
    limited: BTreeMap<(Host, Resource), Vec<Limited>>,
    /// Of each host, what the last fault that ended had done.
    ended: BTreeMap<Host, Ended>,
}

/// What faults leave a host of the time.
#[derive(Default)]
struct Slowed {
    shares: Vec<Share>,
    /// Whether it is more than claimed.
    real: bool,
}

/// What a fault did while it was in force.
#[derive(Clone, Copy, Default)]
struct Ended {
    /// How many lives it ended.
    lives: u64,
    /// What limit it set.
    limit: u64,
}

/// What one fault leaves a node.
struct Limited {
    spare: u64,
    limit: u64,
    /// How often the node had died before.
    deaths: u64,
}

impl Force {
    /// The hosts whose processes don't run.
    pub(super) fn down(&self) -> impl Iterator<Item = &Host> {
        self.paused.keys().chain(self.crashed.keys()).chain(self.looping.keys())
    }

    /// The limit in force: the least of all.
    fn limit(&self, host: &Host, resource: Resource) -> Option<u64> {
        self.limited.get(&(host.clone(), resource))?.iter().map(|limited| limited.limit).min()
    }

    /// The share of its time for which a host runs.
    fn share(&self, host: &Host) -> Share {
        self.slowed.get(host).and_then(|slowed| slowed.shares.iter().min().copied()).unwrap_or(Share::ALL)
    }
}

/// What a harm leaves a node only so much of, and how much more than it has.
fn spare(harm: HostHarm) -> Option<(Resource, u64)> {
    match harm {
        HostHarm::Memory { headroom } => Some((Resource::Memory, headroom)),
        HostHarm::Descriptors { spare } => Some((Resource::Descriptors, spare.into())),
        _ => None,
    }
}

impl Nemesis {
    pub(super) async fn harm_processes(
        self: &Arc<Self>,
        resolved: &Resolved,
        harm: HostHarm,
        force: &mut super::Force,
        real: bool,
    ) -> Result<(), RunError> {
        let applying = force.applying;
        let force = &mut force.processes;
        for host in &resolved.hosts {
            match harm {
                HostHarm::Slow(share) => self.slow(host, share, force, real).await?,
                HostHarm::CrashLoop { .. } => {
                    let node = self.node(host)?;
                    let held = force.crashed.get(host).copied().unwrap_or_default();
                    if real && !force.looping.contains_key(host) {
                        let lives = Lives::start(self.cluster.clone(), applying, host.clone(), node, held);
                        force.looping.insert(host.clone(), lives);
                    }
                }
                HostHarm::Memory { .. } | HostHarm::Descriptors { .. } => {
                    if let Some((resource, spare)) = spare(harm) {
                        self.limit(host, resource, spare, force, real)?;
                    }
                }
                HostHarm::Stop => {
                    *force.paused.entry(host.clone()).or_default() += 1;
                    let (cluster, host) = (self.cluster.clone(), host.clone());
                    if real {
                        blocking(move || cluster.set_paused(&host, true)).await??;
                    }
                }
                _ => self.hold_down(host, force, real).await?,
            }
        }
        Ok(())
    }

    pub(super) async fn mend_processes(
        self: &Arc<Self>,
        resolved: &Resolved,
        harm: HostHarm,
        force: &mut super::Force,
    ) -> Result<(), RunError> {
        let force = &mut force.processes;
        for host in &resolved.hosts {
            match harm {
                HostHarm::Slow(share) => self.quicken(host, share, force).await?,
                HostHarm::CrashLoop { .. } => {
                    let ended = match force.looping.remove(host) {
                        Some(lives) => lives.stop().await?,
                        None => 0,
                    };
                    force.ended.insert(host.clone(), Ended { lives: ended, limit: 0 });
                    self.bring_up(host, force)?;
                }
                HostHarm::Memory { .. } | HostHarm::Descriptors { .. } => {
                    if let Some((resource, spare)) = spare(harm) {
                        self.unlimit(host, resource, spare, force).await?;
                    }
                }
                HostHarm::Stop => {
                    release(&mut force.paused, host);
                    if !force.paused.contains_key(host) {
                        let (cluster, host) = (self.cluster.clone(), host.clone());
                        blocking(move || cluster.set_paused(&host, false)).await??;
                    }
                }
                _ => self.let_up(host, force)?,
            }
        }
        Ok(())
    }

    /// Kills a node, which stays down until it is [let up](Self::let_up) as often as it was held.
    pub(super) async fn hold_down(&self, host: &Host, force: &mut Force, real: bool) -> Result<(), RunError> {
        let node = self.node(host)?;
        *force.crashed.entry(host.clone()).or_default() += 1;
        if let Some(lives) = force.looping.get(host) {
            lives.hold(true);
        }
        let cluster = self.cluster.clone();
        if real {
            blocking(move || cluster.kill_node(node)).await??;
        }
        Ok(())
    }

    /// Starts a node again, unless another fault holds it down.
    pub(super) fn let_up(&self, host: &Host, force: &mut Force) -> Result<(), RunError> {
        release(&mut force.crashed, host);
        match force.looping.get(host) {
            Some(lives) => lives.hold(false),
            None => self.bring_up(host, force)?,
        }
        Ok(())
    }

    fn bring_up(&self, host: &Host, force: &Force) -> Result<(), RunError> {
        if force.crashed.contains_key(host) {
            return Ok(());
        }
        self.cluster.start_node(self.node(host)?)
    }

    async fn slow(&self, host: &Host, share: Share, force: &mut Force, real: bool) -> Result<(), RunError> {
        let slowed = force.slowed.entry(host.clone()).or_default();
        slowed.shares.push(share);
        slowed.real |= real;
        self.set_share(host, slowed).await
    }

    async fn quicken(&self, host: &Host, share: Share, force: &mut Force) -> Result<(), RunError> {
        let Some(slowed) = force.slowed.get_mut(host) else { return Ok(()) };
        if let Some(at) = slowed.shares.iter().position(|other| *other == share) {
            slowed.shares.swap_remove(at);
        }
        let result = self.set_share(host, slowed).await;
        if slowed.shares.is_empty() {
            force.slowed.remove(host);
        }
        result
    }

    /// Lets a host run for the least of the shares that it is left, or freely.
    async fn set_share(&self, host: &Host, slowed: &Slowed) -> Result<(), RunError> {
        if !slowed.real {
            return Ok(());
        }
        let slowness = slowed.shares.iter().min().map(|share| slow::slowness(*share));
        let (cluster, host) = (self.cluster.clone(), host.clone());
        blocking(move || cluster.set_slowness(&host, slowness)).await?
    }

    fn limit(
        &self,
        host: &Host,
        resource: Resource,
        spare: u64,
        force: &mut Force,
        real: bool,
    ) -> Result<(), RunError> {
        let node = self.node(host)?;
        // A node that is down has nothing, which the evidence will tell.
        let limit = self.cluster.with_process(host, |process| process?.limit_with_spare(resource, spare).ok());
        let limited = Limited { spare, limit: limit.unwrap_or(u64::MAX), deaths: self.cluster.deaths(node) };
        force.limited.entry((host.clone(), resource)).or_default().push(limited);
        self.cluster.set_mortal(node, true);
        match force.limit(host, resource) {
            Some(limit) if real => self.cluster.set_limit(node, resource, Some(limit)),
            _ => Ok(()),
        }
    }

    async fn unlimit(&self, host: &Host, resource: Resource, spare: u64, force: &mut Force) -> Result<(), RunError> {
        let (node, key) = (self.node(host)?, (host.clone(), resource));
        let Some(all) = force.limited.get_mut(&key) else { return Ok(()) };
        let Some(at) = all.iter().position(|limited| limited.spare == spare) else { return Ok(()) };
        let limited = all.swap_remove(at);
        if all.is_empty() {
            force.limited.remove(&key);
        }
        self.cluster.set_limit(node, resource, force.limit(host, resource))?;
        // One that was refused more a moment ago may still be about to end because of it.
        tokio::time::sleep(LAST_WORDS).await;
        self.cluster.set_mortal(node, false);
        let died = self.cluster.deaths(node) - limited.deaths;
        force.ended.insert(host.clone(), Ended { lives: died, limit: limited.limit });
        // One that died of it is started; one that others keep down isn't.
        if died > 0 && !force.looping.contains_key(host) { self.bring_up(host, force) } else { Ok(()) }
    }

    /// What is wrong with processes that a fault is about to hit.
    pub(super) async fn wrong_processes(&self, resolved: &Resolved, force: &super::Force) -> Vec<String> {
        let mut wrong = Vec::new();
        for host in &resolved.hosts {
            // It runs, unless something else holds it down.
            let (claim, ok) = self.measure_state(host, &force.processes);
            if !ok {
                wrong.push(claim);
            }
        }
        wrong
    }

    pub(super) async fn measure_processes(
        self: &Arc<Self>,
        in_force: &InForce,
        harm: HostHarm,
        force: &super::Force,
        stage: Stage,
    ) -> Found {
        let force = &force.processes;
        if let HostHarm::Slow(_) = harm {
            return self.measure_shares(&in_force.resolved.hosts, force).await;
        }
        let mut found = Found::default();
        for host in &in_force.resolved.hosts {
            let claim = match (harm, stage) {
                (HostHarm::CrashLoop { .. }, _) => self.measure_lives(host, force, stage, &mut found).await,
                (HostHarm::Memory { .. } | HostHarm::Descriptors { .. }, _) => {
                    self.measure_limit(host, harm, force, stage, &mut found).await
                }
                (HostHarm::Stop, _) | (_, Stage::Start) => self.measure_state(host, force),
                (_, Stage::End) => self.measure_return(host, force).await,
            };
            found.claim(claim);
        }
        found
    }

    /// The state of one process against what is claimed of it.
    fn measure_state(&self, host: &Host, force: &Force) -> (String, bool) {
        let state = self.cluster.process_state(host);
        let ok = if force.looping.contains_key(host) {
            // It comes and goes.
            true
        } else if force.crashed.contains_key(host) || self.is_halted(host) {
            state == ProcessState::Gone
        } else if force.paused.contains_key(host) {
            state == ProcessState::Stopped
        } else if force.slowed.contains_key(host) {
            matches!(state, ProcessState::Running | ProcessState::Stopped)
        } else {
            state == ProcessState::Running
        };
        (format!("the process of {host} is {state}"), ok)
    }

    /// Whether a host is a node that stopped because its disk was broken.
    fn is_halted(&self, host: &Host) -> bool {
        self.cluster.node_index(host).is_some_and(|node| self.cluster.is_halted(node))
    }

    /// Whether a node that may run again answers.
    async fn measure_return(&self, host: &Host, force: &Force) -> (String, bool) {
        if force.down().any(|down| down == host) {
            return self.measure_state(host, force);
        }
        let began = Instant::now();
        let ready = match self.cluster.node_index(host) {
            Some(node) => self.cluster.wait_ready(node, READY).await,
            None => Err(RunError::Harness(format!("{host} is no node"))),
        };
        match ready {
            Ok(()) => (format!("{host} answers again after {} ms", began.elapsed().as_millis()), true),
            Err(_) if self.is_halted(host) => (format!("{host} can't start, for its disk is broken"), true),
            Err(e) => (e.to_string(), false),
        }
    }

    /// For which share of the time the processes of a fault's hosts run.
    async fn measure_shares(self: &Arc<Self>, hosts: &[Host], force: &Force) -> Found {
        let mut found = Found::default();
        for _ in 0..ATTEMPTS {
            let processes: Vec<_> = hosts.iter().map(|host| self.cluster.process(host)).collect();
            let watched = match blocking(move || slow::watch(&processes)).await {
                Ok(watched) => watched,
                Err(e) => return Found { wrong: vec![e.to_string()], ..Found::default() },
            };
            found = Found::default();
            for (host, seen) in hosts.iter().zip(watched) {
                if force.down().any(|down| down == host) {
                    found.claim(self.measure_state(host, force));
                    continue;
                }
                found.figure("stopped_share", host, seen.stopped);
                found.figure("processor_share", host, seen.used);
                let (stopped, used) = (seen.stopped * 100.0, seen.used * 100.0);
                let words =
                    format!("{host} was stopped in {stopped:.0} % of the looks, and used {used:.0} % of a processor");
                found.claim((words, slow::fits(&seen, force.share(host))));
            }
            if found.wrong.is_empty() {
                break;
            }
        }
        found
    }

    /// How many lives of a node were ended.
    async fn measure_lives(&self, host: &Host, force: &Force, stage: Stage, found: &mut Found) -> (String, bool) {
        if stage == Stage::Start {
            let ended = match force.looping.get(host) {
                Some(lives) => lives.begun().await,
                None => 0,
            };
            return (format!("{host} was killed and seen gone {} so far", times(ended)), ended >= 1);
        }
        let ended = force.ended.get(host).copied().unwrap_or_default().lives;
        found.figure("lives", host, ended as f64);
        let (again, well) = self.measure_return(host, force).await;
        (format!("{host} was killed and seen gone {}; {again}", times(ended)), well && ended >= 2)
    }

    /// What a node may have, by the kernel, against what is claimed.
    async fn measure_limit(
        self: &Arc<Self>,
        host: &Host,
        harm: HostHarm,
        force: &Force,
        stage: Stage,
        found: &mut Found,
    ) -> (String, bool) {
        let Some((resource, spare)) = spare(harm) else { return (format!("{host} was not limited"), false) };
        if stage == Stage::End {
            let Ended { lives: died, limit: before } = force.ended.get(host).copied().unwrap_or_default();
            found.figure("deaths", host, died as f64);
            let (again, well) = self.measure_return(host, force).await;
            let words =
                if died > 0 { format!("{host} died of it; {again}") } else { format!("{host} lived through it") };
            let lifted = match (self.limit_of(host, resource).0, force.limit(host, resource)) {
                (None, _) => true,
                (Some(limit), Some(others)) => limit == others,
                (Some(limit), None) => limit > before,
            };
            return match lifted {
                true => (words, well),
                false => (format!("{host} is still limited; {words}"), false),
            };
        }
        let Some(claimed) = force.limit(host, resource) else { return (format!("{host} was not limited"), false) };
        let (limit, used) = self.limit_of(host, resource);
        let (Some(limit), Some(used)) = (limit, used) else {
            // It may die of it at once.
            let died = self.cluster.process_state(host) == ProcessState::Gone && claimed < u64::MAX;
            return (format!("the process of {host} is gone"), died);
        };
        found.figure("limit", host, limit as f64);
        found.figure("used", host, used as f64);
        let most = if limit == u64::MAX { "any number of".into() } else { format!("at most {limit}") };
        let claim = format!("{host} uses {used} of {most} {}", unit(resource));
        if limit != claimed || resource != Resource::Descriptors || spare > MAX_SPARE.into() {
            return (claim, limit == claimed);
        }
        let Some(process) = self.cluster.process(host) else { return (claim, false) };
        let knocked = blocking(move || Ok(process.knock(spare as u32 + KNOCKS)?)).await;
        match knocked.and_then(|knocked| knocked) {
            Ok(Knocked { tried, waiting }) => {
                found.figure("connections_waiting", host, f64::from(waiting));
                (format!("{claim}; of {tried} connections to it {waiting} were not taken in"), waiting > 0)
            }
            Err(e) => (format!("{claim}; {e}"), false),
        }
    }

    fn limit_of(&self, host: &Host, resource: Resource) -> (Option<u64>, Option<u64>) {
        self.cluster.with_process(host, |process| match process {
            Some(process) => (process.limit(resource).ok(), process.used(resource).ok()),
            None => (None, None),
        })
    }
}

fn times(count: u64) -> String {
    if count == 1 { "once".into() } else { format!("{count} times") }
}

fn unit(resource: Resource) -> &'static str {
    match resource {
        Resource::Memory => "bytes of memory",
        Resource::Descriptors => "open files",
    }
}

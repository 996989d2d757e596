//! A node's lives: how each begins, what faults have every one of them bear, how it is ended.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use duress_backend::{Process, ProcessState, Resource};

use super::{Cluster, data, lock, spawn};
use crate::{RunError, frames, skews};

/// How often it is looked whether a node that is waited for has stopped.
const GLANCE: Duration = Duration::from_millis(20);

impl Cluster {
    /// Starts a node that is not running.
    pub(crate) fn start_node(self: &Arc<Self>, node: usize) -> Result<(), RunError> {
        let name = &self.node_names[node];
        let directory = self.directory.join("nodes").join(name.as_str());
        let data = data(&self.directory, name);
        let _power = lock(&self.power);
        let mut state = lock(&self.nodes[node]);
        if state.process.is_some() {
            return Ok(());
        }
        let spec = self.target.node(node, &lock(&self.addresses), &data)?;
        let failed_before = self.disk(node).map_or(0, |disk| disk.counters().failed());
        let (process, control) = spawn(&*self.site, name, spec.args, &directory.join("log"), Some(data))?;
        self.skew(name, &*process);
        for (resource, limit) in &state.limits {
            process.set_limit(*resource, Some(*limit))?;
        }
        if state.slowness.is_some() {
            process.slow(state.slowness)?;
        }
        let (sender, receiver) = frames::open(control)?;
        state.life += 1;
        let life = state.life;
        state.process = Some(process);
        state.control = Some(sender);
        state.failed_before = failed_before;
        drop(state);
        tokio::spawn(super::heard::listen(self.clone(), node, life, receiver));
        Ok(())
    }

    /// Skews the clocks of a new process as the faults in force have it. It is stopped for that as
    /// soon as its program is loaded: before it has come to read a clock.
    fn skew(&self, host: &str, process: &dyn Process) {
        let skews = self.skews.of(host);
        if skews.is_empty() {
            return;
        }
        let stopped = process.pause().map_err(|e| e.to_string());
        let skewed = stopped.and_then(|()| skews::apply_all(&*self.site, host, process.id(), &skews));
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
        let new = self.site.renumber(&self.node_names[node])?;
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

    pub(super) fn log(&self, node: usize) -> PathBuf {
        self.directory.join("nodes").join(self.node_names[node].as_str()).join("log")
    }

    /// Kills a node with SIGKILL and waits until it is gone.
    pub(crate) fn kill_node(&self, node: usize) -> Result<(), RunError> {
        let mut state = lock(&self.nodes[node]);
        if let Some(process) = state.process.take() {
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
        match &state.process {
            // One that has just died needs no limits.
            Some(process) if process.state() != ProcessState::Gone => Ok(process.set_limit(resource, limit)?),
            _ => Ok(()),
        }
    }
}

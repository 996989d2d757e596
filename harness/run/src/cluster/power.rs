//! What nobody scheduled: a node that another one had shut off, or that died by itself. Each is on
//! record as a fault, and ends with the node's repair.

use std::sync::Arc;
use std::time::Duration;

use duress_backend::ProcessState;
use duress_conductor::{Departure, Fencing};

use super::{Cluster, lock};
use crate::RunError;

impl Cluster {
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
    pub(super) fn fence(&self, asker: usize, life: u64, victim: usize) -> Result<(), RunError> {
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
    pub(super) fn lost(&self, node: usize, life: u64) {
        let mut state = lock(&self.nodes[node]);
        if state.life != life || state.process.is_none() {
            return;
        }
        let status = match state.process.take() {
            Some(process) => {
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
}

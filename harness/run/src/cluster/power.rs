//! What nobody scheduled: a node that another one had shut off, or that died by itself. Each is on
//! record as a fault, and ends with the node's repair.

use std::sync::Arc;
use std::time::Duration;

use duress_backend::ProcessState;
use duress_history::{EventKind, Evidence, FaultEvent, Host, Stage};

use super::{Cluster, Node, lock};
use crate::RunError;

/// Faults that nobody scheduled are numbered from here.
pub(super) const UNSCHEDULED: u64 = 1 << 32;

/// The kind of an unscheduled fault: a node stopped because its disk was broken.
const HALT: &str = "halt";

impl Cluster {
    /// Starts the nodes again that were fenced off or died by themselves.
    pub(crate) async fn repair(self: &Arc<Self>, within: Duration) -> Result<(), RunError> {
        for node in 0..self.nodes.len() {
            self.repair_node(node, within).await?;
        }
        Ok(())
    }

    /// Starts a node again if it was fenced off or died by itself.
    pub(crate) async fn repair_node(self: &Arc<Self>, node: usize, within: Duration) -> Result<(), RunError> {
        let down_by = lock(&self.nodes[node]).down_by.take();
        let Some((fault, kind)) = down_by else { return Ok(()) };
        self.start_node(node)?;
        let ready = self.wait_ready(node, within).await;
        let name = &self.node_names[node];
        self.unscheduled_event(fault, Stage::End, &kind, name, format!("{name} is started again"));
        self.recorder.record(EventKind::Evidence(Evidence {
            fault,
            stage: Stage::End,
            proven: ready.is_ok(),
            what: match ready {
                Ok(()) => format!("{name} answers"),
                Err(e) => e.to_string(),
            },
            measured: Default::default(),
        }));
        Ok(())
    }

    fn unscheduled_event(&self, fault: u64, stage: Stage, kind: &str, name: &Host, what: String) {
        self.recorder.record(EventKind::Fault(FaultEvent {
            fault,
            stage,
            kind: kind.into(),
            what,
            hosts: vec![name.clone()],
            links: Vec::new(),
        }));
    }

    pub(crate) fn next_unscheduled(&self) -> u64 {
        let mut next = lock(&self.unscheduled);
        *next += 1;
        *next
    }

    /// A node asked for another one to be shut off: pulls the plug and tells it so. The wish of a
    /// life that is over is void: it may itself have been shut off meanwhile.
    pub(super) fn fence(&self, asker: usize, life: u64, victim: usize) -> Result<(), RunError> {
        let _power = lock(&self.power);
        let asks = |state: &Node| state.life == life && state.process.is_some();
        if !asks(&lock(&self.nodes[asker])) {
            return Ok(());
        }
        if victim >= self.nodes.len() || victim == asker {
            return Err(RunError::Harness(format!("{} asks to fence node {victim}", self.node_names[asker])));
        }
        if self.is_up(victim) {
            let (name, by) = (&self.node_names[victim], &self.node_names[asker]);
            self.kill_node(victim)?;
            let fault = self.next_unscheduled();
            self.unscheduled_event(fault, Stage::Start, "fence", name, format!("{by} had {name} shut off"));
            let gone = self.process_state(name) == ProcessState::Gone;
            self.recorder.record(EventKind::Evidence(Evidence {
                fault,
                stage: Stage::Start,
                proven: gone,
                what: format!("the process of {name} is {}", if gone { "gone" } else { "still there" }),
                measured: Default::default(),
            }));
            lock(&self.nodes[victim]).down_by = Some((fault, "fence".into()));
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
            self.sightings.down(&self.node_names[node]);
            return;
        }
        let fault = self.next_unscheduled();
        let broken = self.broken_disk(node, state.failed_before);
        let kind = if broken.is_some() { HALT } else { "exit" };
        state.down_by = Some((fault, kind.into()));
        drop(state);
        let name = &self.node_names[node];
        self.sightings.down(name);
        let how = status.map_or_else(|| "closed its control channel".into(), |status| format!("ended: {status}"));
        let log = self.log(node);
        let what = match &broken {
            Some(broken) => format!("{name} {how}, for {broken}; see {}", log.display()),
            None => format!("{name} {how}, and nobody asked it to; see {}", log.display()),
        };
        self.unscheduled_event(fault, Stage::Start, kind, name, what.clone());
        self.recorder.record(EventKind::Evidence(Evidence {
            fault,
            stage: Stage::Start,
            // Unless its disk was broken it is not a fault of ours: a run in which nodes die by
            // themselves is no clean run.
            proven: broken.is_some(),
            what,
            measured: Default::default(),
        }));
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
        state.process.is_none() && state.down_by.as_ref().is_some_and(|(_, kind)| kind == HALT)
    }
}

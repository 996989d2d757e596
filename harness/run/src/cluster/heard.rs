//! What processes say over their control channels, and what is kept of it.

use std::io;
use std::sync::{Arc, Mutex};

use duress_conductor::NodeSight;
use duress_history::{EventKind, Host, NodeReport};
use tokio::sync::mpsc;

use super::{Cluster, Node, lock};
use crate::NodeMessage;
use crate::frames::Receiver;

impl Cluster {
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

/// Hears out one life of a node.
pub(super) async fn listen(cluster: Arc<Cluster>, node: usize, life: u64, mut from: Receiver) {
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
            Ok(Some(NodeMessage::Fact(fact))) => {
                cluster.recorder.record(EventKind::Fact(fact));
            }
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

/// Passes on what a client host says.
pub(super) async fn forward(name: Host, mut from: Receiver, to: mpsc::UnboundedSender<Vec<u8>>) {
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

//! The options of the primary-backup service.

use std::time::Duration;

use duress_machine::NodeId;
use duress_seed::Seed;
use serde::{Deserialize, Serialize};

use crate::bugs::Bug;

/// When a write is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Replication {
    /// Eagerly replicated: once every backup in the primary's active set has it on disk (with
    /// [`Failover::Vote`]: once a majority of all nodes has).
    #[default]
    Sync,
    /// Once the primary has it on disk; the backups follow. Any failover may lose it.
    Async,
}

/// How a backup takes over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failover {
    /// Never: the service waits for the first node. Backups that can't be reached are left out.
    None,
    /// The naive way: a backup that hears nothing promotes itself, and a primary that hears
    /// nothing goes on without its backups. Two nodes serve whenever the link between them fails.
    Timeout,
    /// A backup takes over only after the primary has been shut off through the controller, and
    /// a primary goes on without a backup only after that was shut off. Either side wins, never
    /// both.
    Fenced,
    /// A majority of all nodes agrees on every view change and on every write. A primary that
    /// reaches no majority stops answering.
    #[default]
    Vote,
}

/// Who answers reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reads {
    /// The primary.
    #[default]
    Primary,
    /// Any node, from what it has applied: stale on purpose.
    Any,
}

/// Options of the primary-backup service, the same on every node of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Members of the cluster.
    pub nodes: u16,
    /// When a write is answered.
    pub replication: Replication,
    /// How a backup takes over.
    pub failover: Failover,
    /// Who answers reads.
    pub reads: Reads,
    /// A primary with nothing to say says so this often; everything that waits for a time is
    /// looked at this often.
    pub heartbeat: Duration,
    /// After this long without a word from the other side a primary or backup acts.
    pub failover_timeout: Duration,
    /// After how many entries the log on disk is replaced by a snapshot.
    pub snapshot_every: u64,
    /// Spreads the moments at which nodes try to take over.
    #[serde(with = "crate::config::seed")]
    pub seed: Seed,
    /// A planted bug. None in earnest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bug: Option<Bug>,
}

impl Default for Config {
    /// Three nodes, seed zero.
    fn default() -> Self {
        Config::new(3, Seed(0))
    }
}

impl Config {
    /// The safest settings for a number of nodes: eager replication, failover by vote, reads from
    /// the primary.
    pub fn new(nodes: u16, seed: Seed) -> Self {
        Config {
            nodes,
            replication: Replication::Sync,
            failover: Failover::Vote,
            reads: Reads::Primary,
            heartbeat: Duration::from_millis(50),
            failover_timeout: Duration::from_millis(400),
            snapshot_every: 10_000,
            seed,
            bug: None,
        }
    }

    /// The node that leads in a view.
    pub fn primary(&self, view: u64) -> NodeId {
        NodeId((view % u64::from(self.nodes.max(1))) as u16)
    }

    /// More than half of all nodes.
    pub fn majority(&self) -> usize {
        if self.bug == Some(Bug::OffByOneMajority) {
            return usize::from(self.nodes).div_ceil(2);
        }
        usize::from(self.nodes) / 2 + 1
    }

    /// The first view after `view` that `node` leads; `None` once views have run out.
    pub(super) fn next_view(&self, view: u64, node: NodeId) -> Option<u64> {
        let nodes = u64::from(self.nodes.max(1));
        let ahead = (u64::from(node.0) + nodes - view % nodes) % nodes;
        view.checked_add(if ahead == 0 { nodes } else { ahead })
    }

    /// How long a node without a primary waits before it acts, counted anew at every sign of life.
    /// Spread, so that normally one node acts and the others follow it.
    pub(super) fn patience(&self, me: NodeId, view: u64, attempt: u64) -> Duration {
        let timeout = self.failover_timeout;
        let nodes = u64::from(self.nodes.max(1));
        // The node next in line is the first to act.
        let order = (u64::from(me.0) + nodes - view % nodes + nodes - 1) % nodes;
        let spread = timeout * (order.min(16) as u32) / 2;
        match self.failover {
            Failover::None | Failover::Timeout => timeout + spread,
            // The primary acts after one timeout: a backup that is merely cut off is shut off
            // before it shuts off its primary.
            Failover::Fenced if attempt == 0 => timeout * 3 / 2 + spread,
            Failover::Fenced | Failover::Vote => {
                let key = [u64::from(me.0), view, attempt];
                self.seed.derive("failover").decide(&key).between(timeout, timeout * 2)
            }
        }
    }
}

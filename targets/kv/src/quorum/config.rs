//! The options of the quorum service.

use std::time::Duration;

use duress_machine::NodeId;
use duress_seed::Seed;
use serde::{Deserialize, Serialize};

use crate::bugs::Bug;

/// Where a write's tag comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Timestamps {
    /// One more than the greatest of R replicas: later writes have greater tags.
    #[default]
    Logical,
    /// The coordinator's wall clock: the last write by the *clocks* wins, so a node whose clock
    /// runs ahead overrules every later write of the others.
    Wall,
}

/// Options of the quorum service, the same on every node of a cluster.
///
/// Linearizable per key when R + W > N, `timestamps` is `logical` and `write_back` is on. With
/// R + W ≤ N a read may miss a finished write. Without write-back a write seen once may be
/// unseen by the next read. Wall-clock tags lose writes when clocks differ.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Members of the cluster.
    pub nodes: u16,
    /// N: how many nodes keep a key. All of them when absent.
    pub replicas: Option<u16>,
    /// R: how many of a key's replicas a read waits for, and the tag query of a write.
    pub read_quorum: u16,
    /// W: how many of a key's replicas a write waits for, and the second phase of a read.
    pub write_quorum: u16,
    /// Where tags come from.
    pub timestamps: Timestamps,
    /// Whether a read makes sure that W replicas hold what it returns.
    pub write_back: bool,
    /// Whether replicas that answered a read with an old value are sent the newer one, after
    /// the answer and without waiting.
    pub read_repair: bool,
    /// How long a coordinator tries.
    pub request_timeout: Duration,
    /// How many log records may pile up, beyond what the state needs, before the log is
    /// rewritten.
    pub snapshot_every: u64,
    /// Places keys on nodes when N is less than the number of nodes.
    #[serde(with = "crate::config::seed")]
    pub seed: Seed,
    /// A planted bug. None in earnest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bug: Option<Bug>,
}

impl Default for Config {
    /// Five nodes, majorities, seed zero.
    fn default() -> Self {
        Config::new(5, 3, 3, Seed(0))
    }
}

impl Config {
    /// A cluster of `nodes` that keeps every key on every node, reads from `r` and writes to `w`
    /// of them. Everything else is set to be safe.
    pub fn new(nodes: u16, r: u16, w: u16, seed: Seed) -> Self {
        Config {
            nodes,
            replicas: None,
            read_quorum: r,
            write_quorum: w,
            timestamps: Timestamps::Logical,
            write_back: true,
            read_repair: true,
            request_timeout: Duration::from_millis(500),
            snapshot_every: 10_000,
            seed,
            bug: None,
        }
    }

    /// N, within `1..=nodes`.
    pub fn replica_count(&self) -> u16 {
        self.replicas.unwrap_or(self.nodes).clamp(1, self.nodes.max(1))
    }

    /// R, within `1..=N`.
    pub fn reads(&self) -> usize {
        self.read_quorum.clamp(1, self.replica_count()).into()
    }

    /// W, within `1..=N`.
    pub fn writes(&self) -> usize {
        if self.bug == Some(Bug::QuorumsDoNotOverlap) {
            return usize::from(self.replica_count()).saturating_sub(self.reads()).max(1);
        }
        self.write_quorum.clamp(1, self.replica_count()).into()
    }

    /// How many nodes must grant a lock.
    pub fn majority(&self) -> usize {
        usize::from(self.nodes) / 2 + 1
    }

    /// Every node.
    pub fn all(&self) -> Vec<NodeId> {
        (0..self.nodes.max(1)).map(NodeId).collect()
    }

    /// The nodes that keep `key`: N consecutive ones from a place that is a function of the key.
    pub fn placement(&self, key: &str) -> Vec<NodeId> {
        let first = if self.replica_count() == self.nodes {
            0
        } else {
            self.seed.derive(key).decide(&[]).below(self.nodes.into()) as u16
        };
        self.group(first)
    }

    /// The N consecutive nodes from `first` on.
    pub fn group(&self, first: u16) -> Vec<NodeId> {
        let nodes = u32::from(self.nodes.max(1));
        (0..u32::from(self.replica_count())).map(|i| NodeId(((u32::from(first) + i) % nodes) as u16)).collect()
    }

    /// How often silent replicas are asked again.
    pub fn retransmit(&self) -> Duration {
        (self.request_timeout / 8).clamp(Duration::from_millis(5), Duration::from_millis(100))
    }
}

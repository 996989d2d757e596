//! What is fixed for the life of a Paxos cluster.

use std::time::Duration;

use duress_seed::Seed;
use serde::{Deserialize, Serialize};

use crate::bugs::Bug;

/// The options of a Paxos cluster. Missing ones take the defaults of [`Config::new`] for five
/// nodes and seed zero.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// How many nodes there are; all are members for the life of the cluster.
    pub nodes: u16,
    /// Decides the election timeouts.
    #[serde(with = "seed")]
    pub seed: Seed,
    /// How reads are answered.
    pub reads: Reads,
    /// A leader that has nothing to say says so this often.
    pub heartbeat: Duration,
    /// A follower that hears from no leader for this long, up to twice as long by the seed,
    /// campaigns; a leader that hears from no majority for this long steps down.
    pub election_timeout: Duration,
    /// For how long a follower that answers a leader makes no promises to others
    /// ([`Reads::Lease`] only). A lease longer than the election timeout delays elections.
    pub lease: Duration,
    /// By how much the rates of two nodes' monotonic clocks may differ, in parts per million.
    /// Lease reads are safe only if they differ by no more.
    pub max_clock_drift_ppm: u32,
    /// After how many entries the log on disk is replaced by a snapshot.
    pub snapshot_every: u64,
    /// A planted bug. None in earnest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bug: Option<Bug>,
}

/// How reads are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reads {
    /// In the order of the log: the leader answers from its state after a majority has confirmed,
    /// in a round of messages begun after the read arrived, that it still leads (the *read index*
    /// of Ongaro's thesis, section 6.4). As safe as a log entry per read, without the disk.
    /// Relies on no clock.
    #[default]
    Log,
    /// The leader answers at once while a majority has promised, for a time, to follow no other.
    /// Linearizable as long as monotonic clocks run at rates within
    /// [`Config::max_clock_drift_ppm`] of each other.
    Lease,
    /// Any node answers from what it has applied: stale on purpose.
    Local,
}

impl Config {
    /// The defaults, for a number of nodes and a seed.
    pub fn new(nodes: u16, seed: Seed) -> Self {
        Config {
            nodes,
            seed,
            reads: Reads::Log,
            heartbeat: Duration::from_millis(50),
            election_timeout: Duration::from_millis(300),
            lease: Duration::from_millis(200),
            max_clock_drift_ppm: 10_000,
            snapshot_every: 10_000,
            bug: None,
        }
    }

    /// The part of a lease that its holder may use: what is left if its clock is slow, or a
    /// granter's is fast, by as much as is allowed.
    pub(super) fn usable_lease(&self) -> Duration {
        if self.bug == Some(Bug::LeaseIgnoresClockDrift) {
            return self.lease;
        }
        let kept = 1_000_000 - self.max_clock_drift_ppm.min(1_000_000);
        self.lease * kept / 1_000_000
    }
}

impl Default for Config {
    fn default() -> Self {
        Config::new(5, Seed(0))
    }
}

/// A seed is written as its number.
mod seed {
    use duress_seed::Seed;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(seed: &Seed, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(seed.0)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Seed, D::Error> {
        u64::deserialize(deserializer).map(Seed)
    }
}

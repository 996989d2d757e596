//! The configuration of a bundled cluster, whatever its mode.

use serde::{Deserialize, Serialize};

use crate::bugs::Bug;
use crate::{paxos, primary_backup, quorum};

/// Which mode, and its options; the same on every node of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "kebab-case")]
pub enum Config {
    /// A Multi-Paxos replicated state machine.
    Paxos(paxos::Config),
    /// Read and write quorums.
    Quorum(quorum::Config),
    /// A primary with backups.
    PrimaryBackup(primary_backup::Config),
}

impl Config {
    /// The planted bug, if there is one.
    pub fn bug(&self) -> Option<Bug> {
        match self {
            Config::Paxos(paxos) => paxos.bug,
            Config::Quorum(quorum) => quorum.bug,
            Config::PrimaryBackup(primary_backup) => primary_backup.bug,
        }
    }

    /// Plants a bug, or removes it. One that the mode doesn't have ([`Bug::modes`]) does nothing.
    pub fn set_bug(&mut self, bug: Option<Bug>) {
        match self {
            Config::Paxos(paxos) => paxos.bug = bug,
            Config::Quorum(quorum) => quorum.bug = bug,
            Config::PrimaryBackup(primary_backup) => primary_backup.bug = bug,
        }
    }

    /// How many nodes the cluster has.
    pub fn nodes(&self) -> u16 {
        match self {
            Config::Paxos(paxos) => paxos.nodes,
            Config::Quorum(quorum) => quorum.nodes,
            Config::PrimaryBackup(primary_backup) => primary_backup.nodes,
        }
    }

    /// The mode's name: `paxos`, `quorum`, `primary-backup`.
    pub fn mode(&self) -> &'static str {
        match self {
            Config::Paxos(_) => "paxos",
            Config::Quorum(_) => "quorum",
            Config::PrimaryBackup(_) => "primary-backup",
        }
    }
}

/// Seeds in configurations: written as their number.
pub(crate) mod seed {
    use duress_seed::Seed;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(seed: &Seed, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(seed.0)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Seed, D::Error> {
        u64::deserialize(deserializer).map(Seed)
    }
}

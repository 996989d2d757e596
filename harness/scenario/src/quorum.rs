//! How many nodes suffice: what a target promises about being available.

use crate::Target;
use crate::target::Failover;

/// What is healed first when the main phase is over. Everything is healed in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Heal {
    /// Everything, at once.
    All,
    /// A quorum of the nodes, drawn from the seed, which must serve before the rest, down or cut
    /// off until then, is healed as well.
    Quorum,
}

impl Heal {
    /// Both, with their names.
    pub(crate) const ALL: &'static [(&'static str, Heal)] = &[("all", Heal::All), ("quorum", Heal::Quorum)];

    /// Its name: `all` or `quorum`.
    pub fn name(self) -> &'static str {
        match self {
            Heal::All => "all",
            Heal::Quorum => "quorum",
        }
    }
}

impl Target {
    /// The least number of nodes, whichever they are, with which the target promises to serve
    /// while all others are down or cut off. `None` if it promises that of no number of them, or
    /// only of all.
    pub fn quorum(&self) -> Option<u16> {
        let majority = self.nodes() / 2 + 1;
        let enough = match self {
            Target::Paxos(_) => majority,
            // Where each key has replicas on some nodes only, those may be the ones that are away.
            Target::Quorum(quorum) if quorum.replicas < quorum.nodes => return None,
            // Locks are granted by a majority.
            Target::Quorum(quorum) => quorum.read_quorum.max(quorum.write_quorum).max(majority),
            Target::PrimaryBackup(primary_backup) => match primary_backup.failover {
                Failover::Vote => majority,
                // The service waits for its primary, or a backup takes over alone only where it
                // was one when the others went.
                Failover::None | Failover::Timeout | Failover::Fenced => return None,
            },
        };
        (enough < self.nodes()).then_some(enough)
    }
}

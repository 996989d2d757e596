//! What Paxos nodes say to each other, write to their logs, and set timers for.

use std::sync::Arc;
use std::time::Duration;

use duress_machine::NodeId;
use serde::{Deserialize, Serialize};

use crate::store::Command;

/// A ballot: who proposes, and in which of its attempts. Ordered by round, then node; no two
/// nodes ever propose in the same one. The default stands before every real ballot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ballot {
    /// Counts from one.
    pub round: u64,
    /// The proposer.
    pub node: NodeId,
}

impl Default for Ballot {
    fn default() -> Self {
        Ballot { round: 0, node: NodeId(0) }
    }
}

impl Ballot {
    /// The ballot as one growing number, distinct for distinct ballots of a cluster of `nodes`.
    pub fn number(self, nodes: u16) -> u64 {
        self.round.saturating_mul(u64::from(nodes)).saturating_add(u64::from(self.node.0))
    }
}

/// Names a message of a leader; echoed in the answer, so that the leader knows how fresh the
/// follower's support is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Round {
    /// Increases with every broadcast of one life of the leader.
    pub number: u64,
    /// The leader's monotonic clock when it was sent.
    pub sent: Duration,
}

/// What nodes say to each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Message {
    /// "Would you promise me this ballot?" Changes nothing at the receiver.
    PreVote {
        /// The ballot that would be prepared.
        ballot: Ballot,
        /// The sender's commit index.
        commit: u64,
    },
    /// The answer.
    PreVoted {
        /// The ballot asked about.
        ballot: Ballot,
        /// The highest round the receiver has seen.
        highest_round: u64,
        /// Whether it would.
        granted: bool,
    },
    /// Phase 1a, for every slot above the sender's commit index.
    Prepare {
        /// The ballot.
        ballot: Ballot,
        /// The sender's commit index.
        commit: u64,
    },
    /// Phase 1b.
    Promise {
        /// The ballot promised.
        ballot: Ballot,
        /// The slot of the first entry: the candidate's commit index plus one.
        first: u64,
        /// The promiser's commit index: entries up to it are chosen.
        commit: u64,
        /// What the promiser has accepted from `first` on, with the ballots it was accepted in.
        entries: Vec<(Ballot, Command)>,
    },
    /// A prepare or accept came too late.
    Reject {
        /// The ballot that came too late.
        ballot: Ballot,
        /// The ballot promised instead.
        promised: Ballot,
    },
    /// Phase 2a for consecutive slots; with no commands, a heartbeat.
    Accept {
        /// The leader's ballot.
        ballot: Ballot,
        /// Echoed in the answer.
        round: Round,
        /// The leader's commit index.
        commit: u64,
        /// The slot of the first command, or the next to come.
        first: u64,
        /// What is proposed.
        commands: Arc<Vec<Command>>,
    },
    /// Phase 2b for every slot up to one.
    Accepted {
        /// The leader's ballot.
        ballot: Ballot,
        /// The latest round that reached the follower.
        round: Round,
        /// The follower has, on disk, every slot up to this one.
        through: u64,
        /// The follower has missed something: the last slot before the gap.
        missing_from: Option<u64>,
    },
    /// A piece of a snapshot, for a follower whose gap the leader's log no longer covers.
    Snapshot {
        /// The leader's ballot.
        ballot: Ballot,
        /// Echoed in the answer.
        round: Round,
        /// The last slot that the snapshot covers.
        index: u64,
        /// Where in the snapshot the piece belongs.
        offset: u64,
        /// How long the snapshot is.
        total: u64,
        /// The piece.
        bytes: Arc<Vec<u8>>,
    },
    /// How much of a snapshot has arrived.
    SnapshotReceived {
        /// The leader's ballot.
        ballot: Ballot,
        /// The latest round that reached the follower.
        round: Round,
        /// Which snapshot.
        index: u64,
        /// How many of its bytes are there, without a gap.
        received: u64,
    },
}

/// What is written to the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Record {
    /// A piece of a snapshot; pieces stand in order at the start of the log.
    Snapshot {
        /// The piece.
        bytes: Vec<u8>,
        /// Whether it is the last one.
        last: bool,
    },
    /// No ballot below this one will be accepted or promised.
    Promise {
        /// The ballot.
        ballot: Ballot,
    },
    /// Commands were accepted in consecutive slots. Implies the promise of the ballot.
    Accept {
        /// The ballot they were accepted in.
        ballot: Ballot,
        /// The commit index when they were: what the log held up to it is final.
        commit: u64,
        /// The slot of the first.
        first: u64,
        /// The commands.
        commands: Arc<Vec<Command>>,
    },
}

/// What timers are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// Nobody leads, perhaps.
    Election,
    /// A leader's heartbeat, or a candidate's repetition of what it asked.
    Tick,
}

//! What the nodes say to each other, and what they write down.

use serde::{Deserialize, Serialize};

use crate::store::Command;

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Entry {
    /// The view whose primary made it. A view and an index name an entry: no two differ.
    pub view: u64,
    /// What it does.
    pub command: Command,
}

/// How far a log goes. Greater is more up to date.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The view of the last entry.
    pub view: u64,
    /// The index of the last entry.
    pub index: u64,
}

/// What nodes say to each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Message {
    /// The primary's log from behind a position on; without entries a heartbeat.
    Append {
        /// The primary's view.
        view: u64,
        /// The receiver's life as the primary knows it: what `active` is about.
        life: u64,
        /// The receiver is in the active set: no write is answered without it.
        active: bool,
        /// The entry before the first one sent.
        previous: Position,
        /// The entries, in order.
        entries: Vec<Entry>,
        /// The index of the primary's last entry.
        last: u64,
        /// The primary has committed up to here.
        commit: u64,
        /// To be echoed: tells the primary that it still led when this was answered.
        probe: u64,
    },
    /// The backup has everything up to `matched` on disk.
    Ack {
        /// Of the append.
        view: u64,
        /// The backup's life.
        life: u64,
        /// The greatest index known to equal the primary's log and to be durable; zero says
        /// nothing.
        matched: u64,
        /// Echoed.
        probe: u64,
    },
    /// The entries sent don't join the backup's log.
    Reject {
        /// Of the append.
        view: u64,
        /// The backup's life.
        life: u64,
        /// Try from behind this index.
        last: u64,
        /// The backup has applied what the primary doesn't have: it needs a snapshot, to forget.
        reset: bool,
    },
    /// A piece of the primary's applied state.
    Snapshot {
        /// The primary's view.
        view: u64,
        /// The last entry that the state contains.
        position: Position,
        /// The whole snapshot's bytes.
        total: u64,
        /// Where this piece goes.
        offset: u64,
        /// The piece.
        bytes: Vec<u8>,
    },
    /// The backup has this much of a snapshot.
    SnapshotAck {
        /// Of the snapshot.
        view: u64,
        /// The backup's life.
        life: u64,
        /// The snapshot's last index.
        index: u64,
        /// How many bytes it has.
        received: u64,
    },
    /// Your view is over.
    Newer {
        /// The sender's view.
        view: u64,
    },
    /// A node that has no primary would lead.
    ViewChange {
        /// The view that it would lead in.
        view: u64,
        /// Whether it means it; otherwise it asks whether it would be let.
        firm: bool,
        /// How far its log goes.
        position: Position,
    },
    /// The answer to `ViewChange`.
    Promise {
        /// Of the question.
        view: u64,
        /// Of the question. A firm promise is durable: the sender takes no part in earlier views.
        firm: bool,
        /// Whether the sender agrees.
        granted: bool,
        /// The sender's log has every acknowledged write.
        in_sync: bool,
        /// How far the sender's log goes.
        position: Position,
    },
}

/// What a node writes down.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Record {
    /// The node began another life.
    Life {
        /// Its number.
        life: u64,
    },
    /// The node takes part in no view before this one.
    View {
        /// The view.
        view: u64,
    },
    /// Entries from index `first` on. They replace any entries at and behind that index.
    Entries {
        /// The first one's index.
        first: u64,
        /// The entries, in order.
        entries: Vec<Entry>,
    },
    /// The next piece of a snapshot.
    Part {
        /// The piece.
        bytes: Vec<u8>,
    },
    /// The pieces before this record are a snapshot, which replaces the log up to it.
    Snapshot {
        /// The view of the last entry that it contains.
        view: u64,
    },
}

//! What can happen at a moment of virtual time.

use duress_conductor::Wake;

use crate::fleet::Held;

/// Something that is going to happen. Nodes, client hosts and seats are named by their numbers;
/// a `life` names one start of a node, and what belongs to an earlier life is void.
#[derive(Debug)]
pub(crate) enum Event {
    /// Something reaches a node.
    Node { node: u16, input: NodeInput },
    /// A node that is slow comes to handle what waits.
    Wake { node: u16, life: u32 },
    /// Something reaches a seat's client host.
    Client { seat: u32, attempt: u32, input: ClientInput },
    /// A request on a connection is sent again if its link is cut.
    Resend { to: u16, seat: u32, attempt: u32, life: u32, tries: u8, request: Held },
    /// An answer likewise.
    ResendAnswer { from: u16, seat: u32, attempt: u32, tries: u8, response: Held },
    /// A slot is asked what it does next.
    Slot { seat: u32 },
    /// A seat's operation has taken longer than the harness waits.
    Patience { seat: u32, operation: u64 },
    /// A probe asks again.
    Probe { seat: u32 },
    /// A connection that doesn't carry anything is looked at.
    Link { link: u32, epoch: u32 },
    /// It is time for something that the conductor waits for.
    Conduct(Wake),
    /// A fault in force strikes a host once more.
    Again { fault: u64, host: u16 },
    /// A node's process has started.
    Started { node: u16, start: u32 },
    /// The controller shuts `victim` off for `asker`.
    Fence { asker: u16, life: u32, victim: u16 },
    /// The main phase's time is up.
    MainOver,
    /// A phase's time is up.
    Deadline { stage: u32 },
    /// The nodes' logs are compared.
    Converge,
}

/// What can reach a node.
#[derive(Debug)]
pub(crate) enum NodeInput {
    /// `life` is the receiver's that the connection was made with; zero is any.
    Message {
        from: u16,
        life: u32,
        message: Held,
    },
    /// `setting` is the number of the timer's setting.
    Timer {
        life: u32,
        setting: u32,
    },
    Synced {
        life: u32,
        through: u64,
    },
    Request {
        life: u32,
        seat: u32,
        attempt: u32,
        request: Held,
    },
    Fenced {
        life: u32,
        victim: u16,
    },
}

/// What can reach a client host about one seat's attempt.
#[derive(Debug)]
pub(crate) enum ClientInput {
    /// The harness wants an operation carried out.
    Begin,
    Answer(Held),
    NotSent,
    Lost,
    /// The attempt's time may be up.
    Timeout,
    /// The pause before a retry is over.
    Paused,
    /// The work on a locked resource is done.
    Worked,
}

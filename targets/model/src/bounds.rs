//! How far the exploration goes: everything that could go on for ever has a bound here.

use std::fmt;

/// One thing that a client asks, of the one key there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    /// Reads the key.
    Read,
    /// Writes a value that nobody else writes.
    Write,
    /// Sets the key if it is unset, to a value that nobody else sets.
    Cas,
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ask::Read => "read",
            Ask::Write => "write",
            Ask::Cas => "cas",
        })
    }
}

/// The bounds of an exploration. What it says of a configuration holds up to them, and no
/// further: print them with the result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// What each client asks, one thing after the other; of any node, at any moment. A client
    /// whose operation remains unanswered asks nothing more. At most 255 clients with 255 operations
    /// each; more are left out.
    pub clients: Vec<Vec<Ask>>,
    /// How many timers run out, on all nodes together.
    pub timeouts: u8,
    /// How many times a node loses its memory, and what its disk had not yet finished, and starts
    /// again. A node that stays down is one that is never heard of again. Shutting off by the
    /// controller is not counted: it happens only when asked for.
    pub crashes: u8,
    /// How many messages arrive twice.
    pub duplicates: u8,
    /// How many times a client that waits asks again, any node.
    pub retries: u8,
    /// No node goes beyond this term: a round of Paxos, a view of primary-backup.
    pub terms: u64,
    /// Whether messages from one node to another may overtake each other. If not, a message that
    /// arrives drops those sent before it that have not arrived: any may be lost either way.
    pub reordering: bool,
    /// How many messages can be on their way from one node to another: the oldest is lost to a
    /// newer one. Does nothing with `reordering`, which sets no bound. At least one.
    pub in_flight: u8,
    /// Whether a node handles other inputs while its disk works. If not, all that may happen to
    /// it meanwhile is a crash. Without it there are far fewer states.
    pub overlapping_syncs: bool,
    /// Whether each node's wall clock runs an hour ahead of the one before; else all agree.
    pub skewed_clocks: bool,
    /// Whether to begin with a cluster at work, in which all first messages have arrived: the first
    /// node leads, where there is a leader. If not, to begin with nodes just started.
    pub warm: bool,
    /// Give up beyond this many steps tried. A step takes about ten microseconds, and every
    /// tenth to third leads to a new state, which takes about a kilobyte.
    pub max_steps: usize,
}

impl Bounds {
    /// The bounds that are small enough for every mode with two or three nodes, and `operations`
    /// operations: one client writes first, another reads, the third writes again, and so on.
    pub fn new(operations: usize) -> Self {
        let mut clients: Vec<Vec<Ask>> = Vec::new();
        for i in 0..operations {
            match i % 3 {
                // The second reader's turn is the first one's next.
                2 => clients[i - 1].push(Ask::Read),
                1 => clients.push(vec![Ask::Read]),
                _ => clients.push(vec![Ask::Write]),
            }
        }
        Bounds {
            clients,
            timeouts: 1,
            crashes: 0,
            duplicates: 0,
            retries: 0,
            terms: 4,
            reordering: false,
            in_flight: 2,
            overlapping_syncs: false,
            skewed_clocks: false,
            warm: true,
            max_steps: 5_000_000,
        }
    }

    /// How many operations there are.
    pub fn operations(&self) -> usize {
        self.clients.iter().map(Vec::len).sum()
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clients: Vec<String> = self
            .clients
            .iter()
            .map(|script| script.iter().map(Ask::to_string).collect::<Vec<_>>().join(" then "))
            .collect();
        write!(f, "{} ({})", count(self.clients.len(), "client"), clients.join(" | "))?;
        write!(f, ", {}", count(self.timeouts.into(), "timeout"))?;
        write!(f, ", {}", count(self.crashes.into(), "crash"))?;
        write!(f, ", {}", count(self.duplicates.into(), "duplicate"))?;
        write!(f, ", {}", if self.retries == 1 { "1 retry".into() } else { format!("{} retries", self.retries) })?;
        write!(f, ", terms up to {}, any loss and delay", self.terms)?;
        if self.reordering {
            f.write_str(" and order of messages")?;
        } else {
            write!(f, ", a link's messages in order and at most {} at once", self.in_flight.max(1))?;
        }
        f.write_str(if self.overlapping_syncs { ", disks at any speed" } else { ", a node waits for its disk" })?;
        if self.skewed_clocks {
            f.write_str(", wall clocks an hour apart")?;
        }
        f.write_str(if self.warm { ", from a cluster at work" } else { ", from the start" })
    }
}

fn count(number: usize, noun: &str) -> String {
    match (number, noun) {
        (1, _) => format!("1 {noun}"),
        (_, "crash") => format!("{number} crashes"),
        _ => format!("{number} {noun}s"),
    }
}

//! What can be done to a cluster, as pure data: faults, whom they hit, and when.
//!
//! A [`Fault`] says what is wanted ("isolate the primary"); [`Fault::resolve`] turns it, at the
//! moment of injection and with a [`View`] of the cluster, into a [`Resolved`] fault that names
//! hosts and directed links. A [`Schedule`] is a timed list of faults, either written by hand or
//! drawn from a seed by a [`Plan`]. Every choice is a function of the seed and of the fault's
//! number, so removing one fault leaves all others as they were.
//!
//! This crate knows nothing of how a fault is applied, proven or healed.

mod grudge;
mod harm;
mod kind;
mod plan;
mod resolve;
mod schedule;
mod trigger;

pub use duress_seed::Shape;
pub use grudge::{Grudge, Sides};
pub use harm::{Checksum, ClockChange, Clocks, DiskHarm, HostHarm, LinkHarm, Nanos, SLICE, Share};
pub use kind::{Kind, On};
pub use plan::Plan;
pub use resolve::{Effect, Resolved, Unresolvable, View};
pub use schedule::{Schedule, Timed};
pub use trigger::{Lookout, Part, Trigger, Turn};

use std::collections::BTreeSet;
use std::fmt;

/// The name of a host: a node (`n1`) or a client host (`c1`).
pub type Host = smol_str::SmolStr;

/// One thing to be done to a cluster. Each is undone at its end: links are opened again, crashed
/// nodes are started again, paused hosts are resumed, clocks tell the true time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Links between hosts are harmed.
    Links {
        /// Which links.
        grudge: Grudge,
        /// Whether client hosts are put on sides, too. Only grudges [with sides](Grudge::has_sides)
        /// heed it.
        clients: Sides,
        /// What is done to them.
        harm: LinkHarm,
    },
    /// Hosts are harmed.
    Hosts {
        /// Which hosts.
        who: Selector,
        /// What is done to them.
        harm: HostHarm,
    },
}

impl Fault {
    /// Nodes are killed, and started again at the fault's end.
    pub fn crash(who: Selector) -> Fault {
        Fault::Hosts { who, harm: HostHarm::Kill }
    }

    /// Hosts stand still until the fault's end.
    pub fn pause(who: Selector) -> Fault {
        Fault::Hosts { who, harm: HostHarm::Stop }
    }

    /// Links do harm; client hosts keep theirs, unless the grudge names them.
    pub fn links(grudge: Grudge, harm: LinkHarm) -> Fault {
        Fault::Links { grudge, clients: Sides::Stay, harm }
    }

    /// What kind of fault it is.
    pub fn kind(&self) -> Kind {
        match self {
            Fault::Links { harm, .. } => harm.kind(),
            Fault::Hosts { harm, .. } => harm.kind(),
        }
    }

    /// The grudge of a fault of links.
    pub fn grudge(&self) -> Option<&Grudge> {
        match self {
            Fault::Links { grudge, .. } => Some(grudge),
            Fault::Hosts { .. } => None,
        }
    }

    /// The selector of a fault of hosts.
    pub fn selector(&self) -> Option<&Selector> {
        match self {
            Fault::Hosts { who, .. } => Some(who),
            Fault::Links { .. } => None,
        }
    }

    /// What is done, whomever it hits.
    pub fn effect(&self) -> Effect {
        match self {
            Fault::Links { harm, .. } => Effect::Links(*harm),
            Fault::Hosts { harm, .. } => Effect::Hosts(*harm),
        }
    }
}

impl fmt::Display for Fault {
    /// What is wanted, in words, before it is known whom it will hit: "crash: primary".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Links { grudge, clients: Sides::Stay, harm } => write!(f, "{harm}: {grudge}"),
            Fault::Links { grudge, clients: Sides::Split, harm } => write!(f, "{harm}: {grudge}, clients split"),
            Fault::Hosts { who, harm } => write!(f, "{harm}: {who}"),
        }
    }
}

impl From<Grudge> for Fault {
    /// A partition that leaves client hosts connected to every node.
    fn from(grudge: Grudge) -> Fault {
        Fault::links(grudge, LinkHarm::Cut)
    }
}

/// Which hosts a fault hits. Hosts that another fault holds down are passed over,
/// except by [`Selector::Names`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Selector {
    /// These nodes or client hosts.
    Names(Vec<Host>),
    /// Any one node.
    One,
    /// The largest number of nodes that is less than half of them; one of two nodes, and one of one.
    Minority,
    /// The smallest number of nodes that is more than half of them.
    Majority,
    /// Every node.
    All,
    /// The node that leads, as far as observations tell at the moment of injection.
    Primary,
    /// Any one node that doesn't lead.
    Backup,
    /// Every node that doesn't lead.
    Backups,
    /// The node that leads and any one that doesn't.
    PrimaryAndBackup,
    /// The client host that holds a lock at the moment of injection.
    Holder,
    /// Any one client host.
    Client,
}

impl Selector {
    /// Every selector that needs no names, with one line about it.
    pub const ALL: &'static [(Selector, &'static str)] = &[
        (Selector::One, "any one node"),
        (Selector::Minority, "as many nodes as are less than half"),
        (Selector::Majority, "as few nodes as are more than half"),
        (Selector::All, "every node"),
        (Selector::Primary, "the node that leads at that moment"),
        (Selector::Backup, "any one node that doesn't lead at that moment"),
        (Selector::Backups, "every node that doesn't lead at that moment"),
        (Selector::PrimaryAndBackup, "the node that leads at that moment and one that doesn't"),
        (Selector::Holder, "the client host that holds a lock at that moment"),
        (Selector::Client, "any one client host"),
    ];

    /// Its short name: `one`, `minority`, ….
    pub fn name(&self) -> &'static str {
        match self {
            Selector::Names(_) => "names",
            Selector::One => "one",
            Selector::Minority => "minority",
            Selector::Majority => "majority",
            Selector::All => "all",
            Selector::Primary => "primary",
            Selector::Backup => "backup",
            Selector::Backups => "backups",
            Selector::PrimaryAndBackup => "primary-and-backup",
            Selector::Holder => "holder",
            Selector::Client => "client",
        }
    }

    /// The selector with this name, if it needs no hosts' names.
    pub fn named(name: &str) -> Option<Selector> {
        Selector::ALL.iter().map(|(selector, _)| selector).find(|selector| selector.name() == name).cloned()
    }

    /// Whether it can only be resolved in a target where somebody leads.
    pub fn needs_primary(&self) -> bool {
        matches!(self, Selector::Primary | Selector::Backup | Selector::Backups | Selector::PrimaryAndBackup)
    }

    /// How many nodes a target must have for it.
    pub fn least_nodes(&self) -> usize {
        match self {
            Selector::Backup | Selector::Backups | Selector::PrimaryAndBackup => 2,
            _ => 1,
        }
    }

    /// Whether, with the hosts down that it selects, a majority of `nodes` nodes is left.
    pub fn leaves_majority(&self, nodes: usize) -> bool {
        let hit = match self {
            Selector::Names(names) => names.iter().filter(|name| name.starts_with('n')).collect::<BTreeSet<_>>().len(),
            Selector::One | Selector::Primary | Selector::Backup => 1,
            Selector::Backups => nodes.saturating_sub(1),
            Selector::PrimaryAndBackup => 2,
            Selector::Minority => (nodes.saturating_sub(1) / 2).max(1),
            Selector::Majority => nodes / 2 + 1,
            Selector::All => nodes,
            Selector::Holder | Selector::Client => 0,
        };
        nodes.saturating_sub(hit) > nodes / 2
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selector::Names(names) => f.write_str(&names.join(" ")),
            other => f.write_str(other.name()),
        }
    }
}

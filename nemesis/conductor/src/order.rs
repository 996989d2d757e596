//! What a conductor asks of a world, and what it wants to know of it.

use std::collections::BTreeSet;

use duress_fault::{Host, Resolved, View};
use duress_history::{Evidence, FaultEvent, Stage};

/// Something that a world is to do. Nodes are named by their places in the script.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Come back [with this](crate::Conductor::wake) when it is time.
    Wait {
        /// When, on the world's clock.
        at: u64,
        /// With what.
        wake: Wake,
    },
    /// Look at the cluster, and [tell](crate::Conductor::choose) what is seen.
    Look {
        /// The fault that is to be injected.
        number: u64,
    },
    /// Look whether all is as it should be with those whom it hits, do it to them, and
    /// [say so](crate::Conductor::applied); or [refuse](crate::Conductor::refused).
    Apply {
        /// Of which fault.
        number: u64,
        /// What is done to whom.
        resolved: Resolved,
    },
    /// Look what has become of a fault, and [tell](crate::Conductor::measured).
    Measure {
        /// Which fault.
        number: u64,
        /// Whether it was applied, or undone.
        stage: Stage,
    },
    /// Undo it, and [say so](crate::Conductor::undone).
    Undo {
        /// Which fault.
        number: u64,
    },
    /// A fault that strikes again and again strikes a node once more; the world
    /// [says so](crate::Conductor::struck) when it has.
    Strike {
        /// Which fault.
        number: u64,
        /// Which node.
        node: usize,
    },
    /// The operator starts a node again that was shut off or had ended, and the world
    /// [says](crate::Conductor::runs) when it serves.
    Start {
        /// Which node.
        node: usize,
    },
    /// This goes into the history.
    Fault(FaultEvent),
    /// And so does this.
    Evidence(Evidence),
    /// A fault has been given up. All that has to be said of it is on record.
    GaveUp {
        /// What kind of fault it was.
        kind: &'static str,
    },
}

/// What a conductor waits for. It knows by itself whether that still matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wake {
    /// A fault's time has come.
    Comes {
        /// Its number.
        number: u64,
    },
    /// A fault's time is over.
    Ends {
        /// Its number.
        number: u64,
    },
    /// A fault strikes a node once more.
    Strikes {
        /// Its number.
        number: u64,
        /// The node.
        node: usize,
    },
    /// The operator comes by.
    Operator,
}

/// What is seen of a cluster at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// The nodes, in order.
    pub nodes: Vec<NodeSight>,
    /// The client host that holds a lock, by its place in the script.
    pub holder: Option<usize>,
}

/// What is seen of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeSight {
    /// Whether it has a process, running or stopped.
    pub runs: bool,
    /// Its term, if it leads by its own account.
    pub leads: Option<u64>,
}

impl Sight {
    /// What is known of the cluster, with the hosts that faults hold down.
    pub(crate) fn view(&self, nodes: &[Host], clients: &[Host], mut down: BTreeSet<Host>) -> View {
        let mut primaries: Vec<(u64, &Host)> = Vec::new();
        for (node, name) in self.nodes.iter().zip(nodes) {
            primaries.extend(node.leads.map(|term| (term, name)));
            // One that something else has shut off is down as well: there is no process to hit.
            if !node.runs {
                down.insert(name.clone());
            }
        }
        // The one with the highest term is the best known.
        primaries.sort_by_key(|(term, _)| std::cmp::Reverse(*term));
        View {
            nodes: nodes.to_vec(),
            clients: clients.to_vec(),
            primaries: primaries.into_iter().map(|(_, name)| name.clone()).collect(),
            holder: self.holder.and_then(|client| clients.get(client).cloned()),
            down,
        }
    }
}

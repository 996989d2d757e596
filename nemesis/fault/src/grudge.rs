//! Grudges: who doesn't talk to whom. The names are Jepsen's where Jepsen has one.

use std::fmt;

use crate::Host;

/// Which links a partition cuts. Unless a line says otherwise, only links between nodes, and in
/// both directions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Grudge {
    /// One node loses all others.
    IsolateOne,
    /// The nodes are split into two halves (of an odd number, one has one node more).
    Halves,
    /// A minority of one or more nodes is split from the rest.
    MajorityMinority,
    /// As few nodes as are a majority are split from all others.
    BareMajority,
    /// Two halves that don't see each other, and one node between them that sees both.
    Bridge,
    /// Every node sees a majority, and no two nodes see the same one: each sees only its nearest
    /// neighbours on a ring (of three nodes: one link is cut).
    MajoritiesRing,
    /// The node that leads loses all others.
    PrimaryAlone,
    /// The node that leads, and as many others as still make a minority, lose the rest: it has
    /// company, but not enough.
    PrimaryMinority,
    /// Each direction of each link is cut or not, by chance; at least one link is cut in just one
    /// direction.
    RandomAsymmetric,
    /// One link between two nodes.
    SingleLink,
    /// One direction of one link between two nodes: one of them still hears the other, and isn't
    /// heard.
    HalfOpen,
    /// One client host loses one node.
    ClientFromNode,
    /// Exactly these links, between nodes or client hosts.
    Links {
        /// As (from, to).
        links: Vec<(Host, Host)>,
        /// Cut just that direction.
        one_way: bool,
    },
}

impl Grudge {
    /// Every grudge that needs no hosts' names, with one line about it.
    pub const ALL: &'static [(Grudge, &'static str)] = &[
        (Grudge::IsolateOne, "one node loses all others"),
        (Grudge::Halves, "two halves that don't see each other"),
        (Grudge::MajorityMinority, "a minority is split from the rest"),
        (Grudge::BareMajority, "as few nodes as are a majority are split from all others"),
        (Grudge::Bridge, "two halves, and one node between them that sees both"),
        (Grudge::MajoritiesRing, "every node sees a majority, no two nodes the same one"),
        (Grudge::PrimaryAlone, "the node that leads loses all others"),
        (Grudge::PrimaryMinority, "the node that leads is in a minority, with as many others as there can be"),
        (Grudge::RandomAsymmetric, "links are cut at random, some in just one direction"),
        (Grudge::SingleLink, "one link between two nodes is cut"),
        (Grudge::HalfOpen, "one direction of one link between two nodes is cut"),
        (Grudge::ClientFromNode, "one client host loses one node"),
    ];

    /// Its short name: `isolate-one`, `halves`, ….
    pub fn name(&self) -> &'static str {
        match self {
            Grudge::IsolateOne => "isolate-one",
            Grudge::Halves => "halves",
            Grudge::MajorityMinority => "majority-minority",
            Grudge::BareMajority => "bare-majority",
            Grudge::Bridge => "bridge",
            Grudge::MajoritiesRing => "majorities-ring",
            Grudge::PrimaryAlone => "primary-alone",
            Grudge::PrimaryMinority => "primary-minority",
            Grudge::RandomAsymmetric => "random-asymmetric",
            Grudge::SingleLink => "single-link",
            Grudge::HalfOpen => "half-open",
            Grudge::ClientFromNode => "client-from-node",
            Grudge::Links { .. } => "links",
        }
    }

    /// The grudge with this name, if it needs no hosts' names.
    pub fn named(name: &str) -> Option<Grudge> {
        Grudge::ALL.iter().map(|(grudge, _)| grudge).find(|grudge| grudge.name() == name).cloned()
    }

    /// How many nodes a cluster must have for it.
    pub fn least_nodes(&self) -> usize {
        match self {
            Grudge::Bridge | Grudge::MajoritiesRing => 3,
            Grudge::ClientFromNode => 1,
            Grudge::Links { .. } => 0,
            _ => 2,
        }
    }

    /// Whether it can only be resolved in a target where somebody leads.
    pub fn needs_primary(&self) -> bool {
        matches!(self, Grudge::PrimaryAlone | Grudge::PrimaryMinority)
    }

    /// Whether a plan uses it only if it is named: another one does about the same.
    pub(crate) fn is_special(&self) -> bool {
        matches!(self, Grudge::BareMajority | Grudge::PrimaryMinority | Grudge::HalfOpen)
    }

    /// Whether, however it is resolved, a majority of `nodes` nodes stays connected, each to each.
    pub fn leaves_majority(&self, nodes: usize) -> bool {
        let majority = nodes / 2 + 1;
        match self {
            Grudge::IsolateOne | Grudge::PrimaryAlone | Grudge::SingleLink | Grudge::HalfOpen => nodes > majority,
            Grudge::MajorityMinority | Grudge::BareMajority | Grudge::PrimaryMinority => nodes > 2,
            Grudge::Halves => nodes % 2 == 1,
            Grudge::Bridge => true,
            Grudge::MajoritiesRing => nodes == 3,
            Grudge::ClientFromNode => true,
            Grudge::RandomAsymmetric | Grudge::Links { .. } => false,
        }
    }

    /// Whether it puts every node on a side, so that client hosts can be put on sides, too.
    pub fn has_sides(&self) -> bool {
        matches!(
            self,
            Grudge::IsolateOne
                | Grudge::Halves
                | Grudge::MajorityMinority
                | Grudge::BareMajority
                | Grudge::Bridge
                | Grudge::PrimaryAlone
                | Grudge::PrimaryMinority
        )
    }
}

impl fmt::Display for Grudge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Grudge::Links { links, one_way } = self else { return f.write_str(self.name()) };
        let arrow = if *one_way { "->" } else { "<->" };
        let links: Vec<String> = links.iter().map(|(from, to)| format!("{from} {arrow} {to}")).collect();
        f.write_str(&links.join(", "))
    }
}

/// Where client hosts stand in a partition of the nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sides {
    /// They keep all their links: clients are somewhere else and reach every node.
    #[default]
    Stay,
    /// Each is put on a side and loses the nodes of the other.
    Split,
}

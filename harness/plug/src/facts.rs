//! What one configuration of a target is.

use std::time::Duration;

use smol_str::{SmolStr, format_smolstr};

/// What one configuration of a target consists of, promises and assumes. Everything that the core
/// decides by the target, it decides by this.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// Its nodes.
    pub groups: Vec<Group>,
    /// Whether one of its nodes leads.
    pub leads: bool,
    /// Whether that one is elected by the others.
    pub elects: bool,
    /// The roles that a node says it has.
    pub roles: &'static [&'static str],
    /// The least number of nodes, whichever they are, with which it promises to serve while all
    /// others are down or cut off. `None` if it promises that of no number of them, or only of all.
    pub quorum: Option<u16>,
    /// Whether a client does best to go on asking the node that answered it last: where one node
    /// serves everybody.
    pub sticky: bool,
    /// Whether all nodes end up with the same log.
    pub has_log: bool,
    /// Whether a request that is repeated takes effect once at most. If not, clients never repeat
    /// one that may have taken effect.
    pub exactly_once: bool,
    /// How long its clients wait for a node's answer before they ask another.
    pub attempt_timeout: Duration,
    /// How long it waits before it takes a silent node for dead: faults much shorter than this are
    /// not noticed.
    pub notice: Duration,
    /// By how many parts per million the rates of two clocks may differ for what it promises.
    /// `None` if it relies on no clock's rate.
    pub clock_drift_ppm: Option<u32>,
    /// The name of the operation by which nodes are asked whether they serve; it is about a thing of
    /// its own each time (`probe-1`, `probe-2`, …), with the value 1.
    pub probe: &'static str,
    /// The names of the operations that it serves.
    pub functions: &'static [&'static str],
    /// What it promises, in a sentence.
    pub promises: &'static str,
    /// Under which conditions, in a sentence; empty if there are none.
    pub assumes: &'static str,
}

impl Default for Facts {
    /// No nodes and no promises; half a second of patience.
    fn default() -> Facts {
        let patience = Duration::from_millis(500);
        Facts {
            groups: Vec::new(),
            leads: false,
            elects: false,
            roles: &[],
            quorum: None,
            sticky: false,
            has_log: false,
            exactly_once: false,
            attempt_timeout: patience,
            notice: patience,
            clock_drift_ppm: None,
            probe: "write",
            functions: &[],
            promises: "",
            assumes: "",
        }
    }
}

/// Nodes of one sort.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What they are: `servers`, `sentinels`.
    pub name: &'static str,
    /// What each is called: this and a number from one.
    pub prefix: &'static str,
    /// How many there are.
    pub count: u16,
    /// Whether clients ask them.
    pub serves: bool,
    /// The option that says how many there are, if one does.
    pub option: Option<&'static str>,
}

impl Group {
    /// The nodes that serve clients: `n1`, `n2`, …; the option [`nodes`](crate::Opt::nodes) counts
    /// them.
    pub fn servers(count: u16) -> Group {
        Group { name: "servers", prefix: "n", count, serves: true, option: Some("nodes") }
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = SmolStr> {
        (1..=self.count).map(|number| format_smolstr!("{}{number}", self.prefix))
    }
}

impl Facts {
    /// How many nodes there are.
    pub fn nodes(&self) -> u16 {
        self.groups.iter().map(|group| group.count).sum()
    }

    /// The names of all nodes.
    pub fn names(&self) -> Vec<SmolStr> {
        self.groups.iter().flat_map(Group::names).collect()
    }

    /// Whether it serves operations of this name.
    pub fn serves(&self, function: &str) -> bool {
        self.functions.contains(&function)
    }
}

/// A planted bug: a small, realistic deviation, to test the tester with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bug {
    /// Its name, in kebab-case.
    pub name: &'static str,
    /// What is wrong, in one line.
    pub about: &'static str,
}

/// The name of no bug, which takes the bug out of a scenario that has one.
pub const NO_BUG: &str = "none";

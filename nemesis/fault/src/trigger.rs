//! What a fault may wait for, and the watch that is kept for it: the same in every world.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use smol_str::SmolStr;

use crate::{Host, Timed};

/// Something that is seen of a running cluster. Only what happens after the main phase began
/// counts: what is so already doesn't become so.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// A node takes a part, by its own account.
    Becomes {
        /// Which node; any, if none is named.
        node: Option<Host>,
        /// Which part.
        part: Part,
        /// The how-manieth time it happens, from one.
        nth: u32,
    },
    /// Other faults of the schedule begin or end. One that could not be injected begins and ends
    /// at the moment at which it is given up.
    Faults {
        /// Their numbers.
        numbers: BTreeSet<u64>,
        /// The first of them begins, or the last of them ends.
        turn: Turn,
    },
    /// So many operations have ended, whatever their outcome.
    Operations(u64),
}

/// The beginning or the end of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Turn {
    /// The first of them is in force.
    Starts,
    /// All of them are healed.
    Ends,
}

/// A part that a node may have in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// It leads; a leader of the next term has become one anew.
    Primary,
    /// It follows one that leads.
    Backup,
    /// It tries to become the one that leads.
    Candidate,
    /// It has started and doesn't take part yet.
    Recovering,
    /// It is one of equals.
    Replica,
    /// It has no process: crashed, shut off or ended by itself.
    Down,
}

impl Part {
    /// Every part, with one line about it.
    pub const ALL: &'static [(Part, &'static str)] = &[
        (Part::Primary, "the node that leads; `leader` is the same"),
        (Part::Backup, "a node that follows; `follower` is the same"),
        (Part::Candidate, "a node that tries to become the one that leads"),
        (Part::Recovering, "a node that has started and doesn't take part yet"),
        (Part::Replica, "a node at work where nobody leads"),
        (Part::Down, "a node without a process"),
    ];

    /// Its short name: `primary`, `backup`, ….
    pub fn name(self) -> &'static str {
        match self {
            Part::Primary => "primary",
            Part::Backup => "backup",
            Part::Candidate => "candidate",
            Part::Recovering => "recovering",
            Part::Replica => "replica",
            Part::Down => "down",
        }
    }

    /// The part with this name. Consensus groups say `leader` and `follower`.
    pub fn named(name: &str) -> Option<Part> {
        match name {
            "leader" => Some(Part::Primary),
            "follower" => Some(Part::Backup),
            name => Part::ALL.iter().map(|(part, _)| *part).find(|part| part.name() == name),
        }
    }

    /// Whether there is such a part in a target where somebody leads, or where nobody does.
    pub fn fits(self, leads: bool) -> bool {
        match self {
            Part::Primary | Part::Backup | Part::Candidate => leads,
            Part::Replica => !leads,
            Part::Recovering | Part::Down => true,
        }
    }

    fn of(role: &str, leads: bool) -> Option<Part> {
        if leads { Some(Part::Primary) } else { Part::named(role) }
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trigger::Becomes { node, part, nth } => {
                let node = node.as_deref().unwrap_or("any node");
                write!(f, "when {node} becomes {}", part.name())?;
                match nth {
                    0 | 1 => Ok(()),
                    nth => write!(f, " for the {}", ordinal(*nth)),
                }
            }
            Trigger::Faults { numbers, turn } => {
                let many = numbers.len() > 1;
                let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();
                let word = match (turn, many) {
                    (Turn::Starts, false) => "starts",
                    (Turn::Starts, true) => "start",
                    (Turn::Ends, false) => "ends",
                    (Turn::Ends, true) => "have ended",
                };
                write!(f, "when {} {} {word}", if many { "faults" } else { "fault" }, numbers.join(", "))
            }
            Trigger::Operations(count) => write!(f, "after {count} operations"),
        }
    }
}

fn ordinal(n: u32) -> String {
    let ending = match (n % 10, n % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{n}{ending} time")
}

/// A fault that waits for its trigger, and what is left of it.
#[derive(Clone, Debug)]
struct Waiting {
    number: u64,
    trigger: Trigger,
}

impl Waiting {
    /// Notes that what a trigger counts has happened once more; whether that was the last time.
    fn once(&mut self) -> bool {
        match &mut self.trigger {
            Trigger::Becomes { nth: left, .. } => {
                *left = left.saturating_sub(1);
                *left == 0
            }
            Trigger::Operations(left) => {
                *left = left.saturating_sub(1);
                *left == 0
            }
            Trigger::Faults { .. } => false,
        }
    }
}

/// Watches a cluster for the triggers of a schedule. Whoever runs the cluster tells it what is
/// seen, in order, and is told the numbers of the faults whose triggers that was. Each fires once.
///
/// What nodes say of themselves before [`begin`](Lookout::begin) is what later changes are
/// measured by, and fires nothing. Being told something takes time linear in the number of faults
/// that still wait.
#[derive(Clone, Debug, Default)]
pub struct Lookout {
    begun: bool,
    waiting: Vec<Waiting>,
    /// What each node last said: its part, and its term if it leads.
    parts: BTreeMap<Host, (Option<Part>, u64)>,
}

impl Lookout {
    /// A watch for these faults' triggers, as (number, trigger).
    pub fn new<'a>(triggered: impl IntoIterator<Item = (u64, &'a Trigger)>) -> Lookout {
        let waiting = triggered.into_iter().map(|(number, trigger)| Waiting { number, trigger: trigger.clone() });
        Lookout { waiting: waiting.collect(), ..Lookout::default() }
    }

    /// A watch for the triggers of these faults.
    pub fn over(faults: &[Timed]) -> Lookout {
        Lookout::new(faults.iter().filter_map(|timed| Some((timed.number, timed.when.as_ref()?))))
    }

    /// Whether nothing is waited for, so that nothing need be told.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The main phase begins: from now on things count.
    pub fn begin(&mut self) {
        self.begun = true;
    }

    /// The faults whose triggers have not fired, with what each waits for, or for what is left of.
    pub fn waiting(&self) -> impl Iterator<Item = u64> + '_ {
        self.waiting.iter().map(|waiting| waiting.number)
    }

    /// A node says what it is. Returns the faults that this fires.
    pub fn role(&mut self, node: &str, role: &str, leads: bool, term: u64) -> Vec<u64> {
        self.becomes(node, Part::of(role, leads), if leads { term } else { 0 })
    }

    /// A node has no process any more. Returns the faults that this fires.
    pub fn down(&mut self, node: &str) -> Vec<u64> {
        self.becomes(node, Some(Part::Down), 0)
    }

    fn becomes(&mut self, node: &str, now: Option<Part>, term: u64) -> Vec<u64> {
        if self.is_idle() {
            return Vec::new();
        }
        let before = self.parts.insert(SmolStr::new(node), (now, term));
        if before == Some((now, term)) {
            return Vec::new();
        }
        self.fire(|waiting| match &waiting.trigger {
            Trigger::Becomes { node: wanted, part, .. } => {
                now == Some(*part) && wanted.as_deref().is_none_or(|wanted| wanted == node) && waiting.once()
            }
            _ => false,
        })
    }

    /// A fault begins or ends. Returns the faults that this fires.
    pub fn fault(&mut self, number: u64, turn: Turn) -> Vec<u64> {
        self.fire(|waiting| match &mut waiting.trigger {
            Trigger::Faults { numbers, turn: wanted } if *wanted == turn => {
                numbers.remove(&number) && (turn == Turn::Starts || numbers.is_empty())
            }
            _ => false,
        })
    }

    /// An operation has ended. Returns the faults that this fires.
    pub fn operation(&mut self) -> Vec<u64> {
        self.fire(|waiting| matches!(waiting.trigger, Trigger::Operations(_)) && waiting.once())
    }

    fn fire(&mut self, mut fires: impl FnMut(&mut Waiting) -> bool) -> Vec<u64> {
        let mut fired = Vec::new();
        if self.begun && !self.waiting.is_empty() {
            self.waiting.retain_mut(|waiting| {
                let fires = fires(waiting);
                if fires {
                    fired.push(waiting.number);
                }
                !fires
            });
        }
        fired
    }
}

//! The handle through which links are hurt, healed and counted.
//!
//! Rules live behind a mutex that the forwarding thread takes only when their generation has
//! changed; it forwards by its own copy. Counters are written by the forwarding thread alone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::rule::{Link, Rule};

/// A port of the switch: its place in the list the fabric was started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId(u16);

impl PortId {
    /// The port at place `index` of the list the fabric was started with.
    pub const fn new(index: u16) -> PortId {
        PortId(index)
    }

    /// Its place in that list.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What has happened on one directed link since the fabric started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames handed to the receiving host. One frame may carry a whole offloaded TCP segment train.
    pub frames: u64,
    /// Bytes of those frames, Ethernet headers included.
    pub bytes: u64,
    /// Frames dropped because the link's rule said so.
    pub dropped: u64,
    /// Frames held back by the link's rule, whatever became of them later.
    pub delayed: u64,
    /// Frames to be delayed but dropped because the delay queue was full.
    pub overflowed: u64,
    /// Frames the kernel would not take from us: the receiver's backlog stayed full through all
    /// retries, or its interface was down or gone.
    pub failed: u64,
}

/// The same figures, as the forwarding thread keeps them.
#[derive(Default)]
pub(crate) struct LinkCounters {
    pub(crate) frames: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) delayed: AtomicU64,
    pub(crate) overflowed: AtomicU64,
    pub(crate) failed: AtomicU64,
}

/// Adds to a counter that only the calling thread writes, which spares the locked instruction.
pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

/// What the handles and the forwarding thread share.
pub(crate) struct Shared {
    names: Vec<String>,
    rules: Mutex<Vec<Rule>>,
    /// Counts changes of `rules`; written with the mutex held.
    generation: AtomicU64,
    counters: Vec<LinkCounters>,
    /// Frames lost before the switch saw them, by port of entry.
    missed: Vec<AtomicU64>,
}

impl Shared {
    pub(crate) fn new(names: Vec<String>) -> Shared {
        let (ports, links) = (names.len(), names.len() * names.len());
        Shared {
            names,
            rules: Mutex::new(vec![Rule::OPEN; links]),
            generation: AtomicU64::new(0),
            counters: (0..links).map(|_| LinkCounters::default()).collect(),
            missed: (0..ports).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// The place of a link in tables indexed by link.
    pub(crate) fn place(&self, link: Link) -> usize {
        let ports = self.names.len();
        assert!(
            link.from.index() < ports && link.to.index() < ports,
            "link {link:?} is not of this fabric of {ports} ports"
        );
        link.from.index() * ports + link.to.index()
    }

    pub(crate) fn counters(&self, place: usize) -> &LinkCounters {
        &self.counters[place]
    }

    pub(crate) fn missed(&self, port: usize) -> &AtomicU64 {
        &self.missed[port]
    }

    /// Brings `copy` up to date with the rules if they have changed since generation `seen`.
    pub(crate) fn refresh(&self, seen: &mut u64, copy: &mut [Rule]) {
        if self.generation.load(Ordering::Acquire) == *seen {
            return;
        }
        let rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        copy.copy_from_slice(&rules);
        *seen = self.generation.load(Ordering::Relaxed);
    }

    fn change(&self, edit: impl FnOnce(&mut Vec<Rule>)) {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        edit(&mut rules);
        self.generation.fetch_add(1, Ordering::Release);
    }
}

/// A cheap handle on the links of a running [`Fabric`](crate::Fabric). It may outlive the fabric;
/// it then changes nothing and shows the last counters.
///
/// A rule counts for every frame the switch looks at after `set` has returned; frames of the one
/// batch being forwarded at that moment (microseconds) may still go by the old rule.
///
/// # Panics
/// All methods that take a [`PortId`] panic if it is not a port of this fabric.
#[derive(Clone)]
pub struct Links {
    shared: Arc<Shared>,
}

impl Links {
    pub(crate) fn new(shared: Arc<Shared>) -> Links {
        Links { shared }
    }

    /// The names of the ports, in the order the fabric was started with.
    pub fn ports(&self) -> &[String] {
        &self.shared.names
    }

    /// The port with this name.
    pub fn port(&self, name: &str) -> Option<PortId> {
        let index = self.shared.names.iter().position(|n| n == name)?;
        Some(PortId::new(u16::try_from(index).expect("a fabric has at most u16::MAX ports")))
    }

    /// All directed links between different ports, in order of sender, then receiver.
    pub fn all(&self) -> impl Iterator<Item = Link> + use<> {
        let ports = u16::try_from(self.shared.names.len()).expect("a fabric has at most u16::MAX ports");
        (0..ports).flat_map(move |from| {
            (0..ports)
                .filter(move |to| from != *to)
                .map(move |to| Link { from: PortId::new(from), to: PortId::new(to) })
        })
    }

    /// Sets the rule of one directed link.
    pub fn set(&self, from: PortId, to: PortId, rule: Rule) {
        self.set_many(&[(Link { from, to }, rule)]);
    }

    /// Sets the rules of several links at once: no frame sees some of them set and others not yet.
    pub fn set_many(&self, changes: &[(Link, Rule)]) {
        self.shared.change(|rules| {
            for (link, rule) in changes {
                rules[self.shared.place(*link)] = *rule;
            }
        });
    }

    /// The rule of one directed link.
    pub fn rule(&self, from: PortId, to: PortId) -> Rule {
        let place = self.shared.place(Link { from, to });
        self.shared.rules.lock().unwrap_or_else(PoisonError::into_inner)[place]
    }

    /// Opens every link. Frames already held back stay so until they are due.
    pub fn heal_all(&self) {
        self.shared.change(|rules| rules.fill(Rule::OPEN));
    }

    /// What has happened on one directed link. The figures are read one by one while frames flow,
    /// so they may disagree with each other by the frames of that moment.
    pub fn counters(&self, from: PortId, to: PortId) -> Counters {
        let counters = self.shared.counters(self.shared.place(Link { from, to }));
        Counters {
            frames: counters.frames.load(Ordering::Relaxed),
            bytes: counters.bytes.load(Ordering::Relaxed),
            dropped: counters.dropped.load(Ordering::Relaxed),
            delayed: counters.delayed.load(Ordering::Relaxed),
            overflowed: counters.overflowed.load(Ordering::Relaxed),
            failed: counters.failed.load(Ordering::Relaxed),
        }
    }

    /// Frames from this port's host that were lost before the switch saw them, because they came
    /// faster than it could read: loss no rule asked for. Looked at after each burst.
    pub fn missed(&self, port: PortId) -> u64 {
        self.shared.missed(port.index()).load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Links").field("ports", &self.shared.names).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn links(n: usize) -> Links {
        Links::new(Arc::new(Shared::new((0..n).map(|i| format!("n{i}")).collect())))
    }

    #[test]
    fn a_rule_counts_for_its_direction_only() {
        let links = links(3);
        let (a, b) = (links.port("n0").unwrap(), links.port("n1").unwrap());
        links.set(a, b, Rule::CUT);
        assert_eq!(links.rule(a, b), Rule::CUT);
        assert!(links.all().filter(|l| (l.from, l.to) != (a, b)).all(|l| links.rule(l.from, l.to).is_open()));
        links.heal_all();
        assert!(links.rule(a, b).is_open());
        assert_eq!(links.port("nobody"), None);
    }

    #[test]
    fn all_links_are_listed_once() {
        let all: Vec<Link> = links(4).all().collect();
        assert_eq!(all.len(), 12);
        assert!(all.is_sorted() && all.iter().all(|l| l.from != l.to));
    }

    #[test]
    fn a_copy_is_refreshed_only_by_a_change() {
        let links = links(2);
        let (a, b) = (PortId::new(0), PortId::new(1));
        let mut copy = vec![Rule::CUT; 4];
        let mut seen = 0;
        links.shared.refresh(&mut seen, &mut copy);
        assert_eq!(copy, vec![Rule::CUT; 4], "nothing changed, so nothing is copied");
        links.set(a, b, Rule::delayed(Duration::from_millis(1)));
        links.shared.refresh(&mut seen, &mut copy);
        assert_eq!(copy[1], Rule::delayed(Duration::from_millis(1)));
        assert!(copy[0].is_open() && seen == 1);
    }

    #[test]
    #[should_panic(expected = "not of this fabric")]
    fn a_foreign_port_is_refused() {
        links(2).rule(PortId::new(0), PortId::new(2));
    }
}

//! The handle through which links are hurt, healed and counted.
//!
//! Rules live behind a mutex that the forwarding thread takes only when their generation has
//! changed; it forwards by its own copy. Counters are written by the forwarding thread alone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use duress_backend::links::Counters;

use crate::capture::{Captured, Tap};
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

/// The counters of a link, as the forwarding thread keeps them.
macro_rules! counters {
    ($($name:ident,)*) => {
        #[derive(Default)]
        pub(crate) struct LinkCounters {
            $(pub(crate) $name: AtomicU64,)*
        }

        impl LinkCounters {
            fn read(&self) -> Counters {
                Counters { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    frames,
    bytes,
    dropped,
    delayed,
    overflowed,
    failed,
    lost,
    reordered,
    duplicated,
    corrupted,
    shaped,
    tail_dropped,
    black_holed,
    reset,
    flapped,
}

/// Adds to a counter that only the calling thread writes, which spares the locked instruction.
pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

/// What the handles and the forwarding thread share.
pub(crate) struct Shared {
    names: Vec<String>,
    rules: Mutex<Vec<InForce>>,
    /// Counts changes of `rules`; written with the mutex held.
    generation: AtomicU64,
    counters: Vec<LinkCounters>,
    /// Frames lost before the switch saw them, by port of entry.
    missed: Vec<AtomicU64>,
    /// Where frames and changes are written down, if they are.
    tap: Option<Tap>,
}

/// A rule in force, and what of it the forwarding thread needs to know at every frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct InForce {
    pub(crate) rule: Rule,
    /// Since when, in nanoseconds of the monotonic clock. A flap goes on when the rest of its rule
    /// is changed.
    pub(crate) since: u64,
    /// Whether it is anything but open.
    pub(crate) harms: bool,
    /// Whether frames may have to be held back or changed.
    pub(crate) holds: bool,
}

impl InForce {
    fn change(&mut self, rule: Rule, now: u64) {
        if self.rule.flap != rule.flap {
            self.since = now;
        }
        let straight = Rule { drop: false, loss: 0, black_hole: None, flap: None, ..rule };
        *self = InForce { rule, since: self.since, harms: !rule.is_open(), holds: !straight.is_open() };
    }

    /// How long it has been in force.
    pub(crate) fn age(&self, now: u64) -> Duration {
        Duration::from_nanos(now.saturating_sub(self.since))
    }
}

/// Nanoseconds on the clock that frames are timed by.
pub(crate) fn monotonic() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("every Linux has a monotonic clock");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

impl Shared {
    pub(crate) fn new(names: Vec<String>, tap: Option<Tap>) -> Shared {
        let (ports, links) = (names.len(), names.len() * names.len());
        Shared {
            names,
            rules: Mutex::new(vec![InForce::default(); links]),
            generation: AtomicU64::new(0),
            counters: (0..links).map(|_| LinkCounters::default()).collect(),
            missed: (0..ports).map(|_| AtomicU64::new(0)).collect(),
            tap,
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

    pub(crate) fn name(&self, port: usize) -> &str {
        &self.names[port]
    }

    pub(crate) fn tap(&self) -> Option<&Tap> {
        self.tap.as_ref()
    }

    /// Brings `copy` up to date with the rules if they have changed since generation `seen`.
    pub(crate) fn refresh(&self, seen: &mut u64, copy: &mut [InForce]) {
        if self.generation.load(Ordering::Acquire) == *seen {
            return;
        }
        let rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        copy.copy_from_slice(&rules);
        *seen = self.generation.load(Ordering::Relaxed);
    }

    fn change(&self, changes: impl IntoIterator<Item = (Link, Rule)>) {
        let now = monotonic();
        let mut told = Vec::new();
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        for (link, rule) in changes {
            let in_force = &mut rules[self.place(link)];
            if self.tap.is_some() && in_force.rule != rule {
                told.push(format!("{} -> {}: {rule}", self.name(link.from.index()), self.name(link.to.index())));
            }
            in_force.change(rule, now);
        }
        self.generation.fetch_add(1, Ordering::Release);
        drop(rules);
        if let Some(tap) = &self.tap
            && !told.is_empty()
        {
            tap.note(&told.join("; "));
        }
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
        self.shared.change(changes.iter().copied());
    }

    /// The rule of one directed link.
    pub fn rule(&self, from: PortId, to: PortId) -> Rule {
        let place = self.shared.place(Link { from, to });
        self.shared.rules.lock().unwrap_or_else(PoisonError::into_inner)[place].rule
    }

    /// Opens every link. Frames already held back stay so until they are due.
    pub fn heal_all(&self) {
        self.shared.change(self.all().map(|link| (link, Rule::OPEN)));
    }

    /// What has happened on one directed link. The figures are read one by one while frames flow,
    /// so they may disagree with each other by the frames of that moment.
    pub fn counters(&self, from: PortId, to: PortId) -> Counters {
        self.shared.counters(self.shared.place(Link { from, to })).read()
    }

    /// Writes a comment into the capture, if there is one: what is being done to the hosts.
    pub fn note(&self, text: &str) {
        if let Some(tap) = &self.shared.tap {
            tap.note(text);
        }
    }

    /// How much has been captured so far, if frames are captured.
    pub fn captured(&self) -> Option<Captured> {
        self.shared.tap.as_ref().map(Tap::captured)
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

    fn links(n: usize) -> Links {
        Links::new(Arc::new(Shared::new((0..n).map(|i| format!("n{i}")).collect(), None)))
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
        let stale = InForce { harms: true, ..InForce::default() };
        let mut copy = vec![stale; 4];
        let mut seen = 0;
        links.shared.refresh(&mut seen, &mut copy);
        assert_eq!(copy, vec![stale; 4], "nothing changed, so nothing is copied");
        links.set(a, b, Rule::delayed(Duration::from_millis(1)));
        links.shared.refresh(&mut seen, &mut copy);
        assert_eq!(copy[1].rule, Rule::delayed(Duration::from_millis(1)));
        assert!(copy[1].harms && copy[1].holds);
        assert!(copy[0].rule.is_open() && !copy[0].harms && seen == 1);
    }

    #[test]
    fn a_flap_goes_on_when_another_harm_joins_it() {
        let flapping = Rule { flap: Some(Duration::from_millis(5)), ..Rule::OPEN };
        let mut in_force = InForce::default();
        in_force.change(flapping, 100);
        in_force.change(Rule { loss: 5, ..flapping }, 200);
        assert_eq!((in_force.since, in_force.age(250)), (100, Duration::from_nanos(150)));
        assert!(in_force.harms && !in_force.holds, "frames are dropped, none is held");
        in_force.change(Rule::OPEN, 300);
        in_force.change(flapping, 400);
        assert_eq!(in_force.since, 400);
    }

    #[test]
    #[should_panic(expected = "not of this fabric")]
    fn a_foreign_port_is_refused() {
        links(2).rule(PortId::new(0), PortId::new(2));
    }
}

//! From what is wanted to whom it hits, at the moment of injection.

use std::collections::{BTreeMap, BTreeSet};

use duress_seed::{Seed, shuffled};
use thiserror::Error;

use crate::{Fault, Grudge, Host, HostHarm, Kind, LinkHarm, Selector, Sides};

/// What is known of a cluster at the moment of injection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The members of the target.
    pub nodes: Vec<Host>,
    /// The client hosts.
    pub clients: Vec<Host>,
    /// Who leads, by their own account, best known first. More than one may claim to.
    pub primaries: Vec<Host>,
    /// The client host that holds a lock.
    pub holder: Option<Host>,
    /// Hosts that another fault holds down.
    pub down: BTreeSet<Host>,
}

/// What is done to the hosts or links of a resolved fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// To its links.
    Links(LinkHarm),
    /// To its hosts.
    Hosts(HostHarm),
}

impl Effect {
    /// The kind of a fault that does this.
    pub fn kind(&self) -> Kind {
        match self {
            Effect::Links(harm) => harm.kind(),
            Effect::Hosts(harm) => harm.kind(),
        }
    }
}

/// A fault that names whom it hits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The kind's name: `partition`, `crash`, ….
    pub kind: &'static str,
    /// What is done.
    pub effect: Effect,
    /// The fault in words: "partition: n1 | n2 n3 (halves)".
    pub what: String,
    /// The hosts that are hit, in order: those killed or stopped, or the ends of the links.
    pub hosts: Vec<Host>,
    /// The directed links that are hit, as (from, to).
    pub links: BTreeSet<(Host, Host)>,
}

/// Why a fault can't be injected.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unresolvable {
    /// No node is known to lead, or the one that does is held down.
    #[error("no node is known to lead")]
    NoPrimary,
    /// Nobody holds a lock.
    #[error("no client host holds a lock")]
    NoHolder,
    /// Every host that could be chosen is held down by another fault.
    #[error("every host that it could hit is already down")]
    NobodyLeft,
    /// The target is too small.
    #[error("it needs at least {needed} nodes, and there are {found}")]
    TooFewNodes {
        /// How many it needs.
        needed: usize,
        /// How many there are.
        found: usize,
    },
    /// There are no client hosts.
    #[error("there are no client hosts")]
    NoClients,
    /// A name that no host has.
    #[error("there is no host named {0}")]
    UnknownHost(Host),
    /// A link from a host to itself, or no links or hosts at all.
    #[error("it hits nothing")]
    Nothing,
}

impl Unresolvable {
    /// Whether it may be possible a moment later, so that waiting makes sense.
    pub fn may_pass(&self) -> bool {
        matches!(self, Unresolvable::NoPrimary | Unresolvable::NoHolder | Unresolvable::NobodyLeft)
    }
}

impl Fault {
    /// Names whom the fault hits. `key` is the fault's number in its schedule.
    ///
    /// # Errors
    /// If the cluster as it stands has nobody whom the fault could hit.
    pub fn resolve(&self, view: &View, seed: Seed, key: u64) -> Result<Resolved, Unresolvable> {
        let draw = Draw { view, seed, key };
        match self {
            Fault::Links { grudge, clients, harm } => {
                let (links, words) = draw.links(grudge, *clients)?;
                let hosts: BTreeSet<Host> = links.iter().flat_map(|(from, to)| [from.clone(), to.clone()]).collect();
                let what = format!("{harm}: {words}");
                let (kind, hosts) = (harm.kind().name(), hosts.into_iter().collect());
                Ok(Resolved { kind, effect: Effect::Links(*harm), what, hosts, links })
            }
            Fault::Hosts { who, harm } => draw.on_hosts(*harm, who),
        }
    }
}

type Links = BTreeSet<(Host, Host)>;

/// What the decisions of one fault depend on.
struct Draw<'a> {
    view: &'a View,
    seed: Seed,
    key: u64,
}

/// What a decision is about; the second word of its key, after the fault's number.
const ORDER: u64 = 1;
const SIZE: u64 = 2;
const CLIENTS: u64 = 3;
const PICK: u64 = 4;
const LINK: u64 = 5;

impl Draw<'_> {
    fn decide(&self, about: &[u64]) -> duress_seed::Decision {
        let key: Vec<u64> = std::iter::once(self.key).chain(about.iter().copied()).collect();
        self.seed.decide(&key)
    }

    fn shuffled(&self, about: u64, hosts: &[Host]) -> Vec<Host> {
        shuffled(self.seed, &[self.key, about], hosts.len()).into_iter().map(|i| hosts[i].clone()).collect()
    }

    fn on_hosts(&self, harm: HostHarm, who: &Selector) -> Result<Resolved, Unresolvable> {
        let hosts = self.select(who)?;
        let why = match who {
            Selector::Names(_) => String::new(),
            other => format!(" ({})", other.name()),
        };
        let what = format!("{harm}: {}{why}", hosts.join(" "));
        Ok(Resolved { kind: harm.kind().name(), effect: Effect::Hosts(harm), what, hosts, links: Links::new() })
    }

    fn select(&self, selector: &Selector) -> Result<Vec<Host>, Unresolvable> {
        let view = self.view;
        let n = view.nodes.len();
        let up = |hosts: &[Host]| -> Vec<Host> { hosts.iter().filter(|h| !view.down.contains(*h)).cloned().collect() };
        let count = match selector {
            Selector::Names(names) => {
                let known = |name: &&Host| !view.nodes.contains(name) && !view.clients.contains(name);
                if let Some(unknown) = names.iter().find(known) {
                    return Err(Unresolvable::UnknownHost(unknown.clone()));
                }
                let hosts: BTreeSet<Host> = names.iter().cloned().collect();
                return if hosts.is_empty() { Err(Unresolvable::Nothing) } else { Ok(hosts.into_iter().collect()) };
            }
            Selector::Primary => {
                return Ok(vec![self.primary().filter(|p| !view.down.contains(p)).ok_or(Unresolvable::NoPrimary)?]);
            }
            Selector::Holder => {
                let holder = view.holder.clone().ok_or(Unresolvable::NoHolder)?;
                return if view.down.contains(&holder) { Err(Unresolvable::NobodyLeft) } else { Ok(vec![holder]) };
            }
            Selector::Client if view.clients.is_empty() => return Err(Unresolvable::NoClients),
            Selector::Client => {
                let up = up(&view.clients);
                let picked = self.decide(&[PICK]).pick(&up).cloned();
                return Ok(vec![picked.ok_or(Unresolvable::NobodyLeft)?]);
            }
            Selector::Backup | Selector::Backups => {
                let primary = self.primary().ok_or(Unresolvable::NoPrimary)?;
                let mut others = up(&view.nodes);
                others.retain(|node| *node != primary);
                if *selector == Selector::Backups && !others.is_empty() {
                    return Ok(others);
                }
                let picked = self.decide(&[PICK]).pick(&others).cloned();
                return Ok(vec![picked.ok_or(Unresolvable::NobodyLeft)?]);
            }
            Selector::PrimaryAndBackup => {
                let mut hosts = self.select(&Selector::Primary)?;
                hosts.extend(self.select(&Selector::Backup)?);
                hosts.sort();
                return Ok(hosts);
            }
            Selector::One => 1,
            Selector::Minority => largest_minority(n),
            Selector::Majority => n / 2 + 1,
            Selector::All => n,
        };
        let mut hosts = up(&self.shuffled(ORDER, &view.nodes));
        hosts.truncate(count);
        hosts.sort();
        if hosts.is_empty() { Err(Unresolvable::NobodyLeft) } else { Ok(hosts) }
    }

    fn primary(&self) -> Option<Host> {
        self.view.primaries.iter().find(|primary| self.view.nodes.contains(primary)).cloned()
    }

    /// The directed links of a grudge, and what it does in words.
    fn links(&self, grudge: &Grudge, clients: Sides) -> Result<(Links, String), Unresolvable> {
        let view = self.view;
        let n = view.nodes.len();
        if n < grudge.least_nodes() {
            return Err(Unresolvable::TooFewNodes { needed: grudge.least_nodes(), found: n });
        }
        let name = grudge.name();
        match grudge {
            Grudge::IsolateOne | Grudge::Halves | Grudge::MajorityMinority | Grudge::BareMajority => {
                let order = self.shuffled(ORDER, &view.nodes);
                let first = match grudge {
                    Grudge::IsolateOne => 1,
                    Grudge::Halves => n / 2,
                    Grudge::BareMajority => largest_minority(n),
                    _ => 1 + self.decide(&[SIZE]).below(largest_minority(n) as u64) as usize,
                };
                Ok(self.sides(order[..first].to_vec(), order[first..].to_vec(), None, name, clients))
            }
            Grudge::PrimaryAlone => {
                let primary = self.primary().ok_or(Unresolvable::NoPrimary)?;
                let others = view.nodes.iter().filter(|node| **node != primary).cloned().collect();
                Ok(self.sides(vec![primary], others, None, name, clients))
            }
            Grudge::PrimaryMinority => {
                let primary = self.primary().ok_or(Unresolvable::NoPrimary)?;
                let mut others = self.shuffled(ORDER, &view.nodes);
                others.retain(|node| *node != primary);
                let rest = others.split_off(largest_minority(n) - 1);
                others.push(primary);
                Ok(self.sides(others, rest, None, name, clients))
            }
            Grudge::Bridge => {
                let mut order = self.shuffled(ORDER, &view.nodes);
                let bridge = order.pop();
                let second = order.split_off(order.len() / 2);
                Ok(self.sides(order, second, bridge, name, clients))
            }
            Grudge::MajoritiesRing => Ok(self.ring()),
            Grudge::RandomAsymmetric => Ok(self.random_asymmetric()),
            Grudge::SingleLink => {
                let order = self.shuffled(ORDER, &view.nodes);
                Ok(named_links(&[(order[0].clone(), order[1].clone())], false, name))
            }
            Grudge::HalfOpen => {
                let order = self.shuffled(ORDER, &view.nodes);
                Ok(named_links(&[(order[0].clone(), order[1].clone())], true, name))
            }
            Grudge::ClientFromNode => {
                let client = self.decide(&[CLIENTS]).pick(&view.clients).ok_or(Unresolvable::NoClients)?;
                let node = self.decide(&[PICK]).pick(&view.nodes).ok_or(Unresolvable::Nothing)?;
                Ok(named_links(&[(client.clone(), node.clone())], false, name))
            }
            Grudge::Links { links, one_way } => {
                let unknown = |host: &&Host| !view.nodes.contains(host) && !view.clients.contains(host);
                if let Some(host) = links.iter().flat_map(|(from, to)| [from, to]).find(unknown) {
                    return Err(Unresolvable::UnknownHost(host.clone()));
                }
                if links.is_empty() || links.iter().any(|(from, to)| from == to) {
                    return Err(Unresolvable::Nothing);
                }
                Ok(named_links(links, *one_way, name))
            }
        }
    }

    /// Two sides that don't see each other, and perhaps a node that sees both.
    fn sides(
        &self,
        mut first: Vec<Host>,
        mut second: Vec<Host>,
        bridge: Option<Host>,
        name: &str,
        clients: Sides,
    ) -> (Links, String) {
        first.sort();
        second.sort();
        let mut links = both_ways(first.iter().flat_map(|a| second.iter().map(move |b| (a.clone(), b.clone()))));
        if clients == Sides::Split {
            let order = self.shuffled(CLIENTS, &self.view.clients);
            let (for_first, for_second) = order.split_at(order.len().div_ceil(2));
            for (stay, lose) in [(for_first, second.clone()), (for_second, first.clone())] {
                links.append(&mut both_ways(
                    stay.iter().flat_map(|c| lose.iter().map(move |node| (c.clone(), node.clone()))),
                ));
            }
            first.extend(for_first.iter().cloned());
            second.extend(for_second.iter().cloned());
        }
        let middle = bridge.map(|node| format!(", {node} sees both")).unwrap_or_default();
        (links, format!("{} | {}{middle} ({name})", first.join(" "), second.join(" ")))
    }

    /// Each node sees the `reach` nearest on either side of it on a ring, itself, and nobody else:
    /// `2 * reach + 1` nodes are a majority, but not all, from four nodes on.
    fn ring(&self) -> (Links, String) {
        let order = self.shuffled(ORDER, &self.view.nodes);
        let n = order.len();
        let name = Grudge::MajoritiesRing.name();
        if n == 3 {
            // On a ring of three everybody sees everybody; with one link cut, the three see three
            // different majorities.
            return named_links(&[(order[0].clone(), order[1].clone())], false, name);
        }
        let reach = (n / 2).div_ceil(2);
        let mut links = Links::new();
        for i in 0..n {
            for j in 0..n {
                let apart = i.abs_diff(j).min(n - i.abs_diff(j));
                if apart > reach {
                    links.insert((order[i].clone(), order[j].clone()));
                }
            }
        }
        let words = format!("each of {} sees only its {reach} nearest on either side ({name})", order.join(" "));
        (links, words)
    }

    fn random_asymmetric(&self) -> (Links, String) {
        let nodes = &self.view.nodes;
        let mut pairs = Vec::new();
        let mut one_way = false;
        for i in 0..nodes.len() {
            for j in i + 1..nodes.len() {
                let choice = self.decide(&[LINK, i as u64, j as u64]).below(4);
                one_way |= choice == 1 || choice == 2;
                pairs.push((i, j, choice));
            }
        }
        if !one_way {
            let at = self.decide(&[PICK]).below(pairs.len() as u64) as usize;
            pairs[at].2 = 1 + self.decide(&[SIZE]).below(2);
        }
        let mut links = Vec::new();
        for (i, j, choice) in pairs {
            if choice & 1 != 0 {
                links.push((nodes[i].clone(), nodes[j].clone()));
            }
            if choice & 2 != 0 {
                links.push((nodes[j].clone(), nodes[i].clone()));
            }
        }
        named_links(&links, true, Grudge::RandomAsymmetric.name())
    }
}

/// The largest number that is less than half of `n`, but at least one.
fn largest_minority(n: usize) -> usize {
    (n.saturating_sub(1) / 2).max(1)
}

fn both_ways(pairs: impl Iterator<Item = (Host, Host)>) -> Links {
    pairs.flat_map(|(a, b)| [(a.clone(), b.clone()), (b, a)]).collect()
}

fn named_links(pairs: &[(Host, Host)], one_way: bool, name: &str) -> (Links, String) {
    let links: Links = if one_way { pairs.iter().cloned().collect() } else { both_ways(pairs.iter().cloned()) };
    // Links that are hit in both directions are said once.
    let mut words: BTreeMap<(Host, Host), &str> = BTreeMap::new();
    for (from, to) in &links {
        if !links.contains(&(to.clone(), from.clone())) {
            words.insert((from.clone(), to.clone()), "->");
        } else if from < to {
            words.insert((from.clone(), to.clone()), "<->");
        }
    }
    let words: Vec<String> = words.into_iter().map(|((from, to), arrow)| format!("{from} {arrow} {to}")).collect();
    (links, format!("{} ({name})", words.join(", ")))
}

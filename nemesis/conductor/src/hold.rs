//! Holding some nodes back while the others are healed: a quorum alone must serve.

use std::collections::BTreeSet;

use duress_fault::{Effect, Host, HostHarm, LinkHarm, Resolved};
use duress_seed::{Seed, shuffled};

/// The nodes that stay away while the others serve, and the fault that keeps them away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldBack {
    /// The nodes that are healed, in order.
    pub healed: Vec<Host>,
    /// The nodes that stay away, in order.
    pub away: Vec<Host>,
    /// Kills them, or cuts them off from everybody.
    pub fault: Resolved,
}

impl HeldBack {
    /// Draws which `first` nodes are healed, and whether the rest is down or cut off. `None` if
    /// that leaves no rest.
    pub fn draw(nodes: &[Host], clients: &[Host], first: usize, seed: Seed) -> Option<HeldBack> {
        if first >= nodes.len() {
            return None;
        }
        let order = shuffled(seed, &[1], nodes.len());
        let names = |part: &[usize]| {
            let part: BTreeSet<usize> = part.iter().copied().collect();
            part.into_iter().map(|at| nodes[at].clone()).collect::<Vec<Host>>()
        };
        let (healed, away) = (names(&order[..first]), names(&order[first..]));
        let who = format!("{}, while {} must serve", away.join(" "), healed.join(" "));
        let fault = if seed.decide(&[2]).chance(0.5) {
            let (what, hosts) = (format!("crash: {who}"), away.clone());
            Resolved { kind: "crash", effect: Effect::Hosts(HostHarm::Kill), what, hosts, links: BTreeSet::new() }
        } else {
            let pairs = healed.iter().chain(clients).flat_map(|a| away.iter().map(move |b| (a.clone(), b.clone())));
            let links: BTreeSet<(Host, Host)> = pairs.flat_map(|(a, b)| [(a.clone(), b.clone()), (b, a)]).collect();
            let hosts: BTreeSet<Host> = links.iter().map(|(from, _)| from.clone()).collect();
            let what = format!("partition: cut off from everybody: {who}");
            Resolved {
                kind: "partition",
                effect: Effect::Links(LinkHarm::Cut),
                what,
                hosts: hosts.into_iter().collect(),
                links,
            }
        };
        Some(HeldBack { healed, away, fault })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stays_away_reaches_nobody_and_the_others_everybody() {
        let name = |letter: &str, n: usize| Host::from(format!("{letter}{n}"));
        let nodes: Vec<Host> = (1..=5).map(|n| name("n", n)).collect();
        let clients: Vec<Host> = (1..=2).map(|n| name("c", n)).collect();
        let mut kinds = BTreeSet::new();
        let mut chosen = BTreeSet::new();
        for seed in 0..50 {
            let held = HeldBack::draw(&nodes, &clients, 3, Seed(seed)).expect("there is a rest");
            assert_eq!((held.healed.len(), held.away.len()), (3, 2));
            assert!(held.healed.iter().all(|node| !held.away.contains(node)));
            kinds.insert(held.fault.kind);
            chosen.insert(held.healed.clone());
            for a in nodes.iter().chain(&clients) {
                for b in nodes.iter().chain(&clients).filter(|b| *b != a) {
                    let away = (held.away.contains(a), held.away.contains(b));
                    let cut = held.fault.links.contains(&(a.clone(), b.clone()));
                    assert_eq!(
                        cut,
                        held.fault.effect == Effect::Links(LinkHarm::Cut) && (away.0 != away.1),
                        "{a} -> {b}"
                    );
                }
            }
        }
        assert!(kinds.len() == 2 && chosen.len() == 10, "{kinds:?}, {chosen:?}");
        assert_eq!(HeldBack::draw(&nodes, &clients, 5, Seed(1)), None);
    }
}

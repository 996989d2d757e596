//! Properties of resolved faults.

use std::collections::BTreeSet;
use std::time::Duration;

use duress_fault::{
    Effect, Fault, Grudge, Host, HostHarm, LinkHarm, Resolved, Selector, Shape, Sides, Unresolvable, View,
};
use duress_seed::Seed;
use proptest::prelude::*;

fn view(nodes: usize, clients: usize) -> View {
    let named = |prefix: &str, n: usize| (1..=n).map(|i| Host::from(format!("{prefix}{i}"))).collect::<Vec<_>>();
    let nodes = named("n", nodes);
    View {
        primaries: nodes.first().cloned().into_iter().collect(),
        nodes,
        clients: named("c", clients),
        ..View::default()
    }
}

fn cut(grudge: Grudge, view: &View, seed: u64, key: u64) -> Resolved {
    Fault::from(grudge).resolve(view, Seed(seed), key).expect("resolvable")
}

/// Whom each node sees: both directions open.
fn sees(view: &View, resolved: &Resolved, who: &Host) -> BTreeSet<Host> {
    let open = |a: &Host, b: &Host| !resolved.links.contains(&(a.clone(), b.clone()));
    view.nodes.iter().filter(|other| *other == who || (open(who, other) && open(other, who))).cloned().collect()
}

fn symmetric(resolved: &Resolved) -> bool {
    resolved.links.iter().all(|(a, b)| resolved.links.contains(&(b.clone(), a.clone())))
}

fn any_grudge() -> impl Strategy<Value = Grudge> {
    (0..Grudge::ALL.len()).prop_map(|i| Grudge::ALL[i].0.clone())
}

proptest! {
    #[test]
    fn partitions_cut_something_and_are_symmetric_unless_asked(
        grudge in any_grudge(), nodes in 3usize..=9, seed in any::<u64>(), key in any::<u64>(), split in any::<bool>(),
    ) {
        let view = view(nodes, 3);
        let clients = if split { Sides::Split } else { Sides::Stay };
        let fault = Fault::Links { grudge: grudge.clone(), clients, harm: LinkHarm::Cut };
        let resolved = fault.resolve(&view, Seed(seed), key).unwrap();
        prop_assert!(!resolved.links.is_empty());
        prop_assert_eq!(symmetric(&resolved), !matches!(grudge, Grudge::RandomAsymmetric | Grudge::HalfOpen), "{}", resolved.what);
        prop_assert_eq!(&fault.resolve(&view, Seed(seed), key).unwrap(), &resolved);
        prop_assert!(resolved.links.iter().all(|(a, b)| a != b));
        let touches_clients = resolved.hosts.iter().any(|host| host.starts_with('c'));
        prop_assert_eq!(touches_clients, grudge == Grudge::ClientFromNode || (split && grudge.has_sides()));
    }

    #[test]
    fn a_majority_stays_connected(nodes in 3usize..=9, seed in any::<u64>()) {
        let view = view(nodes, 0);
        for grudge in [
            Grudge::MajorityMinority,
            Grudge::BareMajority,
            Grudge::IsolateOne,
            Grudge::PrimaryAlone,
            Grudge::PrimaryMinority,
            Grudge::SingleLink,
        ] {
            let resolved = cut(grudge, &view, seed, 1);
            let widest = view.nodes.iter().map(|node| sees(&view, &resolved, node).len()).max().unwrap();
            prop_assert!(widest > nodes / 2, "{}", resolved.what);
        }
    }

    #[test]
    fn what_is_said_to_leave_a_majority_does(
        grudge in any_grudge(), nodes in 1usize..=8, seed in any::<u64>(), key in any::<u64>(),
    ) {
        let view = view(nodes, 2);
        prop_assume!(nodes >= grudge.least_nodes());
        let resolved = cut(grudge.clone(), &view, seed, key);
        let seen: Vec<BTreeSet<Host>> = view.nodes.iter().map(|node| sees(&view, &resolved, node)).collect();
        // The largest set of nodes of which each sees each, by trying all sets.
        let connected = |set: u32| {
            (0..nodes).filter(|i| set >> i & 1 == 1).all(|i| {
                (0..nodes).filter(|j| set >> j & 1 == 1).all(|j| seen[i].contains(&view.nodes[j]))
            })
        };
        let widest = (0u32..1 << nodes).filter(|set| connected(*set)).map(u32::count_ones).max().unwrap_or(0);
        let left = widest as usize > nodes / 2;
        if grudge.leaves_majority(nodes) {
            prop_assert!(left, "{}", resolved.what);
        } else if grudge != Grudge::RandomAsymmetric {
            prop_assert!(!left, "{}", resolved.what);
        }
    }

    #[test]
    fn selectors_leave_a_majority_as_they_say(which in 0..Selector::ALL.len(), nodes in 1usize..=9, seed in any::<u64>()) {
        let selector = Selector::ALL[which].0.clone();
        prop_assume!(nodes >= selector.least_nodes() && selector != Selector::Holder);
        let view = view(nodes, 2);
        let resolved = Fault::pause(selector.clone()).resolve(&view, Seed(seed), 1).unwrap();
        let hit = resolved.hosts.iter().filter(|host| host.starts_with('n')).count();
        prop_assert_eq!(selector.leaves_majority(nodes), nodes - hit > nodes / 2, "{}", resolved.what);
    }

    #[test]
    fn a_primary_in_a_minority_has_as_much_company_as_can_be(nodes in 2usize..=9, seed in any::<u64>()) {
        let view = view(nodes, 0);
        let resolved = cut(Grudge::PrimaryMinority, &view, seed, 1);
        prop_assert_eq!(sees(&view, &resolved, &view.primaries[0]).len(), ((nodes - 1) / 2).max(1));
        let resolved = cut(Grudge::BareMajority, &view, seed, 1);
        let widest = view.nodes.iter().map(|node| sees(&view, &resolved, node).len()).max().unwrap();
        prop_assert_eq!(widest, if nodes == 2 { 1 } else { nodes / 2 + 1 });
    }

    #[test]
    fn on_a_ring_each_sees_its_own_majority(nodes in 3usize..=9, seed in any::<u64>()) {
        let view = view(nodes, 0);
        let resolved = cut(Grudge::MajoritiesRing, &view, seed, 1);
        let seen: BTreeSet<_> = view.nodes.iter().map(|node| sees(&view, &resolved, node)).collect();
        prop_assert!(seen.iter().all(|hosts| hosts.len() > nodes / 2), "{}", resolved.what);
        prop_assert_eq!(seen.len(), nodes, "no two the same: {}", resolved.what);
    }

    #[test]
    fn a_bridge_sees_everybody_and_the_halves_see_only_it(nodes in 3usize..=9, seed in any::<u64>()) {
        let view = view(nodes, 0);
        let resolved = cut(Grudge::Bridge, &view, seed, 1);
        let bridges: Vec<_> = view.nodes.iter().filter(|node| sees(&view, &resolved, node).len() == nodes).collect();
        prop_assert_eq!(bridges.len(), 1, "{}", resolved.what);
    }

    #[test]
    fn counts_are_what_they_say(nodes in 1usize..=9, seed in any::<u64>(), key in any::<u64>()) {
        let view = view(nodes, 2);
        for (selector, count) in [
            (Selector::One, 1),
            (Selector::Minority, ((nodes - 1) / 2).max(1)),
            (Selector::Majority, nodes / 2 + 1),
            (Selector::All, nodes),
            (Selector::Primary, 1),
            (Selector::Backups, nodes - 1),
            (Selector::PrimaryAndBackup, 2),
            (Selector::Client, 1),
        ] {
            if nodes < selector.least_nodes() {
                continue;
            }
            let resolved = Fault::crash(selector.clone()).resolve(&view, Seed(seed), key).unwrap();
            prop_assert_eq!(resolved.hosts.iter().collect::<BTreeSet<_>>().len(), count, "{:?}", selector);
            prop_assert!(resolved.links.is_empty());
        }
    }
}

#[test]
fn seeds_and_numbers_make_different_choices() {
    let view = view(5, 2);
    let all: BTreeSet<String> = (0..50).map(|key| cut(Grudge::Halves, &view, 7, key).what).collect();
    assert!(all.len() > 5, "{all:?}");
    let all: BTreeSet<String> = (0..50).map(|seed| cut(Grudge::Halves, &view, seed, 1).what).collect();
    assert!(all.len() > 5, "{all:?}");
}

#[test]
fn hosts_that_are_down_are_passed_over() {
    let mut view = view(3, 1);
    view.down = [Host::from("n1"), Host::from("n2")].into();
    for key in 0..20 {
        let resolved = Fault::pause(Selector::Majority).resolve(&view, Seed(1), key).unwrap();
        assert_eq!(resolved.hosts, ["n3"]);
    }
    assert_eq!(Fault::crash(Selector::Primary).resolve(&view, Seed(1), 1), Err(Unresolvable::NoPrimary));
    view.down.insert("n3".into());
    assert_eq!(Fault::crash(Selector::One).resolve(&view, Seed(1), 1), Err(Unresolvable::NobodyLeft));
}

#[test]
fn what_cannot_be_is_refused() {
    let mut small = view(2, 0);
    let refused = |fault: Fault, view: &View| fault.resolve(view, Seed(1), 1).unwrap_err();
    assert_eq!(refused(Grudge::Bridge.into(), &small), Unresolvable::TooFewNodes { needed: 3, found: 2 });
    assert_eq!(refused(Grudge::ClientFromNode.into(), &small), Unresolvable::NoClients);
    assert_eq!(refused(Fault::pause(Selector::Holder), &small), Unresolvable::NoHolder);
    assert_eq!(refused(Fault::pause(Selector::Client), &small), Unresolvable::NoClients);
    let stranger = Selector::Names(vec!["n1".into(), "n7".into()]);
    assert_eq!(refused(Fault::crash(stranger), &small), Unresolvable::UnknownHost("n7".into()));
    small.primaries.clear();
    let waits = refused(Grudge::PrimaryAlone.into(), &small);
    assert_eq!(waits, Unresolvable::NoPrimary);
    assert!(waits.may_pass());
    assert_eq!(refused(Fault::pause(Selector::Backup), &small), Unresolvable::NoPrimary);
}

#[test]
fn explicit_links_are_taken_literally_and_said_in_words() {
    let view = view(3, 3);
    let links = vec![("n1".into(), "n2".into()), ("c1".into(), "n1".into())];
    let both = cut(Grudge::Links { links: links.clone(), one_way: false }, &view, 1, 1);
    assert_eq!(both.what, "partition: c1 <-> n1, n1 <-> n2 (links)");
    assert_eq!(both.links.len(), 4);
    assert_eq!(both.hosts, ["c1", "n1", "n2"]);
    let delay = LinkHarm::Delay { by: Duration::from_millis(250), jitter: Duration::ZERO, shape: Shape::Constant };
    let slow = Fault::links(Grudge::Links { links, one_way: true }, delay);
    let slow = slow.resolve(&view, Seed(1), 1).unwrap();
    assert_eq!(slow.what, "delay of 250ms: c1 -> n1, n1 -> n2 (links)");
    assert_eq!(slow.effect, Effect::Links(delay));
    assert_eq!(slow.links.len(), 2);
}

#[test]
fn words_name_everybody() {
    let view = view(3, 2);
    assert_eq!(cut(Grudge::PrimaryAlone, &view, 1, 1).what, "partition: n1 | n2 n3 (primary-alone)");
    let split = Fault::Links { grudge: Grudge::PrimaryAlone, clients: Sides::Split, harm: LinkHarm::Cut };
    let split = split.resolve(&view, Seed(1), 1).unwrap();
    assert!(split.what.contains('c') && split.links.len() == 4 + 2 * 2 + 2, "{}", split.what);
    let crash = Fault::crash(Selector::Primary).resolve(&view, Seed(1), 1).unwrap();
    assert_eq!((crash.what.as_str(), crash.effect), ("crash: n1 (primary)", Effect::Hosts(HostHarm::Kill)));
}

#[test]
fn names_lead_back_to_what_they_name() {
    for (grudge, _) in Grudge::ALL {
        assert_eq!(Grudge::named(grudge.name()).as_ref(), Some(grudge));
    }
    for (selector, _) in Selector::ALL {
        assert_eq!(Selector::named(selector.name()).as_ref(), Some(selector));
    }
    for (kind, _) in duress_fault::Kind::ALL {
        assert_eq!(duress_fault::Kind::named(kind.name()), Some(*kind));
    }
}

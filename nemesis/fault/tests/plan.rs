//! Properties of drawn schedules.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use duress_fault::{Grudge, Kind, Plan, Schedule, Selector, View};
use duress_seed::Seed;
use proptest::prelude::*;

proptest! {
    #[test]
    fn faults_do_not_overlap_and_are_healed_in_time(
        seed in any::<u64>(), total_ms in 1_000u64..120_000, interval_ms in 200u64..20_000, duration_ms in 50u64..20_000,
    ) {
        let plan = Plan {
            interval: Duration::from_millis(interval_ms),
            duration: Duration::from_millis(duration_ms),
            ..Plan::default()
        };
        let total = Duration::from_millis(total_ms);
        let schedule = plan.schedule(Seed(seed), total);
        prop_assert_eq!(&plan.schedule(Seed(seed), total), &schedule);
        prop_assert!(schedule.end() <= total);
        for pair in schedule.faults().windows(2) {
            prop_assert!(pair[0].end() < pair[1].at);
            prop_assert!(pair[0].number < pair[1].number);
        }
        let kinds: BTreeSet<Kind> = schedule.faults().iter().map(|timed| timed.fault.kind()).collect();
        prop_assert_eq!(kinds.len(), 3, "every kind appears");
        prop_assert!(schedule.faults().iter().all(|timed| !timed.lasts.is_zero() && !timed.at.is_zero()));
    }

    #[test]
    fn removing_one_fault_leaves_the_others_alone(seed in any::<u64>(), removed in 0usize..6) {
        let nodes: Vec<_> = (1..=5).map(|i| format!("n{i}").into()).collect();
        let view = View { primaries: vec!["n2".into()], nodes, clients: vec!["c1".into()], ..View::default() };
        let schedule = Plan::default().schedule(Seed(seed), Duration::from_secs(30));
        let mut fewer = schedule.faults().to_vec();
        fewer.remove(removed);
        for timed in Schedule::new(fewer).faults() {
            let before = schedule.faults().iter().find(|other| other.number == timed.number).unwrap();
            let resolve = |timed: &duress_fault::Timed| timed.fault.resolve(&view, Seed(seed), timed.number);
            prop_assert_eq!(resolve(timed), resolve(before));
        }
    }
}

#[test]
fn kinds_and_grudges_take_turns() {
    let schedule = Plan::default().schedule(Seed(3), Duration::from_secs(9 * 3 * 5));
    let mut kinds: BTreeMap<Kind, usize> = BTreeMap::new();
    let mut grudges: BTreeMap<&str, usize> = BTreeMap::new();
    for timed in schedule.faults() {
        *kinds.entry(timed.fault.kind()).or_default() += 1;
        if let Some(grudge) = timed.fault.grudge() {
            *grudges.entry(grudge.name()).or_default() += 1;
        }
    }
    assert_eq!(kinds.values().copied().collect::<Vec<_>>(), [9, 9, 9]);
    assert_eq!(grudges.len(), Plan::default().grudges.len());
    assert!(grudges.values().all(|uses| *uses == 1), "{grudges:?}");
}

proptest! {
    #[test]
    fn no_more_faults_overlap_than_are_allowed(
        seed in any::<u64>(), overlap in 1u32..5, interval_ms in 200u64..5_000, duration_ms in 50u64..20_000,
    ) {
        let (interval, duration) = (Duration::from_millis(interval_ms), Duration::from_millis(duration_ms));
        let plan = Plan { interval, duration, overlap, ..Plan::default() };
        let total = Duration::from_secs(60);
        let schedule = plan.schedule(Seed(seed), total);
        prop_assert!(schedule.end() <= total);
        for timed in schedule.faults() {
            let others = schedule.faults().iter().filter(|other| other.at <= timed.at && timed.at < other.end());
            prop_assert!(others.count() <= overlap as usize);
        }
    }

    #[test]
    fn kinds_are_used_by_their_weights(seed in any::<u64>(), partitions in 1usize..5, crashes in 1usize..5) {
        let kinds = [vec![Kind::Partition; partitions], vec![Kind::Crash; crashes]].concat();
        let plan = Plan { kinds, ..Plan::default() };
        let rounds = 6;
        let schedule = plan.schedule(Seed(seed), plan.interval * ((partitions + crashes) * rounds) as u32);
        let count = |kind| schedule.faults().iter().filter(|timed| timed.fault.kind() == kind).count();
        prop_assert_eq!((count(Kind::Partition), count(Kind::Crash)), (partitions * rounds, crashes * rounds));
        // Within a kind, choices still take turns.
        let used = plan.crash.iter().map(|selector| {
            schedule.faults().iter().filter(|timed| timed.fault.kind() == Kind::Crash).filter(|timed| timed.fault.selector() == Some(selector)).count()
        });
        let used: Vec<usize> = used.collect();
        prop_assert!(used.iter().max().unwrap() - used.iter().min().unwrap() <= 1, "{:?}", used);
    }
}

#[test]
fn faults_of_a_plan_can_overlap() {
    let plan = Plan { duration: Duration::from_secs(12), overlap: 3, ..Plan::default() };
    let schedule = plan.schedule(Seed(1), Duration::from_secs(120));
    let most = schedule
        .faults()
        .iter()
        .map(|timed| schedule.faults().iter().filter(|other| other.at <= timed.at && timed.at < other.end()).count());
    assert_eq!(most.max(), Some(3));
}

#[test]
fn a_plan_that_keeps_a_majority_leaves_out_what_would_not() {
    let plan = Plan { keep_majority: true, ..Plan::default() };
    let five = plan.clone().fit(5, true);
    assert!(five.grudges.contains(&Grudge::Halves) && five.grudges.contains(&Grudge::PrimaryAlone));
    assert!(!five.grudges.contains(&Grudge::MajoritiesRing) && !five.grudges.contains(&Grudge::RandomAsymmetric));
    assert_eq!(five.crash, [Selector::One, Selector::Minority, Selector::Primary]);
    assert!(!plan.clone().fit(4, true).grudges.contains(&Grudge::Halves));
    assert_eq!(plan.fit(2, true).crash, []);
}

#[test]
fn a_plan_is_fitted_to_its_cluster() {
    let fitted = Plan::default().fit(2, false);
    assert!(!fitted.grudges.contains(&Grudge::Bridge) && !fitted.grudges.contains(&Grudge::PrimaryAlone));
    assert!(fitted.crash.iter().chain(&fitted.pause).all(|selector| !selector.needs_primary()));
    let alone = Plan::default().fit(1, true).schedule(Seed(1), Duration::from_secs(30));
    assert!(alone.faults().iter().all(|timed| timed.fault.grudge().is_none_or(|g| *g == Grudge::ClientFromNode)));
}

#[test]
fn nothing_asked_is_nothing_drawn() {
    let none = Plan { kinds: vec![], ..Plan::default() };
    assert!(none.schedule(Seed(1), Duration::from_secs(30)).faults().is_empty());
    assert!(Plan::default().schedule(Seed(1), Duration::ZERO).faults().is_empty());
    let hasty = Plan { interval: Duration::from_nanos(1), duration: Duration::from_nanos(1), ..Plan::default() };
    assert!(hasty.schedule(Seed(1), Duration::from_secs(3600)).faults().len() <= 100_000);
}

//! Whatever a world does and however long it takes, every fault has one life, and a whole one.

mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use duress_conductor::{HeldBack, Order, Standing, UNSCHEDULED};
use duress_fault::{Fault, Grudge, HostHarm, LinkHarm, Part, Selector, Share, Timed, Trigger, Turn};
use duress_history::Stage;
use proptest::prelude::*;
use world::{Seen, World};

fn selector() -> impl Strategy<Value = Selector> {
    prop_oneof![
        Just(Selector::One),
        Just(Selector::Minority),
        Just(Selector::Majority),
        Just(Selector::All),
        Just(Selector::Primary),
        Just(Selector::Backup),
        Just(Selector::Holder),
        Just(Selector::Client),
    ]
}

fn fault() -> impl Strategy<Value = Fault> {
    let harm = prop_oneof![
        Just(HostHarm::Kill),
        Just(HostHarm::Stop),
        Just(HostHarm::Slow(Share::percent(10))),
        Just(HostHarm::CrashLoop { every: Duration::from_millis(100) }),
        Just(HostHarm::PowerLoss { torn: false }),
    ];
    let links = prop_oneof![Just(Grudge::Halves), Just(Grudge::PrimaryAlone), Just(Grudge::SingleLink)];
    prop_oneof![
        (selector(), harm).prop_map(|(who, harm)| Fault::Hosts { who, harm }),
        links.prop_map(|grudge| Fault::links(grudge, LinkHarm::Cut)),
    ]
}

fn trigger() -> impl Strategy<Value = Option<Trigger>> {
    let turn = prop_oneof![Just(Turn::Starts), Just(Turn::Ends)];
    prop_oneof![
        4 => Just(None),
        1 => (1u32..3).prop_map(|nth| Some(Trigger::Becomes { node: None, part: Part::Primary, nth })),
        1 => (1u64..20).prop_map(|count| Some(Trigger::Operations(count))),
        1 => (proptest::collection::btree_set(1u64..8, 1..3), turn)
            .prop_map(|(numbers, turn)| Some(Trigger::Faults { numbers, turn })),
    ]
}

fn schedule() -> impl Strategy<Value = Vec<Timed>> {
    let one = (fault(), trigger(), 0u64..8000, 1u64..4000);
    proptest::collection::vec(one, 0..8).prop_map(|faults| {
        let faults = faults.into_iter().zip(1..).map(|((fault, when, at, lasts), number)| {
            let [at, lasts] = [at, lasts].map(Duration::from_millis);
            Timed { number, at, lasts, fault, when }
        });
        faults.collect()
    })
}

/// Who must not be hit: those whom selectors, other than by name, pass over.
fn passes_over(fault: &Fault) -> bool {
    matches!(fault, Fault::Hosts { .. })
}

/// What every story must be like.
fn check(world: &World) -> Result<(), TestCaseError> {
    let mut applied = BTreeSet::new();
    let mut undone = BTreeSet::new();
    let mut held: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    let mut over = false;
    for seen in &world.story {
        match seen {
            Seen::MainOver => over = true,
            Seen::Applied { number, resolved } => {
                prop_assert!(applied.insert(*number), "{number} is applied twice");
                let holds = !over || *number > UNSCHEDULED;
                prop_assert!(holds, "{number} is injected after the end");
                let fault = world.faults.iter().find(|timed| timed.number == *number).map(|timed| &timed.fault);
                for host in &resolved.hosts {
                    let others = held.entry(host.to_string()).or_default();
                    let free = others.is_empty() || !fault.is_some_and(passes_over);
                    prop_assert!(free, "{number} hits {host}, which {others:?} hold down");
                    if world::holds_down(resolved) {
                        others.insert(*number);
                    }
                }
            }
            Seen::Undone { number } => {
                prop_assert!(applied.contains(number) && undone.insert(*number), "{number} is undone out of turn");
                held.values_mut().for_each(|others| {
                    others.remove(number);
                });
            }
            Seen::Struck { number, .. } => {
                prop_assert!(applied.contains(number) && !undone.contains(number), "{number} strikes out of turn");
            }
        }
    }
    prop_assert_eq!(&applied, &undone, "what is applied is undone");
    prop_assert_eq!(world.conductor.standing(), Standing::Nothing);

    // On record: one start, one end, evidence of each, in this order; one that was given up has
    // evidence of its start alone.
    let mut told: BTreeMap<u64, Vec<(&str, Stage, bool)>> = BTreeMap::new();
    for order in &world.records {
        match order {
            Order::Fault(event) => told.entry(event.fault).or_default().push(("event", event.stage, true)),
            Order::Evidence(evidence) => {
                told.entry(evidence.fault).or_default().push(("evidence", evidence.stage, evidence.proven));
            }
            _ => {}
        }
    }
    for (number, told) in &told {
        let words: Vec<(&str, Stage)> = told.iter().map(|(what, stage, _)| (*what, *stage)).collect();
        let whole =
            [("event", Stage::Start), ("evidence", Stage::Start), ("event", Stage::End), ("evidence", Stage::End)];
        let given_up = [("event", Stage::Start), ("event", Stage::End), ("evidence", Stage::Start)];
        if applied.contains(number) || *number > UNSCHEDULED {
            prop_assert_eq!(&words[..], &whole[..], "fault {}", number);
        } else {
            prop_assert_eq!(&words[..], &given_up[..], "fault {}", number);
            prop_assert!(told.iter().all(|(what, _, proven)| *what == "event" || !proven));
        }
    }
    // Everything that waits for something, or whose time comes in the main phase, is heard of.
    for timed in &world.faults {
        if timed.when.is_some() {
            prop_assert!(told.contains_key(&timed.number), "nothing is said of {}", timed.number);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_fault_has_one_whole_life(faults in schedule(), seed: u64, first in proptest::option::of(1usize..5)) {
        let mut world = World::new(faults, seed, first);
        world.run(Duration::from_secs(6));
        check(&world)?;
    }

    #[test]
    fn equal_worlds_get_equal_orders(faults in schedule(), seed: u64) {
        let run = || {
            let mut world = World::new(faults.clone(), seed, Some(2));
            world.run(Duration::from_secs(6));
            (world.story, world.records)
        };
        prop_assert_eq!(run(), run());
    }

    /// Whom a fault hits is a function of its number and of what is seen: others don't matter that
    /// hold nobody down.
    #[test]
    fn what_is_left_out_changes_nothing_else(seed: u64, number in 1u64..5) {
        let slow = |number| Timed {
            number,
            at: Duration::from_millis(500 * number),
            lasts: Duration::from_millis(700),
            fault: Fault::Hosts { who: Selector::One, harm: HostHarm::Slow(Share::percent(10)) },
            when: None,
        };
        let hits = |faults: Vec<Timed>| {
            let mut world = World::quiet(faults, seed);
            world.run(Duration::from_secs(4));
            let hits = world.story.into_iter().filter_map(|seen| match seen {
                Seen::Applied { number, resolved } => Some((number, resolved.hosts)),
                _ => None,
            });
            hits.collect::<BTreeMap<_, _>>()
        };
        let mut all = hits((1..5).map(slow).collect());
        let without = hits((1..5).filter(|other| *other != number).map(slow).collect());
        all.remove(&number);
        prop_assert_eq!(all, without);
    }
}

#[test]
fn a_fault_waits_for_whom_it_is_to_hit_and_is_given_up_at_last() {
    let fault = Timed {
        number: 1,
        at: Duration::from_millis(100),
        lasts: Duration::from_millis(50),
        fault: Fault::crash(Selector::Holder),
        when: None,
    };
    let mut world = World::quiet(vec![fault], 1);
    world.run(Duration::from_secs(5));
    assert!(world.story.iter().all(|seen| *seen == Seen::MainOver));
    let last = world.records.last().cloned();
    assert_eq!(last, Some(Order::GaveUp { kind: "crash" }));
    let Some(Order::Evidence(evidence)) = world.records.iter().rev().nth(1) else { panic!("{:?}", world.records) };
    assert_eq!(evidence.what, "crash: not injected: no client host holds a lock");
    // It came at 100 ms and had three seconds.
    assert_eq!(world.last_record, 3_100_000_000);
}

#[test]
fn a_quorum_is_healed_first_and_what_was_shut_off_in_it_is_started() {
    let mut world = World::quiet(Vec::new(), 7);
    world.heal_first(3);
    world.begin();
    let held = HeldBack::draw(&world.nodes, &world.clients, 3, world.seed.derive("heal")).expect("there is a rest");
    let shut_off = world.nodes.iter().position(|node| *node == held.healed[0]).expect("it is a node");
    let by = (shut_off + 1) % world.nodes.len();
    world.shut_off(shut_off, by);
    world.main_over();
    assert_eq!(world.conductor.held(), Some(&held));
    assert_eq!(world.conductor.standing(), Standing::Rest);
    assert_eq!(world.conductor.quorum(), [Order::Start { node: shut_off }]);
    world.end_hold();
    world.settle();
    assert_eq!(world.conductor.standing(), Standing::Nothing);
    assert_eq!(world.conductor.held(), None);
}

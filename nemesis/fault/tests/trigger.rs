//! What fires a trigger and what doesn't, against a plain account of the same story.

use std::collections::BTreeSet;
use std::time::Duration;

use duress_fault::{Fault, Lookout, Part, Schedule, Selector, Timed, Trigger, Turn};
use proptest::prelude::*;

fn becomes(node: Option<&str>, part: Part, nth: u32) -> Trigger {
    Trigger::Becomes { node: node.map(Into::into), part, nth }
}

fn lookout(triggers: &[Trigger]) -> Lookout {
    Lookout::new(triggers.iter().enumerate().map(|(i, trigger)| (i as u64 + 1, trigger)))
}

#[test]
fn what_is_so_already_does_not_become_so() {
    let mut lookout = lookout(&[becomes(Some("n1"), Part::Primary, 1), becomes(None, Part::Primary, 1)]);
    assert_eq!(lookout.role("n1", "primary", true, 1), [], "nothing counts before the main phase");
    lookout.begin();
    assert_eq!(lookout.role("n1", "primary", true, 1), []);
    assert_eq!(lookout.role("n2", "backup", false, 1), []);
    assert_eq!(lookout.role("n2", "primary", true, 2), [2]);
    assert_eq!(lookout.role("n1", "backup", false, 2), []);
    assert_eq!(lookout.role("n1", "primary", true, 3), [1], "it has become so again");
    assert_eq!(lookout.role("n1", "primary", true, 3), []);
    assert!(lookout.is_idle());
}

#[test]
fn a_leader_of_the_next_term_has_become_one_anew() {
    let mut lookout = lookout(&[becomes(None, Part::Primary, 2), becomes(None, Part::Backup, 2)]);
    lookout.begin();
    assert_eq!(lookout.role("n1", "leader", true, 1), []);
    assert_eq!(lookout.role("n2", "follower", false, 1), []);
    assert_eq!(lookout.role("n2", "follower", false, 2), [], "a follower follows on");
    assert_eq!(lookout.role("n1", "leader", true, 2), [1]);
    assert_eq!(lookout.waiting().collect::<Vec<_>>(), [2]);
}

#[test]
fn a_node_that_comes_back_becomes_what_it_was() {
    let mut lookout = lookout(&[becomes(Some("n3"), Part::Down, 1), becomes(Some("n3"), Part::Replica, 1)]);
    lookout.role("n3", "replica", false, 0);
    lookout.begin();
    assert_eq!(lookout.down("n3"), [1]);
    assert_eq!(lookout.role("n3", "recovering", false, 0), []);
    assert_eq!(lookout.role("n3", "replica", false, 0), [2]);
}

#[test]
fn faults_wait_for_faults() {
    let of = |numbers: &[u64], turn| Trigger::Faults { numbers: numbers.iter().copied().collect(), turn };
    let mut lookout = lookout(&[of(&[7, 8], Turn::Starts), of(&[7, 8], Turn::Ends), Trigger::Operations(2)]);
    assert_eq!(lookout.operation(), []);
    lookout.begin();
    assert_eq!(lookout.fault(9, Turn::Starts), []);
    assert_eq!(lookout.fault(8, Turn::Starts), [1], "the first of them");
    assert_eq!(lookout.fault(7, Turn::Starts), []);
    assert_eq!(lookout.fault(8, Turn::Ends), []);
    assert_eq!(lookout.fault(8, Turn::Ends), [], "the same one twice is still one");
    assert_eq!(lookout.operation(), []);
    assert_eq!(lookout.operation(), [3]);
    assert_eq!(lookout.fault(7, Turn::Ends), [2], "the last of them");
}

#[test]
fn triggers_are_said_in_words() {
    let words = |trigger: Trigger| trigger.to_string();
    assert_eq!(words(becomes(Some("n2"), Part::Primary, 1)), "when n2 becomes primary");
    assert_eq!(words(becomes(None, Part::Down, 2)), "when any node becomes down for the 2nd time");
    assert_eq!(words(becomes(None, Part::Candidate, 12)), "when any node becomes candidate for the 12th time");
    let of = |numbers: &[u64], turn| words(Trigger::Faults { numbers: numbers.iter().copied().collect(), turn });
    assert_eq!(of(&[3], Turn::Ends), "when fault 3 ends");
    assert_eq!(of(&[3, 4], Turn::Ends), "when faults 3, 4 have ended");
    assert_eq!(of(&[3], Turn::Starts), "when fault 3 starts");
    assert_eq!(words(Trigger::Operations(500)), "after 500 operations");
    for (part, _) in Part::ALL {
        assert_eq!(Part::named(part.name()), Some(*part));
    }
}

fn timed(number: u64, at: u64, lasts: u64, when: Option<Trigger>) -> Timed {
    let (at, lasts) = (Duration::from_secs(at), Duration::from_secs(lasts));
    Timed { number, at, lasts, fault: Fault::crash(Selector::One), when }
}

fn of(numbers: &[u64], turn: Turn) -> Option<Trigger> {
    Some(Trigger::Faults { numbers: numbers.iter().copied().collect(), turn })
}

#[test]
fn the_earliest_moment_of_each_fault_is_known() {
    let schedule = Schedule::new(vec![
        timed(1, 2, 3, None),
        timed(2, 1, 4, of(&[1], Turn::Ends)),
        timed(3, 0, 1, of(&[1, 2], Turn::Ends)),
        timed(4, 2, 1, of(&[3, 1], Turn::Starts)),
        timed(5, 7, 1, Some(becomes(None, Part::Primary, 3))),
        timed(6, 0, 1, of(&[7], Turn::Starts)),
        timed(7, 0, 1, of(&[6], Turn::Starts)),
    ]);
    let earliest: Vec<(u64, u64)> = schedule.earliest().into_iter().map(|(n, at)| (n, at.as_secs())).collect();
    assert_eq!(earliest, [(1, 2), (2, 6), (3, 10), (4, 4), (5, 7)], "6 and 7 wait for each other");
}

#[test]
fn numbers_can_be_made_positions() {
    let schedule = Schedule::new(vec![
        timed(30, 0, 1, of(&[7, 12], Turn::Ends)),
        timed(12, 1, 1, None),
        timed(9, 2, 1, of(&[4], Turn::Starts)),
    ]);
    let wanted = [timed(1, 0, 1, of(&[2], Turn::Ends)), timed(2, 1, 1, None), timed(3, 2, 1, None)];
    assert_eq!(schedule.renumbered(), wanted);
}

const PARTS: [(&str, bool, Part); 4] = [
    ("leader", true, Part::Primary),
    ("follower", false, Part::Backup),
    ("candidate", false, Part::Candidate),
    ("recovering", false, Part::Recovering),
];

proptest! {
    /// Each trigger fires exactly once, at the nth change that it is about.
    #[test]
    fn the_nth_change_fires(
        story in prop::collection::vec((0usize..3, 0usize..4, 0u64..3), 0..60),
        node in prop::option::of(0usize..3), part in 0usize..4, nth in 1u32..4, begins in 0usize..10,
    ) {
        let name = |node: usize| format!("n{}", node + 1);
        let trigger = Trigger::Becomes { node: node.map(|node| name(node).into()), part: PARTS[part].2, nth };
        let mut lookout = lookout(&[trigger]);
        let mut last: [Option<(usize, u64)>; 3] = [None; 3];
        let (mut changes, mut fired) = (0, BTreeSet::new());
        for (at, (who, role, term)) in story.into_iter().enumerate() {
            if at == begins {
                lookout.begin();
            }
            let (words, leads, _) = PARTS[role];
            let now = (role, if leads { term } else { 0 });
            let changed = last[who].replace(now) != Some(now);
            let counts = at >= begins && changed && role == part && node.is_none_or(|node| node == who);
            changes += u32::from(counts);
            let found = lookout.role(&name(who), words, leads, term);
            prop_assert_eq!(!found.is_empty(), counts && changes == nth, "at {}", at);
            for number in found {
                prop_assert!(fired.insert(number));
            }
        }
    }
}

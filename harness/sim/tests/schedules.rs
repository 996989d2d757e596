//! Faults that wait for their triggers, and quorums that must serve alone.

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use duress_checkers::Verdict;
use duress_fault::{Fault, Grudge, Part, Selector, Trigger, Turn};
use duress_history::{Event, EventKind, Phase, Stage};
use duress_kv::primary_backup::{self, Failover, Replication};
use duress_kv::{bugs::Bug, paxos};
use duress_seed::Seed;
use duress_sim::{Ended, SimPlan, SimRun, Timed};
use support::*;

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn plan(seed: u64, nodes: usize) -> SimPlan {
    SimPlan::new(nodes, 3, Duration::from_secs(5), Seed(seed))
}

fn timed(number: u64, at: u64, lasts: u64, fault: Fault, when: Option<Trigger>) -> Timed {
    Timed { number, at: ms(at), lasts: ms(lasts), fault, when }
}

fn paxos_run(plan: &SimPlan) -> SimRun {
    paxos_world().run(plan, &paxos_config(plan.seed.0, plan.nodes.len() as u16), &mut *registers(plan, 150))
}

/// When a fault starts or ends, in nanoseconds.
fn time_of(run: &SimRun, fault: u64, stage: Stage) -> Option<u64> {
    let is = |event: &&Event| matches!(&event.kind, EventKind::Fault(f) if f.fault == fault && f.stage == stage);
    run.events.iter().find(is).map(|event| event.time.0)
}

fn main_began(run: &SimRun) -> usize {
    let begins = |event: &Event| event.kind == EventKind::Phase { phase: Phase::Main };
    run.events.iter().position(begins).expect("the main phase begins")
}

fn becomes(part: Part, nth: u32) -> Option<Trigger> {
    Some(Trigger::Becomes { node: None, part, nth })
}

#[test]
fn a_fault_comes_exactly_when_its_trigger_says() {
    for seed in 0..20 {
        let mut plan = plan(seed, 3);
        plan.schedule = vec![
            timed(1, 1000, 1000, Fault::crash(Selector::Primary), None),
            timed(2, 30, 500, Grudge::PrimaryAlone.into(), becomes(Part::Primary, 1)),
            timed(
                3,
                0,
                300,
                Fault::pause(Selector::One),
                Some(Trigger::Faults { numbers: [2].into(), turn: Turn::Ends }),
            ),
        ];
        let run = paxos_run(&plan);
        let main = main_began(&run);
        let leads = |event: &&Event| matches!(&event.kind, EventKind::Observation(report) if report.leads);
        let crash = time_of(&run, 1, Stage::Start).expect("the primary is crashed");
        let led = run.events[main..].iter().filter(leads).find(|event| event.time.0 > crash);
        let led = led.expect("another one leads").time.0;
        let cut = time_of(&run, 2, Stage::Start).expect("the next one is cut off");
        assert_eq!(cut, led + 30_000_000, "seed {seed}");
        let healed = time_of(&run, 2, Stage::End).expect("and healed");
        assert_eq!(healed, cut + 500_000_000);
        assert_eq!(time_of(&run, 3, Stage::Start), Some(healed), "the pause follows at once");
    }
}

#[test]
fn operations_are_counted_from_the_beginning_of_the_main_phase() {
    let mut plan = plan(3, 3);
    plan.schedule = vec![timed(1, 0, 300, Fault::crash(Selector::One), Some(Trigger::Operations(40)))];
    let run = paxos_run(&plan);
    let start = time_of(&run, 1, Stage::Start).expect("it is injected");
    let ended = |event: &&Event| matches!(event.kind, EventKind::Complete(_)) && event.time.0 <= start;
    assert_eq!(run.events[main_began(&run)..].iter().filter(ended).count(), 40);
}

#[test]
fn a_trigger_that_never_fires_leaves_its_fault_unproven() {
    let mut plan = plan(1, 3);
    plan.schedule = vec![
        timed(1, 1000, 500, Fault::pause(Selector::One), None),
        timed(2, 0, 500, Fault::crash(Selector::One), becomes(Part::Down, 1)),
        timed(
            3,
            4900,
            500,
            Fault::crash(Selector::One),
            Some(Trigger::Faults { numbers: [1].into(), turn: Turn::Starts }),
        ),
    ];
    let run = paxos_run(&plan);
    let mut against = Vec::new();
    for event in &run.events {
        if let EventKind::Evidence(evidence) = &event.kind
            && !evidence.proven
        {
            against.push((evidence.fault, evidence.what.as_str()));
        }
    }
    assert_eq!(
        against,
        [
            (2, "crash: not injected: it waited in vain for its trigger (when any node becomes down)"),
            (3, "crash: not injected: the main phase was over before its time came"),
        ]
    );
    let results = judge(&run, &register_options(), true);
    let report = results.reports.iter().find(|report| report.checker == "faults-proven").expect("it is checked");
    assert_eq!(report.verdict, Verdict::Unknown);
    assert!(report.summary.contains("waited in vain"), "{}", report.summary);
}

#[test]
fn leaving_out_a_triggered_fault_leaves_the_others_alone() {
    let mut plan = plan(8, 5);
    plan.schedule = vec![
        timed(1, 1000, 800, Fault::crash(Selector::Primary), None),
        timed(2, 4000, 500, Grudge::Halves.into(), None),
        timed(3, 3800, 100, Fault::pause(Selector::One), becomes(Part::Down, 1)),
    ];
    let with = paxos_run(&plan);
    plan.schedule.pop();
    let without = paxos_run(&plan);
    let until = |run: &SimRun| {
        let early = run.events.iter().take_while(|event| event.time.0 < 4_000_000_000);
        early.cloned().collect::<Vec<Event>>()
    };
    assert_eq!(until(&with), until(&without));
}

/// The nodes that are held back while the others must serve.
fn held_back(run: &SimRun, nodes: usize) -> (String, usize) {
    let event = run.events.iter().find_map(|event| match &event.kind {
        EventKind::Fault(fault) if fault.what.contains("must serve") => Some(fault),
        _ => None,
    });
    let fault = event.expect("some are held back");
    let hosts: BTreeSet<_> = fault.hosts.iter().filter(|host| host.starts_with('n')).collect();
    // All nodes are at one end of a cut link or the other.
    (fault.kind.to_string(), if fault.kind == "crash" { hosts.len() } else { nodes - 3 })
}

#[test]
fn a_quorum_serves_alone_and_then_everybody() {
    let mut kinds = BTreeSet::new();
    for seed in 0..40 {
        let mut plan = plan(seed, 5);
        plan.heal_first = Some(3);
        plan.schedule = all_faults(&plan, true);
        let run = paxos_run(&plan);
        let results = judge(&run, &register_options(), true);
        assert!(complete(&run), "{}", explain(seed, &run, &results));
        assert_ne!(results.verdict, Verdict::Invalid, "{}", explain(seed, &run, &results));
        let (kind, away) = held_back(&run, 5);
        assert_eq!(away, 2);
        kinds.insert(kind);
    }
    assert_eq!(kinds.len(), 2, "{kinds:?}");
}

#[test]
fn a_vote_serves_with_two_of_three_and_a_fixed_primary_does_not() {
    let run = |seed: u64, failover: Failover| {
        let mut plan = plan(seed, 3);
        plan.heal_first = Some(2);
        plan.recovery = Duration::from_secs(8);
        plan.schedule = common_faults(&plan, ms(700), true);
        let config = primary_backup::Config { failover, ..primary_backup::Config::new(3, plan.seed.derive("target")) };
        primary_backup_world().run(&plan, &config, &mut *registers(&plan, 100))
    };
    let mut stuck = 0;
    for seed in 0..20 {
        let voted = run(seed, Failover::Vote);
        assert!(matches!(voted.ended, Ended::Complete { .. }), "seed {seed}: {:?}", voted.ended);
        let fixed = run(seed, Failover::None);
        if let Ended::Unavailable { away, stuck: nodes } = &fixed.ended {
            assert_eq!(away.as_slice(), ["n1"], "only the primary is missed");
            assert!(!nodes.is_empty());
            stuck += 1;
        }
    }
    assert!((3..15).contains(&stuck), "n1 is away in a third of the runs, not in {stuck} of 20");
}

#[test]
fn duelling_proposers_are_unavailable() {
    let mut unavailable = 0;
    for seed in 0..30 {
        let mut plan = plan(seed, 5);
        plan.heal_first = Some(3);
        plan.recovery = Duration::from_secs(10);
        plan.schedule = vec![timed(1, 1000, 1000, Fault::crash(Selector::All), None)];
        let config = paxos::Config { bug: Some(Bug::DuellingProposers), ..paxos_config(seed, 5) };
        let run = paxos_world().run(&plan, &config, &mut *registers(&plan, 100));
        match &run.ended {
            Ended::Unavailable { stuck, .. } => {
                assert!(stuck.iter().all(|(_, why)| !why.is_empty()));
                unavailable += 1;
            }
            Ended::NeverServed => unavailable += 1,
            _ => {}
        }
    }
    assert!(unavailable > 0, "proposers that duel never get anywhere in some run");
}

/// `examples/takeover-cut.yaml`: a primary that is cut off just after it took over.
#[test]
fn a_takeover_that_is_cut_off_loses_only_what_was_not_replicated() {
    let run = |seed: u64, replication: Replication| {
        let mut plan = SimPlan::new(3, 2, Duration::from_secs(9), Seed(seed));
        plan.concurrency = 8;
        plan.schedule = vec![
            timed(1, 2000, 1500, Fault::crash(Selector::Primary), None),
            timed(2, 200, 2000, Grudge::PrimaryAlone.into(), becomes(Part::Primary, 1)),
        ];
        let target = plan.seed.derive("target");
        let config = primary_backup::Config { replication, ..primary_backup::Config::new(3, target) };
        let run = primary_backup_world().run(&plan, &config, &mut *registers(&plan, 3600));
        let results = judge(&run, &register_options(), true);
        (explain(seed, &run, &results), results.verdict)
    };
    let mut lost = 0;
    for seed in 0..10 {
        let (why, verdict) = run(seed, Replication::Sync);
        assert_eq!(verdict, Verdict::Valid, "{why}");
        let (_, verdict) = run(seed, Replication::Async);
        lost += u32::from(verdict == Verdict::Invalid);
    }
    assert!(lost >= 8, "asynchronous replication lost something in {lost} of 10 runs only");
}

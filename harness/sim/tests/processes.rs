//! Faults of processes in the simulator: crash loops, slow hosts, too little memory, too few
//! descriptors. What each does shows in the history, and ends with it.

mod support;

use std::time::Duration;

use duress_checkers::Verdict;
use duress_fault::{Fault, Grudge, HostHarm, LinkHarm, Selector, Share, Sides};
use duress_history::{EventKind, Evidence, Outcome, Stage};
use duress_kv::paxos;
use duress_seed::Seed;
use duress_sim::{SimPlan, SimRun, Timed};
use support::*;

const MS: Duration = Duration::from_millis(1);

fn n1() -> Selector {
    Selector::Names(vec!["n1".into()])
}

fn on(who: Selector, harm: HostHarm, at: Duration, lasts: Duration) -> Timed {
    Timed { number: 1, at, lasts, fault: Fault::Hosts { who, harm }, when: None }
}

/// A run of three Paxos nodes for two seconds under these faults, which must be valid.
fn run(seed: u64, schedule: Vec<Timed>) -> SimRun {
    run_for(seed, Duration::from_secs(2), schedule)
}

fn run_for(seed: u64, time: Duration, schedule: Vec<Timed>) -> SimRun {
    let mut plan = SimPlan::new(3, 5, time, Seed(seed));
    plan.schedule = schedule;
    let config = paxos::Config::new(3, Seed(seed));
    let run = paxos_world().run(&plan, &config, &mut *registers(&plan, 1500));
    let results = judge(&run, &register_options(), true);
    assert!(complete(&run) && results.verdict == Verdict::Valid, "{}", explain(seed, &run, &results));
    run
}

fn evidence(run: &SimRun, fault: u64, stage: Stage) -> &Evidence {
    let of = |kind: &'_ EventKind| matches!(kind, EventKind::Evidence(one) if one.fault == fault && one.stage == stage);
    let found = run.events.iter().map(|event| &event.kind).find(|kind| of(kind));
    match found {
        Some(EventKind::Evidence(evidence)) => evidence,
        _ => panic!("no evidence for the {stage:?} of fault {fault}"),
    }
}

/// Operations that succeeded in a span of time.
fn succeeded(run: &SimRun, from: Duration, to: Duration) -> usize {
    let within = |time: u64| (from.as_nanos() as u64..to.as_nanos() as u64).contains(&time);
    let ok = |kind: &EventKind| matches!(kind, EventKind::Complete(done) if done.outcome == Outcome::Ok);
    run.events.iter().filter(|event| within(event.time.0) && ok(&event.kind)).count()
}

#[test]
fn a_crash_loop_ends_many_lives_and_the_cluster_stands_it() {
    for seed in 0..10 {
        let harm = HostHarm::CrashLoop { every: 20 * MS };
        let run = run(seed, vec![on(n1(), harm, 500 * MS, 400 * MS)]);
        // One at its start, and one every 20 ms, also while it starts up.
        assert_eq!(evidence(&run, 1, Stage::End).measured["lives_n1"], 20.0);
    }
}

#[test]
fn a_crash_in_a_crash_loop_keeps_the_node_down() {
    let harm = HostHarm::CrashLoop { every: 10 * MS };
    let kill = Fault::Hosts { who: n1(), harm: HostHarm::Kill };
    let kill = Timed { number: 2, at: 600 * MS, lasts: 200 * MS, fault: kill, when: None };
    let run = run(1, vec![on(n1(), harm, 500 * MS, 400 * MS), kill]);
    let lives = evidence(&run, 1, Stage::End).measured["lives_n1"];
    assert!((15.0..=25.0).contains(&lives), "half of the time it was down: {lives}");
}

#[test]
fn want_of_memory_kills_some_and_spares_some() {
    let mut deaths = [0; 2];
    for seed in 0..40 {
        let harm = HostHarm::Memory { headroom: 1 << 20 };
        let run = run(seed, vec![on(Selector::Primary, harm, 500 * MS, 400 * MS)]);
        let end = evidence(&run, 1, Stage::End);
        let died: f64 = end.measured.values().sum();
        deaths[died as usize] += 1;
        assert!(end.what.contains("answers again"), "{}", end.what);
    }
    assert!(deaths[0] >= 2 && deaths[1] >= 20, "{deaths:?}");
}

#[test]
fn without_descriptors_connections_go_on_and_none_is_made() {
    let (from, to) = (500 * MS, 3000 * MS);
    let none = on(Selector::All, HostHarm::Descriptors { spare: 0 }, from, to - from);
    let run = |schedule| run_for(3, Duration::from_secs(4), schedule);
    let alone = run(vec![none.clone()]);
    assert!(succeeded(&alone, from, to) > 100, "what is connected serves on");
    // The nodes' connections are broken by a partition, and can't be made again after it.
    let links = (1..=3).flat_map(|a| (1..=3).map(move |b| (format!("n{a}").into(), format!("n{b}").into())));
    let grudge = Grudge::Links { links: links.filter(|(a, b)| a != b).collect(), one_way: false };
    let cut = Fault::Links { grudge, clients: Sides::Stay, harm: LinkHarm::Cut };
    let cut = Timed { number: 2, at: from, lasts: 1500 * MS, fault: cut, when: None };
    let both = run(vec![none, cut.clone()]);
    let healed = from + cut.lasts + 200 * MS;
    assert_eq!(succeeded(&both, healed, to), 0, "nobody can connect");
    assert!(succeeded(&both, to + 300 * MS, 4000 * MS) > 100, "with descriptors they can");
    assert!(succeeded(&run(vec![cut]), healed, to) > 100, "it wasn't the partition");
}

#[test]
fn slow_hosts_do_less() {
    let (from, to) = (500 * MS, 1500 * MS);
    let free = run(5, Vec::new());
    let clients = Selector::Names((1..=5).map(|client| format!("c{client}").into()).collect());
    for who in [Selector::All, clients] {
        let slow = run(5, vec![on(who.clone(), HostHarm::Slow(Share::percent(10)), from, to - from)]);
        let (less, more) = (succeeded(&slow, from, to), succeeded(&free, from, to));
        assert!(less * 2 < more && less > 0, "{who:?}: {less} instead of {more}");
        assert!(evidence(&slow, 1, Stage::Start).what.contains("10%"));
    }
}

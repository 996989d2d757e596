//! Equal seeds give equal runs: in another process, on another thread, in used memory.

mod support;

use std::process::Command;
use std::time::Duration;

use duress_seed::Seed;
use duress_sim::{Crash, SimPlan, Transport};
use support::*;

/// Seeds compared.
const SEEDS: u64 = 200;
/// Set in the process that is compared with.
const OTHER_PROCESS: &str = "DURESS_SIM_HASHES";

fn plan(seed: u64) -> SimPlan {
    let mut plan = SimPlan::new(3 + (seed % 3) as usize, 3, Duration::from_millis(1200), Seed(seed));
    plan.schedule = all_faults(&plan, true);
    plan.disk.crash = Crash::Either;
    if seed.is_multiple_of(2) {
        plan.network.transport = Transport::Datagram;
        plan.network.loss = 0.02;
        plan.network.duplicate = 0.02;
    }
    plan
}

/// The trace hashes of all seeds, and what the histories say, each from a world that was used
/// before for the seeds ahead of it.
fn hashes(seeds: impl Iterator<Item = u64>) -> Vec<(u64, u64)> {
    let mut world = paxos_world();
    seeds
        .map(|seed| {
            let plan = plan(seed);
            let config = paxos_config(seed, plan.nodes.len() as u16);
            let run = world.run(&plan, &config, &mut *registers(&plan, 60));
            let mut history = Vec::new();
            for event in &run.events {
                duress_history::jsonl::write(event, &mut history).expect("memory takes every event");
            }
            (run.trace_hash, Seed(0).derive(&String::from_utf8_lossy(&history)).0)
        })
        .collect()
}

#[test]
fn other_processes_and_threads_see_the_same() {
    let here = hashes(0..SEEDS);
    let text = format!("{here:?}");
    if std::env::var_os(OTHER_PROCESS).is_some() {
        println!("hashes: {text}");
        return;
    }
    // Distinct seeds are distinct runs, or the comparison would say nothing.
    let distinct: std::collections::BTreeSet<_> = here.iter().collect();
    assert_eq!(distinct.len(), here.len());

    // Backwards, and spread over threads.
    let there: Vec<(u64, u64)> = std::thread::scope(|scope| {
        let parts: Vec<_> = (0..3)
            .map(|part| scope.spawn(move || hashes((0..SEEDS).rev().filter(move |seed| seed % 3 == part))))
            .collect();
        let mut parts: Vec<_> = parts.into_iter().map(|part| part.join().expect("no run panics").into_iter()).collect();
        let mut found: Vec<_> = (0..SEEDS).rev().map(|seed| parts[(seed % 3) as usize].next().unwrap()).collect();
        found.reverse();
        found
    });
    assert_eq!(here, there, "another thread saw something else");

    let this = std::env::current_exe().expect("a test has a program");
    let output = Command::new(this)
        .args(["other_processes_and_threads_see_the_same", "--exact", "--nocapture"])
        .env(OTHER_PROCESS, "1")
        .output()
        .expect("the test can run itself");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains(&text), "another process saw something else: {said}");
}

#[test]
fn watching_changes_nothing() {
    let plan = plan(1);
    let config = paxos_config(1, plan.nodes.len() as u16);
    let mut world = paxos_world();
    let unwatched = world.run(&plan, &config, &mut *registers(&plan, 60));
    let mut seen = 0;
    let mut watch = |_: duress_history::Time, _: duress_sim::Happening<'_>| seen += 1;
    let watched = world.run_watched(&plan, &config, &mut *registers(&plan, 60), &mut watch);
    assert_eq!(unwatched.trace_hash, watched.trace_hash);
    assert_eq!(unwatched.events, watched.events);
    assert!(seen > 100, "{seen} happenings");
}

#[test]
fn a_fault_that_is_left_out_leaves_the_time_before_it_alone() {
    let mut with = plan(4);
    with.schedule.sort_by_key(|timed| timed.at);
    let last = with.schedule.pop().expect("there are faults");
    let without = with.clone();
    with.schedule.push(last.clone());
    let config = paxos_config(4, with.nodes.len() as u16);
    let mut world = paxos_world();
    let full = world.run(&with, &config, &mut *registers(&with, 60));
    let reduced = world.run(&without, &config, &mut *registers(&without, 60));
    let main = full
        .events
        .iter()
        .find(|event| matches!(event.kind, duress_history::EventKind::Phase { phase: duress_history::Phase::Main }));
    let until = main.expect("the main phase began").time.0 + last.at.as_nanos() as u64;
    let before =
        |run: &duress_sim::SimRun| run.events.iter().filter(|event| event.time.0 < until).cloned().collect::<Vec<_>>();
    assert_eq!(before(&full), before(&reduced));
    assert!(before(&full).len() > 20);
}

#[test]
fn what_nobody_needs_any_more_is_not_kept() {
    let mut plan = plan(2);
    plan.time = Duration::from_secs(30);
    plan.schedule = all_faults(&plan, true);
    let config = paxos_config(2, plan.nodes.len() as u16);
    let mut world = paxos_world();
    let run = world.run(&plan, &config, &mut *registers(&plan, 3000));
    let left = world.fleet.as_ref().expect("there was a run").under_way();
    assert!(run.stats.messages > 10_000 && left < 100, "{left} are left of {} messages", run.stats.messages);
}

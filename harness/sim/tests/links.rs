//! What faults of links do to simulated clusters: every harm is proven, none makes the bundled
//! service break a promise, and each has the effect that it is there for.

mod support;

use std::time::Duration;

use duress_checkers::Verdict;
use duress_fault::{Checksum, Fault, Grudge, LinkHarm, Shape, Share, Sides};
use duress_history::{EventKind, Outcome};
use duress_seed::Seed;
use duress_sim::{SimPlan, SimRun, Timed, Transport};
use support::*;

const MILLIS: fn(u64) -> Duration = Duration::from_millis;

fn all_harms() -> Vec<LinkHarm> {
    let share = Share::percent(10);
    vec![
        LinkHarm::Cut,
        LinkHarm::Loss(share),
        LinkHarm::Duplicate(share),
        LinkHarm::Corrupt { share, checksum: Checksum::Wrong },
        LinkHarm::Corrupt { share, checksum: Checksum::Right },
        LinkHarm::Reorder { share, by: MILLIS(20) },
        LinkHarm::Delay { by: MILLIS(30), jitter: MILLIS(10), shape: Shape::Uniform },
        LinkHarm::Delay { by: MILLIS(30), jitter: MILLIS(10), shape: Shape::Normal },
        LinkHarm::Delay { by: MILLIS(30), jitter: MILLIS(10), shape: Shape::Pareto },
        LinkHarm::Bandwidth { rate: 200_000 },
        LinkHarm::BlackHole { above: 120 },
        LinkHarm::Reset,
        LinkHarm::Flap { every: MILLIS(150) },
    ]
}

fn harm(grudge: Grudge, harm: LinkHarm) -> Fault {
    Fault::Links { grudge, clients: Sides::Split, harm }
}

fn plan(seed: u64, transport: Transport, faults: Vec<Fault>) -> SimPlan {
    let mut plan = SimPlan::new(3, 3, Duration::from_secs(4), Seed(seed));
    plan.network.transport = transport;
    let timed = |(number, fault)| Timed { number, at: MILLIS(1000), lasts: MILLIS(1500), fault, when: None };
    plan.schedule = (1..).zip(faults).map(timed).collect();
    plan
}

fn paxos_run(plan: &SimPlan) -> SimRun {
    paxos_world().run(plan, &paxos_config(plan.seed.0, plan.nodes.len() as u16), &mut *registers(plan, 150))
}

/// Judged, and every fault proven at its start and its end.
fn is_valid(run: &SimRun, what: &str) {
    let results = judge(run, &register_options(), true);
    assert_eq!(results.verdict, Verdict::Valid, "{what}: {results:?}");
    for event in &run.events {
        if let EventKind::Evidence(evidence) = &event.kind {
            assert!(evidence.proven, "{what}: {}", evidence.what);
        }
    }
}

#[test]
fn every_harm_is_proven_and_breaks_no_promise() {
    for transport in [Transport::Stream, Transport::Datagram] {
        for of in all_harms() {
            for seed in 0..4 {
                let run = paxos_run(&plan(seed, transport, vec![harm(Grudge::Halves, of)]));
                is_valid(&run, &format!("{of}, {transport:?}, seed {seed}"));
            }
        }
    }
}

#[test]
fn all_harms_together_break_no_promise_and_replay() {
    for seed in 0..6 {
        let faults = all_harms().into_iter().filter(|of| !matches!(of, LinkHarm::Cut | LinkHarm::Reset));
        let plan = plan(seed, Transport::Stream, faults.map(|of| harm(Grudge::Halves, of)).collect());
        let run = paxos_run(&plan);
        is_valid(&run, &format!("seed {seed}"));
        assert_eq!(run.trace_hash, paxos_run(&plan).trace_hash, "seed {seed}");
    }
}

/// Operations that ended well while the fault was in force.
fn served(run: &SimRun) -> usize {
    let during = |nanos: u64| (1_200_000_000..2_500_000_000).contains(&nanos);
    let began =
        run.events.iter().find(|event| matches!(event.kind, EventKind::Phase { phase: duress_history::Phase::Main }));
    let began = began.expect("the main phase begins").time.0;
    run.events
        .iter()
        .filter(|event| during(event.time.0.saturating_sub(began)))
        .filter(|event| matches!(&event.kind, EventKind::Complete(done) if done.outcome == Outcome::Ok))
        .count()
}

/// Each harm at its worst, on all links of a node and between the sides, hurts.
#[test]
fn harms_have_effects() {
    let whole: usize = (0..5).map(|seed| served(&paxos_run(&plan(seed, Transport::Stream, Vec::new())))).sum();
    for of in [
        LinkHarm::Loss(Share::percent(60)),
        LinkHarm::Corrupt { share: Share::percent(60), checksum: Checksum::Wrong },
        LinkHarm::Corrupt { share: Share::percent(60), checksum: Checksum::Right },
        LinkHarm::BlackHole { above: 20 },
        LinkHarm::Reset,
        LinkHarm::Bandwidth { rate: 1000 },
        LinkHarm::Delay { by: MILLIS(400), jitter: MILLIS(100), shape: Shape::Uniform },
        LinkHarm::Flap { every: MILLIS(400) },
    ] {
        let served: usize = (0..5)
            .map(|seed| served(&paxos_run(&plan(seed, Transport::Stream, vec![harm(Grudge::PrimaryAlone, of)]))))
            .sum();
        assert!(served < whole * 9 / 10, "{of}: {served} operations, and {whole} without");
    }
}

//! Whatever the history, if it can be read at all, every checker answers.

use duress_checkers::mutex::LockOp;
use duress_checkers::register::RegisterOp;
use duress_checkers::{
    Budget, Class, Judge, Run, Settings, Verdict, check_all, faults, linearizable, mutex, set, split_brain, stats,
};
use duress_history::{
    Completion, Event, EventKind, Evidence, FaultEvent, Function, Invocation, NodeReport, Op, Outcome, Phase, Process,
    Stage, Time, Value,
};
use proptest::prelude::*;

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![Just(Value::Nil), (0i64..4).prop_map(Value::Int), Just(Value::Text("t".into()))]
}

fn name() -> impl Strategy<Value = smol_str::SmolStr> {
    prop_oneof![Just("a".into()), Just("b".into())]
}

fn operation() -> impl Strategy<Value = Op> {
    let token = prop_oneof![4 => 0u64..5, 1 => any::<u64>()];
    let millis = prop_oneof![4 => 0u64..50, 1 => any::<u64>()];
    prop_oneof![
        name().prop_map(|key| RegisterOp::Read.on(key)),
        (name(), value()).prop_map(|(key, value)| RegisterOp::Write(value).on(key)),
        (name(), value(), value()).prop_map(|(key, from, to)| RegisterOp::Cas { from, to }.on(key)),
        (0i64..4).prop_map(|element| Op::new(Function::Add, element)),
        Just(Op::new(Function::Read, Value::Nil)),
        (name(), millis.clone()).prop_map(|(lock, lease_ms)| LockOp::Acquire { lease_ms }.on(lock)),
        (name(), token.clone(), millis.clone())
            .prop_map(|(lock, token, lease_ms)| LockOp::Renew { token, lease_ms }.on(lock)),
        (name(), token.clone()).prop_map(|(lock, token)| LockOp::Release { token }.on(lock)),
        (name(), token, millis).prop_map(|(lock, token, work_ms)| LockOp::Access { token, work_ms }.on(lock)),
    ]
}

fn result() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Nil),
        value(),
        prop::collection::vec(0i64..6, 0..4)
            .prop_map(|elements| Value::Vector(elements.into_iter().map(Value::Int).collect())),
        (0u64..5).prop_map(Value::from),
    ]
}

/// What may happen next; which process and what it completes is settled when put in order.
#[derive(Clone, Debug)]
enum Step {
    Begin(u64, Op),
    Finish(u64, Outcome, Value, Option<u64>, Option<u64>),
    Other(EventKind),
}

fn step() -> impl Strategy<Value = Step> {
    let outcome = prop_oneof![3 => Just(Outcome::Ok), 1 => Just(Outcome::Fail), 1 => Just(Outcome::Info)];
    let stage = prop_oneof![Just(Stage::Start), Just(Stage::End)];
    let phase = prop_oneof![Just(Phase::Main), Just(Phase::Recovery), Just(Phase::Final), Just(Phase::End)];
    let small = || prop::option::of(0u64..3);
    prop_oneof![
        6 => (0u64..5, operation()).prop_map(|(process, op)| Step::Begin(process, op)),
        6 => (0u64..5, outcome, result(), small(), small()).prop_map(|(p, o, r, n, t)| Step::Finish(p, o, r, n, t)),
        1 => (0u64..3, stage.clone()).prop_map(|(fault, stage)| {
            let (kind, what) = (if fault == 0 { "crash" } else { "partition" }.into(), format!("fault {fault}"));
            Step::Other(EventKind::Fault(FaultEvent { fault, stage, kind, what, hosts: vec!["n1".into()], links: vec![] }))
        }),
        1 => (0u64..3, stage, any::<bool>()).prop_map(|(fault, stage, proven)| {
            Step::Other(EventKind::Evidence(Evidence { fault, stage, proven, what: "w".into(), measured: Default::default() }))
        }),
        1 => (0u64..3, any::<bool>(), small(), small(), small()).prop_map(|(node, leads, term, index, digest)| {
            let node = format!("n{node}").into();
            Step::Other(EventKind::Observation(NodeReport { node, role: None, leads, term, leader: None, index, digest }))
        }),
        1 => phase.prop_map(|phase| Step::Other(EventKind::Phase { phase })),
    ]
}

/// Puts steps in order and leaves out those that no run can have: completions of nothing,
/// invocations by a busy process.
fn events(steps: Vec<(Step, u64)>) -> Vec<Event> {
    let mut open = std::collections::BTreeMap::new();
    let mut time = Time(0);
    let mut events = Vec::new();
    for (step, later) in steps {
        time = Time(time.0.saturating_add(later));
        let kind = match step {
            Step::Begin(process, op) if !open.contains_key(&process) => {
                open.insert(process, op.clone());
                EventKind::Invoke(Invocation { process: Process(process), client: None, op })
            }
            Step::Finish(process, outcome, result, node, term) => {
                let Some(op) = open.remove(&process) else { continue };
                let node = node.map(|n| format!("n{n}").into());
                EventKind::Complete(Completion {
                    process: Process(process),
                    outcome,
                    op,
                    result,
                    error: None,
                    node,
                    term,
                })
            }
            Step::Begin(..) => continue,
            Step::Other(kind) => kind,
        };
        events.push(Event { time, kind });
    }
    events
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn every_checker_answers(
        steps in prop::collection::vec((step(), prop_oneof![8 => 0u64..5_000_000, 1 => Just(u64::MAX / 2)]), 0..80),
        truncated: bool,
    ) {
        let events = events(steps);
        let run = Run::new(&events, truncated).expect("well formed");
        let checkers: Vec<Box<dyn Judge>> = vec![
            Box::new(linearizable::Linearizable::default()),
            Box::new(mutex::MutualExclusion { fencing: false }),
            Box::new(mutex::MutualExclusion { fencing: true }),
            Box::new(split_brain::SplitBrain),
            Box::new(set::Set { require_convergence: true }),
            Box::new(set::Set { require_convergence: false }),
            Box::new(stats::Stats { min_ok: 2 }),
            Box::new(faults::FaultsProven),
        ];
        let settings = Settings { certify: true, ..Budget::default().into() };
        let results = check_all(&run, &checkers, &settings);
        for report in &results.reports {
            prop_assert_ne!(report.class, Some(Class::Infrastructure), "{:?}", report);
            prop_assert_eq!(report.verdict == Verdict::Valid, report.class.is_none(), "{:?}", report);
            prop_assert!(report.summary.ends_with('.'), "{:?}", report);
        }
        // The same again, whatever the threads do.
        prop_assert_eq!(check_all(&run, &checkers, &settings), results);
    }
}

//! Long histories: within the budget, and the same whatever the number of threads.

use duress_checkers::register::RegisterOp;
use duress_checkers::{Judge, Run, Settings, Verdict, linearizable::Linearizable};
use duress_history::{Client, Completion, Event, EventKind, Function, Invocation, Outcome, Process, Time, Value};
use duress_seed::Seed;

/// What a correct service could have answered: `processes` clients on `keys` registers, of which
/// each is retired after `per_key` operations; a few operations are indeterminate.
fn history(seed: Seed, operations: u64, keys: u64, processes: u64, corrupt: Option<u64>) -> Vec<Event> {
    struct Busy {
        process: u64,
        free_at: u64,
    }
    let mut events = Vec::with_capacity(operations as usize * 2);
    let mut busy: Vec<Busy> = (0..processes).map(|process| Busy { process, free_at: process }).collect();
    // Operations in the order in which they take effect: (effect, invoked, returned, slot, n).
    let mut plan = Vec::new();
    let mut next = processes;
    for n in 0..operations {
        let slot = (0..busy.len()).min_by_key(|slot| busy[*slot].free_at).unwrap();
        let draw = |what| seed.decide(&[n, what]);
        let invoked = busy[slot].free_at + 1 + draw(0).below(200);
        let length = 100 + draw(1).below(1_000);
        let indeterminate = draw(2).chance(0.01);
        let effect = invoked + draw(3).below(length) + if indeterminate { draw(4).below(20_000) } else { 0 };
        plan.push((effect, n, invoked, invoked + length, busy[slot].process, indeterminate));
        busy[slot].free_at = invoked + length;
        if indeterminate {
            busy[slot].process = next;
            next += 1;
        }
    }
    plan.sort_unstable();
    let mut registers = vec![0i64; keys as usize];
    for (_, n, invoked, returned, process, indeterminate) in plan {
        let draw = |what| seed.decide(&[n, what]);
        // Neighbours in time share keys, so that they contend.
        let key = (n * keys / operations + draw(5).below(4)).min(keys - 1);
        let register = &mut registers[key as usize];
        let name = Value::Text(format!("r{key:04}").into());
        let value = n as i64 + 1;
        let held = |v: i64| if v == 0 { Value::Nil } else { Value::Int(v) };
        let (op, result) = match draw(6).below(10) {
            0..5 => (RegisterOp::Read.on(name), held(*register)),
            5..8 => {
                *register = value;
                (RegisterOp::Write(held(value)).on(name), Value::Nil)
            }
            _ => {
                let from = held(*register);
                *register = value;
                (RegisterOp::Cas { from, to: held(value) }.on(name), Value::Nil)
            }
        };
        let result = if corrupt == Some(n) && op.f == Function::Read { Value::Int(-1) } else { result };
        let client = Some(Client { host: "c1".into(), node: "n1".into() });
        let process = Process(process);
        events.push((invoked, 1, EventKind::Invoke(Invocation { process, client, op: op.clone() })));
        let (outcome, result) = if indeterminate { (Outcome::Info, Value::Nil) } else { (Outcome::Ok, result) };
        let completion = Completion { process, outcome, op, result, error: None, node: None, term: None };
        events.push((returned, 0, EventKind::Complete(completion)));
    }
    events.sort_by_key(|(at, order, _)| (*at, *order));
    events.into_iter().map(|(at, _, kind)| Event { time: Time(at * 1000), kind }).collect()
}

fn check(events: &[Event]) -> duress_checkers::Report {
    let settings = Settings { certify: true, ..Settings::default() };
    Linearizable::default().judge(&Run::new(events, false).expect("well formed"), &settings)
}

#[test]
fn two_hundred_thousand_operations_on_a_thousand_keys() {
    let report = check(&history(Seed(1), 200_000, 1_000, 10, None));
    assert_eq!(report.verdict, Verdict::Valid, "{report:?}");
    assert_eq!(report.figures["registers"], 1_000.0);
}

#[test]
fn one_hot_register_with_many_processes() {
    for seed in 0..20 {
        let report = check(&history(Seed(seed), 300, 1, 20, None));
        assert_eq!(report.verdict, Verdict::Valid, "seed {seed}: {report:?}");
    }
}

#[test]
fn one_register_with_a_very_long_history() {
    let report = check(&history(Seed(1), 50_000, 1, 5, None));
    assert_eq!(report.verdict, Verdict::Valid, "{report:?}");
}

#[test]
fn a_needle_in_a_haystack_is_found_and_shrunk() {
    let clean = history(Seed(2), 20_000, 100, 10, None);
    let read = (10_000..).find(|n| Seed(2).decide(&[*n, 6]).below(10) < 5 && !Seed(2).decide(&[*n, 2]).chance(0.01));
    let events = history(Seed(2), 20_000, 100, 10, read);
    assert_eq!(check(&clean).verdict, Verdict::Valid);
    let report = check(&events);
    assert_eq!(report.verdict, Verdict::Invalid, "{report:?}");
    assert!(report.summary.contains("= -1, which nobody ever wrote."), "{}", report.summary);
    // The frame, headings, and the one operation that matters.
    assert_eq!(report.explanation.len(), 3, "{:#?}", report.explanation);
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let read = (3_000..).find(|n| Seed(3).decide(&[*n, 6]).below(10) < 5 && !Seed(3).decide(&[*n, 2]).chance(0.01));
    let events = history(Seed(3), 10_000, 50, 10, read);
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can be made");
        pool.install(|| check(&events))
    };
    let one = with(1);
    assert_eq!(one.verdict, Verdict::Invalid);
    assert_eq!(with(4), one);
}

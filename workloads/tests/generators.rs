//! What the generators promise, against a small simulated runner.

mod asked;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use asked::{Asked, asked};
use duress_history::{Completion, Op, Outcome, Process, Value};
use duress_seed::Seed;
use duress_workloads::{Chosen, FinalOp, Generator, Next, Size, Slot, lock, register, set};
use proptest::prelude::*;

/// One operation as a run saw it.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    at: Duration,
    slot: usize,
    process: Process,
    op: Op,
    outcome: Outcome,
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A workload and the size of what it works on.
type Config = (Chosen, Size);

fn config(chosen: Chosen) -> Config {
    (chosen, Size { nodes: 3, concurrency: 5, time: Duration::from_secs(10) })
}

fn registers_by_default() -> Chosen {
    Chosen::new(&register::Plug, &[])
}

/// No test adds more elements.
const MANY: duress_plug::Value = duress_plug::Value::Integer(100_000);

/// Runs a workload to its end. `answer` decides how each operation ends and after how long.
fn run(
    (chosen, size): Config,
    seed: u64,
    mut answer: impl FnMut(&Op, Duration) -> (Outcome, Value, Duration),
) -> (Vec<Seen>, Vec<FinalOp>) {
    let slots = size.concurrency;
    let mut generator = chosen.generator(&size, Seed(seed));
    let mut processes: Vec<u64> = (0..slots as u64).collect();
    // (when, slot) → the completion to report then, or nothing if the slot is to be asked again.
    let mut agenda: BTreeMap<(Duration, usize), Option<Completion>> =
        (0..slots).map(|slot| ((Duration::ZERO, slot), None)).collect();
    let mut seen = Vec::new();
    while let Some(((now, index), completion)) = agenda.pop_first() {
        let slot = Slot { index, process: Process(processes[index]) };
        if let Some(completion) = completion {
            generator.completed(slot, &completion, now);
            if completion.outcome == Outcome::Info {
                processes[index] += slots as u64;
            }
        }
        let slot = Slot { index, process: Process(processes[index]) };
        match generator.next(slot, now) {
            Next::Done => {}
            Next::Wait(until) => {
                assert!(until > now, "a wait must end later than it begins");
                agenda.insert((until, index), None);
            }
            Next::Op(op) => {
                let (outcome, result, takes) = answer(&op, now);
                seen.push(Seen { at: now, slot: index, process: slot.process, op: op.clone(), outcome });
                let completion =
                    Completion { process: slot.process, outcome, op, result, error: None, node: None, term: None };
                agenda.insert((now + takes.max(Duration::from_nanos(1)), index), Some(completion));
            }
        }
        assert!(seen.len() < 1_000_000, "the generator never ends");
    }
    (seen, generator.finale())
}

/// A single register per key, answering in 1 to 4 ms.
fn registers() -> impl FnMut(&Op, Duration) -> (Outcome, Value, Duration) {
    let mut store: BTreeMap<smol_str::SmolStr, Value> = BTreeMap::new();
    let mut count = 0;
    move |op, _| {
        count += 1;
        let takes = ms(1 + count % 4);
        match &asked(op) {
            Asked::Read { key } => (Outcome::Ok, store.get(key).cloned().unwrap_or(Value::Nil), takes),
            Asked::Write { key, value } => {
                store.insert(key.clone(), value.clone());
                (Outcome::Ok, Value::Nil, takes)
            }
            Asked::Cas { key, from, to } if store.get(key).unwrap_or(&Value::Nil) == from => {
                store.insert(key.clone(), to.clone());
                (Outcome::Ok, Value::Nil, takes)
            }
            _ => (Outcome::Fail, Value::Nil, takes),
        }
    }
}

fn always(outcome: Outcome) -> impl FnMut(&Op, Duration) -> (Outcome, Value, Duration) {
    move |_, _| (outcome, Value::Nil, ms(2))
}

/// Locks that grant at once if free, by the time of asking, and never lose a holder.
fn locks() -> impl FnMut(&Op, Duration) -> (Outcome, Value, Duration) {
    let mut held: BTreeMap<smol_str::SmolStr, (u64, Duration)> = BTreeMap::new();
    let mut tokens = 0;
    move |op, now| {
        let done = |good: bool| (if good { Outcome::Ok } else { Outcome::Fail }, Value::Nil, ms(1));
        match &asked(op) {
            Asked::Acquire { lock, lease_ms } => {
                if held.get(lock).is_some_and(|(_, expires)| *expires > now) {
                    return done(false);
                }
                tokens += 1;
                held.insert(lock.clone(), (tokens, now + ms(*lease_ms)));
                (Outcome::Ok, tokens.into(), ms(1))
            }
            Asked::Renew { lock, token, lease_ms } => match held.get_mut(lock) {
                Some((holder, expires)) if holder == token && *expires > now => {
                    *expires = now + ms(*lease_ms);
                    done(true)
                }
                _ => done(false),
            },
            Asked::Release { lock, token } => {
                let good = held.get(lock).is_some_and(|(holder, expires)| holder == token && *expires > now);
                if good {
                    held.remove(lock);
                }
                done(good)
            }
            Asked::Access { lock, token, work_ms } => {
                let good =
                    held.get(lock).is_some_and(|(holder, expires)| holder == token && *expires > now + ms(*work_ms));
                (if good { Outcome::Ok } else { Outcome::Fail }, Value::Nil, ms(*work_ms))
            }
            _ => unreachable!("not an operation of locks"),
        }
    }
}

#[test]
fn a_seed_fixes_the_operations() {
    for workload in duress_workloads::ALL {
        let options = Chosen::new(*workload, &[]);
        let go = |seed| match workload.name() {
            "lock" => run(config(options.clone()), seed, locks()),
            _ => run(config(options.clone()), seed, registers()),
        };
        assert!(go(1).0.len() > 100);
        assert_eq!(go(1), go(1));
        assert_ne!(go(1).0, go(2).0);
    }
}

#[test]
fn registers_follow_their_mix_and_many_cas_succeed() {
    let (seen, _) = run(config(registers_by_default()), 1, registers());
    let share = |name: &str| seen.iter().filter(|s| s.op.name() == name).count() as f64 / seen.len() as f64;
    assert!((share("read") - 0.5).abs() < 0.03, "{}", share("read"));
    assert!((share("write") - 0.3).abs() < 0.03, "{}", share("write"));
    assert!((share("cas") - 0.2).abs() < 0.03, "{}", share("cas"));
    let cas: Vec<_> = seen.iter().filter(|s| s.op.name() == "cas").collect();
    let ok = cas.iter().filter(|s| s.outcome == Outcome::Ok).count();
    assert!(ok * 5 > cas.len(), "{ok} of {}", cas.len());
    assert!(ok < cas.len(), "some must fail, too");
}

#[test]
fn no_value_is_written_twice_to_a_key() {
    let (seen, _) = run(config(registers_by_default()), 1, registers());
    let mut written = BTreeSet::new();
    for one in &seen {
        if let Asked::Write { key, value } | Asked::Cas { key, to: value, .. } = &asked(&one.op) {
            assert!(written.insert((key.clone(), value.clone())), "{} is repeated", one.op);
        }
    }
}

#[test]
fn keys_are_retired_after_their_operations() {
    let options = Chosen::new(&register::Plug, &[("keys", 3.into()), ("ops_per_key", 40.into())]);
    let (seen, finale) = run(config(options), 1, registers());
    let mut used: BTreeMap<_, usize> = BTreeMap::new();
    for one in &seen {
        *used.entry(one.op.key_text().unwrap().clone()).or_default() += 1;
    }
    assert!(used.values().all(|uses| *uses <= 40));
    assert_eq!(used.values().filter(|uses| **uses < 40).count(), 3, "all but those still in use are used up");
    assert!(used.len() > 100);
    let read: BTreeSet<_> = finale.iter().map(|f| f.op.key_text().unwrap().clone()).collect();
    assert_eq!(read.len(), 100, "the final reads are bounded");
    assert_eq!(finale.iter().map(|f| f.node).collect::<BTreeSet<_>>(), [0, 1, 2].into());
    assert_eq!(finale.len(), 200);
}

#[test]
fn a_key_with_many_indeterminate_operations_is_retired_early() {
    let options = Chosen::new(&register::Plug, &[("keys", 1.into()), ("ops_per_key", 300.into())]);
    let (seen, _) = run(config(options), 1, always(Outcome::Info));
    let mut unknown: BTreeMap<_, usize> = BTreeMap::new();
    for one in seen.iter().filter(|s| s.op.name() != "read") {
        *unknown.entry(one.op.key_text().unwrap().clone()).or_default() += 1;
    }
    // Operations in progress when it is retired come on top: at most one for each other slot.
    assert!(unknown.values().all(|n| *n <= 12 + 4), "{unknown:?}");
}

#[test]
fn processes_are_never_used_after_an_indeterminate_operation() {
    let (seen, _) = run(config(registers_by_default()), 1, always(Outcome::Info));
    let processes: BTreeSet<Process> = seen.iter().map(|s| s.process).collect();
    assert_eq!(processes.len(), seen.len());
}

#[test]
fn set_elements_are_unique_and_read_everywhere_at_the_end() {
    let options = Chosen::new(&set::Plug, &[("rate", duress_plug::Value::Nothing), ("ops", 1_003.into())]);
    let (seen, finale) = run(config(options), 1, always(Outcome::Ok));
    let elements: BTreeSet<_> = seen.iter().map(|s| s.op.clone().to_string()).collect();
    assert_eq!((elements.len(), seen.len()), (1_003, 1_003));
    let nodes: Vec<_> = finale.iter().map(|f| (f.node, f.op.name())).collect();
    assert_eq!(nodes, [(0, "read"), (1, "read"), (2, "read")]);
}

#[test]
fn leaving_out_one_slot_leaves_the_choices_of_the_others() {
    let kinds = |missing: usize| {
        let seed = Seed(5);
        let mut generator = register::Register::new(register::Options::default(), 3, 4, seed);
        let mut kinds = Vec::new();
        for _ in 0..50 {
            for index in (0..4).filter(|index| *index != missing) {
                let Next::Op(op) = generator.next(Slot { index, process: Process(index as u64) }, ms(0)) else {
                    unreachable!("registers never wait")
                };
                if index != 3 {
                    kinds.push((index, op.name().to_owned()));
                }
            }
        }
        kinds
    };
    assert_eq!(kinds(3), kinds(9));
}

#[test]
fn a_lock_is_used_renewed_and_given_back() {
    let (seen, finale) = run(config(Chosen::new(&lock::Plug, &[])), 1, locks());
    assert!(finale.is_empty());
    let mut tokens: BTreeMap<u64, Vec<&Seen>> = BTreeMap::new();
    for one in &seen {
        if let Asked::Access { token, .. } | Asked::Renew { token, .. } | Asked::Release { token, .. } = &asked(&one.op)
        {
            tokens.entry(*token).or_default().push(one);
        }
    }
    assert!(tokens.len() >= 4, "{}", tokens.len());
    // The last grant may be cut off by the end of time.
    tokens.pop_last();
    for (token, life) in tokens {
        let count = |name: &str| life.iter().filter(|s| s.op.name() == name).count();
        assert!(count("access") >= 20 && count("renew") >= 2, "token {token}");
        assert_eq!((count("release"), life.last().unwrap().op.name()), (1, "release"), "token {token}");
        assert_eq!(life.iter().map(|s| s.slot).collect::<BTreeSet<_>>().len(), 1);
        assert!(life.iter().all(|s| s.outcome == Outcome::Ok), "without faults nothing overruns its lease");
    }
    // Those who are refused don't hammer.
    let acquires = seen.iter().filter(|s| s.op.name() == "acquire").count();
    assert!((100..2_000).contains(&acquires), "{acquires}");
}

#[test]
fn a_lost_lock_is_not_used_again() {
    // The third access of every grant is refused, or nobody knows how it ended.
    for bad in [Outcome::Fail, Outcome::Info] {
        let mut tokens = 0;
        let mut accesses: BTreeMap<u64, usize> = BTreeMap::new();
        let (seen, _) = run(config(Chosen::new(&lock::Plug, &[])), 1, |op, _| match &asked(op) {
            Asked::Acquire { .. } => {
                tokens += 1;
                (Outcome::Ok, tokens.into(), ms(1))
            }
            Asked::Access { token, .. } => {
                let n = accesses.entry(*token).or_default();
                *n += 1;
                (if *n == 3 { bad } else { Outcome::Ok }, Value::Nil, ms(50))
            }
            _ => (Outcome::Ok, Value::Nil, ms(1)),
        });
        assert!(accesses.values().all(|n| *n <= 3) && accesses.len() > 50);
        assert!(seen.iter().all(|s| s.op.name() != "release"), "what is lost is not given back");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn rates_are_kept(rate in 20.0f64..400.0, concurrency in 1usize..30, seed in any::<u64>()) {
        let (chosen, size) = config(Chosen::new(&set::Plug, &[("rate", rate.into()), ("ops", MANY)]));
        let size = Size { concurrency, ..size };
        let seconds = size.time.as_secs_f64();
        let (seen, _) = run((chosen, size), seed, |_, _| (Outcome::Ok, Value::Nil, Duration::from_micros(100)));
        let wanted = rate * seconds;
        let found = seen.len() as f64;
        prop_assert!(found <= wanted + 2.0 * concurrency as f64, "{} of {}", found, wanted);
        prop_assert!(found >= wanted * 0.9 - 3.0 * concurrency as f64, "{} of {}", found, wanted);
        prop_assert!(seen.iter().all(|s| s.at < Duration::from_secs(10)));
    }

    #[test]
    fn missed_periods_are_not_made_up_for(seed in any::<u64>()) {
        // Every operation takes half a second, so five slots make ten per second of the hundred asked for.
        let options = Chosen::new(&set::Plug, &[("rate", 100.0.into()), ("ops", MANY)]);
        let mut calls = 0;
        let (seen, _) = run(config(options), seed, |_, now| {
            calls += 1;
            (Outcome::Ok, Value::Nil, if now < Duration::from_secs(5) { ms(500) } else { ms(1) })
        });
        let late = seen.iter().filter(|s| s.at >= Duration::from_millis(6_000)).count();
        prop_assert!(late <= 4 * 100 + 10, "{}", late);
    }
}

//! Tiny random histories of any model: random calls over random intervals, results as an object
//! would give them, then some of them changed.

use duress_history::formats::{Conventions, Failed, Format, Function, Imported, Moment, NilRead, Operation, Value};
use duress_history::{Op, Outcome, Process};
use duress_seed::Seed;

use super::oracle::{State, answer};

/// A decision, as a number below a bound.
pub(crate) struct Draws(pub(crate) Seed);

impl Draws {
    pub(crate) fn below(&self, key: &[u64], bound: u64) -> u64 {
        self.0.decide(key).below(bound)
    }
}

/// A value: of a small domain, or each once.
fn value(draws: &Draws, n: u64, what: u64) -> i64 {
    if draws.below(&[4], 2) == 0 { n as i64 + 1 } else { draws.below(&[what, n], 3) as i64 + 1 }
}

fn call(model: &str, draws: &Draws, n: u64, held: bool) -> (Function, Value) {
    let int = |what| Value::Int(value(draws, n, what));
    let text = |what| Value::Text(["a", "b", "ab"][draws.below(&[what, n], 3) as usize].into());
    let reads = draws.below(&[5], 3) + 2;
    let draw = draws.below(&[20, n], 8);
    let (name, argument) = match (model, draw) {
        ("register" | "cas-register" | "counter", _) if draw < reads => ("read", Value::Nil),
        ("cas-register", 5..) => ("cas", Value::Vector(vec![int(21), Value::Int(value(draws, n, 22))])),
        ("register" | "cas-register", _) => ("write", int(21)),
        ("counter", _) => ("add", Value::Int(draws.below(&[21, n], 4) as i64 - 1)),
        ("multi-register", _) => {
            let all = (0..1 + draws.below(&[22, n], 2)).map(|k| {
                let register = Value::Int(draws.below(&[23, n, k], 3) as i64);
                let reads = draws.below(&[24, n, if draw < 6 { 0 } else { k }], 2) == 0;
                let (what, value) = if reads { ("r", Value::Nil) } else { ("w", int(25)) };
                Value::Vector(vec![Value::Keyword(what.into()), register, value])
            });
            ("txn", Value::Vector(all.collect()))
        }
        ("mutex" | "owned-mutex" | "reentrant-mutex" | "lock", _) => {
            let wrong = draws.below(&[26, n], 6) == 0;
            (if held != wrong { "release" } else { "acquire" }, Value::Nil)
        }
        ("set", 0..=2) => ("add", int(21)),
        ("set", 3) if draws.below(&[6], 2) == 0 => ("remove", Value::Int(draws.below(&[27, n], 4) as i64 + 1)),
        ("set", 4 | 5) if draws.below(&[7], 3) > 0 => ("contains", Value::Int(draws.below(&[27, n], 4) as i64 + 1)),
        ("set", _) if draws.below(&[8], 2) == 0 => ("read", Value::Nil),
        ("set", _) => ("contains", Value::Int(draws.below(&[27, n], 4) as i64 + 1)),
        ("queue", 4..) => ("dequeue", Value::Nil),
        ("queue", _) => ("enqueue", int(21)),
        ("stack", 4..) => ("pop", Value::Nil),
        ("stack", _) => ("push", int(21)),
        ("priority-queue", 4..) => ("extract-min", Value::Nil),
        ("priority-queue", _) if draws.below(&[4], 2) == 0 => {
            // Each once, in no order.
            ("insert", Value::Int((draws.below(&[28, n], 50) * 16 + n) as i64))
        }
        ("priority-queue", _) => ("insert", int(21)),
        ("append-log", 0..=3) => ("append", int(21)),
        ("append-log", 4 | 5) => ("get", Value::Int(draws.below(&[29, n], 4) as i64)),
        ("append-log", _) => ("read", Value::Nil),
        ("kv", 0..=2) => ("get", Value::Nil),
        ("kv", 3) => ("put", text(21)),
        _ => ("append", text(21)),
    };
    (Function::named(name), argument)
}

/// Some other result for a call.
fn corrupted(model: &str, function: &Function, result: &Value, draws: &Draws, n: u64) -> Value {
    let draw = draws.below(&[40, n], 4);
    match (model, result) {
        (_, Value::Int(int)) => Value::Int(int + if draw.is_multiple_of(2) { 1 } else { -1 }),
        ("queue" | "stack" | "priority-queue", Value::Nil) => Value::Int(draw as i64 + 1),
        ("append-log", Value::Nil) => Value::Int(draw as i64 + 1),
        ("append-log", Value::Vector(items)) if *function == Function::Append => {
            Value::Vector(vec![Value::Int(draw as i64), items[1].clone()])
        }
        (_, Value::Bool(is)) => Value::Bool(!is),
        (_, Value::Set(items)) => Value::Set(items.iter().skip(1).cloned().collect()),
        ("append-log", Value::Vector(items)) => Value::Vector(items.iter().rev().cloned().collect()),
        (_, Value::Text(text)) => Value::Text(format!("{text}{}", ["a", "b", "ab", ""][draw as usize]).into()),
        ("multi-register", Value::Vector(steps)) => Value::Vector(
            steps
                .iter()
                .map(|step| match step.as_sequence() {
                    Some([what, register, Value::Int(value)]) if *what == Value::Keyword("r".into()) => {
                        Value::Vector(vec![what.clone(), register.clone(), Value::Int(value % 3 + 1)])
                    }
                    _ => step.clone(),
                })
                .collect(),
        ),
        (_, other) => other.clone(),
    }
}

struct Call {
    process: u64,
    from: u64,
    to: u64,
    effect: u64,
    outcome: Outcome,
}

/// A history of one object. Even seeds are uncorrupted (and still may be invalid, as calls that
/// can't be done are said to have been).
pub(crate) fn history(model: &str, seed: Seed) -> Imported {
    let draws = Draws(seed);
    let processes = 2 + draws.below(&[0], 4);
    let rounds = 1 + draws.below(&[1], 4);
    let pending = [0, 0, 1, 3, 6][draws.below(&[2], 5) as usize];
    let spread = 4 + draws.below(&[3], 40);
    let mut calls: Vec<Call> = Vec::new();
    for process in 0..processes {
        let mut now = draws.below(&[10, process], spread);
        for round in 0..rounds {
            let draw = |what: u64, bound: u64| draws.below(&[11, process, round, what], bound);
            if calls.len() >= 11 {
                break;
            }
            let from = now + draw(0, spread);
            let to = from + 1 + draw(1, spread);
            let outcome = match draw(2, 10) {
                x if x < pending => Outcome::Info,
                9 if draw(3, 2) == 0 => Outcome::Fail,
                _ => Outcome::Ok,
            };
            let effect = match outcome {
                Outcome::Info if draw(4, 2) == 0 => u64::MAX,
                Outcome::Info => from + draw(5, spread * 4),
                _ => from + draw(5, to - from + 1),
            };
            calls.push(Call { process, from, to, effect, outcome });
            now = to + 1;
            if outcome == Outcome::Info {
                break;
            }
        }
    }
    // (moment, call, is its end); at one moment ends come last.
    let mut events: Vec<(u64, bool, usize)> = Vec::new();
    for (at, call) in calls.iter().enumerate() {
        events.push((call.from, false, at));
        if call.outcome != Outcome::Info || draws.below(&[12, at as u64], 2) == 0 {
            events.push((call.to, true, at));
        }
    }
    events.sort_unstable();
    let mut place = vec![(0, None); calls.len()];
    for (index, (_, is_end, at)) in events.iter().enumerate() {
        let moment = Moment { index: index as u64, time_ns: None, line: index + 1 };
        if *is_end { place[*at].1 = Some(moment) } else { place[*at].0 = index }
    }
    let mut order: Vec<usize> = (0..calls.len()).collect();
    order.sort_by_key(|at| (calls[*at].effect, *at));
    let mut state = State::default();
    let mut asked: Vec<Option<(Function, Value, Value)>> = (0..calls.len()).map(|_| None).collect();
    for at in order {
        let call = &calls[at];
        let (function, argument) = self::call(model, &draws, at as u64, state.holder == Some(call.process));
        let mut result = Value::Nil;
        if call.effect != u64::MAX && call.outcome != Outcome::Fail {
            result = answer(model, &mut state, call.process, &function, &argument).unwrap_or_default();
        }
        if model == "lock" && function == Function::Acquire && result == Value::Nil {
            result = Value::Int(draws.below(&[15, at as u64], 6) as i64);
        }
        if model == "append-log" && function == Function::Append && draws.below(&[9], 2) == 0 {
            result = argument.clone();
        }
        if model == "set" && matches!(function.name(), "add" | "remove") && draws.below(&[9], 3) > 0 {
            result = argument.clone();
        }
        asked[at] = Some((function, argument, result));
    }
    if seed.0 % 2 == 1 {
        for k in 0..1 + draws.below(&[30], 2) {
            let victim = draws.below(&[31, k], calls.len() as u64) as usize;
            if let Some((function, _, result)) = &mut asked[victim] {
                *result = corrupted(model, function, result, &draws, k);
            }
        }
    }
    let mut operations: Vec<Operation> = Vec::new();
    for (at, asked) in asked.into_iter().enumerate() {
        let Some((function, argument, result)) = asked else { continue };
        let invoked = Moment { index: place[at].0 as u64, time_ns: None, line: place[at].0 + 1 };
        let outcome = calls[at].outcome;
        // Every second failed cas saw something else; the others were refused.
        let error = (outcome == Outcome::Fail && at % 2 == 0).then(|| Value::Keyword("refused".into()));
        operations.push(Operation {
            process: Process(calls[at].process),
            client: None,
            op: Op { f: function, key: None, value: argument },
            result: (outcome == Outcome::Ok).then_some(result),
            invoked,
            completed: place[at].1,
            outcome,
            error,
            node: None,
            term: None,
        });
    }
    operations.sort_by_key(|operation| operation.invoked.index);
    let conventions = Conventions {
        nil_read: if draws.below(&[13], 2) == 0 { NilRead::Unset } else { NilRead::Unknown },
        failed: if draws.below(&[14], 2) == 0 { Failed::Assert } else { Failed::Drop },
    };
    Imported {
        format: Format::Edn,
        conventions,
        operations,
        nemesis: Vec::new(),
        entries: events.len() as u64,
        independent: false,
        events: Vec::new(),
        truncated: false,
    }
}

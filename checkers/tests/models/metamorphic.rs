//! Changes to a history of which it is known what they do to the verdict.

use duress_checkers::Verdict;
use duress_checkers::generate::models;
use duress_history::Outcome;
use duress_history::formats::{Imported, Moment, Value};
use duress_seed::Seed;

use super::fuzz::{count, judge};
use super::tiny::{self, Draws};

/// How many histories of each model.
fn seeds() -> std::ops::Range<u64> {
    1_000_000..1_000_000 + (count() / 300).clamp(100, 20_000)
}

/// Histories that say nothing are neither.
fn is_valid(model: &str, history: &Imported) -> bool {
    judge(model, history, false).verdict != Verdict::Invalid
}

/// Every number of a value replaced.
fn renamed(value: &Value, rename: &impl Fn(i64) -> i64) -> Value {
    let all = |items: &[Value]| items.iter().map(|item| renamed(item, rename)).collect();
    match value {
        Value::Int(number) => Value::Int(rename(*number)),
        Value::Vector(items) => Value::Vector(all(items)),
        Value::Set(items) => {
            let mut items: Vec<Value> = all(items);
            items.sort();
            Value::Set(items)
        }
        Value::Text(text) => {
            Value::Text(text.chars().map(|c| if c == 'a' { 'ü' } else { c }).collect::<String>().into())
        }
        other => other.clone(),
    }
}

#[test]
fn renaming_values_changes_nothing() {
    for model in models() {
        // Offsets, counts and tokens are no names; priorities keep their order.
        if matches!(model, "append-log" | "counter") {
            continue;
        }
        let ordered = matches!(model, "priority-queue" | "lock");
        for seed in seeds() {
            let history = tiny::history(model, Seed(seed));
            let mut other = history.clone();
            let rename = |n: i64| if ordered { n * 3 + 7 } else { 1_000_003 - n * 17 };
            for operation in &mut other.operations {
                operation.op.value = renamed(&operation.op.value, &rename);
                operation.result = operation.result.as_ref().map(|result| renamed(result, &rename));
            }
            assert_eq!(is_valid(model, &history), is_valid(model, &other), "{model} seed {seed}: {history:#?}");
        }
    }
}

/// The history with every moment moved; the operations' order follows.
fn moved(history: &Imported, place: impl Fn(u64) -> u64) -> Imported {
    let mut other = history.clone();
    let to = |moment: Moment| Moment { index: place(moment.index), ..moment };
    for operation in &mut other.operations {
        operation.invoked = to(operation.invoked);
        operation.completed = operation.completed.map(to);
    }
    other.operations.sort_by_key(|operation| operation.invoked.index);
    other
}

#[test]
fn swapping_neighbours_of_one_kind_changes_nothing() {
    for model in models() {
        for seed in seeds() {
            let history = tiny::history(model, Seed(seed));
            let draws = Draws(Seed(seed));
            let at = draws.below(&[50], history.entries);
            let invokes = |index| history.operations.iter().any(|o| o.invoked.index == index);
            // Two invocations, or two returns, side by side: the same operations overlap afterwards.
            if at + 1 >= history.entries || invokes(at) != invokes(at + 1) {
                continue;
            }
            let swapped = moved(&history, |index| match index {
                index if index == at => at + 1,
                index if index == at + 1 => at,
                index => index,
            });
            assert_eq!(is_valid(model, &history), is_valid(model, &swapped), "{model} seed {seed}: {history:#?}");
        }
    }
}

#[test]
fn widening_an_interval_never_makes_a_history_invalid() {
    let mut mended = 0;
    for model in models() {
        for seed in seeds() {
            let history = tiny::history(model, Seed(seed));
            let draws = Draws(Seed(seed));
            let at = draws.below(&[51], history.operations.len() as u64) as usize;
            let mut wider = moved(&history, |index| index + 100);
            let operation = &mut wider.operations[at];
            match draws.below(&[52], 3) {
                0 => operation.invoked.index = 1,
                1 => operation.completed.iter_mut().for_each(|end| end.index = 10_000),
                // Nobody knows how it ended: it may have done what it did, or nothing.
                _ if operation.outcome == Outcome::Ok => {
                    (operation.outcome, operation.result, operation.completed) = (Outcome::Info, None, None);
                }
                _ => {}
            }
            wider.operations.sort_by_key(|operation| operation.invoked.index);
            let (before, after) = (is_valid(model, &history), is_valid(model, &wider));
            assert!(!before || after, "{model} seed {seed}, operation {at}: {history:#?}");
            mended += u32::from(!before && after);
        }
    }
    assert!(mended > 50, "only {mended} histories became valid");
}

#[test]
fn dropping_an_operation_that_nobody_needs_changes_nothing() {
    for model in models() {
        for seed in seeds() {
            let history = tiny::history(model, Seed(seed));
            let without = |keep: &dyn Fn(&duress_history::formats::Operation) -> bool| {
                let operations = history.operations.iter().filter(|o| keep(o)).cloned().collect();
                Imported { operations, ..history.clone() }
            };
            let valid = is_valid(model, &history);
            // What failed tells nothing, but a cas.
            let rest = without(&|o| o.outcome != Outcome::Fail || o.op.f.name() == "cas");
            assert_eq!(valid, is_valid(model, &rest), "{model} seed {seed}: {history:#?}");
            // What is pending only ever helps.
            let rest = without(&|o| o.outcome != Outcome::Info);
            assert!(valid || !is_valid(model, &rest), "{model} seed {seed}: {history:#?}");
            // Reads that don't return tell nothing.
            let rest = without(&|o| o.outcome != Outcome::Info || !o.op.f.reads());
            assert_eq!(valid, is_valid(model, &rest), "{model} seed {seed}: {history:#?}");
        }
    }
}

//! Counters that may lag: every read lies between what surely and what possibly was added.
//!
//! Jepsen's `checker/counter`, for amounts of either sign: a read must lie in `[low, high]`, where
//! an addition counts surely if it succeeded before the read was invoked, and possibly if it was
//! invoked before the read was over and didn't fail; `low` sums the positive amounts that count
//! surely and the negative ones that count possibly, `high` the other way round. O(n log n).

use duress_history::Outcome;
use duress_history::formats::{Function, Value};

use super::{Findings, Judgement, Unfit, by_key, end, of_key, told};
use crate::words;
use crate::{Run, Settings};

pub(in super::super) const COUNTER_BOUNDS: Judgement = Judgement {
    name: "counter-bounds",
    about: "Jepsen's counter: reads within what surely and possibly was added: add n, increment, decrement, read",
    judge,
};

/// Sums of amounts up to places of the history.
#[derive(Default)]
struct Sums(Vec<(u64, i128)>);

impl Sums {
    fn add(&mut self, at: u64, amount: i128) {
        self.0.push((at, amount));
    }

    /// Sorted, each with the sum of all up to it.
    fn ready(mut self) -> Sums {
        self.0.sort_unstable_by_key(|(at, _)| *at);
        let mut sum = 0;
        for (_, amount) in &mut self.0 {
            sum += *amount;
            *amount = sum;
        }
        self
    }

    /// The sum of all before a place.
    fn before(&self, place: u64) -> i128 {
        let n = self.0.partition_point(|(at, _)| *at < place);
        n.checked_sub(1).map_or(0, |last| self.0[last].1)
    }
}

fn judge(history: &Run<'_>, _: &Settings) -> Result<Findings, Unfit> {
    let mut findings = Findings::default();
    let (mut reads, mut adds) = (0, 0);
    for (key, operations) in by_key(history) {
        // Amounts above and below zero, by when they count surely and possibly.
        let [mut sure_up, mut sure_down, mut maybe_up, mut maybe_down] = [(); 4].map(|()| Sums::default());
        let mut read = Vec::new();
        for at in operations {
            let operation = &history.operations[at];
            let amount = |sign: i128| match &operation.op.value {
                Value::Nil if operation.op.f != Function::Add => Ok(sign),
                Value::Int(n) => Ok(i128::from(*n) * sign),
                other => Err(Unfit::new(operation, format!("{other} is no whole number"))),
            };
            let amount = match &operation.op.f {
                Function::Read | Function::Get => {
                    if let (Outcome::Ok, Some(result)) = (operation.outcome, &operation.result)
                        && *result != Value::Nil
                    {
                        let count = result.as_int();
                        read.push((
                            at,
                            count.ok_or_else(|| Unfit::new(operation, format!("it read {result}, no whole number")))?,
                        ));
                    }
                    continue;
                }
                Function::Add => amount(1)?,
                Function::Other(name) if matches!(name.as_str(), "increment" | "inc") => amount(1)?,
                Function::Other(name) if matches!(name.as_str(), "decrement" | "dec") => amount(-1)?,
                _ => return Err(Unfit::function(operation, "add, increment, decrement and read")),
            };
            if operation.outcome == Outcome::Fail {
                continue;
            }
            adds += 1;
            let (sure, maybe) =
                if amount > 0 { (&mut sure_up, &mut maybe_up) } else { (&mut sure_down, &mut maybe_down) };
            maybe.add(operation.invoked.index, amount);
            if operation.outcome == Outcome::Ok {
                sure.add(end(operation), amount);
            }
        }
        let [sure_up, sure_down, maybe_up, maybe_down] = [sure_up, sure_down, maybe_up, maybe_down].map(Sums::ready);
        reads += read.len();
        for (at, count) in read {
            let operation = &history.operations[at];
            let (from, to) = (operation.invoked.index, end(operation));
            let low = sure_up.before(from) + maybe_down.before(to);
            let high = maybe_up.before(to) + sure_down.before(from);
            if i128::from(count) < low || i128::from(count) > high {
                let which = if i128::from(count) < low { "too low" } else { "too high" };
                let said = told(operation);
                findings.wrong(
                    format!("A read{} is {which}: {said}, which must lie between {low} and {high}.", of_key(key)),
                    vec![at],
                );
            }
        }
    }
    if reads == 0 {
        findings.doubts.push("The counter was never read.".into());
    }
    findings.figure("reads", reads);
    findings.figure("adds", adds);
    findings.fine = format!("{} within bounds.", words::count(reads, "read"));
    Ok(findings)
}

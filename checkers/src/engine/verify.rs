//! Is an order a linearization? Linear in its length, and knows nothing of how it was found.

use super::{Action, History, PENDING};

/// Why an order is no linearization of a key's operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// This operation is not one of the key's, or comes twice.
    Stray(usize),
    /// This operation returned before one was invoked that comes earlier in the order.
    Late(usize),
    /// This operation did not do here what it did.
    Result(usize),
    /// This operation returned and isn't in the order.
    Missing(usize),
}

/// Accepts an order (indices of operations) of one key's operations if every operation that
/// returned is in it once, each gives its result, and none comes after one that was invoked after
/// its return.
pub fn verify(history: &History, key: u32, order: &[usize]) -> Result<(), Flaw> {
    let mut seen = vec![false; history.operations.len()];
    let mut latest_call = 0;
    let mut held = history.initial;
    for at in order {
        let Some(operation) = history.operations.get(*at).filter(|op| op.key == key && !seen[*at]) else {
            return Err(Flaw::Stray(*at));
        };
        seen[*at] = true;
        latest_call = latest_call.max(operation.invoked);
        if operation.returned != PENDING && operation.returned < latest_call {
            return Err(Flaw::Late(*at));
        }
        let fits = match operation.action {
            Action::Read(value) => value == held,
            Action::Differs(value) => value != held,
            Action::Write(value) => {
                held = value;
                true
            }
            Action::Cas { from, to } => {
                let fits = from == held;
                held = to;
                fits
            }
        };
        if !fits {
            return Err(Flaw::Result(*at));
        }
    }
    let missing =
        |(_, (op, seen)): &(usize, (&super::Operation, &bool))| op.key == key && op.returned != PENDING && !**seen;
    match history.operations.iter().zip(&seen).enumerate().find(missing) {
        Some((at, _)) => Err(Flaw::Missing(at)),
        None => Ok(()),
    }
}

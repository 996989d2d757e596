//! Long forks: two reads that saw two writes in opposite orders.
//!
//! Jepsen's `jepsen.tests.long-fork`; the anomaly that parallel snapshot isolation allows and
//! snapshot isolation does not (Sovran et al., *Transactional storage for geo-replicated systems*,
//! SOSP 2011). Each key is written at most once, one key at a time; a read asks for a group of keys
//! at one moment. Of two reads of a group the one must have seen whatever the other saw. A value
//! that nobody wrote is a violation too. Two groups that are not the same may not share a key: else
//! the verdict is unknown. O(n log n) in the elements read.

use std::collections::{BTreeMap, HashMap};

use duress_history::Outcome;
use duress_history::formats::{Function, Operation, Value};

use super::{Findings, Judgement, Unfit, by_key, of_key, told};
use crate::words;
use crate::{Run, Settings};

pub(in super::super) const LONG_FORK: Judgement = Judgement {
    name: "long-fork",
    about: "no two reads see two writes in opposite orders: write [[:w k v]], read [[:r k v] ...], each key written once",
    judge,
};

/// What one step of a transaction does: whether it writes, the key, the value.
type Step<'h> = (bool, &'h Value, &'h Value);

fn steps<'h>(operation: &'h Operation, value: &'h Value) -> Result<Vec<Step<'h>>, Unfit> {
    let step = |micro: &'h Value| match micro.as_sequence() {
        Some([Value::Keyword(what) | Value::Text(what), key, value]) => match what.as_str() {
            "r" | "read" => Some((false, key, value)),
            "w" | "write" => Some((true, key, value)),
            _ => None,
        },
        _ => None,
    };
    let micro = value.as_sequence();
    let micro = micro.ok_or_else(|| Unfit::new(operation, format!("{value} is no list of [:r k v] and [:w k v]")))?;
    let unknown = |micro| Unfit::new(operation, format!("{micro} is neither [:r key value] nor [:w key value]"));
    micro.iter().map(|micro| step(micro).ok_or_else(|| unknown(micro))).collect()
}

fn judge(history: &Run<'_>, _: &Settings) -> Result<Findings, Unfit> {
    let mut findings = Findings::default();
    let mut count = 0;
    for (key, operations) in by_key(history) {
        // key → its write; and reads as what was asked for and what of it was there
        let mut writes: HashMap<&Value, (usize, &Value)> = HashMap::new();
        let mut reads: Vec<(usize, Vec<(&Value, &Value)>)> = Vec::new();
        for at in operations {
            let operation = &history.operations[at];
            if !matches!(operation.op.f, Function::Read | Function::Write | Function::Txn) {
                return Err(Unfit::function(operation, "read, write and txn"));
            }
            let asked = steps(operation, &operation.op.value)?;
            if asked.iter().any(|(writes, ..)| *writes) {
                let &[(true, written, value)] = &asked[..] else {
                    return Err(Unfit::new(operation, "it does more than write one key"));
                };
                if operation.outcome == Outcome::Fail {
                    continue;
                }
                if let Some((earlier, _)) = writes.insert(written, (at, value)) {
                    let line = history.operations[earlier].invoked.line;
                    let why = format!("it writes {written}, which line {line} does too: each key may be written once");
                    return Err(Unfit::new(operation, why));
                }
            } else if let (Outcome::Ok, Some(result)) = (operation.outcome, &operation.result) {
                let mut read: Vec<(&Value, &Value)> =
                    steps(operation, result)?.into_iter().map(|(_, key, value)| (key, value)).collect();
                read.sort_unstable();
                reads.push((at, read));
            }
        }
        count += reads.len();
        for (at, read) in &reads {
            let strange = read.iter().find(|(key, value)| {
                let written = writes.get(*key).filter(|(_, written)| written == value);
                **value != Value::Nil
                    && written.is_none_or(|(add, _)| {
                        history.operations[*add].invoked.index > super::end(&history.operations[*at])
                    })
            });
            if let Some((register, value)) = strange {
                let said = told(&history.operations[*at]);
                findings.wrong(
                    format!("Nobody had written {value} to {register}{}, which {said} shows.", of_key(key)),
                    vec![*at],
                );
            }
        }
        forks(history, key, &reads, &writes, &mut findings);
    }
    if count == 0 {
        findings.doubts.push("Nothing was read.".into());
    }
    findings.figure("reads", count);
    findings.fine = format!("{} agree on an order of the writes.", words::count(count, "read"));
    Ok(findings)
}

fn forks(
    history: &Run<'_>,
    key: Option<&Value>,
    reads: &[(usize, Vec<(&Value, &Value)>)],
    writes: &HashMap<&Value, (usize, &Value)>,
    findings: &mut Findings,
) {
    // A group, as its keys, and the reads of it with what they saw.
    let mut groups: BTreeMap<Vec<&Value>, Vec<(Vec<&Value>, usize)>> = BTreeMap::new();
    for (at, read) in reads {
        let keys = read.iter().map(|(key, _)| *key).collect();
        let seen = read.iter().filter(|(_, value)| **value != Value::Nil).map(|(key, _)| *key).collect();
        groups.entry(keys).or_default().push((seen, *at));
    }
    let mut owner: HashMap<&Value, usize> = HashMap::new();
    for (number, keys) in groups.keys().enumerate() {
        if let Some(shared) = keys.iter().find(|key| owner.insert(key, number).is_some_and(|other| other != number)) {
            findings.doubts.push(format!("Reads of different groups of keys share {shared}{}.", of_key(key)));
            break;
        }
    }
    for reads in groups.values_mut() {
        // Of a chain, each contains the one before it.
        reads.sort_by_key(|(seen, at)| (seen.len(), *at));
        for pair in reads.windows(2) {
            let ((few, first), (many, second)) = (&pair[0], &pair[1]);
            let Some(only) = few.iter().find(|key| many.binary_search(key).is_err()) else { continue };
            let Some(other) = many.iter().find(|key| few.binary_search(key).is_err()) else { continue };
            let (a, b) = (told(&history.operations[*first]), told(&history.operations[*second]));
            let lines = vec![format!("{a} saw {only} and not {other}"), format!("{b} saw {other} and not {only}")];
            let adds = [only, other].into_iter().filter_map(|key| Some(writes.get(*key)?.0));
            let core = [*first, *second].into_iter().chain(adds).collect();
            findings.wrong_because(
                format!("A long fork{}: two reads saw {only} and {other} in opposite orders.", of_key(key)),
                lines,
                core,
            );
        }
    }
}

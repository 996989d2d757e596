//! Comments: who sees an answer must see what was there before it was asked.
//!
//! Jepsen's `jepsen.cockroach.comments`: ids are written blindly, each once, and reads give all
//! ids. Let `w` be the write in a read that was invoked last: every write that succeeded before `w`
//! was invoked must be in that read too. Serializability alone allows this anomaly, strict
//! serializability does not. Ids that nobody wrote are violations as well. O(n log n) in the ids
//! read.

use std::collections::{HashMap, HashSet};

use duress_history::Outcome;
use duress_history::formats::{Function, Value};

use super::{Findings, Judgement, Unfit, by_key, end, of_key, some, told};
use crate::words;
use crate::{Run, Settings};

pub(in super::super) const COMMENTS: Judgement = Judgement {
    name: "comments",
    about: "who sees a write sees all that were over before it began: write id, read -> all ids",
    judge,
};

fn judge(history: &Run<'_>, _: &Settings) -> Result<Findings, Unfit> {
    let mut findings = Findings::default();
    let mut count = 0;
    for (key, operations) in by_key(history) {
        let mut writes: HashMap<&Value, usize> = HashMap::new();
        let mut reads = Vec::new();
        for at in operations {
            let operation = &history.operations[at];
            match (&operation.op.f, operation.outcome) {
                (Function::Write | Function::Add, Outcome::Fail) | (Function::Read, Outcome::Fail | Outcome::Info) => {}
                (Function::Write | Function::Add, _) => {
                    if writes.insert(&operation.op.value, at).is_some() {
                        return Err(Unfit::new(operation, format!("{} is written a second time", operation.op.value)));
                    }
                }
                (Function::Read, Outcome::Ok) => match operation.result.as_ref().map(|r| (r, r.as_elements())) {
                    Some((_, Some(elements))) => reads.push((at, elements)),
                    None | Some((Value::Nil, _)) => {}
                    Some((other, _)) => return Err(Unfit::new(operation, format!("it read {other}, no collection"))),
                },
                _ => return Err(Unfit::function(operation, "write and read")),
            }
        }
        // Writes that succeeded, in the order in which they did.
        let mut over: Vec<(u64, &Value)> = writes
            .iter()
            .filter(|(_, at)| history.operations[**at].outcome == Outcome::Ok)
            .map(|(id, at)| (end(&history.operations[*at]), *id))
            .collect();
        over.sort_unstable();
        count += reads.len();
        for (at, elements) in reads {
            let operation = &history.operations[at];
            let invoked = |id: &Value| {
                let add = &history.operations[*writes.get(id)?];
                (add.invoked.index < end(operation)).then_some(add.invoked.index)
            };
            let strange: Vec<&Value> = elements.iter().filter(|id| invoked(id).is_none()).collect();
            if !strange.is_empty() {
                let (ids, said) = (some(&strange), told(operation));
                findings.wrong(format!("Nobody had written {ids}{}, which {said} shows.", of_key(key)), vec![at]);
            }
            let Some((place, last)) = elements.iter().filter_map(|id| Some((invoked(id)?, id))).max() else { continue };
            let before = &over[..over.partition_point(|(over, _)| *over < place)];
            let seen: HashSet<&Value> = elements.iter().collect();
            let missing: Vec<&Value> = before.iter().map(|(_, id)| *id).filter(|id| !seen.contains(id)).collect();
            if let Some(first) = missing.first() {
                let (early, late) = (writes[*first], writes[last]);
                let lines = vec![
                    format!("{} was over before", told(&history.operations[early])),
                    format!("{} began; yet", told(&history.operations[late])),
                    format!("{} shows {last} without {}.", told(operation), some(&missing)),
                ];
                let sentence = format!(
                    "A read{} shows {last} and not {}, which was there before it.",
                    of_key(key),
                    some(&missing)
                );
                findings.wrong_because(sentence, lines, vec![early, late, at]);
            }
        }
    }
    if count == 0 {
        findings.doubts.push("Nothing was read.".into());
    }
    findings.figure("reads", count);
    findings.fine = format!("{} show every write that came before one they show.", words::count(count, "read"));
    Ok(findings)
}

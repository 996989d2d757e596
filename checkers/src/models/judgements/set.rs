//! A set that is read at the end.
//!
//! Jepsen's `checker/set`: elements are added, each once, and the last successful read is what
//! remains of them. An element is *lost* if its add succeeded before that read was invoked and it
//! is missing; *unexpected* if nobody asked for it, or its add definitely failed, and it is there;
//! *recovered* if its add was indeterminate and it is there. Lost and unexpected elements are
//! violations; without a read nothing is known. Linear but for hashing.
//!
//! Two differences from Jepsen's: an element whose add failed is unexpected (there it counts as
//! attempted), and an add that was not over when the read began may be missing.

use std::collections::{BTreeMap, BTreeSet};

use duress_history::Outcome;
use duress_history::formats::{Function, Value};

use super::{Findings, Judgement, Unfit, by_key, end, of_key, some, told};
use crate::words;
use crate::{Run, Settings};

pub(in super::super) const SET_FINAL: Judgement = Judgement {
    name: "set-final",
    about: "Jepsen's set: what the last read shows against what was added: add x, read -> all elements",
    judge,
};

fn judge(history: &Run<'_>, _: &Settings) -> Result<Findings, Unfit> {
    let mut findings = Findings::default();
    let [mut confirmed, mut recovered, mut lost_in_all, mut unexpected_in_all] = [0; 4];
    for (key, operations) in by_key(history) {
        // element → its adds
        let mut adds: BTreeMap<&Value, Vec<usize>> = BTreeMap::new();
        let mut last = None;
        for at in operations {
            let operation = &history.operations[at];
            match operation.op.f {
                Function::Add => adds.entry(&operation.op.value).or_default().push(at),
                Function::Read if operation.outcome == Outcome::Ok => last = Some(at),
                Function::Read => {}
                _ => return Err(Unfit::function(operation, "add and read")),
            }
        }
        let Some(last) = last else {
            findings.doubts.push(format!("The set{} was never read.", of_key(key)));
            continue;
        };
        let read = &history.operations[last];
        let elements = read.result.as_ref().and_then(Value::as_elements);
        let elements = elements.ok_or_else(|| Unfit::new(read, "it is a read that gave no collection"))?;
        let present: BTreeSet<&Value> = elements.iter().collect();
        let is = |at: &&usize, outcome| history.operations[**at].outcome == outcome;
        let over = |at: &&usize| is(at, Outcome::Ok) && end(&history.operations[**at]) < read.invoked.index;
        let mut lost: Vec<(usize, &Value)> = adds
            .iter()
            .filter(|(element, _)| !present.contains(*element))
            .filter_map(|(element, adds)| Some((*adds.iter().find(over)?, *element)))
            .collect();
        lost.sort();
        let possible = |element: &Value| {
            adds.get(element).is_some_and(|adds| {
                adds.iter().any(|at| !is(&at, Outcome::Fail) && history.operations[*at].invoked.index < end(read))
            })
        };
        let mut unexpected: Vec<&Value> = present.iter().filter(|element| !possible(element)).copied().collect();
        unexpected.sort();
        confirmed += adds.values().filter(|adds| adds.iter().any(|at| is(&at, Outcome::Ok))).count();
        recovered += present
            .iter()
            .filter_map(|element| adds.get(*element))
            .filter(|adds| adds.iter().all(|at| !is(&at, Outcome::Ok)) && adds.iter().any(|at| is(&at, Outcome::Info)))
            .count();
        lost_in_all += lost.len();
        unexpected_in_all += unexpected.len();
        if let Some((first, _)) = lost.first() {
            let values: Vec<&Value> = lost.iter().map(|(_, element)| *element).collect();
            let n = words::count(lost.len(), "acknowledged element");
            let lines =
                vec![format!("lost: {}", some(&values)), format!("such as {}", told(&history.operations[*first]))];
            let core = lost.iter().map(|(at, _)| *at).take(1).chain([last]).collect();
            findings.wrong_because(
                format!("{n}{} missing from the last read, {}.", of_key(key), told(read)),
                lines,
                core,
            );
        }
        if !unexpected.is_empty() {
            let n = words::count(unexpected.len(), "element");
            let sentence = format!("The last read{}, {}, shows {n} that nobody added.", of_key(key), told(read));
            findings.wrong_because(sentence, vec![format!("unexpected: {}", some(&unexpected))], vec![last]);
        }
    }
    findings.figure("acknowledged", confirmed);
    findings.figure("recovered", recovered);
    findings.figure("lost", lost_in_all);
    findings.figure("unexpected", unexpected_in_all);
    findings.fine = format!("All of {} are in the last read.", words::count(confirmed, "acknowledged element"));
    Ok(findings)
}

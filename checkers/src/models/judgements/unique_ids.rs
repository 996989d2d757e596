//! Ids that must be given out once.
//!
//! Jepsen's `checker/unique-ids`: no two successful operations `generate` give the same id. Ids
//! that were perhaps given out are unknown and do not count. Linear but for hashing.

use std::collections::HashMap;

use duress_history::Outcome;
use duress_history::formats::{Function, Value};

use super::{Findings, Judgement, Unfit, told};
use crate::words;
use crate::{Run, Settings};

pub(in super::super) const UNIQUE_IDS: Judgement =
    Judgement { name: "unique-ids", about: "no id is given out twice: generate -> id", judge };

fn judge(history: &Run<'_>, _: &Settings) -> Result<Findings, Unfit> {
    let mut findings = Findings::default();
    let mut given: HashMap<(Option<&Value>, &Value), usize> = HashMap::new();
    let (mut acknowledged, mut duplicates) = (0, 0);
    for (at, operation) in history.operations.iter().enumerate() {
        if operation.op.f != Function::Generate {
            return Err(Unfit::function(operation, "generate"));
        }
        let (Outcome::Ok, Some(id)) = (operation.outcome, &operation.result) else { continue };
        acknowledged += 1;
        if let Some(first) = given.get(&(operation.op.key.as_ref(), id)) {
            duplicates += 1;
            let (first, again) = (*first, told(operation));
            let sentence = format!("Id {id} was given out twice: {} and {again}.", told(&history.operations[first]));
            findings.wrong(sentence, vec![first, at]);
        } else {
            given.insert((operation.op.key.as_ref(), id), at);
        }
    }
    if acknowledged == 0 {
        findings.doubts.push("No id was ever given out.".into());
    }
    findings.figure("attempted", history.operations.len());
    findings.figure("acknowledged", acknowledged);
    findings.figure("duplicates", duplicates);
    findings.fine = format!("{}, each once.", words::count(acknowledged, "id"));
    Ok(findings)
}

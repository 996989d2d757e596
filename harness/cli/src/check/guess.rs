//! Which model a history is to be judged against, by the operations that it has.

use std::collections::BTreeSet;

use duress_checkers::{Judge, models};
use duress_history::formats::{Function, Imported, Value};

/// How many results of reads are looked at.
const SAMPLE: usize = 1000;

/// What a history looks like: the names of functions, and what reads gave.
struct Look<'h> {
    functions: BTreeSet<&'h str>,
    /// Some reads gave vectors, lists or sets.
    collections: bool,
    /// Some reads gave whole numbers.
    numbers: bool,
    /// Some reads gave maps.
    maps: bool,
    /// Values are lists of micro-operations.
    micro: bool,
    /// Some micro-operation appends.
    appends: bool,
    /// Locks were granted with numbers.
    tokens: bool,
}

impl Look<'_> {
    fn at(history: &Imported) -> Look<'_> {
        let reads = || {
            let results = history.operations.iter().filter(|o| o.op.f.reads()).filter_map(|o| o.result.as_ref());
            results.filter(|result| **result != Value::Nil).take(SAMPLE)
        };
        let granted = history.operations.iter().filter(|o| o.op.f == Function::Acquire);
        let is_micro = |value: &Value| match value.as_sequence() {
            Some([]) | None => false,
            Some(items) => items.iter().all(|item| matches!(item.as_sequence(), Some([Value::Keyword(_), _, _]))),
        };
        Look {
            functions: history.operations.iter().map(|o| o.op.f.name()).collect(),
            collections: reads().any(|result| result.as_elements().is_some()),
            numbers: reads().any(|result| result.as_int().is_some()),
            maps: reads().any(|result| matches!(result, Value::Map(_))),
            micro: history.operations.iter().take(SAMPLE).any(|o| is_micro(&o.op.value)),
            appends: history.operations.iter().any(|o| {
                let items = o.op.value.as_sequence().unwrap_or_default();
                let mut parts = items.iter().filter_map(Value::as_sequence);
                parts.any(|micro| matches!(micro.first(), Some(Value::Keyword(name)) if name == "append"))
            }),
            tokens: granted.filter_map(|o| o.result.as_ref()).take(SAMPLE).any(|result| result.as_int().is_some()),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.functions.contains(name)
    }

    /// Models in the order in which they fit, and why.
    fn candidates(&self) -> (&'static [&'static str], &'static str) {
        let only = |names: &[&str]| self.functions.iter().all(|function| names.contains(function));
        match () {
            _ if self.has("txn") && self.appends => (&["list-append"], "there are transactions that append"),
            _ if self.has("txn") => (&["rw-register", "multi-register"], "there are transactions"),
            _ if self.micro && only(&["read", "write"]) => {
                (&["long-fork"], "reads and writes are lists of micro-operations")
            }
            _ if self.has("transfer") => (&["bank"], "there are transfers"),
            _ if self.has("generate") => (&["unique-ids"], "ids are generated"),
            _ if self.has("enqueue") || self.has("dequeue") => (&["queue"], "there are enqueues and dequeues"),
            _ if self.has("push") || self.has("pop") => (&["stack"], "there are pushes and pops"),
            _ if self.has("extract-min") => (&["priority-queue"], "the smallest is extracted"),
            _ if self.has("acquire") && self.tokens => (&["lock"], "locks are granted with tokens"),
            _ if self.has("acquire") || self.has("release") => (&["mutex"], "there are acquisitions and releases"),
            _ if self.has("cas") => (&["cas-register"], "there is a cas"),
            _ if self.has("append") && self.has("get") => (&["kv"], "keys are got and appended to"),
            _ if self.has("append") && self.has("read") => (&["append-log"], "a log is appended to and read"),
            _ if self.has("append") || self.has("put") => (&["kv"], "keys are put or appended to"),
            _ if self.has("increment") || self.has("decrement") => (&["counter"], "there are increments"),
            _ if self.has("remove") || self.has("contains") => (&["set"], "elements are added and removed"),
            _ if self.has("add") && self.numbers => (&["counter"], "amounts are added, and reads give numbers"),
            _ if self.has("add") && self.collections => {
                (&["set-full", "set"], "elements are added, and reads give collections")
            }
            _ if self.has("add") => (&["set"], "elements are added"),
            _ if self.has("write") && self.maps => (&["multi-register"], "reads give maps"),
            _ if self.has("write") && self.collections && !self.numbers => {
                (&["comments"], "values are written, and reads give collections")
            }
            _ if only(&["read", "write", "get"]) => (&["register"], "there are only reads and writes"),
            _ => (&[], ""),
        }
    }
}

/// The model that fits best and why, or what the user has to choose from.
pub(super) fn models(history: &Imported) -> Result<(Vec<&'static dyn Judge>, String), String> {
    let look = Look::at(history);
    let (names, why) = look.candidates();
    match names.iter().find_map(|name| models::named(name)) {
        Some(model) => Ok((vec![model], why.to_string())),
        None => {
            let functions: Vec<&str> = look.functions.iter().copied().take(10).collect();
            let names: Vec<&str> = models::ALL.iter().map(|model| model.name()).collect();
            Err(format!(
                "no model is known for operations such as {}; choose one by --model: {}",
                functions.join(", "),
                names.join(", ")
            ))
        }
    }
}

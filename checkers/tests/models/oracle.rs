//! The ultimate oracle: what each model means, written down once more on the values of histories,
//! and a search that tries every order.

use std::collections::{BTreeMap, HashSet};

use duress_history::Outcome;
use duress_history::formats::{Failed, Function, Imported, NilRead, Operation, Value};

/// The state of any object.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct State {
    pub(crate) cells: BTreeMap<Value, Value>,
    pub(crate) list: Vec<Value>,
    pub(crate) number: i64,
    pub(crate) text: String,
    pub(crate) holder: Option<u64>,
}

fn nil_if_none(value: Option<Value>) -> Value {
    value.unwrap_or(Value::Nil)
}

/// Lets an operation take effect. What it returns, or nothing if it can't be done.
pub(crate) fn answer(
    model: &str,
    state: &mut State,
    process: u64,
    function: &Function,
    argument: &Value,
) -> Option<Value> {
    let name = function.name();
    Some(match (model, name) {
        ("register" | "cas-register", "read") => nil_if_none(state.cells.get(&Value::Nil).cloned()),
        ("register" | "cas-register", "write") => {
            state.cells.insert(Value::Nil, argument.clone());
            argument.clone()
        }
        ("cas-register", "cas") => {
            let [from, to] = argument.as_sequence()? else { return None };
            if nil_if_none(state.cells.get(&Value::Nil).cloned()) != *from {
                return None;
            }
            state.cells.insert(Value::Nil, to.clone());
            argument.clone()
        }
        ("multi-register", "txn") => {
            let mut steps = Vec::new();
            for step in argument.as_sequence()? {
                let [what, register, value] = step.as_sequence()? else { return None };
                let value = if *what == Value::Keyword("r".into()) {
                    nil_if_none(state.cells.get(register).cloned())
                } else {
                    state.cells.insert(register.clone(), value.clone());
                    value.clone()
                };
                steps.push(Value::Vector(vec![what.clone(), register.clone(), value]));
            }
            Value::Vector(steps)
        }
        ("mutex", "acquire") if state.holder.is_none() => {
            state.holder = Some(0);
            Value::Nil
        }
        ("mutex", "release") => {
            state.holder.take()?;
            Value::Nil
        }
        ("owned-mutex" | "lock", "acquire") if state.holder.is_none() => {
            state.holder = Some(process);
            state.number += 1;
            Value::Int(state.number)
        }
        ("owned-mutex" | "lock", "release") if state.holder == Some(process) => {
            state.holder = None;
            Value::Nil
        }
        ("reentrant-mutex", "acquire") if state.holder.is_none_or(|holder| holder == process) => {
            state.holder = Some(process);
            state.number += 1;
            Value::Nil
        }
        ("reentrant-mutex", "release") if state.holder == Some(process) => {
            state.number -= 1;
            state.holder = state.holder.filter(|_| state.number > 0);
            Value::Nil
        }
        ("counter", "add") => {
            state.number += argument.as_int()?;
            argument.clone()
        }
        ("counter", "read") => Value::Int(state.number),
        ("set", "add") => Value::Bool(state.cells.insert(argument.clone(), Value::Nil).is_none()),
        ("set", "remove") => Value::Bool(state.cells.remove(argument).is_some()),
        ("set", "contains") => Value::Bool(state.cells.contains_key(argument)),
        ("set", "read") => Value::Set(state.cells.keys().cloned().collect()),
        ("queue", "enqueue") | ("stack", "push") | ("append-log", "append") => {
            state.list.push(argument.clone());
            match model {
                "append-log" => Value::Vector(vec![Value::Int(state.list.len() as i64 - 1), argument.clone()]),
                _ => argument.clone(),
            }
        }
        ("priority-queue", "insert") => {
            state.list.push(argument.clone());
            state.list.sort();
            argument.clone()
        }
        ("queue", "dequeue") | ("priority-queue", "extract-min") => {
            if state.list.is_empty() {
                Value::Nil
            } else {
                state.list.remove(0)
            }
        }
        ("stack", "pop") => nil_if_none(state.list.pop()),
        ("append-log", "read") => Value::Vector(state.list.clone()),
        ("append-log", "get") => nil_if_none(state.list.get(usize::try_from(argument.as_int()?).ok()?).cloned()),
        ("kv", "get") => Value::Text(state.text.as_str().into()),
        ("kv", "put") => {
            let Value::Text(text) = argument else { return None };
            state.text = text.to_string();
            argument.clone()
        }
        ("kv", "append") => {
            let Value::Text(text) = argument else { return None };
            state.text.push_str(text);
            argument.clone()
        }
        _ => return None,
    })
}

/// The state after an operation that returned this, or of which nobody knows what it returned.
/// Nothing if that can't be.
pub(crate) fn step(
    model: &str,
    conventions_unknown: bool,
    state: &State,
    operation: &Operation,
    result: Option<&Value>,
) -> Option<State> {
    let mut after = state.clone();
    let name = operation.op.f.name();
    // A grant's token is any higher one.
    if let ("lock", "acquire", Some(token)) = (model, name, result) {
        let token = token.as_int()?;
        answer(model, &mut after, operation.process.0, &operation.op.f, &operation.op.value)?;
        after.number = token;
        return (token > state.number).then_some(after);
    }
    let is = answer(model, &mut after, operation.process.0, &operation.op.f, &operation.op.value)?;
    let Some(said) = result else { return Some(after) };
    let fits = match (model, name) {
        // Their results don't count.
        (_, "write" | "put" | "enqueue" | "push" | "insert" | "acquire" | "release" | "cas") => true,
        ("counter", "add") | ("kv", "append") => true,
        // These may or may not say more.
        ("set", "add" | "remove") if !matches!(said, Value::Bool(_)) => true,
        ("append-log", "append") if said.as_sequence().is_none() => true,
        ("multi-register", _) => {
            let nil = |step: &Value| step.as_sequence().is_some_and(|step| step[2] == Value::Nil);
            let (is, said) = (is.as_sequence()?, said.as_sequence()?);
            is.iter().zip(said).all(|(is, said)| is == said || (conventions_unknown && nil(said)))
        }
        _ => is == *said,
    };
    fits.then_some(after)
}

/// One operation that may have to be ordered.
struct Candidate<'h> {
    operation: &'h Operation,
    /// `None`: it need not have happened.
    end: Option<u64>,
    /// It asserts that the register did not hold its `from`.
    asserts: bool,
}

/// Whether all operations of a history on one key have an order. Tries every one; remembers only
/// dead ends.
pub(crate) fn is_linearizable(model: &str, history: &Imported, key: &Option<Value>) -> bool {
    let unknown = history.conventions.nil_read == NilRead::Unknown;
    let mut candidates = Vec::new();
    for operation in history.operations.iter().filter(|o| o.op.key == *key) {
        let end = operation.completed.map(|end| end.index);
        let silent = unknown && operation.op.f.reads() && operation.result == Some(Value::Nil);
        match operation.outcome {
            Outcome::Ok if !silent => candidates.push(Candidate { operation, end, asserts: false }),
            Outcome::Info => candidates.push(Candidate { operation, end: None, asserts: false }),
            Outcome::Fail
                if operation.op.f == Function::Cas
                    && operation.error.is_none()
                    && history.conventions.failed == Failed::Assert =>
            {
                candidates.push(Candidate { operation, end, asserts: true });
            }
            _ => {}
        }
    }
    assert!(candidates.len() <= 32, "too many for the naive search");
    let mut dead = HashSet::new();
    let start = State { number: if model == "lock" { i64::MIN / 2 } else { 0 }, ..State::default() };
    let left = (1u64 << candidates.len()) - 1;
    order(model, unknown, &candidates, left as u32, &start, &mut dead)
}

fn order(
    model: &str,
    unknown: bool,
    candidates: &[Candidate<'_>],
    left: u32,
    state: &State,
    dead: &mut HashSet<(u32, State)>,
) -> bool {
    let remaining = || candidates.iter().enumerate().filter(move |(at, _)| left & (1 << at) != 0);
    let Some(first_return) = remaining().filter_map(|(_, c)| c.end).min() else { return true };
    if !dead.insert((left, state.clone())) {
        return false;
    }
    remaining().filter(|(_, c)| c.operation.invoked.index < first_return).any(|(at, c)| {
        let result = c.operation.result.as_ref().filter(|_| c.end.is_some());
        let after = if c.asserts {
            step(model, unknown, state, c.operation, None).is_none().then(|| state.clone())
        } else if c.end.is_some() {
            step(model, unknown, state, c.operation, Some(result.unwrap_or(&Value::Nil)))
        } else {
            step(model, unknown, state, c.operation, None)
        };
        after.is_some_and(|after| order(model, unknown, candidates, left & !(1 << at), &after, dead))
    })
}

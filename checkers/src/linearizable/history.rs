//! A run's operations, key by key, as entries of the search.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use duress_history::{Known, Value};

use crate::Run;
use crate::register::{Register, RegisterOp, RegisterRet};
use crate::wgl::Entry;

/// A value, as its place in [`KeyHistory::values`]: the search compares and hashes it all the time.
pub(super) type Symbol = u32;

pub(super) type KeyEntry = Entry<RegisterOp<Symbol>, RegisterRet<Symbol>>;

/// What happened to one register.
pub(super) struct KeyHistory<'r> {
    pub(super) key: Key<'r>,
    /// What can be part of an order. Left out: what certainly didn't happen, indeterminate reads,
    /// and indeterminate writes that nobody can have seen.
    pub(super) entries: Vec<KeyEntry>,
    /// Each entry's place among the run's operations.
    pub(super) operations: Vec<usize>,
    /// All operations on this key, among the run's operations.
    pub(super) all: Vec<usize>,
    pub(super) values: Vec<Value>,
    pub(super) initial: Symbol,
    /// How many indeterminate writes and cas there were.
    pub(super) indeterminate: usize,
}

impl KeyHistory<'_> {
    /// How many entries returned.
    pub(super) fn completed(&self) -> usize {
        self.entries.iter().filter(|entry| entry.returned.is_some()).count()
    }
}

/// A register's name: nothing where a history has only one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key<'r>(pub(super) Option<&'r Value>);

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("the register"),
            Some(Value::Text(name)) => f.write_str(name),
            Some(key) => key.fmt(f),
        }
    }
}

/// What a run says of registers.
pub(super) struct Registers<'r> {
    /// In the order of their names.
    pub(super) keys: Vec<KeyHistory<'r>>,
    /// How many operations had results that don't fit what was asked (they are left out).
    pub(super) strange: usize,
    /// Operations that are none of a register's (they are left out): how many, and the first.
    pub(super) unfit: (usize, Option<usize>),
}

pub(super) fn by_key<'r>(run: &'r Run<'_>, model: &Register) -> Registers<'r> {
    let mut keys: BTreeMap<Key<'r>, Vec<usize>> = BTreeMap::new();
    let mut unfit = (0, None);
    for (at, operation) in run.operations.iter().enumerate() {
        if RegisterOp::of(&operation.op).is_some() {
            keys.entry(Key(operation.op.key.as_ref())).or_default().push(at);
        } else {
            unfit = (unfit.0 + 1, unfit.1.or(Some(at)));
        }
    }
    let mut strange = 0;
    let keys = keys.into_iter().map(|(key, all)| history(run, model, key, all, &mut strange)).collect();
    Registers { keys, strange, unfit }
}

fn history<'r>(
    run: &'r Run<'_>,
    model: &Register,
    key: Key<'r>,
    all: Vec<usize>,
    strange: &mut usize,
) -> KeyHistory<'r> {
    let mut symbols = Symbols::default();
    let initial = symbols.of(&model.0);
    let mut entries: Vec<KeyEntry> = Vec::new();
    let mut operations = Vec::new();
    let mut indeterminate = 0;
    for &at in &all {
        let operation = &run.operations[at];
        let op = match RegisterOp::of(&operation.op) {
            Some(RegisterOp::Read) => RegisterOp::Read,
            Some(RegisterOp::Write(value)) => RegisterOp::Write(symbols.of(value)),
            Some(RegisterOp::Cas { from, to }) => RegisterOp::Cas { from: symbols.of(from), to: symbols.of(to) },
            None => continue,
        };
        let ret = match (operation.known(run.conventions), &op) {
            // A failed cas may have failed for any reason (a timeout on the way, say), so it doesn't
            // prove that the register held something else, unless the history's convention says so.
            (Known::NotHeld(_), RegisterOp::Cas { .. }) => Some(RegisterRet::Mismatch),
            (Known::Nothing | Known::NotHeld(_), _) | (Known::Maybe, RegisterOp::Read) => continue,
            (Known::Maybe, _) => {
                indeterminate += 1;
                None
            }
            (Known::Happened(value), RegisterOp::Read) => Some(RegisterRet::Value(symbols.of(value))),
            (Known::Happened(value), _) if *value == operation.op.value || *value == Value::Bool(true) => {
                Some(RegisterRet::Done)
            }
            (Known::Happened(_), _) => {
                *strange += 1;
                continue;
            }
        };
        let span = run.spans[at];
        let returned = ret.and_then(|ret| Some((span.completed? as u64, ret)));
        let passive = op == RegisterOp::Read || matches!(returned, Some((_, RegisterRet::Mismatch)));
        entries.push(Entry { op, invoked: span.invoked as u64, returned, passive });
        operations.push(at);
    }
    let keep = observable(&entries);
    let mut kept = keep.iter();
    operations.retain(|_| *kept.next().unwrap_or(&true));
    let mut kept = keep.iter();
    entries.retain(|_| *kept.next().unwrap_or(&true));
    KeyHistory { key, entries, operations, all, values: symbols.values, initial, indeterminate }
}

#[derive(Default)]
struct Symbols {
    known: BTreeMap<Value, Symbol>,
    values: Vec<Value>,
}

impl Symbols {
    fn of(&mut self, value: &Value) -> Symbol {
        if let Some(symbol) = self.known.get(value) {
            return *symbol;
        }
        let symbol = self.values.len() as Symbol;
        self.known.insert(value.clone(), symbol);
        self.values.push(value.clone());
        symbol
    }
}

/// What an operation shows of the register's value when it took effect.
pub(super) fn observes(entry: &KeyEntry) -> Option<Symbol> {
    match (&entry.op, &entry.returned) {
        (RegisterOp::Read, Some((_, RegisterRet::Value(value)))) => Some(*value),
        (RegisterOp::Cas { from, .. }, _) => Some(*from),
        _ => None,
    }
}

/// What an operation sets the register to, if it takes effect.
pub(super) fn sets(entry: &KeyEntry) -> Option<Symbol> {
    match &entry.op {
        RegisterOp::Write(value) => Some(*value),
        RegisterOp::Cas { to, .. } => Some(*to),
        RegisterOp::Read => None,
    }
}

/// Which entries have to be kept. An indeterminate write or cas of a value that no kept operation
/// observes can be left out: take it away from any linearization, and the operations between it
/// and the next change of the register still have their results, since none of them observed it.
/// (And a history without it is linearizable only if the one with it is: it may never happen.)
fn observable(entries: &[KeyEntry]) -> Vec<bool> {
    let mut keep: Vec<bool> = entries.iter().map(|entry| entry.returned.is_some()).collect();
    let mut by_value: BTreeMap<Symbol, Vec<usize>> = BTreeMap::new();
    for (i, entry) in entries.iter().enumerate() {
        if let (None, Some(value)) = (&entry.returned, sets(entry)) {
            by_value.entry(value).or_default().push(i);
        }
    }
    let mut observed: BTreeSet<Symbol> = BTreeSet::new();
    let mut news: Vec<Symbol> = entries.iter().filter(|entry| entry.returned.is_some()).filter_map(observes).collect();
    while let Some(value) = news.pop() {
        if !observed.insert(value) {
            continue;
        }
        for i in by_value.remove(&value).unwrap_or_default() {
            keep[i] = true;
            // An indeterminate cas that is kept may need the value that it starts from.
            news.extend(observes(&entries[i]));
        }
    }
    keep
}

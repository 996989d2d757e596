//! Operations that surely followed each other, and what they prove. Looks at the finished history
//! only, and shares nothing with the checkers.

use std::collections::BTreeMap;

use duress_history::Outcome;
use duress_history::formats::{Function, Imported, Operation, Value};

/// The operations on one object.
pub(super) struct Ops<'h> {
    history: &'h Imported,
    /// Their indices, ascending.
    at: Vec<usize>,
}

impl<'h> Ops<'h> {
    /// Those on the object of one operation.
    pub(super) fn of(history: &'h Imported, operation: usize) -> Ops<'h> {
        let key = &history.operations[operation].op.key;
        let at = (0..history.operations.len()).filter(|at| history.operations[*at].op.key == *key).collect();
        Ops { history, at }
    }

    pub(super) fn get(&self, at: usize) -> &'h Operation {
        &self.history.operations[at]
    }

    /// All, and those that succeeded.
    pub(super) fn all(&self) -> impl Iterator<Item = &'h Operation> + use<'_, 'h> {
        self.at.iter().map(|at| &self.history.operations[*at])
    }

    pub(super) fn ok(&self) -> impl Iterator<Item = &'h Operation> + use<'_, 'h> {
        self.all().filter(|op| op.outcome == Outcome::Ok)
    }

    /// Those that may have taken effect.
    pub(super) fn possible(&self) -> impl Iterator<Item = &'h Operation> + use<'_, 'h> {
        self.all().filter(|op| op.outcome != Outcome::Fail)
    }
}

/// When it surely had taken effect; never if nobody knows that it did.
pub(super) fn end(op: &Operation) -> u64 {
    op.completed.filter(|_| op.outcome == Outcome::Ok).map_or(u64::MAX, |end| end.index)
}

/// One surely took effect before the other.
pub(super) fn precedes(a: &Operation, b: &Operation) -> bool {
    end(a) < b.invoked.index
}

fn is(op: &Operation, names: &[&str]) -> bool {
    names.contains(&op.op.f.name())
}

/// The value that an operation took or saw.
fn result(op: &Operation) -> Option<&Value> {
    op.result.as_ref().filter(|_| op.outcome == Outcome::Ok)
}

type Cells = Vec<(Value, Value)>;

/// Registers whose values are written once: a read of one that had surely been overwritten, or of
/// some but not all that one operation wrote.
pub(super) fn overwritten(ops: &Ops<'_>, planted: usize, parts: fn(&Operation) -> (Cells, Cells)) -> bool {
    let planted = ops.get(planted);
    let mut writers: BTreeMap<(Value, Value), &Operation> = BTreeMap::new();
    let split: Vec<(&Operation, Cells, Cells)> = ops
        .possible()
        .map(|op| {
            let (read, written) = parts(op);
            (op, read, written)
        })
        .collect();
    for (op, _, written) in &split {
        for cell in written {
            if writers.insert(cell.clone(), op).is_some() {
                return false;
            }
        }
    }
    let reads = split.iter().filter(|(op, read, _)| end(op) != u64::MAX && !read.is_empty());
    for (reader, read, _) in reads {
        for (newer, _, written) in &split {
            if !(std::ptr::eq(*reader, planted) || std::ptr::eq(*newer, planted)) || std::ptr::eq(*reader, *newer) {
                continue;
            }
            let seen_half = read.iter().any(|cell| written.contains(cell));
            for (register, value) in read {
                let other = written.iter().any(|(r, v)| r == register && v != value);
                let Some(writer) = writers.get(&(register.clone(), value.clone())) else { continue };
                if other && precedes(writer, newer) && (precedes(newer, reader) || seen_half) {
                    return true;
                }
            }
        }
    }
    false
}

/// What an operation on one register saw and set.
pub(super) fn register(op: &Operation) -> (Cells, Cells) {
    let cell = |value: &Value| vec![(Value::Nil, value.clone())];
    match (&op.op.f, op.op.value.as_sequence()) {
        (Function::Read, _) => (result(op).filter(|v| **v != Value::Nil).map(cell).unwrap_or_default(), Vec::new()),
        (Function::Cas, Some([from, to])) => (cell(from), cell(to)),
        _ => (Vec::new(), cell(&op.op.value)),
    }
}

/// What a transaction on several registers saw and set.
pub(super) fn transaction(op: &Operation) -> (Cells, Cells) {
    let (mut read, mut written) = (Vec::new(), Vec::new());
    let steps = result(op).unwrap_or(&op.op.value).as_sequence().unwrap_or_default();
    for step in steps {
        match step.as_sequence() {
            Some([Value::Keyword(what), _, Value::Nil]) if what == "r" => {}
            Some([Value::Keyword(what), register, value]) if what == "r" => {
                read.push((register.clone(), value.clone()))
            }
            Some([_, register, value]) => written.push((register.clone(), value.clone())),
            _ => {}
        }
    }
    (read, written)
}

/// A lock granted while surely held by another, or by as many as there are.
pub(super) fn held(ops: &Ops<'_>, planted: usize, owned: bool) -> bool {
    let grant = ops.get(planted);
    let (from, to) = (grant.invoked.index, end(grant));
    let mut holds: BTreeMap<u64, i64> = BTreeMap::new();
    for op in ops.possible() {
        let owner = if owned { op.process.0 } else { 0 };
        let surely = if owned { end(op) < from } else { end(op) <= to };
        if owned && op.process == grant.process {
            continue;
        }
        match op.op.f {
            Function::Acquire if surely => *holds.entry(owner).or_default() += 1,
            Function::Release if op.invoked.index < to => *holds.entry(owner).or_default() -= 1,
            _ => {}
        }
    }
    holds.values().any(|holds| *holds > i64::from(!owned))
}

/// A release by somebody who can't have held the lock.
pub(super) fn not_held(ops: &Ops<'_>, planted: usize) -> bool {
    let release = ops.get(planted);
    let before = |op: &&Operation| op.process == release.process && op.invoked.index <= release.invoked.index;
    let acquired = ops.possible().filter(before).filter(|op| op.op.f == Function::Acquire).count();
    ops.ok().filter(before).filter(|op| op.op.f == Function::Release).count() > acquired
}

/// A token that is not above that of a grant that surely came before, or is that of another.
pub(super) fn old_token(ops: &Ops<'_>, planted: usize) -> bool {
    let grant = ops.get(planted);
    let token = |op: &Operation| result(op).and_then(Value::as_int);
    let others = ops.ok().filter(|op| op.op.f == Function::Acquire && !std::ptr::eq(*op, grant));
    let mut others = others.filter(|op| token(op) >= token(grant));
    others.any(|op| precedes(op, grant) || token(op) == token(grant))
}

/// A count that is not between what had surely and what can possibly have been added.
pub(super) fn miscounted(ops: &Ops<'_>) -> bool {
    let amount = |op: &Operation| op.op.value.as_int().unwrap_or_default();
    let adds = || ops.possible().filter(|op| op.op.f == Function::Add);
    ops.ok().filter(|op| op.op.f == Function::Read).any(|read| {
        let Some(count) = result(read).and_then(Value::as_int) else { return false };
        let (mut least, mut most) = (0, 0);
        for add in adds().filter(|add| add.invoked.index < end(read)) {
            let (amount, surely) = (amount(add), precedes(add, read));
            least += if surely { amount } else { amount.min(0) };
            most += if surely { amount } else { amount.max(0) };
        }
        !(least..=most).contains(&count)
    })
}

/// An element of a set that was surely there was not seen, or the other way round.
pub(super) fn wrong_element(ops: &Ops<'_>, planted: usize) -> bool {
    let planted = ops.get(planted);
    let sees = |look: &Operation, element: &Value| match (result(look), &look.op.f) {
        (Some(Value::Bool(holds)), _) => (look.op.value == *element).then_some(*holds),
        (Some(all), Function::Read) => all.as_elements().map(|all| all.contains(element)),
        _ => None,
    };
    let adds = |op: &&Operation| op.op.f == Function::Add;
    let removes = |op: &&Operation| is(op, &["remove"]);
    let looks = ops.ok().filter(|op| !adds(op) && !removes(op));
    for look in looks {
        for change in ops.ok().filter(|op| adds(op) || removes(op)) {
            if !(std::ptr::eq(look, planted) || std::ptr::eq(change, planted)) || !precedes(change, look) {
                continue;
            }
            let there = adds(&change);
            if sees(look, &change.op.value) != Some(!there) {
                continue;
            }
            let mut others = ops.possible().filter(|op| if there { removes(op) } else { adds(op) });
            let undone = others.any(|op| {
                op.op.value == change.op.value && end(op) > change.invoked.index && op.invoked.index < end(look)
            });
            if !undone {
                return true;
            }
        }
    }
    false
}

/// Which of two elements that are both inside is taken first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    Earlier,
    Later,
    Smaller,
}

/// Elements of a container that came out wrongly: twice, too early, or never although others
/// behind them did.
pub(super) fn misplaced(ops: &Ops<'_>, planted: usize, first: First) -> bool {
    let planted = ops.get(planted);
    let inserts = |op: &Operation| is(op, &["enqueue", "push", "insert"]);
    let mut removals: BTreeMap<&Value, &Operation> = BTreeMap::new();
    let mut insertions: BTreeMap<&Value, &Operation> = BTreeMap::new();
    let mut perhaps_taken = false;
    for op in ops.possible() {
        if inserts(op) {
            if insertions.insert(&op.op.value, op).is_some() {
                return false;
            }
        } else if let Some(value) = result(op) {
            if *value != Value::Nil && removals.insert(value, op).is_some() {
                // Taken twice.
                return true;
            }
        } else {
            perhaps_taken = true;
        }
    }
    // Surely inside until after an operation.
    let stays = |value: &Value, op: &Operation| match removals.get(value) {
        Some(removal) => precedes(op, removal),
        None => !perhaps_taken,
    };
    let wrong = |kept: &Operation, taken: &Operation| {
        let value = result(taken).filter(|value| **value != kept.op.value);
        if !value.is_some_and(|_| stays(&kept.op.value, taken)) {
            return false;
        }
        let Some(value) = value.filter(|value| **value != Value::Nil) else { return precedes(kept, taken) };
        let Some(inserted) = insertions.get(value) else { return false };
        match first {
            First::Earlier => precedes(kept, inserted),
            First::Later => precedes(inserted, kept) && precedes(kept, taken),
            First::Smaller => kept.op.value.as_int() < value.as_int() && precedes(kept, taken),
        }
    };
    if inserts(planted) {
        return removals
            .values()
            .copied()
            .chain(ops.ok().filter(|op| result(op) == Some(&Value::Nil)))
            .any(|taken| wrong(planted, taken));
    }
    insertions.values().any(|kept| wrong(kept, planted))
}

/// An element that was surely in a log and was not read, or read in another place than elsewhere.
pub(super) fn unlogged(ops: &Ops<'_>, planted: usize) -> bool {
    let planted = ops.get(planted);
    let appends: Vec<&Operation> = ops.ok().filter(|op| op.op.f == Function::Append).collect();
    let offset = |op: &Operation| match result(op).and_then(Value::as_sequence) {
        Some([offset, _]) => offset.as_int(),
        _ => None,
    };
    if planted.op.f == Function::Append {
        let same = |op: &&Operation| !std::ptr::eq(*op, planted) && offset(op) == offset(planted);
        if offset(planted).is_some() && appends.iter().any(same) {
            return true;
        }
    }
    let place = |read: &[Value], value: &Value| read.iter().position(|element| element == value);
    let reads = || ops.ok().filter(|op| op.op.f == Function::Read);
    reads().any(|read| {
        let Some(elements) = result(read).and_then(Value::as_sequence) else { return false };
        let relevant = |append: &Operation| std::ptr::eq(read, planted) || std::ptr::eq(append, planted);
        let unread = appends.iter().any(|a| relevant(a) && precedes(a, read) && place(elements, &a.op.value).is_none());
        let swapped = std::ptr::eq(read, planted)
            && appends.iter().any(|a| {
                let Some(at) = place(elements, &a.op.value) else { return false };
                offset(a).is_some_and(|offset| offset != at as i64)
            });
        unread || swapped
    })
}

/// A text that lacks what had surely been appended to it.
pub(super) fn unread_append(ops: &Ops<'_>, planted: usize) -> bool {
    let planted = ops.get(planted);
    let gets = ops.ok().filter(|op| op.op.f == Function::Get);
    let contains = |get: &Operation, append: &Operation| match (result(get), &append.op.value) {
        (Some(Value::Text(text)), Value::Text(part)) => text.contains(part.as_str()),
        _ => true,
    };
    let mut pairs = gets.flat_map(|get| ops.ok().map(move |append| (get, append)));
    pairs.any(|(get, append)| {
        let relevant = std::ptr::eq(get, planted) || std::ptr::eq(append, planted);
        let lost = relevant && append.op.f == Function::Append && precedes(append, get) && !contains(get, append);
        let mut puts = ops.possible().filter(|op| op.op.f == Function::Put);
        lost && !puts.any(|put| end(put) > append.invoked.index && put.invoked.index < end(get))
    })
}

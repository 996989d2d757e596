//! Key-value stores whose texts are read, set and appended to.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};

use duress_history::formats::{Function, Known, Operation, Value};
use smol_str::SmolStr;
use stateright::semantics::SequentialSpec;

use super::object::{Call, Entries, Object};
use super::values::Values;
use super::{cannot, forward};
use crate::budget::Deadline;
use crate::wgl::{Entry, Outcome};

/// One key's text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Text(pub String);

/// What can be asked of a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KvOp {
    /// Its text.
    Get,
    /// To have this text.
    Put(SmolStr),
    /// To have this at the end of its text.
    Append(SmolStr),
}

/// What a key answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KvRet {
    /// It is done.
    Done,
    /// Its text.
    Text(SmolStr),
}

impl SequentialSpec for Text {
    type Op = KvOp;
    type Ret = KvRet;

    fn invoke(&mut self, op: &KvOp) -> KvRet {
        match op {
            KvOp::Get => return KvRet::Text(self.0.as_str().into()),
            KvOp::Put(text) => self.0 = text.to_string(),
            KvOp::Append(text) => self.0.push_str(text),
        }
        KvRet::Done
    }
}

/// Key-value stores; every key's text is empty at first.
pub(crate) struct KeyValue;

impl Object for KeyValue {
    type Spec = Text;

    fn name(&self) -> &'static str {
        "kv"
    }

    fn about(&self) -> &'static str {
        "key-value stores of texts: get k -> text, put k text, append k text; a missing key reads \"\""
    }

    fn initial(&self) -> Text {
        Text::default()
    }

    fn calls(
        &self,
        operation: &Operation,
        known: Known<'_>,
        _: &mut Values,
        calls: &mut Vec<Call<Text>>,
    ) -> Result<(), String> {
        let text = |value: &Value| match value {
            Value::Text(text) => Ok(text.clone()),
            Value::Nil => Ok(SmolStr::default()),
            other => Err(format!("{other} is no text")),
        };
        let done = matches!(known, Known::Happened(_)).then_some(KvRet::Done);
        calls.push(match (&operation.op.f, known) {
            (Function::Get | Function::Read, Known::Happened(read)) => Call::look(KvOp::Get, KvRet::Text(text(read)?)),
            (Function::Get | Function::Read, _) => return Ok(()),
            (Function::Put | Function::Write, _) => Call::new(KvOp::Put(text(&operation.op.value)?), done),
            (Function::Append, _) => Call::new(KvOp::Append(text(&operation.op.value)?), done),
            _ => return cannot(operation, "get, put and append"),
        });
        Ok(())
    }

    /// What returned before a put was invoked is of no account after it: only gets that may come
    /// before the put could tell, and they are left out too.
    fn cuts(&self, entries: &Entries<Text>, calls: &[usize]) -> Vec<Vec<usize>> {
        let end = |at: usize| entries[at].returned.as_ref().map(|(end, _)| *end);
        let puts = calls.iter().rev().filter(|at| matches!(entries[**at].op, KvOp::Put(_)));
        let cut = |put: &usize| {
            let (from, to) = (entries[*put].invoked, end(*put)?);
            let after = |at: &usize| match entries[*at].op {
                KvOp::Get => entries[*at].invoked > to,
                _ => end(*at).is_none_or(|end| end > from),
            };
            Some(calls.iter().copied().filter(after).collect())
        };
        puts.filter_map(cut).collect()
    }

    /// Gets go alone; so does an append of unknown outcome whose text nobody read: if it happened, a
    /// put came before the next get.
    fn classes(&self, entries: &Entries<Text>) -> Vec<Option<u64>> {
        let read = |text: &str| {
            entries.iter().any(|entry| match &entry.returned {
                Some((_, KvRet::Text(read))) => read.contains(text),
                _ => false,
            })
        };
        let goes = |entry: &Entry<KvOp, KvRet>| match &entry.op {
            KvOp::Append(text) if entry.returned.is_none() => !read(text),
            _ => entry.passive,
        };
        entries.iter().enumerate().map(|(at, entry)| goes(entry).then_some(at as u64)).collect()
    }

    fn looks_ahead(&self) -> bool {
        true
    }

    fn search(&self, entries: &Entries<Text>, deadline: Deadline, memory_bytes: usize, certify: bool) -> Outcome {
        let table = Prefixes::new(entries);
        let trail = Trail { prefixes: &table, at: table.start };
        forward::either(trail, &table.entries(entries), deadline, memory_bytes, certify)
    }
}

/// A text, as far as anybody will ever see it: a prefix of what some get returned, or else
/// [`UNSEEN`], which only a put ends.
struct Trail<'t> {
    prefixes: &'t Prefixes<'t>,
    at: u32,
}

impl Clone for Trail<'_> {
    fn clone(&self) -> Self {
        Trail { ..*self }
    }
}

impl PartialEq for Trail<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Trail<'_> {}

impl Hash for Trail<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.at.hash(state);
    }
}

/// A text that is no prefix of any that was read.
const UNSEEN: u32 = 0;

/// A call, its texts numbered.
#[derive(Clone, Copy)]
enum Move {
    Get,
    /// Sets or appends a text; whether somebody certainly reads what comes of it.
    Put(u32, bool),
    Append(u32, bool),
}

/// A result, its text as a prefix.
#[derive(Clone, Copy, PartialEq)]
enum Moved {
    Done,
    Text(u32),
}

impl SequentialSpec for Trail<'_> {
    type Op = Move;
    type Ret = Moved;

    fn invoke(&mut self, op: &Move) -> Moved {
        match *op {
            Move::Get => return Moved::Text(self.at),
            Move::Put(text, _) => self.at = self.prefixes.after(self.prefixes.start, text),
            Move::Append(text, _) => self.at = self.prefixes.after(self.at, text),
        }
        Moved::Done
    }

    fn is_valid_step(&mut self, op: &Move, ret: &Moved) -> bool {
        let fits = self.invoke(op) == *ret;
        let read = matches!(op, Move::Put(_, true) | Move::Append(_, true));
        fits && !(read && self.at == UNSEEN)
    }
}

/// The texts that were read, and their prefixes as far as they were asked for.
struct Prefixes<'t> {
    /// Ascending, each once.
    read: Vec<&'t str>,
    /// Texts that are set or appended, and their numbers.
    texts: Vec<&'t str>,
    numbers: HashMap<&'t str, u32>,
    /// The empty text.
    start: u32,
    known: RefCell<Met>,
}

/// Prefixes met so far.
#[derive(Default)]
struct Met {
    /// Each as the first of the texts read that begins so, and its length.
    prefixes: Vec<(u32, usize)>,
    numbers: HashMap<(u32, usize), u32>,
    /// Where appending a text leads.
    steps: HashMap<(u32, u32), u32>,
}

impl<'t> Prefixes<'t> {
    fn new(entries: &'t Entries<Text>) -> Prefixes<'t> {
        let mut read: Vec<&str> = Vec::new();
        let mut texts = Vec::new();
        let mut numbers = HashMap::new();
        for entry in entries {
            match (&entry.op, &entry.returned) {
                (KvOp::Get, Some((_, KvRet::Text(text)))) => read.push(text),
                (KvOp::Put(text) | KvOp::Append(text), _) => {
                    numbers.entry(text.as_str()).or_insert_with(|| {
                        texts.push(text.as_str());
                        texts.len() as u32 - 1
                    });
                }
                _ => {}
            }
        }
        // The empty text is there even if nobody read it, so that something is.
        read.push("");
        read.sort_unstable();
        read.dedup();
        let known = Met { prefixes: vec![(u32::MAX, usize::MAX)], ..Met::default() };
        let mut prefixes = Prefixes { read, texts, numbers, start: 0, known: RefCell::new(known) };
        prefixes.start = prefixes.of("");
        prefixes
    }

    /// The number of a text; [`UNSEEN`] if none that was read begins so. Neither is the empty one
    /// if all were cut short, as there is always the empty text itself.
    fn of(&self, text: &str) -> u32 {
        let first = self.read.partition_point(|read| *read < text);
        if !self.read.get(first).is_some_and(|read| read.starts_with(text)) {
            return UNSEEN;
        }
        let known = &mut *self.known.borrow_mut();
        let prefix = (first as u32, text.len());
        *known.numbers.entry(prefix).or_insert_with(|| {
            known.prefixes.push(prefix);
            known.prefixes.len() as u32 - 1
        })
    }

    /// What appending a text to a prefix gives.
    fn after(&self, prefix: u32, text: u32) -> u32 {
        if prefix == UNSEEN {
            return UNSEEN;
        }
        if let Some(known) = self.known.borrow().steps.get(&(prefix, text)) {
            return *known;
        }
        let (first, length) = self.known.borrow().prefixes[prefix as usize];
        let mut whole = String::from(&self.read[first as usize][..length]);
        whole.push_str(self.texts[text as usize]);
        let after = self.of(&whole);
        self.known.borrow_mut().steps.insert((prefix, text), after);
        after
    }

    fn entries(&self, entries: &Entries<Text>) -> Vec<Entry<Move, Moved>> {
        let reading = Reading::new(entries);
        let number = |text: &SmolStr| self.numbers.get(text.as_str()).copied().unwrap_or_default();
        entries
            .iter()
            .enumerate()
            .map(|(at, entry)| {
                let op = match &entry.op {
                    KvOp::Get => Move::Get,
                    KvOp::Put(text) => Move::Put(number(text), reading.follows(at, entry)),
                    KvOp::Append(text) => Move::Append(number(text), reading.follows(at, entry)),
                };
                let moved = |ret: &KvRet| match ret {
                    KvRet::Done => Moved::Done,
                    KvRet::Text(text) => Moved::Text(self.of(text)),
                };
                let returned = entry.returned.as_ref().map(|(end, ret)| (*end, moved(ret)));
                Entry { op, invoked: entry.invoked, returned, passive: entry.passive }
            })
            .collect()
    }
}

/// Which texts are certainly read before they can be replaced.
struct Reading {
    /// For gets in the order of their invocations: when each was invoked, and when the first of it
    /// and all later ones returned.
    gets: Vec<(u64, u64)>,
    /// For puts in the order of their invocations: when, and of it and all earlier ones the last two
    /// returns, with their calls.
    puts: Vec<(u64, [(u64, usize); 2])>,
}

impl Reading {
    fn new(entries: &Entries<Text>) -> Reading {
        let mut gets = Vec::new();
        let mut puts: Vec<(u64, [(u64, usize); 2])> = Vec::new();
        for (at, entry) in entries.iter().enumerate() {
            let end = entry.returned.as_ref().map_or(u64::MAX, |(end, _)| *end);
            match entry.op {
                KvOp::Get => gets.push((entry.invoked, end)),
                KvOp::Put(_) => {
                    let [first, second] = puts.last().map_or([(0, usize::MAX); 2], |(_, latest)| *latest);
                    let this = (end, at);
                    let latest = if this > first { [this, first] } else { [first, second.max(this)] };
                    puts.push((entry.invoked, latest));
                }
                KvOp::Append(_) => {}
            }
        }
        for at in (1..gets.len()).rev() {
            gets[at - 1].1 = gets[at - 1].1.min(gets[at].1);
        }
        Reading { gets, puts }
    }

    /// Whether a get is invoked after a call returned, and before it returned no other put could
    /// come after the call.
    fn follows(&self, call: usize, entry: &Entry<KvOp, KvRet>) -> bool {
        let Some((end, _)) = &entry.returned else { return false };
        let next = self.gets.partition_point(|(invoked, _)| invoked <= end);
        let Some((_, read)) = self.gets.get(next) else { return false };
        let before = self.puts.partition_point(|(invoked, _)| invoked < read);
        let Some((_, latest)) = before.checked_sub(1).map(|at| self.puts[at]) else { return true };
        let other = if latest[0].1 == call { latest[1] } else { latest[0] };
        other.1 == usize::MAX || other.0 < entry.invoked
    }
}

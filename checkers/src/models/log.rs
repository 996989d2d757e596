//! Logs that are only appended to.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use duress_history::formats::{Function, Known, Operation, Value};
use stateright::semantics::SequentialSpec;

use super::object::{Call, Entries, Found, Object};
use super::values::{NIL, Values};
use super::{cannot, forward};
use crate::budget::Deadline;
use crate::wgl::{Entry, Outcome};

/// A log and its elements.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Log(pub Vec<u32>);

/// What can be asked of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogOp {
    /// To have this at its end.
    Append(u32),
    /// All its elements.
    Read,
    /// Its element at an offset, from zero.
    Get(u64),
}

/// What a log answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LogRet {
    /// It is done; where isn't said.
    Done,
    /// It is done, and this is its offset.
    Offset(u64),
    /// The elements.
    Elements(Vec<u32>),
    /// The element; `None`: there is none yet.
    Element(Option<u32>),
}

impl SequentialSpec for Log {
    type Op = LogOp;
    type Ret = LogRet;

    fn invoke(&mut self, op: &LogOp) -> LogRet {
        match op {
            LogOp::Append(element) => {
                self.0.push(*element);
                LogRet::Offset(self.0.len() as u64 - 1)
            }
            LogOp::Read => LogRet::Elements(self.0.clone()),
            LogOp::Get(offset) => LogRet::Element(usize::try_from(*offset).ok().and_then(|at| self.0.get(at).copied())),
        }
    }

    fn is_valid_step(&mut self, op: &LogOp, ret: &LogRet) -> bool {
        match (op, ret) {
            (LogOp::Append(_), LogRet::Done) => {
                self.invoke(op);
                true
            }
            (LogOp::Read, LogRet::Elements(elements)) => self.0 == *elements,
            _ => self.invoke(op) == *ret,
        }
    }
}

/// Logs, one per key, empty at first.
pub(crate) struct Logs;

impl Object for Logs {
    type Spec = Log;

    fn name(&self) -> &'static str {
        "append-log"
    }

    fn about(&self) -> &'static str {
        "linearizable logs: append v -> nothing or [offset v], read -> [v ...], get offset -> v or nil (not there yet)"
    }

    fn initial(&self) -> Log {
        Log::default()
    }

    fn calls(
        &self,
        operation: &Operation,
        known: Known<'_>,
        values: &mut Values,
        calls: &mut Vec<Call<Log>>,
    ) -> Result<(), String> {
        let offset = |value: &Value| {
            value.as_int().and_then(|n| u64::try_from(n).ok()).ok_or_else(|| format!("{value} is no offset"))
        };
        calls.push(match (&operation.op.f, known) {
            (Function::Append, known) => {
                let op = LogOp::Append(values.number(&operation.op.value));
                match known {
                    Known::Happened(result) => match result.as_sequence() {
                        Some([at, element]) if *element == operation.op.value => {
                            Call::new(op, Some(LogRet::Offset(offset(at)?)))
                        }
                        _ => Call::new(op, Some(LogRet::Done)),
                    },
                    _ => Call::new(op, None),
                }
            }
            (Function::Read, Known::Happened(read)) => match read.as_sequence() {
                Some(elements) => {
                    let elements = elements.iter().map(|element| values.number(element)).collect();
                    Call::look(LogOp::Read, LogRet::Elements(elements))
                }
                None => return Err(format!("a read gave {read}, which is no list")),
            },
            (Function::Get, Known::Happened(element)) => {
                let at = offset(&operation.op.value)?;
                let element = values.number(element);
                Call::look(LogOp::Get(at), LogRet::Element((element != NIL).then_some(element)))
            }
            (Function::Read | Function::Get, _) => return Ok(()),
            _ => return cannot(operation, "append, read and get"),
        });
        Ok(())
    }

    /// What a log holds at an offset never changes, so no two calls may say different things of it.
    /// Only that is looked at here: whether there is an order is left to the search.
    fn monitor(&self, entries: &Entries<Log>) -> Option<Found> {
        Claims::of(entries).err()
    }

    fn looks_ahead(&self) -> bool {
        true
    }

    fn search(&self, entries: &Entries<Log>, deadline: Deadline, memory_bytes: usize, certify: bool) -> Outcome {
        let Ok(claims) = Claims::of(entries) else {
            return forward::either(self.initial(), entries, deadline, memory_bytes, certify);
        };
        let start = Length { length: 0, claims: PhantomData };
        forward::either(start, &claims.entries(entries), deadline, memory_bytes, certify)
    }
}

/// What calls say of the log: which element is at an offset.
struct Claims {
    elements: BTreeMap<u64, u32>,
    /// Where elements are that were appended once.
    places: BTreeMap<u32, u64>,
}

impl Claims {
    fn of(entries: &Entries<Log>) -> Result<Claims, Found> {
        let mut claimed: BTreeMap<u64, (u32, usize)> = BTreeMap::new();
        let mut longest: Option<(usize, &Vec<u32>)> = None;
        let no = |mut calls: Vec<usize>| {
            calls.sort_unstable();
            Err(Found::Contradiction { calls, rule: "two calls saw different elements at one offset" })
        };
        let mut reads: Vec<(usize, &Vec<u32>)> = Vec::new();
        for (at, entry) in entries.iter().enumerate() {
            let claim = match (&entry.op, entry.returned.as_ref().map(|(_, ret)| ret)) {
                (LogOp::Append(element), Some(LogRet::Offset(offset))) => (*offset, *element),
                (LogOp::Get(offset), Some(LogRet::Element(Some(element)))) => (*offset, *element),
                (LogOp::Read, Some(LogRet::Elements(elements))) => {
                    reads.push((at, elements));
                    continue;
                }
                _ => continue,
            };
            let known = claimed.entry(claim.0).or_insert((claim.1, at));
            if known.0 != claim.1 {
                return no(vec![known.1, at]);
            }
        }
        for (at, elements) in &reads {
            let (shorter, longer) = match longest {
                Some((_, other)) if other.len() >= elements.len() => (*elements, other),
                Some((_, other)) => (other, *elements),
                None => (*elements, *elements),
            };
            if !longer.starts_with(shorter) {
                return no(longest.map(|(other, _)| other).into_iter().chain([*at]).collect());
            }
            if longest.is_none_or(|(_, other)| other.len() < elements.len()) {
                longest = Some((*at, *elements));
            }
        }
        if let Some((at, elements)) = longest {
            for (offset, element) in elements.iter().enumerate() {
                let known = claimed.entry(offset as u64).or_insert((*element, at));
                if known.0 != *element {
                    return no(vec![known.1, at]);
                }
            }
        }
        let mut appended: BTreeMap<u32, bool> = BTreeMap::new();
        for entry in entries {
            if let LogOp::Append(element) = entry.op {
                appended.entry(element).and_modify(|once| *once = false).or_insert(true);
            }
        }
        let once = |element: &u32| appended.get(element).copied().unwrap_or_default();
        let places = claimed.iter().filter(|(_, (e, _))| once(e)).map(|(at, (e, _))| (*e, *at)).collect();
        Ok(Claims { elements: claimed.into_iter().map(|(at, (element, _))| (at, element)).collect(), places })
    }

    /// With these claims settled, only the log's length is left to be found.
    fn entries(&self, entries: &Entries<Log>) -> Vec<Entry<Grow<'_>, Grown>> {
        let grown = |ret: &LogRet, op: &LogOp| match (ret, op) {
            (LogRet::Done, _) => Grown::Somewhere,
            (LogRet::Offset(offset), _) => Grown::At(*offset),
            (LogRet::Elements(elements), _) => Grown::Length(elements.len() as u64),
            (LogRet::Element(Some(_)), LogOp::Get(offset)) => Grown::Longer(*offset),
            (LogRet::Element(_), LogOp::Get(offset)) => Grown::NotLonger(*offset),
            (LogRet::Element(_), _) => Grown::Somewhere,
        };
        let grow = |op: &LogOp| match op {
            LogOp::Append(element) => Grow::Append(*element, self),
            _ => Grow::Look,
        };
        let entry = |entry: &Entry<LogOp, LogRet>| Entry {
            op: grow(&entry.op),
            invoked: entry.invoked,
            returned: entry.returned.as_ref().map(|(end, ret)| (*end, grown(ret, &entry.op))),
            passive: entry.passive,
        };
        entries.iter().map(entry).collect()
    }

    fn fits(&self, element: u32, offset: u64) -> bool {
        self.elements.get(&offset).is_none_or(|claimed| *claimed == element)
            && self.places.get(&element).is_none_or(|place| *place == offset)
    }
}

/// How long a log is; [`STRAY`] once it holds something other than was seen.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Length<'c> {
    length: u64,
    claims: PhantomData<&'c Claims>,
}

/// No order leads from here to what was seen.
const STRAY: u64 = u64::MAX;

#[derive(Clone)]
enum Grow<'c> {
    Append(u32, &'c Claims),
    Look,
}

#[derive(Clone, Copy, PartialEq)]
enum Grown {
    Somewhere,
    At(u64),
    Length(u64),
    Longer(u64),
    NotLonger(u64),
}

impl<'c> SequentialSpec for Length<'c> {
    type Op = Grow<'c>;
    type Ret = Grown;

    fn invoke(&mut self, op: &Grow<'c>) -> Grown {
        if let Grow::Append(element, claims) = op {
            let fits = self.length != STRAY && claims.fits(*element, self.length);
            self.length = if fits { self.length + 1 } else { STRAY };
        }
        Grown::Somewhere
    }

    fn is_valid_step(&mut self, op: &Grow<'c>, ret: &Grown) -> bool {
        let before = self.length;
        self.invoke(op);
        self.length != STRAY
            && match ret {
                Grown::Somewhere => true,
                Grown::At(offset) => before == *offset,
                Grown::Length(length) => before == *length,
                Grown::Longer(offset) => before > *offset,
                Grown::NotLonger(offset) => before <= *offset,
            }
    }
}

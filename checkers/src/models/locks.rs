//! Locks: who may hold one, and how often.

use std::collections::BTreeMap;

use duress_history::formats::{Function, Known, Operation};
use stateright::semantics::SequentialSpec;

use super::cannot;
use super::object::{Call, Entries, Object};
use super::values::Values;

/// What a lock asks of those who take and release it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Discipline {
    /// It is free or taken; anyone may release it.
    Anyone,
    /// Only its holder may release it.
    Holder,
    /// Its holder may take it again, and must release it as often.
    Reentrant,
    /// Only its holder may release it, and each grant has a token above all earlier ones.
    Fenced,
}

/// A lock and who holds it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lock {
    discipline: Discipline,
    holder: Option<u64>,
    depth: u32,
    last_token: i64,
}

impl Lock {
    /// A free lock that has granted nothing yet.
    pub fn new(discipline: Discipline) -> Lock {
        Lock { discipline, holder: None, depth: 0, last_token: i64::MIN }
    }

    /// A lock that a process holds, with a last token.
    pub fn after(discipline: Discipline, holder: u64, last_token: i64) -> Lock {
        Lock { discipline, holder: Some(holder), depth: 1, last_token }
    }

    /// Who holds it.
    pub fn holder(&self) -> Option<u64> {
        self.holder
    }

    /// The last token granted; `None` before the first.
    pub fn last_token(&self) -> Option<i64> {
        (self.last_token != i64::MIN).then_some(self.last_token)
    }
}

/// What can be asked of a lock. Processes are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LockOp {
    /// To hold it.
    Acquire(u64),
    /// To hold it no longer.
    Release(u64),
}

/// What a lock answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LockRet {
    /// It was done.
    Done,
    /// It is held, with this token.
    Token(i64),
    /// It can't be done now.
    Blocked,
}

impl SequentialSpec for Lock {
    type Op = LockOp;
    type Ret = LockRet;

    /// A grant of unknown token gets the lowest possible one, which leaves the most to others.
    fn invoke(&mut self, op: &LockOp) -> LockRet {
        let owned = self.discipline != Discipline::Anyone;
        match *op {
            LockOp::Acquire(process) => {
                let again = self.discipline == Discipline::Reentrant && self.holder == Some(process);
                if self.holder.is_some() && !again {
                    return LockRet::Blocked;
                }
                if self.discipline == Discipline::Fenced {
                    let Some(token) = self.last_token.checked_add(1) else { return LockRet::Blocked };
                    self.last_token = token;
                }
                (self.holder, self.depth) = (Some(process), self.depth + 1);
                if self.discipline == Discipline::Fenced { LockRet::Token(self.last_token) } else { LockRet::Done }
            }
            LockOp::Release(process) => match self.holder {
                Some(holder) if holder == process || !owned => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        self.holder = None;
                    }
                    LockRet::Done
                }
                _ => LockRet::Blocked,
            },
        }
    }

    fn is_valid_step(&mut self, op: &LockOp, ret: &LockRet) -> bool {
        match ret {
            LockRet::Token(token) => {
                let fits = *token > self.last_token && matches!(self.invoke(op), LockRet::Token(_));
                self.last_token = self.last_token.max(*token);
                fits
            }
            ret => self.invoke(op) == *ret,
        }
    }
}

/// Locks, one per key, free at first.
pub(crate) struct Locks(pub Discipline);

impl Object for Locks {
    type Spec = Lock;

    fn name(&self) -> &'static str {
        match self.0 {
            Discipline::Anyone => "mutex",
            Discipline::Holder => "owned-mutex",
            Discipline::Reentrant => "reentrant-mutex",
            Discipline::Fenced => "lock",
        }
    }

    fn about(&self) -> &'static str {
        match self.0 {
            Discipline::Anyone => "mutexes: acquire, release; held by one at a time, released by anyone",
            Discipline::Holder => "mutexes: acquire, release; held by one at a time, released by its holder only",
            Discipline::Reentrant => "mutexes that their holder may acquire again and must release as often",
            Discipline::Fenced => {
                "locks with fencing tokens: acquire -> token, higher than all before; release by the holder only"
            }
        }
    }

    fn initial(&self) -> Lock {
        Lock::new(self.0)
    }

    fn calls(
        &self,
        operation: &Operation,
        known: Known<'_>,
        _: &mut Values,
        calls: &mut Vec<Call<Lock>>,
    ) -> Result<(), String> {
        let process = operation.process.0;
        let (op, ret) = match (&operation.op.f, known) {
            (Function::Acquire, Known::Happened(token)) if self.0 == Discipline::Fenced => {
                let Some(token) = token.as_int().filter(|token| *token > i64::MIN) else {
                    return Err(format!("an acquire gave {token}, which is no token"));
                };
                (LockOp::Acquire(process), Some(LockRet::Token(token)))
            }
            (Function::Acquire, Known::Happened(_)) => (LockOp::Acquire(process), Some(LockRet::Done)),
            (Function::Acquire, _) => (LockOp::Acquire(process), None),
            (Function::Release, Known::Happened(_)) => (LockOp::Release(process), Some(LockRet::Done)),
            (Function::Release, _) => (LockOp::Release(process), None),
            _ => return cannot(operation, "acquire and release"),
        };
        calls.push(Call::new(op, ret));
        Ok(())
    }

    /// Where nothing is in progress and as much was released as acquired, the lock is free as at
    /// first.
    fn cuts(&self, entries: &Entries<Lock>, calls: &[usize]) -> Vec<Vec<usize>> {
        let mut cuts = Vec::new();
        let (mut held, mut latest) = (0, 0);
        for (place, at) in calls.iter().enumerate() {
            let entry = &entries[*at];
            if held == 0 && latest < entry.invoked && place > 0 {
                cuts.push(calls[place..].to_vec());
            }
            held += if matches!(entry.op, LockOp::Acquire(_)) { 1 } else { -1 };
            latest = latest.max(entry.returned.as_ref().map_or(u64::MAX, |(end, _)| *end));
        }
        cuts.reverse();
        // Tokens must go on from where they were.
        if self.0 == Discipline::Fenced { Vec::new() } else { cuts }
    }

    /// Where a lock has owners, a hold goes as a whole, from the acquire to the last release: nobody
    /// else can have acted on the lock meanwhile.
    fn classes(&self, entries: &Entries<Lock>) -> Vec<Option<u64>> {
        if self.0 == Discipline::Anyone {
            return vec![None; entries.len()];
        }
        // For each process: its present hold's class, its depth, and whether that is known.
        let mut holds: BTreeMap<u64, (u64, i64, bool)> = BTreeMap::new();
        let mut classes = Vec::with_capacity(entries.len());
        for (at, entry) in entries.iter().enumerate() {
            let (process, change) = match entry.op {
                LockOp::Acquire(process) => (process, 1),
                LockOp::Release(process) => (process, -1),
            };
            let hold = holds.entry(process).or_insert((at as u64, 0, true));
            if hold.1 == 0 && hold.2 {
                hold.0 = at as u64;
            }
            hold.1 += change;
            hold.2 &= entry.returned.is_some();
            classes.push(Some(hold.0));
        }
        classes
    }
}

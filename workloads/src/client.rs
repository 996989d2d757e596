//! The client's own part in a workload: what it does besides asking the target.
//!
//! Leases and the use of what they protect. A client host runs one [`ClientMachine`], which does no
//! IO and reads no clock, so that hosts of both worlds behave alike. What all clients share outside
//! the target, such as the [`Resource`] that locks protect, is with whoever drives the hosts.
//!
//! A host asks [`begin`](ClientMachine::begin) of every operation. If it is told to ask the target,
//! it does, and [`learn`](ClientMachine::learn) is told how that ended. If it is told to work, it
//! waits that long by its own clock, and then does to the resource what
//! [`worked`](ClientMachine::worked) says, *without another look at its lease*: that is the mistake
//! which fencing tokens make harmless (M. Kleppmann, "How to do distributed locking", 2016).

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use duress_checkers::mutex::LockOp;
use duress_history::{Op, Outcome, Value};
use smol_str::SmolStr;

/// How many leases a client host remembers. The one that runs out first is forgotten first.
const MAX_LEASES: usize = 16 << 10;

/// A holder that has been at work for less doesn't count as one yet.
const AT_WORK: Duration = Duration::from_millis(20);

/// What a client host does about an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Ask the target.
    Ask,
    /// Work for this long by the host's own clock, and then use the resource.
    Work(Duration),
    /// Nothing. The operation has failed, for this reason, in a short stable name.
    Refuse(&'static str),
}

/// One client host's part. Times are readings of its monotonic clock.
pub trait ClientMachine: fmt::Debug + Send {
    /// A new host's, in old memory.
    fn reset(&mut self);

    /// An operation is to be carried out.
    fn begin(&mut self, op: &Op, now: Duration) -> Begin;

    /// The work for an operation is done: what is asked of the resource. `None` if the operation
    /// has no work to it.
    fn worked(&self, op: &Op) -> Option<Write>;

    /// An operation that the target was asked for at `sent` has ended.
    fn learn(&mut self, op: &Op, outcome: Outcome, result: &Value, sent: Duration);
}

/// How long an operation takes of its client besides asking the target; `None` of those that ask it.
pub fn work(op: &Op) -> Option<Duration> {
    match LockOp::of(op) {
        Some(LockOp::Access { work_ms, .. }) => Some(Duration::from_millis(work_ms)),
        _ => None,
    }
}

/// Whether a client is in the middle of an operation's work, so long after the invocation: it has
/// checked its lease some time ago, and has most of the work before its write still to do. If so,
/// how long that will be.
pub fn at_work(op: &Op, since: Duration) -> Option<Duration> {
    let work = work(op)?;
    let left = work.saturating_sub(since);
    (since >= AT_WORK && left >= work / 3).then_some(left)
}

/// What a client wants to do to the resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The lock that should protect it.
    pub lock: SmolStr,
    /// The token that the client shows.
    pub token: u64,
}

/// What locks protect: one storage per lock, outside the target. With fencing it refuses a token
/// older than the newest that it has seen.
#[derive(Clone, Debug, Default)]
pub struct Resource {
    fencing: bool,
    newest: BTreeMap<SmolStr, u64>,
}

impl Resource {
    /// One that nobody has used.
    pub fn new(fencing: bool) -> Resource {
        Resource { fencing, newest: BTreeMap::new() }
    }

    /// A client writes.
    ///
    /// # Errors
    /// Why not, in a short stable name.
    pub fn write(&mut self, Write { lock, token }: Write) -> Result<(), &'static str> {
        let newest = self.newest.entry(lock).or_default();
        if self.fencing && token < *newest {
            return Err("fenced");
        }
        *newest = token.max(*newest);
        Ok(())
    }
}

/// Until when a host's leases run, by its monotonic clock. Operations that have nothing to do with
/// leases ask the target and teach nothing.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    expiries: BTreeMap<(SmolStr, u64), Duration>,
}

/// What an operation is about, as far as leases go.
enum About<'a> {
    Acquire { lock: &'a SmolStr, lease: Duration },
    Renew { lock: &'a SmolStr, token: u64, lease: Duration },
    Release { lock: &'a SmolStr, token: u64 },
    Access { lock: &'a SmolStr, token: u64 },
    Else,
}

fn about(op: &Op) -> About<'_> {
    let lease = Duration::from_millis;
    let (Some(lock), Some(asked)) = (op.key_text(), LockOp::of(op)) else { return About::Else };
    match asked {
        LockOp::Acquire { lease_ms } => About::Acquire { lock, lease: lease(lease_ms) },
        LockOp::Renew { token, lease_ms } => About::Renew { lock, token, lease: lease(lease_ms) },
        LockOp::Release { token } => About::Release { lock, token },
        LockOp::Access { token, .. } => About::Access { lock, token },
    }
}

impl ClientMachine for Leases {
    fn reset(&mut self) {
        self.expiries.clear();
    }

    fn begin(&mut self, op: &Op, now: Duration) -> Begin {
        let About::Access { lock, token } = about(op) else { return Begin::Ask };
        match self.expiries.get(&(lock.clone(), token)) {
            Some(expiry) if *expiry > now => Begin::Work(work(op).unwrap_or_default()),
            _ => Begin::Refuse("lease-expired"),
        }
    }

    fn worked(&self, op: &Op) -> Option<Write> {
        match about(op) {
            About::Access { lock, token } => Some(Write { lock: lock.clone(), token }),
            _ => None,
        }
    }

    /// A lease is counted from when it was asked for: the service counts from later, so the client
    /// never believes too long in it.
    fn learn(&mut self, op: &Op, outcome: Outcome, result: &Value, sent: Duration) {
        match (about(op), outcome) {
            (About::Acquire { lock, lease }, Outcome::Ok) => {
                if let Some(token) = result.as_u64() {
                    self.runs_until(lock, token, sent.saturating_add(lease));
                }
            }
            (About::Renew { lock, token, lease }, Outcome::Ok) => {
                self.runs_until(lock, token, sent.saturating_add(lease));
            }
            // It may have been shortened.
            (About::Renew { lock, token, lease }, Outcome::Info) => {
                if let Some(expiry) = self.expiries.get_mut(&(lock.clone(), token)) {
                    *expiry = (*expiry).min(sent.saturating_add(lease));
                }
            }
            // It is over, or may be.
            (About::Release { lock, token }, _) => {
                self.expiries.remove(&(lock.clone(), token));
            }
            _ => {}
        }
    }
}

impl Leases {
    fn runs_until(&mut self, lock: &SmolStr, token: u64, expiry: Duration) {
        self.expiries.insert((lock.clone(), token), expiry);
        if self.expiries.len() > MAX_LEASES
            && let Some(first) = self.expiries.iter().min_by_key(|(_, expiry)| **expiry).map(|(key, _)| key.clone())
        {
            self.expiries.remove(&first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn lock() -> SmolStr {
        "l0".into()
    }

    fn elements() -> Op {
        Op::new(duress_history::Function::Read, Value::Nil)
    }

    fn access(token: u64) -> Op {
        LockOp::Access { token, work_ms: 60 }.on(lock())
    }

    fn acquired(token: u64, at: Duration) -> Leases {
        let mut leases = Leases::default();
        leases.learn(&LockOp::Acquire { lease_ms: 100 }.on(lock()), Outcome::Ok, &token.into(), at);
        leases
    }

    #[test]
    fn a_lease_runs_from_when_it_was_asked_for() {
        let mut leases = acquired(7, 50 * MS);
        assert_eq!(leases.begin(&access(7), 149 * MS), Begin::Work(60 * MS));
        assert_eq!(leases.begin(&access(7), 150 * MS), Begin::Refuse("lease-expired"));
        assert_eq!(leases.begin(&access(8), 60 * MS), Begin::Refuse("lease-expired"), "another's token");
        assert_eq!(leases.begin(&elements(), 60 * MS), Begin::Ask);
        assert_eq!(leases.worked(&access(7)), Some(Write { lock: lock(), token: 7 }));
        assert_eq!(leases.worked(&elements()), None);
    }

    #[test]
    fn what_is_not_known_to_have_been_granted_is_not_believed_in() {
        let renew = |lease_ms| LockOp::Renew { token: 7, lease_ms }.on(lock());
        let release = LockOp::Release { token: 7 }.on(lock());
        for (op, outcome, runs_at, ends_at) in [
            (renew(100), Outcome::Ok, 149, 150),
            (renew(100), Outcome::Fail, 99, 100),
            (renew(100), Outcome::Info, 99, 100),
            // It may have been shortened.
            (renew(10), Outcome::Info, 59, 60),
            (renew(10), Outcome::Fail, 99, 100),
            (release.clone(), Outcome::Ok, 0, 1),
            (release.clone(), Outcome::Info, 0, 1),
            (release, Outcome::Fail, 0, 1),
        ] {
            let mut leases = acquired(7, Duration::ZERO);
            leases.learn(&op, outcome, &Value::Nil, 50 * MS);
            let runs = runs_at > 0;
            assert_eq!(leases.begin(&access(7), runs_at * MS) == Begin::Work(60 * MS), runs, "{op:?} {outcome:?}");
            assert_eq!(leases.begin(&access(7), ends_at * MS), Begin::Refuse("lease-expired"), "{op:?} {outcome:?}");
        }
    }

    #[test]
    fn no_more_leases_are_remembered_than_is_said() {
        let mut leases = Leases::default();
        for token in 0..=MAX_LEASES as u64 {
            let acquire = LockOp::Acquire { lease_ms: 1000 + token }.on(lock());
            leases.learn(&acquire, Outcome::Ok, &token.into(), Duration::ZERO);
        }
        assert_eq!(leases.expiries.len(), MAX_LEASES);
        assert_eq!(leases.begin(&access(0), MS), Begin::Refuse("lease-expired"));
        assert_eq!(leases.begin(&access(1), MS), Begin::Work(60 * MS));
    }

    #[test]
    fn only_a_fencing_resource_refuses_old_tokens() {
        for (fencing, old) in [(true, Err("fenced")), (false, Ok(()))] {
            let mut resource = Resource::new(fencing);
            let mut write = |lock: &str, token| resource.write(Write { lock: lock.into(), token });
            assert_eq!([write("a", 3), write("b", 2), write("a", 3), write("a", 4)], [Ok(()); 4]);
            assert_eq!(write("a", 3), old);
            assert_eq!(write("b", 2), Ok(()));
        }
    }

    #[test]
    fn a_holder_counts_from_soon_after_its_start_to_long_before_its_end() {
        let left = |since: u32| at_work(&access(1), since * MS);
        assert_eq!([19, 20, 40, 41].map(left), [None, Some(40 * MS), Some(20 * MS), None]);
        assert_eq!(at_work(&elements(), 30 * MS), None);
    }
}

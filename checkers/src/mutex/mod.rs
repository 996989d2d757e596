//! Locks: does at most one hold a lock at a time, and do fencing tokens do their work?
//!
//! **Holding.** A grant is held from the completion of its acquire until the earliest of
//!
//! - the invocation of its release, however that ends;
//! - the invocation of the same process's next acquire of the lock (it has given the old grant up);
//! - the completion of a renewal that was definitely refused because the grant is no longer held;
//! - the end of its lease as the client may count on it: the invocation of the acquire, or of the
//!   last renewal that succeeded, plus the lease. The target can't have begun to count before that
//!   invocation, so by true time the lease ends no earlier. A renewal that failed or whose outcome
//!   nobody knows extends nothing.
//!
//! An access that the resource accepted proves that its client acted as the holder until the
//! access was over, whatever its lease said, and so extends the holding to its completion. An
//! acquire whose outcome nobody knows grants nothing; an accepted access under a token that no
//! acquire is known to have granted is a holding of its own, as long as the access.
//!
//! Two holdings of different grants may touch, never overlap. Without fencing an overlap is a
//! violation; with it, it is only reported, since the resource refuses the late holder.
//!
//! **Tokens**, in both modes: if one grant was completed before another was asked for, its token
//! is smaller; no two grants have the same; and the resource accepts no access with a token older
//! than that of an access it had accepted before. (Martin Kleppmann, *How to do distributed
//! locking*, 2016.)
//!
//! Measured and remarked besides: how long a lock was asked for though nobody held it, and locks
//! that nobody got after the heal though nobody held them.

mod holdings;
mod idle;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use duress_history::{Function, Op, Outcome, Value};
use smol_str::SmolStr;

use self::holdings::{Holding, holdings};
use crate::{Class, Judge, Report, Run, Settings, words};

/// How many violations of one kind are told.
const SHOWN: usize = 5;

/// Checks mutual exclusion and fencing tokens.
#[derive(Clone, Copy, Debug)]
pub struct MutualExclusion {
    /// The resource checks fencing tokens, so that overlapping holders do no harm.
    pub fencing: bool,
}

impl Judge for MutualExclusion {
    fn name(&self) -> &'static str {
        "mutual-exclusion"
    }

    fn about(&self) -> &'static str {
        "locks with leases and fencing tokens, by time, of runs with clocks (the model lock has no leases): acquire {:lease-ms n} -> token, renew, release, access of what they protect"
    }

    fn judge(&self, run: &Run<'_>, _: &Settings) -> Report {
        let locks = locks(run);
        let mut overlaps = Vec::new();
        let mut tokens = Vec::new();
        let mut late = Vec::new();
        let mut grants = 0;
        let mut longest_idle = Duration::ZERO;
        let mut in_vain = Vec::new();
        for (lock, operations) in &locks {
            grants += operations.iter().filter(|at| granted(run, **at).is_some()).count();
            let holdings = holdings(run, operations);
            let idle = idle::idle(run, operations, &holdings);
            longest_idle = longest_idle.max(idle.longest);
            if idle.in_vain > 0 {
                let requests = words::count(idle.in_vain, "request");
                in_vain
                    .push(format!("Remark: {requests} for {lock} were in vain after the heal, though nobody held it."));
            }
            overlaps.extend(overlapping(holdings));
            tokens.extend(token_order(run, lock, operations));
            late.extend(late_accesses(run, lock, operations));
        }
        overlaps.sort_by_key(|overlap| overlap.later.from);
        let unfit: Vec<_> = run
            .operations
            .iter()
            .filter(|o| (o.key().is_none() || LockOp::of(&o.op).is_none()) && !o.op.is_probe())
            .collect();
        let asked = locks.values().flatten().any(|at| run.operations[*at].op.f == Function::Acquire);

        let mut wrong = Vec::new();
        if !overlaps.is_empty() && !self.fencing {
            wrong.push(overlaps[0].sentence(run));
        }
        wrong.extend(tokens.first().cloned());
        wrong.extend(late.first().cloned());
        let mut report = if let Some(first) = wrong.first() {
            Report::invalid(self.name(), first.clone())
        } else if let Some(first) = unfit.first() {
            Report::unknown(self.name(), Class::Inconclusive, words::unfit("locks with leases", unfit.len(), first))
        } else if grants == 0 {
            let class = if asked { Class::Unavailable } else { Class::Inconclusive };
            Report::unknown(self.name(), class, "No lock was ever granted: nothing to judge.")
        } else if overlaps.is_empty() {
            let (grants, locks) = (words::count(grants, "grant"), words::count(locks.len(), "lock"));
            Report::valid(self.name(), format!("No two of {grants} of {locks} were held at once."))
        } else {
            let overlaps = words::count(overlaps.len(), "time");
            Report::valid(self.name(), format!("Two held a lock at once {overlaps}, and fencing made it harmless."))
        };
        for overlap in overlaps.iter().take(SHOWN) {
            report.explanation.push(overlap.sentence(run));
            report.explanation.extend(overlap.story(run));
        }
        if overlaps.len() > SHOWN {
            report.explanation.push(format!("{} more.", words::count(overlaps.len() - SHOWN, "overlap")));
        }
        for kind in [&tokens, &late] {
            report.explanation.extend(kind.iter().take(SHOWN).cloned());
            if kind.len() > SHOWN {
                report.explanation.push(format!("{} more of this kind.", kind.len() - SHOWN));
            }
        }
        report.explanation.extend(in_vain.iter().take(SHOWN).cloned());
        // What the report opens with needn't be said again.
        if report.explanation.first() == Some(&report.summary) {
            report.explanation.remove(0);
        }
        let longest = overlaps.iter().map(Overlap::length).max().unwrap_or_default();
        report.figure("locks", locks.len() as f64);
        report.figure("grants", grants as f64);
        report.figure("overlaps", overlaps.len() as f64);
        report.figure("longest_overlap_ms", longest.as_secs_f64() * 1e3);
        report.figure("longest_idle_ms", longest_idle.as_secs_f64() * 1e3);
        report.figure("locks_asked_for_in_vain", in_vain.len() as f64);
        report.figure("token_violations", (tokens.len() + late.len()) as f64);
        report.figure("fenced", run.operations.iter().filter(|o| o.error_name() == Some("fenced")).count() as f64);
        report
    }
}

/// What is asked of a lock with a lease, or of the resource that it protects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LockOp {
    /// Asks for the lock.
    Acquire {
        /// How long it is held unless renewed.
        lease_ms: u64,
    },
    /// Extends the lease.
    Renew {
        /// From the acquisition.
        token: u64,
        /// The new lease, from the moment of renewal.
        lease_ms: u64,
    },
    /// Gives the lock back.
    Release {
        /// From the acquisition.
        token: u64,
    },
    /// Uses the resource that the lock protects: the client checks that its lease still runs by its
    /// own clock, works for a while, then writes to the resource with its token.
    Access {
        /// From the acquisition.
        token: u64,
        /// How long the client works between its check and its write.
        work_ms: u64,
    },
}

const RENEW: &str = "renew";
const ACCESS: &str = "access";
const LEASE: &str = "lease-ms";
const TOKEN: &str = "token";
const WORK: &str = "work-ms";

impl LockOp {
    /// As an operation of a history, on this lock.
    pub fn on(self, lock: impl Into<Value>) -> Op {
        match self {
            LockOp::Acquire { lease_ms } => Op::on(Function::Acquire, lock, Value::record([(LEASE, lease_ms.into())])),
            LockOp::Renew { token, lease_ms } => {
                let value = Value::record([(LEASE, lease_ms.into()), (TOKEN, token.into())]);
                Op::on(Function::other(RENEW), lock, value)
            }
            LockOp::Release { token } => Op::on(Function::Release, lock, token),
            LockOp::Access { token, work_ms } => {
                let value = Value::record([(TOKEN, token.into()), (WORK, work_ms.into())]);
                Op::on(Function::other(ACCESS), lock, value)
            }
        }
    }

    /// What a history's operation asks of a lock, if it is about one.
    pub fn of(op: &Op) -> Option<LockOp> {
        let number = |name| op.value.get(name).and_then(Value::as_u64);
        match &op.f {
            Function::Acquire => Some(LockOp::Acquire { lease_ms: number(LEASE)? }),
            Function::Release => Some(LockOp::Release { token: op.value.as_u64()? }),
            Function::Other(name) if name == RENEW => {
                Some(LockOp::Renew { token: number(TOKEN)?, lease_ms: number(LEASE)? })
            }
            Function::Other(name) if name == ACCESS => {
                Some(LockOp::Access { token: number(TOKEN)?, work_ms: number(WORK)? })
            }
            _ => None,
        }
    }
}

/// The operations on each lock, in the order of their invocations.
fn locks<'r>(run: &'r Run<'_>) -> BTreeMap<&'r SmolStr, Vec<usize>> {
    let mut locks: BTreeMap<&SmolStr, Vec<usize>> = BTreeMap::new();
    for (at, operation) in run.operations.iter().enumerate() {
        if let (Some(lock), Some(_)) = (operation.key(), LockOp::of(&operation.op)) {
            locks.entry(lock).or_default().push(at);
        }
    }
    locks
}

/// The token that an operation was granted, if it was.
fn granted(run: &Run<'_>, at: usize) -> Option<u64> {
    let operation = &run.operations[at];
    match (&operation.op.f, operation.outcome, &operation.result) {
        (Function::Acquire, Outcome::Ok, Some(token)) => token.as_u64(),
        _ => None,
    }
}

/// Two holdings that overlap; `later` began later.
struct Overlap {
    earlier: Holding,
    later: Holding,
}

impl Overlap {
    fn length(&self) -> Duration {
        words::between(self.later.from, self.earlier.to.min(self.later.to))
    }

    fn sentence(&self, run: &Run<'_>) -> String {
        let name = |holding: &Holding| format!("{} (token {})", words::who(&run.operations[holding.by]), holding.token);
        format!(
            "Two held {} at once: {} and {}, for {} from {}.",
            self.later.lock,
            name(&self.earlier),
            name(&self.later),
            words::span(self.length()),
            self.later.from
        )
    }

    fn story(&self, run: &Run<'_>) -> Vec<String> {
        let mut lines: Vec<String> = [&self.earlier, &self.later].map(|holding| holding.story(run)).into();
        lines.extend(
            words::faults(run, self.earlier.from, self.earlier.to.min(self.later.to)).map(|l| format!("  {l}")),
        );
        lines
    }
}

/// Each holding that began during an earlier one, with that one which lasted longest.
fn overlapping(mut holdings: Vec<Holding>) -> Vec<Overlap> {
    holdings.sort_by_key(|holding| (holding.from, holding.to, holding.by));
    let mut found = Vec::new();
    let mut longest: Option<Holding> = None;
    for holding in holdings {
        if let Some(earlier) = &longest
            && holding.from < earlier.to
            && holding.from < holding.to
        {
            found.push(Overlap { earlier: earlier.clone(), later: holding.clone() });
        }
        if longest.as_ref().is_none_or(|earlier| holding.to > earlier.to) {
            longest = Some(holding);
        }
    }
    found
}

/// Grants whose tokens are equal, or in the wrong order.
fn token_order(run: &Run<'_>, lock: &str, operations: &[usize]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut owners: BTreeMap<u64, usize> = BTreeMap::new();
    let grant = |token: u64, at: usize| {
        let operation = &run.operations[at];
        let completed = operation.ended().unwrap_or_default();
        format!("token {token} to {} (asked at {}, granted at {completed})", words::who(operation), operation.began())
    };
    for &at in operations {
        let Some(token) = granted(run, at) else { continue };
        if let Some(other) = owners.insert(token, at) {
            wrong.push(format!(
                "Two grants of {lock} have the same token: {}, and {}.",
                grant(token, other),
                grant(token, at)
            ));
        }
    }
    let grants = operations.iter().filter_map(|at| Some((*at, granted(run, *at)?)));
    for (earlier, later) in older_after_newer(run, grants) {
        // Equal tokens have been told above.
        if earlier.1 > later.1 {
            wrong.push(format!(
                "Tokens of {lock} went backwards: {}, and after that {}.",
                grant(earlier.1, earlier.0),
                grant(later.1, later.0)
            ));
        }
    }
    wrong
}

/// Accesses that the resource accepted though it had accepted one with a newer token before.
fn late_accesses(run: &Run<'_>, lock: &str, operations: &[usize]) -> Vec<String> {
    let accepted =
        operations.iter().filter_map(|at| match (LockOp::of(&run.operations[*at].op), run.operations[*at].outcome) {
            (Some(LockOp::Access { token, .. }), Outcome::Ok) => Some((*at, token)),
            _ => None,
        });
    let access = |(at, token): (usize, u64)| {
        let operation = &run.operations[at];
        let completed = operation.ended().unwrap_or_default();
        format!("token {token} from {} ({} to {completed})", words::who(operation), operation.began())
    };
    older_after_newer(run, accepted)
        .into_iter()
        .filter(|(earlier, later)| earlier.1 > later.1)
        .map(|(earlier, later)| {
            format!(
                "The resource behind {lock} accepted an old token after a newer one: {}, and after that {}.",
                access(earlier),
                access(later)
            )
        })
        .collect()
}

/// Of operations with tokens: each that was invoked after another with at least as high a token
/// was over, with the one of these that has the highest.
fn older_after_newer(
    run: &Run<'_>,
    operations: impl Iterator<Item = (usize, u64)>,
) -> Vec<((usize, u64), (usize, u64))> {
    // (position, is an invocation, operation, token): what completes at a position does so before
    // anything else is invoked, and no two events share one.
    let mut events = BTreeSet::new();
    for (at, token) in operations {
        events.insert((run.spans[at].invoked, true, at, token));
        if let Some(completed) = run.spans[at].completed {
            events.insert((completed, false, at, token));
        }
    }
    let mut highest: Option<(usize, u64)> = None;
    let mut found = Vec::new();
    for (_, invoked, at, token) in events {
        if !invoked {
            if highest.is_none_or(|(_, high)| token > high) {
                highest = Some((at, token));
            }
        } else if let Some(earlier) = highest
            && earlier.1 >= token
        {
            found.push((earlier, (at, token)));
        }
    }
    found
}

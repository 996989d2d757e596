//! From a lock's operations to who held it when, by the rules of the module above.

use std::collections::BTreeMap;
use std::time::Duration;

use duress_history::{Outcome, Process, Time};
use smol_str::SmolStr;

use super::{LockOp, granted};
use crate::{Run, words};

/// Why a holding ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Its release was invoked.
    Released,
    /// Its process asked for the lock again.
    GivenUp,
    /// A renewal was refused.
    Refused,
    /// Its lease ran out.
    Lease,
    /// An accepted access went on past all that.
    Access,
}

/// One grant, held from one moment to another.
#[derive(Clone, Debug)]
pub(super) struct Holding {
    pub(super) lock: SmolStr,
    pub(super) token: u64,
    /// The acquire or, where that isn't known, the access.
    pub(super) by: usize,
    pub(super) from: Time,
    pub(super) to: Time,
    /// When the lease that the client could count on ran out.
    lease_end: Time,
    end: End,
}

impl Holding {
    pub(super) fn story(&self, run: &Run<'_>) -> String {
        let operation = &run.operations[self.by];
        let node = operation.node.as_ref().map_or(String::new(), |node| format!(", granted by {node},"));
        let how = match self.end {
            End::Released => "until it asked to release it".to_string(),
            End::GivenUp => "until it asked for it again".to_string(),
            End::Refused => "until a renewal was refused".to_string(),
            End::Lease => "until its lease ran out".to_string(),
            End::Access => {
                let past = words::span(words::between(self.lease_end, self.to));
                format!("when an access was accepted, {past} after its lease had run out at {}", self.lease_end)
            }
        };
        let (who, token) = (words::who(operation), self.token);
        format!("  {who} held it under token {token}{node} from {} to {}, {how}.", self.from, self.to)
    }
}

/// A grant and what its holder did under it.
struct Grant {
    holding: Holding,
    /// Since when nothing extends it any more.
    closed: Option<(Time, End)>,
}

/// Every holding of one lock, from its operations in the order of their invocations.
pub(super) fn holdings(run: &Run<'_>, operations: &[usize]) -> Vec<Holding> {
    let mut grants: Vec<Grant> = Vec::new();
    // Tokens are matched to grants of the same process, and only otherwise to any: a broken
    // target may give one token to two.
    let mut by_token: BTreeMap<u64, Vec<(Process, usize)>> = BTreeMap::new();
    // process → its grant of this lock
    let mut current: BTreeMap<Process, usize> = BTreeMap::new();
    for &at in operations {
        let operation = &run.operations[at];
        let find = |token: u64| {
            let owners = by_token.get(&token)?;
            let own = owners.iter().rev().find(|(process, _)| *process == operation.process);
            own.or(owners.last()).map(|(_, grant)| *grant)
        };
        let completed = operation.ended().unwrap_or(run.end);
        let (Some(lock), Some(op)) = (operation.key(), LockOp::of(&operation.op)) else { continue };
        match op {
            LockOp::Acquire { lease_ms } => {
                if let Some(last) = current.remove(&operation.process) {
                    grants[last].close(operation.began(), End::GivenUp);
                }
                let Some(token) = granted(run, at) else { continue };
                let lease_end = after(operation.began(), lease_ms);
                by_token.entry(token).or_default().push((operation.process, grants.len()));
                current.insert(operation.process, grants.len());
                grants.push(Grant {
                    holding: Holding {
                        lock: lock.clone(),
                        token,
                        by: at,
                        from: completed,
                        to: completed.max(lease_end),
                        lease_end,
                        end: End::Lease,
                    },
                    closed: None,
                });
            }
            LockOp::Renew { token, lease_ms } => {
                let Some(grant) = find(token).map(|g| &mut grants[g]) else { continue };
                match operation.outcome {
                    Outcome::Ok => grant.extend(after(operation.began(), lease_ms), End::Lease),
                    Outcome::Fail if operation.error_name() == Some("not-holder") => {
                        grant.close(completed, End::Refused);
                    }
                    Outcome::Fail | Outcome::Info => {}
                }
            }
            LockOp::Release { token } => {
                if let Some(grant) = find(token) {
                    grants[grant].close(operation.began(), End::Released);
                }
            }
            LockOp::Access { token, .. } if operation.outcome == Outcome::Ok => match find(token) {
                Some(grant) => grants[grant].extend(completed, End::Access),
                None => {
                    let (from, to) = (operation.began(), completed);
                    let holding =
                        Holding { lock: lock.clone(), token, by: at, from, to, lease_end: from, end: End::Access };
                    by_token.entry(token).or_default().push((operation.process, grants.len()));
                    grants.push(Grant { holding, closed: None });
                }
            },
            _ => {}
        }
    }
    grants.into_iter().map(Grant::finish).collect()
}

fn after(time: Time, millis: u64) -> Time {
    time.duration().saturating_add(Duration::from_millis(millis)).into()
}

impl Grant {
    fn extend(&mut self, to: Time, why: End) {
        if self.closed.is_some() {
            return;
        }
        if why == End::Lease {
            self.holding.lease_end = self.holding.lease_end.max(to);
        }
        if to > self.holding.to {
            self.holding.to = to;
            self.holding.end = why;
        }
    }

    fn close(&mut self, at: Time, why: End) {
        self.closed.get_or_insert((at, why));
    }

    fn finish(self) -> Holding {
        let mut holding = self.holding;
        if let Some((at, why)) = self.closed
            && at < holding.to
        {
            holding.to = at.max(holding.from);
            holding.end = why;
        }
        holding
    }
}

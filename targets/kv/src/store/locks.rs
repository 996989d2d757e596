//! Locks with leases, judged by replicated time.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Outcome;
use crate::api::{ClientId, LockName, Refusal, Reply, Token};

/// The locks that are held, or were when their lease ran out.
///
/// Tokens come from one counter for all locks, so they increase per lock forever although a
/// released lock leaves nothing behind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Locks {
    granted: u64,
    holders: BTreeMap<LockName, Holder>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Holder {
    client: ClientId,
    token: Token,
    /// The replicated time from which the lock is free again.
    until: Duration,
}

impl Locks {
    /// Grants a lock that nobody holds. Not reentrant: the holder itself is refused too.
    pub(super) fn acquire(&mut self, lock: &LockName, client: ClientId, lease: Duration, time: Duration) -> Outcome {
        if self.holders.get(lock).is_some_and(|holder| time < holder.until) {
            return Err(Refusal::LockHeld);
        }
        self.granted += 1;
        let token = Token(self.granted);
        self.holders.insert(lock.clone(), Holder { client, token, until: time.saturating_add(lease) });
        Ok(Reply::Granted(token))
    }

    pub(super) fn renew(
        &mut self,
        lock: &LockName,
        client: ClientId,
        token: Token,
        lease: Duration,
        time: Duration,
    ) -> Outcome {
        self.holder(lock, client, token, time)?.until = time.saturating_add(lease);
        Ok(Reply::Done)
    }

    pub(super) fn release(&mut self, lock: &LockName, client: ClientId, token: Token, time: Duration) -> Outcome {
        self.holder(lock, client, token, time)?;
        self.holders.remove(lock);
        Ok(Reply::Done)
    }

    /// What [`renew`](Self::renew) is with
    /// [`Bug::LeaseRenewedAfterExpiry`](crate::bugs::Bug::LeaseRenewedAfterExpiry).
    pub(super) fn renew_whosever(&mut self, lock: &LockName, lease: Duration, time: Duration) -> Outcome {
        self.holders.get_mut(lock).ok_or(Refusal::NotHolder)?.until = time.saturating_add(lease);
        Ok(Reply::Done)
    }

    /// What [`release`](Self::release) is with
    /// [`Bug::LockReleasedByStaleHolder`](crate::bugs::Bug::LockReleasedByStaleHolder).
    pub(super) fn release_whosever(&mut self, lock: &LockName) -> Outcome {
        self.holders.remove(lock).map(|_| Reply::Done).ok_or(Refusal::NotHolder)
    }

    /// What a snapshot holds with [`Bug::FencingTokenReused`](crate::bugs::Bug::FencingTokenReused).
    pub(super) fn without_tokens(&self) -> Locks {
        Locks { granted: 0, holders: self.holders.clone() }
    }

    fn holder(
        &mut self,
        lock: &LockName,
        client: ClientId,
        token: Token,
        time: Duration,
    ) -> Result<&mut Holder, Refusal> {
        let holds = |holder: &&mut Holder| holder.client == client && holder.token == token && time < holder.until;
        self.holders.get_mut(lock).filter(holds).ok_or(Refusal::NotHolder)
    }
}

//! The applied state of the log-based modes: keys, locks, which requests have been applied, and a
//! digest of everything that was.
//!
//! A [`Store`] is a pure function of the commands applied to it, in order: replicas that applied
//! the same log hold equal stores. It knows nothing of how the log came about, reads no clock
//! (leases run on the time that commands carry) and is what a snapshot contains.

mod locks;
mod sessions;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::api::{Key, Op, Refusal, Reply, Request, Value};
use crate::bugs::Bug;
use locks::Locks;
pub use sessions::MAX_CLIENTS;
use sessions::Sessions;

/// Every replica says its digest ([`Observation::Committed`](duress_machine::Observation)) after
/// applying an index that is a multiple of this.
pub const CHECKPOINT_INTERVAL: u64 = 64;

/// What an operation gave.
pub type Outcome = Result<Reply, Refusal>;

/// One entry of the replicated log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Command {
    /// Changes nothing: fills a slot that must not stay open.
    Noop,
    /// A client's request.
    Request {
        /// What is asked, and by whom.
        request: Request,
        /// The leader's wall clock when it proposed the request, since the Unix epoch. It drives
        /// the [time](Store::time) by which leases are judged.
        at: Duration,
    },
}

impl Command {
    /// About how many bytes the command takes in a message, for bounding messages.
    pub fn size(&self) -> usize {
        match self {
            Command::Noop => 1,
            Command::Request { request, .. } => request.op.size() + 32,
        }
    }
}

/// The state that the log's commands make, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Store {
    index: u64,
    digest: u64,
    time: Duration,
    entries: BTreeMap<Key, Value>,
    locks: Locks,
    sessions: Sessions,
}

impl Store {
    /// Applies the next command of the log and gives its answer.
    ///
    /// A request that changes something is applied at most once: a repetition gets the first
    /// application's answer, and a request older than the client's latest gets
    /// [`Refusal::Superseded`]. The last answer of [`MAX_CLIENTS`] clients is remembered, those
    /// applied most recently; a repetition after more than that many other clients is not
    /// recognised. Reads have nothing to repeat and are not remembered.
    ///
    /// Takes time logarithmic in the number of keys, locks and clients.
    pub fn apply(&mut self, command: &Command) -> Outcome {
        self.apply_with(command, None)
    }

    /// As [`apply`](Store::apply), with a planted bug.
    pub(crate) fn apply_with(&mut self, command: &Command, bug: Option<Bug>) -> Outcome {
        self.index += 1;
        self.digest = chain(self.digest, command);
        let Command::Request { request, at } = command else { return Ok(Reply::Done) };
        // Clocks of successive leaders differ and may jump back; replicated time only advances.
        self.time = self.time.max(*at);
        if let Some(reply) = self.read(&request.op) {
            return Ok(reply);
        }
        if let Some(seen) = self.seen(request).filter(|_| bug != Some(Bug::RetryAppliedTwice)) {
            return seen;
        }
        let outcome = self.change(request, bug);
        self.sessions.remember(request.client, request.sequence, self.index, outcome.clone());
        outcome
    }

    /// The answer of a reading operation from the state as it is; `None` for any other operation.
    pub fn read(&self, op: &Op) -> Option<Reply> {
        match op {
            Op::Read { key } => Some(Reply::Value(self.entries.get(key).cloned())),
            Op::Scan { prefix } => {
                let from = (Bound::Included(prefix.clone()), Bound::Unbounded);
                let with_prefix = self.entries.range(from).take_while(|(key, _)| key.starts_with(prefix.as_str()));
                Some(Reply::Entries(with_prefix.map(|(key, value)| (key.clone(), value.clone())).collect()))
            }
            _ => None,
        }
    }

    /// What a request that has been applied before gets: its answer, or [`Refusal::Superseded`] if
    /// a later request of its client has been applied. `None` if it must be applied.
    pub fn seen(&self, request: &Request) -> Option<Outcome> {
        self.sessions.seen(request.client, request.sequence)
    }

    /// How many commands have been applied; the index of the last one, counted from one.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// A hash chained over every command applied, in order. Equal on replicas that applied the
    /// same log up to [`index`](Store::index), and the same on every platform.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Replicated time: the latest wall clock reading that any applied command carries. A lease
    /// runs out when it passes the lease's end, on every replica at the same index.
    pub fn time(&self) -> Duration {
        self.time
    }

    /// How many keys are set.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no key is set.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The state as bytes, for snapshots.
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("maps and integers can be written to growing memory")
    }

    /// As [`to_bytes`](Store::to_bytes), with a planted bug.
    pub(crate) fn to_bytes_with(&self, bug: Option<Bug>) -> Vec<u8> {
        match bug {
            Some(Bug::ClientTableLostInSnapshot) => Store { sessions: Sessions::default(), ..self.clone() }.to_bytes(),
            Some(Bug::FencingTokenReused) => Store { locks: self.locks.without_tokens(), ..self.clone() }.to_bytes(),
            _ => self.to_bytes(),
        }
    }

    /// The state from what [`to_bytes`](Store::to_bytes) gave; `None` for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Store> {
        postcard::from_bytes(bytes).ok()
    }

    fn change(&mut self, request: &Request, bug: Option<Bug>) -> Outcome {
        match &request.op {
            Op::Write { key, value } => {
                self.entries.insert(key.clone(), value.clone());
                Ok(Reply::Done)
            }
            Op::Cas { key, from, to } => {
                let actual = self.entries.get(key);
                if actual != from.as_ref() {
                    return Err(Refusal::CasMismatch { actual: actual.cloned() });
                }
                self.entries.insert(key.clone(), to.clone());
                Ok(Reply::Done)
            }
            Op::Acquire { lock, lease } => self.locks.acquire(lock, request.client, *lease, self.time),
            Op::Renew { lock, lease, .. } if bug == Some(Bug::LeaseRenewedAfterExpiry) => {
                self.locks.renew_whosever(lock, *lease, self.time)
            }
            Op::Release { lock, .. } if bug == Some(Bug::LockReleasedByStaleHolder) => {
                self.locks.release_whosever(lock)
            }
            Op::Renew { lock, token, lease } => self.locks.renew(lock, request.client, *token, *lease, self.time),
            Op::Release { lock, token } => self.locks.release(lock, request.client, *token, self.time),
            Op::Read { .. } | Op::Scan { .. } => Err(Refusal::NotSupported),
        }
    }
}

fn chain(digest: u64, command: &Command) -> u64 {
    // Most commands are short: no memory is asked for them.
    let mut short = [0; 128];
    if let Ok(bytes) = postcard::to_slice(command, &mut short) {
        return xxhash_rust::xxh3::xxh3_64_with_seed(bytes, digest);
    }
    let bytes = postcard::to_allocvec(command).expect("strings and integers can be written to growing memory");
    xxhash_rust::xxh3::xxh3_64_with_seed(&bytes, digest)
}

#[cfg(test)]
mod tests;

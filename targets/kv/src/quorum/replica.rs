//! A node's share of the data: registers and leases. It knows nothing of quorums.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use super::message::{Answer, Ask, Lease, Record, RoundId, Tag};
use crate::api::{Key, LockName, Value};
use crate::bugs::Bug;

/// No page of a scan has more entries than this …
const PAGE_ENTRIES: usize = 4096;
/// … or more bytes of keys and values, one entry apart.
const PAGE_BYTES: usize = 512 << 10;

/// Registers and leases of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Replica {
    registers: BTreeMap<Key, Register>,
    locks: BTreeMap<LockName, Lock>,
    /// Exclusive or of the hashes of all registers: independent of the order of writes.
    digest: u64,
    bug: Option<Bug>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Register {
    tag: Tag,
    value: Value,
    /// The journal's position of its record; zero if it was recovered.
    position: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Lock {
    highest: u64,
    /// With the end of the lease by this life's monotonic clock.
    lease: Option<(Lease, Duration)>,
}

impl Lock {
    fn held(&self, now: Duration) -> bool {
        self.lease.as_ref().is_some_and(|(lease, until)| lease.ended.is_none() && now < *until)
    }

    fn record(&self, lock: &LockName) -> Record {
        let lease = self.lease.as_ref().map(|(lease, _)| lease.clone());
        Record::Lock { lock: lock.clone(), highest: self.highest, lease }
    }
}

/// An answer, the record that it rests on, and how far the journal must be durable before it may
/// be said.
pub(super) struct Served {
    pub(super) answer: Answer,
    pub(super) record: Option<Record>,
    pub(super) position: u64,
}

impl Replica {
    /// An empty one.
    pub(super) fn new(bug: Option<Bug>) -> Self {
        Replica { bug, ..Replica::default() }
    }

    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    /// How many records the state needs.
    pub(super) fn len(&self) -> usize {
        self.registers.len() + self.locks.len()
    }

    /// The state as records.
    pub(super) fn records(&self) -> impl Iterator<Item = Record> + '_ {
        let registers = self.registers.iter().map(|(key, register)| Record::Register {
            key: key.clone(),
            tag: register.tag,
            value: register.value.clone(),
        });
        registers.chain(self.locks.iter().map(|(name, lock)| lock.record(name)))
    }

    /// Takes in a record of an earlier life. A lease starts again in full: how much of it had
    /// passed by the time of the crash isn't known, and too long is the safe side.
    pub(super) fn recover(&mut self, record: Record, now: Duration) {
        match record {
            Record::Life { .. } => {}
            Record::Register { key, tag, value } => {
                self.store(key, tag, value, 0);
            }
            Record::Lock { lock, mut highest, mut lease } => {
                match self.bug {
                    Some(Bug::FencingTokenReused) => highest = 0,
                    Some(Bug::LockLeaseForgottenOnRestart) => lease = None,
                    _ => {}
                }
                let lease = lease.map(|lease| {
                    let until = now.saturating_add(lease.length);
                    (lease, until)
                });
                self.locks.insert(lock, Lock { highest, lease });
            }
        }
    }

    /// Keeps a value unless a newer one is there; the record to write if it was kept, which will
    /// be at `position` of the journal.
    pub(super) fn store(&mut self, key: Key, tag: Tag, value: Value, position: u64) -> Option<Record> {
        if let Some(old) = self.registers.get(&key) {
            let tied = self.bug == Some(Bug::TieBrokenByArrival) && old.tag.time == tag.time;
            if old.tag >= tag || tied {
                return None;
            }
            self.digest ^= hash(&key, old.tag, &old.value);
        }
        self.digest ^= hash(&key, tag, &value);
        self.registers.insert(key.clone(), Register { tag, value: value.clone(), position });
        Some(Record::Register { key, tag, value })
    }

    /// Forgets a value ([`Bug::ReadRepairWritesOlderTag`] only).
    pub(super) fn forget(&mut self, key: &Key) {
        if let Some(old) = self.registers.remove(key) {
            self.digest ^= hash(key, old.tag, &old.value);
        }
    }

    /// Answers a coordinator. `written` is the journal's position before this answer's record.
    pub(super) fn serve(&mut self, ask: &Ask, round: RoundId, now: Duration, written: u64) -> Served {
        // Whatever changes or might repeat a change waits for all that is written.
        let with = |answer, record: Option<Record>| Served {
            position: if record.is_some() { written + 1 } else { written },
            answer,
            record,
        };
        match ask {
            Ask::Query { key } => {
                let register = self.registers.get(key);
                Served {
                    answer: Answer::Value(register.map(|r| (r.tag, r.value.clone()))),
                    record: None,
                    // A value that is not yet durable could be gone after a crash, and a reader
                    // must not have seen it then.
                    position: register.map_or(0, |r| r.position),
                }
            }
            Ask::Store { key, tag, value } => {
                let record = self.store(key.clone(), *tag, value.clone(), written + 1);
                with(Answer::Stored, record)
            }
            Ask::Scan { prefix, after } => with(self.page(prefix, after.as_ref()), None),
            Ask::Token { lock } => {
                let lock = self.locks.get(lock);
                let answer =
                    Answer::Token { highest: lock.map_or(0, |l| l.highest), held: lock.is_some_and(|l| l.held(now)) };
                with(answer, None)
            }
            Ask::Grant { lock: name, token, client, lease } => {
                let lock = self.locks.entry(name.clone()).or_default();
                let again = lock.lease.as_ref().is_some_and(|(l, _)| l.granted == round) && lock.held(now);
                if again {
                    return with(Answer::Lease { granted: true }, None);
                }
                let granted = *token > lock.highest && !lock.held(now);
                let news = *token > lock.highest;
                // A refusal, too, uses the token up: a late copy of this question must not be
                // granted after the coordinator has given a definite answer.
                lock.highest = lock.highest.max(*token);
                if granted {
                    let grant = Lease { token: *token, client: *client, granted: round, length: *lease, ended: None };
                    lock.lease = Some((grant, now.saturating_add(*lease)));
                }
                let record = news.then(|| lock.record(name));
                with(Answer::Lease { granted }, record)
            }
            Ask::Extend { lock: name, token, client, lease } => {
                let whosever = self.bug == Some(Bug::LeaseRenewedAfterExpiry);
                let held = self.locks.get_mut(name).and_then(|lock| match &mut lock.lease {
                    Some((l, until))
                        if whosever
                            || l.token == *token && l.client == *client && l.ended.is_none() && now < *until =>
                    {
                        // A late copy must not shorten what a newer extension gave.
                        *until = (*until).max(now.saturating_add(*lease));
                        let longer = *lease > l.length;
                        l.length = l.length.max(*lease);
                        Some((lock, longer))
                    }
                    _ => None,
                });
                let record = match &held {
                    // After a restart the lease starts again at its length, so only a greater
                    // length needs to be written down.
                    Some((lock, true)) => Some(lock.record(name)),
                    _ => None,
                };
                with(Answer::Lease { granted: held.is_some() }, record)
            }
            Ask::Free { lock, token, client } => {
                let whosever = self.bug == Some(Bug::LockReleasedByStaleHolder);
                let mine =
                    |l: &Lease, until: Duration| whosever || l.token == *token && l.client == *client && now < until;
                let (granted, record) = self.end(lock, round, mine);
                with(Answer::Lease { granted }, record)
            }
            Ask::Abandon { lock, granted } => {
                let (granted, record) = self.end(lock, round, |l, _| l.granted == *granted);
                with(Answer::Lease { granted }, record)
            }
        }
    }

    /// Ends a lease if `ends` says so of it and its end. Asked again by the same round, the
    /// answer is the same.
    fn end(
        &mut self,
        name: &LockName,
        round: RoundId,
        ends: impl FnOnce(&Lease, Duration) -> bool,
    ) -> (bool, Option<Record>) {
        let Some(lock) = self.locks.get_mut(name) else { return (false, None) };
        let Some((lease, until)) = &mut lock.lease else { return (false, None) };
        if lease.ended.is_some() || !ends(lease, *until) {
            return (lease.ended == Some(round), None);
        }
        lease.ended = Some(round);
        (true, Some(lock.record(name)))
    }

    fn page(&self, prefix: &Key, after: Option<&Key>) -> Answer {
        let from = match after {
            Some(key) if key >= prefix => Bound::Excluded(key),
            _ => Bound::Included(prefix),
        };
        let mut entries = Vec::new();
        let mut bytes = 0;
        let range = self.registers.range::<Key, _>((from, Bound::Unbounded));
        for (key, register) in range.take_while(|(key, _)| key.starts_with(prefix.as_str())) {
            if entries.len() == PAGE_ENTRIES || bytes >= PAGE_BYTES {
                return Answer::Page { entries, more: true };
            }
            bytes += key.len() + register.value.len();
            entries.push((key.clone(), register.tag, register.value.clone()));
        }
        Answer::Page { entries, more: false }
    }
}

fn hash(key: &Key, tag: Tag, value: &Value) -> u64 {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    // Lengths first, so that no two registers read the same.
    for text in [key, value] {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    for word in [tag.time, tag.round.node.0.into(), tag.round.life, tag.round.number] {
        hasher.update(&word.to_le_bytes());
    }
    hasher.digest()
}

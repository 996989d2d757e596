//! A request on its way through its rounds.

use std::collections::BTreeMap;
use std::time::Duration;

use duress_machine::{NodeId, RequestId};

use super::message::{Answer, Ask, Tag};
use crate::api::{ClientId, Key, LockName, Value};

/// A request in one of its rounds: a question to several replicas, and what they answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Operation {
    /// Who waits for the answer; nobody once it was given.
    pub(super) request: Option<RequestId>,
    /// Whose request it is.
    pub(super) client: ClientId,
    /// When the request came, by the monotonic clock.
    pub(super) started: Duration,
    /// When the round's question was last sent.
    pub(super) sent: Duration,
    /// The round's question.
    pub(super) ask: Ask,
    /// Whom it goes to.
    pub(super) targets: Vec<NodeId>,
    /// Who has answered what.
    pub(super) answers: BTreeMap<NodeId, Answer>,
    /// What the answers are for.
    pub(super) phase: Phase,
}

/// What the answers of a round are for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    /// A write that looks for the greatest tag.
    WriteQuery {
        /// The key.
        key: Key,
        /// The value to write.
        value: Value,
    },
    /// A write that stores.
    WriteStore,
    /// A read that looks for the greatest tag.
    ReadQuery {
        /// The key.
        key: Key,
    },
    /// A read that makes sure of what it will return.
    WriteBack {
        /// What it will return.
        value: Value,
        /// How many replicas were known to hold it before this round.
        holders: usize,
    },
    /// A read that has been answered and waits for old values to repair.
    Repair {
        /// The key.
        key: Key,
        /// The tag that it found.
        tag: Tag,
        /// The value that it returned.
        value: Value,
    },
    /// A scan, page after page.
    Scan {
        /// The prefix.
        prefix: Key,
        /// The pages so far.
        found: Vec<(Key, Value)>,
        /// Their keys' and values' bytes.
        bytes: usize,
    },
    /// An acquisition that looks for the greatest token.
    AcquireToken {
        /// The lock.
        lock: LockName,
        /// The lease asked for.
        lease: Duration,
    },
    /// An acquisition that collects grants.
    AcquireGrant {
        /// The lock.
        lock: LockName,
        /// The token.
        token: u64,
        /// The lease asked for.
        lease: Duration,
    },
    /// A renewal or release that collects consents.
    Consent,
}

impl Operation {
    /// Replicas that granted and that refused.
    pub(super) fn votes(&self) -> (usize, usize) {
        let granted = self.answers.values().filter(|a| **a == Answer::Lease { granted: true }).count();
        (granted, self.answers.len() - granted)
    }

    /// The greatest tag with its value among the answers, and how many gave it.
    pub(super) fn newest(&self) -> Option<(Tag, Value, usize)> {
        let tagged = || {
            self.answers.values().filter_map(|answer| match answer {
                Answer::Value(Some((tag, value))) => Some((*tag, value)),
                _ => None,
            })
        };
        let (tag, value) = tagged().max_by_key(|(tag, _)| *tag)?;
        Some((tag, value.clone(), tagged().filter(|(t, _)| *t == tag).count()))
    }
}

//! Which request of each client was applied last, and its answer: what makes a repeated request
//! apply once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Outcome;
use crate::api::{ClientId, Refusal};

/// How many clients are remembered. Beyond it, the one whose last request was applied longest ago
/// is forgotten, on every replica at the same index.
pub const MAX_CLIENTS: usize = 4096;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Sessions {
    clients: BTreeMap<ClientId, Session>,
    /// The clients by the index of their last request: whom to forget first.
    oldest: BTreeMap<u64, ClientId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Session {
    sequence: u64,
    index: u64,
    outcome: Outcome,
}

impl Sessions {
    pub(super) fn seen(&self, client: ClientId, sequence: u64) -> Option<Outcome> {
        let session = self.clients.get(&client)?;
        match sequence.cmp(&session.sequence) {
            std::cmp::Ordering::Less => Some(Err(Refusal::Superseded)),
            std::cmp::Ordering::Equal => Some(session.outcome.clone()),
            std::cmp::Ordering::Greater => None,
        }
    }

    pub(super) fn remember(&mut self, client: ClientId, sequence: u64, index: u64, outcome: Outcome) {
        if let Some(previous) = self.clients.insert(client, Session { sequence, index, outcome }) {
            self.oldest.remove(&previous.index);
        }
        self.oldest.insert(index, client);
        if self.clients.len() > MAX_CLIENTS
            && let Some((_, forgotten)) = self.oldest.pop_first()
        {
            self.clients.remove(&forgotten);
        }
    }
}

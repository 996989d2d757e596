//! What a spectator may look at while a run goes on.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use duress_history::{Outcome, Phase};

/// Counters of a run in progress, shared between the run and whoever shows them.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    ok: AtomicU64,
    fail: AtomicU64,
    info: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    phase: Option<Phase>,
    faults: BTreeMap<u64, String>,
}

/// A run at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Operations that happened, did not happen, and may have happened.
    pub ok: u64,
    /// Operations that did not happen.
    pub fail: u64,
    /// Operations of which nobody knows.
    pub info: u64,
    /// The phase; `None` while the target is being deployed.
    pub phase: Option<Phase>,
    /// Faults in force, in words.
    pub faults: Vec<String>,
}

impl Progress {
    /// The run at this moment.
    pub fn snapshot(&self) -> Snapshot {
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        Snapshot {
            ok: self.0.ok.load(Ordering::Relaxed),
            fail: self.0.fail.load(Ordering::Relaxed),
            info: self.0.info.load(Ordering::Relaxed),
            phase: state.phase,
            faults: state.faults.values().cloned().collect(),
        }
    }

    pub(crate) fn operation(&self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Ok => &self.0.ok,
            Outcome::Fail => &self.0.fail,
            Outcome::Info => &self.0.info,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn phase(&self, phase: Phase) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).phase = Some(phase);
    }

    pub(crate) fn fault(&self, fault: u64, what: Option<String>) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        match what {
            Some(what) => state.faults.insert(fault, what),
            None => state.faults.remove(&fault),
        };
    }
}

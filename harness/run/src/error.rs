//! Why a run could not be carried out.

use std::path::PathBuf;
use std::time::Duration;

use duress_history::Host;
use thiserror::Error;

use crate::{Refusal, TargetError};

/// Why a run could not be carried out. Never the target's fault, except where it says so.
#[derive(Debug, Error)]
pub enum RunError {
    /// The back end lacks what the schedule needs. Nothing was begun.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Deployment, process control or harm failed at the back end.
    #[error(transparent)]
    Backend(#[from] duress_backend::Error),
    /// The target's own messages could not be made or read.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Reading or writing failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// A node did not come up.
    #[error("{node} was not ready within {} s; its log is {}", within.as_secs(), log.display())]
    NotReady {
        /// Which node.
        node: Host,
        /// How long it was waited for.
        within: Duration,
        /// Its log.
        log: PathBuf,
    },
    /// A node ended instead of coming up.
    #[error("{node} ended before it was ready; its log is {}", log.display())]
    Ended {
        /// Which node.
        node: Host,
        /// Its log.
        log: PathBuf,
    },
    /// The network is broken before anything was done to it.
    #[error("before any fault, probes did not get through: {0}")]
    Network(String),
    /// The target never served, though nothing was done to it.
    #[error("no client got an answer within {} s of deployment, before any fault; see the nodes' logs", .0.as_secs())]
    NeverServed(Duration),
    /// A fault in Duress.
    #[error("{0}")]
    Harness(String),
}

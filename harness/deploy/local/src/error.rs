//! Why a host, a process or the sandbox could not be had. Each error says what was tried, what
//! the kernel answered, and what to do about it where that is known.

use std::io;
use std::time::Duration;

use duress_backend::{Error, ProcessState};

/// A failure of the back end. Never a fault of the target.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeployError {
    /// The kernel refused something the back end needs.
    #[error("could not {tried}: {source}{}", hint(.advice))]
    Kernel {
        /// What was tried, as it reads after "could not".
        tried: String,
        /// What the kernel answered.
        source: io::Error,
        /// What to do about it; empty if nothing better is known than the answer itself.
        advice: String,
    },
    /// [`sandbox::prepare_inside`](crate::sandbox::prepare_inside) was called outside a sandbox, or too late.
    #[error("this process can't become the inside of a sandbox: {0}")]
    NotInSandbox(String),
    /// The list of hosts makes no sense.
    #[error("these hosts can't be deployed: {0}")]
    Hosts(String),
    /// No host has this name.
    #[error("there is no host named {name:?}; there are {known}")]
    UnknownHost {
        /// The name that was asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// The fabric could not be started.
    #[error(transparent)]
    Fabric(#[from] duress_fabric::FabricError),
    /// A process could not be started on a host.
    #[error("could not start {program} on {host}: {source}{}", hint(.advice))]
    Spawn {
        /// What was to run.
        program: String,
        /// Where.
        host: String,
        /// What the kernel answered.
        source: io::Error,
        /// What to do about it; empty if nothing better is known than the answer itself.
        advice: String,
    },
    /// A process did not get into the wanted state in time.
    #[error("process {pid} on {host} did not become {wanted} within {within:?}: it was last seen {seen}")]
    State {
        /// The process, as numbered inside the sandbox.
        pid: u32,
        /// Where it runs.
        host: String,
        /// The state that was asked for.
        wanted: ProcessState,
        /// The state it was last seen in.
        seen: ProcessState,
        /// How long it was given.
        within: Duration,
    },
}

impl DeployError {
    /// A refusal by the kernel that speaks for itself.
    pub(crate) fn kernel(tried: impl Into<String>, source: impl Into<io::Error>) -> DeployError {
        DeployError::Kernel { tried: tried.into(), source: source.into(), advice: String::new() }
    }

    /// Adds what to do about it.
    pub(crate) fn advise(self, text: impl Into<String>) -> DeployError {
        match self {
            DeployError::Kernel { tried, source, .. } => DeployError::Kernel { tried, source, advice: text.into() },
            DeployError::Spawn { program, host, source, .. } => {
                DeployError::Spawn { program, host, source, advice: text.into() }
            }
            other => other,
        }
    }
}

impl From<DeployError> for Error {
    fn from(error: DeployError) -> Error {
        match error {
            DeployError::State { seen: ProcessState::Gone, .. } => Error::gone(error),
            other => Error::failed(other),
        }
    }
}

fn hint(advice: &str) -> String {
    if advice.is_empty() { String::new() } else { format!(". {advice}") }
}

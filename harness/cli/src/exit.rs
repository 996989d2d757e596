//! Exit codes, and the errors that have one of their own.

use std::process::ExitCode;

use duress_checkers::Verdict;
use thiserror::Error;

/// Why a command could not do its work.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// The harness or the infrastructure failed: exit code 254.
    #[error("{0}")]
    Infrastructure(String),
    /// The user asked for something that can't be: exit code 255.
    #[error("{0}")]
    Usage(String),
}

impl Failure {
    pub(crate) fn code(&self) -> ExitCode {
        match self {
            Failure::Infrastructure(_) => ExitCode::from(254),
            Failure::Usage(_) => ExitCode::from(255),
        }
    }

    /// An infrastructure failure in words: what was tried, and what the system said.
    pub(crate) fn infrastructure(tried: &str, error: impl std::fmt::Display) -> Failure {
        Failure::Infrastructure(format!("{tried}: {error}"))
    }
}

/// The exit code of a verdict.
pub(crate) fn of(verdict: Verdict) -> ExitCode {
    ExitCode::from(match verdict {
        Verdict::Valid => 0,
        Verdict::Invalid => 1,
        Verdict::Unknown => 2,
    })
}

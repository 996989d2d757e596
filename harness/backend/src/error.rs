//! What can go wrong at a back end, in a form that can be sent from where it happened.

use serde::{Deserialize, Serialize};

use crate::Lacking;

/// A failure of a back end. Never a fault of the target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{words}")]
pub struct Error {
    /// What it means for whoever asked.
    pub kind: ErrorKind,
    /// What was tried, what came of it, and what to do about it where that is known.
    pub words: String,
}

/// What a failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The process has ended: there is nothing to do it to.
    Gone,
    /// The host can't be reached any more.
    Lost,
    /// It was refused, or didn't work.
    Failed,
}

impl Error {
    /// That something was refused or didn't work, in words.
    pub fn failed(words: impl ToString) -> Error {
        Error { kind: ErrorKind::Failed, words: words.to_string() }
    }

    /// That a process has ended, in words.
    pub fn gone(words: impl ToString) -> Error {
        Error { kind: ErrorKind::Gone, words: words.to_string() }
    }
}

impl From<Lacking> for Error {
    fn from(lacking: Lacking) -> Error {
        Error::failed(lacking)
    }
}

//! Families of faults, and what it means that a back end lacks one.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Faults that need the same of a back end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Family {
    /// What happens on the network between hosts, and the hosts' addresses on it.
    Links,
    /// Processes that are killed, stopped, slowed and limited.
    Processes,
    /// What processes are told of the time.
    Clocks,
    /// The file systems under data directories.
    Disks,
}

impl Family {
    /// Every one.
    pub const ALL: [Family; 4] = [Family::Links, Family::Processes, Family::Clocks, Family::Disks];
}

impl fmt::Display for Family {
    /// As it reads after "faults of".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Links => "links",
            Family::Processes => "processes",
            Family::Clocks => "clocks",
            Family::Disks => "disks",
        })
    }
}

/// That a back end doesn't have a family of faults, here or at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("faults of {family} need {needs}: {why}")]
pub struct Lacking {
    /// Which one.
    pub family: Family,
    /// What it takes, as it reads after "need": "FUSE file systems".
    pub needs: String,
    /// Why it isn't there, and what to do about it.
    pub why: String,
}

//! The history of a run: what was asked and answered, what was done to the cluster, and what the
//! nodes said of themselves, in one order.
//!
//! This crate knows nothing of how a history comes about or how it is judged. [`Event`] is the
//! unit; [`jsonl`] is the stored form, one JSON object per line, readable after any crash up to
//! the last complete line. [`formats`] reads the histories of other tools.

mod event;
pub mod formats;
pub mod jsonl;
mod op;
mod operation;
mod pair;
mod value;

pub use event::{
    Client, Completion, Event, EventKind, Evidence, Fact, FaultEvent, Header, Invocation, NodeReport, Outcome, Phase,
    Stage,
};
pub use op::{Function, Op, PROBES, Process};
pub use operation::{Conventions, Failed, Known, Moment, NilRead, Operation};
pub use pair::{Malformed, operations};
pub use value::Value;

/// The name of a host: a node (`n1`) or a client host (`c1`).
pub type Host = smol_str::SmolStr;

/// Nanoseconds since the run began, on the harness's monotonic clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Time(pub u64);

impl Time {
    /// The time as a duration since the run began.
    pub fn duration(self) -> std::time::Duration {
        std::time::Duration::from_nanos(self.0)
    }

    /// The time in seconds.
    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

impl From<std::time::Duration> for Time {
    /// Saturates after 584 years.
    fn from(duration: std::time::Duration) -> Self {
        Time(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl std::fmt::Display for Time {
    /// Seconds to the millisecond, as in `12.345s`; the precision can be given.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.*}s", f.precision().unwrap_or(3), self.seconds())
    }
}

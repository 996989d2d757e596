//! What an import gives: operations of any model, with values as they were written.

use smol_str::SmolStr;

use super::{Conventions, Format, Moment, Operation, Value};
use crate::Event;

/// Something that was done by no client: Jepsen's nemesis, and any process without a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NemesisEntry {
    /// The process's name, such as `nemesis`.
    pub process: SmolStr,
    /// What was done.
    pub function: SmolStr,
    /// Its value.
    pub value: Value,
    /// When.
    pub at: Moment,
}

/// A history that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// How it was written.
    pub format: Format,
    /// What its ambiguous cases mean.
    pub conventions: Conventions,
    /// The operations of clients, in the order of their invocations.
    pub operations: Vec<Operation>,
    /// What was done by no client, in order.
    pub nemesis: Vec<NemesisEntry>,
    /// Invocations and completions together, the nemesis's included.
    pub entries: u64,
    /// Whether `key` was taken from independent tuples.
    pub independent: bool,
    /// The events, of one of our own histories.
    pub events: Vec<Event>,
    /// Whether the last line of one of our own was cut off by a crash.
    pub truncated: bool,
}

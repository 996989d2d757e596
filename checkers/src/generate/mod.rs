//! Labelled histories from a seed: what clients of a correct object could have seen, or that with
//! one anomaly planted. For benchmarks, fuzzing, and trying other checkers.
//!
//! [`registers`] makes those of registers in the form that [`crate::engine`] takes, and
//! [`imported`] those of any of [`crate::models::ALL`]'s linearizable objects as if they had been
//! read from a file. Both simulate clients of an object, each operation taking effect at one
//! moment between its invocation and its return, so a history is valid by construction. An anomaly
//! is a moment at which the object does something else; its label is [`Label::Invalid`] only if
//! operations that surely followed each other prove it.

mod client;
mod proof;
mod registers;
mod samples;

use duress_history::formats::Imported;
use duress_seed::Seed;

pub use self::registers::{Anomaly, Generated, Label, Options, registers};

/// What a generated history of a model is like.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// How many operations.
    pub operations: u32,
    /// How many clients; each has one operation in progress at most, indeterminate ones apart.
    pub clients: u32,
    /// How many objects; clients choose among them at random.
    pub keys: u32,
    /// How many different values there are; `None`: each is used once.
    pub values: Option<u32>,
    /// The share of operations of which nobody learns whether they took effect. About half of them
    /// do.
    pub indeterminate: f64,
    /// The share of operations that fail without an effect.
    pub failed: f64,
    /// What is wrong with it, by one of the names of [`anomalies`].
    pub anomaly: Option<String>,
}

impl Default for Request {
    /// 1,000 operations of 5 clients on one object, every value used once, nothing wrong.
    fn default() -> Self {
        Request { operations: 1_000, clients: 5, keys: 1, values: None, indeterminate: 0.0, failed: 0.0, anomaly: None }
    }
}

/// A history and what it must be judged to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Labelled {
    /// The history. Moments count its entries, as lines do.
    pub history: Imported,
    /// What it is.
    pub label: Label,
    /// The operation, by its index, that the anomaly was planted at; `None` if there was no fit
    /// place.
    pub planted: Option<usize>,
}

/// Why no history can be generated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// Histories of this model can't be generated; those of these can.
    Model(Vec<&'static str>),
    /// The model has no such anomaly; it has these.
    Anomaly(Vec<&'static str>),
}

impl std::fmt::Display for Unfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unfit::Model(known) => write!(f, "histories can be generated of {}", known.join(", ")),
            Unfit::Anomaly(known) => write!(f, "the model's anomalies are {}", known.join(", ")),
        }
    }
}

impl std::error::Error for Unfit {}

/// An anomaly's name, and what it is in one line.
pub type Named = (&'static str, &'static str);

/// The models of which histories can be generated, by name.
pub fn models() -> Vec<&'static str> {
    samples::ALL.iter().map(|sample| sample.model()).collect()
}

/// What can be wrong with a model's histories; `None` if none can be generated.
pub fn anomalies(model: &str) -> Option<&'static [Named]> {
    samples::ALL.iter().find(|sample| sample.model() == model).map(|sample| sample.anomalies())
}

/// How many times a history is made anew if its anomaly could not be proven, and up to which size.
const ATTEMPTS: u64 = 24;

/// Larger histories are made once: in them there is always a fit place.
const LARGE: u32 = 100_000;

/// Generates a history of a model: a function of the seed and the request. With an anomaly, a few
/// are tried for one that provably has it.
pub fn imported(model: &str, seed: Seed, request: &Request) -> Result<Labelled, Unfit> {
    let sample = samples::ALL.iter().find(|sample| sample.model() == model).ok_or_else(|| Unfit::Model(models()))?;
    let names = || sample.anomalies().iter().map(|(name, _)| *name);
    if let Some(anomaly) = &request.anomaly
        && !names().any(|name| name == anomaly)
    {
        return Err(Unfit::Anomaly(names().collect()));
    }
    let mut made = sample.make(seed, request);
    let attempts = if request.anomaly.is_some() && request.operations <= LARGE { ATTEMPTS } else { 1 };
    for attempt in 1..attempts {
        if made.label == Label::Invalid {
            break;
        }
        let again = sample.make(Seed(seed.decide(&[9, attempt]).bits()), request);
        if again.planted.is_some() && (made.planted.is_none() || again.label == Label::Invalid) {
            made = again;
        }
    }
    Ok(made)
}

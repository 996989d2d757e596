//! What a measurement says.

use std::collections::BTreeMap;

use smol_str::{SmolStr, format_smolstr};

/// What was measured of a fault.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// What is not as it should be. Nothing: all is as claimed.
    pub wrong: Vec<String>,
    /// What is as claimed.
    pub seen: Vec<String>,
    /// In numbers, for the history.
    pub figures: BTreeMap<SmolStr, f64>,
}

impl Found {
    /// Notes a claim, and whether it was found to hold.
    pub fn claim(&mut self, (words, holds): (String, bool)) {
        if holds { &mut self.seen } else { &mut self.wrong }.push(words);
    }

    /// Notes a figure of one of the hosts.
    pub fn figure(&mut self, name: &str, host: &str, value: f64) {
        self.figures.insert(format_smolstr!("{name}_{host}"), value);
    }

    /// Whether all is as claimed. A fault of which nothing was seen has hit nothing.
    pub fn holds(&self) -> bool {
        self.wrong.is_empty() && !self.seen.is_empty()
    }

    /// What is wrong, or what was seen if nothing is.
    pub fn words(&self) -> String {
        match (&self.wrong[..], &self.seen[..]) {
            ([], []) => "the fault hit nothing".into(),
            ([], seen) => seen.join(", "),
            (wrong, _) => wrong.join(", "),
        }
    }
}

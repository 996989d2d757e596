//! What the command line sets, on top of a scenario file or of nothing.

use std::sync::Arc;

use crate::Error;
use crate::document::{self, Located};
use crate::error::{Place, Problem, shown};

/// A value for a dotted path of the scenario, from the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// Where it goes: `target.failover`. Numbers lead into lists: `faults.0.lasts`.
    path: String,
    /// The value, as YAML.
    value: String,
    /// The option as it was typed, for messages.
    typed: Arc<str>,
}

impl Override {
    /// What `--set key=value` sets.
    ///
    /// # Errors
    /// If there is no `=` or no key.
    pub fn set(assignment: &str) -> Result<Override, Error> {
        let typed: Arc<str> = format!("--set {}", shown(assignment)).into();
        match assignment.split_once('=') {
            Some((path, value)) if !path.trim().is_empty() => {
                Ok(Override { path: path.trim().into(), value: value.trim().into(), typed })
            }
            _ => Err(Problem::new(&Place::Option(typed), "this sets nothing")
                .suggest("write --set key=value, as in --set target.nodes=3")
                .locate("", "")),
        }
    }

    /// What the option `flag` (as in `--nodes`) with this value sets at `path`.
    pub fn option(flag: &str, path: &str, value: &str) -> Override {
        Override { path: path.into(), value: value.into(), typed: format!("{flag} {}", shown(value)).into() }
    }

    /// Sets the value in a document.
    pub(crate) fn apply(&self, root: &mut Located) -> Result<(), Problem> {
        let value = document::parse(&self.value, Some(&self.typed))?;
        document::set(root, &self.path, value)
    }
}

/// The options of the command line that describe a scenario, as they were typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `--target`
    pub target: Option<String>,
    /// `--bug`
    pub bug: Option<String>,
    /// `--workload`
    pub workload: Option<String>,
    /// `--faults`: kinds with commas between them, or `none`.
    pub faults: Option<String>,
    /// `--time`
    pub time: Option<String>,
    /// `--nodes`
    pub nodes: Option<String>,
    /// `--concurrency`
    pub concurrency: Option<String>,
    /// `--rate`
    pub rate: Option<String>,
    /// `--seed`
    pub seed: Option<String>,
    /// Each `--set key=value`.
    pub set: Vec<String>,
}

impl Options {
    /// What the options set, in the order in which it takes effect: `--set` last.
    ///
    /// # Errors
    /// If a `--set` is not an assignment.
    pub fn overrides(&self) -> Result<Vec<Override>, Error> {
        let faults = self.faults.as_ref().map(|kinds| match kinds.trim() {
            "none" => "none".to_string(),
            kinds => format!("[{kinds}]"),
        });
        let options = [
            ("--target", "target.kind", &self.target),
            ("--bug", "target.bug", &self.bug),
            ("--workload", "workload.kind", &self.workload),
            ("--faults", "faults", &faults),
            ("--time", "time", &self.time),
            ("--nodes", "target.nodes", &self.nodes),
            ("--concurrency", "workload.concurrency", &self.concurrency),
            ("--rate", "workload.rate", &self.rate),
            ("--seed", "seed", &self.seed),
        ];
        let options = options.iter().filter_map(|(flag, path, value)| {
            let value = value.as_ref()?;
            // A typed value is a value, whatever YAML would make of an empty one.
            let value = if value.trim().is_empty() { "''" } else { value };
            Some(Ok(Override::option(flag, path, value)))
        });
        options.chain(self.set.iter().map(|assignment| Override::set(assignment))).collect()
    }
}

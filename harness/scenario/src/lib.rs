//! The scenario: which target, under which workload, with which faults, within which limits.
//!
//! A scenario is a YAML file; [`Scenario::parse`] reads it, fills in every default, and refuses
//! what can't be with an [`Error`] that names the place and the remedy. The command line's options
//! are [`Override`]s on top of a file or of nothing. [`Scenario::to_yaml`] writes a scenario with
//! every default spelled out.
//!
//! Which targets and workloads there are and what can be chosen about them, it is told by
//! [`Plugs`](duress_plug::Plugs). This crate names none, and knows nothing of how a scenario is run;
//! see `examples/` for scenarios with comments.
//!
//! ```
//! use duress_plug::Plugs;
//! use duress_scenario::Scenario;
//!
//! let plugs = Plugs { targets: duress_kv::kit::TARGETS, workloads: duress_workloads::plugs() };
//! let text = "target: {kind: quorum, nodes: 3}\nfaults: [partition]\n";
//! let scenario = Scenario::parse(text, "stale.yaml", &[], &plugs)?;
//! assert_eq!((scenario.name.as_str(), scenario.target.nodes()), ("stale", 3));
//!
//! let error = Scenario::parse("target: {kind: paxos, nodez: 3}", "typo.yaml", &[], &plugs).unwrap_err();
//! assert!(error.to_string().starts_with("typo.yaml:1:23: unknown key `nodez` in target (paxos); did you mean `nodes`?"));
//! # Ok::<(), duress_scenario::Error>(())
//! ```

mod document;
mod error;
mod faults;
mod fields;
mod harms;
mod heal;
mod options;
mod plugs;
mod scenario;
mod script;
mod target;
mod workload;
mod yaml;

pub use duress_plug::duration::format as format_duration;
pub use error::Error;
pub use faults::{Faults, fault_to_yaml};
pub use heal::Heal;
pub use options::{Options, Override};
pub use scenario::{Limits, Scenario};
pub use target::Target;
pub use workload::Workload;

//! What plugs say of themselves. The core knows targets and workloads by what is declared here, and
//! by nothing else: no crate outside a plug names one.
//!
//! - [`Opt`] declares an option once: name, type, default, bounds, a sentence, and whether a hunt
//!   may make it smaller. Reading scenarios with located errors, `--set`, writing, the reference in
//!   `docs/` ([`docs`]) and `duress list` follow from it. [`Opts`] are an option's values.
//! - [`Target`] is a system under test; [`Facts`] are what one configuration of it promises,
//!   assumes and consists of.
//! - [`Workload`] is what is asked of a target.
//! - [`Plugs`] are those that there are. The first of each is what is meant where none is named.
//! - [`duration`] is the one grammar of durations.
//!
//! ```
//! use duress_plug::{Facts, Group, Opt, Opts, Problem, Target};
//!
//! struct Ring;
//!
//! static OPTIONS: &[Opt] = &[
//!     Opt::nodes(2..=9, 3),
//!     Opt::flag("fenced", true, "Whether a token's number is checked."),
//! ];
//!
//! impl Target for Ring {
//!     fn name(&self) -> &'static str { "ring" }
//!     fn about(&self) -> &'static str { "a token that is passed around" }
//!     fn options(&self) -> &'static [Opt] { OPTIONS }
//!     fn facts(&self, options: &Opts) -> Result<Facts, Problem> {
//!         let nodes = options.integer("nodes");
//!         if nodes == 2 && !options.flag("fenced") {
//!             let problem = Problem::new(&["fenced", "nodes"], "two nodes need fences");
//!             return Err(problem.suggest("use 3 nodes"));
//!         }
//!         Ok(Facts { groups: vec![Group::servers(nodes as u16)], functions: &["enter"], ..Facts::default() })
//!     }
//! }
//!
//! let options = Opts::with(OPTIONS, &[("nodes", 5.into())]);
//! assert_eq!(Ring.facts(&options).map(|facts| facts.nodes()), Ok(5));
//! ```

pub mod docs;
pub mod duration;
mod facts;
mod opt;
mod opts;
mod plugs;

pub use facts::{Bug, Facts, Group, NO_BUG};
pub use opt::{CONCURRENCY, Kind, OPS, Opt, RATE, Shrink, Usual};
pub use opts::{Draft, Opts, Value};
pub use plugs::{Plugs, Problem, Target, Workload};

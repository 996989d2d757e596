//! The real binary on real clusters: the stories it ships, and what users and machines do to it.

mod clocks;
mod conformance;
mod replay;
mod robust;
mod stories;
mod support;

//! The real binary on real clusters: the stories it ships, and what users and machines do to it.

mod clocks;
mod conformance;
mod disks;
mod kinds;
mod network;
mod processes;
mod replay;
mod robust;
mod safety;
mod stories;
mod support;

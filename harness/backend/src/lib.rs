//! What a back end is: where a target's hosts come from, processes on them, and families of harm.
//!
//! A run is driven over these traits and knows no other name of whoever is behind them.
//!
//! - A [`Backend`] says what it has and what it [lacks](Backend::lacks), runs the harness where hosts
//!   can be had ([`enter`](Backend::enter)), and makes hosts there ([`up`](Backend::up)).
//! - A [`Site`] is those hosts: it starts [processes](Process) on them, and offers harm of
//!   [links](links::Links), [clocks](clocks::Clocks) and [disks](disks::Disks). Harm of processes is
//!   done to the [`Process`] itself.
//! - Each family *applies*, *undoes* and *measures*. It holds no view of faults: what several of them
//!   amount to is the caller's business, who says what shall hold from now on and asks what does.
//!
//! **Plain data in, plain data out**, so that all of it can be carried over a protocol to an agent on
//! a far host: hosts are named, processes have numbers, rules and figures can be serialized. The one
//! descriptor is the control channel, whose bytes whoever is in between passes on.
//!
//! **Calls block** until what they ask is done and seen. None may block for long while holding
//! something that another call needs: a process is killed while somebody watches it.
//!
//! This crate knows nothing of targets, faults' schedules or evidence; it is words and traits, and
//! does nothing itself.

pub mod clocks;
pub mod disks;
mod error;
mod family;
pub mod links;
mod process;

use std::ffi::OsString;
use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use duress_seed::Seed;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

pub use error::{Error, ErrorKind};
pub use family::{Family, Lacking};
pub use process::{Exit, Knocked, Process, ProcessId, ProcessSpec, ProcessState, Resource, Slowness, Watched};

use clocks::Clocks;
use disks::Disks;
use links::Links;

/// A host's name.
pub type Host = SmolStr;

/// Where clusters can be had.
pub trait Backend: Sync {
    /// What a user calls it: one word.
    fn name(&self) -> &'static str;

    /// What it is, in half a sentence.
    fn about(&self) -> &'static str;

    /// Whether a family of faults can't be had, here and now; by trying, where that is cheap. Whoever
    /// needs it is refused before anything begins.
    fn lacks(&self, family: Family) -> Option<Lacking>;

    /// Runs this program again with these arguments, as a process that may call [`up`](Backend::up)
    /// once it has called [`prepare`](Backend::prepare). Nothing that it makes outlives it.
    ///
    /// # Errors
    /// If it can't be started, with what to do about it.
    fn enter(&self, args: &[OsString]) -> Result<Box<dyn Inside>, Error>;

    /// To be called in the process that [`enter`](Backend::enter) has started, before anything else.
    ///
    /// # Errors
    /// If this is no such process.
    fn prepare(&self) -> Result<(), Error>;

    /// Whether that process was told to stop, maybe before it listened.
    fn interrupted(&self) -> bool;

    /// Makes hosts, and a network between them on which everybody reaches everybody.
    ///
    /// # Errors
    /// If they can't be had.
    fn up(&self, hosts: &[HostSpec], options: &Options) -> Result<Box<dyn Site>, Error>;
}

/// A process that carries out runs, as seen by whoever started it.
pub trait Inside: Send + Sync {
    /// Asks it to stop: it heals, stops the target and ends its history properly.
    ///
    /// # Errors
    /// If it can't be told.
    fn interrupt(&self) -> Result<(), Error>;

    /// Ends it at once, and everything that it has made.
    ///
    /// # Errors
    /// If that is refused.
    fn kill(&self) -> Result<(), Error>;

    /// Waits for its end.
    ///
    /// # Errors
    /// If that can't be told.
    fn wait(&self) -> Result<ExitStatus, Error>;
}

/// A host to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostSpec {
    /// Its name, unique among the hosts: letters, digits and hyphens, at most 63.
    pub name: String,
}

impl HostSpec {
    /// A host with this name.
    pub fn new(name: impl Into<String>) -> HostSpec {
        HostSpec { name: name.into() }
    }
}

/// What is asked of a site beside its hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Decides what becomes of each frame on a harmed link.
    pub seed: Seed,
    /// Where to write every frame between hosts, as a pcapng file, if anywhere.
    pub capture: Option<PathBuf>,
}

/// Hosts that are up. Dropping it takes them down as far as that can be done without a word.
pub trait Site: Send + Sync + fmt::Debug {
    /// A host's address on the network between the hosts, if there is such a host.
    fn address(&self, host: &str) -> Option<Ipv4Addr>;

    /// Gives a host another address instead of the one it has, which is dead from now on.
    ///
    /// # Errors
    /// If there is no such host, or that can't be done.
    fn renumber(&self, host: &str) -> Result<Ipv4Addr, Error>;

    /// Whether a host is there at an address, as another one sees it: whether it takes or refuses a
    /// connection within the time, instead of keeping silent.
    ///
    /// # Errors
    /// If there is no host `from`, or it could not be tried.
    fn answers(&self, from: &str, address: Ipv4Addr, within: Duration) -> Result<bool, Error>;

    /// Starts a process on a host, with nothing on standard input.
    ///
    /// # Errors
    /// If there is no such host, the log can't be opened or the program can't be executed.
    fn spawn(&self, host: &str, spec: ProcessSpec) -> Result<Arc<dyn Process>, Error>;

    /// Harm of links.
    ///
    /// # Errors
    /// If the back end lacks it.
    fn links(&self) -> Result<&dyn Links, Lacking>;

    /// Harm of clocks.
    ///
    /// # Errors
    /// If the back end lacks it.
    fn clocks(&self) -> Result<&dyn Clocks, Lacking>;

    /// Harm of disks.
    ///
    /// # Errors
    /// If the back end lacks it.
    fn disks(&self) -> Result<&dyn Disks, Lacking>;

    /// Writes a comment into the capture, if there is one: what is being done to the hosts.
    fn note(&self, _text: &str) {}

    /// How much has been captured so far, if frames are captured.
    fn captured(&self) -> Option<Captured> {
        None
    }

    /// CPU time that the site's own machinery has used so far: whatever carries frames and serves
    /// disks, and the program that this is part of.
    fn cpu_time(&self) -> Duration;

    /// Takes the hosts down; their processes have ended by then.
    ///
    /// # Errors
    /// If something of them is left.
    fn down(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// How much a capture has got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Captured {
    /// Frames written to the file.
    pub frames: u64,
    /// Frames left out, because they came faster than they could be written or the file was full.
    pub missed: u64,
}

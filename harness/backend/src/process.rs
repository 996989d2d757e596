//! Processes on hosts: what is started, and what is done to it.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Error;

/// A process to be started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// What to execute; none for this same program. A bare name is looked for in `PATH`.
    pub program: Option<PathBuf>,
    /// The arguments after the program's name.
    pub args: Vec<OsString>,
    /// Added to the environment, which is inherited otherwise.
    pub env: Vec<(OsString, OsString)>,
    /// The file that standard output and error are appended to, where the harness runs. Made if
    /// missing.
    pub log: PathBuf,
    /// Whether to give it a control channel on descriptor 3.
    pub control: bool,
    /// Where it runs; none for where this program runs.
    pub working_dir: Option<PathBuf>,
    /// A directory of the host for it to keep its data in. Made if missing.
    pub data_dir: Option<PathBuf>,
}

impl ProcessSpec {
    /// This same program with these arguments, without control channel.
    pub fn this_program(args: impl IntoIterator<Item = impl Into<OsString>>, log: impl Into<PathBuf>) -> ProcessSpec {
        let args = args.into_iter().map(Into::into).collect();
        ProcessSpec { args, log: log.into(), ..ProcessSpec::default() }
    }

    /// Another program with these arguments, without control channel.
    pub fn program(
        program: impl Into<PathBuf>,
        args: impl IntoIterator<Item = impl Into<OsString>>,
        log: impl Into<PathBuf>,
    ) -> ProcessSpec {
        ProcessSpec { program: Some(program.into()), ..ProcessSpec::this_program(args, log) }
    }
}

/// How a back end knows a process; no two processes of a host have had the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcessId(pub u64);

/// A process on a host. When nobody holds it any more it is killed.
///
/// Everything from [`pause`](Process::pause) on is the family of faults of processes: a back end that
/// lacks it may refuse them.
pub trait Process: Send + Sync + fmt::Debug {
    /// How its back end knows it.
    fn id(&self) -> ProcessId;

    /// This side of the control channel, once: a stream on which the process finds the other side as
    /// its descriptor 3. It is in blocking mode, and ends when the process does.
    fn take_control(&self) -> Option<UnixStream>;

    /// Kills it and waits until it is gone, every thread of it. Killing what has ended already does
    /// nothing.
    ///
    /// # Errors
    /// If it isn't gone after a while, or killing it is refused.
    fn kill(&self) -> Result<(), Error>;

    /// Waits for its end; none if it has not ended within that time.
    ///
    /// # Errors
    /// If that can't be told.
    fn wait(&self, within: Duration) -> Result<Option<Exit>, Error>;

    /// What it is doing, as its kernel has it now.
    fn state(&self) -> ProcessState;

    /// CPU time it has used so far, user and system, all threads; in the end, all it ever used.
    fn cpu_time(&self) -> Duration;

    /// Stops it, and returns when its kernel shows every thread of it stopped.
    ///
    /// # Errors
    /// If it isn't stopped after a while (perhaps because it has ended), or that is refused.
    fn pause(&self) -> Result<(), Error>;

    /// Lets it go on, and returns when its kernel shows it doing so.
    ///
    /// # Errors
    /// If it doesn't run after a while (perhaps because it has ended), or that is refused.
    fn resume(&self) -> Result<(), Error>;

    /// Lets it run for a share of the time only, until told otherwise; `None` lets it run freely, and
    /// returns when it does. One that is [paused](Process::pause) stays so.
    ///
    /// # Errors
    /// If that is refused.
    fn slow(&self, slowness: Option<Slowness>) -> Result<(), Error>;

    /// Looks at it for so long.
    fn watch(&self, duration: Duration) -> Watched;

    /// How much of something it has now.
    ///
    /// # Errors
    /// If it has ended, or that can't be told.
    fn used(&self, resource: Resource) -> Result<u64, Error>;

    /// The limit in force on what it may have, as its kernel tells it; the largest number for none.
    ///
    /// # Errors
    /// If it has ended, or that can't be told.
    fn limit(&self, resource: Resource) -> Result<u64, Error>;

    /// The limit with which it may have so much more than it has now.
    ///
    /// # Errors
    /// If it has ended, or that can't be told.
    fn limit_with_spare(&self, resource: Resource, spare: u64) -> Result<u64, Error>;

    /// Limits what it may have; `None` gives back what it had at first.
    ///
    /// # Errors
    /// If it has ended, or that is refused.
    fn set_limit(&self, resource: Resource, limit: Option<u64>) -> Result<(), Error>;

    /// Connects so often, from its own host, to where it listens, and says what it doesn't take in.
    ///
    /// # Errors
    /// If it listens nowhere, or a connection can't be made.
    fn knock(&self, often: u32) -> Result<Knocked, Error>;
}

/// For how much of the time a process may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slowness {
    /// In parts per million.
    pub share: u32,
    /// Of every slice of this length it runs the first part.
    pub slice: Duration,
}

/// What was seen of a process for a while.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Watched {
    /// The share of the moments in which it was stopped.
    pub stopped: f64,
    /// The share of one processor's time that it used.
    pub used: f64,
}

/// What became of connections to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Knocked {
    /// How many were made.
    pub tried: u32,
    /// How many of them it has not taken in.
    pub waiting: u32,
}

/// What a process is doing, as far as faults are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ProcessState {
    /// Some of its threads run, sleep or wait for the kernel.
    Running,
    /// Every thread is stopped by a signal.
    Stopped,
    /// It has ended, whether or not it has been reaped.
    Gone,
    /// /proc can't be read, so nobody knows.
    Unknown,
}

impl fmt::Display for ProcessState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProcessState::Running => "running",
            ProcessState::Stopped => "stopped",
            ProcessState::Gone => "gone",
            ProcessState::Unknown => "in a state that /proc won't tell",
        })
    }
}

/// Something of which a process can be allowed only so much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Resource {
    /// Memory of its own that it can write to, in bytes: what `malloc` and stacks are made of
    /// (`RLIMIT_DATA`). A program that can't have more usually ends itself.
    Memory,
    /// Open files and sockets (`RLIMIT_NOFILE`): no descriptor may have this number or a higher one.
    Descriptors,
}

/// How a process ended: its status as wait(2) has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit(pub i32);

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Exit {
        Exit(status.into_raw())
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ExitStatus::from_raw(self.0).fmt(f)
    }
}

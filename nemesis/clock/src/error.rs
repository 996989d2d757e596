//! What can go wrong, and what to do about it.

use nix::errno::Errno;
use thiserror::Error;

/// Why a process's clocks could not be skewed or read.
#[derive(Debug, Error)]
pub enum ClockError {
    /// There is no such process, or it ended meanwhile.
    #[error("there is no process {0}, or it is gone")]
    Gone(i32),
    /// The kernel doesn't let us trace it.
    #[error(
        "not allowed to trace process {0}: it must be a child of ours, or ours and \
         /proc/sys/kernel/yama/ptrace_scope be 0, or we be root"
    )]
    NotAllowed(i32),
    /// Somebody else traces it: a debugger, strace.
    #[error("process {0} is being traced by another program, such as a debugger or strace")]
    Traced(i32),
    /// Its vDSO is not what we know how to patch.
    #[error("the vDSO of process {pid} can't be patched: {reason}")]
    Vdso {
        /// The process.
        pid: i32,
        /// What is the matter with it.
        reason: String,
    },
    /// A thread stayed in the bytes to be replaced, however often we looked.
    #[error("a thread of process {0} would not leave the clock functions")]
    Busy(i32),
    /// Something that would make a monotonic clock run backwards.
    #[error("{0} must never run backwards: {1} would make it")]
    Backwards(crate::Clock, &'static str),
    /// A number that makes no sense.
    #[error("{0}")]
    Range(String),
    /// The kernel refused a step.
    #[error("can't {step} of process {pid}: {source}")]
    Kernel {
        /// What was being done.
        step: &'static str,
        /// The process.
        pid: i32,
        /// Why not.
        source: Errno,
    },
}

impl ClockError {
    pub(crate) fn kernel(step: &'static str, pid: i32, source: Errno) -> ClockError {
        match source {
            Errno::ESRCH => ClockError::Gone(pid),
            Errno::EPERM | Errno::EACCES if crate::tracee::is_traced(pid) => ClockError::Traced(pid),
            Errno::EPERM | Errno::EACCES => ClockError::NotAllowed(pid),
            source => ClockError::Kernel { step, pid, source },
        }
    }

    /// As [`ClockError::io`], of opening a file of the process.
    pub(crate) fn file(step: &'static str, pid: i32, source: &std::io::Error) -> ClockError {
        match source.kind() {
            std::io::ErrorKind::NotFound => ClockError::Gone(pid),
            _ => ClockError::io(step, pid, source),
        }
    }

    pub(crate) fn io(step: &'static str, pid: i32, source: &std::io::Error) -> ClockError {
        ClockError::kernel(step, pid, Errno::from_raw(source.raw_os_error().unwrap_or(libc::EIO)))
    }
}

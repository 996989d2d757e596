//! A process handle that can't come to mean another process: pidfd_open(2).
#![expect(unsafe_code, reason = "neither std nor nix has stable pidfd calls")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

/// A handle on one process, whatever becomes of its number.
#[derive(Debug)]
pub(crate) struct PidFd(OwnedFd);

impl PidFd {
    /// The handle of a child that has not been waited for (else the number may be somebody else's).
    pub(crate) fn open(pid: u32) -> Result<PidFd, Errno> {
        // SAFETY: a system call without pointers.
        let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
        // SAFETY: the kernel has just made this descriptor, and nothing else knows its number. It
        // is close-on-exec by definition.
        Ok(PidFd(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }

    /// Sends a signal. `ESRCH` if the process has been reaped.
    pub(crate) fn send(&self, signal: Signal) -> Result<(), Errno> {
        let fd = self.0.as_raw_fd();
        // SAFETY: the descriptor is open, and a null siginfo means "as kill(2) would".
        let result = unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, fd, signal as i32, std::ptr::null::<libc::siginfo_t>(), 0)
        };
        Errno::result(result).map(drop)
    }

    /// Waits until every thread of the process has ended; it then can be reaped without waiting.
    /// False if `within` has passed before.
    pub(crate) fn ended(&self, within: Duration) -> io::Result<bool> {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // Rounded up, or the last fraction of a millisecond would be spent spinning.
            let timeout = PollTimeout::try_from(left + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX);
            let mut events = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            match poll(&mut events, timeout) {
                Ok(0) if left.is_zero() => return Ok(false),
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(true),
                Err(e) => return Err(e.into()),
            }
        }
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

//! The outside: making the namespaces and starting this program again as their first process.
#![expect(unsafe_code, reason = "what happens between clone and exec is unsafe by nature")]

use std::ffi::{CString, OsString, c_char};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{SigSet, Signal};

use super::{INFRASTRUCTURE, LIFELINE, namespaces};
use crate::local::pidfd::PidFd;
use crate::{DeployError, Identity, MARK, advice};

/// The sandbox's init, seen from outside. Dropping it ends the sandbox.
#[derive(Debug)]
pub struct SandboxProcess {
    pid: u32,
    handle: PidFd,
    /// Init dies when this end closes.
    _lifeline: OwnedFd,
    ended: Mutex<Option<ExitStatus>>,
}

/// Runs this program again, with these arguments, as the first process of a new sandbox.
///
/// The new process inherits working directory, standard streams and environment, with [`MARK`]
/// added to it; it has a session of its own, so that a Ctrl-C on the terminal reaches only the
/// calling process. It must call [`prepare_inside`](super::prepare_inside) before anything else.
///
/// The sandbox ends with the *thread* that called this (that is what prctl(2)'s parent-death
/// signal watches): call it on the main thread.
///
/// # Errors
/// If the namespaces are refused, with what to do about it; or if the program can't be executed.
pub fn enter(args: &[OsString]) -> Result<SandboxProcess, DeployError> {
    let image = Image::new(args)?;
    let pair = || UnixStream::pair().map_err(|e| DeployError::kernel("make a socket pair", e));
    let (mut ours, start) = pair()?;
    let (lifeline, lifeline_inside) = pair()?;
    // Out of the way of the descriptor numbers that mean something to the child.
    let start = aside(start)?;
    let lifeline_inside = aside(lifeline_inside)?;

    let (args, env) = (pointers(&image.args), pointers(&image.env));
    // SAFETY: `first_process` makes only system calls on memory prepared above.
    let cloned =
        unsafe { namespaces::clone(|| first_process(&args, &env, start.as_raw_fd(), lifeline_inside.as_raw_fd())) };
    let (pid, user_namespace) = cloned.map_err(|e| {
        DeployError::kernel("make user, mount, PID, network, UTS and IPC namespaces", e)
            .advise(advice::user_namespace(e))
    })?;
    drop((start, lifeline_inside));
    let sandbox = SandboxProcess {
        pid,
        handle: PidFd::open(pid).map_err(|e| DeployError::kernel("watch the sandbox's first process", e))?,
        _lifeline: lifeline.into(),
        ended: Mutex::new(None),
    };

    // Errors from here on drop `sandbox`, which kills and reaps the child.
    if user_namespace {
        namespaces::map_users(pid)?;
    }
    ours.write_all(&[GO]).map_err(|e| DeployError::kernel("start the sandbox's first process", e))?;
    // The child's end closes when the program is executed; before that it may report an error.
    let mut refused = Vec::new();
    ours.read_to_end(&mut refused).map_err(|e| DeployError::kernel("hear from the sandbox's first process", e))?;
    if let Ok(errno) = <[u8; 4]>::try_from(refused) {
        sandbox.wait()?;
        let errno = Errno::from_raw(i32::from_ne_bytes(errno));
        return Err(DeployError::kernel("execute /proc/self/exe in the sandbox", errno).advise(advice::inside(errno)));
    }
    Ok(sandbox)
}

impl SandboxProcess {
    /// The process id of the sandbox's init, as numbered outside.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Asks the inside to end in good order: SIGINT.
    ///
    /// # Errors
    /// If the signal can't be sent. That the sandbox has already ended is not an error.
    pub fn interrupt(&self) -> Result<(), DeployError> {
        self.signal(Signal::SIGINT)
    }

    /// Ends the sandbox and every process in it at once.
    ///
    /// # Errors
    /// If the signal can't be sent. That the sandbox has already ended is not an error.
    pub fn kill(&self) -> Result<(), DeployError> {
        self.signal(Signal::SIGKILL)
    }

    fn signal(&self, signal: Signal) -> Result<(), DeployError> {
        match self.handle.send(signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(e) => Err(DeployError::kernel(format!("send {signal} to the sandbox"), e)),
        }
    }

    /// Waits for the end of the sandbox. Once this returns, no process of it is left.
    ///
    /// The status is that of the inside process; if a signal ended that one, the code is 128 plus
    /// the signal's number. If init itself was killed, the status says so by its signal.
    ///
    /// # Errors
    /// If the status can't be had, because something else in this program has reaped it.
    pub fn wait(&self) -> Result<ExitStatus, DeployError> {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(status) = *ended {
            return Ok(status);
        }
        let mut raw = 0;
        // SAFETY: waitpid writes one int through the pointer, which outlives the call.
        while unsafe { libc::waitpid(self.pid as i32, &raw mut raw, 0) } < 0 {
            let errno = Errno::last();
            if errno != Errno::EINTR {
                return Err(DeployError::kernel("wait for the sandbox to end", errno));
            }
        }
        Ok(*ended.insert(ExitStatus::from_raw(raw)))
    }
}

impl Drop for SandboxProcess {
    fn drop(&mut self) {
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        if ended.is_none() && self.kill().is_ok() {
            // Nobody is left to be told.
            let _ = self.wait();
        }
    }
}

/// The signals by which a user asks a program to end.
pub(super) fn interrupting_signals() -> SigSet {
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect()
}

/// What the child executes, prepared before the clone because the child may not allocate.
struct Image {
    args: Vec<CString>,
    env: Vec<CString>,
}

impl Image {
    fn new(args: &[OsString]) -> Result<Image, DeployError> {
        let zero = |e| DeployError::kernel("pass an argument with a zero byte in it", io::Error::other(e));
        let own_name = std::env::args_os().next().unwrap_or_else(|| "duress".into());
        let args = std::iter::once(own_name.as_os_str())
            .chain(args.iter().map(OsString::as_os_str))
            .map(|arg| CString::new(arg.as_bytes()))
            .collect::<Result<_, _>>()
            .map_err(zero)?;
        let controller = Identity::own().map_err(|e| DeployError::kernel("tell who this process is", e))?;
        let env = std::env::vars_os()
            .filter(|(name, _)| name != MARK)
            .chain(std::iter::once((MARK.into(), controller.to_string().into())))
            .map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()))
            .collect::<Result<_, _>>()
            .map_err(zero)?;
        Ok(Image { args, env })
    }
}

/// The array of pointers that execve(2) takes, ended by a null.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|s| s.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
}

/// The same socket under a number of 10 or more.
fn aside(descriptor: UnixStream) -> Result<OwnedFd, DeployError> {
    let raw = fcntl(&descriptor, FcntlArg::F_DUPFD_CLOEXEC(10))
        .map_err(|e| DeployError::kernel("duplicate a descriptor", e))?;
    // SAFETY: the kernel has just made this descriptor, and nothing else knows its number.
    Ok(unsafe { std::os::fd::FromRawFd::from_raw_fd(raw) })
}

/// The byte that tells the child that its user ids are mapped.
pub(crate) const GO: u8 = 1;

/// What the child does between clone and exec; returns only if it can't exec, with its exit code.
/// Only async-signal-safe calls: the memory is a
/// copy of a program that may have been doing anything in other threads.
fn first_process(args: &[*const c_char], env: &[*const c_char], start: RawFd, lifeline: RawFd) -> i32 {
    // SAFETY: every call below is a plain system call (or its thin, async-signal-safe wrapper) on
    // descriptors this process owns and on memory that lives until exec replaces it.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        // The copies of outside's ends are closed, or their end would never be seen. `start` and
        // `lifeline` are at 10 or above; everything that isn't is closed or replaced here.
        close_except(start, lifeline);
        // If outside died before the prctl above, this read finds the end of the stream.
        let mut byte = 0_u8;
        while libc::read(start, (&raw mut byte).cast(), 1) < 0 && *libc::__errno_location() == libc::EINTR {}
        if byte != GO {
            return INFRASTRUCTURE;
        }
        libc::setsid();
        // An interrupt that comes before inside can handle it stays pending. As init of its PID
        // namespace, this process would otherwise just lose it.
        let mut blocked: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut blocked);
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            libc::sigaddset(&raw mut blocked, signal);
        }
        libc::sigprocmask(libc::SIG_BLOCK, &raw const blocked, std::ptr::null_mut());
        // dup2 also clears close-on-exec.
        libc::dup2(lifeline, LIFELINE);
        libc::execve(c"/proc/self/exe".as_ptr(), args.as_ptr(), env.as_ptr());
        let errno = (*libc::__errno_location()).to_ne_bytes();
        libc::write(start, errno.as_ptr().cast(), errno.len());
    }
    INFRASTRUCTURE
}

/// Closes every descriptor above the standard streams except two.
///
/// # Safety
/// Nothing may use the others again: only for a child that is about to execute something else.
unsafe fn close_except(one: RawFd, other: RawFd) {
    let (low, high) = (one.min(other) as u32, one.max(other) as u32);
    for (first, last) in [(3, low - 1), (low + 1, high - 1), (high + 1, u32::MAX)] {
        if first <= last {
            // SAFETY: a plain system call; that the descriptors may go is the caller's promise.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    }
}

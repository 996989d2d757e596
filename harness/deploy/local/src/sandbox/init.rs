//! The inside: from init of the new namespaces to a place where the harness can work.
#![expect(unsafe_code, reason = "fork, exit without unwinding, a signal handler and raw descriptors")]

use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getpid, sethostname};

use super::enter::interrupting_signals;
use super::{INFRASTRUCTURE, LIFELINE};
use crate::local::{netlink, switch_off_ipv6};
use crate::{DeployError, advice};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether SIGINT, SIGTERM or SIGHUP has come since the sandbox began.
///
/// Handlers installed later may chain to the one behind this (tokio's do); ask once after
/// installing them, and no interrupt is missed.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// Makes the sandbox fit to work in. What [`enter`](super::enter) started must call this before
/// anything else, while it has one thread and has printed nothing.
///
/// Makes all mounts private, mounts a fresh /proc, takes lo up, turns IPv6 off where there is any,
/// and installs handlers for interrupts (see [`interrupted`]). Then forks: the parent stays behind
/// as init and never returns from here, the child returns and does the work.
///
/// # Errors
/// If this process isn't what [`enter`](super::enter) started, or the kernel refuses one of the
/// steps: then the sandbox is of no use, and the caller should report the error and exit.
pub fn prepare_inside() -> Result<(), DeployError> {
    if getpid().as_raw() != 1 {
        let pid = getpid();
        return Err(DeployError::NotInSandbox(format!("it is process {pid}, not the first of a PID namespace")));
    }
    mount_fresh_proc()?;
    let threads = fs::read_dir("/proc/self/task").map_err(|e| DeployError::kernel("read the new /proc", e))?.count();
    if threads != 1 {
        return Err(DeployError::NotInSandbox(format!("it has {threads} threads already; this must come first")));
    }
    sethostname("duress").map_err(|e| DeployError::kernel("name the sandbox", e).advise(advice::inside(e)))?;
    switch_off_ipv6()?;
    let mut batch = netlink::Batch::default();
    batch.loopback_up();
    batch.send()?;

    // SAFETY: `enter` hands init its lifeline under this number, and nothing in this program can
    // have taken it since: it was in use.
    let lifeline = unsafe { OwnedFd::from_raw_fd(LIFELINE) };
    // SAFETY: this process has one thread (checked above), so the child's memory is consistent.
    match unsafe { fork() } {
        Err(e) => Err(DeployError::kernel("fork from the sandbox's init", e)),
        Ok(ForkResult::Parent { child }) => {
            let code = reap(child, lifeline.as_fd());
            // SAFETY: _exit(2) has no preconditions. Running destructors here would repeat the child's.
            unsafe { libc::_exit(code) }
        }
        Ok(ForkResult::Child) => {
            hold_the_number(lifeline)?;
            catch_interrupts()
        }
    }
}

fn mount_fresh_proc() -> Result<(), DeployError> {
    let nothing = None::<&str>;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)
        .map_err(|e| DeployError::kernel("make the sandbox's mounts private", e).advise(advice::inside(e)))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, nothing)
        .map_err(|e| DeployError::kernel("mount a fresh /proc in the sandbox", e).advise(advice::mount_proc(e)))
}

/// Puts /dev/null in the place of the lifeline, which is init's alone.
///
/// The number stays taken: `Local::spawn` gives it to the control channel of a process between
/// fork and exec, and would destroy whatever the standard library keeps there at that moment.
fn hold_the_number(lifeline: OwnedFd) -> Result<(), DeployError> {
    let null = File::open("/dev/null").map_err(|e| DeployError::kernel("open /dev/null", e))?;
    let mut place = lifeline;
    nix::unistd::dup3(&null, &mut place, nix::fcntl::OFlag::O_CLOEXEC)
        .map_err(|e| DeployError::kernel("let go of init's lifeline", e))?;
    // Left open for as long as this program runs.
    let _ = place.into_raw_fd();
    Ok(())
}

extern "C" fn note_interrupt(_: libc::c_int) {
    INTERRUPTED.store(true, Ordering::SeqCst);
}

fn catch_interrupts() -> Result<(), DeployError> {
    let signals = interrupting_signals();
    let action = SigAction::new(SigHandler::Handler(note_interrupt), SaFlags::SA_RESTART, SigSet::empty());
    for signal in &signals {
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
        unsafe { sigaction(signal, &action) }.map_err(|e| DeployError::kernel("handle interrupts", e))?;
    }
    signals.thread_unblock().map_err(|e| DeployError::kernel("unblock interrupts", e))
}

/// Init's work: reaps, passes interrupts on to `inside`, and returns the exit code when that one
/// has ended or outside is gone.
fn reap(inside: Pid, lifeline: BorrowedFd<'_>) -> i32 {
    // Names are for those who look at the process list; nothing depends on them.
    let _ = prctl::set_name(c"duress-init");
    match watch(inside, lifeline) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("duress: the sandbox's init failed: {e}");
            INFRASTRUCTURE
        }
    }
}

fn watch(inside: Pid, lifeline: BorrowedFd<'_>) -> Result<i32, Errno> {
    let mut signals = interrupting_signals();
    signals.add(Signal::SIGCHLD);
    signals.thread_block()?;
    let received = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    loop {
        // Before the first wait, too: a child may have ended before its signal was blocked.
        if let Some(code) = reap_all(inside)? {
            return Ok(code);
        }
        let mut events = [PollFd::new(received.as_fd(), PollFlags::POLLIN), PollFd::new(lifeline, PollFlags::POLLIN)];
        match poll(&mut events, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e),
        }
        // Outside never writes: an event is the end of the stream, and of outside.
        if events[1].any() == Some(true) {
            return Ok(INFRASTRUCTURE);
        }
        while let Some(signal) = received.read_signal()? {
            if signal.ssi_signo != Signal::SIGCHLD as u32 {
                match kill(inside, Signal::SIGINT) {
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(e) => return Err(e),
                }
            }
        }
    }
}

/// Reaps whatever has ended. The exit code of `inside`, if that is among them.
fn reap_all(inside: Pid) -> Result<Option<i32>, Errno> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == inside => return Ok(Some(code)),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == inside => return Ok(Some(128 + signal as i32)),
            Ok(WaitStatus::StillAlive) => return Ok(None),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e),
        }
    }
}

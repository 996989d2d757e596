//! Processes on hosts: starting, pausing, killing and measuring them.
//!
//! No parent-death signal is set on them: it would tie them to the *thread* that started them,
//! and the end of the harness ends the sandbox and with it every process anyway.
#![expect(unsafe_code, reason = "what happens between fork and exec is unsafe by nature")]

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use duress_backend::{ProcessSpec, ProcessState, Resource};
use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::hosts::HostNamespace;
use super::limits;
use super::pidfd::PidFd;
use super::procfs;
use super::slow::Slow;
use crate::{DeployError, advice};

/// The descriptor number of the control channel in the process.
const CONTROL: i32 = 3;
/// How long a process may take to stop, go on or die. Waiting for a slow disk is the one thing
/// that can hold it up.
const PATIENCE: Duration = Duration::from_secs(10);
/// The program that is running now, whatever has become of its file.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// A process on a host. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    pub(super) held: Arc<Held>,
    namespace: HostNamespace,
    control: Mutex<Option<UnixStream>>,
    state: Mutex<State>,
    pub(super) slow: Mutex<Option<Slow>>,
}

/// By what it is known, and stopped.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) host: String,
    pid: u32,
    handle: PidFd,
    /// Held while it is stopped or let go on.
    paused: Mutex<bool>,
}

/// What becomes of it.
#[derive(Debug)]
struct State {
    child: Child,
    /// The soft limits before the first change, of those that were changed.
    limits_before: BTreeMap<Resource, u64>,
    ended: Option<Ended>,
}

#[derive(Clone, Copy, Debug)]
struct Ended {
    status: ExitStatus,
    cpu_time: Duration,
}

pub(super) fn spawn(host: &str, namespace: &HostNamespace, spec: ProcessSpec) -> Result<Process, DeployError> {
    let log = open_log(&spec.log)?;
    if let Some(data) = &spec.data_dir {
        fs::create_dir_all(data).map_err(|e| DeployError::kernel(format!("make {}", data.display()), e))?;
    }
    let errors = log.try_clone().map_err(|e| DeployError::kernel("duplicate a descriptor", e))?;
    let control = spec.control.then(UnixStream::pair).transpose();
    let (ours, theirs) = control.map_err(|e| DeployError::kernel("make a control channel", e))?.unzip();

    let program = spec.program.as_deref().unwrap_or(Path::new(THIS_PROGRAM));
    let mut command = Command::new(program);
    command.args(&spec.args).envs(spec.env).stdin(Stdio::null()).stdout(log).stderr(errors);
    if spec.program.is_none() {
        command.arg0(std::env::args_os().next().unwrap_or_else(|| "duress".into()));
    }
    if let Some(directory) = &spec.working_dir {
        command.current_dir(directory);
    }
    let network = namespace.as_fd().as_raw_fd();
    let host_name = host.as_bytes().to_vec();
    let theirs_raw = theirs.as_ref().map(AsRawFd::as_raw_fd);
    // SAFETY: `move_to_host` makes only system calls, on memory and descriptors that are the
    // closure's or outlive the call of `spawn` below.
    unsafe { command.pre_exec(move || move_to_host(network, &host_name, theirs_raw)) };

    let failed = |source: io::Error| DeployError::Spawn {
        program: program.display().to_string(),
        host: host.into(),
        advice: match Errno::from_raw(source.raw_os_error().unwrap_or(0)) {
            Errno::ENOENT => "Is the program there, and the directory to run it in?".into(),
            Errno::EAGAIN => "A limit on processes is reached (`ulimit -u`, or the pids limit of a container)".into(),
            other => advice::inside(other),
        },
        source,
    };
    let mut child = command.spawn().map_err(failed)?;
    let handle = match PidFd::open(child.id()) {
        Ok(handle) => handle,
        Err(e) => {
            // The child must not run on unowned; that it can't be killed would be one more symptom
            // of what is reported here.
            let _ = child.kill().and_then(|()| child.wait());
            return Err(failed(e.into()));
        }
    };
    tracing::debug!(host, pid = child.id(), program = %program.display(), "process started");
    Ok(Process {
        held: Arc::new(Held { host: host.into(), pid: child.id(), handle, paused: Mutex::new(false) }),
        namespace: namespace.clone(),
        control: Mutex::new(ours),
        state: Mutex::new(State { child, limits_before: BTreeMap::new(), ended: None }),
        slow: Mutex::default(),
    })
}

fn open_log(path: &Path) -> Result<File, DeployError> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|e| DeployError::kernel(format!("open the log {}", path.display()), e))
}

/// What the child does between fork and exec. Async-signal-safe: system calls only.
fn move_to_host(network: i32, host_name: &[u8], control: Option<i32>) -> io::Result<()> {
    // SAFETY: system calls on an open descriptor, and on a name that is borrowed for the call.
    unsafe {
        Errno::result(libc::setns(network, libc::CLONE_NEWNET))?;
        Errno::result(libc::unshare(libc::CLONE_NEWUTS))?;
        Errno::result(libc::sethostname(host_name.as_ptr().cast(), host_name.len()))?;
        Errno::result(libc::setsid())?;
        // Descriptors of others in this program may lack close-on-exec. (std's own, by which it
        // hears of errors here, must stay open until exec; hence not closed outright.)
        let cloexec = libc::CLOSE_RANGE_CLOEXEC;
        Errno::result(libc::syscall(libc::SYS_close_range, CONTROL, u32::MAX, cloexec))?;
        match control {
            // dup2 would leave close-on-exec set where there is nothing to duplicate.
            Some(CONTROL) => Errno::result(libc::fcntl(CONTROL, libc::F_SETFD, 0))?,
            Some(other) => Errno::result(libc::dup2(other, CONTROL))?,
            None => 0,
        };
    }
    Ok(())
}

impl Held {
    fn signal(&self, signal: Signal) -> Result<(), DeployError> {
        match self.handle.send(signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(e) => Err(DeployError::kernel(format!("send {signal} to process {}", self.pid), e)),
        }
    }

    /// Stops it or lets it go on for a moment, as one does again and again to slow it down; one
    /// that is [paused](Process::pause) stays so. Doesn't wait for the effect.
    pub(super) fn doze(&self, asleep: bool) -> Result<(), DeployError> {
        let paused = lock(&self.paused);
        if *paused {
            return Ok(());
        }
        self.signal(if asleep { Signal::SIGSTOP } else { Signal::SIGCONT })
    }
}

impl Process {
    /// The process id, as numbered inside the sandbox.
    pub fn pid(&self) -> u32 {
        self.held.pid
    }

    /// The host it runs on.
    pub fn host(&self) -> &str {
        &self.held.host
    }

    /// The host's network namespace.
    pub(crate) fn namespace(&self) -> &HostNamespace {
        &self.namespace
    }

    /// This side of the control channel, once. It is in blocking mode.
    pub fn take_control(&self) -> Option<UnixStream> {
        lock(&self.control).take()
    }

    /// Kills it (SIGKILL) and waits until it is gone, every thread of it. Killing what has ended
    /// already does nothing.
    ///
    /// # Errors
    /// If it isn't gone after 10 s, or the kernel refuses.
    pub fn kill(&self) -> Result<(), DeployError> {
        if lock(&self.state).ended.is_some() {
            return Ok(());
        }
        self.held.signal(Signal::SIGKILL)?;
        match self.wait(PATIENCE)? {
            Some(_) => Ok(()),
            None => Err(self.wrong_state(ProcessState::Gone)),
        }
    }

    /// Stops it (SIGSTOP) and returns when /proc shows every thread of it stopped.
    ///
    /// # Errors
    /// If it isn't stopped after 10 s (perhaps because it has ended), or the kernel refuses.
    pub fn pause(&self) -> Result<(), DeployError> {
        self.set_paused(true)
    }

    /// Lets it go on (SIGCONT) and returns when /proc shows it doing so.
    ///
    /// # Errors
    /// If it doesn't run after 10 s (perhaps because it has ended), or the kernel refuses.
    pub fn resume(&self) -> Result<(), DeployError> {
        self.set_paused(false)
    }

    fn set_paused(&self, pause: bool) -> Result<(), DeployError> {
        let (signal, wanted) = match pause {
            true => (Signal::SIGSTOP, ProcessState::Stopped),
            false => (Signal::SIGCONT, ProcessState::Running),
        };
        // Whoever slows it must not interfere before the effect is seen.
        let mut paused = lock(&self.held.paused);
        *paused = pause;
        self.held.signal(signal)?;
        self.until(wanted)
    }

    /// Stops it or lets it go on for a moment, as one does again and again to slow it down; one
    /// that is [paused](Process::pause) stays so. Doesn't wait for the effect.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn doze(&self, asleep: bool) -> Result<(), DeployError> {
        self.held.doze(asleep)
    }

    /// How much of something it has now.
    ///
    /// # Errors
    /// If it has ended, or /proc can't be read.
    pub fn used(&self, resource: Resource) -> Result<u64, DeployError> {
        let used = self.alive(|_, pid| limits::used(pid, resource));
        used.map_err(|e| DeployError::kernel(format!("read what process {} uses", self.pid()), e))
    }

    /// Where TCP sockets on its host listen, in the order of the addresses.
    ///
    /// # Errors
    /// If it has ended, or /proc can't be read.
    pub fn listening(&self) -> Result<Vec<SocketAddrV4>, DeployError> {
        let found = self.alive(|_, pid| procfs::listening(pid));
        found.map_err(|e| DeployError::kernel(format!("read the sockets of process {}", self.pid()), e))
    }

    /// The limit in force on what it may have, as the kernel tells it; the largest number for none.
    ///
    /// # Errors
    /// If it has ended, or /proc can't be read.
    pub fn limit(&self, resource: Resource) -> Result<u64, DeployError> {
        let limit = self.alive(|_, pid| limits::in_force(pid, resource));
        limit.map_err(|e| DeployError::kernel(format!("read the limits of process {}", self.pid()), e))
    }

    /// The limit with which it may have so much more than it has now.
    ///
    /// # Errors
    /// If it has ended, or /proc can't be read.
    pub fn limit_with_spare(&self, resource: Resource, spare: u64) -> Result<u64, DeployError> {
        let limit = self.alive(|_, pid| limits::with_spare(pid, resource, spare));
        limit.map_err(|e| DeployError::kernel(format!("read what process {} uses", self.pid()), e))
    }

    /// Limits what it may have; `None` gives back what it had at first. It is the soft limit: a
    /// program that raises its own limits gets around it.
    ///
    /// # Errors
    /// If it has ended, or the kernel refuses.
    pub fn set_limit(&self, resource: Resource, limit: Option<u64>) -> Result<(), DeployError> {
        let set = self.alive(|state, pid| {
            let Some(limit) = limit.or_else(|| state.limits_before.get(&resource).copied()) else { return Ok(()) };
            let old = limits::set(pid, resource, limit)?;
            state.limits_before.entry(resource).or_insert(old);
            Ok(())
        });
        set.map_err(|e| DeployError::kernel(format!("limit process {}", self.pid()), e))
    }

    /// Does something to it while its number is certainly its own.
    fn alive<T>(&self, f: impl FnOnce(&mut State, u32) -> io::Result<T>) -> io::Result<T> {
        let mut state = lock(&self.state);
        if state.ended.is_some() { Err(io::ErrorKind::NotFound.into()) } else { f(&mut state, self.pid()) }
    }

    /// What it is doing, as /proc has it now.
    pub fn state(&self) -> ProcessState {
        let state = lock(&self.state);
        if state.ended.is_some() {
            return ProcessState::Gone;
        }
        // Not reaped yet, so the number is still this process's.
        procfs::state(self.pid()).unwrap_or_else(|e| {
            tracing::warn!(host = self.host(), pid = self.pid(), error = %e, "can't read the state of a process");
            ProcessState::Unknown
        })
    }

    /// Its exit status, if it has ended.
    ///
    /// # Errors
    /// If the kernel refuses to tell.
    pub fn try_wait(&self) -> Result<Option<ExitStatus>, DeployError> {
        self.wait(Duration::ZERO)
    }

    /// Waits for its end; none if it has not ended `within` that time.
    ///
    /// # Errors
    /// If the kernel refuses to tell.
    pub fn wait(&self, within: Duration) -> Result<Option<ExitStatus>, DeployError> {
        if let Some(ended) = lock(&self.state).ended {
            return Ok(Some(ended.status));
        }
        let failed = |e| DeployError::kernel("wait for a process", e);
        if !self.held.handle.ended(within).map_err(failed)? {
            return Ok(None);
        }
        let mut state = lock(&self.state);
        // Somebody else may have waited as well.
        if let Some(ended) = state.ended {
            return Ok(Some(ended.status));
        }
        // The clock goes with the process, so it is read before reaping.
        let cpu_time = procfs::cpu_time(self.pid()).unwrap_or_default();
        let status = state.child.wait().map_err(failed)?;
        state.ended = Some(Ended { status, cpu_time });
        Ok(Some(status))
    }

    /// CPU time it has used so far, user and system, all threads; in the end, all it ever used.
    /// Children it started itself don't count. Zero should the kernel refuse to tell.
    pub fn cpu_time(&self) -> Duration {
        match lock(&self.state).ended {
            Some(ended) => ended.cpu_time,
            None => procfs::cpu_time(self.pid()).unwrap_or_default(),
        }
    }

    /// Waits until /proc shows the wanted state. There is no event to wait for that covers every
    /// thread, so it looks again and again, ever more slowly.
    fn until(&self, wanted: ProcessState) -> Result<(), DeployError> {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = Duration::from_micros(20);
        loop {
            let seen = self.state();
            if seen == wanted {
                return Ok(());
            }
            if seen == ProcessState::Gone || Instant::now() >= deadline {
                return Err(self.wrong_state(wanted));
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(5));
        }
    }

    fn wrong_state(&self, wanted: ProcessState) -> DeployError {
        let (pid, host, seen) = (self.pid(), self.host().into(), self.state());
        DeployError::State { pid, host, wanted, seen, within: PATIENCE }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(e) = self.kill() {
            tracing::warn!(host = self.host(), pid = self.pid(), error = %e, "a process outlives its owner");
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

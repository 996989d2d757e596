//! Stopping all threads of a process for a moment, reading and writing its memory meanwhile, and
//! having it make a system call.
//!
//! Everything here must happen on one thread, and nobody else in this program may wait for the
//! process meanwhile: the kernel reports a traced process's stops to whoever waits for it first.
//! `duress` therefore skews clocks in a process of its own.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::{ClockError, stub};

/// No more instructions than this are stepped over: what is in a vDSO is shorter.
const STEPS: usize = 20_000;

/// A process whose threads all stand still. Dropping it lets them go on.
pub(crate) struct Stopped {
    pid: i32,
    /// Each thread, and the signal that it was about to get.
    threads: BTreeMap<i32, Option<Signal>>,
    memory: File,
}

/// Whether somebody traces the process already.
pub(crate) fn is_traced(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
    tracer.is_some_and(|tracer| tracer.trim() != "0")
}

impl Stopped {
    /// Stops every thread, also those that are born meanwhile.
    pub(crate) fn stop(pid: i32) -> Result<Stopped, ClockError> {
        let memory = OpenOptions::new().read(true).write(true).open(format!("/proc/{pid}/mem"));
        let memory = memory.map_err(|e| ClockError::file("open the memory", pid, &e))?;
        let mut stopped = Stopped { pid, threads: BTreeMap::new(), memory };
        loop {
            let mut new = stopped.list()?;
            new.retain(|thread| !stopped.threads.contains_key(thread));
            // All are told to stop before the first is waited for: each takes its turn to notice.
            let mut told = Vec::new();
            for thread in new {
                if stopped.seize(thread)? {
                    told.push(thread);
                }
            }
            if told.is_empty() {
                break;
            }
            for thread in told {
                stopped.halted(thread)?;
            }
        }
        if stopped.threads.is_empty() { Err(ClockError::Gone(pid)) } else { Ok(stopped) }
    }

    fn list(&self) -> Result<Vec<i32>, ClockError> {
        let entries = fs::read_dir(format!("/proc/{}/task", self.pid)).map_err(|_| ClockError::Gone(self.pid))?;
        Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
    }

    /// Tells a thread to stop. Returns whether it will.
    fn seize(&mut self, thread: i32) -> Result<bool, ClockError> {
        let id = Pid::from_raw(thread);
        match ptrace::seize(id, ptrace::Options::empty()) {
            Ok(()) => {}
            // Gone, or as good as gone.
            Err(Errno::ESRCH) => return Ok(false),
            Err(_) if is_dead(self.pid, thread) => return Ok(false),
            Err(e) => return Err(ClockError::kernel("trace a thread", self.pid, e)),
        }
        self.threads.insert(thread, None);
        Ok(ptrace::interrupt(id).is_ok())
    }

    /// Waits until a thread stands still that was told to. Returns whether it is still there.
    fn halted(&mut self, thread: i32) -> Result<bool, ClockError> {
        match waitpid(Pid::from_raw(thread), Some(WaitPidFlag::__WALL)) {
            Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) | Err(Errno::ESRCH | Errno::ECHILD) => {
                self.threads.remove(&thread);
                return Ok(false);
            }
            Ok(WaitStatus::Stopped(_, signal)) if signal != Signal::SIGTRAP => self.keep(thread, signal),
            Ok(_) => {}
            Err(e) => return Err(ClockError::kernel("stop a thread", self.pid, e)),
        }
        Ok(true)
    }

    /// Keeps a signal that a thread was about to get for when it goes on.
    fn keep(&mut self, thread: i32, signal: Signal) {
        let kept = self.threads.entry(thread).or_default();
        if kept.is_none() {
            *kept = Some(signal);
        } else {
            // One can be handed over when a thread goes on; more are sent again.
            let _ = nix::sys::signal::kill(Pid::from_raw(thread), signal);
        }
    }

    /// Lets each thread that is at an address that `disturbs` go on until it is at another, one
    /// instruction at a time; all others stand still meanwhile.
    pub(crate) fn clear(&mut self, disturbs: &dyn Fn(u64) -> bool) -> Result<(), ClockError> {
        for thread in self.threads.keys().copied().collect::<Vec<_>>() {
            let mut steps = 0;
            while let Ok(registers) = ptrace::getregs(Pid::from_raw(thread))
                && disturbs(instruction(&registers))
            {
                steps += 1;
                if steps > STEPS {
                    return Err(ClockError::Busy(self.pid));
                }
                if !self.step(thread)? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Lets a thread carry out one instruction, or keeps a signal that comes first. Returns
    /// whether it is still there.
    fn step(&mut self, thread: i32) -> Result<bool, ClockError> {
        match ptrace::step(Pid::from_raw(thread), None) {
            Ok(()) | Err(Errno::ESRCH) => self.halted(thread),
            Err(e) => Err(ClockError::kernel("step a thread", self.pid, e)),
        }
    }

    /// Of each thread at an address that is `of_interest`: where the stub's pointer to what it
    /// reads points.
    pub(crate) fn pointers(&self, of_interest: impl Fn(u64) -> bool) -> Vec<u64> {
        let registers = self.threads.keys().filter_map(|thread| ptrace::getregs(Pid::from_raw(*thread)).ok());
        registers.filter(|registers| of_interest(instruction(registers))).map(|registers| pointer(&registers)).collect()
    }

    pub(crate) fn read(&self, address: u64, length: usize) -> Result<Vec<u8>, ClockError> {
        let mut bytes = vec![0; length];
        self.memory.read_exact_at(&mut bytes, address).map_err(|e| ClockError::io("read the memory", self.pid, &e))?;
        Ok(bytes)
    }

    /// Writes, also where the process itself can't.
    pub(crate) fn write(&self, address: u64, bytes: &[u8]) -> Result<(), ClockError> {
        self.memory.write_all_at(bytes, address).map_err(|e| ClockError::io("write the memory", self.pid, &e))
    }

    /// Has one thread make a system call, by the instruction at `at`. Its registers are as before
    /// afterwards; an interrupted system call of its own is begun again as after a signal.
    pub(crate) fn system_call(&mut self, at: u64, number: i64, arguments: [u64; 6]) -> Result<i64, ClockError> {
        let pid = self.pid;
        let failed = |step: &'static str| move |e| ClockError::kernel(step, pid, e);
        let thread = *self.threads.keys().next().ok_or(ClockError::Gone(pid))?;
        let id = Pid::from_raw(thread);
        let before = ptrace::getregs(id).map_err(failed("read the registers"))?;
        let mut registers = before;
        call(&mut registers, at, number, arguments);
        ptrace::setregs(id, registers).map_err(failed("set the registers"))?;
        let mut result = Err(ClockError::Busy(pid));
        for _ in 0..STEPS {
            if !self.step(thread)? {
                return Err(ClockError::Gone(pid));
            }
            let after = ptrace::getregs(id).map_err(failed("read the registers"))?;
            if instruction(&after) != at {
                result = Ok(returned(&after));
                break;
            }
        }
        ptrace::setregs(id, before).map_err(failed("restore the registers"))?;
        result
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for (thread, signal) in &self.threads {
            // One that is gone needn't be let go.
            let _ = ptrace::detach(Pid::from_raw(*thread), *signal);
        }
    }
}

fn is_dead(pid: i32, thread: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/task/{thread}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
    matches!(state, None | Some('Z' | 'X'))
}

#[cfg(target_arch = "x86_64")]
fn instruction(registers: &libc::user_regs_struct) -> u64 {
    registers.rip
}

/// The register in which the stub keeps where it reads.
#[cfg(target_arch = "x86_64")]
fn pointer(registers: &libc::user_regs_struct) -> u64 {
    registers.r8
}

/// The register in which the stub keeps where it reads.
#[cfg(target_arch = "aarch64")]
fn pointer(registers: &libc::user_regs_struct) -> u64 {
    registers.regs[11]
}

#[cfg(target_arch = "x86_64")]
fn returned(registers: &libc::user_regs_struct) -> i64 {
    registers.rax as i64
}

#[cfg(target_arch = "x86_64")]
fn call(registers: &mut libc::user_regs_struct, at: u64, number: i64, arguments: [u64; 6]) {
    registers.rip = at;
    registers.rax = number as u64;
    // No system call of the thread's own is under way as long as these registers hold.
    registers.orig_rax = u64::MAX;
    [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9] = arguments;
}

#[cfg(target_arch = "aarch64")]
fn instruction(registers: &libc::user_regs_struct) -> u64 {
    registers.pc
}

#[cfg(target_arch = "aarch64")]
fn returned(registers: &libc::user_regs_struct) -> i64 {
    registers.regs[0] as i64
}

#[cfg(target_arch = "aarch64")]
fn call(registers: &mut libc::user_regs_struct, at: u64, number: i64, arguments: [u64; 6]) {
    registers.pc = at;
    registers.regs[8] = number as u64;
    registers.regs[..6].copy_from_slice(&arguments);
}

/// Where in an image there is an instruction that enters the kernel.
pub(crate) fn system_call_instruction(image: &[u8]) -> Option<usize> {
    let step = if cfg!(target_arch = "aarch64") { 4 } else { 1 };
    let mut windows = image.windows(stub::SYSCALL.len()).enumerate().step_by(step);
    windows.find(|(_, bytes)| *bytes == stub::SYSCALL).map(|(at, _)| at)
}

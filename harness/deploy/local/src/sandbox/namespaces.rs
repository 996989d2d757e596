//! New namespaces and the users in them: what `enter` and the preflight have in common.
#![expect(unsafe_code, reason = "a process can only be created in new namespaces by a raw clone(2)")]

use std::fs;
use std::io;

use nix::errno::Errno;
use nix::unistd::{getegid, geteuid};

use crate::{DeployError, advice};

/// The namespaces of a sandbox.
const ALL: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC;

/// Clones a child into the namespaces of a sandbox, where it runs `child` and exits with the code
/// that returns. Root does without the user namespace where
/// that alone is refused. Returns the child's id, and whether it has a user namespace of its own.
///
/// # Errors
/// Why the namespaces were refused.
///
/// # Safety
/// The child is a copy of a program that may have been doing anything in other threads, so
/// `child` may only make async-signal-safe calls (signal-safety(7)), and must not unwind.
pub(crate) unsafe fn clone(child: impl Fn() -> i32) -> Result<(u32, bool), Errno> {
    // SAFETY: handed on to the caller.
    let refused = match unsafe { clone_with(ALL, &child) } {
        Ok(pid) => return Ok((pid, true)),
        Err(errno) => errno,
    };
    if geteuid().is_root() {
        // SAFETY: as above.
        if let Ok(pid) = unsafe { clone_with(ALL & !libc::CLONE_NEWUSER, &child) } {
            return Ok((pid, false));
        }
    }
    Err(refused)
}

/// Clones a child into new namespaces, as `flags` say.
///
/// # Safety
/// As for [`clone`].
unsafe fn clone_with(flags: i32, child: &impl Fn() -> i32) -> Result<u32, Errno> {
    // SAFETY: without CLONE_VM this is fork(2): the child has its own copy of all memory, with
    // only this thread in it. What it does there is the caller's promise.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags | libc::SIGCHLD, 0, 0, 0, 0) };
    if pid == 0 {
        let code = child();
        // SAFETY: _exit(2) has no preconditions. Neither destructors nor exit handlers may run in
        // the copy.
        unsafe { libc::_exit(code) }
    }
    Errno::result(pid).map(|pid| pid as u32)
}

/// Maps the users of a new user namespace, whose first process is `pid`, to those outside.
///
/// Root keeps all the ids it has, each as itself, so that files of other users stay accessible.
/// Anybody else becomes root inside, which is nobody but themselves outside.
pub(crate) fn map_users(pid: u32) -> Result<(), DeployError> {
    let (uid, gid) = (geteuid(), getegid());
    if uid.is_root() && map_identically(pid).is_ok() {
        return Ok(());
    }
    let write = |file: &str, content: String| {
        fs::write(format!("/proc/{pid}/{file}"), &content).map_err(|e| {
            let errno = Errno::from_raw(e.raw_os_error().unwrap_or(0));
            DeployError::kernel(format!("write {content:?} to {file} of the new user namespace"), e)
                .advise(advice::user_namespace(errno))
        })
    };
    write("setgroups", "deny".into())?;
    write("uid_map", format!("0 {uid} 1"))?;
    write("gid_map", format!("0 {gid} 1"))
}

fn map_identically(pid: u32) -> io::Result<()> {
    for file in ["uid_map", "gid_map"] {
        let own = fs::read_to_string(format!("/proc/self/{file}"))?;
        let identical: String = own
            .lines()
            .filter_map(|line| {
                let mut fields = line.split_ascii_whitespace();
                let (first, _, count) = (fields.next()?, fields.next()?, fields.next()?);
                Some(format!("{first} {first} {count}\n"))
            })
            .collect();
        fs::write(format!("/proc/{pid}/{file}"), identical)?;
    }
    Ok(())
}

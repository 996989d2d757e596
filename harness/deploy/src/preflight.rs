//! The preflight: tries each thing the local back end needs, in a child that is thrown away, and
//! says what is missing and how to get it.

mod attempt;

use std::fmt;

use nix::errno::Errno;

use crate::advice;
use attempt::{Outcome, Step};

/// One thing that the local back end needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What is needed, in words.
    pub name: &'static str,
    /// Whether it is there.
    pub ok: bool,
    /// What was refused, as the kernel says it; empty if `ok`.
    pub missing: String,
    /// How to get it; empty if `ok`.
    pub fix: String,
}

/// What the preflight found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preflight {
    /// The checks, in the order they were made. Those that need one that failed are left out.
    pub checks: Vec<Check>,
}

impl Preflight {
    /// Whether the local back end will work here.
    pub fn ok(&self) -> bool {
        self.checks.iter().all(|check| check.ok)
    }
}

impl fmt::Display for Preflight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            if check.ok {
                writeln!(f, "ok       {}", check.name)?;
            } else {
                writeln!(f, "MISSING  {}: {}", check.name, check.missing)?;
                if !check.fix.is_empty() {
                    writeln!(f, "         {}.", check.fix)?;
                }
            }
        }
        Ok(())
    }
}

/// Tries what the local back end needs. Every check is a real attempt, inside namespaces that are
/// gone when this returns; kernel settings are read only to give better advice.
pub fn preflight() -> Preflight {
    let checks = attempt::run()
        .into_iter()
        .map(|Outcome { step, result }| match result {
            Ok(()) => Check { name: name(step), ok: true, missing: String::new(), fix: String::new() },
            Err(errno) => Check { name: name(step), ok: false, missing: errno.desc().into(), fix: fix(step, errno) },
        })
        .collect();
    Preflight { checks }
}

fn name(step: Step) -> &'static str {
    match step {
        Step::Namespaces => "user, mount, PID, network, UTS and IPC namespaces",
        Step::Users => "mapping users into a user namespace",
        Step::PrivateMounts => "private mounts",
        Step::Proc => "a fresh /proc",
        Step::HostName => "host names",
        Step::PacketSocket => "packet sockets (AF_PACKET)",
        Step::Veth => "veth pairs",
        Step::HostNamespace => "a network namespace for each host",
        Step::ProcessHandles => "process handles (pidfd) and close_range",
        Step::Finished => "going through the checks",
    }
}

fn fix(step: Step, errno: Errno) -> String {
    match step {
        Step::Namespaces | Step::Users | Step::HostNamespace => advice::user_namespace(errno),
        Step::PrivateMounts | Step::HostName => advice::inside(errno),
        Step::Proc => advice::mount_proc(errno),
        Step::PacketSocket => advice::packet_socket(errno),
        Step::Veth => advice::veth(errno),
        Step::ProcessHandles => match errno {
            Errno::ENOSYS | Errno::EINVAL => "Linux 5.11 or later is needed".into(),
            other => advice::inside(other),
        },
        Step::Finished => "The child that tries things was killed: by a security policy (seccomp), or for want of \
                           memory"
            .into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_thing_is_told_with_its_fix() {
        let check = |step, errno: Option<Errno>| Check {
            name: name(step),
            ok: errno.is_none(),
            missing: errno.map(|e| e.desc().into()).unwrap_or_default(),
            fix: errno.map(|e| fix(step, e)).unwrap_or_default(),
        };
        let bad = Preflight {
            checks: vec![check(Step::Namespaces, None), check(Step::PacketSocket, Some(Errno::EAFNOSUPPORT))],
        };
        assert!(!bad.ok());
        let told = bad.to_string();
        assert!(told.contains("ok       user, mount"), "{told}");
        assert!(told.contains("MISSING  packet sockets (AF_PACKET): Address family not supported"), "{told}");
        assert!(told.contains("modprobe af_packet"), "{told}");
    }

    #[test]
    fn every_refusal_of_a_namespace_has_advice() {
        for errno in [Errno::EPERM, Errno::EACCES, Errno::ENOSPC, Errno::EUSERS, Errno::EINVAL, Errno::ENOSYS] {
            assert!(!fix(Step::Namespaces, errno).is_empty(), "{errno}");
        }
    }
}

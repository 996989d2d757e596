//! The preflight: tries each thing the local back end needs, in a child that is thrown away, and
//! says what is missing and how to get it.

mod attempt;

use std::fmt;

use nix::errno::Errno;

use crate::advice;
use attempt::{Outcome, Step};

/// One thing that the local back end needs, or that some faults need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What is needed, in words.
    pub name: &'static str,
    /// What it is needed for.
    pub needed_for: &'static str,
    /// Whether runs without the faults that need it can do without it.
    pub optional: bool,
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
        self.checks.iter().all(|check| check.ok || check.optional)
    }

    /// Whether FUSE file systems can be mounted in a sandbox, which faults of disks need; if not,
    /// why, and what to do about it.
    ///
    /// # Errors
    /// If they can't, or if that could not be tried.
    pub fn fuse(&self) -> Result<(), String> {
        match self.checks.iter().find(|check| check.name == name(Step::Fuse)) {
            Some(check) if check.ok => Ok(()),
            Some(check) if check.fix.is_empty() => Err(check.missing.clone()),
            Some(check) => Err(format!("{}. {}", check.missing, check.fix)),
            None => Err(self.to_string()),
        }
    }
}

impl fmt::Display for Preflight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            if check.ok {
                writeln!(f, "ok       {}", check.name)?;
            } else {
                let state = if check.optional { "optional" } else { "MISSING " };
                writeln!(f, "{state} {}: {}", check.name, check.missing)?;
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
    let checks = attempt::run().into_iter().map(|Outcome { step, result }| check(step, result.err())).collect();
    Preflight { checks }
}

fn check(step: Step, refused: Option<Errno>) -> Check {
    Check {
        name: name(step),
        needed_for: if step == Step::Fuse { "faults of disks" } else { "every run" },
        optional: step == Step::Fuse,
        ok: refused.is_none(),
        missing: refused.map(|errno| errno.desc().into()).unwrap_or_default(),
        fix: refused.map(|errno| fix(step, errno)).unwrap_or_default(),
    }
}

fn name(step: Step) -> &'static str {
    match step {
        Step::Namespaces => "user, mount, PID, network, UTS and IPC namespaces",
        Step::Users => "mapping users into a user namespace",
        Step::PrivateMounts => "private mounts",
        Step::Proc => "a fresh /proc",
        Step::HostName => "host names",
        Step::PacketSocket => "packet sockets (AF_PACKET)",
        Step::WholeFrames => "packet sockets that take offloaded frames whole (PACKET_VNET_HDR)",
        Step::Veth => "veth pairs",
        Step::HostNamespace => "a network namespace for each host",
        Step::ProcessHandles => "process handles (pidfd) and close_range",
        Step::Fuse => "FUSE file systems in the sandbox",
        Step::Finished => "going through the checks",
    }
}

fn fix(step: Step, errno: Errno) -> String {
    match step {
        Step::Namespaces | Step::Users | Step::HostNamespace => advice::user_namespace(errno),
        Step::PrivateMounts | Step::HostName => advice::inside(errno),
        Step::Proc => advice::mount_proc(errno),
        Step::PacketSocket => advice::packet_socket(errno),
        Step::WholeFrames => match errno {
            Errno::ENOPROTOOPT | Errno::EINVAL => "Linux 4.20 or later is needed".into(),
            other => advice::inside(other),
        },
        Step::Veth => advice::veth(errno),
        Step::Fuse => advice::fuse(errno),
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
        let bad = Preflight {
            checks: vec![check(Step::Namespaces, None), check(Step::PacketSocket, Some(Errno::EAFNOSUPPORT))],
        };
        assert!(!bad.ok());
        let told = bad.to_string();
        assert!(told.contains("ok       user, mount"), "{told}");
        assert!(told.contains("MISSING  packet sockets (AF_PACKET): Address family not supported"), "{told}");
        assert!(told.contains("modprobe af_packet"), "{told}");
        assert!(bad.fuse().is_err(), "it was not tried");
    }

    #[test]
    fn what_only_some_faults_need_does_not_fail_the_machine() {
        let checks = |fuse| vec![check(Step::Namespaces, None), check(Step::Fuse, fuse)];
        let with = Preflight { checks: checks(None) };
        assert!(with.ok() && with.fuse().is_ok());
        for (errno, advice) in [(Errno::EACCES, "chmod"), (Errno::ENOENT, "modprobe fuse"), (Errno::EPERM, "")] {
            let without = Preflight { checks: checks(Some(errno)) };
            assert!(without.ok(), "{without}");
            let why = without.fuse().expect_err("it is lacking");
            assert!(why.contains(errno.desc()) && why.contains(advice), "{why}");
            assert!(without.to_string().contains("optional FUSE"), "{without}");
        }
    }

    #[test]
    fn every_refusal_of_a_namespace_has_advice() {
        for errno in [Errno::EPERM, Errno::EACCES, Errno::ENOSPC, Errno::EUSERS, Errno::EINVAL, Errno::ENOSYS] {
            assert!(!fix(Step::Namespaces, errno).is_empty(), "{errno}");
        }
    }
}

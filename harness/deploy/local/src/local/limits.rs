//! What a process may have: reading how much it uses, and limiting it while it runs.
//!
//! Only the soft limits are set, which the kernel enforces and a process of the same user may
//! raise again to the hard ones; that is how they can be given back without privileges.
#![expect(unsafe_code, reason = "no safe wrapper sets the limits of another process")]

use std::collections::BTreeSet;
use std::fs;
use std::io;

use duress_backend::Resource;
use nix::errno::Errno;

fn number(resource: Resource) -> libc::__rlimit_resource_t {
    match resource {
        Resource::Memory => libc::RLIMIT_DATA,
        Resource::Descriptors => libc::RLIMIT_NOFILE,
    }
}

/// The beginning of its line in /proc/PID/limits.
fn title(resource: Resource) -> &'static str {
    match resource {
        Resource::Memory => "Max data size ",
        Resource::Descriptors => "Max open files ",
    }
}

/// How much a process uses at the moment.
pub(super) fn used(pid: u32, resource: Resource) -> io::Result<u64> {
    match resource {
        Resource::Memory => data_size(pid),
        Resource::Descriptors => Ok(descriptors(pid)?.len() as u64),
    }
}

/// The limit with which a process may have so much more than now.
pub(super) fn with_spare(pid: u32, resource: Resource, spare: u64) -> io::Result<u64> {
    match resource {
        Resource::Memory => Ok(data_size(pid)?.saturating_add(spare)),
        // A new descriptor gets the lowest number that is free.
        Resource::Descriptors => {
            let open = descriptors(pid)?;
            let mut free = 0;
            let numbers = (0..u64::MAX).take_while(|number| {
                free += u64::from(!open.contains(number));
                free <= spare
            });
            Ok(numbers.last().map_or(0, |last| last + 1))
        }
    }
}

/// Sets the soft limit, but not above the hard one; returns what it was.
pub(super) fn set(pid: u32, resource: Resource, limit: u64) -> io::Result<u64> {
    let mut old = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live rlimit; a null pointer means that nothing is set.
    Errno::result(unsafe { libc::prlimit(pid as i32, number(resource), std::ptr::null(), &raw mut old) })?;
    let new = libc::rlimit { rlim_cur: limit.min(old.rlim_max), rlim_max: old.rlim_max };
    // SAFETY: both pointers are to live rlimits.
    Errno::result(unsafe { libc::prlimit(pid as i32, number(resource), &raw const new, &raw mut old) })?;
    Ok(old.rlim_cur)
}

/// The soft limit in force, as /proc has it; the largest number for none.
pub(super) fn in_force(pid: u32, resource: Resource) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let soft = text.lines().find_map(|line| line.strip_prefix(title(resource))?.split_ascii_whitespace().next());
    match soft {
        Some("unlimited") => Ok(u64::MAX),
        Some(number) => number.parse().map_err(io::Error::other),
        None => Err(io::Error::other(format!("/proc/{pid}/limits has no {}", title(resource)))),
    }
}

fn data_size(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    // A process that has ended has no memory, and no such line.
    let line = text.lines().find_map(|line| line.strip_prefix("VmData:"));
    let kilobytes = line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kilobytes.map(|kilobytes| kilobytes << 10).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}

fn descriptors(pid: u32) -> io::Result<BTreeSet<u64>> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"))?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_of_this_process_are_known() {
        let own = std::process::id();
        for resource in [Resource::Memory, Resource::Descriptors] {
            let used = used(own, resource).expect("/proc");
            let limit = in_force(own, resource).expect("/proc");
            assert!(0 < used && used <= limit, "{resource:?}: {used} of {limit}");
            // Setting what is set changes nothing.
            assert_eq!(set(own, resource, limit).expect("prlimit"), limit);
            assert_eq!(in_force(own, resource).expect("/proc"), limit);
        }
        assert!(with_spare(own, Resource::Descriptors, 3).expect("/proc") >= 3);
    }
}

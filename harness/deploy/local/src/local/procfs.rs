//! What the kernel says of a process: its state and its use of CPU time.

use std::fs;
use std::io;
use std::net::SocketAddrV4;
use std::time::Duration;

use duress_backend::ProcessState;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

/// The state of an unreaped child, by /proc. All its threads are looked at: the process's own line
/// shows only the first, and the others may run on for a moment after a SIGSTOP.
pub(super) fn state(pid: u32) -> io::Result<ProcessState> {
    let tasks = match fs::read_dir(format!("/proc/{pid}/task")) {
        Ok(tasks) => tasks,
        Err(e) if is_missing(&e) => return Ok(ProcessState::Gone),
        Err(e) => return Err(e),
    };
    let mut seen = ProcessState::Gone;
    for task in tasks {
        let letter = match task.and_then(|task| fs::read(task.path().join("stat"))) {
            Ok(stat) => state_letter(&stat)?,
            // The thread has ended meanwhile.
            Err(e) if is_missing(&e) => continue,
            Err(e) => return Err(e),
        };
        match letter {
            b'Z' | b'X' | b'x' => {}
            b'T' => seen = ProcessState::Stopped,
            _ => return Ok(ProcessState::Running),
        }
    }
    Ok(seen)
}

fn is_missing(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(libc::ESRCH)
}

/// The third field of /proc/PID/stat. The second, the name, may itself hold spaces and brackets.
fn state_letter(stat: &[u8]) -> io::Result<u8> {
    stat.iter()
        .rposition(|b| *b == b')')
        .and_then(|end_of_name| stat.get(end_of_name + 2))
        .copied()
        .ok_or_else(|| io::Error::other(format!("not a stat line: {:?}", String::from_utf8_lossy(stat))))
}

/// Where TCP sockets of a process's network namespace listen, in the order of the addresses. They may
/// be other processes' as well.
pub(super) fn listening(pid: u32) -> io::Result<Vec<SocketAddrV4>> {
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp"))?;
    let mut found: Vec<_> = table.lines().filter_map(listener).collect();
    found.sort_unstable();
    Ok(found)
}

/// A line of /proc/net/tcp: number, local address, remote address, state, and more.
fn listener(line: &str) -> Option<SocketAddrV4> {
    const LISTENING: &str = "0A";
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (address, port) = fields.next()?.split_once(':')?;
    if fields.nth(1)? != LISTENING {
        return None;
    }
    // The address is in network order, written as a number of this machine.
    let address = u32::from_str_radix(address, 16).ok()?.to_ne_bytes();
    Some(SocketAddrV4::new(address.into(), u16::from_str_radix(port, 16).ok()?))
}

/// CPU time used by a process and its threads so far, user and system, to the nanosecond.
pub(super) fn cpu_time(pid: u32) -> io::Result<Duration> {
    let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(pid as i32))?;
    Ok(clock_gettime(clock)?.into())
}

/// CPU time used by this program so far, all its threads, user and system.
///
/// # Panics
/// Never on Linux 2.6.12 or later, which all have this clock.
pub fn cpu_time_self() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("every Linux has a CPU clock per process").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_confuse_the_state() {
        assert_eq!(state_letter(b"7 (a) R (b)) T 1 7").expect("a stat line"), b'T');
        assert!(state_letter(b"7 (cut").is_err());
    }

    #[test]
    fn listening_sockets_are_found() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
        let own = std::process::id();
        let std::net::SocketAddr::V4(address) = socket.local_addr().expect("an address") else { panic!("not IPv4") };
        assert!(listening(own).expect("/proc").contains(&address));
        drop(socket);
        assert!(!listening(own).expect("/proc").contains(&address));
        assert_eq!(listener("  sl  local_address rem_address   st tx_queue"), None);
    }

    #[test]
    fn this_process_runs_and_uses_time() {
        assert_eq!(state(std::process::id()).expect("own state"), ProcessState::Running);
        let own = cpu_time(std::process::id()).expect("own CPU time");
        assert!(own > Duration::ZERO);
        assert!(cpu_time_self() >= own);
    }
}

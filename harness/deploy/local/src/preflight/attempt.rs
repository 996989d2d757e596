//! The attempts themselves, made by a child in new namespaces that reports each over a socket.
#![expect(unsafe_code, reason = "the child is a raw clone and makes raw system calls")]

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;

use crate::DeployError;
use crate::local::netlink::{Batch, VethEnd, acknowledgements};
use crate::sandbox::{GO, namespaces};

/// Something that is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Step {
    Namespaces,
    Users,
    PrivateMounts,
    Proc,
    HostName,
    PacketSocket,
    WholeFrames,
    Veth,
    HostNamespace,
    ProcessHandles,
    Fuse,
    /// The child has come to its end.
    Finished,
}

/// What the child reports, in its order.
const REPORTED: [Step; 10] = [
    Step::PrivateMounts,
    Step::Proc,
    Step::HostName,
    Step::PacketSocket,
    Step::WholeFrames,
    Step::Veth,
    Step::HostNamespace,
    Step::ProcessHandles,
    Step::Fuse,
    Step::Finished,
];

/// Bytes of a report: the step and an error number, 0 for success.
const REPORT: usize = 5;

/// How a step went.
pub(super) struct Outcome {
    pub(super) step: Step,
    pub(super) result: Result<(), Errno>,
}

/// Tries everything.
pub(super) fn run() -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let mut note = |step, result: Result<(), Errno>| {
        outcomes.push(Outcome { step, result });
        result.is_ok()
    };
    let (mut ours, theirs) = match UnixStream::pair() {
        Ok(pair) => pair,
        Err(e) => {
            note(Step::Finished, Err(Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO))));
            return outcomes;
        }
    };
    let veth = veth_request();
    // SAFETY: `in_namespaces` makes only system calls, on memory prepared here.
    let cloned = unsafe { namespaces::clone(|| in_namespaces(ours.as_raw_fd(), theirs.as_raw_fd(), &veth)) };
    drop(theirs);
    let (pid, user_namespace) = match cloned {
        Ok(child) => child,
        Err(errno) => {
            note(Step::Namespaces, Err(errno));
            return outcomes;
        }
    };
    note(Step::Namespaces, Ok(()));
    let mapped = if user_namespace { namespaces::map_users(pid).map_err(errno_of) } else { Ok(()) };
    // Without mapped users nothing else would work, nor would it tell why.
    if note(Step::Users, mapped) {
        let mut reports = Vec::new();
        // Errors need no handling of their own: what the child could not report is missing below.
        let _ = ours.write_all(&[GO]).and_then(|()| ours.read_to_end(&mut reports));
        let mut finished = false;
        for report in reports.chunks_exact(REPORT) {
            let errno = i32::from_ne_bytes([report[1], report[2], report[3], report[4]]);
            match REPORTED.into_iter().find(|step| *step as u8 == report[0]) {
                Some(Step::Finished) => finished = true,
                Some(step) => drop(note(step, if errno == 0 { Ok(()) } else { Err(Errno::from_raw(errno)) })),
                None => {}
            }
        }
        if !finished {
            note(Step::Finished, Err(Errno::EIO));
        }
    }
    // The child, if it still waits for its users, sees the end of the stream and goes.
    drop(ours);
    // SAFETY: waitpid writes nothing through a null pointer.
    while unsafe { libc::waitpid(pid as i32, std::ptr::null_mut(), 0) } < 0 && Errno::last() == Errno::EINTR {}
    outcomes
}

fn errno_of(e: DeployError) -> Errno {
    match e {
        DeployError::Kernel { source, .. } => Errno::from_raw(source.raw_os_error().unwrap_or(libc::EIO)),
        _ => Errno::EIO,
    }
}

fn veth_request() -> Vec<u8> {
    let end = |name, last| VethEnd { name, mac: [2, 0, 0, 0, 0, last], index: 0, namespace: None };
    let mut batch = Batch::default();
    batch.add_veth(&end("try0", 1), &end("try1", 2));
    batch.bytes()
}

/// The child's work; returns its exit code. Async-signal-safe calls only.
fn in_namespaces(outside: RawFd, own: RawFd, veth: &[u8]) -> i32 {
    let report = |step: Step, errno: i32| {
        let [a, b, c, d] = errno.to_ne_bytes();
        let bytes = [step as u8, a, b, c, d];
        // SAFETY: a system call on an array that lives until it returns.
        unsafe { libc::write(own, bytes.as_ptr().cast(), bytes.len()) };
    };
    let attempt = |step: Step, result: i64| report(step, if result < 0 { Errno::last_raw() } else { 0 });
    // SAFETY: system calls (or their thin wrappers) on constants, on borrowed memory that outlives
    // them and on descriptors this process owns; null pointers where the kernel takes them.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::close(outside);
        let mut byte = 0_u8;
        while libc::read(own, (&raw mut byte).cast(), 1) < 0 && Errno::last_raw() == libc::EINTR {}
        if byte != GO {
            return 1;
        }
        let null = std::ptr::null::<libc::c_char>();
        let private = libc::MS_REC | libc::MS_PRIVATE;
        attempt(Step::PrivateMounts, libc::mount(null, c"/".as_ptr(), null, private, null.cast()).into());
        let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        let proc = c"proc".as_ptr();
        attempt(Step::Proc, libc::mount(proc, c"/proc".as_ptr(), proc, flags, null.cast()).into());
        attempt(Step::HostName, libc::sethostname(c"try".as_ptr(), 3).into());
        let packets = libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0);
        attempt(Step::PacketSocket, packets.into());
        if packets >= 0 {
            let on: libc::c_int = 1;
            let set = |option| {
                libc::setsockopt(packets, libc::SOL_PACKET, option, (&raw const on).cast(), size_of_val(&on) as u32)
            };
            let both = set(libc::PACKET_VNET_HDR).min(set(libc::PACKET_IGNORE_OUTGOING));
            attempt(Step::WholeFrames, both.into());
        }
        report(Step::Veth, ask_rtnetlink(veth));
        attempt(Step::HostNamespace, libc::unshare(libc::CLONE_NEWNET).into());
        let handle = libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0);
        let range = || libc::syscall(libc::SYS_close_range, u32::MAX, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
        attempt(Step::ProcessHandles, if handle < 0 { handle } else { range() });
        attempt(Step::Fuse, mount_fuse());
    }
    report(Step::Finished, 0);
    0
}

/// Mounts a FUSE file system that nobody serves over /proc, which isn't used any more; it is gone
/// with this process. Async-signal-safe.
fn mount_fuse() -> i64 {
    /// The kernel takes the descriptor as a number in a text, so it gets one that is known before.
    const DEVICE: i32 = 100;
    let options = c"fd=100,rootmode=40000,user_id=0,group_id=0";
    // SAFETY: system calls on constants, and on descriptors that this process alone has.
    unsafe {
        let device = libc::open(c"/dev/fuse".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
        if device < 0 || libc::dup2(device, DEVICE) < 0 {
            return -1;
        }
        let flags = libc::MS_NOSUID | libc::MS_NODEV;
        let (name, kind) = (c"duress".as_ptr(), c"fuse".as_ptr());
        libc::mount(name, c"/proc".as_ptr(), kind, flags, options.as_ptr().cast()).into()
    }
}

/// Sends one request and returns the error number answered. Async-signal-safe.
fn ask_rtnetlink(request: &[u8]) -> i32 {
    let mut answer = [0_u8; 1024];
    // SAFETY: system calls on memory that is borrowed or local and outlives them.
    let length = unsafe {
        let socket = libc::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE);
        if socket < 0 || libc::send(socket, request.as_ptr().cast(), request.len(), 0) < 0 {
            return Errno::last_raw();
        }
        libc::recv(socket, answer.as_mut_ptr().cast(), answer.len(), libc::MSG_DONTWAIT)
    };
    if length < 0 {
        return Errno::last_raw();
    }
    acknowledgements(&answer[..length as usize]).next().unwrap_or(libc::EIO)
}

//! What to do when the kernel refuses. The refusal itself always comes from a real attempt; the
//! sysctls read here only choose the words.

use std::fs;

use nix::errno::Errno;

/// A sysctl that is a single number, if this kernel has it.
fn sysctl(name: &str) -> Option<u64> {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Whether AppArmor keeps unconfined programs from using user namespaces (Ubuntu 23.10 and later).
fn apparmor_restricts() -> bool {
    sysctl("kernel.apparmor_restrict_unprivileged_userns") == Some(1)
}

const APPARMOR: &str = "AppArmor restricts unprivileged user namespaces here: run \
    `sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, or give the program an AppArmor profile with \
    `userns,`, or run it as root";

const CONTAINER: &str = "In a container, start it with `--security-opt seccomp=unconfined --security-opt \
    apparmor=unconfined --security-opt systempaths=unconfined` (Docker, Podman) or `--privileged`";

/// What to do when a user namespace (or another namespace inside it) is refused.
pub(crate) fn user_namespace(errno: Errno) -> String {
    match errno {
        Errno::ENOSPC | Errno::EUSERS => match sysctl("user.max_user_namespaces") {
            Some(0) => "User namespaces are turned off: run `sudo sysctl -w user.max_user_namespaces=15000`".into(),
            _ => "A limit on namespaces is reached: raise the user.max_*_namespaces sysctls (`sysctl -a | grep \
                  ^user.max`), or leave the namespaces this shell is nested in"
                .into(),
        },
        Errno::EINVAL | Errno::ENOSYS => {
            "This kernel is built without a kind of namespace that is needed: it must have CONFIG_USER_NS, \
             CONFIG_PID_NS, CONFIG_NET_NS, CONFIG_UTS_NS and CONFIG_IPC_NS"
                .into()
        }
        _ if sysctl("kernel.unprivileged_userns_clone") == Some(0) => {
            "Unprivileged user namespaces are turned off: run `sudo sysctl -w kernel.unprivileged_userns_clone=1`, \
             or run as root"
                .into()
        }
        _ if apparmor_restricts() => APPARMOR.into(),
        _ => format!("A security policy (seccomp, SELinux, AppArmor) forbids it. {CONTAINER}"),
    }
}

/// What to do when something is refused inside the namespaces although they could be made.
pub(crate) fn inside(errno: Errno) -> String {
    match errno {
        Errno::EPERM | Errno::EACCES if apparmor_restricts() => APPARMOR.into(),
        Errno::EPERM | Errno::EACCES => format!("A security policy forbids it inside user namespaces. {CONTAINER}"),
        _ => String::new(),
    }
}

/// What to do when a fresh /proc can't be mounted.
pub(crate) fn mount_proc(errno: Errno) -> String {
    match errno {
        Errno::EPERM if !apparmor_restricts() => {
            format!("Parts of /proc are hidden or read-only here, and the kernel then allows no new one. {CONTAINER}")
        }
        other => inside(other),
    }
}

/// What to do when a veth pair can't be made.
pub(crate) fn veth(errno: Errno) -> String {
    match errno {
        Errno::EOPNOTSUPP | Errno::ENODEV | Errno::ENOENT => {
            "The kernel has no veth driver loaded: run `sudo modprobe veth` (CONFIG_VETH)".into()
        }
        other => inside(other),
    }
}

/// What to do when a packet socket can't be made.
pub(crate) fn packet_socket(errno: Errno) -> String {
    match errno {
        Errno::EAFNOSUPPORT | Errno::EPROTONOSUPPORT | Errno::ESOCKTNOSUPPORT => {
            "The kernel has no packet sockets: run `sudo modprobe af_packet` (CONFIG_PACKET)".into()
        }
        other => inside(other),
    }
}

/// What to do when a FUSE file system can't be mounted in a sandbox.
pub(crate) fn fuse(errno: Errno) -> String {
    match errno {
        Errno::EACCES => "/dev/fuse is closed to this user: run `sudo chmod 666 /dev/fuse` (as most distributions \
                          have it), or run as root"
            .into(),
        Errno::ENOENT | Errno::ENXIO | Errno::ENODEV => {
            "The kernel has no FUSE: run `sudo modprobe fuse` (CONFIG_FUSE_FS). A container needs `--device /dev/fuse`"
                .into()
        }
        Errno::EPERM => {
            "A container needs `--device /dev/fuse`; Linux 4.18 or later is needed to mount FUSE in a user \
                         namespace"
                .into()
        }
        other => inside(other),
    }
}

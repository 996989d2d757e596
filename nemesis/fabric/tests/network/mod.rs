//! Hosts in network namespaces of their own, joined to whatever the test makes of the switch's
//! namespace. For the tests and the benchmark of the fabric; the harness has its own, better one.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use duress_fabric::{Fabric, Options, PROBE_PORT, PortSpec, Prober};
use duress_seed::Seed;
use nix::sched::{CloneFlags, setns, unshare};

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Puts the process, which must have one thread, into a user and a network namespace of its own,
/// in which it may do all this needs.
pub(crate) fn enter_namespaces() -> Result<(), String> {
    let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)
        .map_err(|error| format!("can't make user and network namespaces: {error}"))?;
    let write =
        |path: &str, text: String| fs::write(path, text).map_err(|error| format!("can't write {path}: {error}"));
    write("/proc/self/setgroups", "deny".to_owned())?;
    write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    run_ip(&["link set lo up".to_owned()]).map_err(|error| format!("can't run ip(8) of iproute2: {error}"))
}

/// Runs lines of `ip -batch` in the calling thread's network namespace.
pub(crate) fn run_ip(lines: &[String]) -> io::Result<()> {
    let mut child = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut input = child.stdin.take().expect("stdin is piped");
    input.write_all((lines.join("\n") + "\n").as_bytes())?;
    drop(input);
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// A host: a network namespace with one interface, `eth0`.
pub(crate) struct Host {
    pub(crate) name: String,
    /// The switch's end of its veth pair.
    pub(crate) interface: String,
    pub(crate) mac: [u8; 6],
    pub(crate) address: Ipv4Addr,
    namespace: File,
}

impl Host {
    /// Runs `work` on a thread inside this host.
    pub(crate) fn on<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = || {
                setns(&self.namespace, CloneFlags::CLONE_NEWNET).expect("the namespace is ours");
                work()
            };
            scope.spawn(inside).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A UDP socket of this host that gives up reading after [`PATIENCE`].
    pub(crate) fn udp(&self, port: u16) -> UdpSocket {
        let socket = self.on(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))).expect("the port is free");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout above zero is fine");
        socket
    }

    /// A TCP listener of this host.
    pub(crate) fn listen(&self, port: u16) -> TcpListener {
        self.on(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))).expect("the port is free")
    }
}

/// Hosts `<prefix>0`, `<prefix>1`, … at 10.77.0.1, …, that know each other's Ethernet addresses.
/// `prefix` also names the switch's ends in the calling thread's namespace.
pub(crate) fn hosts(prefix: &str, count: u8) -> Vec<Host> {
    silence_ipv6();
    let hosts: Vec<Host> = (0..count)
        .map(|i| Host {
            name: format!("{prefix}{i}"),
            interface: format!("{prefix}{i}"),
            mac: [2, 0x77, 0, 0, 0, i + 1],
            address: Ipv4Addr::new(10, 77, 0, i + 1),
            namespace: new_namespace(),
        })
        .collect();
    let process = std::process::id();
    let mut lines = Vec::new();
    for host in &hosts {
        let namespace = format!("/proc/{process}/fd/{}", host.namespace.as_raw_fd());
        lines.push(format!(
            "link add {} type veth peer name eth0 address {} netns {namespace}",
            host.interface,
            written(host.mac)
        ));
        lines.push(format!("link set {} up", host.interface));
    }
    run_ip(&lines).expect("veth pairs can be made in our own namespace");
    for host in &hosts {
        let mut lines = vec![
            "link set lo up".to_owned(),
            "link set eth0 up".to_owned(),
            format!("addr add {}/24 brd + dev eth0", host.address),
        ];
        for other in hosts.iter().filter(|other| other.name != host.name) {
            lines.push(format!("neigh replace {} lladdr {} nud permanent dev eth0", other.address, written(other.mac)));
        }
        host.on(|| run_ip(&lines)).expect("an interface can be set up in our own namespace");
    }
    hosts
}

fn written(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn new_namespace() -> File {
    let make = || {
        unshare(CloneFlags::CLONE_NEWNET).expect("we may make network namespaces in our user namespace");
        silence_ipv6();
        File::open("/proc/thread-self/ns/net").expect("a thread can open its own namespace")
    };
    std::thread::spawn(make).join().expect("the thread has not panicked")
}

/// Interfaces made from now on in the calling thread's namespace don't speak by themselves. Fails
/// where there is no IPv6, which is as good.
fn silence_ipv6() {
    let _ = fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
}

/// A fabric that joins these hosts.
pub(crate) fn fabric(hosts: &[Host], options: &Options) -> Fabric {
    let port = |host: &Host| PortSpec { name: host.name.clone(), interface: host.interface.clone(), mac: host.mac };
    Fabric::start_with(hosts.iter().map(port).collect(), Seed(1), options).expect("the interfaces are there")
}

/// A prober in these hosts.
pub(crate) fn prober(hosts: &[Host]) -> Prober {
    let socket = |host: &Host| (host.name.clone(), host.udp(PROBE_PORT), host.address);
    Prober::new(hosts.iter().map(socket).collect()).expect("fresh sockets can be prepared")
}

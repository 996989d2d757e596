//! The local back end: hosts are network namespaces of this machine, inside a sandbox.
//!
//! Each host has one interface, `eth0`, the near end of a veth pair whose far end is a port of
//! the fabric. The fabric decides what passes; hosts know each other's Ethernet addresses from the
//! start and speak no IPv6, so what a link carries is only what the processes on it send.

mod hosts;
mod limits;
pub(crate) mod netlink;
pub(crate) mod pidfd;
mod process;
mod procfs;
mod slow;

use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::time::Duration;

use duress_backend::{HostSpec, ProcessSpec};
use duress_fabric::{Fabric, Links, Options, PROBE_PORT, PortSpec, Prober};
use duress_seed::Seed;

use crate::DeployError;

pub use hosts::HostNamespace;
pub use process::Process;
pub use procfs::cpu_time_self;

pub(crate) use hosts::switch_off_ipv6;

use hosts::Host;

/// The hosts of one run, joined by a fabric. Dropping it stops the fabric; processes started on
/// the hosts have owners of their own.
#[derive(Debug)]
pub struct Local {
    hosts: Vec<Host>,
    fabric: Fabric,
    prober: Prober,
}

impl Local {
    /// Makes the hosts, the links between them and the prober. One per sandbox: the far ends of
    /// the links are named `p0`, `p1`, … in the sandbox's own network namespace.
    ///
    /// Call it in a sandbox, after [`prepare_inside`](crate::sandbox::prepare_inside), on a thread
    /// that has not entered a host.
    ///
    /// # Errors
    /// If names repeat or can't be host names, if there are more than 250 hosts, or if the kernel
    /// refuses a namespace, an interface or a socket.
    pub fn new(hosts: &[HostSpec], seed: Seed) -> Result<Local, DeployError> {
        Local::with_options(hosts, seed, &Options::default())
    }

    /// [`new`](Self::new), with options for the fabric.
    ///
    /// # Errors
    /// As `new`, or if the fabric's capture can't be written.
    pub fn with_options(hosts: &[HostSpec], seed: Seed, options: &Options) -> Result<Local, DeployError> {
        let hosts = hosts::make_all(hosts)?;
        let ports = hosts
            .iter()
            .map(|host| PortSpec { name: host.name.clone(), interface: host.port.clone(), mac: host.mac })
            .collect();
        let fabric = Fabric::start_with(ports, seed, options)?;
        let sockets = hosts
            .iter()
            .map(|host| {
                let socket = run_in(host, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PROBE_PORT)))?
                    .map_err(|e| DeployError::kernel(format!("open the probe socket of {}", host.name), e))?;
                Ok((host.name.clone(), socket, host.address()))
            })
            .collect::<Result<_, DeployError>>()?;
        let prober = Prober::new(sockets).map_err(|e| DeployError::kernel("set up the prober", e))?;
        tracing::debug!(hosts = hosts.len(), "hosts are up");
        Ok(Local { hosts, fabric, prober })
    }

    /// The names of the hosts, in the order they were asked for.
    pub fn hosts(&self) -> impl ExactSizeIterator<Item = &str> {
        self.hosts.iter().map(|host| host.name.as_str())
    }

    /// A handle on the links between the hosts; ports are named as the hosts are.
    pub fn links(&self) -> Links {
        self.fabric.links()
    }

    /// Measures who reaches whom. Places in its matrix are places in [`hosts`](Self::hosts).
    pub fn prober(&self) -> &Prober {
        &self.prober
    }

    /// The host's address on the fabric, if there is such a host.
    pub fn address(&self, name: &str) -> Option<Ipv4Addr> {
        self.host(name).ok().map(|host| host.address())
    }

    /// Gives the host another address instead of the one it has, which is dead from now on, and
    /// lets the other hosts know how to reach it. What its processes have open at the old one
    /// never hears anything again.
    ///
    /// # Errors
    /// If there is no such host, if it has had 256 addresses, or the kernel refuses.
    pub fn renumber(&self, name: &str) -> Result<Ipv4Addr, DeployError> {
        self.host(name)?;
        let place = self.hosts().position(|host| host == name).unwrap_or_default();
        let address = hosts::renumber(&self.hosts, place)?;
        self.prober.set_address(place, address);
        tracing::debug!(host = name, %address, "host has a new address");
        Ok(address)
    }

    /// Whether a host is there at an address, as another one sees it: whether it takes or refuses
    /// a connection to the port `discard` within the time, instead of keeping silent.
    ///
    /// # Errors
    /// If there is no host `from`, or no thread can be started in it.
    pub fn answers(&self, from: &str, address: Ipv4Addr, within: Duration) -> Result<bool, DeployError> {
        const DISCARD: u16 = 9;
        let attempt = self.in_host(from, || TcpStream::connect_timeout(&(address, DISCARD).into(), within))?;
        Ok(match attempt {
            Ok(_) => true,
            Err(e) => e.kind() == std::io::ErrorKind::ConnectionRefused,
        })
    }

    /// The host's network namespace, for a thread that is to live in it.
    ///
    /// # Errors
    /// If there is no such host.
    pub fn namespace(&self, name: &str) -> Result<HostNamespace, DeployError> {
        Ok(self.host(name)?.namespace.clone())
    }

    /// Runs a closure on a thread of its own in the host's network namespace. Sockets made there
    /// belong to the host wherever they are used afterwards.
    ///
    /// # Errors
    /// If there is no such host, or no thread can be started in it. A panic of the closure goes on
    /// in the caller.
    pub fn in_host<R: Send>(&self, name: &str, f: impl FnOnce() -> R + Send) -> Result<R, DeployError> {
        run_in(self.host(name)?, f)
    }

    /// Starts a process on the host.
    ///
    /// It gets the host's network namespace, a UTS namespace with the host's name and a session of
    /// its own; nothing on standard input; and the log as standard output and error. With
    /// `control` set, descriptor 3 is its end of a stream socket pair. It inherits no other
    /// descriptor, and the environment with the additions given.
    ///
    /// # Errors
    /// If there is no such host, the log can't be opened or the program can't be executed.
    pub fn spawn(&self, host: &str, spec: ProcessSpec) -> Result<Process, DeployError> {
        let host = self.host(host)?;
        process::spawn(&host.name, &host.namespace, spec)
    }

    fn host(&self, name: &str) -> Result<&Host, DeployError> {
        self.hosts.iter().find(|host| host.name == name).ok_or_else(|| DeployError::UnknownHost {
            name: name.into(),
            known: self.hosts().collect::<Vec<_>>().join(", "),
        })
    }
}

fn run_in<R: Send>(host: &Host, f: impl FnOnce() -> R + Send) -> Result<R, DeployError> {
    host.namespace.run(f)
}

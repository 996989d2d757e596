//! Hosts as network namespaces: making them, entering them, wiring them to the switch's side.

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use duress_backend::HostSpec;
use nix::sched::{CloneFlags, setns, unshare};

use super::netlink::{Batch, FIRST_INDEX, Mac, VethEnd};
use crate::{DeployError, advice};

/// Addresses are 10.86.0.(place + 1) and, of hosts that move, 10.86.1.(place + 1) and so on, so that
/// this many fit.
const MOST_HOSTS: usize = 250;
/// The longest label of a domain name (RFC 1035, section 2.3.4).
const LONGEST_NAME: usize = 63;
/// The interface of every host.
const INTERFACE: &str = "eth0";
/// Its index in the host's namespace.
const INTERFACE_INDEX: u32 = FIRST_INDEX;
/// Hosts share one Ethernet segment.
const PREFIX: u8 = 16;

/// A handle on a host's network namespace.
#[derive(Clone, Debug)]
pub struct HostNamespace {
    host: Arc<str>,
    descriptor: Arc<OwnedFd>,
}

impl HostNamespace {
    /// Moves the calling thread into the host, for good: sockets it makes from now on are the
    /// host's. Other threads of the program stay where they are.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn enter(&self) -> Result<(), DeployError> {
        setns(&self.descriptor, CloneFlags::CLONE_NEWNET).map_err(|e| {
            DeployError::kernel(format!("enter the network namespace of {}", self.host), e).advise(advice::inside(e))
        })
    }
}

impl HostNamespace {
    /// Runs a closure on a thread of its own in the host.
    pub(crate) fn run<R: Send>(&self, f: impl FnOnce() -> R + Send) -> Result<R, DeployError> {
        thread::scope(|scope| {
            let body = || {
                self.enter()?;
                Ok(f())
            };
            thread::Builder::new()
                .name(format!("on {}", self.host))
                .spawn_scoped(scope, body)
                .map_err(|e| DeployError::kernel("start a thread", e))?
                .join()
                .unwrap_or_else(|panic| resume_unwind(panic))
        })
    }
}

impl AsFd for HostNamespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// A host that is up.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) name: String,
    address: Mutex<Ipv4Addr>,
    pub(super) mac: Mac,
    /// The switch's end of its veth pair, in the sandbox's network namespace.
    pub(super) port: String,
    pub(super) namespace: HostNamespace,
}

impl Host {
    /// Its address on the fabric.
    pub(super) fn address(&self) -> Ipv4Addr {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives the host at this place its next address instead of the one it has.
pub(super) fn renumber(hosts: &[Host], place: usize) -> Result<Ipv4Addr, DeployError> {
    let host = &hosts[place];
    let old = host.address();
    let [a, b, moves, own] = old.octets();
    let moves = moves.checked_add(1).ok_or_else(|| {
        DeployError::Hosts(format!("{} has had {} addresses, and there are no more", host.name, u16::from(moves) + 1))
    })?;
    let new = Ipv4Addr::new(a, b, moves, own);
    let mut batch = Batch::default();
    batch.remove_address(INTERFACE_INDEX, old, PREFIX);
    batch.add_address(INTERFACE_INDEX, new, PREFIX);
    let others = || hosts.iter().enumerate().filter(|(other, _)| *other != place).map(|(_, other)| other);
    others().for_each(|other| batch.add_neighbour(INTERFACE_INDEX, other.address(), other.mac));
    super::run_in(host, || batch.send())??;
    for other in others() {
        let mut batch = Batch::default();
        batch.add_neighbour(INTERFACE_INDEX, new, host.mac);
        super::run_in(other, || batch.send())??;
    }
    *host.address.lock().unwrap_or_else(PoisonError::into_inner) = new;
    Ok(new)
}

/// Makes all hosts, in order.
pub(super) fn make_all(specs: &[HostSpec]) -> Result<Vec<Host>, DeployError> {
    check(specs)?;
    let switch = own_namespace().map_err(|e| DeployError::kernel("open the sandbox's network namespace", e))?;
    // One after the other: the kernel does the work under one lock (rtnl) anyway.
    let hosts = specs
        .iter()
        .enumerate()
        .map(|(place, spec)| make(spec, place, specs.len(), &switch))
        .collect::<Result<Vec<_>, _>>()?;
    let mut batch = Batch::default();
    (0..hosts.len()).for_each(|place| batch.link_up(port_index(place)));
    batch.send()?;
    Ok(hosts)
}

fn check(specs: &[HostSpec]) -> Result<(), DeployError> {
    if specs.len() > MOST_HOSTS {
        return Err(DeployError::Hosts(format!("there are {}, and at most {MOST_HOSTS} fit", specs.len())));
    }
    for (place, HostSpec { name }) in specs.iter().enumerate() {
        let legal = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if name.is_empty() || name.len() > LONGEST_NAME || !legal {
            return Err(DeployError::Hosts(format!(
                "{name:?} is no host name: use letters, digits and hyphens, 1 to {LONGEST_NAME} of them"
            )));
        }
        if specs[..place].iter().any(|other| other.name == *name) {
            return Err(DeployError::Hosts(format!("two are named {name:?}")));
        }
    }
    Ok(())
}

fn address(place: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 86, 0, place as u8 + 1)
}

/// A locally administered address. `side` tells the host's end (0) from the switch's (1).
fn mac(place: usize, side: u8) -> Mac {
    [0x02, 0x64, 0x75, 0x72, side, place as u8 + 1]
}

/// The index of the switch's end in the sandbox's namespace.
fn port_index(place: usize) -> u32 {
    FIRST_INDEX + place as u32
}

fn make(spec: &HostSpec, place: usize, count: usize, switch: &File) -> Result<Host, DeployError> {
    let port = format!("p{place}");
    // A new network namespace is made by a thread leaving for it, so it takes a thread.
    let descriptor = thread::scope(|scope| {
        thread::Builder::new()
            .name(format!("make {}", spec.name))
            .spawn_scoped(scope, || {
                unshare(CloneFlags::CLONE_NEWNET).map_err(|e| {
                    DeployError::kernel(format!("make a network namespace for {}", spec.name), e)
                        .advise(advice::user_namespace(e))
                })?;
                let own = own_namespace()
                    .map_err(|e| DeployError::kernel(format!("open the network namespace of {}", spec.name), e))?;
                wire(&port, place, count, switch)?;
                Ok::<_, DeployError>(OwnedFd::from(own))
            })
            .map_err(|e| DeployError::kernel("start a thread", e))?
            .join()
            .unwrap_or_else(|panic| resume_unwind(panic))
    })?;
    Ok(Host {
        name: spec.name.clone(),
        address: Mutex::new(address(place)),
        mac: mac(place, 0),
        port,
        namespace: HostNamespace { host: spec.name.as_str().into(), descriptor: Arc::new(descriptor) },
    })
}

/// Sets up the network namespace the calling thread is in.
fn wire(port: &str, place: usize, count: usize, switch: &File) -> Result<(), DeployError> {
    switch_off_ipv6()?;
    let mut batch = Batch::default();
    batch.loopback_up();
    batch.add_veth(
        &VethEnd { name: INTERFACE, mac: mac(place, 0), index: INTERFACE_INDEX, namespace: None },
        &VethEnd { name: port, mac: mac(place, 1), index: port_index(place), namespace: Some(switch.as_fd()) },
    );
    batch.add_address(INTERFACE_INDEX, address(place), PREFIX);
    for other in (0..count).filter(|other| *other != place) {
        batch.add_neighbour(INTERFACE_INDEX, address(other), mac(other, 0));
    }
    batch.send()
}

/// The network namespace of the calling thread.
fn own_namespace() -> io::Result<File> {
    File::open("/proc/thread-self/ns/net")
}

/// Turns IPv6 off in the calling thread's network namespace, for the interfaces there are and
/// those to come: its neighbour discovery would chatter on links that are meant to be silent.
pub(crate) fn switch_off_ipv6() -> Result<(), DeployError> {
    for which in ["all", "default"] {
        let path = format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6");
        match std::fs::write(&path, "1") {
            Ok(()) => {}
            // The kernel has no IPv6 to turn off.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(DeployError::kernel(format!("turn IPv6 off by {path}"), e)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(names: &[&str]) -> String {
        let specs: Vec<_> = names.iter().map(|name| HostSpec::new(*name)).collect();
        check(&specs).expect_err("these names should be refused").to_string()
    }

    #[test]
    fn names_must_be_host_names_and_differ() {
        assert!(refusal(&["n1", "n1"]).contains("two are named \"n1\""));
        assert!(refusal(&[""]).contains("\"\" is no host name"));
        assert!(refusal(&["a b"]).contains("\"a b\" is no host name"));
        assert!(refusal(&["../n1"]).contains("no host name"));
        assert!(refusal(&[&"x".repeat(64)]).contains("no host name"));
        check(&[HostSpec::new("n1"), HostSpec::new("client-1")]).expect("these are host names");
    }

    #[test]
    fn every_host_has_an_address() {
        let many: Vec<_> = (0..=MOST_HOSTS).map(|n| HostSpec::new(format!("n{n}"))).collect();
        check(&many[..MOST_HOSTS]).expect("that many fit");
        assert!(check(&many).expect_err("one too many").to_string().contains("at most 250"));
        assert_eq!(address(MOST_HOSTS - 1), Ipv4Addr::new(10, 86, 0, 250));
        assert_ne!(mac(3, 0), mac(3, 1));
    }
}

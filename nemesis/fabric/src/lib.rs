//! The fabric: a userspace network switch that joins the hosts of a target and hurts their links.
//!
//! Every host (a node or a client host) has a veth pair; the switch holds the other end of each
//! pair as a *port*. One thread reads Ethernet frames from the ports and writes each to the port
//! that owns its destination address. What happens to a frame on the way is a [`Rule`] of the
//! directed link it takes, decided frame by frame as a pure function of the seed: cuts, flapping,
//! loss, delays of several distributions, reordering, duplication, corruption, limited rates, black
//! holes for large packets, TCP resets. It needs no iptables, nft, tc or netem, and no privilege
//! beyond the namespace that holds the interfaces.
//!
//! - [`Fabric`] starts and stops the switch; [`Links`] is the handle that sets rules and reads
//!   [`Counters`]; [`decide`] is the pure decision.
//! - With [`Options::capture`] every frame is written to a pcapng file, with a comment wherever the
//!   fabric had a hand in it and at every change of rules.
//! - [`Prober`] measures who reaches whom and what links do to many datagrams ([`Volley`]), as
//!   evidence that a rule took effect.
//!
//! What the interfaces must look like (whoever makes them sees to it):
//! - both ends up, the switch's end first: a veth that is up before its peer loses what it is given
//!   until a kernel worker has noticed the peer. The switch knows how to get around that, a host
//!   doesn't;
//! - no IPv6 and no address on the switch's end, so that it is silent by itself;
//! - permanent neighbour entries in every host. ARP needs both directions of a link, so with
//!   resolved neighbours a one-way cut would soon look like a cut in both directions;
//! - [`Fabric::start`] is called in the network namespace that holds the switch's ends. Sockets
//!   belong to the namespace they were made in, so the calling thread may leave it afterwards.
//!
//! The fabric knows nothing of targets, addresses above Ethernet, or schedules.

mod capture;
mod delay;
mod forward;
mod frame;
mod links;
mod matrix;
mod packet;
mod priority;
mod probe;
mod rule;
mod shaper;
mod socket;
mod switch;
mod volley;

pub use capture::Captured;
pub use links::{Counters, Links, PortId};
pub use matrix::{Matrix, Mismatch};
pub use probe::{PROBE_PORT, PROBE_WAIT, Prober};
pub use rule::{ALL, Cause, Delivery, Flip, Link, Rule, Seen, Shape, Verdict, decide};
pub use switch::{Fabric, FabricError, Options, PortSpec};
pub use volley::{Shots, Volley};

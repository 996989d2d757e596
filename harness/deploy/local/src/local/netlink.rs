//! The few rtnetlink requests the local back end makes, encoded and acknowledged synchronously.
//!
//! Requests are collected in a [`Batch`] and sent together: one system call sets up a whole host.
//! The formats are those of rtnetlink(7); numbers are in host byte order.

use std::io::IoSlice;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendmsg, socket};

use crate::{DeployError, advice};

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Kernel replies queue up on the socket, which holds a few hundred: send at most this many at once.
const CHUNK: usize = 64;

// linux/veth.h; libc doesn't have it.
const VETH_INFO_PEER: u16 = 1;
/// The first index for interfaces of ours. Chosen rather than asked for, so that later requests of
/// the same batch can name them; high enough to stay clear of the fallback tunnels some kernels
/// put into every new namespace.
pub(crate) const FIRST_INDEX: u32 = 100;
/// lo is the first interface of every network namespace.
const LOOPBACK_INDEX: u32 = 1;

/// An Ethernet address.
pub(crate) type Mac = [u8; 6];

/// One end of a veth pair to be made.
pub(crate) struct VethEnd<'a> {
    /// The interface's name.
    pub(crate) name: &'a str,
    /// Its Ethernet address.
    pub(crate) mac: Mac,
    /// Its index, or zero to let the kernel choose.
    pub(crate) index: u32,
    /// The network namespace to make it in; none for the one the request is sent in.
    pub(crate) namespace: Option<BorrowedFd<'a>>,
}

/// Requests to be sent together, in order.
#[derive(Default)]
pub(crate) struct Batch {
    messages: Vec<Message>,
}

struct Message {
    /// What it asks for, as it reads after "could not".
    tried: String,
    bytes: Vec<u8>,
}

impl Batch {
    /// Takes lo up.
    pub(crate) fn loopback_up(&mut self) {
        self.link_up(LOOPBACK_INDEX);
    }

    /// Takes the interface up.
    pub(crate) fn link_up(&mut self, index: u32) {
        let mut body = link_header(index);
        set_up(&mut body);
        self.push(format!("take interface {index} up"), libc::RTM_NEWLINK, 0, body);
    }

    /// Makes a veth pair with `end` up. The peer can't be made up at once: the kernel makes it
    /// first, and takes no veth up that has no other end yet.
    pub(crate) fn add_veth(&mut self, end: &VethEnd<'_>, peer: &VethEnd<'_>) {
        let mut body = veth_end(end);
        set_up(&mut body);
        nest(&mut body, libc::IFLA_LINKINFO, |info| {
            attribute(info, libc::IFLA_INFO_KIND, b"veth");
            nest(info, libc::IFLA_INFO_DATA, |data| {
                nest(data, VETH_INFO_PEER, |nested| nested.extend(veth_end(peer)));
            });
        });
        let create = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        self.push(format!("make the veth pair {} – {}", end.name, peer.name), libc::RTM_NEWLINK, create, body);
    }

    /// Gives the interface an address.
    pub(crate) fn add_address(&mut self, index: u32, address: Ipv4Addr, prefix: u8) {
        let create = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        let body = interface_address(index, address, prefix);
        self.push(format!("give the address {address} to interface {index}"), libc::RTM_NEWADDR, create, body);
    }

    /// Takes an address from the interface. With its last one it loses its neighbours.
    pub(crate) fn remove_address(&mut self, index: u32, address: Ipv4Addr, prefix: u8) {
        let body = interface_address(index, address, prefix);
        self.push(format!("take the address {address} from interface {index}"), libc::RTM_DELADDR, 0, body);
    }

    /// Pins the Ethernet address of a neighbour, so that it is never asked for.
    pub(crate) fn add_neighbour(&mut self, index: u32, address: Ipv4Addr, mac: Mac) {
        // struct ndmsg: family, padding, index, state, flags, type.
        let mut body = vec![libc::AF_INET as u8, 0, 0, 0];
        body.extend(index.to_ne_bytes());
        body.extend(libc::NUD_PERMANENT.to_ne_bytes());
        body.extend([0, 0]);
        attribute(&mut body, libc::NDA_DST, &address.octets());
        attribute(&mut body, libc::NDA_LLADDR, &mac);
        let create = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        self.push(format!("pin the neighbour {address} of interface {index}"), libc::RTM_NEWNEIGH, create, body);
    }

    fn push(&mut self, tried: String, kind: u16, flags: i32, body: Vec<u8>) {
        let mut bytes = Vec::with_capacity(HEADER + body.len());
        bytes.extend(((HEADER + body.len()) as u32).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(((libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags) as u16).to_ne_bytes());
        bytes.extend((self.messages.len() as u32).to_ne_bytes());
        bytes.extend(0u32.to_ne_bytes());
        bytes.extend(body);
        bytes.resize(aligned(bytes.len()), 0);
        self.messages.push(Message { tried, bytes });
    }

    /// The requests as they are sent.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.messages.iter().flat_map(|message| &message.bytes).copied().collect()
    }

    /// Sends the requests in the calling thread's network namespace.
    ///
    /// # Errors
    /// The first request refused; those after it in the batch were tried all the same.
    pub(crate) fn send(self) -> Result<(), DeployError> {
        let socket = open()?;
        for chunk in self.messages.chunks(CHUNK) {
            let parts: Vec<IoSlice<'_>> = chunk.iter().map(|message| IoSlice::new(&message.bytes)).collect();
            sendmsg(socket.as_raw_fd(), &parts, &[], MsgFlags::empty(), Some(&NetlinkAddr::new(0, 0)))
                .map_err(|e| DeployError::kernel("send to rtnetlink", e))?;
            acknowledged(&socket, chunk)?;
        }
        Ok(())
    }
}

fn open() -> Result<OwnedFd, DeployError> {
    socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)
        .map_err(|e| DeployError::kernel("open an rtnetlink socket", e).advise(advice::inside(e)))
}

/// Reads one acknowledgement for each of `sent`. The kernel has answered before `send` returns.
fn acknowledged(socket: &OwnedFd, sent: &[Message]) -> Result<(), DeployError> {
    let mut first_refused = Ok(());
    let mut outstanding = sent.len();
    let mut buffer = [0; 8192];
    while outstanding > 0 {
        let length = match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(length) => length,
            Err(Errno::EINTR) => continue,
            Err(e) => return Err(DeployError::kernel("read rtnetlink's answer", e)),
        };
        for errno in acknowledgements(&buffer[..length]) {
            let request = &sent[sent.len() - outstanding];
            outstanding -= 1;
            if errno != 0 && first_refused.is_ok() {
                let errno = Errno::from_raw(errno);
                first_refused = Err(DeployError::kernel(&request.tried, errno).advise(advice::veth(errno)));
            }
            if outstanding == 0 {
                break;
            }
        }
    }
    first_refused
}

/// The error numbers (0 for success) of the acknowledgements in what was read from the socket.
pub(crate) fn acknowledgements(mut read: &[u8]) -> impl Iterator<Item = i32> {
    std::iter::from_fn(move || {
        while read.len() >= HEADER {
            let length = u32::from_ne_bytes([read[0], read[1], read[2], read[3]]) as usize;
            let kind = u16::from_ne_bytes([read[4], read[5]]);
            let error = read.get(HEADER..HEADER + 4).map(|b| i32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
            // A length that can't be is the end, rather than a loop without one.
            read = if length < HEADER { &[] } else { read.get(aligned(length)..).unwrap_or(&[]) };
            if i32::from(kind) == libc::NLMSG_ERROR {
                return error.map(|negative| -negative);
            }
        }
        None
    })
}

/// `struct ifinfomsg` and the attributes of one end of a veth pair.
fn veth_end(end: &VethEnd<'_>) -> Vec<u8> {
    let mut body = link_header(end.index);
    let mut name = end.name.as_bytes().to_vec();
    name.push(0);
    attribute(&mut body, libc::IFLA_IFNAME, &name);
    attribute(&mut body, libc::IFLA_ADDRESS, &end.mac);
    if let Some(namespace) = end.namespace {
        attribute(&mut body, libc::IFLA_NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes());
    }
    body
}

/// `struct ifinfomsg`: family, padding, type, index, flags, which flags to change.
fn link_header(index: u32) -> Vec<u8> {
    let mut body = vec![libc::AF_UNSPEC as u8, 0, 0, 0];
    body.extend(index.to_ne_bytes());
    body.extend([0; 8]);
    body
}

/// `struct ifaddrmsg` and its attributes.
fn interface_address(index: u32, address: Ipv4Addr, prefix: u8) -> Vec<u8> {
    let mut body = vec![libc::AF_INET as u8, prefix, 0, libc::RT_SCOPE_UNIVERSE];
    body.extend(index.to_ne_bytes());
    attribute(&mut body, libc::IFA_LOCAL, &address.octets());
    attribute(&mut body, libc::IFA_ADDRESS, &address.octets());
    body
}

fn set_up(link_header: &mut [u8]) {
    let up = (libc::IFF_UP as u32).to_ne_bytes();
    link_header[8..12].copy_from_slice(&up);
    link_header[12..16].copy_from_slice(&up);
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend((4 + value.len() as u16).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(aligned(body.len()), 0);
}

fn nest(body: &mut Vec<u8>, kind: u16, inside: impl FnOnce(&mut Vec<u8>)) {
    let mut value = Vec::new();
    inside(&mut value);
    attribute(body, kind, &value);
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

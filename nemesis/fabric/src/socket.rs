//! Packet sockets: opening them, and reading and writing frames in batches.
//!
//! The only module of the switch that talks to the kernel without a safe wrapper, because none
//! reuses its buffers and headers from call to call as this must to stay cheap.
#![expect(unsafe_code, reason = "packet socket options and batched reads and writes have no safe wrapper")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::frame::FRAME_LIMIT;

/// What we ask of the kernel for each direction of a port. A full TCP window of large frames must
/// fit while the forwarding thread waits for its turn.
const SOCKET_BUFFER: libc::c_int = 8 << 20;

/// A raw packet socket bound to one interface.
#[derive(Debug)]
pub(crate) struct PacketSocket {
    fd: OwnedFd,
}

impl PacketSocket {
    /// Opens `interface` of the calling thread's network namespace. An error names its step.
    pub(crate) fn open(interface: &str) -> Result<PacketSocket, (&'static str, io::Error)> {
        let index = nix::net::if_::if_nametoindex(interface).map_err(|e| ("find the interface", e.into()))?;
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // Protocol 0: nothing is received before bind, so no frame of another interface slips in.
        // SAFETY: plain arguments, no memory involved.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
        if fd < 0 {
            return Err(("make a packet socket, which needs CAP_NET_RAW and AF_PACKET", io::Error::last_os_error()));
        }
        // SAFETY: the call above succeeded, so the descriptor is open and nobody else has it.
        let socket = PacketSocket { fd: unsafe { OwnedFd::from_raw_fd(fd) } };

        // Offloaded large frames and unfinished checksums pass through whole.
        socket.set(libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1).map_err(|e| ("PACKET_VNET_HDR", e))?;
        // What leaves by the interface is not received back: should the namespace send something of
        // its own there, it is none of our hosts'. (Our own sends, by the bypass below, never are.)
        socket.set(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1).map_err(|e| ("PACKET_IGNORE_OUTGOING", e))?;
        // Straight to the interface. The queue before it would cost time, and the one a veth has from
        // its peer coming up until a kernel worker has noticed swallows frames and reports success.
        socket.set(libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, 1).map_err(|e| ("PACKET_QDISC_BYPASS", e))?;
        // Beyond the system's limit where we may (root), else up to it.
        for (force, plain) in [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)] {
            if socket.set(libc::SOL_SOCKET, force, SOCKET_BUFFER).is_err() {
                socket.set(libc::SOL_SOCKET, plain, SOCKET_BUFFER).map_err(|e| ("size the socket's buffers", e))?;
            }
        }

        // SAFETY: all zeroes is a valid value of this plain C struct.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as libc::c_ushort;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = libc::c_int::try_from(index)
            .map_err(|_| ("find the interface", io::Error::from_raw_os_error(libc::ENODEV)))?;
        // SAFETY: the pointer and the length are those of a live sockaddr_ll.
        let bound = unsafe {
            libc::bind(
                socket.fd.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if bound < 0 {
            return Err(("bind to the interface", io::Error::last_os_error()));
        }
        Ok(socket)
    }

    /// How many frames the kernel has thrown away for want of room in the receive buffer since
    /// the last time this was asked.
    pub(crate) fn take_missed(&self) -> u64 {
        let mut stats = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
        // SAFETY: the pointer and the length are those of a live tpacket_stats.
        let done = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut stats).cast(),
                &raw mut length,
            )
        };
        if done < 0 { 0 } else { u64::from(stats.tp_drops) }
    }

    fn set(&self, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
        // SAFETY: the pointer and the length are those of a live c_int.
        let done = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                level,
                option,
                (&raw const value).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn empty_header() -> libc::mmsghdr {
    // SAFETY: all zeroes (null pointers, zero lengths) is a valid value of this plain C struct.
    unsafe { std::mem::zeroed() }
}

/// Buffers for the frames of one read.
pub(crate) struct Batch {
    buffers: Vec<Box<[u8]>>,
    headers: Vec<libc::mmsghdr>,
    iovecs: Vec<libc::iovec>,
}

impl Batch {
    /// Room for `size` frames of any size.
    pub(crate) fn new(size: usize) -> Batch {
        let no_buffer = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        Batch {
            buffers: (0..size).map(|_| vec![0; FRAME_LIMIT].into_boxed_slice()).collect(),
            headers: vec![empty_header(); size],
            iovecs: vec![no_buffer; size],
        }
    }

    /// How many frames one read can give.
    pub(crate) fn size(&self) -> usize {
        self.buffers.len()
    }

    /// Reads the frames that wait at `socket`, at most [`size`](Self::size), and says how many.
    ///
    /// # Errors
    /// `WouldBlock` if none waits; else whatever the interface has come to.
    pub(crate) fn receive(&mut self, socket: &PacketSocket) -> io::Result<usize> {
        // Set anew for each read: the pointers then never outlive a move of the vectors.
        for ((buffer, iovec), header) in self.buffers.iter_mut().zip(&mut self.iovecs).zip(&mut self.headers) {
            *iovec = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
            header.msg_hdr.msg_iov = iovec;
            header.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: every header points to one iovec, and every iovec to a buffer of its own of the
        // length it says; all are owned by `self` and untouched during the call.
        let received = unsafe {
            libc::recvmmsg(
                socket.fd.as_raw_fd(),
                self.headers.as_mut_ptr(),
                self.headers.len() as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        if received < 0 { Err(io::Error::last_os_error()) } else { Ok(received as usize) }
    }

    /// Frame `i` of the last read.
    pub(crate) fn frame(&self, i: usize) -> &[u8] {
        &self.buffers[i][..self.headers[i].msg_len as usize]
    }

    /// Whether frame `i` of the last read was larger than any we know of, and lost its end.
    pub(crate) fn is_truncated(&self, i: usize) -> bool {
        self.headers[i].msg_hdr.msg_flags & libc::MSG_TRUNC != 0
    }
}

/// Headers for the frames of one write.
pub(crate) struct Sender {
    headers: Vec<libc::mmsghdr>,
    iovecs: Vec<libc::iovec>,
}

impl Sender {
    /// Writes up to `size` frames at once.
    pub(crate) fn new(size: usize) -> Sender {
        Sender { headers: Vec::with_capacity(size), iovecs: Vec::with_capacity(size) }
    }

    /// Writes frames to `socket` in order and says how many the kernel took.
    ///
    /// # Errors
    /// Of the first frame, when the kernel didn't take even that.
    pub(crate) fn send<'a>(
        &mut self,
        socket: &PacketSocket,
        frames: impl Iterator<Item = &'a [u8]>,
    ) -> io::Result<usize> {
        self.iovecs.clear();
        self.iovecs.extend(
            frames.map(|frame| libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() }),
        );
        self.headers.clear();
        self.headers.extend(self.iovecs.iter_mut().map(|iovec| {
            let mut header = empty_header();
            header.msg_hdr.msg_iov = iovec;
            header.msg_hdr.msg_iovlen = 1;
            header
        }));
        // SAFETY: every header points to one iovec, and every iovec to a frame that is borrowed
        // for 'a and so outlives the call, which only reads it. The iovecs don't move before it.
        let sent = unsafe {
            libc::sendmmsg(
                socket.fd.as_raw_fd(),
                self.headers.as_mut_ptr(),
                self.headers.len() as libc::c_uint,
                libc::MSG_DONTWAIT as _,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
    }
}

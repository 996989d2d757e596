//! Who reaches whom, measured from inside the hosts.
//!
//! The prober owns one UDP socket in every host's network namespace, so it sees both ends of each
//! link and measures every direction by itself: no reply is needed. It knows nothing of rules; the
//! caller compares what was measured with what was asked for.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt::ReceiveTimestampns};
use nix::sys::time::TimeSpec;

use crate::matrix::Matrix;

/// The UDP port the sockets given to a [`Prober`] should be bound to.
pub const PROBE_PORT: u16 = 9471;

/// How long to wait for probes by default.
pub const PROBE_WAIT: Duration = Duration::from_millis(100);

/// Datagrams sent over each link, unless an earlier one has arrived by then.
const ATTEMPTS: usize = 3;

/// Time between the datagrams of a link: long enough for them not to be lost in one burst.
const SPACING: Duration = Duration::from_millis(2);

/// Datagrams read from one socket before the others get their turn.
const READS_PER_TURN: usize = 64;

/// Sends probes between hosts and sees which arrive.
#[derive(Debug)]
pub struct Prober {
    names: Vec<String>,
    pub(crate) hosts: Vec<Host>,
    /// The number of the last round. Held while a round runs: rounds don't overlap, and what is
    /// late from one is not taken for the next.
    round: Mutex<u64>,
}

#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) socket: UdpSocket,
    address: Mutex<SocketAddr>,
}

impl Host {
    /// Where it is reached.
    pub(crate) fn address(&self) -> SocketAddr {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Prober {
    /// A prober over these hosts: name, a socket made in that host's network namespace and bound
    /// to 0.0.0.0:[`PROBE_PORT`] (or any other port), and the host's address on the fabric.
    ///
    /// # Errors
    /// If a socket can't be prepared: made non-blocking, or told to note when datagrams arrive.
    pub fn new(sockets: Vec<(String, UdpSocket, Ipv4Addr)>) -> io::Result<Prober> {
        let mut names = Vec::with_capacity(sockets.len());
        let mut hosts = Vec::with_capacity(sockets.len());
        for (name, socket, address) in sockets {
            socket.set_nonblocking(true)?;
            setsockopt(&socket, ReceiveTimestampns, &true)?;
            let address = SocketAddr::from((address, socket.local_addr()?.port()));
            names.push(name);
            hosts.push(Host { socket, address: Mutex::new(address) });
        }
        // Rounds of another prober on the same hosts, before this one, had other numbers.
        let first = since_epoch().as_nanos() as u64;
        Ok(Prober { names, hosts, round: Mutex::new(first) })
    }

    /// The names of the hosts, in the order given.
    pub fn hosts(&self) -> &[String] {
        &self.names
    }

    /// A host, given by its place in the list, is reached at another address from now on.
    pub fn set_address(&self, host: usize, address: Ipv4Addr) {
        if let Some(host) = self.hosts.get(host) {
            host.address.lock().unwrap_or_else(PoisonError::into_inner).set_ip(address.into());
        }
    }

    /// Probes every ordered pair of different hosts: [`probe`](Self::probe) of all links.
    pub fn matrix(&self, wait: Duration) -> Matrix {
        let n = self.hosts.len();
        let links: Vec<_> =
            (0..n).flat_map(|from| (0..n).filter(move |to| from != *to).map(move |to| (from, to))).collect();
        self.probe(&links, wait)
    }

    /// Probes these links `(from, to)`, given as places in the list of hosts, with up to three
    /// datagrams each; one that arrives is enough. Returns as soon as something has arrived over
    /// every link, and `wait` after the last datagram was sent if not: give more than the longest
    /// delay on the links. Blocks the calling thread; rounds of several threads take turns.
    ///
    /// What can't be sent or read (a host being torn down, no route) counts as not arrived.
    ///
    /// # Panics
    /// If a link is not between two different hosts of this prober.
    pub fn probe(&self, links: &[(usize, usize)], wait: Duration) -> Matrix {
        let number = self.next_round();
        let mut round = Round::new(*number, Matrix::unreached(self.names.clone(), links));
        for attempt in 0..ATTEMPTS {
            for &(from, to) in links {
                if !round.matrix.reached(from, to) {
                    self.send(&mut round, from, to, attempt);
                }
            }
            let pause = if attempt + 1 == ATTEMPTS { wait } else { SPACING.min(wait) };
            if self.listen(&mut round, Instant::now() + pause) {
                break;
            }
        }
        round.matrix
    }

    /// The number of a new round, whose turn it is while this is held.
    pub(crate) fn next_round(&self) -> MutexGuard<'_, u64> {
        let mut number = self.round.lock().unwrap_or_else(PoisonError::into_inner);
        *number = number.wrapping_add(1);
        number
    }

    fn send(&self, round: &mut Round, from: usize, to: usize, attempt: usize) {
        let datagram = Datagram { round: round.number, from, to, attempt };
        round.sent(&datagram, since_epoch());
        if let Err(error) = self.hosts[from].socket.send_to(&datagram.encode(), self.hosts[to].address()) {
            tracing::debug!(from = self.names[from], to = self.names[to], %error, "can't send a probe");
        }
    }

    /// Takes in what arrives until every link has been reached (true) or it is `until`.
    fn listen(&self, round: &mut Round, until: Instant) -> bool {
        let mut waited_on: Vec<_> =
            self.hosts.iter().map(|host| PollFd::new(host.socket.as_fd(), PollFlags::POLLIN)).collect();
        while round.missing > 0 {
            let left = until.saturating_duration_since(Instant::now());
            match ppoll(&mut waited_on, Some(TimeSpec::from_duration(left)), None) {
                // Looked at once more when the time is up: we may not have had the processor.
                Ok(0) if left.is_zero() => return false,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => {
                    tracing::error!(%error, "can't wait for probes");
                    return false;
                }
            }
            for (host, polled) in waited_on.iter().enumerate() {
                if polled.any() == Some(true) {
                    self.read(host, round);
                }
            }
        }
        true
    }

    fn read(&self, host: usize, round: &mut Round) {
        let mut buffer = [0; Datagram::SIZE + 1];
        let mut control = nix::cmsg_space!(TimeSpec);
        for _ in 0..READS_PER_TURN {
            let mut parts = [io::IoSliceMut::new(&mut buffer)];
            let socket = self.hosts[host].socket.as_raw_fd();
            let (length, stamp) = match recvmsg::<()>(socket, &mut parts, Some(&mut control), MsgFlags::MSG_DONTWAIT) {
                Ok(message) => (message.bytes, arrival(message.cmsgs())),
                Err(error) => {
                    if error != Errno::EAGAIN {
                        tracing::debug!(host = self.names[host], %error, "can't read probes");
                    }
                    return;
                }
            };
            if let Some(datagram) = Datagram::decode(&buffer[..length]) {
                round.arrived(host, &datagram, stamp);
            }
        }
    }
}

/// When the kernel says a datagram arrived, which spares the figure our own reading's delay.
pub(crate) fn arrival(control: nix::Result<impl Iterator<Item = ControlMessageOwned>>) -> Duration {
    let stamp = control.ok().and_then(|mut messages| {
        messages.find_map(|message| match message {
            ControlMessageOwned::ScmTimestampns(stamp) => Some(Duration::from(stamp)),
            _ => None,
        })
    });
    stamp.unwrap_or_else(since_epoch)
}

/// The wall clock, which is the one the kernel stamps datagrams by.
pub(crate) fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// One round of probing.
struct Round {
    number: u64,
    /// When each attempt was sent, by place of the link.
    sent: Vec<[Option<Duration>; ATTEMPTS]>,
    matrix: Matrix,
    /// Links not reached yet.
    missing: usize,
}

impl Round {
    fn new(number: u64, matrix: Matrix) -> Round {
        let n = matrix.hosts().len();
        let missing = matrix.links().filter(|(from, to)| !matrix.reached(*from, *to)).count();
        Round { number, sent: vec![[None; ATTEMPTS]; n * n], matrix, missing }
    }

    fn sent(&mut self, datagram: &Datagram, at: Duration) {
        let place = datagram.from * self.matrix.hosts().len() + datagram.to;
        self.sent[place][datagram.attempt] = Some(at);
    }

    /// Notes a datagram that arrived at `host`, if this round sent it there.
    fn arrived(&mut self, host: usize, datagram: &Datagram, at: Duration) {
        let n = self.matrix.hosts().len();
        if datagram.round != self.number || datagram.to != host || datagram.from >= n || datagram.attempt >= ATTEMPTS {
            return;
        }
        if let Some(sent) = self.sent[datagram.from * n + datagram.to][datagram.attempt] {
            let first = self.matrix.reach(datagram.from, datagram.to, at.saturating_sub(sent));
            self.missing -= usize::from(first);
        }
    }
}

/// What a probe carries: which one it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Datagram {
    round: u64,
    from: usize,
    to: usize,
    attempt: usize,
}

impl Datagram {
    const MAGIC: [u8; 8] = *b"duress-p";
    const SIZE: usize = 8 + 8 + 4 + 4 + 1;

    fn encode(&self) -> [u8; Datagram::SIZE] {
        let mut bytes = [0; Datagram::SIZE];
        bytes[..8].copy_from_slice(&Datagram::MAGIC);
        bytes[8..16].copy_from_slice(&self.round.to_le_bytes());
        bytes[16..20].copy_from_slice(&(self.from as u32).to_le_bytes());
        bytes[20..24].copy_from_slice(&(self.to as u32).to_le_bytes());
        bytes[24] = self.attempt as u8;
        bytes
    }

    /// Nothing if these bytes are not a probe.
    fn decode(bytes: &[u8]) -> Option<Datagram> {
        let bytes: &[u8; Datagram::SIZE] = bytes.try_into().ok()?;
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        (bytes[..8] == Datagram::MAGIC).then(|| Datagram {
            round: u64::from(word(8)) | u64::from(word(12)) << 32,
            from: word(16) as usize,
            to: word(20) as usize,
            attempt: usize::from(bytes[24]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(5);

    /// Hosts that are addresses of the loopback interface.
    fn prober(n: u8) -> Prober {
        let host = |i: u8| {
            let address = Ipv4Addr::new(127, 77, 0, i + 1);
            (format!("h{i}"), UdpSocket::bind((address, 0)).unwrap(), address)
        };
        Prober::new((0..n).map(host).collect()).unwrap()
    }

    #[test]
    fn open_links_are_reached_without_waiting() {
        let started = Instant::now();
        let matrix = prober(4).matrix(WAIT);
        assert_eq!(matrix.links().count(), 12);
        assert!(matrix.links().all(|(from, to)| matrix.reached(from, to)));
        assert!(matrix.latency(0, 1).unwrap() < WAIT);
        assert!(started.elapsed() < WAIT);
    }

    #[test]
    fn only_what_was_asked_for_is_probed() {
        let prober = prober(3);
        let matrix = prober.probe(&[(2, 0)], WAIT);
        assert!(matrix.reached(2, 0));
        assert_eq!(matrix.links().collect::<Vec<_>>(), [(2, 0)]);
        assert!(!matrix.probed(0, 2) && !matrix.reached(0, 2));
    }

    #[test]
    fn a_silent_link_is_found_out_after_the_wait() {
        let listener = UdpSocket::bind("127.77.1.1:0").unwrap();
        let deaf = UdpSocket::bind("127.77.1.2:0").unwrap();
        // Its datagrams go to an address where nobody listens.
        let prober = Prober::new(vec![
            ("listener".to_owned(), listener, Ipv4Addr::new(127, 77, 1, 1)),
            ("deaf".to_owned(), deaf, Ipv4Addr::new(127, 77, 1, 2)),
        ])
        .unwrap();
        prober.set_address(1, Ipv4Addr::new(127, 77, 1, 3));
        let wait = Duration::from_millis(30);
        let started = Instant::now();
        let matrix = prober.matrix(wait);
        assert!(started.elapsed() >= wait);
        assert!(!matrix.reached(0, 1) && matrix.reached(1, 0));
    }

    #[test]
    fn strays_don_t_count() {
        let mut round = Round::new(7, Matrix::unreached(vec!["a".into(), "b".into()], &[(0, 1)]));
        let sent = Datagram { round: 7, from: 0, to: 1, attempt: 0 };
        round.sent(&sent, Duration::from_secs(1));
        let at = Duration::from_secs(2);
        for stray in [
            Datagram { round: 6, ..sent },
            Datagram { from: 1, ..sent },
            Datagram { from: 9, ..sent },
            Datagram { attempt: 1, ..sent },
            Datagram { attempt: 200, ..sent },
        ] {
            round.arrived(1, &stray, at);
        }
        round.arrived(0, &sent, at);
        assert!(round.missing == 1 && !round.matrix.reached(0, 1));
        round.arrived(1, &sent, at);
        round.arrived(1, &sent, at);
        assert_eq!((round.missing, round.matrix.latency(0, 1)), (0, Some(Duration::from_secs(1))));
    }

    #[test]
    fn datagrams_survive_their_encoding() {
        let datagram = Datagram { round: u64::MAX - 5, from: 3, to: 70_000, attempt: 2 };
        assert_eq!(Datagram::decode(&datagram.encode()), Some(datagram));
        assert_eq!(Datagram::decode(&datagram.encode()[1..]), None);
        assert_eq!(Datagram::decode(&[0; Datagram::SIZE]), None);
    }
}

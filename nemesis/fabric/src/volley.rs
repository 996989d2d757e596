//! What links do to many datagrams: which arrive, how often, when, in which order and how damaged.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

pub use duress_backend::links::{Shots, Volley};
use duress_seed::Seed;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{MsgFlags, SockaddrIn, recvmsg};
use nix::sys::time::TimeSpec;
use rand::Rng as _;

use crate::probe::{Prober, arrival, since_epoch};

/// The largest datagram that is not fragmented on Ethernet.
const LARGEST: usize = 1472;
/// The smallest that can be told from all others, with a bit of it flipped.
const SMALLEST: usize = 48;
/// Datagrams sent before those that have arrived are read: few enough for a socket's buffer.
const BURST: usize = 32;
/// How long the datagrams of a burst are waited for before more are sent: some may never come.
const CATCH_UP: Duration = Duration::from_millis(2);
/// More are not sent over one link.
const MOST: u32 = 100_000;

/// One link while its volley is on its way.
struct Track {
    from: usize,
    to: usize,
    found: Volley,
    sent_at: Vec<Duration>,
    whole: u32,
    last: Option<u32>,
}

impl Prober {
    /// Sends numbered datagrams over each of these links `(from, to)`, given as places in the list
    /// of hosts, and says what became of them, link by link in the order given. It returns as soon
    /// as each has arrived once, which leaves copies of the last unseen, else after the wait. Blocks
    /// the calling thread; rounds and volleys take turns.
    ///
    /// What can't be sent counts as sent and not arrived.
    ///
    /// # Panics
    /// If a link is not between two different hosts of this prober.
    pub fn volley(&self, links: &[(usize, usize)], shots: &Shots) -> Vec<Volley> {
        let round = self.next_round();
        let (count, size) = (shots.count.min(MOST), shots.size.clamp(SMALLEST, LARGEST));
        let number = *round;
        let mut tracks: Vec<Track> = links
            .iter()
            .map(|&(from, to)| {
                assert!(from != to && from.max(to) < self.hosts.len(), "link {from} to {to} is not between two hosts");
                let found = Volley { sent: count, latencies: vec![None; count as usize], ..Volley::default() };
                Track { from, to, found, sent_at: Vec::new(), whole: 0, last: None }
            })
            .collect();
        let began = Instant::now();
        let mut unread = 0;
        for shot in 0..count {
            for place in 0..tracks.len() {
                let track = &mut tracks[place];
                let datagram = encode(number, track.from, track.to, shot, size);
                track.sent_at.push(since_epoch());
                let address = self.hosts[track.to].address();
                if let Err(error) = self.hosts[track.from].socket.send_to(&datagram, address) {
                    tracing::debug!(from = self.hosts()[track.from], %error, "can't send a datagram of a volley");
                }
                unread += 1;
                if unread >= BURST {
                    unread = 0;
                    self.collect(&mut tracks, number, size, Instant::now() + CATCH_UP);
                }
            }
            if !shots.every.is_zero() {
                // Copies and stragglers come at any time, so it is waited even if nothing is missing.
                let next = began + shots.every * (shot + 1);
                self.collect(&mut tracks, number, size, next);
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        }
        self.collect(&mut tracks, number, size, Instant::now() + shots.wait);
        tracks.into_iter().map(|track| track.found).collect()
    }

    /// Reads what arrives until it is `until`, or all that were sent have arrived.
    fn collect(&self, tracks: &mut [Track], round: u64, size: usize, until: Instant) {
        let listening: std::collections::BTreeSet<usize> = tracks.iter().map(|track| track.to).collect();
        let mut waited_on: Vec<_> =
            listening.iter().map(|host| PollFd::new(self.hosts[*host].socket.as_fd(), PollFlags::POLLIN)).collect();
        loop {
            let complete = tracks.iter().all(|track| track.is_complete());
            let left = until.saturating_duration_since(Instant::now());
            let left = if complete { Duration::ZERO } else { left };
            match ppoll(&mut waited_on, Some(TimeSpec::from_duration(left)), None) {
                Ok(0) if left.is_zero() => return,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => {
                    tracing::error!(%error, "can't wait for a volley");
                    return;
                }
            }
            for (host, polled) in listening.iter().zip(&waited_on) {
                if polled.any() == Some(true) {
                    self.read_volley(*host, tracks, round, size);
                }
            }
        }
    }

    fn read_volley(&self, host: usize, tracks: &mut [Track], round: u64, size: usize) {
        let mut buffer = [0; LARGEST + 1];
        let mut control = nix::cmsg_space!(TimeSpec);
        for _ in 0..2 * BURST {
            let mut parts = [io::IoSliceMut::new(&mut buffer)];
            let socket = self.hosts[host].socket.as_raw_fd();
            let received = recvmsg::<SockaddrIn>(socket, &mut parts, Some(&mut control), MsgFlags::MSG_DONTWAIT);
            let Ok(message) = received else { return };
            let (length, at) = (message.bytes, arrival(message.cmsgs()));
            let sender = message.address.map(|address| IpAddr::from(address.ip()));
            let track = tracks
                .iter_mut()
                .find(|track| track.to == host && Some(self.hosts[track.from].address().ip()) == sender);
            if let Some(track) = track
                && length == size
            {
                track.arrived(&buffer[..length], round, at);
            }
        }
    }
}

impl Track {
    /// Whether all that have been sent so far have arrived.
    fn is_complete(&self) -> bool {
        self.whole as usize >= self.sent_at.len()
    }

    fn arrived(&mut self, bytes: &[u8], round: u64, at: Duration) {
        let claimed = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let wrong_bits = |shot: u32| {
            let sound = encode(round, self.from, self.to, shot, bytes.len());
            sound.iter().zip(bytes).map(|(a, b)| (a ^ b).count_ones()).sum::<u32>()
        };
        if wrong_bits(claimed) != 0 {
            // One bit off: in what it carries, or in its number.
            let candidates = (0..32).map(|bit| claimed ^ (1 << bit)).chain([claimed]);
            let damaged = candidates.into_iter().any(|shot| shot < self.found.sent && wrong_bits(shot) == 1);
            self.found.damaged += u32::from(damaged);
            return;
        }
        let (Some(latency), Some(sent)) =
            (self.found.latencies.get_mut(claimed as usize), self.sent_at.get(claimed as usize))
        else {
            return;
        };
        if latency.is_some() {
            self.found.copies += 1;
            return;
        }
        *latency = Some(at.saturating_sub(*sent));
        self.whole += 1;
        self.found.overtaken += u32::from(self.last.is_some_and(|last| last > claimed));
        self.last = self.last.max(Some(claimed));
        let began = self.sent_at.first().copied().unwrap_or(at);
        self.found.took = self.found.took.max(at.saturating_sub(began));
    }
}

/// A datagram: its number, and bytes that no other datagram has.
fn encode(round: u64, from: usize, to: usize, shot: u32, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    let (number, filler) = bytes.split_at_mut(size_of::<u32>());
    number.copy_from_slice(&shot.to_le_bytes());
    Seed(round).decide(&[from as u64, to as u64, u64::from(shot)]).stream().fill_bytes(filler);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track() -> Track {
        let found = Volley { sent: 10, latencies: vec![None; 10], ..Volley::default() };
        let sent_at = vec![Duration::from_secs(1); 10];
        Track { from: 0, to: 1, found, sent_at, whole: 0, last: None }
    }

    #[test]
    fn what_arrives_is_told_apart() {
        let mut track = track();
        let shot = |number| encode(7, 0, 1, number, 100);
        let at = Duration::from_secs(2);
        track.arrived(&shot(0), 7, at);
        track.arrived(&shot(3), 7, at + Duration::from_millis(5));
        track.arrived(&shot(2), 7, at);
        track.arrived(&shot(0), 7, at);
        assert_eq!((track.found.arrived(), track.found.copies, track.found.overtaken), (3, 1, 1));
        assert_eq!(track.found.took, Duration::from_millis(1005));
        assert_eq!(track.found.latency(1.0), Some(Duration::from_millis(1005)));

        // Whichever bit is wrong, the damage shows; strays and rubbish are not counted at all.
        for bit in 0..800 {
            let mut bytes = shot(5);
            bytes[bit / 8] ^= 1 << (bit % 8);
            track.arrived(&bytes, 7, at);
        }
        assert_eq!(track.found.damaged, 800);
        track.arrived(&shot(10), 7, at);
        track.arrived(&encode(6, 0, 1, 5, 100), 7, at);
        track.arrived(&encode(7, 1, 0, 5, 100), 7, at);
        track.arrived(&[0; 100], 7, at);
        assert_eq!((track.found.arrived(), track.found.damaged), (3, 800));
    }
}

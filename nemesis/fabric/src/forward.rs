//! The forwarding thread: reads frames from the ports, does to each what its link's rule says,
//! writes the rest to the ports they are for.
//!
//! It sleeps in one `epoll_wait` until a port has frames, a held frame is due or it is told to
//! stop; it allocates only for frames that are held back, changed or captured.

mod treat;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use duress_seed::Seed;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::EventFd;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::delay::{DelayQueue, Held};
use crate::frame::{Destination, OFFLOAD_HEADER, Stations};
use crate::links::{InForce, Shared, add, monotonic};
use crate::priority::ask_for_short_turns;
use crate::shaper::Shaper;
use crate::socket::{Batch, PacketSocket, Sender};
use crate::switch::Options;

/// Frames read at once. Enough to spread the cost of the calls; few enough that a batch of large
/// frames stays in the processor's cache on its way from read to write.
const BATCH: usize = 32;

/// How often a write is tried again while the receiver's backlog is full. Between tries the thread
/// yields, so that whoever empties the backlog can run.
const SEND_RETRIES: u32 = 8;

/// Full reads between two looks at what the kernel had to throw away.
const FULL_READS_PER_LOOK: u32 = 64;

/// Reads of one port that may fail in a row, without a frame between, until it is given up.
const READ_FAILURES: u32 = 1000;

/// What the thread waits on, made before it starts so that a failure is reported by the caller.
pub(crate) struct Wakeups {
    epoll: Epoll,
    timer: TimerFd,
    /// Kept open for as long as it is waited on.
    _stop: Arc<EventFd>,
}

impl Wakeups {
    pub(crate) fn new(sockets: &[PacketSocket], stop: Arc<EventFd>) -> nix::Result<Wakeups> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?;
        for (port, socket) in sockets.iter().enumerate() {
            epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, port as u64))?;
        }
        let (stop_tag, timer_tag) = (sockets.len() as u64, sockets.len() as u64 + 1);
        epoll.add(&*stop, EpollEvent::new(EpollFlags::EPOLLIN, stop_tag))?;
        // Edge-triggered, so that an expiry needs no read to fall silent.
        epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, timer_tag))?;
        Ok(Wakeups { epoll, timer, _stop: stop })
    }
}

/// The state of the forwarding thread.
pub(crate) struct Forwarder {
    seed: Seed,
    shared: Arc<Shared>,
    sockets: Vec<PacketSocket>,
    stations: Stations,
    wakeups: Wakeups,
    /// Our copy of the rules, by link, and the generation it is of.
    rules: Vec<InForce>,
    rules_seen: u64,
    /// What passes of links of limited rate, by link.
    shapers: Vec<Shaper>,
    /// Frames seen so far, by link: what names a frame in a decision.
    frame_numbers: Vec<u64>,
    ports: Vec<PortState>,
    queue: DelayQueue,
    /// What the timer is set to.
    armed: Option<u64>,
}

/// What is kept for each port.
#[derive(Default)]
struct PortState {
    /// Which frames of the current batch go out here.
    outbox: Vec<usize>,
    /// Reads in a row that filled the batch.
    full_reads: u32,
    /// Reads in a row that failed.
    failures: u32,
}

/// Buffers of the thread. Apart from the rest so that both can be borrowed at once, and made on
/// the thread itself because they hold raw pointers.
struct Buffers {
    batch: Batch,
    sender: Sender,
    released: Vec<Held>,
}

impl Forwarder {
    pub(crate) fn new(
        seed: Seed,
        shared: Arc<Shared>,
        sockets: Vec<PacketSocket>,
        stations: Stations,
        wakeups: Wakeups,
        options: &Options,
    ) -> Forwarder {
        let ports = sockets.len();
        Forwarder {
            seed,
            shared,
            stations,
            wakeups,
            rules: vec![InForce::default(); ports * ports],
            rules_seen: 0,
            shapers: vec![Shaper::default(); ports * ports],
            frame_numbers: vec![0; ports * ports],
            ports: (0..ports)
                .map(|_| PortState { outbox: Vec::with_capacity(BATCH), ..PortState::default() })
                .collect(),
            queue: DelayQueue::new(options.held_limit),
            armed: None,
            sockets,
        }
    }

    /// Forwards until told to stop.
    pub(crate) fn run(mut self) {
        if let Err(error) = ask_for_short_turns() {
            tracing::debug!(%error, "the fabric takes its turns like any other thread");
        }
        let mut buffers =
            Buffers { batch: Batch::new(BATCH), sender: Sender::new(BATCH), released: Vec::with_capacity(BATCH) };
        let ports = self.sockets.len();
        let mut events = vec![EpollEvent::empty(); ports + 2];
        loop {
            let ready = match self.wakeups.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(ready) => ready,
                Err(Errno::EINTR) => continue,
                Err(error) => {
                    tracing::error!(%error, "the fabric can't wait for frames and stops");
                    return;
                }
            };
            for event in &events[..ready] {
                let tag = event.data() as usize;
                if tag < ports {
                    self.forward_from(tag, &mut buffers);
                } else if tag == ports {
                    return;
                }
            }
            self.release(&mut buffers);
        }
    }

    /// Reads one batch from a port and sends it on its way. What is left is for the next round, so
    /// that a busy port doesn't starve the others.
    fn forward_from(&mut self, from: usize, buffers: &mut Buffers) {
        let received = match buffers.batch.receive(&self.sockets[from]) {
            Ok(received) => received,
            Err(error) => return self.read_failed(from, &error),
        };
        self.note_pressure(from, received == buffers.batch.size());
        self.shared.refresh(&mut self.rules_seen, &mut self.rules);
        for i in 0..received {
            match self.stations.destination(from, buffers.batch.frame(i)) {
                Destination::Port(to) => self.pass(from, to, i, &buffers.batch),
                Destination::Flood => {
                    for to in (0..self.sockets.len()).filter(|to| *to != from) {
                        self.pass(from, to, i, &buffers.batch);
                    }
                }
                Destination::Nowhere => {}
            }
        }
        let first_of_link = from * self.sockets.len();
        for (to, port) in self.ports.iter_mut().enumerate() {
            if port.outbox.is_empty() {
                continue;
            }
            let frame = |i: usize| (buffers.batch.frame(port.outbox[i]), first_of_link + to);
            write(&self.sockets[to], &mut buffers.sender, &self.shared, port.outbox.len(), frame);
            port.outbox.clear();
        }
    }

    /// Sends the held frames that are due, and sets the timer for the next.
    fn release(&mut self, buffers: &mut Buffers) {
        let Some(mut next_due) = self.queue.next_due() else { return };
        let now = monotonic();
        self.shared.refresh(&mut self.rules_seen, &mut self.rules);
        let ports = self.sockets.len();
        while next_due <= now {
            while buffers.released.len() < BATCH
                && let Some(held) = self.queue.pop_due(now)
            {
                let place = held.from * ports + held.to;
                if !self.is_stopped(place, now, &held) {
                    self.ports[held.to].outbox.push(buffers.released.len());
                    buffers.released.push(held);
                }
            }
            for (to, port) in self.ports.iter_mut().enumerate().filter(|(_, port)| !port.outbox.is_empty()) {
                let released = &buffers.released;
                let frame = |i: usize| {
                    let held = &released[port.outbox[i]];
                    (&*held.frame, held.from * ports + to)
                };
                write(&self.sockets[to], &mut buffers.sender, &self.shared, port.outbox.len(), frame);
                port.outbox.clear();
            }
            buffers.released.clear();
            match self.queue.next_due() {
                Some(due) => next_due = due,
                None => return,
            }
        }
        if self.armed != Some(next_due) {
            let at = TimeSpec::from_duration(Duration::from_nanos(next_due));
            match self.wakeups.timer.set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME) {
                Ok(()) => self.armed = Some(next_due),
                Err(error) => tracing::error!(%error, "the fabric can't set its timer: delayed frames will be late"),
            }
        }
    }

    /// Looks, now and then while a port is under pressure and once when it is over, at how many
    /// frames the kernel had no room for.
    fn note_pressure(&mut self, port: usize, was_full: bool) {
        let state = &mut self.ports[port];
        state.failures = 0;
        let look = if was_full {
            state.full_reads += 1;
            state.full_reads.is_multiple_of(FULL_READS_PER_LOOK)
        } else {
            std::mem::take(&mut state.full_reads) > 0
        };
        if look {
            add(self.shared.missed(port), self.sockets[port].take_missed());
        }
    }

    /// A port that can't be read is down or gone (its host was torn down), which is the host's
    /// affair; only one that keeps failing is no longer listened to.
    fn read_failed(&mut self, port: usize, error: &io::Error) {
        if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) {
            return;
        }
        tracing::debug!(port, %error, "reading from a port of the fabric failed");
        self.ports[port].failures += 1;
        if self.ports[port].failures == READ_FAILURES {
            tracing::warn!(port, %error, "a port of the fabric keeps failing and is given up");
            if let Err(error) = self.wakeups.epoll.delete(&self.sockets[port]) {
                tracing::error!(port, %error, "can't stop listening to a port of the fabric");
            }
        }
    }
}

/// Writes `count` frames to a port, in order; `frame` gives each and its link's place in tables.
/// Never blocks: what the kernel doesn't take after a few tries is dropped and counted.
fn write<'a>(
    socket: &PacketSocket,
    sender: &mut Sender,
    shared: &Shared,
    count: usize,
    frame: impl Fn(usize) -> (&'a [u8], usize),
) {
    let mut next = 0;
    let mut retries = 0;
    while next < count {
        match sender.send(socket, (next..count).map(|i| frame(i).0)) {
            Ok(sent) => {
                for i in next..next + sent {
                    let (bytes, place) = frame(i);
                    let counters = shared.counters(place);
                    add(&counters.frames, 1);
                    add(&counters.bytes, (bytes.len() - OFFLOAD_HEADER) as u64);
                }
                next += sent;
                retries = 0;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The receiver's backlog or our buffer is full, which passes.
            Err(error)
                if retries < SEND_RETRIES && matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::EAGAIN)) =>
            {
                retries += 1;
                std::thread::yield_now();
            }
            Err(error) => {
                tracing::trace!(%error, "the kernel refused a frame");
                add(&shared.counters(frame(next).1).failed, 1);
                next += 1;
                retries = 0;
            }
        }
    }
}

//! What the forwarding thread does to one frame: finds its link's rule, decides, and carries it out.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::Forwarder;
use crate::capture::Direction;
use crate::delay::Held;
use crate::links::{PortId, add, monotonic};
use crate::packet::{can_be_reset, damaged, on_wire, resets};
use crate::rule::{Cause, Delivery, Link, Seen, Verdict, decide};
use crate::socket::Batch;

impl Forwarder {
    /// Does to frame `i` of the batch what its link's rule says.
    pub(super) fn pass(&mut self, from: usize, to: usize, i: usize, batch: &Batch) {
        let place = from * self.sockets.len() + to;
        if batch.is_truncated(i) {
            return add(&self.shared.counters(place).failed, 1);
        }
        let number = self.frame_numbers[place];
        self.frame_numbers[place] += 1;
        let frame = batch.frame(i);
        let in_force = self.rules[place];
        if !in_force.harms {
            self.ports[to].outbox.push(i);
            return self.record(from, Direction::Sent, frame, || Cow::Borrowed(""));
        }
        // Ports are counted in u16 from the start.
        let link = Link { from: PortId::new(from as u16), to: PortId::new(to as u16) };
        let now = monotonic();
        let seen = Seen {
            number,
            packet: on_wire(frame).packet,
            is_tcp: in_force.rule.reset && can_be_reset(frame),
            age: in_force.age(now),
        };
        match decide(&in_force.rule, self.seed, link, &seen) {
            Verdict::Drop(cause) => {
                add(self.counter(place, cause), 1);
                self.record(from, Direction::Sent, frame, || cause.comment().into());
            }
            Verdict::Reset => self.reset(from, to, now, frame),
            Verdict::Deliver(_) if !in_force.holds => {
                self.ports[to].outbox.push(i);
                self.record(from, Direction::Sent, frame, || Cow::Borrowed(""));
            }
            Verdict::Deliver(delivery) => self.deliver(from, to, now, frame, delivery),
        }
    }

    fn counter(&self, place: usize, cause: Cause) -> &std::sync::atomic::AtomicU64 {
        let counters = self.shared.counters(place);
        match cause {
            Cause::Cut => &counters.dropped,
            Cause::Flap => &counters.flapped,
            Cause::Loss => &counters.lost,
            Cause::BlackHole => &counters.black_holed,
        }
    }

    /// Holds a frame until its time has come: at once, for most. All frames of a link that may hold
    /// some go this way, so that they keep their order.
    fn deliver(&mut self, from: usize, to: usize, now: u64, frame: &[u8], delivery: Delivery) {
        let place = from * self.sockets.len() + to;
        let shared = self.shared.clone();
        let counters = shared.counters(place);
        let damaged = delivery.flip.and_then(|flip| damaged(frame, flip));
        let is_damaged = damaged.is_some();
        let mut frames = damaged.unwrap_or_else(|| vec![frame.into()]);
        let after = u64::try_from(delivery.after.as_nanos()).unwrap_or(u64::MAX);
        let (mut waited, mut kept) = (0, 0);
        let mut full = None;
        for twin in 0..=u8::from(delivery.twice) {
            let leaves = match self.rules[place].rule.rate {
                None => now,
                Some(rate) => match self.shapers[place].admit(now, on_wire(frame).bytes, rate) {
                    Some(leaves) => {
                        add(&counters.shaped, 1);
                        leaves
                    }
                    None => {
                        add(&counters.tail_dropped, 1);
                        full = Some("the queue before the link is full");
                        continue;
                    }
                },
            };
            waited = leaves - now;
            let last = twin == u8::from(delivery.twice);
            let frames = if last { std::mem::take(&mut frames) } else { frames.clone() };
            let due = leaves.saturating_add(after);
            if frames.into_iter().all(|frame| self.queue.push(due, from, to, frame)) {
                kept += 1;
            } else {
                add(&counters.overflowed, 1);
                full = Some("too much is held back");
            }
        }
        add(&counters.corrupted, u64::from(is_damaged && kept > 0));
        add(&counters.reordered, u64::from(delivery.reordered && kept > 0));
        add(&counters.delayed, u64::from(after > 0 && kept > 0));
        add(&counters.duplicated, u64::from(kept > 1));
        self.record(from, Direction::Sent, frame, || {
            let mut words = String::new();
            let mut say = |what: std::fmt::Arguments<'_>| {
                let _ = write!(words, "{}{what}", if words.is_empty() { "" } else { ", " });
            };
            if let Some(why) = full {
                say(format_args!("dropped: {why}"));
            }
            if after > 0 {
                let why = if delivery.reordered { " to be overtaken" } else { "" };
                say(format_args!("delayed by {:?}{why}", delivery.after));
            }
            if waited > 0 {
                say(format_args!("waits its turn for {:?}", std::time::Duration::from_nanos(waited)));
            }
            if delivery.twice {
                say(format_args!("duplicated"));
            }
            if let Some(flip) = delivery.flip
                && is_damaged
            {
                let noticed = if flip.unnoticed { "made right" } else { "left wrong" };
                say(format_args!("corrupted, checksum {noticed}"));
            }
            words.into()
        });
    }

    /// Answers a TCP segment with resets to both ends.
    fn reset(&mut self, from: usize, to: usize, now: u64, frame: &[u8]) {
        let shared = self.shared.clone();
        add(&shared.counters(from * self.sockets.len() + to).reset, 1);
        self.record(from, Direction::Sent, frame, || Cow::Borrowed("dropped: its connection is reset"));
        let Some(resets) = resets(frame) else { return };
        let both = [Some((to, from, resets.to_sender)), resets.to_receiver.map(|reset| (from, to, reset))];
        for (source, target, reset) in both.into_iter().flatten() {
            self.record(target, Direction::Received, &reset, || Cow::Borrowed("forged: reset"));
            if !self.queue.push(now, source, target, reset) {
                add(&shared.counters(source * self.sockets.len() + target).overflowed, 1);
            }
        }
    }

    /// Whether a held frame's link has been cut meanwhile: a cut is a cut for what was already on
    /// its way, too.
    pub(super) fn is_stopped(&self, place: usize, now: u64, held: &Held) -> bool {
        let in_force = &self.rules[place];
        if !in_force.harms || !in_force.rule.is_cut_at(in_force.age(now)) {
            return false;
        }
        let cause = if in_force.rule.drop { Cause::Cut } else { Cause::Flap };
        add(self.counter(place, cause), 1);
        self.record(held.from, Direction::Sent, &held.frame, || {
            Cow::Borrowed("dropped: the link was cut while this was held back")
        });
        true
    }

    /// Hands a frame to the capture, if there is one.
    fn record(&self, port: usize, direction: Direction, frame: &[u8], comment: impl FnOnce() -> Cow<'static, str>) {
        if let Some(tap) = self.shared.tap() {
            tap.frame(port, direction, frame, comment());
        }
    }
}

impl Cause {
    fn comment(self) -> &'static str {
        match self {
            Cause::Cut => "dropped: the link is cut",
            Cause::Flap => "dropped: the link flaps and is cut",
            Cause::Loss => "dropped: loss",
            Cause::BlackHole => "dropped: black hole",
        }
    }
}

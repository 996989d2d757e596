//! What a link does to a frame: rules, and the pure decision made for each frame.
//!
//! Knows nothing of sockets, clocks or threads. A new kind of harm is a field of [`Rule`], a line
//! in [`decide`] and, if it does something new to a frame, a field of [`Delivery`].

use std::time::Duration;

pub use duress_backend::links::{ALL, Rule, Shape};
use duress_seed::{Decision, Seed};

use crate::links::PortId;

/// A directed link: frames that enter the switch at `from` and leave it at `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Link {
    /// The port of the sending host.
    pub from: PortId,
    /// The port of the receiving host.
    pub to: PortId,
}

/// What is to be known of a frame to decide about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its number on its link, from 0.
    pub number: u64,
    /// The size of its IP packet on a wire, in bytes.
    pub packet: u32,
    /// Whether it is a TCP segment that a reset can answer.
    pub is_tcp: bool,
    /// How long the link's rule has been in force.
    pub age: Duration,
}

impl Seen {
    /// A small frame that is not TCP, under a rule set just now.
    pub const fn small(number: u64) -> Seen {
        Seen { number, packet: 64, is_tcp: false, age: Duration::ZERO }
    }
}

/// What becomes of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is never delivered.
    Drop(Cause),
    /// It is never delivered, and both ends of its TCP connection are told that it is gone.
    Reset,
    /// It is delivered.
    Deliver(Delivery),
}

/// Why a frame is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The link is cut.
    Cut,
    /// The link flaps and is cut at the moment.
    Flap,
    /// By chance.
    Loss,
    /// It is too large.
    BlackHole,
}

/// How a frame is delivered. The default is at once and untouched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// How long it is held back.
    pub after: Duration,
    /// Whether that is longer than those before and after it, to let them overtake.
    pub reordered: bool,
    /// Whether it is delivered twice.
    pub twice: bool,
    /// The bit that is flipped in it, if it has payload.
    pub flip: Option<Flip>,
}

/// A bit to be flipped in the payload of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flip {
    /// Which one: a number of 64 bits, to be taken as a fraction of the payload's length.
    pub place: Decision,
    /// Whether the checksum is made right again.
    pub unnoticed: bool,
}

/// What a decision is about: the first word of its key.
mod about {
    pub(super) const LOSS: u64 = 1;
    pub(super) const DELAY: u64 = 2;
    pub(super) const REORDER: u64 = 3;
    pub(super) const DUPLICATE: u64 = 4;
    pub(super) const CORRUPT: u64 = 5;
    pub(super) const UNNOTICED: u64 = 6;
    pub(super) const BIT: u64 = 7;
}

/// What `rule` does to a frame of `link`.
///
/// Pure: equal arguments give equal verdicts, whatever other frames or links did. Chance is drawn
/// from `seed`, the fabric's, by the key (what is decided, link, frame number) and nothing else:
/// the same frames meet the same fate, and one harm more on a link leaves the others as they were.
pub fn decide(rule: &Rule, seed: Seed, link: Link, seen: &Seen) -> Verdict {
    let draw = |what| seed.decide(&[what, link.from.index() as u64, link.to.index() as u64, seen.number]);
    let happens = |what, share: u32| share > 0 && draw(what).below(u64::from(ALL)) < u64::from(share);
    if rule.drop {
        return Verdict::Drop(Cause::Cut);
    }
    if rule.is_cut_at(seen.age) {
        return Verdict::Drop(Cause::Flap);
    }
    if happens(about::LOSS, rule.loss) {
        return Verdict::Drop(Cause::Loss);
    }
    if rule.black_hole.is_some_and(|largest| seen.packet > largest) {
        return Verdict::Drop(Cause::BlackHole);
    }
    if rule.reset && seen.is_tcp {
        return Verdict::Reset;
    }
    let unnoticed = happens(about::UNNOTICED, rule.corrupt_unnoticed);
    let flip =
        (happens(about::CORRUPT, rule.corrupt) || unnoticed).then(|| Flip { place: draw(about::BIT), unnoticed });
    let reordered = happens(about::REORDER, rule.reorder);
    let extra = if reordered { rule.reorder_by } else { Duration::ZERO };
    let after = match rule.jitter.is_zero() {
        true => rule.delay,
        false => Duration::from_nanos(rule.shape.draw(nanos(rule.delay), nanos(rule.jitter), draw(about::DELAY))),
    };
    let twice = happens(about::DUPLICATE, rule.duplicate);
    Verdict::Deliver(Delivery { after: after.saturating_add(extra), reordered, twice, flip })
}

/// In nanoseconds; more than fits is for ever.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;

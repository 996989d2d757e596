//! What a link does to a frame: rules, and the pure decision made for each frame.
//!
//! Knows nothing of sockets, clocks or threads. A new kind of harm is a field of [`Rule`], a line
//! in [`decide`] and, if it does something new to a frame, a field of [`Delivery`].

use std::fmt;
use std::time::Duration;

use duress_seed::{Decision, Seed, Shape};

use crate::links::PortId;

/// All frames, as a share in parts per million.
pub const ALL: u32 = 1_000_000;

/// A directed link: frames that enter the switch at `from` and leave it at `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Link {
    /// The port of the sending host.
    pub from: PortId,
    /// The port of the receiving host.
    pub to: PortId,
}

/// What a directed link does to the frames on it. The default is an open link. Shares of frames
/// are in parts per million ([`ALL`]).
///
/// A frame may carry a whole train of TCP segments (an offloaded large frame): what happens to it
/// happens to all of them, and what is said of packets goes by the size they have on a wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Nothing passes, and frames still held back by an earlier delay are dropped when due.
    pub drop: bool,
    /// How long each frame is held back. Frames of one link keep their order while this stays the
    /// same; when it shrinks, later frames may overtake those already held.
    pub delay: Duration,
    /// How much that varies. Frames may then overtake each other.
    pub jitter: Duration,
    /// In which way it varies.
    pub shape: Shape,
    /// The share of frames that are lost.
    pub loss: u32,
    /// The share of frames that are held back by `reorder_by` more than the rest, so that later
    /// ones overtake them.
    pub reorder: u32,
    /// For how long.
    pub reorder_by: Duration,
    /// The share of frames that are delivered twice.
    pub duplicate: u32,
    /// The share of TCP and UDP packets in whose payload a bit is flipped, the checksum being left
    /// as it was: the receiving kernel finds the damage and drops the packet.
    pub corrupt: u32,
    /// The share of those in which a bit is flipped and the checksum made right again: the
    /// receiving program gets damaged data.
    pub corrupt_unnoticed: u32,
    /// Bits per second that pass; what is too much waits, up to 64 KiB or a tenth of a second's
    /// worth if that is more, and the rest is dropped. Zero is a rate of 1.
    pub rate: Option<u64>,
    /// IP packets with more bytes than this vanish, without a word to the sender.
    pub black_hole: Option<u32>,
    /// TCP segments don't pass; both ends get a forged reset instead.
    pub reset: bool,
    /// The link is cut for this long, then whole for as long, and so on, from the moment the rule
    /// was set.
    pub flap: Option<Duration>,
}

impl Rule {
    /// A link on which frames pass untouched.
    pub const OPEN: Rule = Rule {
        drop: false,
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        shape: Shape::Constant,
        loss: 0,
        reorder: 0,
        reorder_by: Duration::ZERO,
        duplicate: 0,
        corrupt: 0,
        corrupt_unnoticed: 0,
        rate: None,
        black_hole: None,
        reset: false,
        flap: None,
    };
    /// A link on which nothing passes.
    pub const CUT: Rule = Rule { drop: true, ..Rule::OPEN };

    /// A link that holds every frame back for `delay`.
    pub const fn delayed(delay: Duration) -> Rule {
        Rule { delay, ..Rule::OPEN }
    }

    /// Whether frames pass untouched.
    pub fn is_open(&self) -> bool {
        *self == Rule::OPEN
    }

    /// What a link does that obeys both rules: chances are those of either happening, and of
    /// delays, rates, sizes and periods the more hurtful counts (the shorter period of a flap).
    #[must_use]
    pub fn and(self, other: Rule) -> Rule {
        let either = |a: u32, b: u32| {
            let spared = u64::from(ALL.saturating_sub(a)) * u64::from(ALL.saturating_sub(b));
            ALL - spared.div_ceil(u64::from(ALL)) as u32
        };
        fn least<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
            match (a, b) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            }
        }
        let typical = |rule: &Rule| (rule.delay + rule.jitter, rule.delay);
        let slower = if typical(&self) >= typical(&other) { &self } else { &other };
        Rule {
            drop: self.drop || other.drop,
            delay: slower.delay,
            jitter: slower.jitter,
            shape: slower.shape,
            loss: either(self.loss, other.loss),
            reorder: either(self.reorder, other.reorder),
            reorder_by: self.reorder_by.max(other.reorder_by),
            duplicate: either(self.duplicate, other.duplicate),
            corrupt: either(self.corrupt, other.corrupt),
            corrupt_unnoticed: either(self.corrupt_unnoticed, other.corrupt_unnoticed),
            rate: least(self.rate, other.rate),
            black_hole: least(self.black_hole, other.black_hole),
            reset: self.reset || other.reset,
            flap: least(self.flap, other.flap),
        }
    }

    /// Whether nothing passes so long after the rule was set.
    pub fn is_cut_at(&self, age: Duration) -> bool {
        self.drop || self.flap.is_some_and(|every| (age.as_nanos() / every.as_nanos().max(1)).is_multiple_of(2))
    }
}

impl fmt::Display for Rule {
    /// What it does, in words: "loss of 5%, delay of 20ms".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = |ppm: u32| format!("{}%", f64::from(ppm) / 1e4);
        let mut words = Vec::new();
        if self.drop {
            words.push("cut".to_owned());
        }
        if let Some(every) = self.flap {
            words.push(format!("flaps every {every:?}"));
        }
        match (self.delay, self.jitter) {
            (Duration::ZERO, Duration::ZERO) => {}
            (delay, Duration::ZERO) => words.push(format!("delay of {delay:?}")),
            (delay, jitter) => words.push(format!("delay of {delay:?}, jitter {jitter:?} {:?}", self.shape)),
        }
        for (ppm, what) in [
            (self.loss, "loss"),
            (self.duplicate, "duplication"),
            (self.corrupt, "corruption"),
            (self.corrupt_unnoticed, "unnoticed corruption"),
        ] {
            if ppm > 0 {
                words.push(format!("{what} of {}", share(ppm)));
            }
        }
        if self.reorder > 0 {
            words.push(format!("reordering of {} by {:?}", share(self.reorder), self.reorder_by));
        }
        if let Some(rate) = self.rate {
            words.push(format!("{rate} bit/s"));
        }
        if let Some(largest) = self.black_hole {
            words.push(format!("black hole above {largest} bytes"));
        }
        if self.reset {
            words.push("resets TCP".to_owned());
        }
        f.write_str(if words.is_empty() { "open".to_owned() } else { words.join(", ") }.as_str())
    }
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

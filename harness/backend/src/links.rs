//! Harm of links: what a directed link does to frames, and what shows it.

use std::fmt;
use std::time::Duration;

pub use duress_seed::Shape;
use serde::{Deserialize, Serialize};

use crate::{Error, Host};

/// A directed link: from the first host to the second.
pub type Link = (Host, Host);

/// Harms the links between a site's hosts, and shows what they do.
pub trait Links: Send + Sync {
    /// Sets the rules of several links at once: no frame sees some of them set and others not yet.
    ///
    /// # Errors
    /// If there is no such link.
    fn set(&self, rules: &[(Link, Rule)]) -> Result<(), Error>;

    /// The rule in force on each of these links, and what has happened on it so far, as whoever
    /// carries the frames has it.
    ///
    /// # Errors
    /// If there is no such link.
    fn look(&self, links: &[Link]) -> Result<Vec<(Rule, Counters)>, Error>;

    /// Sends a few small datagrams over every link between different hosts, in order of sender, then
    /// receiver, and waits so long for those that have not come yet.
    ///
    /// # Errors
    /// If it could not be tried.
    fn probe(&self, wait: Duration) -> Result<Vec<Probed>, Error>;

    /// Sends numbered datagrams over each of these links and says what became of them, link by link
    /// in the order given. What can't be sent counts as sent and not arrived.
    ///
    /// # Errors
    /// If there is no such link, or it could not be tried.
    fn volley(&self, links: &[Link], shots: &Shots) -> Result<Vec<Volley>, Error>;

    /// Makes a TCP connection over a link, to look at later.
    ///
    /// # Errors
    /// If it can't be made.
    fn connect(&self, link: &Link) -> Result<Box<dyn Connection>, Error>;
}

/// A TCP connection between two hosts, made to see what becomes of it. Dropping it closes it.
pub trait Connection: Send {
    /// Whether both ends are reset once something is sent.
    ///
    /// # Errors
    /// How they are found, if not.
    fn see_reset(self: Box<Self>) -> Result<(), Error>;

    /// Whether it carries data.
    ///
    /// # Errors
    /// What happens, if not.
    fn carry(self: Box<Self>) -> Result<(), Error>;
}

/// What small datagrams showed of one link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    /// Which one.
    pub link: Link,
    /// The shortest time that one took, if any arrived.
    pub latency: Option<Duration>,
}

/// All frames, as a share in parts per million.
pub const ALL: u32 = 1_000_000;

/// How a [`Shape`] is written.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Shape")]
enum Written {
    Constant,
    Uniform,
    Normal,
    Pareto,
}

/// What a directed link does to the frames on it. The default is an open link. Shares of frames
/// are in parts per million ([`ALL`]).
///
/// A frame may carry a whole train of TCP segments (an offloaded large frame): what happens to it
/// happens to all of them, and what is said of packets goes by the size they have on a wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rule {
    /// Nothing passes, and frames still held back by an earlier delay are dropped when due.
    pub drop: bool,
    /// How long each frame is held back. Frames of one link keep their order while this stays the
    /// same; when it shrinks, later frames may overtake those already held.
    pub delay: Duration,
    /// How much that varies. Frames may then overtake each other.
    pub jitter: Duration,
    /// In which way it varies.
    #[serde(with = "Written")]
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

/// What has happened on one directed link since it is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Frames handed to the receiving host. One frame may carry a whole offloaded TCP segment train.
    pub frames: u64,
    /// Bytes of those frames, Ethernet headers included.
    pub bytes: u64,
    /// Frames dropped because the link was cut.
    pub dropped: u64,
    /// Frames held back by the link's rule, whatever became of them later.
    pub delayed: u64,
    /// Frames to be held back but dropped because the queue of all held frames was full.
    pub overflowed: u64,
    /// Frames the kernel would not take from us: the receiver's backlog stayed full through all
    /// retries, or its interface was down or gone.
    pub failed: u64,
    /// Frames dropped by chance.
    pub lost: u64,
    /// Frames held back longer than others to let them overtake.
    pub reordered: u64,
    /// Frames delivered twice.
    pub duplicated: u64,
    /// Frames damaged.
    pub corrupted: u64,
    /// Frames that took their turn on a link of limited rate.
    pub shaped: u64,
    /// Frames dropped because the queue before a link of limited rate was full.
    pub tail_dropped: u64,
    /// Frames dropped because they were too large.
    pub black_holed: u64,
    /// TCP segments answered by resets in place of being delivered.
    pub reset: u64,
    /// Frames dropped while a flapping link was cut.
    pub flapped: u64,
}

impl Counters {
    /// Frames that the link's rule kept from arriving, for whatever reason.
    pub fn withheld(&self) -> u64 {
        self.dropped + self.flapped + self.lost + self.black_holed + self.tail_dropped + self.reset
    }
}

/// What is sent over each link of a volley.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shots {
    /// How many datagrams, at most 100,000.
    pub count: u32,
    /// How much each carries, in bytes, from 48 to 1472; UDP, IP and Ethernet add 42.
    pub size: usize,
    /// The time from one to the next.
    pub every: Duration,
    /// How long to wait for the last ones: more than the longest delay.
    pub wait: Duration,
}

/// What became of a volley on one link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volley {
    /// Datagrams sent.
    pub sent: u32,
    /// For each datagram in the order sent: how long it took, if it has arrived whole.
    pub latencies: Vec<Option<Duration>>,
    /// Arrivals of datagrams that had arrived before.
    pub copies: u32,
    /// Arrivals of datagrams in which one bit was wrong.
    pub damaged: u32,
    /// Arrivals of datagrams after others that had been sent later.
    pub overtaken: u32,
    /// From when the first was sent to the last arrival.
    pub took: Duration,
}

impl Volley {
    /// How many datagrams have arrived whole.
    pub fn arrived(&self) -> u32 {
        self.latencies.iter().flatten().count() as u32
    }

    /// Of those that have arrived, the latency that a share of them (0 to 1) doesn't exceed.
    pub fn latency(&self, share: f64) -> Option<Duration> {
        let mut sorted: Vec<Duration> = self.latencies.iter().flatten().copied().collect();
        sorted.sort_unstable();
        sorted.get((sorted.len().saturating_sub(1) as f64 * share.clamp(0.0, 1.0)) as usize).copied()
    }
}

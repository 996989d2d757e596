//! What a link does to a frame: rules, and the pure decision made for each frame.
//!
//! Knows nothing of sockets, clocks or threads. A new kind of harm is a field of [`Rule`], a line
//! in [`decide`] and, if it does something new to a frame, a field of [`Verdict`].

use duress_seed::Seed;
use std::time::Duration;

use crate::links::PortId;

/// A directed link: frames that enter the switch at `from` and leave it at `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Link {
    /// The port of the sending host.
    pub from: PortId,
    /// The port of the receiving host.
    pub to: PortId,
}

/// What a directed link does to the frames on it. The default is an open link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Nothing passes, and frames still held back by an earlier delay are dropped when due.
    pub drop: bool,
    /// How long each frame is held back. Frames of one link keep their order while this stays the
    /// same; when it shrinks, later frames may overtake those already held.
    pub delay: Duration,
}

impl Rule {
    /// A link on which frames pass untouched.
    pub const OPEN: Rule = Rule { drop: false, delay: Duration::ZERO };
    /// A link on which nothing passes.
    pub const CUT: Rule = Rule { drop: true, delay: Duration::ZERO };

    /// A link that holds every frame back for `delay`.
    pub const fn delayed(delay: Duration) -> Rule {
        Rule { drop: false, delay }
    }

    /// Whether frames pass untouched.
    pub fn is_open(&self) -> bool {
        *self == Rule::OPEN
    }
}

/// What becomes of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is never delivered.
    Drop,
    /// It is delivered after this long; zero means at once.
    Deliver {
        /// How long it is held back.
        after: Duration,
    },
}

/// What `rule` does to frame `frame_number` (counted from 0 on its link) of `link`.
///
/// Pure: equal arguments give equal verdicts, whatever other frames or links did. `seed` is the
/// fabric's; no rule needs chance yet, and those that will (loss, jitter, reordering) must draw
/// with `seed.decide(&[kind, from, to, frame_number])` and nothing else.
pub fn decide(rule: &Rule, _seed: Seed, _link: Link, _frame_number: u64) -> Verdict {
    if rule.drop {
        return Verdict::Drop;
    }
    Verdict::Deliver { after: rule.delay }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: Link = Link { from: PortId::new(0), to: PortId::new(1) };

    #[test]
    fn the_default_rule_is_open() {
        assert!(Rule::default().is_open());
        assert_eq!(decide(&Rule::default(), Seed(1), LINK, 0), Verdict::Deliver { after: Duration::ZERO });
    }

    #[test]
    fn a_cut_wins_over_a_delay() {
        let rule = Rule { drop: true, delay: Duration::from_millis(5) };
        assert_eq!(decide(&rule, Seed(1), LINK, 7), Verdict::Drop);
        assert!(!rule.is_open());
    }

    #[test]
    fn a_delay_is_the_same_for_every_frame() {
        let rule = Rule::delayed(Duration::from_millis(5));
        for frame in 0..100 {
            assert_eq!(decide(&rule, Seed(frame), LINK, frame), Verdict::Deliver { after: Duration::from_millis(5) });
        }
    }
}

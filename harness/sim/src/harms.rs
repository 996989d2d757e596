//! What harmed links do to messages, beyond being cut or slow by the same for all.
//!
//! A message is taken for one packet, as large as the message is when it is encoded, and the headers.
//! Its fate is a function of the seed, the link and its number on the link, so that it stays the
//! same whatever else is harmed. What follows from a lost or damaged packet depends on the transport
//! and is told in [`crate::connections`] and [`crate::clients`].

use duress_fault::{Checksum, LinkHarm};
use duress_seed::Seed;

use crate::plan::nanos;

/// Bytes of the headers around a message: IP, TCP with time stamps, and the frame's own.
pub(crate) const HEADERS: u32 = 20 + 32 + 12;
/// As in the fabric: a link of low rate has a queue for so many bytes, or so many nanoseconds.
const QUEUE: (u64, u64) = (64 << 10, 100_000_000);
/// What becomes of one packet. The default is that it arrives like any other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fate {
    /// It doesn't arrive, or in a state that the receiving host doesn't take.
    pub(crate) lost: bool,
    /// It arrives damaged, and the receiving program finds out.
    pub(crate) damaged: bool,
    /// Its connection is reset.
    pub(crate) reset: bool,
    /// It arrives twice.
    pub(crate) twice: bool,
    /// It is held back so that others overtake it, where the transport lets them.
    pub(crate) reordered: bool,
    /// By how many nanoseconds it is late.
    pub(crate) later: u64,
}

/// A harm in force on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct InForce {
    link: u32,
    harm: LinkHarm,
    since: u64,
}

/// What is in force on all links.
#[derive(Debug, Default)]
pub(crate) struct Harms {
    in_force: Vec<InForce>,
    /// Per link: when the last packet has left it, if its rate is limited.
    free_at: Vec<u64>,
    /// Per link: packets that were lost, damaged, doubled, held back or answered by a reset.
    pub(crate) harmed: Vec<u64>,
}

/// What a decision is about; the first word of its key.
mod about {
    pub(super) const LOSS: u64 = 0x4c01;
    pub(super) const DELAY: u64 = 0x4c02;
    pub(super) const REORDER: u64 = 0x4c03;
    pub(super) const DUPLICATE: u64 = 0x4c04;
    pub(super) const CORRUPT: u64 = 0x4c05;
}

impl Harms {
    pub(crate) fn reset(&mut self, links: usize) {
        self.in_force.clear();
        for figures in [&mut self.free_at, &mut self.harmed] {
            figures.clear();
            figures.resize(links, 0);
        }
    }

    pub(crate) fn add(&mut self, link: usize, harm: LinkHarm, now: u64) {
        self.in_force.push(InForce { link: link as u32, harm, since: now });
    }

    pub(crate) fn remove(&mut self, link: usize, harm: LinkHarm) {
        if let Some(at) = self.in_force.iter().position(|one| one.link as usize == link && one.harm == harm) {
            self.in_force.swap_remove(at);
        }
    }

    /// Whether any link is harmed.
    #[inline]
    pub(crate) fn none(&self) -> bool {
        self.in_force.is_empty()
    }

    fn on(&self, link: usize) -> impl Iterator<Item = &InForce> {
        self.in_force.iter().filter(move |one| one.link as usize == link)
    }

    /// Whether a link flaps.
    pub(crate) fn flaps(&self, link: usize) -> bool {
        self.on(link).any(|one| matches!(one.harm, LinkHarm::Flap { .. }))
    }

    /// Whether a flapping link is cut at this moment.
    pub(crate) fn flapped(&self, link: usize, now: u64) -> bool {
        self.on(link).any(|one| match one.harm {
            LinkHarm::Flap { every } => ((now - one.since) / nanos(every).max(1)).is_multiple_of(2),
            _ => false,
        })
    }

    /// Whether what is sent on a link is answered by resets.
    pub(crate) fn resets(&self, link: usize) -> bool {
        self.on(link).any(|one| one.harm == LinkHarm::Reset)
    }

    /// Whether it matters how large a packet on a link is.
    pub(crate) fn weighs(&self, link: usize) -> bool {
        self.on(link).any(|one| matches!(one.harm, LinkHarm::Bandwidth { .. } | LinkHarm::BlackHole { .. }))
    }

    /// The fate of a packet of so many bytes. `key` names the link in decisions.
    pub(crate) fn fate(&self, seed: Seed, (link, key): (usize, u64), number: u64, size: u32, now: u64) -> Fate {
        let mut fate = Fate::default();
        for (nth, one) in self.on(link).enumerate() {
            let draw = |what| seed.decide(&[what, key, number, nth as u64]);
            let happens = |what, share: duress_fault::Share| draw(what).below(1_000_000) < u64::from(share.parts());
            match one.harm {
                LinkHarm::Cut | LinkHarm::Flap { .. } => {}
                LinkHarm::Loss(share) => fate.lost |= happens(about::LOSS, share),
                LinkHarm::Duplicate(share) => fate.twice |= happens(about::DUPLICATE, share),
                LinkHarm::Corrupt { share, checksum } => {
                    let corrupted = happens(about::CORRUPT, share);
                    match checksum {
                        Checksum::Wrong => fate.lost |= corrupted,
                        Checksum::Right => fate.damaged |= corrupted,
                    }
                }
                LinkHarm::Reorder { share, by } => {
                    if happens(about::REORDER, share) {
                        fate.reordered = true;
                        fate.later += nanos(by);
                    }
                }
                LinkHarm::Delay { by, jitter, shape } => {
                    fate.later = fate.later.max(shape.draw(nanos(by), nanos(jitter), draw(about::DELAY)));
                }
                LinkHarm::Bandwidth { rate } => match self.leaves(link, size, rate, now) {
                    Some(at) => fate.later = fate.later.max(at - now),
                    None => fate.lost = true,
                },
                LinkHarm::BlackHole { above } => fate.lost |= size > above,
                LinkHarm::Reset => fate.reset = true,
            }
        }
        fate
    }

    /// When a packet has left a link of limited rate, or nothing if the queue is full.
    fn leaves(&self, link: usize, size: u32, rate: u64, now: u64) -> Option<u64> {
        let takes = |bytes: u64| bytes.saturating_mul(8_000_000_000) / rate.max(1);
        let starts = self.free_at[link].max(now);
        (starts - now <= takes(QUEUE.0).max(QUEUE.1)).then(|| starts + takes(u64::from(size)))
    }

    /// A packet meets its fate, which is counted.
    pub(crate) fn meet(&mut self, seed: Seed, names: (usize, u64), number: u64, size: u32, now: u64) -> Fate {
        let fate = self.fate(seed, names, number, size, now);
        let link = names.0;
        self.harmed[link] += u64::from(fate != Fate::default());
        let left = self.on(link).filter_map(|one| match one.harm {
            LinkHarm::Bandwidth { rate } => self.leaves(link, size, rate, now),
            _ => None,
        });
        if let Some(last) = left.max() {
            self.free_at[link] = last;
        }
        fate
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use duress_fault::{Shape, Share};
    use std::time::Duration;

    const LINK: (usize, u64) = (1, 77);

    fn harms(all: &[LinkHarm]) -> Harms {
        let mut harms = Harms::default();
        harms.reset(4);
        all.iter().for_each(|harm| harms.add(1, *harm, 0));
        harms
    }

    #[test]
    fn shares_are_what_was_asked_for() {
        for share in [0u32, 10_000, 250_000, 1_000_000] {
            let all = [
                LinkHarm::Loss(Share::ppm(share)),
                LinkHarm::Duplicate(Share::ppm(share)),
                LinkHarm::Corrupt { share: Share::ppm(share), checksum: Checksum::Right },
                LinkHarm::Reorder { share: Share::ppm(share), by: Duration::from_millis(1) },
            ];
            let harms = harms(&all);
            let mut found = [0u32; 4];
            for number in 0..100_000 {
                let fate = harms.fate(Seed(3), LINK, number, 100, 0);
                for (count, hit) in found.iter_mut().zip([fate.lost, fate.twice, fate.damaged, fate.reordered]) {
                    *count += u32::from(hit);
                }
            }
            let (p, n) = (f64::from(share) / 1e6, 1e5);
            let most = 4.5 * (n * p * (1.0 - p)).sqrt();
            assert!(found.iter().all(|count| (f64::from(*count) - n * p).abs() <= most), "{found:?} at {share} ppm");
        }
    }

    #[test]
    fn a_fate_is_a_function_of_its_key() {
        let all = [LinkHarm::Loss(Share::percent(30)), LinkHarm::Duplicate(Share::percent(30))];
        let fates = |seed| -> Vec<Fate> { (0..500).map(|n| harms(&all).fate(Seed(seed), LINK, n, 9, 0)).collect() };
        assert_eq!(fates(1), fates(1));
        assert_ne!(fates(1), fates(2));
        let alone = harms(&all[..1]);
        assert!(fates(1).iter().zip(0..).all(|(fate, n)| fate.lost == alone.fate(Seed(1), LINK, n, 9, 0).lost));
        assert_eq!(harms(&all).fate(Seed(1), (2, 77), 5, 9, 0), Fate::default(), "other links are left alone");
    }

    #[test]
    fn a_rate_is_kept_and_its_queue_is_bounded() {
        let mut harms = harms(&[LinkHarm::Bandwidth { rate: 1_000_000 }]);
        let mut last = 0;
        let mut lost = 0;
        for number in 0..200 {
            let fate = harms.meet(Seed(1), LINK, number, 1000, 0);
            if fate.lost {
                lost += 1;
            } else {
                assert_eq!(fate.later, last + 8_000_000, "a packet takes 8 ms");
                last = fate.later;
            }
        }
        assert!(lost > 100 && last <= 64 * 8_192_000 + 16_000_000, "{lost} lost, the last after {last} ns");
        assert_eq!(harms.meet(Seed(1), LINK, 0, 1000, 60_000_000_000).later, 8_000_000, "it is free again");
    }

    #[test]
    fn size_and_time_count() {
        let hole = harms(&[LinkHarm::BlackHole { above: 500 }]);
        assert!(!hole.fate(Seed(1), LINK, 0, 500, 0).lost && hole.fate(Seed(1), LINK, 0, 501, 0).lost);
        let flap = harms(&[LinkHarm::Flap { every: Duration::from_nanos(10) }]);
        let cut: Vec<bool> = [0, 9, 10, 19, 20].into_iter().map(|now| flap.flapped(1, now)).collect();
        assert_eq!(cut, [true, true, false, false, true]);
        assert!(!flap.flapped(0, 0));
        assert!(hole.weighs(1) && !hole.weighs(0) && !flap.weighs(1));
    }

    #[test]
    fn delays_stay_within_their_shapes() {
        let drawn =
            |shape: Shape| -> Vec<u64> { (0..5000).map(|n| shape.draw(1000, 200, Seed(1).decide(&[n]))).collect() };
        let within = |shape, low, high| drawn(shape).iter().all(|delay| (low..=high).contains(delay));
        assert!(within(Shape::Constant, 1000, 1000) && within(Shape::Uniform, 800, 1200));
        assert!(within(Shape::Normal, 200, 1800) && within(Shape::Pareto, 1000, 11_000));
        assert!(drawn(Shape::Pareto).iter().max() > Some(&2000));
    }
}

//! Random decisions as pure functions of a seed and a stable key.
//!
//! Nothing in Duress draws from a shared random stream. A decision is a function of the run's
//! seed and of a key that names the decision ("link 1→2, frame 17"), so removing one fault or
//! one operation leaves every other decision as it was. That is what makes replay exact and
//! shrinking work. This crate knows nothing of what is being decided, and any crate may use it.
//!
//! The hash is XXH3 (64 bit), whose values are fixed by its specification: they are the same on
//! every platform and in every release.
//!
//! What needs more than one number of a decision, or more of `rand` than a number, takes the
//! decision's [`Stream`]: a small generator that belongs to this one decision.

mod shape;
mod stream;

use std::time::Duration;

use rand::seq::{IndexedRandom, SliceRandom};

pub use shape::Shape;
pub use stream::Stream;

/// Keys of at most so many words are decided quickly.
const SHORT_KEY: usize = 8;

/// The seed of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seed(pub u64);

impl Seed {
    /// A seed for one part of a run ("nemesis", "workload", …), independent of the other parts.
    pub fn derive(self, part: &str) -> Seed {
        Seed(xxhash_rust::xxh3::xxh3_64_with_seed(part.as_bytes(), self.0))
    }

    /// The decision named by `key`. Equal seeds and keys give equal decisions.
    #[inline]
    pub fn decide(self, key: &[u64]) -> Decision {
        // Hashed in one piece where it fits: same value, but without the set-up of a stream, which
        // costs a simulator more than everything else about a decision.
        let mut bytes = [0; 8 * SHORT_KEY];
        let Some(bytes) = bytes.get_mut(..8 * key.len()) else { return self.decide_long(key) };
        for (place, word) in bytes.chunks_exact_mut(8).zip(key) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        Decision(xxhash_rust::xxh3::xxh3_64_with_seed(bytes, self.0))
    }

    fn decide_long(self, key: &[u64]) -> Decision {
        let mut hasher = xxhash_rust::xxh3::Xxh3::with_seed(self.0);
        for word in key {
            hasher.update(&word.to_le_bytes());
        }
        Decision(hasher.digest())
    }
}

/// 64 uniformly distributed bits, read as whatever the decision needs.
///
/// The readings of one decision are not independent of each other: give each its own key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision(u64);

impl Decision {
    /// All 64 bits.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// A number in `0..bound`. A bound of zero gives zero.
    #[inline]
    pub fn below(self, bound: u64) -> u64 {
        // Lemire's multiply-shift; the bias is at most bound / 2^64.
        ((u128::from(self.0) * u128::from(bound)) >> 64) as u64
    }

    /// True with the given probability (0.0 never, 1.0 always).
    pub fn chance(self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// A number in `0.0..1.0`.
    #[inline]
    pub fn unit(self) -> f64 {
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A duration in `low..=high`, to the nanosecond. `high < low` gives `low`.
    pub fn between(self, low: Duration, high: Duration) -> Duration {
        let span = high.saturating_sub(low).as_nanos().min(u128::from(u64::MAX - 1)) as u64;
        low + Duration::from_nanos(self.below(span + 1))
    }

    /// A generator of `rand` that this decision seeds. It begins with the decision itself, so a
    /// decision and its stream are two readings of the same bits.
    #[inline]
    pub fn stream(self) -> Stream {
        Stream::new(self.0)
    }

    /// A number of the standard normal distribution (mean 0, deviation 1), by Box and Muller's
    /// transform of the two halves of the bits; at most 6.7 either way.
    ///
    /// The same on every platform: what is computed here comes from `libm`, not from the system.
    pub fn normal(self) -> f64 {
        let (radius, angle) = ((self.0 >> 32) as f64 + 1.0, (self.0 & 0xffff_ffff) as f64);
        let scale = 1.0 / (1u64 << 32) as f64;
        (-2.0 * libm::log(radius * scale)).sqrt() * libm::cos(std::f64::consts::TAU * angle * scale)
    }

    /// By how much a number of the Pareto distribution of shape 3 exceeds its least, scaled so that
    /// this is 1 in the mean: mostly small, now and then very large. The same on every platform.
    pub fn pareto(self) -> f64 {
        2.0 * (1.0 / libm::cbrt(1.0 - self.unit()) - 1.0)
    }

    /// A number from `low` to `high`, both above zero, of which the logarithm is evenly distributed:
    /// small ones are as likely as large ones. The same on every platform.
    pub fn log_uniform(self, low: f64, high: f64) -> f64 {
        low * libm::pow((high / low).max(1.0), self.unit())
    }

    /// One element of a slice, or nothing of an empty one.
    pub fn pick<T>(self, from: &[T]) -> Option<&T> {
        from.choose(&mut self.stream())
    }
}

/// The indices `0..n` in an order that is a function of `seed` and `key`.
pub fn shuffled(seed: Seed, key: &[u64], n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    order.shuffle(&mut seed.decide(key).stream());
    order
}

#[cfg(test)]
mod tests {
    use rand::{Rng as _, RngExt as _};

    use super::*;

    #[test]
    fn decisions_are_pinned() {
        // A change here changes what every stored seed means. The values are those of another
        // implementation of XXH3 (Python's xxhash), of the words' little-endian bytes.
        let (short, long): (Vec<u64>, Vec<u64>) = ((0..8).collect(), (0..40).collect());
        for (seed, key, bits) in [
            (0, &[][..], 0x2d06_8005_38d3_94c2),
            (1, &[1, 2], 0xfb54_cb63_22be_3888),
            (2, &[1, 2], 0x6e2f_e159_ca45_eacb),
            (1, &[2, 1], 0x07ee_86c2_8144_6bef),
            (42, &short, 0x849d_2144_5e10_c291),
            (u64::MAX, &[u64::MAX], 0xda8f_77a4_d5c3_99ea),
            (u64::MAX, &long, 0xe62f_7722_de0d_48c3),
        ] {
            assert_eq!(Seed(seed).decide(key).bits(), bits, "seed {seed}, key {key:?}");
        }
        assert_eq!(Seed(1).derive("nemesis"), Seed(0xdcce_9d4e_84e6_000b));
        assert_eq!(Seed(42).derive("workload"), Seed(0xc71f_cea0_ebf3_c0ac));
    }

    #[test]
    fn readings_are_pinned() {
        let d = Seed(1).decide(&[1, 2]);
        assert_eq!((d.below(10), d.below(1_000_000)), (9, 981_762));
        assert_eq!(d.between(Duration::ZERO, Duration::from_secs(1)).as_nanos(), 981762612);
        // Exactly, since these are what platforms' own functions disagree on in the last digit.
        let drawn = |i| {
            let d = Seed(5).decide(&[i]);
            [d.unit(), d.normal(), d.pareto(), d.log_uniform(0.001, 10.0)]
        };
        assert_eq!(drawn(0), [0.23807573745994082, -1.0924101465169247, 0.18974088826775182, 0.008959895610591073]);
        assert_eq!(drawn(1), [0.5218831336104858, 0.41292251945300124, 0.5577139618701752, 0.12232987569899319]);
        assert_eq!(drawn(2), [0.8277232631071543, 0.2490666270683077, 1.594356226529304, 2.045940749737537]);
    }

    #[test]
    fn streams_and_what_rand_makes_of_them_are_pinned() {
        let draw = |from: u64, n| {
            let mut stream = Decision(from).stream();
            (0..n).map(|_| stream.next_u64()).collect::<Vec<u64>>()
        };
        // SplitMix64's known values for the state 0, after the decision itself.
        assert_eq!(draw(0, 3), [0, 0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4]);
        let d = Seed(1).decide(&[1, 2]);
        let words = [0xfb54_cb63_22be_3888, 0x84fe_cb9c_da42_db14, 0xfefb_4155_2426_51c4, 0x65aa_6379_3f3b_1e31];
        assert_eq!(draw(d.bits(), 4), words);
        let mut bytes = [0; 11];
        d.stream().fill_bytes(&mut bytes);
        assert_eq!((&bytes[..8], &bytes[8..]), (&words[0].to_le_bytes()[..], &words[1].to_le_bytes()[..3]));

        let mut stream = d.stream();
        let mixed = (stream.random_range(0..=999u64), stream.random_bool(0.5), stream.random::<f64>());
        assert_eq!(mixed, (981, false, 0.9960213501800805));
        // By a Python transcript of the algorithm that `rand` documents.
        assert_eq!(shuffled(Seed(42), &[], 8), [0, 2, 3, 4, 5, 6, 1, 7]);
        let thirty = [
            18, 0, 15, 11, 6, 24, 27, 22, 28, 4, 10, 14, 21, 16, 23, 9, 2, 1, 19, 7, 25, 12, 13, 3, 29, 26, 5, 17, 20,
            8,
        ];
        assert_eq!(shuffled(Seed(42), &[5], 30), thirty);
    }

    #[test]
    fn the_first_number_of_a_stream_is_the_decisions_own() {
        let of: Vec<u64> = (0..11).collect();
        for i in 0..10_000 {
            let d = Seed(8).decide(&[i]);
            assert_eq!(d.pick(&of), Some(&d.below(11)));
            assert_eq!(d.stream().random_range(0..1_000_003), d.below(1_000_003));
            assert_eq!(d.stream().random::<f64>(), d.unit());
        }
        assert_eq!(Seed(8).decide(&[]).pick::<u64>(&[]), None);
    }

    #[test]
    fn short_keys_are_decided_as_long_ones() {
        for length in 0..2 * SHORT_KEY {
            let key: Vec<u64> = (0..length as u64).map(|word| word.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
            for seed in [0, 1, u64::MAX] {
                assert_eq!(Seed(seed).decide(&key), Seed(seed).decide_long(&key));
            }
        }
    }

    #[test]
    fn readings_stay_in_range() {
        for i in 0..10_000 {
            let d = Seed(7).decide(&[i]);
            assert!(d.below(10) < 10);
            assert_eq!(d.below(0), 0);
            assert!((0.0..1.0).contains(&d.unit()));
            let t = d.between(Duration::from_millis(5), Duration::from_millis(9));
            assert!(t >= Duration::from_millis(5) && t <= Duration::from_millis(9));
            assert_eq!(d.between(Duration::from_secs(2), Duration::from_secs(1)), Duration::from_secs(2));
        }
    }

    #[test]
    fn chances_match_their_probability() {
        let hits = (0..100_000).filter(|i| Seed(3).decide(&[*i]).chance(0.25)).count();
        assert!((24_000..26_000).contains(&hits), "{hits} of 100000");
    }

    /// The greatest distance of the distribution of 20,000 numbers from what it should be.
    fn distance(draw: impl Fn(Decision) -> f64, below: impl Fn(f64) -> f64) -> f64 {
        const COUNT: usize = 20_000;
        let mut drawn: Vec<f64> = (0..COUNT as u64).map(|i| draw(Seed(5).decide(&[i]))).collect();
        drawn.sort_by(f64::total_cmp);
        let off = |(rank, x): (usize, &f64)| (below(*x) - (rank as f64 + 0.5) / COUNT as f64).abs();
        drawn.iter().enumerate().map(off).fold(0.0, f64::max)
    }

    /// By Kolmogorov and Smirnov: off by more than 1.95 / sqrt(n) in one case of a thousand.
    #[test]
    fn distributions_are_what_they_are_called() {
        // The distribution function by Simpson's rule, from -8.
        let density = |x: f64| (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt();
        let normal = |x: f64| {
            let (steps, width) = (400, (x + 8.0) / 400.0);
            let weight = |i: i32| if i == 0 || i == steps { 1.0 } else { f64::from(2 + 2 * (i % 2)) };
            (0..=steps).map(|i| weight(i) * density(-8.0 + width * f64::from(i))).sum::<f64>() * width / 3.0
        };
        let bound = 1.95 / 20_000f64.sqrt();
        let off = distance(Decision::normal, normal);
        assert!(off < bound, "normal: {off}");
        let off = distance(Decision::pareto, |x| 1.0 - (1.0 + x / 2.0).powi(-3));
        assert!(off < bound, "Pareto: {off}");
        let off = distance(|d| d.log_uniform(0.5, 32.0), |x| (x / 0.5).log2() / 6.0);
        assert!(off < bound, "log-uniform: {off}");
        assert!(distance(Decision::unit, normal) > bound, "and the test can tell");
    }

    #[test]
    fn a_shuffle_is_a_permutation() {
        let mut order = shuffled(Seed(9), &[4], 100);
        order.sort_unstable();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn every_order_is_as_likely() {
        let mut seen = std::collections::BTreeMap::new();
        for i in 0..24_000 {
            *seen.entry(shuffled(Seed(10), &[i], 4)).or_insert(0) += 1;
        }
        assert!(seen.len() == 24 && seen.values().all(|count| (850..1150).contains(count)), "{seen:?}");
    }
}

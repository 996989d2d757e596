//! Random decisions as pure functions of a seed and a stable key.
//!
//! Nothing in Duress draws from a shared random stream. A decision is a function of the run's
//! seed and of a key that names the decision ("link 1→2, frame 17"), so removing one fault or
//! one operation leaves every other decision as it was. That is what makes replay exact and
//! shrinking work. This crate knows nothing of what is being decided, and any crate may use it.
//!
//! The hash is XXH3 (64 bit), whose values are fixed by its specification: they are the same on
//! every platform and in every release.

mod shape;

use std::time::Duration;

pub use shape::Shape;

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

    /// A number of the standard normal distribution (mean 0, deviation 1), by Box and Muller's
    /// transform of the two halves of the bits; at most 6.7 either way.
    pub fn normal(self) -> f64 {
        let (radius, angle) = ((self.0 >> 32) as f64 + 1.0, (self.0 & 0xffff_ffff) as f64);
        let scale = 1.0 / (1u64 << 32) as f64;
        (-2.0 * (radius * scale).ln()).sqrt() * (std::f64::consts::TAU * angle * scale).cos()
    }

    /// By how much a number of the Pareto distribution of shape 3 exceeds its least, scaled so that
    /// this is 1 in the mean: mostly small, now and then very large.
    pub fn pareto(self) -> f64 {
        2.0 * (1.0 / (1.0 - self.unit()).cbrt() - 1.0)
    }

    /// One element of a slice, or nothing of an empty one.
    pub fn pick<T>(self, from: &[T]) -> Option<&T> {
        from.get(self.below(from.len() as u64) as usize)
    }
}

/// The indices `0..n` in an order that is a function of `seed` and `key` (Fisher–Yates).
pub fn shuffled(seed: Seed, key: &[u64], n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    let mut step_key = key.to_vec();
    step_key.push(0);
    for i in (1..n).rev() {
        *step_key.last_mut().expect("the key has just been extended") = i as u64;
        order.swap(i, seed.decide(&step_key).below(i as u64 + 1) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_are_pinned() {
        // A change here changes what every stored seed means.
        assert_eq!(Seed(1).decide(&[1, 2]).bits(), Seed(1).decide(&[1, 2]).bits());
        assert_ne!(Seed(1).decide(&[1, 2]), Seed(2).decide(&[1, 2]));
        assert_ne!(Seed(1).decide(&[1, 2]), Seed(1).decide(&[2, 1]));
        assert_eq!(shuffled(Seed(42), &[], 8), shuffled(Seed(42), &[], 8));
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
        assert!(distance(Decision::unit, normal) > bound, "and the test can tell");
    }

    #[test]
    fn a_shuffle_is_a_permutation() {
        let mut order = shuffled(Seed(9), &[4], 100);
        order.sort_unstable();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }
}

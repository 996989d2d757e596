//! How delays vary, and the one way to draw them.

use crate::Decision;

/// A normally distributed delay strays by no more than so many deviations.
const MOST_DEVIATIONS: f64 = 4.0;
/// A Pareto-distributed delay exceeds its least by no more than so many times the mean excess.
const LONGEST_TAIL: f64 = 50.0;

/// How delays are distributed around what is asked for: a delay `by`, which varies by `jitter`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Shape {
    /// `by`, always.
    #[default]
    Constant,
    /// Evenly from `by - jitter` to `by + jitter`.
    Uniform,
    /// Normally, with mean `by` and standard deviation `jitter`, cut off at zero and at four
    /// deviations.
    Normal,
    /// Pareto's: at least `by`, with a long tail of mean `jitter` above it (shape 3, and at most
    /// 50 times `jitter`).
    Pareto,
}

impl Shape {
    /// The delay that a decision means, of `by` and `jitter` in nanoseconds.
    pub fn draw(self, by: u64, jitter: u64, decision: Decision) -> u64 {
        let times = |factor: f64| (factor * jitter as f64) as u64;
        match self {
            _ if jitter == 0 => by,
            Shape::Constant => by,
            Shape::Uniform => {
                let least = by.saturating_sub(jitter);
                let span = by.saturating_add(jitter).saturating_sub(least);
                least + decision.below(span.saturating_add(1))
            }
            Shape::Normal => {
                let strays = decision.normal().clamp(-MOST_DEVIATIONS, MOST_DEVIATIONS);
                let offset = times(strays.abs());
                if strays < 0.0 { by.saturating_sub(offset) } else { by.saturating_add(offset) }
            }
            Shape::Pareto => by.saturating_add(times(decision.pareto().min(LONGEST_TAIL))),
        }
    }

    /// The least that is ever drawn of `by` and `jitter`.
    pub fn least(self, by: u64, jitter: u64) -> u64 {
        match self {
            Shape::Constant | Shape::Pareto => by,
            Shape::Uniform => by.saturating_sub(jitter),
            Shape::Normal => by.saturating_sub((MOST_DEVIATIONS as u64).saturating_mul(jitter)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;

    #[test]
    fn delays_stay_within_their_shapes() {
        let shapes = [Shape::Constant, Shape::Uniform, Shape::Normal, Shape::Pareto];
        let most = [1000, 1200, 1800, 11_000];
        for (shape, most) in shapes.into_iter().zip(most) {
            let least = shape.least(1000, 200);
            let drawn: Vec<u64> = (0..5000).map(|n| shape.draw(1000, 200, Seed(1).decide(&[n]))).collect();
            assert!(drawn.iter().all(|delay| (least..=most).contains(delay)), "{shape:?}");
            assert_eq!(shape.draw(1000, 0, Seed(1).decide(&[7])), 1000, "nothing varies");
        }
    }

    #[test]
    fn bounds_of_time_are_no_trouble() {
        for n in 0..200 {
            for (by, jitter) in [(0, 0), (0, u64::MAX), (u64::MAX, u64::MAX), (u64::MAX, 1), (5, 1 << 63)] {
                for shape in [Shape::Constant, Shape::Uniform, Shape::Normal, Shape::Pareto] {
                    assert!(shape.draw(by, jitter, Seed(2).decide(&[n])) >= shape.least(by, jitter));
                }
            }
        }
    }
}

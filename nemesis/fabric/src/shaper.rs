//! What passes of a link that carries only so many bits a second. Pure: time is a number of
//! nanoseconds.

/// Bytes that may wait before a link of low rate.
const QUEUE: u64 = 64 << 10;
/// Nanoseconds' worth of its rate that may wait before any other.
const PATIENCE: u64 = 100_000_000;

/// A link with a queue before it: frames leave it one after the other, each taking its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shaper {
    /// When the last frame has left.
    free_at: u64,
}

impl Shaper {
    /// When a frame of so many bytes has left the link of `rate` bits a second, or nothing if it
    /// finds the queue full.
    pub(crate) fn admit(&mut self, now: u64, bytes: usize, rate: u64) -> Option<u64> {
        let rate = rate.max(1);
        let starts = self.free_at.max(now);
        if starts - now > Self::longest_wait(rate) {
            return None;
        }
        self.free_at = starts.saturating_add(Self::takes(bytes as u64, rate));
        Some(self.free_at)
    }

    fn takes(bytes: u64, rate: u64) -> u64 {
        let nanos = u128::from(bytes) * 8_000_000_000 / u128::from(rate);
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    fn longest_wait(rate: u64) -> u64 {
        Self::takes(QUEUE, rate).max(PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEGABIT: u64 = 1_000_000;

    #[test]
    fn frames_leave_one_after_the_other() {
        let mut link = Shaper::default();
        // 1000 bytes at a megabit a second take 8 ms.
        assert_eq!(link.admit(0, 1000, MEGABIT), Some(8_000_000));
        assert_eq!(link.admit(1_000_000, 1000, MEGABIT), Some(16_000_000));
        assert_eq!(link.admit(50_000_000, 1000, MEGABIT), Some(58_000_000), "what was not used is gone");
    }

    /// Whatever is sent how fast, what leaves within a time is what the rate allows.
    #[test]
    fn the_rate_is_kept_and_the_queue_is_bounded() {
        for rate in [1, 56_000, MEGABIT, 1000 * MEGABIT] {
            let (mut link, mut left, mut last, mut dropped) = (Shaper::default(), 0u64, 0, 0);
            for i in 0..10_000u64 {
                let now = i * 10_000;
                match link.admit(now, 1500, rate) {
                    Some(at) => {
                        assert!(at >= last && at - now <= Shaper::longest_wait(rate) + Shaper::takes(1500, rate));
                        last = at;
                        left += 1500;
                    }
                    None => dropped += 1,
                }
            }
            let carried = u128::from(last) * u128::from(rate) / 8_000_000_000;
            assert!(u128::from(left) <= carried + 10_000, "{left} bytes at {rate} bit/s in {last} ns");
            // 1.2 Gbit/s are offered for a tenth of a second.
            assert_eq!(dropped > 0, rate < 1000 * MEGABIT, "at {rate} bit/s");
        }
    }

    #[test]
    fn a_rate_of_nothing_passes_next_to_nothing() {
        let mut link = Shaper::default();
        assert!(link.admit(0, 65_000, 0).is_some());
        assert_eq!(Shaper { free_at: u64::MAX }.admit(0, 1, 0), None);
    }
}

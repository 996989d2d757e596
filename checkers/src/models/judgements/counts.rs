//! Counts at places, for sums of all before a place.

/// Counts at places, and sums of them (Fenwick, *A New Data Structure for Cumulative Frequency
/// Tables*, 1994).
pub(super) struct Counts(Vec<usize>);

impl Counts {
    pub(super) fn new(places: usize) -> Counts {
        Counts(vec![0; places + 1])
    }

    pub(super) fn add(&mut self, place: usize) {
        let mut at = place + 1;
        while at < self.0.len() {
            self.0[at] += 1;
            at += at & at.wrapping_neg();
        }
    }

    /// The sum of all before a place.
    pub(super) fn before(&self, place: usize) -> usize {
        let (mut at, mut sum) = (place, 0);
        while at > 0 {
            sum += self.0[at];
            at -= at & at.wrapping_neg();
        }
        sum
    }
}

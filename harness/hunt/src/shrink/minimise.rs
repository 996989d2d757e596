//! Delta debugging: a small part of a whole that still does it.

/// Finds a small part of `all` that does what all of it does. `first` is given parts, in order, and
/// says which is the first that does it; it may look at several at a time. The empty part is
/// asked about first, because often nothing is needed.
///
/// A. Zeller and R. Hildebrandt, "Simplifying and isolating failure-inducing input", IEEE TSE 2002,
/// without the step that tries the parts alone: what is left out here seldom matters, so trying
/// what is left is quicker. Asks O(n²) times at worst, and about 2 k log n times for k of n.
pub(crate) fn minimise<T: Clone>(
    all: &[T],
    mut first: impl FnMut(&mut dyn Iterator<Item = Vec<T>>) -> Option<usize>,
) -> Vec<T> {
    if all.is_empty() || first(&mut [Vec::new()].into_iter()).is_some() {
        return Vec::new();
    }
    let mut kept = all.to_vec();
    let mut chunks = 2;
    while kept.len() >= 2 {
        let size = kept.len().div_ceil(chunks);
        let (mut start, mut helped) = (0, false);
        while start < kept.len() {
            let without = |from: usize| {
                let mut rest = kept.clone();
                rest.drain(from..(from + size).min(kept.len()));
                rest
            };
            let Some(place) = first(&mut (start..kept.len()).step_by(size).map(without)) else { break };
            start += place * size;
            kept.drain(start..(start + size).min(kept.len()));
            helped = true;
        }
        if size == 1 && !helped {
            break;
        }
        chunks = (chunks * 2).min(kept.len().max(2));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first<T>(parts: &mut dyn Iterator<Item = Vec<T>>, mut does: impl FnMut(&[T]) -> bool) -> Option<usize> {
        parts.enumerate().find(|(_, part)| does(part)).map(|(place, _)| place)
    }

    #[test]
    fn a_minimal_part_is_found() {
        let all: Vec<u32> = (0..100).collect();
        for wanted in [vec![], vec![7], vec![0, 99], vec![3, 4, 50, 51, 98]] {
            let mut asked = 0;
            let kept = minimise(&all, |parts| {
                first(parts, |part| {
                    asked += 1;
                    wanted.iter().all(|one| part.contains(one))
                })
            });
            assert_eq!(kept, wanted);
            assert!(asked < 250, "{asked} questions for {wanted:?}");
        }
    }

    #[test]
    fn what_is_never_true_of_less_stays_whole() {
        assert_eq!(minimise(&[1, 2, 3], |parts| first(parts, |part| part.len() == 3)), [1, 2, 3]);
        assert_eq!(minimise(&[1], |parts| first(parts, |part| part.len() == 1)), [1]);
    }

    /// However many are looked at together, the answer is the same.
    #[test]
    fn no_single_one_of_what_is_kept_can_be_left_out() {
        for seed in 0..200u64 {
            let all: Vec<u64> = (0..30).collect();
            // Not monotonic: a part does it by its sum and its size.
            let does = |part: &[u64]| part.len() == 30 || part.iter().sum::<u64>() % 7 < 3 + seed % 4 && part.len() > 2;
            let kept = minimise(&all, |parts| first(parts, does));
            assert!(does(&kept));
            for at in 0..kept.len() {
                let mut less = kept.clone();
                less.remove(at);
                assert!(!does(&less), "{kept:?} without {at}");
            }
        }
    }
}

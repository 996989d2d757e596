//! What was written over a file and is not durable: ranges of bytes that don't overlap.

use std::collections::BTreeMap;

/// Bytes by their places in a file. Every operation takes time logarithmic in the number of ranges
/// and linear in the bytes of those it touches.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overlay {
    /// Where a range begins, and its bytes: never empty, never overlapping.
    ranges: BTreeMap<u64, Vec<u8>>,
    bytes: u64,
}

impl Overlay {
    /// How many bytes there are.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes over whatever is there.
    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let end = offset + data.len() as u64;
        if let Some((start, range)) = self.ranges.range_mut(..=offset).next_back()
            && end <= start + range.len() as u64
        {
            let at = (offset - start) as usize;
            range[at..at + data.len()].copy_from_slice(data);
            return;
        }
        self.cut(offset, end);
        self.bytes += data.len() as u64;
        match self.ranges.range_mut(..offset).next_back() {
            // Appending is the common case.
            Some((start, range)) if start + range.len() as u64 == offset => range.extend_from_slice(data),
            _ => drop(self.ranges.insert(offset, data.to_vec())),
        }
    }

    /// Forgets what is in `from..to`.
    pub(crate) fn cut(&mut self, from: u64, to: u64) {
        if let Some((start, range)) = self.ranges.range_mut(..from).next_back()
            && start + range.len() as u64 > from
        {
            let rest = range.split_off((from - start) as usize);
            self.bytes -= rest.len() as u64;
            self.keep_behind(from, rest, to);
        }
        while let Some((&start, _)) = self.ranges.range(from..to).next() {
            if let Some(range) = self.ranges.remove(&start) {
                self.bytes -= range.len() as u64;
                self.keep_behind(start, range, to);
            }
        }
    }

    /// Puts back what stands at `to` and behind it, of a range that began at `start`.
    fn keep_behind(&mut self, start: u64, mut range: Vec<u8>, to: u64) {
        if start + range.len() as u64 > to {
            let tail = range.split_off((to - start) as usize);
            self.bytes += tail.len() as u64;
            self.ranges.insert(to, tail);
        }
    }

    /// Copies what is known of the bytes at `offset` over `out`.
    pub(crate) fn read(&self, offset: u64, out: &mut [u8]) {
        let end = offset + out.len() as u64;
        let first = self.ranges.range(..=offset).next_back().map_or(offset, |(start, _)| *start);
        for (&start, range) in self.ranges.range(first..end) {
            let (from, to) = (start.max(offset), (start + range.len() as u64).min(end));
            if from < to {
                out[(from - offset) as usize..(to - offset) as usize]
                    .copy_from_slice(&range[(from - start) as usize..(to - start) as usize]);
            }
        }
    }

    /// Whether the byte at this place is in it.
    pub(crate) fn covers(&self, at: u64) -> bool {
        self.ranges.range(..=at).next_back().is_some_and(|(start, range)| at < start + range.len() as u64)
    }

    /// The ranges in their order.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.ranges.iter().map(|(start, range)| (*start, range.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Write(u64, Vec<u8>),
        Cut(u64, u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..40_u64, prop::collection::vec(1..=255_u8, 0..12)).prop_map(|(at, data)| Step::Write(at, data)),
            (0..40_u64, 0..50_u64).prop_map(|(a, b)| Step::Cut(a.min(b), a.max(b))),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_map_of_bytes(steps in prop::collection::vec(step(), 0..40)) {
            let mut overlay = Overlay::default();
            let mut naive = [None; 64];
            for step in steps {
                match step {
                    Step::Write(at, data) => {
                        overlay.write(at, &data);
                        for (place, byte) in naive[at as usize..].iter_mut().zip(data) {
                            *place = Some(byte);
                        }
                    }
                    Step::Cut(from, to) => {
                        overlay.cut(from, to);
                        naive[from as usize..to as usize].fill(None);
                    }
                }
                let mut seen = [0; 64];
                overlay.read(0, &mut seen);
                prop_assert_eq!(seen, naive.map(Option::unwrap_or_default));
                let mut part = [0; 9];
                overlay.read(7, &mut part);
                prop_assert_eq!(&part[..], &seen[7..16]);
                for (at, byte) in naive.iter().enumerate() {
                    prop_assert_eq!(overlay.covers(at as u64), byte.is_some());
                }
                prop_assert_eq!(overlay.bytes(), naive.iter().flatten().count() as u64);
            }
        }
    }
}

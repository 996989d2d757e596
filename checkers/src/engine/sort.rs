//! A history's operations sorted by key: a counting sort, in as many pieces as there are threads.

use rayon::prelude::*;

use super::history::{Action, History, Operation};

/// One operation of a known key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) action: Action,
    pub(super) invoked: u32,
    pub(super) returned: u32,
    /// Its index in the history.
    pub(super) id: u32,
}

impl Record {
    #[inline]
    pub(super) fn new(operation: &Operation, id: usize) -> Record {
        let Operation { action, invoked, returned, .. } = *operation;
        Record { action, invoked, returned, id: id as u32 }
    }

    #[inline]
    fn pack(self) -> Packed {
        let (kind, a, b) = match self.action {
            Action::Read(value) => (0, value, 0),
            Action::Write(value) => (1, value, 0),
            Action::Cas { from, to } => (2, from, to),
            Action::Differs(value) => (3, value, 0),
        };
        [a, b, self.invoked, self.returned, self.id << 2 | kind]
    }

    #[inline]
    fn unpack([a, b, invoked, returned, tail]: Packed) -> Record {
        let action = match tail & 3 {
            0 => Action::Read(a),
            1 => Action::Write(a),
            2 => Action::Cas { from: a, to: b },
            _ => Action::Differs(a),
        };
        Record { action, invoked, returned, id: tail >> 2 }
    }
}

/// A [`Record`] in twenty bytes, of which all zeros is one, so that memory comes zeroed.
type Packed = [u32; 5];

/// Operations by key; within a key in the order of the history.
pub(super) struct Sorted {
    pieces: Vec<Piece>,
}

/// A part of the history, sorted by key.
struct Piece {
    records: Vec<Packed>,
    /// Where each key's records start, and where the last one's end.
    starts: Vec<u32>,
}

/// Below this many operations threads cost more than they save.
pub(super) const WORTH_THREADS: usize = 1 << 14;

/// Sorts a history's operations. Linear in time.
pub(super) fn by_key(history: &History) -> Sorted {
    let operations = &history.operations;
    if operations.len() < WORTH_THREADS {
        return Sorted { pieces: vec![Piece::of(operations, 0, history.keys)] };
    }
    let size = operations.len().div_ceil(rayon::current_num_threads());
    let pieces = operations.par_chunks(size).enumerate().map(|(n, part)| Piece::of(part, n * size, history.keys));
    Sorted { pieces: pieces.collect() }
}

impl Piece {
    /// Of a part of a history whose first operation has the index `from`.
    fn of(operations: &[Operation], from: usize, keys: u32) -> Piece {
        let mut starts = vec![0u32; keys as usize + 2];
        for operation in operations {
            starts[operation.key as usize + 2] += 1;
        }
        for key in 2..starts.len() {
            starts[key] += starts[key - 1];
        }
        // The start of each key's records is kept one place further on: moved along while they are
        // put in place, it ends where the next key's is wanted.
        let mut records = vec![[0; 5]; operations.len()];
        for (n, operation) in operations.iter().enumerate() {
            let place = &mut starts[operation.key as usize + 1];
            records[*place as usize] = Record::new(operation, from + n).pack();
            *place += 1;
        }
        starts.pop();
        Piece { records, starts }
    }

    fn of_key(&self, key: u32) -> &[Packed] {
        &self.records[self.starts[key as usize] as usize..self.starts[key as usize + 1] as usize]
    }
}

impl Sorted {
    /// A key's operations.
    pub(super) fn records(&self, key: u32) -> impl Iterator<Item = Record> + '_ {
        self.pieces.iter().flat_map(move |piece| piece.of_key(key)).map(|packed| Record::unpack(*packed))
    }

    /// How many operations a key has.
    pub(super) fn count(&self, key: u32) -> usize {
        self.pieces.iter().map(|piece| piece.of_key(key).len()).sum()
    }

    /// The keys, those with the most operations first (by powers of two).
    pub(super) fn largest_first(&self, keys: u32) -> Vec<u32> {
        let mut classes: Vec<Vec<u32>> = vec![Vec::new(); 33];
        for key in 0..keys {
            classes[self.count(key).checked_ilog2().map_or(0, |log| log as usize + 1).min(32)].push(key);
        }
        classes.into_iter().rev().flatten().collect()
    }
}

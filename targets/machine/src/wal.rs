//! The byte format of a node's log, without the file.
//!
//! A record is framed as `length: u32, checksum: u32, synced: u64, payload`, little-endian. The
//! payload is the record in postcard; the checksum is a CRC-32 of everything else in the frame. A
//! zero length ends the log, so a file may be preallocated with zeros. `synced` is how many bytes
//! of the log are known to be durable wherever the record is found: it tells a batch that a power
//! cut tore (nothing in it was durable yet) from damage to data that once was. For an appended
//! record that is what had been synced before it was written; for those of a log that replaced
//! another in one piece it is all of them, since it is found only if it was durable before. Damage
//! behind the last byte that any record vouches for, which is the latest batch that was appended,
//! can't be told from a torn write, and is taken for one. Shared by every
//! driver: what a crash leaves behind is judged by the same code in the simulator as on a real
//! disk.

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// Bytes before a record's payload.
pub const HEADER: usize = 16;

/// No record may be longer than this, so a damaged length can't ask for the world.
pub const MAX_RECORD: usize = 64 << 20;

/// Why a record can't be written.
#[derive(Debug, Error)]
pub enum EncodeError {
    /// Longer than [`MAX_RECORD`].
    #[error("a log record of {0} bytes is longer than the limit of {MAX_RECORD}")]
    TooLong(usize),
    /// The record refused to be serialized.
    #[error("a log record can't be encoded: {0}")]
    Postcard(#[from] postcard::Error),
}

/// The bytes of a log that replaces another in one piece, and is not found before all of it is
/// durable: each record vouches for all of them.
pub fn encode_whole<R: Serialize>(records: &[R]) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = Vec::new();
    let mut starts = Vec::with_capacity(records.len());
    for record in records {
        starts.push(bytes.len());
        encode(record, 0, &mut bytes)?;
    }
    let synced = (bytes.len() as u64).to_le_bytes();
    let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
    for (start, end) in starts.iter().zip(ends) {
        let (header, payload) = bytes[*start..end].split_at_mut(HEADER);
        let length = [header[0], header[1], header[2], header[3]];
        header[4..8].copy_from_slice(&checksum(&length, &synced, payload).to_le_bytes());
        header[8..].copy_from_slice(&synced);
    }
    Ok(bytes)
}

/// Appends one framed record to `buffer`, which is left as it was on an error. `synced` is the
/// length of the log's prefix that is known to be durable now.
pub fn encode<R: Serialize>(record: &R, synced: u64, buffer: &mut Vec<u8>) -> Result<(), EncodeError> {
    let payload = postcard::to_allocvec(record)?;
    // A zero length means the end of the log, and an empty payload (a unit record) has none:
    // lengths are stored plus one.
    if payload.len() >= MAX_RECORD {
        return Err(EncodeError::TooLong(payload.len()));
    }
    let length = (payload.len() as u32 + 1).to_le_bytes();
    let synced = synced.to_le_bytes();
    buffer.extend_from_slice(&length);
    buffer.extend_from_slice(&checksum(&length, &synced, &payload).to_le_bytes());
    buffer.extend_from_slice(&synced);
    buffer.extend_from_slice(&payload);
    Ok(())
}

/// What a log's bytes hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered<R> {
    /// The records, oldest first.
    pub records: Vec<R>,
    /// How many bytes they take: where the next record goes.
    pub length: usize,
    /// What follows them.
    pub tail: Tail,
}

/// What stands behind the last good record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Nothing, or zeros.
    Clean,
    /// Records that were being written when the node died. Dropping them loses nothing that was
    /// reported durable.
    Torn,
}

/// The log is damaged in a way that no crash explains.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Damage {
    /// Another record says that this one was durable, so data that was promised is lost.
    #[error(
        "log record {record} at byte {offset} was durable once and is damaged now: the record at byte {next} says so"
    )]
    Middle {
        /// Which record, from zero.
        record: usize,
        /// Where it starts.
        offset: usize,
        /// Where the other record stands.
        next: usize,
    },
    /// The checksum is right but the contents mean nothing: another version or another program.
    #[error("log record {record} at byte {offset} can't be decoded: {reason}")]
    Undecodable {
        /// Which record, from zero.
        record: usize,
        /// Where it starts.
        offset: usize,
        /// What the decoder said.
        reason: String,
    },
}

/// Reads a log's bytes. Time is linear, except behind a bad record, where the rest (at most one
/// torn batch, normally) is searched for a good record at every byte.
pub fn recover<R: DeserializeOwned>(bytes: &[u8]) -> Result<Recovered<R>, Damage> {
    let mut records = Vec::new();
    let mut offset = 0;
    let mut vouched = Vouched::default();
    loop {
        match frame(bytes, offset) {
            Frame::Good { payload, synced, next } => {
                if synced > vouched.bytes {
                    vouched = Vouched { bytes: synced, by: offset };
                }
                let record = postcard::from_bytes(payload).map_err(|e| Damage::Undecodable {
                    record: records.len(),
                    offset,
                    reason: e.to_string(),
                })?;
                records.push(record);
                offset = next;
            }
            Frame::End => {
                let tail = if bytes[offset..].iter().all(|b| *b == 0) { Tail::Clean } else { Tail::Torn };
                return finish(bytes, records, offset, tail, vouched);
            }
            Frame::Bad => return finish(bytes, records, offset, Tail::Torn, vouched),
        }
    }
}

/// Reads a log's bytes as if they could not be torn: whatever decodes is taken for a record, its
/// checksum is not looked at, and what is missing of the last one is taken for zeros, as in a file
/// that was made long enough beforehand. For a planted bug; nothing in earnest reads a log so.
/// Linear in the bytes, plus at most [`MAX_RECORD`].
pub fn recover_unchecked<R: DeserializeOwned>(bytes: &[u8]) -> Recovered<R> {
    let mut records = Vec::new();
    let mut offset = 0;
    while let Some((header, rest)) = bytes.get(offset..).and_then(|rest| rest.split_first_chunk::<HEADER>()) {
        let stored = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let Some(length) = stored.checked_sub(1).filter(|length| *length < MAX_RECORD) else { break };
        let mut payload = rest[..length.min(rest.len())].to_vec();
        payload.resize(length, 0);
        let Ok(record) = postcard::from_bytes(&payload) else { break };
        records.push(record);
        offset += HEADER + length;
    }
    let clean = bytes.get(offset..).is_none_or(|rest| rest.iter().all(|byte| *byte == 0));
    Recovered { records, length: offset, tail: if clean { Tail::Clean } else { Tail::Torn } }
}

/// How many bytes were durable, and the first record that says so.
#[derive(Clone, Copy, Default)]
struct Vouched {
    bytes: u64,
    by: usize,
}

fn finish<R>(
    bytes: &[u8],
    records: Vec<R>,
    offset: usize,
    tail: Tail,
    vouched: Vouched,
) -> Result<Recovered<R>, Damage> {
    if vouched.bytes > offset as u64 {
        return Err(Damage::Middle { record: records.len(), offset, next: vouched.by });
    }
    if tail == Tail::Torn {
        let outlived = |at: &usize| matches!(frame(bytes, *at), Frame::Good { synced, .. } if synced > offset as u64);
        if let Some(next) = (offset + 1..bytes.len().saturating_sub(HEADER)).find(outlived) {
            return Err(Damage::Middle { record: records.len(), offset, next });
        }
    }
    Ok(Recovered { records, length: offset, tail })
}

enum Frame<'a> {
    Good { payload: &'a [u8], synced: u64, next: usize },
    End,
    Bad,
}

fn frame(bytes: &[u8], offset: usize) -> Frame<'_> {
    let rest = &bytes[offset.min(bytes.len())..];
    let Some((length_bytes, rest)) = rest.split_first_chunk::<4>() else {
        return if rest.iter().all(|b| *b == 0) { Frame::End } else { Frame::Bad };
    };
    let stored = u32::from_le_bytes(*length_bytes) as usize;
    if stored == 0 {
        return Frame::End;
    }
    let Some((sum, rest)) = rest.split_first_chunk::<4>() else { return Frame::Bad };
    let Some((synced, rest)) = rest.split_first_chunk::<8>() else { return Frame::Bad };
    let length = stored - 1;
    if length >= MAX_RECORD || rest.len() < length {
        return Frame::Bad;
    }
    let payload = &rest[..length];
    if checksum(length_bytes, synced, payload) != u32::from_le_bytes(*sum) {
        return Frame::Bad;
    }
    Frame::Good { payload, synced: u64::from_le_bytes(*synced), next: offset + HEADER + length }
}

fn checksum(length: &[u8; 4], synced: &[u8; 8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(length);
    hasher.update(synced);
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A log whose records were each durable before the next was written.
    fn log(records: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for record in records {
            let synced = bytes.len() as u64;
            encode(record, synced, &mut bytes).expect("small records are encodable");
        }
        bytes
    }

    proptest! {
        #[test]
        fn whole_logs_come_back(records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20), zeros in 0usize..100) {
            let mut bytes = log(&records);
            let length = bytes.len();
            bytes.resize(length + zeros, 0);
            let found = recover::<Vec<u8>>(&bytes).unwrap();
            prop_assert_eq!(found, Recovered { records, length, tail: Tail::Clean });
        }

        #[test]
        fn a_cut_at_any_byte_loses_only_the_cut_record(records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 1..8), zeros in 0usize..40) {
            let bytes = log(&records);
            let ends: Vec<usize> = (1..=records.len()).map(|n| log(&records[..n]).len()).collect();
            for cut in 0..bytes.len() {
                let mut torn = bytes[..cut].to_vec();
                torn.resize(cut + zeros, 0);
                let found = recover::<Vec<u8>>(&torn).unwrap();
                // Zeros behind the cut may happen to be what was cut off.
                prop_assert!(found.records.len() >= ends.iter().filter(|end| **end <= cut).count());
                prop_assert_eq!(&found.records[..], &records[..found.records.len()]);
            }
        }

        #[test]
        fn rubbish_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = recover::<Vec<u8>>(&bytes);
            let _ = recover_unchecked::<Vec<u8>>(&bytes);
        }

        #[test]
        fn without_a_look_at_checksums_whole_logs_come_back_and_a_cut_record_is_filled_with_zeros(records in prop::collection::vec(prop::collection::vec(1u8.., 1..30), 1..8), lost in 1usize..30) {
            let bytes = log(&records);
            let whole = recover_unchecked::<Vec<u8>>(&bytes);
            prop_assert_eq!(&whole, &recover(&bytes).unwrap());
            let last = records.len() - 1;
            let lost = lost.min(records[last].len());
            let torn = recover_unchecked::<Vec<u8>>(&bytes[..bytes.len() - lost]);
            let mut expected = records.clone();
            let kept = expected[last].len() - lost;
            expected[last][kept..].fill(0);
            prop_assert_eq!(torn.records, expected);
        }
    }

    #[test]
    fn a_flipped_bit_under_a_durable_mark_is_damage() {
        let mut bytes = log(&[b"one".to_vec(), b"two".to_vec(), b"three".to_vec()]);
        let second = HEADER + 4;
        bytes[second + HEADER + 1] ^= 1;
        let damage = recover::<Vec<u8>>(&bytes).unwrap_err();
        assert_eq!(damage, Damage::Middle { record: 1, offset: second, next: second + HEADER + 4 });
    }

    #[test]
    fn a_flipped_bit_or_a_cut_anywhere_in_a_log_that_was_written_whole_is_damage() {
        let records = [b"one".to_vec(), Vec::new(), b"three".to_vec()];
        let whole = encode_whole(&records).unwrap();
        assert_eq!(whole.len(), log(&records).len());
        for more in [0, 40] {
            let mut bytes = whole.clone();
            bytes.resize(whole.len() + more, 0);
            let found = recover::<Vec<u8>>(&bytes).unwrap();
            assert_eq!((&found.records[..], found.length, found.tail), (&records[..], whole.len(), Tail::Clean));
            for bit in 0..whole.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(recover::<Vec<u8>>(&flipped).is_err(), "bit {bit}");
            }
            let first = HEADER + 4;
            for cut in first..whole.len() {
                let mut short = bytes[..cut].to_vec();
                short.resize(cut + more, 0);
                assert!(recover::<Vec<u8>>(&short).is_err() || bytes.starts_with(&short), "cut at {cut}");
            }
        }
        // What is appended to it is torn or not, as everywhere.
        let mut bytes = whole.clone();
        encode(&b"four".to_vec(), whole.len() as u64, &mut bytes).unwrap();
        bytes.pop();
        let found = recover::<Vec<u8>>(&bytes).unwrap();
        assert_eq!((found.records.len(), found.length, found.tail), (3, whole.len(), Tail::Torn));
    }

    #[test]
    fn a_hole_in_an_unsynced_batch_is_a_torn_tail() {
        let mut bytes = log(&[b"one".to_vec()]);
        let synced = bytes.len();
        for word in [b"two".to_vec(), b"three".to_vec()] {
            encode(&word, synced as u64, &mut bytes).unwrap();
        }
        bytes[synced + HEADER + 1] = 0;
        let found = recover::<Vec<u8>>(&bytes).unwrap();
        assert_eq!(found, Recovered { records: vec![b"one".to_vec()], length: synced, tail: Tail::Torn });
    }
}

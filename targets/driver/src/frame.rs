//! Frames on a byte stream: a length and a value in postcard.
//!
//! Used between nodes and on the control channel. A frame is a little-endian `u32` length and
//! that many bytes. Every stream has a longest frame, so that a damaged or hostile length can't
//! ask for the world; a frame that breaks the rules ends the stream.
//!
//! Between nodes, where a network may damage what TCP's checksum doesn't show, frames are *sealed*:
//! after the length come a CRC-32 of the payload and one of these two, so that neither a damaged
//! payload is taken for a message nor a damaged length for one to wait for.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes ahead of a frame's payload, and ahead of a sealed one's.
const HEADER: usize = 4;
const SEALED_HEADER: usize = 12;

/// How much a reader asks for at once.
const CHUNK: usize = 64 << 10;

/// Why a frame can't be written or read.
#[derive(Debug, Error)]
pub enum FrameError {
    /// The stream failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The frame is longer than the stream allows.
    #[error("a frame of {length} bytes is longer than the limit of {limit}")]
    TooLong {
        /// The frame's length, in bytes.
        length: usize,
        /// What the stream allows, in bytes.
        limit: usize,
    },
    /// The payload is not what was expected: another version, or damage.
    #[error("a frame's contents mean nothing: {0}")]
    Malformed(#[from] postcard::Error),
    /// A sealed frame is not what was sent.
    #[error("a frame was damaged on its way")]
    Damaged,
    /// The stream ended within a frame.
    #[error("the stream ended in the middle of a frame")]
    Cut,
}

/// Appends `value` as one frame to `buffer`, which is left as it was on an error.
pub(crate) fn push<T: Serialize>(value: &T, limit: usize, buffer: &mut Vec<u8>) -> Result<(), FrameError> {
    append(value, limit, buffer, HEADER)
}

/// Appends `value` as one sealed frame; likewise.
pub(crate) fn push_sealed<T: Serialize>(value: &T, limit: usize, buffer: &mut Vec<u8>) -> Result<(), FrameError> {
    let start = buffer.len();
    append(value, limit, buffer, SEALED_HEADER)?;
    let payload = crc32fast::hash(&buffer[start + SEALED_HEADER..]);
    buffer[start + 4..start + 8].copy_from_slice(&payload.to_le_bytes());
    let header = crc32fast::hash(&buffer[start..start + 8]);
    buffer[start + 8..start + SEALED_HEADER].copy_from_slice(&header.to_le_bytes());
    Ok(())
}

fn append<T: Serialize>(value: &T, limit: usize, buffer: &mut Vec<u8>, header: usize) -> Result<(), FrameError> {
    let start = buffer.len();
    buffer.resize(start + header, 0);
    if let Err(error) = postcard::to_io(value, &mut *buffer) {
        buffer.truncate(start);
        return Err(error.into());
    }
    let length = buffer.len() - start - header;
    if length > limit.min(u32::MAX as usize) {
        buffer.truncate(start);
        return Err(FrameError::TooLong { length, limit });
    }
    buffer[start..start + HEADER].copy_from_slice(&(length as u32).to_le_bytes());
    Ok(())
}

/// The payload of the frame at the start of `bytes` and the frame's whole length, or nothing if
/// the frame is not all there yet.
fn first(bytes: &[u8], limit: usize, sealed: bool) -> Result<Option<(&[u8], usize)>, FrameError> {
    let header = if sealed { SEALED_HEADER } else { HEADER };
    if bytes.len() < header {
        return Ok(None);
    }
    let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    if sealed && crc32fast::hash(&bytes[..8]) != word(8) {
        return Err(FrameError::Damaged);
    }
    let length = word(0) as usize;
    if length > limit {
        return Err(FrameError::TooLong { length, limit });
    }
    let Some(payload) = bytes[header..].get(..length) else { return Ok(None) };
    if sealed && crc32fast::hash(payload) != word(4) {
        return Err(FrameError::Damaged);
    }
    Ok(Some((payload, header + length)))
}

/// Reads frames from a stream, many with one system call where they come fast.
#[derive(Debug)]
pub struct Reader<S> {
    stream: S,
    buffer: Vec<u8>,
    /// Where the first frame not yet handed out starts in `buffer`.
    start: usize,
    limit: usize,
    sealed: bool,
}

impl<S> Reader<S> {
    /// Reads frames of at most `limit` bytes from `stream`.
    pub(crate) fn new(stream: S, limit: usize) -> Self {
        Reader { stream, buffer: Vec::new(), start: 0, limit, sealed: false }
    }

    /// Reads sealed frames of at most `limit` bytes from `stream`.
    pub(crate) fn sealed(stream: S, limit: usize) -> Self {
        Reader { sealed: true, ..Reader::new(stream, limit) }
    }

    /// The next frame, if it has been received already.
    pub fn buffered<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let Some((payload, length)) = first(&self.buffer[self.start..], self.limit, self.sealed)? else {
            return Ok(None);
        };
        let value = postcard::from_bytes(payload)?;
        self.start += length;
        Ok(Some(value))
    }

    /// Makes room for more: what has been handed out goes, and so does the memory of a rare huge
    /// frame.
    fn make_room(&mut self) {
        self.buffer.drain(..self.start);
        self.start = 0;
        if self.buffer.is_empty() && self.buffer.capacity() > 16 * CHUNK {
            self.buffer = Vec::new();
        }
        if self.buffer.capacity() - self.buffer.len() < CHUNK / 4 {
            self.buffer.reserve(CHUNK);
        }
    }
}

impl<S: AsyncRead + Unpin> Reader<S> {
    /// The next frame, or nothing at the orderly end of the stream. Cancel-safe: a frame partly
    /// received stays in the reader.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        loop {
            if let Some(value) = self.buffered()? {
                return Ok(Some(value));
            }
            self.make_room();
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(FrameError::Cut) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
    }

    #[test]
    fn frames_come_back_whatever_the_pieces() {
        let words: Vec<String> = (0..200).map(|i| "x".repeat(i * 7)).collect();
        let mut bytes = Vec::new();
        for word in &words {
            push(word, 1 << 20, &mut bytes).unwrap();
        }
        for piece in [1, 3, 1000, bytes.len()] {
            let found = block_on(async {
                let (mut near, far) = tokio::io::duplex(piece);
                let writing = async {
                    tokio::io::AsyncWriteExt::write_all(&mut near, &bytes).await.unwrap();
                    drop(near);
                };
                let reading = async {
                    let mut reader = Reader::new(far, 1 << 20);
                    let mut found: Vec<String> = Vec::new();
                    while let Some(word) = reader.next().await.unwrap() {
                        found.push(word);
                    }
                    found
                };
                tokio::join!(writing, reading).1
            });
            assert_eq!(found, words, "in pieces of {piece}");
        }
    }

    /// Whichever bit is flipped, what is read is what was sent, up to an error or a wait for more.
    #[test]
    fn damage_is_never_taken_for_a_message() {
        let words = ["one", "two", "", "a longer one"];
        let mut bytes = Vec::new();
        words.iter().for_each(|word| push_sealed(word, 1 << 10, &mut bytes).unwrap());
        let read = |bytes: &[u8]| {
            let mut reader = Reader::sealed(bytes, 1 << 10);
            let mut found: Vec<String> = Vec::new();
            let error = loop {
                match block_on(reader.next()) {
                    Ok(Some(word)) => found.push(word),
                    Ok(None) => break None,
                    Err(error) => break Some(error),
                }
            };
            (found, error)
        };
        let (found, error) = read(&bytes);
        assert!(found == words && error.is_none(), "{found:?}, {error:?}");
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let (found, error) = read(&damaged);
            assert!(
                found.len() < words.len() && words.starts_with(&found.iter().map(String::as_str).collect::<Vec<_>>())
            );
            assert!(matches!(error, Some(FrameError::Damaged)), "bit {bit}: {error:?}");
        }
    }

    #[test]
    fn bad_frames_are_refused() {
        let long = block_on(Reader::new(&[0xff_u8, 0xff, 0xff, 0x7f, 0][..], 100).next::<String>());
        assert!(matches!(long, Err(FrameError::TooLong { length: 0x7fff_ffff, limit: 100 })), "{long:?}");
        let cut = block_on(Reader::new(&[5_u8, 0, 0, 0, 1][..], 100).next::<String>());
        assert!(matches!(cut, Err(FrameError::Cut)), "{cut:?}");
        let rubbish = block_on(Reader::new(&[2_u8, 0, 0, 0, 9, 9][..], 100).next::<String>());
        assert!(matches!(rubbish, Err(FrameError::Malformed(_))), "{rubbish:?}");
        let mut buffer = b"before".to_vec();
        assert!(push(&"y".repeat(101), 100, &mut buffer).is_err());
        assert_eq!(buffer, b"before");
    }
}

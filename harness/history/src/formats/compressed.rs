//! Histories that were compressed: gzip and zstd, by their first bytes.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// Text up to this size is taken however well it was compressed, in bytes.
const ALWAYS: u64 = 64 << 20;

/// Beyond it, text may be this many times as long as its compressed form. Histories of millions of
/// operations shrink to a tenth or a thirtieth; a thousand means that somebody means harm.
const MAX_RATIO: u64 = 200;

/// How a text is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    Gzip,
    Zstd,
}

fn recognize(magic: &[u8]) -> Option<Compression> {
    match magic {
        [0x1f, 0x8b, ..] => Some(Compression::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd] => Some(Compression::Zstd),
        // A frame to be skipped, which may come first.
        [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Some(Compression::Zstd),
        _ => None,
    }
}

/// The text of a file or pipe, whether it is compressed or not.
pub(super) fn open<'r>(mut from: impl Read + 'r) -> io::Result<Box<dyn Read + 'r>> {
    let mut magic = Vec::with_capacity(4);
    (&mut from).take(4).read_to_end(&mut magic)?;
    let compression = recognize(&magic);
    let whole = Cursor::new(magic).chain(from);
    let Some(compression) = compression else { return Ok(Box::new(whole)) };
    let compressed = Rc::new(Cell::new(0));
    let counted = BufReader::with_capacity(64 << 10, Counted { inner: whole, count: compressed.clone() });
    let text: Box<dyn Read + 'r> = match compression {
        Compression::Gzip => Box::new(MultiGzDecoder::new(counted)),
        Compression::Zstd => Box::new(Frames::new(counted)),
    };
    Ok(Box::new(Guarded { text, length: 0, compressed }))
}

/// Counts what is read.
struct Counted<R> {
    inner: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.count.set(self.count.get() + read as u64);
        Ok(read)
    }
}

/// Refuses text that is out of all proportion to its compressed form.
struct Guarded<'r> {
    text: Box<dyn Read + 'r>,
    length: u64,
    compressed: Rc<Cell<u64>>,
}

impl Read for Guarded<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.text.read(into)?;
        self.length += read as u64;
        if self.length > ALWAYS.max(self.compressed.get().saturating_mul(MAX_RATIO)) {
            return Err(io::Error::other(format!(
                "the text is more than {MAX_RATIO} times as long as its compressed form; decompress it first if \
                 that is right"
            )));
        }
        Ok(read)
    }
}

/// The frames of a zstd file, one after the other.
struct Frames<R> {
    reader: R,
    decoder: FrameDecoder,
    /// A frame has begun and has not been given out whole.
    within: bool,
}

impl<R: BufRead> Frames<R> {
    fn new(reader: R) -> Frames<R> {
        Frames { reader, decoder: FrameDecoder::new(), within: false }
    }

    /// Begins the next frame, or passes over one that is to be skipped; `false` at the end.
    fn next(&mut self) -> io::Result<bool> {
        if self.reader.fill_buf()?.is_empty() {
            return Ok(false);
        }
        match self.decoder.reset(&mut self.reader) {
            Ok(()) => self.within = true,
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                io::copy(&mut (&mut self.reader).take(u64::from(length)), &mut io::sink())?;
            }
            Err(error) => return Err(corrupt(error)),
        }
        Ok(true)
    }
}

fn corrupt(error: FrameDecoderError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("this is no zstd: {error}"))
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while !into.is_empty() {
            if !self.within {
                if !self.next()? {
                    return Ok(0);
                }
                continue;
            }
            if self.decoder.can_collect() > 0 {
                return self.decoder.read(into);
            }
            if !self.decoder.is_finished() {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                self.decoder.decode_blocks(&mut self.reader, one).map_err(corrupt)?;
                continue;
            }
            self.within = false;
            let (stored, found) = (self.decoder.get_checksum_from_data(), self.decoder.get_calculated_checksum());
            if stored.is_some() && stored != found {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "this zstd's checksum is wrong"));
            }
        }
        Ok(0)
    }
}

//! The text of a history as a window that moves over it: what has been read is let go, so that a
//! history may be longer than what fits into memory. Knows lines and columns, no format.

use std::io::Read;

use super::{Fault, Place, ReadError};

/// How much is read at a time, in bytes.
const CHUNK: usize = 256 << 10;

/// No single entry, line or comment may be longer, in bytes.
pub const MAX_ENTRY: usize = 64 << 20;

/// How near to the window's end an entry's error must be for more text to change it, in bytes: an
/// escape or a character that was cut.
const LOOKAHEAD: usize = 16;

pub(super) struct Source<R> {
    reader: R,
    /// Text that is in memory.
    window: String,
    /// The beginning of a character whose rest is not read yet.
    cut: Vec<u8>,
    /// How much of the window has been taken.
    taken: usize,
    /// The place of the byte `marked` of the window.
    place: Place,
    marked: usize,
    /// The reader has no more.
    ended: bool,
    /// Bytes read, and how many there may be.
    length: u64,
    limit: u64,
}

impl<R: Read> Source<R> {
    pub(super) fn new(reader: R, limit: u64) -> Result<Source<R>, ReadError> {
        let mut source = Source {
            reader,
            window: String::new(),
            cut: Vec::new(),
            taken: 0,
            place: Place { line: 1, column: 1 },
            marked: 0,
            ended: false,
            length: 0,
            limit,
        };
        source.more()?;
        if source.window.starts_with('\u{feff}') {
            // Not counted as a column.
            source.window.drain(..'\u{feff}'.len_utf8());
        }
        Ok(source)
    }

    /// The text in memory. What was taken is at its beginning, up to [`Source::taken`].
    pub(super) fn window(&self) -> &str {
        &self.window
    }

    /// Where the text that was not taken yet begins in the window.
    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    /// Takes the window up to byte `to`.
    pub(super) fn take(&mut self, to: usize) {
        self.taken = to;
    }

    /// Whether the window ends where the history does.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// Lets go of what was taken and reads more; nothing happens at the end.
    pub(super) fn more(&mut self) -> Result<(), ReadError> {
        self.mark(self.taken);
        self.window.drain(..self.taken);
        (self.taken, self.marked) = (0, 0);
        if self.window.len() > MAX_ENTRY {
            return Err(self.place.error(format!("what begins here is longer than {} MiB", MAX_ENTRY >> 20)));
        }
        // At least doubled, so that a long entry is not looked at too often.
        let wanted = CHUNK.max(self.window.len());
        let mut chunk = std::mem::take(&mut self.cut);
        let before = chunk.len();
        let read = (&mut self.reader).take(wanted as u64).read_to_end(&mut chunk);
        self.length += (chunk.len() - before) as u64;
        // What was read before the failure may already be wrong, and then that is the better error.
        self.append(chunk, read.is_ok())?;
        match read {
            Ok(read) => self.ended = read < wanted,
            Err(error) => return Err(self.end().error(format!("can't read on: {error}"))),
        }
        if self.ended && !self.cut.is_empty() {
            return Err(self.end().error(format!("byte 0x{:02x} is not UTF-8", self.cut[0])));
        }
        Ok(())
    }

    fn append(&mut self, mut chunk: Vec<u8>, limited: bool) -> Result<(), ReadError> {
        let (valid, bad) = match std::str::from_utf8(&chunk) {
            Ok(_) => (chunk.len(), false),
            Err(error) => (error.valid_up_to(), error.error_len().is_some()),
        };
        let rest = chunk.split_off(valid);
        // Checked above: this is the part that is UTF-8.
        self.window.push_str(std::str::from_utf8(&chunk).unwrap_or_default());
        if bad {
            return Err(self.end().error(format!("byte 0x{:02x} is not UTF-8", rest[0])));
        }
        self.cut = rest;
        if limited && self.length > self.limit {
            return Err(self.place.error(format!("the history is longer than {} bytes", self.limit)));
        }
        Ok(())
    }

    /// Counts lines and columns up to a byte of the window.
    fn mark(&mut self, to: usize) {
        if to > self.marked {
            self.place = self.place.after(&self.window.as_bytes()[self.marked..to]);
            self.marked = to;
        }
    }

    /// The place of a byte of the window; to be asked in ascending order.
    pub(super) fn place(&mut self, at: usize) -> Place {
        self.mark(at);
        self.place
    }

    /// The place where the text in memory ends.
    pub(super) fn end(&mut self) -> Place {
        self.place(self.window.len())
    }

    /// An error at a byte of the window, with its line and column.
    pub(super) fn locate(&mut self, fault: Fault) -> ReadError {
        let at = fault.at.min(self.window.len());
        self.place(at).error(fault.message)
    }

    /// After a failure at which the reader stood at byte `stopped` of the window: whether more text
    /// may help. Then more has been read, and the entry is to be tried again.
    pub(super) fn retry(&mut self, stopped: usize) -> Result<bool, ReadError> {
        if self.ended || stopped + LOOKAHEAD < self.window.len() {
            return Ok(false);
        }
        self.more()?;
        Ok(true)
    }

    /// Takes a line: where it begins and ends in the window, without its line break. `None` at the
    /// end of the text.
    pub(super) fn line(&mut self) -> Result<Option<(usize, usize)>, ReadError> {
        let mut searched = 0;
        loop {
            let start = self.taken;
            let rest = &self.window.as_bytes()[start..];
            match rest[searched..].iter().position(|b| *b == b'\n') {
                Some(found) => {
                    let end = start + searched + found;
                    self.taken = end + 1;
                    return Ok(Some((start, end)));
                }
                None if self.ended => {
                    let end = self.window.len();
                    self.taken = end;
                    return Ok((start < end).then_some((start, end)));
                }
                None => {
                    searched = rest.len();
                    self.more()?;
                }
            }
        }
    }
}

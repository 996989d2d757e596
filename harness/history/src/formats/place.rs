//! Where in a text something is, and what is wrong there.

use thiserror::Error;

/// A place in a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// From one.
    pub(super) line: usize,
    /// In characters, from one.
    pub(super) column: usize,
}

impl Place {
    /// The place behind `text`, which begins here.
    pub(super) fn after(self, text: &[u8]) -> Place {
        let newlines = count(text, |byte| byte == b'\n');
        if newlines == 0 {
            return Place { line: self.line, column: self.column + characters(text) };
        }
        let line_start = text.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        Place { line: self.line + newlines, column: characters(&text[line_start..]) + 1 }
    }

    pub(super) fn error(self, message: impl Into<String>) -> ReadError {
        ReadError { line: self.line, column: self.column, message: message.into() }
    }
}

/// Everything but UTF-8's continuation bytes.
fn characters(text: &[u8]) -> usize {
    count(text, |byte| (byte & 0xc0) != 0x80)
}

/// Counts bytes, many at a time: sums that fit into a byte are what processors add in one step.
fn count(text: &[u8], counts: impl Fn(u8) -> bool) -> usize {
    let part = |part: &[u8]| usize::from(part.iter().fold(0u8, |sum, byte| sum + u8::from(counts(*byte))));
    text.chunks(usize::from(u8::MAX)).map(part).sum()
}

/// Why a text is no history. Line and column count from one, the column in characters; both are
/// zero if nothing could be read at all.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}, column {column}: {message}")]
pub struct ReadError {
    /// The line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
    /// What is wrong there.
    pub message: String,
}

/// An error at a byte of the text that is in memory, before lines were counted.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) message: String,
}

impl Fault {
    pub(super) fn new(at: usize, message: impl Into<String>) -> Fault {
        Fault { at, message: message.into() }
    }
}

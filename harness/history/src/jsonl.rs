//! The stored form: one event per line, as JSON.

use std::io::{self, BufRead, Write};

use thiserror::Error;

use crate::{Event, EventKind, Header};

/// No line may be longer than this.
pub const MAX_LINE: usize = 16 << 20;

/// Why a history can't be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The file can't be read.
    #[error("can't read the history: {0}")]
    Io(#[from] io::Error),
    /// A line is not an event.
    #[error("line {line}, column {column}: {reason}")]
    Line {
        /// From one.
        line: usize,
        /// From one.
        column: usize,
        /// What is wrong.
        reason: String,
    },
    /// A newer program wrote it.
    #[error("the history has format version {found}; this program reads up to {}", Header::VERSION)]
    Version {
        /// The version in the header.
        found: u32,
    },
}

/// A history, and whether its last line was cut off by a crash.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// The events of all complete lines.
    pub events: Vec<Event>,
    /// An incomplete last line was left out.
    pub truncated: bool,
}

/// Writes one event as one line.
pub fn write(event: &Event, to: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut *to, event)?;
    to.write_all(b"\n")
}

/// Reads a history to its last complete line. Blank lines are passed over.
pub fn read(mut from: impl BufRead) -> Result<Stored, ReadError> {
    let mut events = Vec::new();
    let mut buffer = Vec::new();
    let mut line = 0;
    loop {
        buffer.clear();
        line += 1;
        let limit = MAX_LINE as u64 + 1;
        let length = io::Read::take(&mut from, limit).read_until(b'\n', &mut buffer)?;
        if length == 0 {
            return Ok(Stored { events, truncated: false });
        }
        if length > MAX_LINE {
            return Err(ReadError::Line { line, column: MAX_LINE, reason: "the line is too long".into() });
        }
        if buffer.last() != Some(&b'\n') {
            return Ok(Stored { events, truncated: true });
        }
        if buffer.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let event: Event = serde_json::from_slice(&buffer).map_err(|e| ReadError::Line {
            line,
            column: e.column().max(1),
            reason: message(&e),
        })?;
        if let EventKind::Header(header) = &event.kind
            && header.version > Header::VERSION
        {
            return Err(ReadError::Version { found: header.version });
        }
        events.push(event);
    }
}

/// The error without its position, which we give in our own words.
pub(crate) fn message(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_string(),
        None => text,
    }
}

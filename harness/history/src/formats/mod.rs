//! Histories that people already have: Jepsen's EDN and text logs, Porcupine's key-value text.
//!
//! [`read`] takes the whole text and gives [`Imported`]: operations with invocation and completion
//! put together, their values kept as [`Edn`], so that any model can be checked against them.
//! [`Imported::events`] turns those that fit [`crate::Op`] into events of our own.
//!
//! Input is hostile until proven otherwise: nesting, digits and size are limited, and whatever is
//! wrong is refused with its line and column. This module knows nothing of checkers.
//!
//! Formats differ in two conventions, and the words are the same in both:
//!
//! | | a read of `nil` | a failed operation |
//! |---|---|---|
//! | Jepsen text log (as Porcupine's tests read it) | the register is unset | a failed cas saw another value than `from` |
//! | EDN (Knossos) | tells nothing | tells nothing |
//! | Porcupine's KV text | the key is unset (`""` is) | tells nothing |
//!
//! [`Options`] overrides either.

mod convert;
mod edn;
mod log;
mod number;
mod op_map;
mod operation;
mod pairing;
mod parser;

use std::io::Read;

use thiserror::Error;

pub use convert::Converted;
pub use edn::Edn;
pub use operation::{Function, Imported, ImportedOperation, Known, Moment, NemesisEntry};
pub use parser::{MAX_DEPTH, MAX_DIGITS};

/// A way of writing a history down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// Our own, one JSON object per line: read by [`crate::jsonl`], not by this module.
    JsonLines,
    /// Operation maps in EDN, one after the other or in one vector or list. Jepsen, Knossos,
    /// Maelstrom and elle-cli write it.
    Edn,
    /// Jepsen's log: `INFO  jepsen.util - 4<TAB>:invoke<TAB>:cas<TAB>[2 4]`.
    JepsenLog,
    /// Porcupine's key-value text: EDN maps with `:key`, and `get`, `put` and `append`.
    Porcupine,
}

/// What a successful read of `nil` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NilRead {
    /// The register had no value.
    Unset,
    /// Nothing: what was read is not known.
    Unknown,
}

/// What a failed operation tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failed {
    /// Only that it had no effect.
    Drop,
    /// A failed cas that gives no error also says that the register did not hold its `from`.
    Assert,
}

/// Whether values are Jepsen's `independent` tuples `[key value]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Keys {
    /// They are if every invocation carries one: two elements, and of a cas `[key [from to]]`.
    #[default]
    Auto,
    /// They are not.
    Single,
    /// They are; anything else is an error.
    Independent,
}

/// How to read a history. `None` leaves the choice to the text (format) or the format (the rest).
#[derive(Clone, Debug)]
pub struct Options {
    /// The format; [`detect`] decides if it is `None`.
    pub format: Option<Format>,
    /// What a read of `nil` tells.
    pub nil_read: Option<NilRead>,
    /// What a failure tells.
    pub failed: Option<Failed>,
    /// Whether values carry a key.
    pub keys: Keys,
    /// The largest text taken, in bytes.
    pub max_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options { format: None, nil_read: None, failed: None, keys: Keys::Auto, max_bytes: 4 << 30 }
    }
}

/// What the two ambiguous cases mean in one history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conventions {
    /// What a read of `nil` tells.
    pub nil_read: NilRead,
    /// What a failure tells.
    pub failed: Failed,
}

impl Conventions {
    /// What holds in a format unless the reader is told otherwise.
    pub fn of(format: Format) -> Conventions {
        match format {
            Format::JepsenLog => Conventions { nil_read: NilRead::Unset, failed: Failed::Assert },
            Format::Porcupine | Format::JsonLines => Conventions { nil_read: NilRead::Unset, failed: Failed::Drop },
            Format::Edn => Conventions { nil_read: NilRead::Unknown, failed: Failed::Drop },
        }
    }
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

/// An error at a byte of the text, before lines were counted.
#[derive(Debug)]
struct Fault {
    at: usize,
    message: String,
}

impl Fault {
    fn new(at: usize, message: impl Into<String>) -> Fault {
        Fault { at, message: message.into() }
    }

    fn locate(self, bytes: &[u8]) -> ReadError {
        let before = &bytes[..self.at.min(bytes.len())];
        let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |p| p + 1);
        // Characters, not bytes: everything but UTF-8's continuation bytes.
        let column = before[line_start..].iter().filter(|b| (**b & 0xc0) != 0x80).count() + 1;
        ReadError { line: newlines(before) + 1, column, message: self.message }
    }
}

fn newlines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|b| **b == b'\n').count()
}

/// How much of a text's beginning [`detect`] looks at, in bytes.
const DETECT_WINDOW: usize = 64 << 10;

/// The format of a text, by its beginning. It always answers; reading may then fail.
pub fn detect(bytes: &[u8]) -> Format {
    let window = &bytes[..bytes.len().min(DETECT_WINDOW)];
    let mut rest = window.strip_prefix(BOM).unwrap_or(window);
    loop {
        rest = rest.trim_ascii_start();
        match rest.first() {
            Some(b',') => rest = &rest[1..],
            Some(b';') => {
                let end = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
                rest = &rest[end..];
            }
            _ => break,
        }
    }
    match rest.first() {
        Some(b'{') if rest[1..].trim_ascii_start().first() == Some(&b'"') => Format::JsonLines,
        Some(b'{' | b'[' | b'(' | b'#') => {
            let end = rest.iter().position(|b| *b == b'}').unwrap_or(rest.len());
            let first = &rest[..end];
            let keyed = contains(first, b":key ");
            let function = [&b":f :get"[..], b":f :put", b":f :append"].iter().any(|f| contains(first, f));
            if keyed && function { Format::Porcupine } else { Format::Edn }
        }
        _ if contains(rest, log::MARK.as_bytes()) => Format::JepsenLog,
        _ => Format::Edn,
    }
}

const BOM: &[u8] = b"\xef\xbb\xbf";

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|w| w == part)
}

/// Reads a history. A history without a single operation is an error: nothing can be said of it.
pub fn read(bytes: &[u8], options: &Options) -> Result<Imported, ReadError> {
    if bytes.len() as u64 > options.max_bytes {
        return Err(too_long(options));
    }
    read_text(bytes, options).map_err(|fault| fault.locate(bytes))
}

/// Reads a history from a file or pipe. The text is held in memory while it is parsed.
pub fn read_from(from: impl Read, options: &Options) -> Result<Imported, ReadError> {
    let mut bytes = Vec::new();
    from.take(options.max_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| ReadError {
        line: 0,
        column: 0,
        message: format!("can't read the history: {error}"),
    })?;
    read(&bytes, options)
}

fn too_long(options: &Options) -> ReadError {
    ReadError { line: 0, column: 0, message: format!("the history is longer than {} bytes", options.max_bytes) }
}

fn read_text(bytes: &[u8], options: &Options) -> Result<Imported, Fault> {
    let text = std::str::from_utf8(bytes)
        .map_err(|e| Fault::new(e.valid_up_to(), format!("byte 0x{:02x} is not UTF-8", bytes[e.valid_up_to()])))?;
    let start = if bytes.starts_with(BOM) { BOM.len() } else { 0 };
    let format = options.format.unwrap_or_else(|| detect(bytes));
    let mut pairing = pairing::Pairing::new(text);
    match format {
        Format::JsonLines => {
            return Err(Fault::new(start, "this is a history in Duress's own JSON lines, not one to import"));
        }
        Format::Edn | Format::Porcupine => op_map::read(text, start, &mut pairing)?,
        Format::JepsenLog => log::read(text, start, &mut pairing)?,
    }
    let default = Conventions::of(format);
    let conventions = Conventions {
        nil_read: options.nil_read.unwrap_or(default.nil_read),
        failed: options.failed.unwrap_or(default.failed),
    };
    pairing.finish(format, conventions, options.keys)
}

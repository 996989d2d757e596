//! Histories that people already have: Jepsen's EDN and text logs, operation maps in JSON,
//! Porcupine's key-value text, and our own.
//!
//! [`read_from`] reads them, compressed or not, and gives [`Imported`]: operations with invocation
//! and completion put together, their values kept as [`Value`], so that any model can be checked
//! against them. [`write`] writes them in any format and counts what that can't say.
//! [`Imported::events`] turns those that fit [`crate::Op`] into events of our own.
//!
//! Input is hostile until proven otherwise: nesting, digits and sizes are limited, and whatever is
//! wrong is refused with its line and column. Text is read through a window and not kept; only the
//! operations are held in memory. This module knows nothing of checkers.
//!
//! Formats differ in two conventions, and the words are the same in both:
//!
//! | | a read of `nil` | a failed operation |
//! |---|---|---|
//! | Jepsen text log (as Porcupine's tests read it) | the register is unset | a failed cas saw another value than `from` |
//! | EDN, JSON and `history.txt` (Knossos) | tells nothing | tells nothing |
//! | Porcupine's KV text | the key is unset (`""` is) | tells nothing |
//! | our own | the register is unset | tells nothing |
//!
//! [`Options`] overrides either.

mod compressed;
mod convert;
mod detect;
pub(crate) mod json;
mod log;
mod number;
mod op_map;
mod operation;
mod own;
mod pairing;
pub(crate) mod parser;
mod place;
mod source;
mod write;

use std::io::Read;

use self::place::{Fault, Place};
use self::source::Source;

pub use convert::Converted;
pub use detect::detect;

pub use operation::{Imported, NemesisEntry};

pub use crate::{Conventions, Failed, Function, Known, Moment, NilRead, Operation, Value};
pub use parser::{MAX_DEPTH, MAX_DIGITS};
pub use place::ReadError;
pub use source::MAX_ENTRY;
pub use write::{Loss, losses, write};

/// A way of writing a history down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// Our own, one JSON object per line: the events of [`crate::jsonl`].
    JsonLines,
    /// Operation maps in JSON, one after the other or in one array. elle-cli's users have it; ours
    /// for operations of any model.
    Json,
    /// Operation maps in EDN, one after the other or in one vector or list. Jepsen, Knossos,
    /// Maelstrom and elle-cli write it.
    Edn,
    /// Jepsen's log: `INFO  jepsen.util - 4<TAB>:invoke<TAB>:cas<TAB>[2 4]`.
    JepsenLog,
    /// Jepsen's `history.txt`: the same columns, without the log's prefix.
    HistoryText,
    /// Porcupine's key-value text: EDN maps with `:key`, and `get`, `put` and `append`.
    Porcupine,
}

impl Format {
    /// Every format.
    pub const ALL: [Format; 6] =
        [Format::JsonLines, Format::Json, Format::Edn, Format::JepsenLog, Format::HistoryText, Format::Porcupine];

    /// Its short stable name.
    pub fn name(self) -> &'static str {
        match self {
            Format::JsonLines => "jsonl",
            Format::Json => "json",
            Format::Edn => "edn",
            Format::JepsenLog => "jepsen-log",
            Format::HistoryText => "history-text",
            Format::Porcupine => "porcupine",
        }
    }

    /// The format of a name.
    pub fn named(name: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.name() == name)
    }

    /// What it is, in a line.
    pub fn about(self) -> &'static str {
        match self {
            Format::JsonLines => "Duress's own events, one JSON object per line (a run's history.jsonl)",
            Format::Json => "operation maps in JSON, one after the other or in an array, as elle-cli reads them",
            Format::Edn => "operation maps in EDN, as Jepsen, Maelstrom, Knossos and elle-cli write them",
            Format::JepsenLog => "Jepsen's log (jepsen.log), other lines passed over",
            Format::HistoryText => "Jepsen's and Maelstrom's history.txt: process, type, f, value, error",
            Format::Porcupine => "Porcupine's key-value text: EDN maps with :key, and get, put, append",
        }
    }
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
    /// The longest text taken, decompressed, in bytes.
    pub max_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options { format: None, nil_read: None, failed: None, keys: Keys::Auto, max_bytes: 4 << 30 }
    }
}

impl Conventions {
    /// What holds in a format unless the reader is told otherwise.
    pub fn of(format: Format) -> Conventions {
        match format {
            Format::JepsenLog => Conventions { nil_read: NilRead::Unset, failed: Failed::Assert },
            Format::Porcupine | Format::JsonLines => Conventions::OWN,
            Format::Edn | Format::Json | Format::HistoryText => {
                Conventions { nil_read: NilRead::Unknown, failed: Failed::Drop }
            }
        }
    }
}

/// Reads a history. A history without a single operation is an error: nothing can be said of it.
pub fn read(bytes: &[u8], options: &Options) -> Result<Imported, ReadError> {
    read_from(bytes, options)
}

/// Reads a history from a file or pipe; gzip and zstd are recognized by their first bytes. Linear
/// in its length; the text itself is not kept.
pub fn read_from(from: impl Read, options: &Options) -> Result<Imported, ReadError> {
    let unreadable = |error| ReadError { line: 0, column: 0, message: format!("can't read the history: {error}") };
    let text = compressed::open(from).map_err(unreadable)?;
    let mut source = Source::new(text, options.max_bytes)?;
    let format = options.format.unwrap_or_else(|| detect(source.window().as_bytes()));
    let mut pairing = pairing::Pairing::default();
    match format {
        Format::JsonLines => own::read(&mut source, &mut pairing)?,
        Format::Json => op_map::read(&mut source, op_map::Syntax::Json, &mut pairing)?,
        Format::Edn | Format::Porcupine => op_map::read(&mut source, op_map::Syntax::Edn, &mut pairing)?,
        Format::JepsenLog => log::read(&mut source, log::Columns::Marked, &mut pairing)?,
        Format::HistoryText => log::read(&mut source, log::Columns::Bare, &mut pairing)?,
    }
    let default = Conventions::of(format);
    let conventions = Conventions {
        nil_read: options.nil_read.unwrap_or(default.nil_read),
        failed: options.failed.unwrap_or(default.failed),
    };
    // Our own say what their key is.
    let keys = if format == Format::JsonLines { Keys::Single } else { options.keys };
    pairing.finish(source.end(), format, conventions, keys)
}

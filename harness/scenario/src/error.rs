//! What is wrong with a scenario, where, and what to do about it.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

/// What is wrong with a scenario.
///
/// Its text names the file, the line and the column (or the option of the command line that it
/// came from), says what is wrong and what would be right, and shows the line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct Error {
    /// The file, or the option of the command line.
    pub file: String,
    /// The line, from one; zero if the value came from the command line.
    pub line: usize,
    /// The column in characters, from one; zero if the value came from the command line.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub suggestion: Option<String>,
    /// The line, and what to underline in it.
    source_line: Option<Box<SourceLine>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct SourceLine {
    text: String,
    /// Characters ahead of the underlined ones.
    before: usize,
    underlined: usize,
}

/// No more characters of a line are shown than this.
const SHOWN: usize = 120;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}", self.message)?;
        if let Some(suggestion) = &self.suggestion {
            write!(f, "; {suggestion}")?;
        }
        if let Some(line) = &self.source_line {
            let SourceLine { text, before, underlined } = &**line;
            let number = self.line.to_string();
            let margin = " ".repeat(number.len());
            write!(f, "\n {margin} |\n {number} | {text}\n {margin} | ")?;
            write!(f, "{}{}", " ".repeat(*before), "^".repeat(*underlined))?;
        }
        Ok(())
    }
}

/// Where a value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the file.
    Text {
        /// From one.
        line: usize,
        /// In characters, from one.
        column: usize,
        /// In characters, on that line.
        width: usize,
    },
    /// In an option of the command line, as it was typed.
    Option(Arc<str>),
    /// Nowhere in particular: the scenario as a whole.
    Whole,
}

/// An error that doesn't know its file yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) place: Place,
    pub(crate) message: String,
    pub(crate) suggestion: Option<String>,
}

impl Problem {
    pub(crate) fn new(place: &Place, message: impl Into<String>) -> Problem {
        Problem { place: place.clone(), message: message.into(), suggestion: None }
    }

    pub(crate) fn suggest(mut self, suggestion: impl Into<String>) -> Problem {
        self.suggestion = Some(suggestion.into());
        self
    }

    /// The error, with the line of `text` that it stands on.
    pub(crate) fn locate(self, file: &str, text: &str) -> Error {
        let Problem { place, message, suggestion } = self;
        let (file, line, column, source_line) = match place {
            Place::Text { line, column, width } => {
                let (line, column) = within(text, line, column);
                (file.to_string(), line, column, source_line(text, line, column, width))
            }
            Place::Option(option) => (option.to_string(), 0, 0, None),
            Place::Whole => (file.to_string(), 0, 0, None),
        };
        Error { file, line, column, message, suggestion, source_line: source_line.map(Box::new) }
    }
}

/// What is missing at the end of a text is missed behind its last line, not after it.
fn within(text: &str, line: usize, column: usize) -> (usize, usize) {
    match text.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()).last() {
        Some((last, text)) if line > last + 1 => (last + 1, text.trim_end().chars().count() + 1),
        _ => (line, column),
    }
}

/// A part of a line around a column.
fn source_line(text: &str, line: usize, column: usize, width: usize) -> Option<SourceLine> {
    let full = text.lines().nth(line.checked_sub(1)?)?;
    let at = column.saturating_sub(1);
    let start = if at < SHOWN * 3 / 4 { 0 } else { at - SHOWN / 2 };
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let shown: String = full.chars().skip(start).take(SHOWN).map(plain).collect();
    let shown = shown.trim_end();
    let length = shown.chars().count();
    let before = (at - start).min(length);
    let underlined = width.clamp(1, (length - before).max(1));
    Some(SourceLine { text: shown.to_string(), before, underlined })
}

/// A text from outside, cut short and without control characters, to be shown in a message.
pub(crate) fn shown(text: &str) -> String {
    const LONGEST: usize = 40;
    let mut shown: String =
        text.chars().take(LONGEST).map(|c| if c.is_control() || c == '`' { ' ' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

/// Of the names that could have been meant, the one most like `name`, if it is like it at all.
pub(crate) fn closest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    const LONGEST: usize = 64;
    if name.chars().nth(LONGEST).is_some() {
        return None;
    }
    let plain = |name: &str| name.to_lowercase().replace(['-', ' '], "_");
    let name = plain(name);
    let distance = |other: &str| strsim::damerau_levenshtein(&name, &plain(other));
    let nearest = known.iter().copied().min_by_key(|other| distance(other))?;
    let allowed = (name.chars().count().max(nearest.chars().count()) / 3).max(1);
    let starts = name.len() >= 3 && plain(nearest).starts_with(&name);
    (distance(nearest) <= allowed || starts).then_some(nearest)
}

/// So many names can be read at a glance.
const AT_A_GLANCE: usize = 16;

/// "did you mean `x`? (keys: …)"; a long list is left out if something is meant.
pub(crate) fn did_you_mean(name: &str, known: &[&str], what: &str) -> String {
    let list = format!("{what}: {}", known.join(", "));
    match closest(name, known) {
        Some(nearest) if known.len() > AT_A_GLANCE => format!("did you mean `{nearest}`?"),
        Some(nearest) => format!("did you mean `{nearest}`? ({list})"),
        None => list,
    }
}

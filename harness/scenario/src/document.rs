//! A YAML document in which every value knows where it stands, and what is set on top of it from
//! the command line.
//!
//! Only the part of YAML that a scenario needs is let through: one document of maps, lists and
//! scalars, without anchors, aliases and tags. Size, depth and number of values are bounded while
//! reading, so no file can keep us busy or exhaust memory.

use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use crate::error::{Place, Problem, shown};

/// No scenario file may be longer, in bytes.
pub(crate) const MAX_BYTES: usize = 1 << 20;
/// Maps and lists may not be nested deeper.
pub(crate) const MAX_DEPTH: usize = 64;
/// A document may not have more values.
const MAX_VALUES: usize = 20_000;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Located {
    pub(crate) place: Place,
    pub(crate) value: Value,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// Numbers, texts and the like. What they mean depends on what is wanted of them.
    Scalar {
        text: String,
        /// Without quotation marks.
        plain: bool,
    },
    List(Vec<Located>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) place: Place,
    pub(crate) value: Located,
}

impl Located {
    /// Nothing was written: `key:` or `null`.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null"))
    }

    /// The value in words, for messages.
    pub(crate) fn words(&self) -> String {
        match &self.value {
            _ if self.is_null() => "nothing".into(),
            Value::Scalar { text, plain: true } => format!("`{}`", shown(text)),
            Value::Scalar { text, plain: false } => format!("the text \"{}\"", shown(text)),
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a map".into(),
        }
    }

    fn empty_map(place: Place) -> Located {
        Located { place, value: Value::Map(Vec::new()) }
    }
}

/// A list or map that is being read.
struct Open {
    place: Place,
    kind: Kind,
}

enum Kind {
    List(Vec<Located>),
    Map { entries: Vec<Entry>, key: Option<(String, Place)> },
}

/// Reads a document. Values stand where they stand in the text, or all in `option`.
pub(crate) fn parse(text: &str, option: Option<&Arc<str>>) -> Result<Located, Problem> {
    let place_of = |span: Span| match option {
        Some(option) => Place::Option(option.clone()),
        None => place(span),
    };
    if text.len() > MAX_BYTES {
        let size = text.len();
        let whole = option.map_or(Place::Whole, |option| Place::Option(option.clone()));
        return Err(Problem::new(&whole, format!("the scenario has {size} bytes; at most {MAX_BYTES} are allowed")));
    }
    let mut parser = Parser::new_from_str(text);
    let mut open: Vec<Open> = Vec::new();
    let mut root: Option<Located> = None;
    let mut values = 0;
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| {
            let (message, suggestion) = explain(error.info());
            Problem::new(&place_of(Span::empty(*error.marker())), message).suggest(suggestion)
        })?;
        let place = place_of(span);
        let refuse = |what: &str| Problem::new(&place, format!("{what} can't be used in a scenario"));
        values += 1;
        if values > MAX_VALUES {
            return Err(Problem::new(&place, format!("the scenario has more than {MAX_VALUES} values")));
        }
        let done = match event {
            Event::DocumentStart(_) if root.is_some() => return Err(refuse("a second document")),
            Event::Alias(_) => return Err(refuse("aliases (`*name`)").suggest("write the value out")),
            Event::Scalar(_, _, anchor, _) | Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _)
                if anchor > 0 =>
            {
                return Err(refuse("anchors (`&name`)").suggest("leave the anchor out"));
            }
            Event::Scalar(_, _, _, Some(_)) | Event::SequenceStart(_, Some(_)) | Event::MappingStart(_, Some(_)) => {
                return Err(refuse("tags (`!name`)").suggest("leave the tag out"));
            }
            Event::Scalar(text, style, ..) => {
                let plain = style == ScalarStyle::Plain;
                Some(Located { place, value: Value::Scalar { text: text.into_owned(), plain } })
            }
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                if open.len() >= MAX_DEPTH {
                    return Err(Problem::new(&place, format!("lists and maps are nested deeper than {MAX_DEPTH}")));
                }
                let kind = match event {
                    Event::SequenceStart(..) => Kind::List(Vec::new()),
                    _ => Kind::Map { entries: Vec::new(), key: None },
                };
                open.push(Open { place, kind });
                None
            }
            Event::SequenceEnd | Event::MappingEnd => open.pop().map(|Open { place, kind }| {
                let value = match kind {
                    Kind::List(items) => Value::List(items),
                    Kind::Map { entries, .. } => Value::Map(entries),
                };
                Located { place, value }
            }),
            _ => None,
        };
        if let Some(value) = done {
            match open.last_mut() {
                None => root = Some(value),
                Some(parent) => add(parent, value)?,
            }
        }
    }
    let whole = option.map_or(Place::Whole, |option| Place::Option(option.clone()));
    Ok(root.unwrap_or(Located { place: whole, value: Value::Scalar { text: String::new(), plain: true } }))
}

/// What the YAML parser complains of, for people, and what to look for.
fn explain(info: &str) -> (String, &'static str) {
    let has = |part: &str| info.contains(part);
    if has("recursion limit") {
        return (
            format!("lists and maps are nested deeper than {MAX_DEPTH}"),
            "a scenario needs no more than six levels",
        );
    }
    let (message, suggestion) = if has("simple key expect") {
        ("a key without its `:`", "is the file cut off here, or the `:` missing?")
    } else if has("quoted scalar") && has("end of stream") {
        ("this text has no closing quotation mark", "is the file cut off, or the mark missing?")
    } else if has("flow mapping") || has("flow sequence") {
        ("a `,` or the closing bracket is missing", "is the file cut off, or a bracket not closed?")
    } else if has("tabs disallowed") {
        ("a tab stands where only spaces may", "indent with spaces")
    } else if has("block mapping") || has("block collection") {
        ("this line is not in line with those above", "check its indentation")
    } else {
        (info, "check the brackets, quotation marks and indentation up to here")
    };
    (format!("this is not YAML: {message}"), suggestion)
}

/// Puts a value into the list or map that it belongs to.
fn add(parent: &mut Open, value: Located) -> Result<(), Problem> {
    match &mut parent.kind {
        Kind::List(items) => items.push(value),
        Kind::Map { entries, key } => match key.take() {
            Some((key, place)) => entries.push(Entry { key, place, value }),
            None => {
                let Value::Scalar { text, .. } = value.value else {
                    return Err(Problem::new(&value.place, "a key must be a name, not a list or a map"));
                };
                if let Some(earlier) = entries.iter().find(|entry| entry.key == text) {
                    let line = match earlier.place {
                        Place::Text { line, .. } => format!(" on line {line}"),
                        _ => String::new(),
                    };
                    let message = format!("the key `{}` is given twice; it stands{line} already", shown(&text));
                    return Err(Problem::new(&value.place, message));
                }
                *key = Some((text, value.place));
            }
        },
    }
    Ok(())
}

fn place(span: Span) -> Place {
    let width = if span.start.line() == span.end.line() { span.len() } else { 1 };
    Place::Text { line: span.start.line(), column: span.start.col() + 1, width }
}

/// Sets the value at a dotted path, making maps on the way where there are none. A name where a
/// map is expected (`target: paxos`) becomes that map's `kind`. Numbers lead into lists.
pub(crate) fn set(root: &mut Located, path: &str, value: Located) -> Result<(), Problem> {
    let place = value.place.clone();
    let bad = |message: String| Problem::new(&place, message);
    if root.is_null() {
        *root = Located::empty_map(place.clone());
    }
    let mut at = root;
    let mut walked = String::new();
    let segments: Vec<&str> = path.split('.').collect();
    if segments.len() > MAX_DEPTH || segments.iter().any(|segment| segment.is_empty()) {
        return Err(bad(format!("`{}` is not a path", shown(path))).suggest("write it like target.nodes"));
    }
    for segment in segments {
        if !at.is_null()
            && let Value::Scalar { .. } = at.value
            && matches!(walked.as_str(), "target" | "workload")
        {
            let kind = Entry { key: "kind".into(), place: at.place.clone(), value: at.clone() };
            at.value = Value::Map(vec![kind]);
        } else if at.is_null() {
            *at = Located::empty_map(place.clone());
        }
        at = match &mut at.value {
            Value::Map(entries) => {
                let index = entries.iter().position(|entry| entry.key == segment).unwrap_or_else(|| {
                    let value = Located::empty_map(place.clone());
                    entries.push(Entry { key: segment.to_string(), place: place.clone(), value });
                    entries.len() - 1
                });
                &mut entries[index].value
            }
            Value::List(items) => {
                let count = items.len();
                let item = segment.parse().ok().and_then(|index: usize| items.get_mut(index));
                item.ok_or_else(|| {
                    bad(format!("`{}` has no item `{}`", walked, shown(segment)))
                        .suggest(format!("its {count} items are numbered from 0"))
                })?
            }
            Value::Scalar { .. } => {
                return Err(bad(format!("`{}` is a single value, so `{}` can't be set in it", walked, shown(path))));
            }
        };
        if !walked.is_empty() {
            walked.push('.');
        }
        walked.push_str(segment);
    }
    *at = value;
    Ok(())
}

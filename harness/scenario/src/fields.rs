//! Typed reading of a document, with errors that name the path, the place and what would be right.

use std::ops::RangeInclusive;
use std::time::Duration;

use duress_plug::duration;

use crate::document::{Entry, Located, Value};
use crate::error::{Place, Problem, did_you_mean, shown};

/// A value and the path that leads to it.
#[derive(Clone)]
pub(crate) struct Field<'a> {
    pub(crate) node: &'a Located,
    pub(crate) path: String,
}

impl<'a> Field<'a> {
    /// A problem with this value.
    pub(crate) fn problem(&self, message: impl Into<String>) -> Problem {
        Problem::new(&self.node.place, message)
    }

    /// The value is not what it must be.
    pub(crate) fn mismatch(&self, wanted: &str) -> Problem {
        self.problem(format!("{} must be {wanted}, not {}", self.path, self.node.words()))
    }

    fn plain(&self, wanted: &str) -> Result<&'a str, Problem> {
        match &self.node.value {
            _ if self.node.is_null() => Err(self.problem(format!("{} has no value; it must be {wanted}", self.path))),
            Value::Scalar { text, plain: true } => Ok(text),
            Value::Scalar { .. } => Err(self.mismatch(wanted).suggest("remove the quotation marks")),
            _ => Err(self.mismatch(wanted)),
        }
    }

    /// Nothing, if the value says so.
    pub(crate) fn some(self) -> Option<Field<'a>> {
        if self.node.is_null() { None } else { Some(self) }
    }

    /// A whole number within bounds.
    pub(crate) fn integer(&self, bounds: RangeInclusive<u64>) -> Result<u64, Problem> {
        let wanted = format!("a whole number from {} to {}", bounds.start(), bounds.end());
        let text = self.plain(&wanted)?;
        match text.parse() {
            Ok(number) if bounds.contains(&number) && !text.starts_with('+') => Ok(number),
            _ => Err(self.mismatch(&wanted)),
        }
    }

    /// A number within bounds.
    pub(crate) fn number(&self, bounds: RangeInclusive<f64>) -> Result<f64, Problem> {
        let wanted = format!("a number from {} to {}", bounds.start(), bounds.end());
        let text = self.plain(&wanted)?;
        let digits = text.starts_with(|c: char| c.is_ascii_digit() || c == '.');
        match text.parse::<f64>() {
            Ok(number) if digits && bounds.contains(&number) => Ok(number),
            _ => Err(self.mismatch(&wanted)),
        }
    }

    /// `true` or `false`.
    pub(crate) fn flag(&self) -> Result<bool, Problem> {
        match self.plain("true or false")? {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.mismatch("true or false")),
        }
    }

    /// A duration within bounds.
    pub(crate) fn duration(&self, bounds: RangeInclusive<Duration>) -> Result<Duration, Problem> {
        let (low, high) = (duration::format(*bounds.start()), duration::format(*bounds.end()));
        let wanted = format!("a duration from {low} to {high}");
        let text = self.plain(&wanted)?;
        match duration::parse(text) {
            Some(duration) if bounds.contains(&duration) => Ok(duration),
            Some(_) => Err(self.mismatch(&wanted)),
            None if text.parse::<u64>().is_ok_and(|n| n < 1_000_000) => {
                Err(self.mismatch(&wanted).suggest(format!("give it a unit, as in `{text}s` or `{text}ms`")))
            }
            None => Err(self.mismatch(&wanted).suggest("write it like 30s, 500ms or 2m")),
        }
    }

    /// One of a few names.
    pub(crate) fn choice<T: Clone>(&self, choices: &[(&str, T)]) -> Result<T, Problem> {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let wanted = format!("one of {}", names.join(", "));
        let text = self.text(&wanted)?;
        match choices.iter().find(|(name, _)| *name == text) {
            Some((_, choice)) => Ok(choice.clone()),
            None => {
                let problem = self.problem(format!("{} can't be `{}`", self.path, shown(text)));
                Err(problem.suggest(did_you_mean(text, &names, "choices")))
            }
        }
    }

    /// A text, with quotation marks or without.
    pub(crate) fn text(&self, wanted: &str) -> Result<&'a str, Problem> {
        match &self.node.value {
            Value::Scalar { text, .. } if !self.node.is_null() => Ok(text),
            Value::Scalar { .. } => Err(self.problem(format!("{} has no value; it must be {wanted}", self.path))),
            _ => Err(self.mismatch(wanted)),
        }
    }

    /// A list of at most `most` items.
    pub(crate) fn list(&self, wanted: &str, most: usize) -> Result<Vec<Field<'a>>, Problem> {
        match &self.node.value {
            Value::List(items) if items.len() > most => {
                Err(self.problem(format!("{} has {} items; at most {most} are allowed", self.path, items.len())))
            }
            Value::List(items) => {
                let field = |(i, node)| Field { node, path: format!("{}.{i}", self.path) };
                Ok(items.iter().enumerate().map(field).collect())
            }
            _ => Err(self.mismatch(wanted)),
        }
    }

    /// A map.
    pub(crate) fn fields(&self, wanted: &str) -> Result<Fields<'a>, Problem> {
        match &self.node.value {
            Value::Map(entries) => {
                Ok(Fields { entries, place: &self.node.place, path: self.path.clone(), known: Vec::new() })
            }
            _ => Err(self.mismatch(wanted)),
        }
    }
}

/// The entries of a map, taken out one by one. [`finish`](Fields::finish) refuses those that
/// nobody took.
pub(crate) struct Fields<'a> {
    entries: &'a [Entry],
    place: &'a Place,
    path: String,
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// No entries at all, for a map that isn't there.
    pub(crate) fn none(path: &str) -> Fields<'static> {
        Fields { entries: &[], place: &Place::Whole, path: path.into(), known: Vec::new() }
    }

    /// The value of a key, if it is there.
    pub(crate) fn get(&mut self, key: &'static str) -> Option<Field<'a>> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        let path = if self.path.is_empty() { key.to_string() } else { format!("{}.{key}", self.path) };
        Some(Field { node: &entry.value, path })
    }

    /// The place of a key's value, or of the whole map.
    pub(crate) fn place(&self, key: &str) -> &'a Place {
        self.entries.iter().find(|entry| entry.key == key).map_or(self.place, |entry| &entry.value.place)
    }

    /// Whether a key is there.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key)
    }

    /// The entry that a path such as `mix.cas` leads to, as far as it leads.
    fn walk(&self, path: &str) -> (Option<&'a Entry>, bool) {
        let (mut entries, mut found) = (self.entries, None);
        for key in path.split('.') {
            match entries.iter().find(|entry| entry.key == key) {
                None => return (found, false),
                Some(entry) => {
                    entries = match &entry.value.value {
                        Value::Map(entries) => entries,
                        _ => &[],
                    };
                    found = Some(entry);
                }
            }
        }
        (found, true)
    }

    /// Whether a path such as `mix.cas` leads to something.
    pub(crate) fn has_path(&self, path: &str) -> bool {
        self.walk(path).1
    }

    /// The place of what a path leads to, as far as it leads; or of the whole map.
    pub(crate) fn place_of_path(&self, path: &str) -> &'a Place {
        self.walk(path).0.map_or(self.place, |entry| &entry.value.place)
    }

    /// A problem with a key's value, or with its absence.
    pub(crate) fn problem(&self, key: &str, message: impl Into<String>) -> Problem {
        Problem::new(self.place(key), message)
    }

    /// Refuses keys that were not asked for. `what` names the map, as in "target (paxos)".
    pub(crate) fn finish(&self, what: &str) -> Result<(), Problem> {
        match self.entries.iter().find(|entry| !self.known.contains(&entry.key.as_str())) {
            None => Ok(()),
            Some(Entry { key, place, .. }) => {
                let problem = Problem::new(place, format!("unknown key `{}` in {what}", shown(key)));
                Err(problem.suggest(did_you_mean(key, &self.known, "keys")))
            }
        }
    }
}

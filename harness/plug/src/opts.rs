//! The values of a plug's options.

use std::fmt;
use std::time::Duration;

use smol_str::SmolStr;

use crate::{Facts, Kind, Opt, Problem};

/// What an option is.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A whole number.
    Integer(u64),
    /// A number.
    Number(f64),
    /// A duration.
    Duration(Duration),
    /// `true` or `false`.
    Flag(bool),
    /// A choice or a bug.
    Name(&'static str),
    /// A text.
    Text(SmolStr),
    /// Weights, in the order of their names.
    Weights(Vec<u64>),
    /// It was left empty.
    Nothing,
}

impl From<u64> for Value {
    fn from(number: u64) -> Value {
        Value::Integer(number)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Value {
        Value::Number(number)
    }
}

impl From<Duration> for Value {
    fn from(time: Duration) -> Value {
        Value::Duration(time)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Value {
        Value::Flag(flag)
    }
}

impl From<&'static str> for Value {
    fn from(name: &'static str) -> Value {
        Value::Name(name)
    }
}

/// Options of which some are known. Defaults are computed from it.
#[derive(Clone, Debug)]
pub struct Draft<'a> {
    options: &'static [Opt],
    values: Vec<Option<Value>>,
    facts: Option<&'a Facts>,
}

impl<'a> Draft<'a> {
    /// None is known. A workload's defaults may depend on the target's facts; without them it serves
    /// everything.
    pub fn new(options: &'static [Opt], facts: Option<&'a Facts>) -> Draft<'a> {
        Draft { options, values: vec![None; options.len()], facts }
    }

    /// This one is given.
    pub fn set(&mut self, name: &str, value: Value) {
        self.values[place(self.options, name)] = Some(value);
    }

    /// What an option is, if it is known by now.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.values[place(self.options, name)].as_ref()
    }

    /// The same of a whole number.
    pub fn integer(&self, name: &str) -> Option<u64> {
        match self.get(name) {
            Some(Value::Integer(number)) => Some(*number),
            _ => None,
        }
    }

    /// The same of a duration.
    pub fn duration(&self, name: &str) -> Option<Duration> {
        match self.get(name) {
            Some(Value::Duration(time)) => Some(*time),
            _ => None,
        }
    }

    /// The same of a choice.
    pub fn choice(&self, name: &str) -> Option<&'static str> {
        match self.get(name) {
            Some(Value::Name(name)) => Some(name),
            _ => None,
        }
    }

    /// Whether the target serves operations of this name.
    pub fn serves(&self, function: &str) -> bool {
        self.facts.is_none_or(|facts| facts.serves(function))
    }

    /// The options, with a default for each that wasn't given, in the order of their declaration.
    pub fn finish(mut self) -> Opts {
        for (at, option) in self.options.iter().enumerate() {
            if self.values[at].is_none() {
                self.values[at] = Some(option.usual(&self));
            }
        }
        Opts { options: self.options, values: self.values.into_iter().flatten().collect() }
    }
}

/// The values of a plug's options, each within its bounds.
///
/// Asking for an option that isn't declared, or for another type than it has, is a mistake of the
/// plug, and panics.
#[derive(Clone)]
pub struct Opts {
    options: &'static [Opt],
    values: Vec<Value>,
}

fn place(options: &[Opt], name: &str) -> usize {
    let found = options.iter().position(|option| option.name == name);
    found.unwrap_or_else(|| panic!("the option `{name}` is asked for and not declared"))
}

impl Opts {
    /// Every default, but for these, which must be within their bounds.
    pub fn with(options: &'static [Opt], given: &[(&str, Value)]) -> Opts {
        let mut draft = Draft::new(options, None);
        for (name, value) in given {
            let option = &options[place(options, name)];
            let value = match value {
                // Texts and names are written alike.
                Value::Name(text) if matches!(option.kind, Kind::Text { .. }) => Value::Text((*text).into()),
                value => value.clone(),
            };
            assert!(option.takes(&value), "{name} can't be {value:?}");
            draft.set(name, value);
        }
        draft.finish()
    }

    /// Every default.
    pub fn usual(options: &'static [Opt]) -> Opts {
        Opts::with(options, &[])
    }

    /// Each option with what it is, in the order of their declaration.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Opt, &Value)> {
        self.options.iter().zip(&self.values)
    }

    /// Whether there is an option of this name.
    pub fn has(&self, name: &str) -> bool {
        self.options.iter().any(|option| option.name == name)
    }

    /// What an option is, whatever its type.
    pub fn get(&self, name: &str) -> &Value {
        &self.values[place(self.options, name)]
    }

    /// Changes what an option is.
    ///
    /// # Errors
    /// If that is out of its bounds.
    pub fn set(&mut self, name: &'static str, value: Value) -> Result<(), Problem> {
        let at = place(self.options, name);
        if !self.options[at].takes(&value) {
            return Err(Problem::new(&[name], format!("{name} can't be {value:?}")));
        }
        self.values[at] = value;
        Ok(())
    }

    /// A whole number.
    pub fn integer(&self, name: &str) -> u64 {
        self.maybe_integer(name).unwrap_or_else(|| self.mistake(name, "a whole number"))
    }

    /// A whole number, unless it was left empty.
    pub fn maybe_integer(&self, name: &str) -> Option<u64> {
        match self.get(name) {
            Value::Integer(number) => Some(*number),
            Value::Nothing => None,
            _ => self.mistake(name, "a whole number"),
        }
    }

    /// A number.
    pub fn number(&self, name: &str) -> f64 {
        self.maybe_number(name).unwrap_or_else(|| self.mistake(name, "a number"))
    }

    /// A number, unless it was left empty.
    pub fn maybe_number(&self, name: &str) -> Option<f64> {
        match self.get(name) {
            Value::Number(number) => Some(*number),
            Value::Nothing => None,
            _ => self.mistake(name, "a number"),
        }
    }

    /// A duration.
    pub fn duration(&self, name: &str) -> Duration {
        match self.get(name) {
            Value::Duration(time) => *time,
            _ => self.mistake(name, "a duration"),
        }
    }

    /// A flag.
    pub fn flag(&self, name: &str) -> bool {
        match self.get(name) {
            Value::Flag(flag) => *flag,
            _ => self.mistake(name, "a flag"),
        }
    }

    /// A choice's or a bug's name.
    pub fn choice(&self, name: &str) -> &'static str {
        match self.get(name) {
            Value::Name(name) => name,
            _ => self.mistake(name, "a choice"),
        }
    }

    /// A text.
    pub fn text(&self, name: &str) -> &SmolStr {
        match self.get(name) {
            Value::Text(text) => text,
            _ => self.mistake(name, "a text"),
        }
    }

    /// Weights, in the order of their names.
    pub fn weights(&self, name: &str) -> &[u64] {
        match self.get(name) {
            Value::Weights(weights) => weights,
            _ => self.mistake(name, "weights"),
        }
    }

    fn mistake(&self, name: &str, wanted: &str) -> ! {
        panic!("the option `{name}` is asked for as {wanted}, and is {:?}", self.get(name))
    }
}

impl PartialEq for Opts {
    fn eq(&self, other: &Opts) -> bool {
        let names = |opts: &Opts| opts.options.iter().map(|option| option.name).collect::<Vec<_>>();
        self.values == other.values && (std::ptr::eq(self.options, other.options) || names(self) == names(other))
    }
}

impl fmt::Debug for Opts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(option, value)| (option.name, value))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Shrink;

    static OPTIONS: &[Opt] = &[
        Opt::choice("mode", &[("vote", "…"), ("fenced", "…")], "…").or("by `nodes`", |draft| {
            let many = draft.integer("nodes").is_none_or(|nodes| nodes >= 3);
            if many { "vote" } else { "fenced" }.into()
        }),
        Opt::nodes(1..=9, 3).or("by `mode`", |draft| if draft.choice("mode") == Some("vote") { 3 } else { 2 }.into()),
        Opt::rate(),
        Opt::integer("keys", 1..=100, 5, "…").shrunk(Shrink::Few),
        Opt::text("prefix", "a word", |text| !text.contains(' '), "r", "…").reserving(&["probe-"]),
    ];

    #[test]
    fn defaults_depend_on_what_is_given_wherever_it_stands() {
        let of = |given: &[(&str, Value)]| {
            let options = Opts::with(OPTIONS, given);
            (options.choice("mode"), options.integer("nodes"))
        };
        assert_eq!(of(&[]), ("vote", 3));
        assert_eq!(of(&[("nodes", 2.into())]), ("fenced", 2));
        assert_eq!(of(&[("mode", "fenced".into())]), ("fenced", 2));
        assert_eq!(of(&[("mode", "vote".into()), ("nodes", 2.into())]), ("vote", 2));
        assert_eq!(Opts::usual(OPTIONS).maybe_number("rate"), None);
    }

    #[test]
    fn values_stay_within_their_bounds() {
        let mut options = Opts::usual(OPTIONS);
        assert!(options.set("nodes", 9.into()).is_ok());
        for (name, value) in [
            ("nodes", Value::Integer(10)),
            ("nodes", Value::Flag(true)),
            ("nodes", Value::Nothing),
            ("rate", Value::Number(f64::NAN)),
            ("mode", Value::Name("maybe")),
            ("prefix", Value::Text("a b".into())),
            ("prefix", Value::Text("probe-7".into())),
        ] {
            assert!(options.set(name, value.clone()).is_err(), "{name}: {value:?}");
        }
        assert!(options.set("rate", Value::Nothing).is_ok());
        assert_eq!(options.integer("nodes"), 9);
        assert_eq!(Opts::with(OPTIONS, &[("prefix", "x".into())]).text("prefix"), "x");
    }

    #[test]
    #[should_panic(expected = "`colour` is asked for and not declared")]
    fn what_is_not_declared_is_a_mistake() {
        Opts::usual(OPTIONS).flag("colour");
    }
}

//! What an option is.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::{Draft, NO_BUG, Value};

/// An option of a plug, declared once.
///
/// Made by the constructor of its type, and refined by [`or`](Opt::or), [`optional`](Opt::optional),
/// [`unset`](Opt::unset) and [`shrunk`](Opt::shrunk).
#[derive(Clone, Copy, Debug)]
pub struct Opt {
    /// Its name, as in a scenario.
    pub name: &'static str,
    /// What it can be.
    pub kind: Kind,
    /// Whether it may be left empty (`null`).
    pub optional: bool,
    /// What it is unless it is given.
    pub usual: Usual,
    /// What it is for, in a sentence.
    pub doc: &'static str,
    /// Whether and how a hunt makes it smaller.
    pub shrink: Shrink,
}

/// What an option can be.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A whole number.
    Integer {
        /// At least this.
        least: u64,
        /// At most this.
        most: u64,
    },
    /// A number.
    Number {
        /// At least this.
        least: f64,
        /// At most this.
        most: f64,
    },
    /// A duration.
    Duration {
        /// At least this.
        least: Duration,
        /// At most this.
        most: Duration,
    },
    /// `true` or `false`.
    Flag,
    /// One of a few names, each with what it means.
    Choice(&'static [(&'static str, &'static str)]),
    /// A text.
    Text {
        /// What it must be, in words.
        wanted: &'static str,
        /// Whether a text is that.
        fits: fn(&str) -> bool,
        /// Beginnings that are the harness's own.
        reserved: &'static [&'static str],
    },
    /// A weight for each of a few names; what isn't named has none.
    Weights {
        /// The names.
        names: &'static [&'static str],
        /// No weight is greater.
        most: u64,
    },
    /// A planted bug's name, or [`NO_BUG`].
    Bug,
}

/// What an option is unless it is given.
#[derive(Clone, Copy, Debug)]
pub enum Usual {
    /// This whole number.
    Integer(u64),
    /// This number.
    Number(f64),
    /// This duration.
    Duration(Duration),
    /// This flag.
    Flag(bool),
    /// This choice, text or bug.
    Name(&'static str),
    /// These weights, in the order of the names.
    Weights(&'static [u64]),
    /// Nothing.
    Nothing,
    /// It depends: on what was given, on what options declared before it are, or on the target.
    From {
        /// On what and how, in words.
        words: &'static str,
        /// The same as a function.
        value: fn(&Draft<'_>) -> Value,
    },
}

/// How a hunt makes an option smaller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shrink {
    /// Not at all.
    #[default]
    Never,
    /// A number of things, of which a few are as good as many: a hunt's runs have up to four, and
    /// shrinking tries one and two. Their sum is what a finding's size says of keys.
    Few,
    /// It follows another one down: at most as much as that.
    AtMost(&'static str),
}

/// How many clients work side by side: the name of [`Opt::concurrency`].
pub const CONCURRENCY: &str = "concurrency";
/// Operations per second: the name of [`Opt::rate`].
pub const RATE: &str = "rate";
/// Operations in all: the name of [`Opt::ops`].
pub const OPS: &str = "ops";

impl Opt {
    const fn new(name: &'static str, kind: Kind, usual: Usual, doc: &'static str) -> Opt {
        Opt { name, kind, optional: false, usual, doc, shrink: Shrink::Never }
    }

    /// A whole number within bounds.
    pub const fn integer(name: &'static str, bounds: RangeInclusive<u64>, usual: u64, doc: &'static str) -> Opt {
        let kind = Kind::Integer { least: *bounds.start(), most: *bounds.end() };
        Opt::new(name, kind, Usual::Integer(usual), doc)
    }

    /// A number within bounds.
    pub const fn number(name: &'static str, bounds: RangeInclusive<f64>, usual: f64, doc: &'static str) -> Opt {
        let kind = Kind::Number { least: *bounds.start(), most: *bounds.end() };
        Opt::new(name, kind, Usual::Number(usual), doc)
    }

    /// A duration within bounds, all in milliseconds.
    pub const fn millis(name: &'static str, bounds: RangeInclusive<u64>, usual: u64, doc: &'static str) -> Opt {
        let (least, most) = (Duration::from_millis(*bounds.start()), Duration::from_millis(*bounds.end()));
        Opt::new(name, Kind::Duration { least, most }, Usual::Duration(Duration::from_millis(usual)), doc)
    }

    /// `true` or `false`.
    pub const fn flag(name: &'static str, usual: bool, doc: &'static str) -> Opt {
        Opt::new(name, Kind::Flag, Usual::Flag(usual), doc)
    }

    /// One of a few names, each with what it means; the first unless it is given.
    pub const fn choice(name: &'static str, of: &'static [(&'static str, &'static str)], doc: &'static str) -> Opt {
        Opt::new(name, Kind::Choice(of), Usual::Name(of[0].0), doc)
    }

    /// A text; `wanted` says in words what `fits` accepts.
    pub const fn text(
        name: &'static str,
        wanted: &'static str,
        fits: fn(&str) -> bool,
        usual: &'static str,
        doc: &'static str,
    ) -> Opt {
        Opt::new(name, Kind::Text { wanted, fits, reserved: &[] }, Usual::Name(usual), doc)
    }

    /// A weight for each of a few names.
    pub const fn weights(
        name: &'static str,
        names: &'static [&'static str],
        most: u64,
        usual: &'static [u64],
        doc: &'static str,
    ) -> Opt {
        Opt::new(name, Kind::Weights { names, most }, Usual::Weights(usual), doc)
    }

    /// One of the target's planted bugs; none unless it is given.
    pub const fn bug() -> Opt {
        Opt::new("bug", Kind::Bug, Usual::Name(NO_BUG), "A planted bug, to test the tester with.")
    }

    /// How many servers there are: what [`Group::servers`](crate::Group::servers) counts.
    pub const fn nodes(bounds: RangeInclusive<u64>, usual: u64) -> Opt {
        Opt::integer("nodes", bounds, usual, "How many nodes.")
    }

    /// How many clients work side by side. Every workload has this.
    pub const fn concurrency() -> Opt {
        Opt::integer(CONCURRENCY, 1..=1_000, 10, "How many clients work side by side.")
    }

    /// Operations per second in all; as fast as possible unless it is given. A workload without it
    /// has a pace of its own.
    pub const fn rate() -> Opt {
        let doc = "Operations per second in all; as fast as possible if empty.";
        Opt::number(RATE, 0.01..=1_000_000.0, 1.0, doc).unset()
    }

    /// Operations in all; as many as time allows unless it is given.
    pub const fn ops() -> Opt {
        Opt::integer(OPS, 1..=50_000_000, 1, "Operations in all; as many as time allows if empty.").unset()
    }

    /// Unless it is given it depends on others, or on the target: how, in words and as a function.
    /// All that was given is known by then, and every option that is declared before it.
    pub const fn or(mut self, words: &'static str, value: fn(&Draft<'_>) -> Value) -> Opt {
        self.usual = Usual::From { words, value };
        self
    }

    /// It may be left empty.
    pub const fn optional(mut self) -> Opt {
        self.optional = true;
        self
    }

    /// It is empty unless it is given.
    pub const fn unset(mut self) -> Opt {
        self.usual = Usual::Nothing;
        self.optional()
    }

    /// How a hunt makes it smaller.
    pub const fn shrunk(mut self, how: Shrink) -> Opt {
        self.shrink = how;
        self
    }

    /// Texts that begin like this are refused: the harness uses them itself.
    pub const fn reserving(mut self, reserved: &'static [&'static str]) -> Opt {
        if let Kind::Text { wanted, fits, .. } = self.kind {
            self.kind = Kind::Text { wanted, fits, reserved };
        }
        self
    }

    /// Whether it can have this value. Whether a bug is the target's is not known here.
    pub fn takes(&self, value: &Value) -> bool {
        match (&self.kind, value) {
            (_, Value::Nothing) => self.optional,
            (Kind::Integer { least, most }, Value::Integer(number)) => (least..=most).contains(&number),
            (Kind::Number { least, most }, Value::Number(number)) => (least..=most).contains(&number),
            (Kind::Duration { least, most }, Value::Duration(time)) => (least..=most).contains(&time),
            (Kind::Flag, Value::Flag(_)) | (Kind::Bug, Value::Name(_)) => true,
            (Kind::Choice(of), Value::Name(name)) => of.iter().any(|(other, _)| other == name),
            (Kind::Text { fits, .. }, Value::Text(text)) => fits(text) && self.reserved(text).is_none(),
            (Kind::Weights { names, most }, Value::Weights(weights)) => {
                weights.len() == names.len() && weights.iter().all(|weight| weight <= most)
            }
            _ => false,
        }
    }

    /// The beginning of this text that is the harness's own, if it has one.
    pub fn reserved(&self, text: &str) -> Option<&'static str> {
        let Kind::Text { reserved, .. } = self.kind else { return None };
        reserved.iter().copied().find(|reserved| text.starts_with(reserved))
    }

    pub(crate) fn usual(&self, draft: &Draft<'_>) -> Value {
        match (self.usual, self.kind) {
            (Usual::Integer(number), _) => Value::Integer(number),
            (Usual::Number(number), _) => Value::Number(number),
            (Usual::Duration(time), _) => Value::Duration(time),
            (Usual::Flag(flag), _) => Value::Flag(flag),
            (Usual::Name(text), Kind::Text { .. }) => Value::Text(text.into()),
            (Usual::Name(name), _) => Value::Name(name),
            (Usual::Weights(weights), _) => Value::Weights(weights.to_vec()),
            (Usual::Nothing, _) => Value::Nothing,
            (Usual::From { value, .. }, _) => value(draft),
        }
    }
}

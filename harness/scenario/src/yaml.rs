//! Small helpers for writing YAML.

use std::time::Duration;

use serde_yaml::{Mapping, Value};

use duress_plug::duration;

/// A map with its keys in the order given.
pub(crate) fn map<const N: usize>(entries: [(&str, Value); N]) -> Value {
    map_of(entries)
}

/// The same, of as many entries as there are.
pub(crate) fn map_of<'a>(entries: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    Value::Mapping(entries.into_iter().map(|(key, value)| (Value::from(key), value)).collect::<Mapping>())
}

pub(crate) fn list(items: impl IntoIterator<Item = Value>) -> Value {
    Value::Sequence(items.into_iter().collect())
}

pub(crate) fn time(duration: Duration) -> Value {
    Value::from(duration::format(duration))
}

pub(crate) fn optional<T: Into<Value>>(value: Option<T>) -> Value {
    value.map_or(Value::Null, Into::into)
}

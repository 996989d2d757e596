//! Values as JSON, and in binary.

use std::fmt;

use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smol_str::SmolStr;

use super::Value;
use crate::formats::json::edn;
use crate::formats::parser::is_token;

/// The binary form: [`Value`], variant by variant. Formats such as postcard can't tell what comes
/// next, so it has to stand there.
#[derive(Serialize, Deserialize)]
enum Binary {
    Nil,
    Bool(bool),
    Int(i64),
    Number(SmolStr),
    Char(char),
    Text(SmolStr),
    Symbol(SmolStr),
    Keyword(SmolStr),
    List(Vec<Value>),
    Vector(Vec<Value>),
    Set(Vec<Value>),
    Map(Vec<(Value, Value)>),
    Tagged(SmolStr, Box<Value>),
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return binary(self).serialize(serializer);
        }
        match self {
            Value::Nil => serializer.serialize_unit(),
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::Int(number) => serializer.serialize_i64(*number),
            Value::Text(text) => serializer.serialize_str(text),
            Value::Number(digits) => match plain(digits) {
                Some(Plain::Whole(number)) => serializer.serialize_u64(number),
                Some(Plain::Float(number)) => serializer.serialize_f64(number),
                None => escape(serializer, self),
            },
            // Would be read as a micro-operation.
            Value::Vector(items) if matches!(&items[..], [Value::Text(name), _, _] if is_micro(name)) => {
                escape(serializer, self)
            }
            Value::Vector(items) => vector(serializer, items),
            Value::Map(entries) => {
                let Some(names) = entries.iter().map(|(key, _)| name(key)).collect::<Option<Vec<_>>>() else {
                    return escape(serializer, self);
                };
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                names.iter().zip(entries).try_for_each(|(name, (_, value))| map.serialize_entry(name, value))?;
                map.end()
            }
            other => escape(serializer, other),
        }
    }
}

/// A number that JSON has, and that reads back as it was.
enum Plain {
    Whole(u64),
    Float(f64),
}

fn plain(digits: &str) -> Option<Plain> {
    if let Ok(number) = digits.parse::<u64>() {
        return (number.to_string() == digits).then_some(Plain::Whole(number));
    }
    let number = digits.parse::<f64>().ok()?;
    (number.is_finite() && format!("{number:?}") == digits).then_some(Plain::Float(number))
}

fn vector<S: Serializer>(serializer: S, items: &[Value]) -> Result<S::Ok, S::Error> {
    let mut sequence = serializer.serialize_seq(Some(items.len()))?;
    let mut rest = items;
    if let [Value::Keyword(name), _, _] = items
        && is_micro(name)
    {
        sequence.serialize_element(name)?;
        rest = &items[1..];
    }
    rest.iter().try_for_each(|item| sequence.serialize_element(item))?;
    sequence.end()
}

/// The key of an object that holds EDN.
pub(crate) const ESCAPE: &str = "#edn";

fn escape<S: Serializer>(serializer: S, value: &Value) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(1))?;
    map.serialize_entry(ESCAPE, &value.to_string())?;
    map.end()
}

/// The functions of micro-operations.
pub(crate) fn is_micro(name: &str) -> bool {
    matches!(name, "r" | "w" | "append")
}

/// A key of a map, from the name in an object.
pub(crate) fn key(name: &str) -> Value {
    match name.parse::<i64>() {
        Ok(number) if number.to_string() == name => Value::Int(number),
        _ if is_token(name) => Value::Keyword(name.into()),
        _ => Value::Text(name.into()),
    }
}

/// The name that [`key`] reads as this key, if there is one.
fn name(of: &Value) -> Option<String> {
    let name = match of {
        Value::Int(number) => number.to_string(),
        Value::Keyword(name) | Value::Text(name) => name.to_string(),
        _ => return None,
    };
    (key(&name) == *of && name != ESCAPE).then_some(name)
}

fn binary(value: &Value) -> Binary {
    match value.clone() {
        Value::Nil => Binary::Nil,
        Value::Bool(value) => Binary::Bool(value),
        Value::Int(number) => Binary::Int(number),
        Value::Number(digits) => Binary::Number(digits),
        Value::Char(c) => Binary::Char(c),
        Value::Text(text) => Binary::Text(text),
        Value::Symbol(name) => Binary::Symbol(name),
        Value::Keyword(name) => Binary::Keyword(name),
        Value::List(items) => Binary::List(items),
        Value::Vector(items) => Binary::Vector(items),
        Value::Set(items) => Binary::Set(items),
        Value::Map(entries) => Binary::Map(entries),
        Value::Tagged(tag, value) => Binary::Tagged(tag, value),
    }
}

impl From<Binary> for Value {
    fn from(value: Binary) -> Value {
        match value {
            Binary::Nil => Value::Nil,
            Binary::Bool(value) => Value::Bool(value),
            Binary::Int(number) => Value::Int(number),
            Binary::Number(digits) => Value::Number(digits),
            Binary::Char(c) => Value::Char(c),
            Binary::Text(text) => Value::Text(text),
            Binary::Symbol(name) => Value::Symbol(name),
            Binary::Keyword(name) => Value::Keyword(name),
            Binary::List(items) => Value::List(items),
            Binary::Vector(items) => Value::Vector(items),
            Binary::Set(items) => Value::Set(items),
            Binary::Map(entries) => Value::Map(entries),
            Binary::Tagged(tag, value) => Value::Tagged(tag, value),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(Text)
        } else {
            Binary::deserialize(deserializer).map(Value::from)
        }
    }
}

/// Reads the JSON form.
struct Text;

impl<'de> Visitor<'de> for Text {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Nil)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Nil)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Int(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
        Ok(Value::from(number))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Number(smol_str::format_smolstr!("{number:?}")))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element()? {
            items.push(item);
        }
        if let [Value::Text(name), _, _] = &items[..]
            && is_micro(name)
        {
            items[0] = Value::Keyword(name.clone());
        }
        Ok(Value::Vector(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries: Vec<(Value, Value)> = Vec::new();
        let mut escaped = false;
        while let Some(name) = map.next_key::<SmolStr>()? {
            escaped |= name == ESCAPE;
            entries.push((key(&name), map.next_value()?));
        }
        if escaped && let [(_, Value::Text(text))] = &entries[..] {
            return edn(text).map_err(A::Error::custom);
        }
        Value::map(entries).map_err(|twice| A::Error::custom(format!("the map has the key {twice} twice")))
    }
}

//! Values that operations, results and facts carry: those of extensible data notation
//! (<https://github.com/edn-format/edn>), which JSON's are a part of. Values are canonical: equal
//! values are equal here, whatever way they were written.
//!
//! As text they are JSON, and nothing is lost on the way there and back:
//!
//! | JSON | value |
//! |---|---|
//! | `null`, `true`, numbers, strings, arrays | the same |
//! | an object | a map whose keys are whole numbers where they spell one, else keywords where they can be |
//! | `["r", 1, null]`, three parts, the first `r`, `w` or `append` | a micro-operation `[:r 1 nil]` |
//! | `{"#edn": "#{1 2}"}` | what the text says |

pub(crate) mod text;

use std::fmt::{self, Write as _};

use smol_str::SmolStr;

/// One value. Short texts (23 bytes) are held without allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// `nil`.
    #[default]
    Nil,
    /// `true`, `false`.
    Bool(bool),
    /// A whole number that fits, with or without the suffix `N`.
    Int(i64),
    /// Any other number, canonically written: larger whole numbers as digits, ratios as `1/3`,
    /// floating point as Rust prints the nearest `f64`, decimals as they stand with their `M`.
    Number(SmolStr),
    /// `\a`.
    Char(char),
    /// `"text"`, escapes resolved.
    Text(SmolStr),
    /// `symbol`.
    Symbol(SmolStr),
    /// `:keyword`, without the colon.
    Keyword(SmolStr),
    /// `(1 2)`.
    List(Vec<Value>),
    /// `[1 2]`.
    Vector(Vec<Value>),
    /// `#{1 2}`, in ascending order, each element once.
    Set(Vec<Value>),
    /// `{:a 1}`, in ascending order of the keys, each key once.
    Map(Vec<(Value, Value)>),
    /// `#tag value`, the tag without its `#`.
    Tagged(SmolStr, Box<Value>),
}

impl Value {
    /// A map of these entries, in any order; the error is a key that is there twice.
    pub fn map(mut entries: Vec<(Value, Value)>) -> Result<Value, Value> {
        entries.sort();
        match entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(pair[0].0.clone()),
            None => Ok(Value::Map(entries)),
        }
    }

    /// A keyword of a name, without its colon.
    pub const fn keyword(name: &'static str) -> Value {
        Value::Keyword(SmolStr::new_static(name))
    }

    /// A map from keywords, which must be given in ascending order, each once.
    pub fn record<const N: usize>(fields: [(&'static str, Value); N]) -> Value {
        debug_assert!(fields.windows(2).all(|pair| pair[0].0 < pair[1].0), "keywords in order");
        Value::Map(fields.into_iter().map(|(name, value)| (Value::keyword(name), value)).collect())
    }

    /// Whether it is nothing.
    pub const fn is_nil(&self) -> bool {
        matches!(self, Value::Nil)
    }

    /// The text.
    pub fn as_text(&self) -> Option<&SmolStr> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The whole number, if it is not negative. It may go up to `u64::MAX`.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Value::Int(number) => u64::try_from(*number).ok(),
            Value::Number(digits) => digits.parse().ok(),
            _ => None,
        }
    }

    /// The whole number.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(number) => Some(*number),
            _ => None,
        }
    }

    /// The elements of a vector or list, in their order.
    pub fn as_sequence(&self) -> Option<&[Value]> {
        match self {
            Value::Vector(items) | Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// The elements of a vector, list or set.
    pub fn as_elements(&self) -> Option<&[Value]> {
        match self {
            Value::Vector(items) | Value::List(items) | Value::Set(items) => Some(items),
            _ => None,
        }
    }

    /// The value under a keyword of a map.
    pub fn get(&self, keyword: &str) -> Option<&Value> {
        match self {
            Value::Map(entries) => {
                entries.iter().find(|(k, _)| matches!(k, Value::Keyword(k) if k == keyword)).map(|(_, v)| v)
            }
            _ => None,
        }
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Value {
        Value::Int(number)
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Value {
        Value::Int(number.into())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Value {
        i64::try_from(number).map_or_else(|_| Value::Number(SmolStr::from(number.to_string())), Value::Int)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Bool(value)
    }
}

impl From<SmolStr> for Value {
    fn from(text: SmolStr) -> Value {
        Value::Text(text)
    }
}

impl From<&SmolStr> for Value {
    fn from(text: &SmolStr) -> Value {
        Value::Text(text.clone())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.into())
    }
}

impl From<Vec<Value>> for Value {
    fn from(items: Vec<Value>) -> Value {
        Value::Vector(items)
    }
}

fn sequence(f: &mut fmt::Formatter<'_>, open: &str, items: &[Value], close: char) -> fmt::Result {
    f.write_str(open)?;
    for (position, item) in items.iter().enumerate() {
        if position > 0 {
            f.write_char(' ')?;
        }
        write!(f, "{item}")?;
    }
    f.write_char(close)
}

impl fmt::Display for Value {
    /// EDN that reads back as the same value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Nil => f.write_str("nil"),
            Value::Bool(value) => write!(f, "{value}"),
            Value::Int(value) => write!(f, "{value}"),
            Value::Number(text) | Value::Symbol(text) => f.write_str(text),
            Value::Char(c) => match c {
                '\n' => f.write_str("\\newline"),
                '\r' => f.write_str("\\return"),
                '\t' => f.write_str("\\tab"),
                ' ' => f.write_str("\\space"),
                c if c.is_control() || c.is_whitespace() => write!(f, "\\u{:04x}", *c as u32),
                c => write!(f, "\\{c}"),
            },
            Value::Text(text) => {
                f.write_char('"')?;
                for c in text.chars() {
                    match c {
                        '"' => f.write_str("\\\"")?,
                        '\\' => f.write_str("\\\\")?,
                        '\n' => f.write_str("\\n")?,
                        '\r' => f.write_str("\\r")?,
                        '\t' => f.write_str("\\t")?,
                        c if c.is_control() => write!(f, "\\u{:04x}", c as u32)?,
                        c => f.write_char(c)?,
                    }
                }
                f.write_char('"')
            }
            Value::Keyword(name) => write!(f, ":{name}"),
            Value::List(items) => sequence(f, "(", items, ')'),
            Value::Vector(items) => sequence(f, "[", items, ']'),
            Value::Set(items) => sequence(f, "#{", items, '}'),
            Value::Map(entries) => {
                f.write_char('{')?;
                for (position, (key, value)) in entries.iter().enumerate() {
                    if position > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{key} {value}")?;
                }
                f.write_char('}')
            }
            Value::Tagged(tag, value) => write!(f, "#{tag} {value}"),
        }
    }
}

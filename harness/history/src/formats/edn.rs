//! Values of extensible data notation (<https://github.com/edn-format/edn>), as Clojure prints
//! them. Values are canonical: equal values are equal here, whatever way they were written.

use std::fmt::{self, Write as _};

use smol_str::SmolStr;

/// One value. Short texts (23 bytes) are held without allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Edn {
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
    List(Vec<Edn>),
    /// `[1 2]`.
    Vector(Vec<Edn>),
    /// `#{1 2}`, in ascending order, each element once.
    Set(Vec<Edn>),
    /// `{:a 1}`, in ascending order of the keys, each key once.
    Map(Vec<(Edn, Edn)>),
    /// `#tag value`, the tag without its `#`.
    Tagged(SmolStr, Box<Edn>),
}

impl Edn {
    /// A map of these entries, in any order; the error is a key that is there twice.
    pub fn map(mut entries: Vec<(Edn, Edn)>) -> Result<Edn, Edn> {
        entries.sort();
        match entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(pair[0].0.clone()),
            None => Ok(Edn::Map(entries)),
        }
    }

    /// The whole number.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Edn::Int(number) => Some(*number),
            _ => None,
        }
    }

    /// The elements of a vector or list, in their order.
    pub fn as_sequence(&self) -> Option<&[Edn]> {
        match self {
            Edn::Vector(items) | Edn::List(items) => Some(items),
            _ => None,
        }
    }

    /// The elements of a vector, list or set.
    pub fn as_elements(&self) -> Option<&[Edn]> {
        match self {
            Edn::Vector(items) | Edn::List(items) | Edn::Set(items) => Some(items),
            _ => None,
        }
    }

    /// The value under a keyword of a map.
    pub fn get(&self, keyword: &str) -> Option<&Edn> {
        match self {
            Edn::Map(entries) => {
                entries.iter().find(|(k, _)| matches!(k, Edn::Keyword(k) if k == keyword)).map(|(_, v)| v)
            }
            _ => None,
        }
    }
}

fn sequence(f: &mut fmt::Formatter<'_>, open: &str, items: &[Edn], close: char) -> fmt::Result {
    f.write_str(open)?;
    for (position, item) in items.iter().enumerate() {
        if position > 0 {
            f.write_char(' ')?;
        }
        write!(f, "{item}")?;
    }
    f.write_char(close)
}

impl fmt::Display for Edn {
    /// EDN that reads back as the same value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Edn::Nil => f.write_str("nil"),
            Edn::Bool(value) => write!(f, "{value}"),
            Edn::Int(value) => write!(f, "{value}"),
            Edn::Number(text) | Edn::Symbol(text) => f.write_str(text),
            Edn::Char(c) => match c {
                '\n' => f.write_str("\\newline"),
                '\r' => f.write_str("\\return"),
                '\t' => f.write_str("\\tab"),
                ' ' => f.write_str("\\space"),
                c if c.is_control() || c.is_whitespace() => write!(f, "\\u{:04x}", *c as u32),
                c => write!(f, "\\{c}"),
            },
            Edn::Text(text) => {
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
            Edn::Keyword(name) => write!(f, ":{name}"),
            Edn::List(items) => sequence(f, "(", items, ')'),
            Edn::Vector(items) => sequence(f, "[", items, ']'),
            Edn::Set(items) => sequence(f, "#{", items, '}'),
            Edn::Map(entries) => {
                f.write_char('{')?;
                for (position, (key, value)) in entries.iter().enumerate() {
                    if position > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{key} {value}")?;
                }
                f.write_char('}')
            }
            Edn::Tagged(tag, value) => write!(f, "#{tag} {value}"),
        }
    }
}

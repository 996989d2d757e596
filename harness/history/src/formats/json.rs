//! JSON as values of EDN, and back. What JSON has no word for stands as `{"#edn": "…"}`.
//!
//! | JSON | value |
//! |---|---|
//! | `null`, `true`, numbers, strings, arrays | the same |
//! | an object | a map whose keys are whole numbers where they spell one, else keywords where they can be |
//! | `["r", 1, null]`, three parts, the first `r`, `w` or `append` | a micro-operation `[:r 1 nil]` |
//! | `{"#edn": "#{1 2}"}` | what the text says |

use std::fmt::{self, Write};

use super::number::number;
use super::parser::{Parser, is_token, quote, unclosed};
use super::{Edn, Fault, MAX_DIGITS};

/// The key of an object that holds EDN.
const ESCAPE: &str = "#edn";

impl Parser<'_> {
    /// The next byte of something, after spaces and commas; `None` at the end.
    pub(super) fn json_peek(&mut self) -> Option<u8> {
        loop {
            match self.byte() {
                Some(b' ' | b'\n' | b'\r' | b'\t' | b',') => self.advance(),
                other => return other,
            }
        }
    }

    fn json_space(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.byte() {
            self.advance();
        }
        self.byte()
    }

    /// The fields of the object that begins at byte `start` and whose brace was taken. `field` gets
    /// each name and where it stands, when the parser stands before its value, and takes the value.
    pub(super) fn json_fields(
        &mut self,
        start: usize,
        mut field: impl FnMut(&mut Self, &str, usize) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        if self.json_space() == Some(b'}') {
            self.advance();
            return Ok(());
        }
        loop {
            let at = match self.json_space() {
                Some(b'"') => self.at(),
                None => return Err(unclosed(start, b'{')),
                Some(_) => return Err(Fault::new(self.at(), "a name in quotes was expected")),
            };
            let name = self.string()?;
            match self.json_space() {
                Some(b':') => self.advance(),
                None => return Err(unclosed(start, b'{')),
                Some(_) => return Err(Fault::new(self.at(), "a colon was expected")),
            }
            self.json_space();
            field(self, &name, at)?;
            match self.json_space() {
                Some(b',') => self.advance(),
                Some(b'}') => {
                    self.advance();
                    return Ok(());
                }
                None => return Err(unclosed(start, b'{')),
                Some(_) => return Err(Fault::new(self.at(), "a comma or } was expected")),
            }
        }
    }

    /// One value.
    pub(super) fn json_value(&mut self) -> Result<Edn, Fault> {
        let first = self.json_space();
        let start = self.at();
        match first {
            None => Err(Fault::new(start, "the text ends where a value was expected")),
            Some(b'"') => Ok(Edn::Text(self.string()?)),
            Some(b'[') => self.json_array(start),
            Some(b'{') => self.json_object(start),
            Some(_) => self.json_atom(start),
        }
    }

    fn json_array(&mut self, start: usize) -> Result<Edn, Fault> {
        self.enter(start)?;
        self.advance();
        let mut items = Vec::new();
        if self.json_space() == Some(b']') {
            self.advance();
        } else {
            loop {
                items.push(self.json_value()?);
                match self.json_space() {
                    Some(b',') => self.advance(),
                    Some(b']') => {
                        self.advance();
                        break;
                    }
                    None => return Err(unclosed(start, b'[')),
                    Some(_) => return Err(Fault::new(self.at(), "a comma or ] was expected")),
                }
            }
        }
        self.leave();
        if let [Edn::Text(name), _, _] = &items[..]
            && is_micro(name)
        {
            items[0] = Edn::Keyword(name.clone());
        }
        Ok(Edn::Vector(items))
    }

    fn json_object(&mut self, start: usize) -> Result<Edn, Fault> {
        self.enter(start)?;
        self.advance();
        let mut entries: Vec<(Edn, Edn)> = Vec::new();
        let mut escaped = false;
        self.json_fields(start, |parser, name, _| {
            escaped |= name == ESCAPE;
            entries.push((key(name), parser.json_value()?));
            Ok(())
        })?;
        self.leave();
        if escaped && let [(_, Edn::Text(text))] = &entries[..] {
            let mut parser = Parser::new(text, 0);
            return match parser.value() {
                Ok(value) if parser.peek().is_ok_and(|rest| rest.is_none()) => Ok(value),
                Ok(_) => Err(Fault::new(start, "there is something after the value in \"#edn\"")),
                Err(fault) => Err(Fault::new(start, format!("in \"#edn\": {}", fault.message))),
            };
        }
        Edn::map(entries)
            .map_err(|twice| Fault::new(start, format!("the map has the key {} twice", quote(&twice.to_string()))))
    }

    fn json_atom(&mut self, start: usize) -> Result<Edn, Fault> {
        let token = self.token();
        match token {
            "null" => return Ok(Edn::Nil),
            "true" => return Ok(Edn::Bool(true)),
            "false" => return Ok(Edn::Bool(false)),
            _ => {}
        }
        if token.len() > MAX_DIGITS {
            return Err(Fault::new(start, format!("a number of more than {MAX_DIGITS} characters")));
        }
        let plain = token.bytes().all(|b| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'));
        let value = if plain && !token.starts_with('+') { number(token) } else { None };
        value.ok_or_else(|| match token {
            "" => Fault::new(start, format!("byte 0x{:02x} can't begin a value", self.byte().unwrap_or_default())),
            _ => Fault::new(start, format!("{} is no JSON value", quote(token))),
        })
    }
}

/// The functions of micro-operations.
fn is_micro(name: &str) -> bool {
    matches!(name, "r" | "w" | "append")
}

/// A key of a map, from the name in an object.
fn key(name: &str) -> Edn {
    match name.parse::<i64>() {
        Ok(number) if number.to_string() == name => Edn::Int(number),
        _ if is_token(name) => Edn::Keyword(name.into()),
        _ => Edn::Text(name.into()),
    }
}

/// The name that [`key`] reads as this key, if there is one.
fn name(of: &Edn) -> Option<String> {
    let name = match of {
        Edn::Int(number) => number.to_string(),
        Edn::Keyword(name) | Edn::Text(name) => name.to_string(),
        _ => return None,
    };
    (key(&name) == *of && name != ESCAPE).then_some(name)
}

/// A value as JSON that [`Parser::json_value`] reads back as the same value.
pub(super) struct Json<'a>(pub(super) &'a Edn);

impl fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Edn::Nil => f.write_str("null"),
            Edn::Bool(value) => write!(f, "{value}"),
            Edn::Int(value) => write!(f, "{value}"),
            Edn::Number(digits) if digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e')) => {
                f.write_str(digits)
            }
            Edn::Text(value) => text(f, value),
            Edn::Vector(items) => {
                let micro = matches!(&items[..], [Edn::Keyword(name), _, _] if is_micro(name));
                f.write_char('[')?;
                for (position, item) in items.iter().enumerate() {
                    if position > 0 {
                        f.write_char(',')?;
                    }
                    match item {
                        Edn::Keyword(name) if micro && position == 0 => text(f, name)?,
                        // Would be read as the function of a micro-operation.
                        Edn::Text(name) if position == 0 && items.len() == 3 && is_micro(name) => escape(f, item)?,
                        item => write!(f, "{}", Json(item))?,
                    }
                }
                f.write_char(']')
            }
            Edn::Map(entries) => {
                let names: Option<Vec<String>> = entries.iter().map(|(key, _)| name(key)).collect();
                let Some(names) = names else { return escape(f, self.0) };
                f.write_char('{')?;
                for (position, (name, (_, value))) in names.iter().zip(entries).enumerate() {
                    if position > 0 {
                        f.write_char(',')?;
                    }
                    text(f, name)?;
                    write!(f, ":{}", Json(value))?;
                }
                f.write_char('}')
            }
            other => escape(f, other),
        }
    }
}

fn escape(f: &mut fmt::Formatter<'_>, value: &Edn) -> fmt::Result {
    write!(f, "{{\"{ESCAPE}\":")?;
    text(f, &value.to_string())?;
    f.write_char('}')
}

/// A text in quotes.
pub(super) fn text(f: &mut impl Write, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            c if (c as u32) < 0x20 => write!(f, "\\u{:04x}", c as u32)?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

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
use super::parser::{Parser, quote, unclosed};
use super::{Fault, MAX_DIGITS, Value};
use crate::value::text::{ESCAPE, is_micro, key};

/// The value that the text of an `{"#edn": "…"}` says.
pub(crate) fn edn(text: &str) -> Result<Value, String> {
    let mut parser = Parser::new(text, 0);
    match parser.value() {
        Ok(value) if parser.peek().is_ok_and(|rest| rest.is_none()) => Ok(value),
        Ok(_) => Err("there is something after the value in \"#edn\"".into()),
        Err(fault) => Err(format!("in \"#edn\": {}", fault.message)),
    }
}

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
    pub(super) fn json_value(&mut self) -> Result<Value, Fault> {
        let first = self.json_space();
        let start = self.at();
        match first {
            None => Err(Fault::new(start, "the text ends where a value was expected")),
            Some(b'"') => Ok(Value::Text(self.string()?)),
            Some(b'[') => self.json_array(start),
            Some(b'{') => self.json_object(start),
            Some(_) => self.json_atom(start),
        }
    }

    fn json_array(&mut self, start: usize) -> Result<Value, Fault> {
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
        if let [Value::Text(name), _, _] = &items[..]
            && is_micro(name)
        {
            items[0] = Value::Keyword(name.clone());
        }
        Ok(Value::Vector(items))
    }

    fn json_object(&mut self, start: usize) -> Result<Value, Fault> {
        self.enter(start)?;
        self.advance();
        let mut entries: Vec<(Value, Value)> = Vec::new();
        let mut escaped = false;
        self.json_fields(start, |parser, name, _| {
            escaped |= name == ESCAPE;
            entries.push((key(name), parser.json_value()?));
            Ok(())
        })?;
        self.leave();
        if escaped && let [(_, Value::Text(text))] = &entries[..] {
            return edn(text).map_err(|message| Fault::new(start, message));
        }
        Value::map(entries)
            .map_err(|twice| Fault::new(start, format!("the map has the key {} twice", quote(&twice.to_string()))))
    }

    fn json_atom(&mut self, start: usize) -> Result<Value, Fault> {
        let token = self.token();
        match token {
            "null" => return Ok(Value::Nil),
            "true" => return Ok(Value::Bool(true)),
            "false" => return Ok(Value::Bool(false)),
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

/// A value as JSON that [`Parser::json_value`] reads back as the same value.
pub(super) struct Json<'a>(pub(super) &'a Value);

impl fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Keys of objects are texts, so this can't fail.
        f.write_str(&serde_json::to_string(self.0).map_err(|_| fmt::Error)?)
    }
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

//! A reader of EDN over one text. It borrows; only values that are kept are built.
//!
//! Its work is linear in the text and its stack bounded by [`MAX_DEPTH`].

use smol_str::{SmolStr, SmolStrBuilder};

use super::number::number;
use super::{Fault, Value};

/// How deep values may be nested, discards and tags included.
pub const MAX_DEPTH: usize = 128;

/// How many characters a number may have.
pub const MAX_DIGITS: usize = 4096;

pub(super) struct Parser<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    /// The values being read around the present one.
    depth: usize,
}

/// Whether a byte ends a token. Bytes beyond ASCII belong to it.
const ENDS: [bool; 256] = {
    let mut ends = [false; 256];
    let mut i = 0;
    while i <= 32 {
        ends[i] = true;
        i += 1;
    }
    let others = b",()[]{}\";\x7f";
    let mut i = 0;
    while i < others.len() {
        ends[others[i] as usize] = true;
        i += 1;
    }
    ends
};

impl<'a> Parser<'a> {
    /// Reads `text` from byte `at`, which must begin a character.
    pub(super) fn new(text: &'a str, at: usize) -> Parser<'a> {
        Parser { text, bytes: text.as_bytes(), at, depth: 0 }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The next byte of something, after spaces, comments and discarded values; `None` at the end.
    pub(super) fn peek(&mut self) -> Result<Option<u8>, Fault> {
        loop {
            match self.bytes.get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t' | b',' | 0x0b | 0x0c) => self.at += 1,
                Some(b';') => {
                    let rest = &self.bytes[self.at..];
                    self.at += rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
                }
                Some(b'#') if self.bytes.get(self.at + 1) == Some(&b'_') => {
                    let start = self.at;
                    self.at += 2;
                    self.enter(start)?;
                    if matches!(self.peek()?, None | Some(b')' | b']' | b'}')) {
                        return Err(Fault::new(start, "#_ has nothing to discard"));
                    }
                    self.value()?;
                    self.depth -= 1;
                }
                other => return Ok(other.copied()),
            }
        }
    }

    /// Takes the byte that [`Parser::peek`] has just shown.
    pub(super) fn advance(&mut self) {
        self.at += 1;
    }

    /// The next byte, whatever it is.
    pub(super) fn byte(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// The text that was not read yet.
    pub(super) fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Goes into a value that has parts; [`Parser::leave`] is its end.
    pub(super) fn enter(&mut self, at: usize) -> Result<(), Fault> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Fault::new(at, format!("values are nested more than {MAX_DEPTH} deep")));
        }
        Ok(())
    }

    pub(super) fn leave(&mut self) {
        self.depth -= 1;
    }

    /// A token from here to the next delimiter; may be empty.
    pub(super) fn token(&mut self) -> &'a str {
        let start = self.at;
        while let Some(byte) = self.bytes.get(self.at)
            && !ENDS[*byte as usize]
        {
            self.at += 1;
        }
        &self.text[start..self.at]
    }

    /// The name of the keyword that begins here; `None`, and nothing taken, if none does.
    pub(super) fn keyword(&mut self) -> Result<Option<&'a str>, Fault> {
        if self.bytes.get(self.at) != Some(&b':') {
            return Ok(None);
        }
        let start = self.at;
        self.at += 1;
        let name = self.token();
        if name.is_empty() {
            return Err(Fault::new(start, "a keyword without a name"));
        }
        Ok(Some(name))
    }

    /// The tag that begins here (`#name`), without its `#`.
    pub(super) fn tag(&mut self) -> Result<&'a str, Fault> {
        let start = self.at;
        self.at += 1;
        let tag = self.token();
        match tag.as_bytes().first() {
            Some(b) if b.is_ascii_alphabetic() || *b == b':' || !b.is_ascii() => Ok(tag),
            _ => Err(Fault::new(start, "# must be followed by {, _ or a tag")),
        }
    }

    /// One value.
    pub(super) fn value(&mut self) -> Result<Value, Fault> {
        let first = self.peek()?;
        let start = self.at;
        match first {
            None => Err(Fault::new(start, "the text ends where a value was expected")),
            Some(b'[') => Ok(Value::Vector(self.items(start, b']')?)),
            Some(b'(') => Ok(Value::List(self.items(start, b')')?)),
            Some(b'{') => self.map(start),
            Some(b'"') => Ok(Value::Text(self.string()?)),
            Some(b'\\') => self.character(),
            Some(b':') => Ok(Value::Keyword(self.keyword()?.unwrap_or_default().into())),
            Some(b'#') => self.dispatch(start),
            Some(b @ (b')' | b']' | b'}')) => Err(Fault::new(start, format!("unexpected {:?}", b as char))),
            Some(_) => self.atom(start),
        }
    }

    fn atom(&mut self, start: usize) -> Result<Value, Fault> {
        let token = self.token();
        let bytes = token.as_bytes();
        let digit = match bytes {
            [] => return Err(Fault::new(start, format!("byte 0x{:02x} can't begin a value", self.bytes[start]))),
            [b'+' | b'-', second, ..] => second.is_ascii_digit(),
            [first, ..] => first.is_ascii_digit(),
        };
        if digit {
            if token.len() > MAX_DIGITS {
                return Err(Fault::new(start, format!("a number of more than {MAX_DIGITS} characters")));
            }
            return number(token).ok_or_else(|| Fault::new(start, format!("{} is no number", quote(token))));
        }
        match token {
            "nil" => Ok(Value::Nil),
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ if matches!(bytes[0], b'^' | b'@' | b'`' | b'~') => {
                Err(Fault::new(start, format!("{} is not EDN", quote(token))))
            }
            _ => Ok(Value::Symbol(token.into())),
        }
    }

    fn items(&mut self, start: usize, close: u8) -> Result<Vec<Value>, Fault> {
        self.enter(start)?;
        self.at += 1;
        let mut items = Vec::new();
        loop {
            match self.peek()? {
                Some(b) if b == close => break,
                None => return Err(unclosed(start, self.bytes[start])),
                Some(_) => items.push(self.value()?),
            }
        }
        self.at += 1;
        self.depth -= 1;
        Ok(items)
    }

    fn map(&mut self, start: usize) -> Result<Value, Fault> {
        self.enter(start)?;
        self.at += 1;
        let mut entries = Vec::new();
        loop {
            match self.peek()? {
                Some(b'}') => break,
                None => return Err(unclosed(start, b'{')),
                Some(_) => {}
            }
            let key = self.value()?;
            if self.peek()? == Some(b'}') {
                return Err(Fault::new(self.at, format!("the key {} has no value", quote(&key.to_string()))));
            }
            entries.push((key, self.value()?));
        }
        self.at += 1;
        self.depth -= 1;
        Value::map(entries)
            .map_err(|twice| Fault::new(start, format!("the map has the key {} twice", quote(&twice.to_string()))))
    }

    fn dispatch(&mut self, start: usize) -> Result<Value, Fault> {
        match self.bytes.get(start + 1) {
            Some(b'{') => {
                self.at += 1;
                let mut items = self.items(start + 1, b'}')?;
                items.sort();
                items.dedup();
                Ok(Value::Set(items))
            }
            Some(b'#') => {
                self.at += 2;
                match self.token() {
                    name @ ("NaN" | "Inf" | "-Inf") => Ok(Value::Number(SmolStr::from(format!("##{name}")))),
                    name => Err(Fault::new(start, format!("##{} is not EDN", quote(name)))),
                }
            }
            _ => {
                self.enter(start)?;
                let tag = self.tag()?;
                let value = self.value()?;
                self.depth -= 1;
                Ok(Value::Tagged(tag.into(), Box::new(value)))
            }
        }
    }

    /// A text in quotes.
    pub(super) fn string(&mut self) -> Result<SmolStr, Fault> {
        let start = self.at;
        self.at += 1;
        let mut built: Option<SmolStrBuilder> = None;
        let mut run = self.at;
        loop {
            match self.bytes.get(self.at) {
                None => return Err(unclosed(start, b'"')),
                Some(b'"') => {
                    let rest = &self.text[run..self.at];
                    self.at += 1;
                    return Ok(match built {
                        None => rest.into(),
                        Some(mut built) => {
                            built.push_str(rest);
                            built.finish()
                        }
                    });
                }
                Some(b'\\') => {
                    let built = built.get_or_insert_with(SmolStrBuilder::new);
                    built.push_str(&self.text[run..self.at]);
                    built.push(self.escape()?);
                    run = self.at;
                }
                Some(_) => self.at += 1,
            }
        }
    }

    /// The character that an escape of a string stands for.
    fn escape(&mut self) -> Result<char, Fault> {
        let start = self.at;
        let kind = self.bytes.get(start + 1).copied();
        self.at += 2;
        Ok(match kind {
            Some(b'n') => '\n',
            Some(b't') => '\t',
            Some(b'r') => '\r',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'\'') => '\'',
            Some(b'0'..=b'7') => {
                let digits = self.bytes[start + 1..].iter().take(3).take_while(|b| matches!(b, b'0'..=b'7')).count();
                self.at = start + 1 + digits;
                let code = u32::from_str_radix(&self.text[start + 1..self.at], 8).unwrap_or(u32::MAX);
                char::from_u32(code)
                    .filter(|c| *c as u32 <= 0o377)
                    .ok_or_else(|| Fault::new(start, "an octal escape goes to \\377"))?
            }
            Some(b'u') => {
                let unit = self.hex4(start)?;
                match unit {
                    0xd800..=0xdbff => {
                        // Java's strings are UTF-16: the other half must follow.
                        let second = self.at;
                        if self.bytes[second..].starts_with(b"\\u") {
                            self.at += 2;
                            let low = self.hex4(second)?;
                            if (0xdc00..=0xdfff).contains(&low) {
                                let code = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                                return char::from_u32(code).ok_or_else(|| Fault::new(start, "no such character"));
                            }
                        }
                        return Err(Fault::new(start, "half of a surrogate pair"));
                    }
                    _ => char::from_u32(unit).ok_or_else(|| Fault::new(start, "half of a surrogate pair"))?,
                }
            }
            Some(_) => return Err(Fault::new(start, "unknown escape in a string")),
            None => return Err(Fault::new(start, "the text ends within a string")),
        })
    }

    fn hex4(&mut self, start: usize) -> Result<u32, Fault> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.bytes.get(self.at).and_then(|b| (*b as char).to_digit(16));
            unit = unit * 16 + digit.ok_or_else(|| Fault::new(start, "\\u needs four hexadecimal digits"))?;
            self.at += 1;
        }
        Ok(unit)
    }

    fn character(&mut self) -> Result<Value, Fault> {
        let start = self.at;
        self.at += 1;
        let Some(first) = self.text[self.at..].chars().next() else {
            return Err(Fault::new(start, "\\ must be followed by a character"));
        };
        if first.is_whitespace() {
            return Err(Fault::new(start, "\\ must be followed by a character"));
        }
        let name_start = self.at;
        self.at += first.len_utf8();
        self.token();
        let name = &self.text[name_start..self.at];
        let named = match name {
            _ if name.len() == first.len_utf8() => Some(first),
            "newline" => Some('\n'),
            "return" => Some('\r'),
            "space" => Some(' '),
            "tab" => Some('\t'),
            "formfeed" => Some('\u{c}'),
            "backspace" => Some('\u{8}'),
            _ => match name.as_bytes() {
                [b'u', hex @ ..] if hex.len() == 4 && hex.iter().all(u8::is_ascii_hexdigit) => {
                    u32::from_str_radix(&name[1..], 16).ok().and_then(char::from_u32)
                }
                [b'o', octal @ ..] if octal.len() <= 3 && octal.iter().all(|b| matches!(b, b'0'..=b'7')) => {
                    u32::from_str_radix(&name[1..], 8).ok().and_then(char::from_u32)
                }
                _ => None,
            },
        };
        named.map(Value::Char).ok_or_else(|| Fault::new(start, format!("\\{} is no character", quote(name))))
    }
}

/// Whether a text can be the name of a keyword.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| !ENDS[usize::from(b)])
}

pub(super) fn unclosed(at: usize, open: u8) -> Fault {
    Fault::new(at, format!("the text ends before this {:?} is closed", open as char))
}

/// A part of the text as it may stand in a message: short, and without control characters.
pub(super) fn quote(text: &str) -> String {
    let mut quoted: String = text.chars().take(40).flat_map(char::escape_debug).collect();
    if text.chars().nth(40).is_some() {
        quoted.push('…');
    }
    quoted
}

//! The format of a history, by its beginning.

use super::{Format, log};

/// How much of a text's beginning is looked at, in bytes.
const WINDOW: usize = 64 << 10;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// The format of a text, by its beginning. It always answers; reading may then fail.
pub fn detect(bytes: &[u8]) -> Format {
    let window = &bytes[..bytes.len().min(WINDOW)];
    let mut rest = window.strip_prefix(BOM).unwrap_or(window);
    loop {
        rest = rest.trim_ascii_start();
        match rest.first() {
            Some(b',') => rest = &rest[1..],
            Some(b';') => {
                let end = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
                rest = &rest[end..];
            }
            _ => break,
        }
    }
    // Behind the bracket around all operations, if there is one.
    let inner = match rest {
        [b'[', inner @ ..] => inner.trim_ascii_start(),
        _ => rest,
    };
    match (rest.first(), inner) {
        (Some(b'{' | b'['), [b'{', fields @ ..]) if fields.trim_ascii_start().first() == Some(&b'"') => {
            if rest.first() == Some(&b'{') && is_own(rest) { Format::JsonLines } else { Format::Json }
        }
        (Some(b'{' | b'[' | b'(' | b'#'), _) => {
            let end = rest.iter().position(|b| *b == b'}').unwrap_or(rest.len());
            let first = &rest[..end];
            let keyed = contains(first, b":key ");
            let function = [&b":f :get"[..], b":f :put", b":f :append"].iter().any(|f| contains(first, f));
            if keyed && function { Format::Porcupine } else { Format::Edn }
        }
        _ if contains(rest, log::MARK.as_bytes()) => Format::JepsenLog,
        _ if rest.split(|b| *b == b'\n').any(log::is_bare) => Format::HistoryText,
        _ => Format::Edn,
    }
}

/// Whether the first line is an event of our own that no operation map looks like.
fn is_own(text: &[u8]) -> bool {
    let line = text.split(|b| *b == b'\n').next().unwrap_or_default();
    [&b"\"header\""[..], b"\"complete\"", b"\"fault\"", b"\"evidence\"", b"\"observation\"", b"\"phase\""]
        .iter()
        .any(|kind| contains(line, &[b"\"type\":", *kind].concat()) || contains(line, &[b"\"type\": ", *kind].concat()))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|w| w == part)
}

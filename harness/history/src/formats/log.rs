//! Jepsen's text log: `INFO  jepsen.util - 4<TAB>:invoke<TAB>:cas<TAB>[2 4]`, as old versions of
//! Jepsen print each operation and as Porcupine's tests keep them. Other lines of the log are
//! passed over; a line that begins like an operation has to be one.

use super::pairing::{Entry, Kind, Pairing, Who};
use super::parser::{Parser, quote};
use super::{Edn, Fault, Function};

/// What stands before an operation.
pub(super) const MARK: &str = "jepsen.util";

pub(super) fn read(text: &str, start: usize, pairing: &mut Pairing<'_>) -> Result<(), Fault> {
    let mut at = start;
    for line in text[start..].split_inclusive('\n') {
        let end = at + line.trim_end_matches(['\n', '\r']).len();
        if let Some(from) = operation_start(&text[at..end]) {
            let entry = operation(&text[..end], at + from)?;
            pairing.push(entry, at + from)?;
        }
        at += line.len();
    }
    Ok(())
}

/// Where the process stands, if the line logs an operation: after the mark and an optional dash,
/// one word and a tab.
fn operation_start(line: &str) -> Option<usize> {
    let after = line.find(MARK)? + MARK.len();
    let rest = line[after..].trim_start_matches([' ', '\t']);
    let rest = rest.strip_prefix("- ").unwrap_or(rest).trim_start_matches(' ');
    let word = rest.find('\t')?;
    let process = rest[..word].trim_end_matches(' ');
    (!process.is_empty() && !process.contains(' ')).then(|| line.len() - rest.len())
}

/// The operation at byte `at`; `text` ends where its line does.
fn operation(text: &str, at: usize) -> Result<Entry, Fault> {
    let mut parser = Parser::new(text, at);
    let who = Who::of(required(&mut parser, "a process")?.0).map_err(|message| Fault::new(at, message))?;
    let (kind, spot) = required(&mut parser, "a type")?;
    let kind = match &kind {
        Edn::Keyword(name) => Kind::named(name),
        _ => None,
    };
    let kind = kind.ok_or_else(|| Fault::new(spot, "the type must be :invoke, :ok, :fail or :info"))?;
    let (function, spot) = required(&mut parser, "a function")?;
    let Edn::Keyword(function) = function else {
        return Err(Fault::new(spot, format!("{} is no keyword such as :read", quote(&function.to_string()))));
    };
    let function = Function::named(&function);
    let (value, spot) = required(&mut parser, "a value")?;
    let client = matches!(who, Who::Client(_));
    if client && kind == Kind::Invoke && function == Function::Cas && value.as_sequence().is_none_or(|s| s.len() != 2) {
        return Err(Fault::new(
            spot,
            format!("the value of :cas must be [from to], not {}", quote(&value.to_string())),
        ));
    }
    let error = match parser.peek()? {
        Some(_) => Some(parser.value()?),
        None => None,
    };
    if client && parser.peek()?.is_some() {
        return Err(Fault::new(parser.at(), "there is something after the operation's value and error"));
    }
    Ok(Entry { kind, who, function, key: None, value, error, time_ns: None, index: None })
}

/// The next value of the line, and where it begins.
fn required(parser: &mut Parser<'_>, what: &str) -> Result<(Edn, usize), Fault> {
    match parser.peek()? {
        None => Err(Fault::new(parser.at(), format!("the line ends where {what} was expected"))),
        Some(_) => {
            let at = parser.at();
            Ok((parser.value()?, at))
        }
    }
}

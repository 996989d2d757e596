//! Operations in columns, as Jepsen prints them: `4<TAB>:invoke<TAB>:cas<TAB>[2 4]`, with an error
//! behind where there is one. In Jepsen's log they stand behind `jepsen.util -` or `jepsen.util:`
//! (other lines are passed over; a line that begins like an operation has to be one), in
//! `history.txt` alone.

use std::io::Read;

use super::pairing::{Entry, Kind, Pairing, Who};
use super::parser::{Parser, quote};
use super::{Fault, Function, ReadError, Source, Value};

/// What stands before an operation in a log.
pub(super) const MARK: &str = "jepsen.util";

/// Where operations stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Columns {
    /// Behind [`MARK`], in lines among others.
    Marked,
    /// From the beginning of every line that is not blank.
    Bare,
}

pub(super) fn read<R: Read>(source: &mut Source<R>, columns: Columns, pairing: &mut Pairing) -> Result<(), ReadError> {
    while let Some((start, end)) = source.line()? {
        let line = source.window()[start..end].trim_end_matches('\r');
        let found = match columns {
            Columns::Marked => operation_start(line),
            Columns::Bare => Some(line.len() - line.trim_start().len()).filter(|from| *from < line.len()),
        };
        let Some(from) = found else { continue };
        let (at, end) = (start + from, start + line.len());
        match operation(&source.window()[..end], at) {
            Ok(entry) => {
                let place = source.place(at);
                pairing.push(entry, place)?;
            }
            Err(fault) => return Err(source.locate(fault)),
        }
    }
    Ok(())
}

/// Whether a line has the columns of an operation.
pub(super) fn is_bare(line: &[u8]) -> bool {
    let mut columns = line.split(|b| *b == b'\t').map(<[u8]>::trim_ascii);
    columns.next().is_some_and(|process| !process.is_empty())
        && columns.next().is_some_and(|kind| matches!(kind, b":invoke" | b":ok" | b":fail" | b":info"))
        && columns.next().is_some()
}

/// Where the process stands, if the line logs an operation: after the mark and its dash or colon,
/// one word and a tab.
fn operation_start(line: &str) -> Option<usize> {
    let after = line.find(MARK)? + MARK.len();
    let rest = line[after..].trim_start_matches([' ', '\t']);
    let rest = rest.strip_prefix("- ").or_else(|| rest.strip_prefix(": ")).unwrap_or(rest).trim_start_matches(' ');
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
        Value::Keyword(name) => Kind::named(name),
        _ => None,
    };
    let kind = kind.ok_or_else(|| Fault::new(spot, "the type must be :invoke, :ok, :fail or :info"))?;
    let (function, spot) = required(&mut parser, "a function")?;
    let Value::Keyword(function) = function else {
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
    Ok(Entry {
        kind,
        who,
        function,
        key: None,
        value,
        error,
        time_ns: None,
        index: None,
        client: None,
        asked: None,
        node: None,
        term: None,
    })
}

/// The next value of the line, and where it begins.
fn required(parser: &mut Parser<'_>, what: &str) -> Result<(Value, usize), Fault> {
    match parser.peek()? {
        None => Err(Fault::new(parser.at(), format!("the line ends where {what} was expected"))),
        Some(_) => {
            let at = parser.at();
            Ok((parser.value()?, at))
        }
    }
}

//! Operation maps: `{:process 0, :type :invoke, :f :read, :value nil}` in EDN, with or without a
//! tag (`#jepsen.history.Op{…}`), or the same in JSON; one after the other or inside one vector or
//! list. <https://github.com/jepsen-io/history> defines their fields.

use std::io::Read;

use smol_str::SmolStr;

use super::pairing::{Entry, Kind, Pairing, Who};
use super::parser::{Parser, quote, unclosed};
use super::{Fault, Function, Place, ReadError, Source, Value};

/// The notation of the maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    Edn,
    Json,
}

/// What stands next in the text.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and it is taken apart at once")]
enum Step {
    Entry(Entry),
    /// The bracket around all operations, and what closes it.
    Open(u8),
    Close,
    End,
}

/// The brackets around all operations, if there are any.
#[derive(Default)]
struct Brackets {
    begun: bool,
    open: Option<(Place, u8)>,
    closed: bool,
}

pub(super) fn read<R: Read>(source: &mut Source<R>, syntax: Syntax, pairing: &mut Pairing) -> Result<(), ReadError> {
    let mut brackets = Brackets::default();
    loop {
        let mut parser = Parser::new(source.window(), source.taken());
        let next = step(&mut parser, syntax, &brackets);
        let stopped = parser.at();
        let (step, at) = match next {
            Ok(next) => next,
            Err(fault) => {
                if source.retry(stopped)? {
                    continue;
                }
                return Err(source.locate(fault));
            }
        };
        if matches!(step, Step::End) {
            if source.retry(stopped)? {
                continue;
            }
            return match brackets.open {
                Some((place, close)) if !brackets.closed => {
                    let open = if close == b']' { '[' } else { '(' };
                    Err(place.error(format!("the text ends before this {open:?} is closed")))
                }
                _ => Ok(()),
            };
        }
        let place = source.place(at);
        source.take(stopped);
        match step {
            Step::Entry(entry) => pairing.push(entry, place)?,
            Step::Open(close) => brackets.open = Some((place, close)),
            Step::Close => brackets.closed = true,
            Step::End => {}
        }
        brackets.begun = true;
    }
}

/// What stands next, and where it begins.
fn step(parser: &mut Parser<'_>, syntax: Syntax, brackets: &Brackets) -> Result<(Step, usize), Fault> {
    let next = match syntax {
        Syntax::Edn => parser.peek()?,
        Syntax::Json => parser.json_peek(),
    };
    let at = parser.at();
    let Some(next) = next else { return Ok((Step::End, at)) };
    let step = match next {
        _ if brackets.closed => return Err(Fault::new(at, "there is something after the end of the history")),
        b'{' => Step::Entry(operation(parser, syntax)?),
        b'#' if syntax == Syntax::Edn => {
            parser.tag()?;
            match parser.peek()? {
                Some(b'{') => Step::Entry(operation(parser, syntax)?),
                _ => return Err(Fault::new(at, "a tag must be followed by an operation map here")),
            }
        }
        b'[' | b'(' if !brackets.begun && (next == b'[' || syntax == Syntax::Edn) => {
            parser.advance();
            Step::Open(if next == b'[' { b']' } else { b')' })
        }
        close if brackets.open.is_some_and(|(_, expected)| expected == close) => {
            parser.advance();
            Step::Close
        }
        _ => {
            let expected = match syntax {
                Syntax::Edn => "{:process 0, …}",
                Syntax::Json => "{\"process\": 0, …}",
            };
            let found = quote(parser.rest().lines().next().unwrap_or_default());
            return Err(Fault::new(at, format!("an operation map such as {expected} was expected, not {found}")));
        }
    };
    Ok((step, at))
}

/// The fields that mean something to us.
#[derive(Default)]
pub(super) struct Fields {
    kind: Option<Kind>,
    function: Option<Function>,
    who: Option<Who>,
    value: Option<Value>,
    key: Option<Value>,
    error: Option<Value>,
    /// What was thrown, by its class.
    exception: Option<Value>,
    time: Option<i64>,
    index: Option<i64>,
}

/// Sets a field that may be given once.
fn once<T>(field: &mut Option<T>, value: T, name: &str, at: usize) -> Result<(), Fault> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(Fault::new(at, format!("the operation has :{name} twice"))),
    }
}

fn operation(parser: &mut Parser<'_>, syntax: Syntax) -> Result<Entry, Fault> {
    let start = parser.at();
    parser.advance();
    let mut fields = Fields::default();
    match syntax {
        Syntax::Edn => edn_fields(parser, start, &mut fields)?,
        Syntax::Json => parser.json_fields(start, |parser, name, at| json_field(&mut fields, name, at, parser))?,
    }
    let missing = |name: &str| Fault::new(start, format!("the operation has no :{name}"));
    let value = fields.value.unwrap_or_default();
    // elle's own histories often leave the function of transactions out.
    let function = fields.function.or_else(|| is_transaction(&value).then_some(Function::Txn));
    Ok(Entry {
        kind: fields.kind.ok_or_else(|| missing("type"))?,
        who: fields.who.unwrap_or(Who::Nobody),
        function: function.ok_or_else(|| missing("f"))?,
        key: fields.key,
        value,
        error: fields.error.or(fields.exception),
        time_ns: fields.time,
        index: fields.index,
        client: None,
        asked: None,
        node: None,
        term: None,
    })
}

/// Whether a value is a list of micro-operations such as `[:r 1 nil]`.
fn is_transaction(value: &Value) -> bool {
    value.as_sequence().is_some_and(|items| {
        !items.is_empty()
            && items.iter().all(|item| matches!(item.as_sequence(), Some([Value::Keyword(_) | Value::Text(_), ..])))
    })
}

fn edn_fields(parser: &mut Parser<'_>, start: usize, fields: &mut Fields) -> Result<(), Fault> {
    loop {
        match parser.peek()? {
            Some(b'}') => break,
            None => return Err(unclosed(start, b'{')),
            Some(_) => {}
        }
        let at = parser.at();
        let Some(name) = parser.keyword()? else {
            // A key that can't be one of ours.
            parser.value()?;
            parser.value()?;
            continue;
        };
        if parser.peek()? == Some(b'}') {
            return Err(Fault::new(at, format!(":{} has no value", quote(name))));
        }
        edn_field(fields, name, at, parser)?;
    }
    parser.advance();
    Ok(())
}

/// A field of an EDN map, when the parser stands before its value.
fn edn_field(fields: &mut Fields, name: &str, at: usize, parser: &mut Parser<'_>) -> Result<(), Fault> {
    match name {
        "type" => {
            let spot = parser.at();
            let kind = match parser.keyword()? {
                Some(keyword) => Kind::named(keyword),
                None => None,
            };
            let kind = kind.ok_or_else(|| Fault::new(spot, ":type must be :invoke, :ok, :fail or :info"))?;
            once(&mut fields.kind, kind, name, at)
        }
        "f" => {
            let function = match parser.keyword()? {
                Some(keyword) => Function::named(keyword),
                None => function_of(parser.value()?),
            };
            once(&mut fields.function, function, name, at)
        }
        "process" | "value" | "key" | "error" | "exception" | "time" | "index" => {
            let spot = parser.at();
            let value = parser.value()?;
            fields.set(name, at, value, spot)
        }
        _ => parser.value().map(drop),
    }
}

/// A field of a JSON map, when the parser stands before its value.
fn json_field(fields: &mut Fields, name: &str, at: usize, parser: &mut Parser<'_>) -> Result<(), Fault> {
    let spot = parser.at();
    let value = parser.json_value()?;
    match (name, value) {
        ("type", Value::Text(kind)) => match Kind::named(&kind) {
            Some(kind) => once(&mut fields.kind, kind, name, at),
            None => Err(Fault::new(spot, "the type must be \"invoke\", \"ok\", \"fail\" or \"info\"")),
        },
        ("type", _) => Err(Fault::new(spot, "the type must be \"invoke\", \"ok\", \"fail\" or \"info\"")),
        ("f", Value::Nil) => Ok(()),
        ("f", function) => once(&mut fields.function, function_of(function), name, at),
        (name, value) => fields.set(name, at, value, spot),
    }
}

impl Fields {
    /// Sets the field whose name stands at byte `at` and whose value stands at byte `spot`; others
    /// mean nothing.
    fn set(&mut self, name: &str, at: usize, value: Value, spot: usize) -> Result<(), Fault> {
        match name {
            "process" if value == Value::Nil => Ok(()),
            "process" => {
                let who = Who::of(value).map_err(|message| Fault::new(spot, message))?;
                once(&mut self.who, who, name, at)
            }
            "value" => once(&mut self.value, value, name, at),
            "key" => once(&mut self.key, value, name, at),
            "error" => match value {
                Value::Nil => Ok(()),
                error => once(&mut self.error, error, name, at),
            },
            "exception" => match value {
                Value::Nil => Ok(()),
                thrown => once(&mut self.exception, class(thrown), name, at),
            },
            "time" => match whole(value, name, spot)? {
                Some(time) => once(&mut self.time, time, name, at),
                None => Ok(()),
            },
            "index" => match whole(value, name, spot)? {
                Some(index) => once(&mut self.index, index, name, at),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

/// The class of an exception as Clojure's `Throwable->map` gives it: that of the first of its `:via`.
/// The rest, with its stack trace, is not kept.
fn class(thrown: Value) -> Value {
    let via = thrown.get("via").and_then(Value::as_sequence).and_then(<[Value]>::first);
    match via.and_then(|via| via.get("type")) {
        Some(class) => class.clone(),
        None => thrown,
    }
}

/// A name that is no keyword still names a function: `nil`, `"read"`, `read`.
fn function_of(value: Value) -> Function {
    match value {
        Value::Text(name) | Value::Symbol(name) => Function::named(&name),
        other => Function::Other(SmolStr::from(other.to_string())),
    }
}

/// A whole number, or `nil`. Clojure's clocks may also give a floating-point time: cut off.
fn whole(value: Value, name: &str, spot: usize) -> Result<Option<i64>, Fault> {
    match value {
        Value::Nil => Ok(None),
        Value::Int(number) => Ok(Some(number)),
        Value::Number(text) if name == "time" => match text.parse::<f64>() {
            Ok(time) if time.is_finite() => Ok(Some(time as i64)),
            _ => Err(Fault::new(spot, ":time is out of range")),
        },
        other => Err(Fault::new(spot, format!(":{name} must be a whole number, not {}", quote(&other.to_string())))),
    }
}

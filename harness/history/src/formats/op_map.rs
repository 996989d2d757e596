//! Operation maps in EDN: `{:process 0, :type :invoke, :f :read, :value nil}`, with or without a
//! tag (`#jepsen.history.Op{…}`), one after the other or inside one vector or list.
//! <https://github.com/jepsen-io/history> defines their fields.

use smol_str::SmolStr;

use super::pairing::{Entry, Kind, Pairing, Who};
use super::parser::{Parser, quote, unclosed};
use super::{Edn, Fault, Function};

pub(super) fn read(text: &str, start: usize, pairing: &mut Pairing<'_>) -> Result<(), Fault> {
    let mut parser = Parser::new(text, start);
    // The brackets around all operations, if there are any.
    let mut outer: Option<(usize, u8)> = None;
    let mut closed = false;
    while let Some(next) = parser.peek()? {
        let at = parser.at();
        match next {
            _ if closed => return Err(Fault::new(at, "there is something after the end of the history")),
            b'{' => operation(&mut parser, pairing)?,
            b'#' => {
                parser.tag()?;
                match parser.peek()? {
                    Some(b'{') => operation(&mut parser, pairing)?,
                    _ => return Err(Fault::new(at, "a tag must be followed by an operation map here")),
                }
            }
            b'[' | b'(' if at == first(text, start)? => {
                outer = Some((at, if next == b'[' { b']' } else { b')' }));
                parser.advance();
            }
            close if outer.is_some_and(|(_, c)| c == close) => {
                parser.advance();
                closed = true;
            }
            _ => {
                let rest = quote(text[at..].lines().next().unwrap_or_default());
                return Err(Fault::new(
                    at,
                    format!("an operation map such as {{:process 0, …}} was expected, not {rest}"),
                ));
            }
        }
    }
    match outer {
        Some((at, close)) if !closed => Err(unclosed(at, if close == b']' { b'[' } else { b'(' })),
        _ => Ok(()),
    }
}

/// Where the first thing of the text begins.
fn first(text: &str, start: usize) -> Result<usize, Fault> {
    let mut parser = Parser::new(text, start);
    parser.peek()?;
    Ok(parser.at())
}

/// The fields that mean something to us.
#[derive(Default)]
struct Fields {
    kind: Option<Kind>,
    function: Option<Function>,
    who: Option<Who>,
    value: Option<Edn>,
    key: Option<Edn>,
    error: Option<Edn>,
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

fn operation(parser: &mut Parser<'_>, pairing: &mut Pairing<'_>) -> Result<(), Fault> {
    let start = parser.at();
    parser.advance();
    let mut fields = Fields::default();
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
        field(&mut fields, name, at, parser)?;
    }
    parser.advance();
    let missing = |name: &str| Fault::new(start, format!("the operation has no :{name}"));
    let entry = Entry {
        kind: fields.kind.ok_or_else(|| missing("type"))?,
        who: fields.who.ok_or_else(|| missing("process"))?,
        function: fields.function.ok_or_else(|| missing("f"))?,
        key: fields.key,
        value: fields.value.unwrap_or_default(),
        error: fields.error,
        time_ns: fields.time,
        index: fields.index,
    };
    pairing.push(entry, start)
}

fn field(fields: &mut Fields, name: &str, at: usize, parser: &mut Parser<'_>) -> Result<(), Fault> {
    match name {
        "type" => {
            parser.peek()?;
            let spot = parser.at();
            let kind = match parser.keyword()? {
                Some(keyword) => Kind::named(keyword),
                None => None,
            };
            let kind = kind.ok_or_else(|| Fault::new(spot, ":type must be :invoke, :ok, :fail or :info"))?;
            once(&mut fields.kind, kind, name, at)
        }
        "f" => {
            parser.peek()?;
            let function = match parser.keyword()? {
                Some(keyword) => Function::named(keyword),
                None => function_of(parser.value()?),
            };
            once(&mut fields.function, function, name, at)
        }
        "process" => {
            parser.peek()?;
            let spot = parser.at();
            let who = Who::of(parser.value()?).map_err(|message| Fault::new(spot, message))?;
            once(&mut fields.who, who, name, at)
        }
        "value" => once(&mut fields.value, parser.value()?, name, at),
        "key" => once(&mut fields.key, parser.value()?, name, at),
        "error" => once(&mut fields.error, parser.value()?, name, at),
        "time" => match whole(parser, name)? {
            Some(time) => once(&mut fields.time, time, name, at),
            None => Ok(()),
        },
        "index" => match whole(parser, name)? {
            Some(index) => once(&mut fields.index, index, name, at),
            None => Ok(()),
        },
        _ => parser.value().map(drop),
    }
}

/// A name that is no keyword still names a function: `nil`, `"read"`, `read`.
fn function_of(value: Edn) -> Function {
    match value {
        Edn::Text(name) | Edn::Symbol(name) => Function::named(&name),
        other => Function::Other(SmolStr::from(other.to_string())),
    }
}

/// A whole number, or `nil`. Clojure's clocks may also give a floating-point time: cut off.
fn whole(parser: &mut Parser<'_>, name: &str) -> Result<Option<i64>, Fault> {
    parser.peek()?;
    let spot = parser.at();
    match parser.value()? {
        Edn::Nil => Ok(None),
        Edn::Int(number) => Ok(Some(number)),
        Edn::Number(text) if name == "time" => match text.parse::<f64>() {
            Ok(time) if time.is_finite() => Ok(Some(time as i64)),
            _ => Err(Fault::new(spot, ":time is out of range")),
        },
        other => Err(Fault::new(spot, format!(":{name} must be a whole number, not {}", quote(&other.to_string())))),
    }
}

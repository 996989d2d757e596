//! Histories as text, one operation, fault or observation per line; times in milliseconds.
//!
//! ```text
//! 1 c1/n1 write x 1      : 10 20 ok by n1 term 0
//! 2 c2/n2 read x         : 30 40 ok 1
//! 3 c1/n1 cas x 1 2      : 50 60 info timeout
//! 4 c1/n1 acquire l 1000 : 70 80 ok token 7
//! 5 c1/n1 add 12         : 90 -               (never completed)
//! 6 c1/n1 read           : 95 99 ok [1 2 3]
//! fault 1 partition n1 | n2 n3 : 10 50        (proven; `unproven`, `unhealed`, `unmeasured` after)
//! say n1 leads 0         : 10
//! say n2 follows 1       : 10
//! say n1 digest 64 abc   : 10
//! phase recovery         : 80
//! nodes n1 n2 n3
//! ```
//!
//! Empty lines and what follows a `#` are passed over. A history ends with `phase end` unless it
//! says `cut short`.

use duress_checkers::mutex::LockOp;
use duress_checkers::register::RegisterOp;
use duress_history::{
    Client, Completion, Event, EventKind, Evidence, FaultEvent, Function, Header, Invocation, NodeReport, Op, Outcome,
    Phase, Process, Stage, Time, Value,
};

/// The history that a text describes.
pub(crate) fn parse(text: &str) -> Vec<Event> {
    let mut events = Vec::new();
    let mut cut_short = false;
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        match line {
            "" => {}
            "cut short" => cut_short = true,
            _ => parse_line(line, &mut events).unwrap_or_else(|| panic!("can't read the line {line:?}")),
        }
    }
    events.sort_by_key(|event| event.time);
    if !cut_short {
        let time = events.last().map_or(Time(0), |event| event.time);
        events.push(Event { time, kind: EventKind::Phase { phase: Phase::End } });
    }
    events
}

fn parse_line(line: &str, events: &mut Vec<Event>) -> Option<()> {
    if let Some(nodes) = line.strip_prefix("nodes ") {
        let nodes = nodes.split_whitespace().map(Into::into).collect();
        let header =
            Header { version: 1, scenario: "test".into(), seed: 1, nodes, clients: Vec::new(), started_unix_ms: 0 };
        events.push(Event { time: Time(0), kind: EventKind::Header(header) });
        return Some(());
    }
    let (what, when) = line.rsplit_once(':')?;
    let what: Vec<&str> = what.split_whitespace().collect();
    let when: Vec<&str> = when.split_whitespace().collect();
    let start = time(when.first()?)?;
    match what.as_slice() {
        ["phase", phase] => {
            let phase = match *phase {
                "main" => Phase::Main,
                "recovery" => Phase::Recovery,
                "final" => Phase::Final,
                "end" => Phase::End,
                _ => return None,
            };
            events.push(Event { time: start, kind: EventKind::Phase { phase } });
        }
        ["say", node, said @ ..] => {
            let mut report = NodeReport {
                node: (*node).into(),
                role: None,
                leads: false,
                term: None,
                leader: None,
                index: None,
                digest: None,
            };
            match said {
                ["leads", term] => {
                    report.leads = true;
                    report.role = Some("primary".into());
                    report.term = term.parse().ok();
                }
                ["follows", term] => {
                    report.role = Some("backup".into());
                    report.term = term.parse().ok();
                }
                ["digest", index, digest] => {
                    report.index = index.parse().ok();
                    report.digest = u64::from_str_radix(digest, 16).ok();
                }
                _ => return None,
            }
            events.push(Event { time: start, kind: EventKind::Observation(report) });
        }
        ["fault", id, kind, words @ ..] => fault(id.parse().ok()?, kind, words, start, &when, events)?,
        [process, client, op @ ..] => {
            let process = Process(process.parse().ok()?);
            let (host, node) = client.split_once('/')?;
            let op = operation(op)?;
            let client = Some(Client { host: host.into(), node: node.into() });
            let invocation = Invocation { process, client, op: op.clone() };
            events.push(Event { time: start, kind: EventKind::Invoke(invocation) });
            if when[1] != "-" {
                let completion = completion(process, op, &when[2..])?;
                events.push(Event { time: time(when[1])?, kind: EventKind::Complete(completion) });
            }
        }
        _ => return None,
    }
    Some(())
}

fn time(text: &str) -> Option<Time> {
    text.parse::<u64>().ok().map(|millis| Time(millis * 1_000_000))
}

fn value(text: &str) -> Value {
    match text.parse() {
        Ok(int) => Value::Int(int),
        Err(_) if text == "nil" => Value::Nil,
        Err(_) => Value::Text(text.into()),
    }
}

fn operation(words: &[&str]) -> Option<Op> {
    let number = |text: &str| text.parse::<u64>().ok();
    Some(match *words {
        ["read", key] => RegisterOp::Read.on(key),
        ["write", key, v] => RegisterOp::Write(value(v)).on(key),
        ["cas", key, from, to] => RegisterOp::Cas { from: value(from), to: value(to) }.on(key),
        ["add", element] => Op::new(Function::Add, element.parse::<i64>().ok()?),
        ["read"] => Op::new(Function::Read, Value::Nil),
        ["acquire", lock, lease] => LockOp::Acquire { lease_ms: number(lease)? }.on(lock),
        ["renew", lock, token, lease] => LockOp::Renew { token: number(token)?, lease_ms: number(lease)? }.on(lock),
        ["release", lock, token] => LockOp::Release { token: number(token)? }.on(lock),
        ["access", lock, token] => LockOp::Access { token: number(token)?, work_ms: 1 }.on(lock),
        _ => return None,
    })
}

fn completion(process: Process, op: Op, words: &[&str]) -> Option<Completion> {
    let outcome = match *words.first()? {
        "ok" => Outcome::Ok,
        "fail" => Outcome::Fail,
        "info" => Outcome::Info,
        _ => return None,
    };
    let mut completion = Completion { process, outcome, op, result: Value::Nil, error: None, node: None, term: None };
    let mut rest = words[1..].iter();
    while let Some(word) = rest.next() {
        match *word {
            "by" => completion.node = Some((*rest.next()?).into()),
            "term" => completion.term = rest.next()?.parse().ok(),
            "token" => completion.result = Value::Int(rest.next()?.parse().ok()?),
            _ if word.starts_with('[') => {
                let mut text = word.to_string();
                while !text.ends_with(']') {
                    text = format!("{text} {}", rest.next()?);
                }
                let inner = text.trim_matches(['[', ']']);
                let elements = inner.split_whitespace().map(|e| e.parse().ok().map(Value::Int));
                completion.result = Value::Vector(elements.collect::<Option<_>>()?);
            }
            _ if outcome == Outcome::Ok => completion.result = value(word),
            error => completion.error = Some(error.into()),
        }
    }
    Some(completion)
}

fn fault(id: u64, kind: &str, words: &[&str], start: Time, when: &[&str], events: &mut Vec<Event>) -> Option<()> {
    let end = time(when[1])?;
    let how = when.get(2).copied().unwrap_or("proven");
    let mut event = |time, kind| events.push(Event { time, kind });
    for (time, stage) in [(start, Stage::Start), (end, Stage::End)] {
        if stage == Stage::End && how == "unhealed" {
            continue;
        }
        let fault = FaultEvent {
            fault: id,
            stage,
            kind: kind.into(),
            what: format!("{kind}: {}", words.join(" ")),
            hosts: words.iter().filter(|w| **w != "|").map(|w| (*w).into()).collect(),
            links: Vec::new(),
        };
        event(time, EventKind::Fault(fault));
        if how != "unmeasured" {
            let proven = how != "unproven";
            let what = if proven { "measured" } else { "the link n1 -> n2 still let 3 probes through" }.into();
            let evidence = Evidence { fault: id, stage, proven, what, measured: Default::default() };
            event(time, EventKind::Evidence(evidence));
        }
    }
    Some(())
}

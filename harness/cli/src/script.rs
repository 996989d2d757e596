//! Scripts: a scenario, the very operations that its clients carry out, and what must come of each.
//!
//! A script file is a scenario, a line `---`, and a line for each operation:
//!
//! ```text
//! 500ms  c1.n1  write x 1  -> ok
//! then   c2.n2  read x     -> ok 1 | info timeout
//! then   c2.n3  read x     until ok 1
//! finally linearizable
//! ```
//!
//! *When*: a time since the main phase began, or `then`: once all lines above have ended. *Who*:
//! `c1.n2` is the process on client host c1 that asks n2 first. *What*: `read`, `write`, `cas KEY
//! FROM TO`, `add`, `elements`, `acquire LOCK LEASE`, `renew LOCK LEASE`, `release LOCK`, `access
//! LOCK WORK`, the last three with the token that the process was last granted. *Expected*: `ok`,
//! `ok VALUE`, `fail`, `info`, the last two with a reason perhaps, and each with `by NODE`
//! perhaps; any of several. `until` repeats the operation until it ends as expected: that is how
//! a script waits. `finally` names the checkers that must find the run invalid; the others must
//! not.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use duress_checkers::mutex::LockOp;
use duress_checkers::register::RegisterOp;
use duress_history::{Completion, Function, Op, Outcome, Value};
use duress_plug::duration;
use duress_scenario::Scenario;
use duress_workloads::{Generator, Next, Slot};
use smol_str::{SmolStr, ToSmolStr};

use crate::assemble::plugs;

/// No script is longer.
const MAX_LINES: usize = 1000;
/// Processes are looked for among so many slots.
const MAX_SLOTS: usize = 1000;
/// The pause between two tries of a line with `until`, and between two looks at whether a line's
/// turn has come.
const AGAIN: Duration = Duration::from_millis(20);

/// A script.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) scenario: Scenario,
    pub(crate) lines: Vec<Line>,
    /// The checkers that must find the run invalid.
    pub(crate) broken: Vec<String>,
}

/// One operation.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// As it was written.
    pub(crate) text: String,
    /// When it begins; `None`: once all lines above have ended.
    at: Option<Duration>,
    /// The process's client host and node, from zero.
    pub(crate) client: usize,
    pub(crate) node: usize,
    slot: usize,
    what: What,
    /// It is repeated until it ends as expected.
    until: bool,
    expected: Vec<Expected>,
}

/// An operation; tokens are known when it begins.
#[derive(Clone, Debug)]
enum What {
    Plain(Op),
    Renew { lock: SmolStr, lease_ms: u64 },
    Release { lock: SmolStr },
    Access { lock: SmolStr, work_ms: u64 },
}

/// A way in which an operation may end.
#[derive(Clone, Debug)]
struct Expected {
    outcome: Outcome,
    /// What it gives back, or why it does not succeed.
    result: Option<String>,
    by: Option<String>,
}

/// How an operation ended: its outcome, what it gave back or why it did not succeed, who answered.
pub(crate) fn ending(completion: &Completion) -> String {
    let by = completion.node.as_ref().map_or_else(String::new, |node| format!(" by {node}"));
    match result(completion) {
        Some(result) => format!("{} {result}{by}", completion.outcome),
        None => format!("{}{by}", completion.outcome),
    }
}

fn result(completion: &Completion) -> Option<String> {
    match (completion.outcome, &completion.result) {
        (Outcome::Ok, Value::Nil) if !completion.op.f.reads() => None,
        (Outcome::Ok, Value::Text(text)) => Some(text.to_string()),
        (Outcome::Ok, value) => Some(match value.as_elements() {
            Some(elements) => {
                let mut elements = elements.to_vec();
                elements.sort_unstable();
                elements.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
            }
            None => value.to_string(),
        }),
        _ => completion.error.as_ref().map(ToString::to_string),
    }
}

impl Expected {
    fn is(&self, completion: &Completion) -> bool {
        self.outcome == completion.outcome
            && self.result.as_ref().is_none_or(|wanted| result(completion).as_ref() == Some(wanted))
            && self.by.as_ref().is_none_or(|by| completion.node.as_deref() == Some(by.as_str()))
    }
}

impl Line {
    /// Whether an ending is among those expected.
    pub(crate) fn expects(&self, completion: &Completion) -> bool {
        self.expected.iter().any(|expected| expected.is(completion))
    }

    /// Whether this was the last time that the operation was tried.
    pub(crate) fn is_over(&self, completion: &Completion) -> bool {
        !self.until || self.expects(completion)
    }

    /// Whether there is one way only in which it may end, so that every world must show the same.
    pub(crate) fn is_certain(&self) -> bool {
        self.expected.len() == 1
    }
}

/// What is wrong with a script, and in which line.
#[derive(Debug)]
pub(crate) struct ScriptError(String);

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Script {
    /// Reads a script.
    ///
    /// # Errors
    /// Says what is wrong, and where.
    pub(crate) fn parse(bytes: &[u8], file: &str) -> Result<Script, ScriptError> {
        let text = std::str::from_utf8(bytes).map_err(|_| ScriptError(format!("{file}: not UTF-8")))?;
        let (head, body, first) = halves(text).ok_or_else(|| {
            ScriptError(format!("{file}: a script is a scenario, a line ---, and a line for each operation"))
        })?;
        let mut scenario =
            Scenario::parse_bytes(head.as_bytes(), file, &[], &plugs()).map_err(|e| ScriptError(e.to_string()))?;
        scenario.seed.get_or_insert(1);
        let mut script = Script { scenario, lines: Vec::new(), broken: Vec::new() };
        for (number, line) in body.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            let at = |what: String| ScriptError(format!("{file}:{}: {what}", first + number));
            match line.strip_prefix("finally ") {
                Some(names) => script.broken.extend(names.split_whitespace().map(str::to_owned)),
                None if line.is_empty() => {}
                None if script.lines.len() == MAX_LINES => return Err(at(format!("more than {MAX_LINES} lines"))),
                None => {
                    let line = script.line(line).map_err(at)?;
                    script.lines.push(line);
                }
            }
        }
        if script.lines.is_empty() {
            return Err(ScriptError(format!("{file}: no operation after ---")));
        }
        script.seat();
        Ok(script)
    }

    /// There are as many slots as the processes of the script need; the workload says what the
    /// run is judged by.
    fn seat(&mut self) {
        let slots = self.lines.iter().map(|line| line.slot + 1).max().unwrap_or(1);
        let slots = u16::try_from(slots).unwrap_or(u16::MAX);
        self.scenario.workload.set_concurrency(slots);
        self.scenario.limits.min_ok = 1;
    }

    fn line(&self, text: &str) -> Result<Line, String> {
        let (asked, until, wanted) = match (text.split_once(" -> "), text.split_once(" until ")) {
            (Some((asked, wanted)), _) => (asked, false, wanted),
            (None, Some((asked, wanted))) => (asked, true, wanted),
            (None, None) => return Err("write `WHEN WHO WHAT -> EXPECTED`, or `until` for `->`".into()),
        };
        let words: Vec<&str> = asked.split_whitespace().collect();
        let [when, who, what @ ..] = &words[..] else { return Err("write `WHEN WHO WHAT -> EXPECTED`".into()) };
        let at = match *when {
            "then" => None,
            time => Some(span(time)?),
        };
        let (client, node) = self.who(who)?;
        let slot = self.slot(client, node).ok_or_else(|| {
            format!("{who}: with {} client hosts and {} nodes no process asks that node", self.clients(), self.nodes())
        })?;
        let expected = wanted.split('|').map(expected).collect::<Result<_, _>>()?;
        Ok(Line { text: text.to_owned(), at, client, node, slot, what: operation(what)?, until, expected })
    }

    fn clients(&self) -> usize {
        self.scenario.clients.into()
    }

    fn nodes(&self) -> usize {
        self.scenario.target.nodes().into()
    }

    fn who(&self, text: &str) -> Result<(usize, usize), String> {
        let number = |word: &str, prefix, count: usize| {
            let number: usize = word.strip_prefix(prefix)?.parse().ok()?;
            (1..=count).contains(&number).then(|| number - 1)
        };
        let pair = text
            .split_once('.')
            .and_then(|(client, node)| Some((number(client, 'c', self.clients())?, number(node, 'n', self.nodes())?)));
        pair.ok_or_else(|| {
            format!("`{text}` is no process: c1.n1 to c{}.n{}, by client host and node", self.clients(), self.nodes())
        })
    }

    /// Slots take client hosts and nodes in turn.
    fn slot(&self, client: usize, node: usize) -> Option<usize> {
        (0..MAX_SLOTS).find(|slot| slot % self.clients() == client && slot % self.nodes() == node)
    }

    /// What carries the script out.
    pub(crate) fn generator(&self) -> Box<dyn Generator> {
        Box::new(Scripted {
            lines: self.lines.clone(),
            ended: vec![false; self.lines.len()],
            not_before: Duration::ZERO,
            tokens: BTreeMap::new(),
        })
    }
}

/// The scenario, the operations, and the number of the latter's first line.
fn halves(text: &str) -> Option<(String, String, usize)> {
    let at = text.lines().position(|line| line.trim_end() == "---")?;
    let lines: Vec<&str> = text.lines().collect();
    Some((lines[..at].join("\n"), lines[at + 1..].join("\n"), at + 2))
}

fn span(text: &str) -> Result<Duration, String> {
    let parsed = duration::parse(text).filter(|time| *time <= Duration::from_secs(3600));
    parsed.ok_or_else(|| format!("`{text}` is no time; write 500ms or 2s, at most 1h"))
}

fn millis(text: &str) -> Result<u64, String> {
    Ok(u64::try_from(span(text)?.as_millis()).unwrap_or(u64::MAX))
}

fn value(text: &str) -> Value {
    match text {
        "nil" => Value::Nil,
        text => text.parse().map_or_else(|_| Value::Text(text.into()), Value::Int),
    }
}

fn operation(words: &[&str]) -> Result<What, String> {
    let plain = |op| Ok(What::Plain(op));
    match words {
        ["read", key] => plain(RegisterOp::Read.on(*key)),
        ["write", key, to] => plain(RegisterOp::Write(value(to)).on(*key)),
        ["cas", key, from, to] => plain(RegisterOp::Cas { from: value(from), to: value(to) }.on(*key)),
        ["add", element] => match element.parse::<i64>() {
            Ok(element) => plain(Op::new(Function::Add, element)),
            Err(_) => Err(format!("`{element}` is no whole number")),
        },
        ["elements"] => plain(Op::new(Function::Read, Value::Nil)),
        ["acquire", lock, lease] => plain(LockOp::Acquire { lease_ms: millis(lease)? }.on(*lock)),
        ["renew", lock, lease] => Ok(What::Renew { lock: lock.to_smolstr(), lease_ms: millis(lease)? }),
        ["release", lock] => Ok(What::Release { lock: lock.to_smolstr() }),
        ["access", lock, work] => Ok(What::Access { lock: lock.to_smolstr(), work_ms: millis(work)? }),
        _ => Err(format!("`{}` is no operation", words.join(" "))),
    }
}

fn expected(text: &str) -> Result<Expected, String> {
    let mut words: Vec<&str> = text.split_whitespace().collect();
    let by = match words[..] {
        [.., "by", node] => {
            words.truncate(words.len() - 2);
            Some(node.to_owned())
        }
        _ => None,
    };
    let (outcome, result) = match words[..] {
        [outcome] => (outcome, None),
        [outcome, result] => (outcome, Some(result.to_owned())),
        _ => return Err(format!("`{}`: expected is `ok`, `fail` or `info`, and perhaps one word more", text.trim())),
    };
    let outcome = match outcome {
        "ok" => Outcome::Ok,
        "fail" => Outcome::Fail,
        "info" => Outcome::Info,
        other => return Err(format!("`{other}`: expected is `ok`, `fail` or `info`")),
    };
    Ok(Expected { outcome, result, by })
}

/// Carries out a script.
struct Scripted {
    lines: Vec<Line>,
    ended: Vec<bool>,
    /// No line is tried again before.
    not_before: Duration,
    /// The token that a slot was last granted for a lock.
    tokens: BTreeMap<(usize, SmolStr), u64>,
}

impl Scripted {
    fn present(&self, slot: usize) -> Option<usize> {
        (0..self.lines.len()).find(|line| self.lines[*line].slot == slot && !self.ended[*line])
    }
}

impl Generator for Scripted {
    fn next(&mut self, who: Slot, now: Duration) -> Next {
        let Some(at) = self.present(who.index) else { return Next::Done };
        let line = &self.lines[at];
        let begins = match line.at {
            Some(time) => time,
            None if self.ended[..at].iter().all(|ended| *ended) => Duration::ZERO,
            None => now + AGAIN,
        };
        let begins = if line.until { begins.max(self.not_before) } else { begins };
        if begins > now {
            return Next::Wait(begins);
        }
        let token = |lock: &SmolStr| self.tokens.get(&(who.index, lock.clone())).copied().unwrap_or_default();
        Next::Op(match &line.what {
            What::Plain(op) => op.clone(),
            What::Renew { lock, lease_ms } => LockOp::Renew { token: token(lock), lease_ms: *lease_ms }.on(lock),
            What::Release { lock } => LockOp::Release { token: token(lock) }.on(lock),
            What::Access { lock, work_ms } => LockOp::Access { token: token(lock), work_ms: *work_ms }.on(lock),
        })
    }

    fn completed(&mut self, who: Slot, completion: &Completion, now: Duration) {
        let Some(at) = self.present(who.index) else { return };
        if let (Function::Acquire, Outcome::Ok, Some(lock), Some(token)) =
            (&completion.op.f, completion.outcome, completion.op.key_text(), completion.result.as_u64())
        {
            self.tokens.insert((who.index, lock.clone()), token);
        }
        self.ended[at] = self.lines[at].is_over(completion);
        self.not_before = now + AGAIN;
    }
}

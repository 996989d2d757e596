//! Why a window of operations has no order, in words. Says nothing that the window doesn't show.

use duress_history::{Operation, Outcome, Time, Value};

use super::history::{KeyHistory, Symbol, observes, sets};
use super::shrink::{Member, Window};
use super::timeline::{self, Row};
use crate::register::RegisterOp;
use crate::{Run, words};

/// The most operations that a timeline shows; only a window that there was no time to shrink has
/// more.
const SHOWN: usize = 40;

/// A violation, told.
pub(super) struct Story {
    /// What went wrong, in one sentence.
    pub(super) sentence: String,
    /// The timeline and the faults meanwhile.
    pub(super) lines: Vec<String>,
}

/// Tells a window's story.
pub(super) fn tell(run: &Run<'_>, history: &KeyHistory<'_>, window: &Window) -> Story {
    let telling = Telling { run, history, window };
    let sentence = telling.sentence();
    let mut lines = vec![telling.frame()];
    let hidden = window.members.len().saturating_sub(SHOWN);
    let rows: Vec<Row> = window.members[hidden..].iter().map(|member| telling.row(member)).collect();
    if hidden > 0 {
        lines.push(format!("  ({} before these)", words::count(hidden, "operation")));
    }
    lines.extend(timeline::draw(&["process", "on", "node", "operation", "result"], &rows));
    if !window.minimal {
        lines.push("  (there was no time to look for fewer operations)".into());
    }
    if window.members.iter().any(|member| member.blind) {
        lines.push("  * only that it set its new value matters here".into());
    }
    let from = rows.iter().map(|row| row.invoked.1).min().unwrap_or_default();
    let to = telling.operation(window.stuck).ended().unwrap_or(run.end);
    lines.extend(words::faults(run, from, to));
    Story { sentence, lines }
}

struct Telling<'t> {
    run: &'t Run<'t>,
    history: &'t KeyHistory<'t>,
    window: &'t Window,
}

impl Telling<'_> {
    fn operation(&self, entry: usize) -> &Operation {
        &self.run.operations[self.history.operations[entry]]
    }

    fn value(&self, symbol: Symbol) -> &Value {
        &self.history.values[symbol as usize]
    }

    /// Entry `a` returned before entry `b` was invoked.
    fn precedes(&self, a: usize, b: usize) -> bool {
        self.run.precedes(self.history.operations[a], self.history.operations[b])
    }

    /// Entries of the window.
    fn members(&self) -> impl Iterator<Item = usize> {
        self.window.members.iter().map(|member| member.entry)
    }

    /// What a member observes in this window.
    fn seen(&self, entry: usize) -> Option<Symbol> {
        let blind = self.window.members.iter().any(|m| m.entry == entry && m.blind);
        observes(&self.history.entries[entry]).filter(|_| !blind)
    }

    fn sentence(&self) -> String {
        let last_observer =
            || self.members().filter(|e| self.seen(*e).is_some()).max_by_key(|e| self.history.entries[*e].invoked);
        let observer = Some(self.window.stuck).filter(|e| self.seen(*e).is_some()).or_else(last_observer);
        let Some((observer, seen)) = observer.and_then(|e| Some((e, self.seen(e)?))) else {
            return self.plain();
        };
        self.unwritten(observer, seen)
            .or_else(|| self.overwritten(observer, seen))
            .or_else(|| self.twice(observer, seen))
            .or_else(|| self.backwards(observer, seen))
            .unwrap_or_else(|| self.plain())
    }

    /// "process 4 on c1 read r3 = 5 from n2".
    fn observed(&self, entry: usize, seen: Symbol) -> String {
        let operation = self.operation(entry);
        let at = operation.node.as_ref().map_or(String::new(), |node| format!(" from {node}"));
        let (who, key, value) = (words::who(operation), self.history.key, self.value(seen));
        match RegisterOp::of(&operation.op) {
            Some(RegisterOp::Cas { to, .. }) if operation.outcome == Outcome::Ok => {
                let by = operation.node.as_ref().map_or(String::new(), |node| format!(" at {node}"));
                format!("{who} found {key} = {value}{by} and set it to {to}")
            }
            _ => format!("{who} read {key} = {value}{at}"),
        }
    }

    /// "the write of 7 by process 2 on c1".
    fn setting(&self, entry: usize) -> String {
        let operation = self.operation(entry);
        let what = match RegisterOp::of(&operation.op) {
            Some(RegisterOp::Cas { from, to }) => format!("cas {from} -> {to}"),
            Some(RegisterOp::Write(value)) => format!("write of {value}"),
            _ => operation.op.to_string(),
        };
        let by = operation.node.as_ref().map_or(String::new(), |node| format!(" by {node}"));
        format!("the {what} from {} had been acknowledged{by}", words::who(operation))
    }

    /// The time from the end of one operation to the beginning of a later one.
    fn gap(&self, earlier: usize, later: usize) -> String {
        let end = self.operation(earlier).ended().unwrap_or_default();
        words::span(words::between(end, self.operation(later).began()))
    }

    /// Nobody ever set the value seen.
    fn unwritten(&self, observer: usize, seen: Symbol) -> Option<String> {
        let value = self.value(seen);
        let before = self.operation(observer).ended().unwrap_or(Time(u64::MAX));
        let setters: Vec<&Operation> = self
            .history
            .all
            .iter()
            .map(|at| &self.run.operations[*at])
            .filter(|o| RegisterOp::of(&o.op).is_some_and(|op| op.sets() == Some(value)))
            .collect();
        if seen == self.history.initial || setters.iter().any(|o| o.began() <= before && o.outcome != Outcome::Fail) {
            return None;
        }
        let observed = self.observed(observer, seen);
        Some(if setters.iter().any(|o| o.began() <= before) {
            format!("{observed}, but the operation that was to set it had definitely failed.")
        } else if setters.is_empty() {
            format!("{observed}, which nobody ever wrote.")
        } else {
            format!("{observed}, before anybody asked for it to be written.")
        })
    }

    /// The value seen had been overwritten by something acknowledged.
    fn overwritten(&self, observer: usize, seen: Symbol) -> Option<String> {
        let setters: Vec<usize> = self.members().filter(|e| sets(&self.history.entries[*e]) == Some(seen)).collect();
        let newer = self
            .members()
            .filter(|w| sets(&self.history.entries[*w]).is_some_and(|value| value != seen))
            .filter(|w| self.precedes(*w, observer) && setters.iter().all(|s| self.precedes(*s, *w)))
            .max_by_key(|w| self.operation(*w).ended())?;
        let observed = self.observed(observer, seen);
        Some(format!("{observed}, {} after {}.", self.gap(newer, observer), self.setting(newer)))
    }

    /// Two operations both found a value that was set once.
    fn twice(&self, observer: usize, seen: Symbol) -> Option<String> {
        let is_cas = |e: usize| matches!(RegisterOp::of(&self.operation(e).op), Some(RegisterOp::Cas { .. }));
        let other = self.members().find(|e| {
            *e != observer && is_cas(*e) && self.seen(*e) == Some(seen) && self.operation(*e).outcome == Outcome::Ok
        })?;
        let once = self.members().filter(|e| sets(&self.history.entries[*e]) == Some(seen)).count()
            + usize::from(seen == self.history.initial)
            == 1;
        if !once || !is_cas(observer) {
            return None;
        }
        let (first, second) = (&self.operation(other).op, &self.operation(observer).op);
        let value = self.value(seen);
        Some(format!(
            "{first} (from {}) and {second} (from {}) both succeeded, though the register was {value} only once.",
            words::who(self.operation(other)),
            words::who(self.operation(observer)),
        ))
    }

    /// Somebody had already read another value, and nothing set it back.
    fn backwards(&self, observer: usize, seen: Symbol) -> Option<String> {
        let (earlier, other) = self
            .members()
            .filter(|e| {
                self.precedes(*e, observer) && matches!(RegisterOp::of(&self.operation(*e).op), Some(RegisterOp::Read))
            })
            .filter_map(|e| Some((e, self.seen(e)?)))
            .filter(|(_, other)| *other != seen)
            .max_by_key(|(e, _)| self.operation(*e).ended())?;
        let observed = self.observed(observer, seen);
        let gap = self.gap(earlier, observer);
        Some(format!(
            "{observed}, {gap} after {}, and nothing set it back.",
            self.observed(earlier, other).replacen(" read ", " had already read ", 1)
        ))
    }

    fn plain(&self) -> String {
        let (n, key) = (words::count(self.window.members.len(), "operation"), self.history.key);
        format!("{n} on {key} contradict each other, whatever their order.")
    }

    fn frame(&self) -> String {
        let (shown, all) = (self.window.members.len(), self.history.all.len());
        let initial = self.value(self.history.initial);
        let key = self.history.key;
        if shown == 1 {
            return format!("{key} held {initial} at first; no order explains this one of its {all} operations:");
        }
        format!(
            "{key} held {initial} at first; no order of these {shown} of its {all} operations explains every result:"
        )
    }

    fn row(&self, member: &Member) -> Row {
        let at = self.history.operations[member.entry];
        let (operation, span) = (&self.run.operations[at], self.run.spans[at]);
        let host = operation.client.as_ref().map_or("-".into(), |client| client.host.to_string());
        let asked = operation.client.as_ref().map(|client| &client.node);
        let node = operation.node.as_ref().or(asked).map_or("-".into(), ToString::to_string);
        let mut op = operation.op.to_string();
        if member.blind {
            op.push_str(" *");
        }
        let indeterminate = operation.outcome == Outcome::Info;
        let result = match &operation.error {
            Some(_) if indeterminate => format!("unknown: {}", operation.error_name().unwrap_or("unnamed")),
            _ if indeterminate => "unknown".into(),
            _ => match (&operation.result, RegisterOp::of(&operation.op)) {
                (Some(value), Some(RegisterOp::Read)) => value.to_string(),
                _ => "ok".into(),
            },
        };
        // An indeterminate operation may take effect after its process gave up on it.
        let completed = span.completed.zip(operation.ended()).filter(|_| !indeterminate);
        Row {
            cells: vec![operation.process.0.to_string(), host, node, op, result],
            invoked: (span.invoked as u64, operation.began()),
            completed: completed.map(|(at, time)| (at as u64, time)),
        }
    }
}

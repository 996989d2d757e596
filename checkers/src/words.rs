//! Times, counts and lists as people read them. Knows nothing of what they are about.

use std::time::Duration;

use duress_history::{Operation, Time};

use crate::Run;

/// A length of time to about three digits: `350 µs`, `120 ms`, `2.1 s`.
pub(crate) fn span(duration: Duration) -> String {
    let micros = duration.as_secs_f64() * 1e6;
    match micros {
        m if m < 9.95 => format!("{m:.1} µs"),
        m if m < 999.5 => format!("{m:.0} µs"),
        m if m < 9_950.0 => format!("{:.1} ms", m / 1e3),
        m if m < 999_500.0 => format!("{:.0} ms", m / 1e3),
        m if m < 99_950_000.0 => format!("{:.1} s", m / 1e6),
        m => format!("{:.0} s", m / 1e6),
    }
}

/// The time from one moment to a later one; zero if it is not later.
pub(crate) fn between(from: Time, to: Time) -> Duration {
    to.duration().saturating_sub(from.duration())
}

/// `1 write`, `2 writes`.
pub(crate) fn count(n: usize, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") }
}

/// `a`, `a and b`, `a, b and c`; at most `limit` items by name and the others counted.
pub(crate) fn list<T: AsRef<str>>(items: &[T], limit: usize) -> String {
    let shown: Vec<&str> = items.iter().take(limit).map(AsRef::as_ref).collect();
    if items.len() > shown.len() {
        return format!("{} and {} more", shown.join(", "), items.len() - shown.len());
    }
    match shown.split_last() {
        None => "none".into(),
        Some((last, [])) => (*last).into(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

/// Who asked: `process 4 on c1`.
pub(crate) fn who(operation: &Operation) -> String {
    match &operation.client {
        Some(client) => format!("process {} on {}", operation.process.0, client.host),
        None => format!("process {}", operation.process.0),
    }
}

/// Where and when an operation of a run of ours was: `c1 to n2, 1.204 s to 1.310 s`. Nothing is known
/// of those of other histories.
pub(crate) fn place(operation: &Operation) -> Option<String> {
    let client = operation.client.as_ref()?;
    let node = operation.node.as_ref().unwrap_or(&client.node);
    Some(format!("{} to {node}, {}", client.host, when(operation)))
}

/// When an operation began and ended: `1.204 s to 1.310 s`.
pub(crate) fn when(operation: &Operation) -> String {
    match operation.ended() {
        Some(end) => format!("{} to {end}", operation.began()),
        None => format!("from {}", operation.began()),
    }
}

/// That operations have no meaning for what is judged, of which this is the first.
pub(crate) fn unfit(what: &str, n: usize, first: &Operation) -> String {
    let (have, line) = (if n == 1 { "has" } else { "have" }, first.invoked.line);
    format!("{} {have} no meaning for {what}, the first at line {line}: {}.", count(n, "operation"), first.op)
}

/// Which faults were in force between two moments, as a line, if there were any.
pub(crate) fn faults(run: &Run<'_>, from: Time, to: Time) -> Option<String> {
    let spans: Vec<String> = run
        .faults_during(from, to)
        .map(|fault| {
            let start = fault.start.map_or("?".into(), |t| t.to_string());
            let end = fault.end.map_or("never healed".into(), |t| format!("until {t}"));
            format!("{} (from {start}, {end})", fault.what)
        })
        .collect();
    (!spans.is_empty()).then(|| format!("Faults in force meanwhile: {}.", spans.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_time_read_well() {
        let shown: Vec<String> = [800, 9_960, 120_000_000, 999_600_000, 2_140_000_000, 100_000_000_000]
            .map(|nanos| span(Duration::from_nanos(nanos)))
            .into();
        assert_eq!(shown, ["0.8 µs", "10 µs", "120 ms", "1.0 s", "2.1 s", "100 s"]);
    }

    #[test]
    fn lists_read_well() {
        assert_eq!(list::<&str>(&[], 3), "none");
        assert_eq!(list(&["a"], 3), "a");
        assert_eq!(list(&["a", "b", "c"], 3), "a, b and c");
        assert_eq!(list(&["a", "b", "c"], 2), "a, b and 1 more");
    }
}

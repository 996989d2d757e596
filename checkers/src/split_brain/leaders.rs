//! Leading: by what nodes said, and by what they did.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use duress_history::{Host, Time};

use super::{Findings, acknowledged, reports, term_word};
use crate::{Run, words};

/// How many terms or pairs are told one by one.
const SHOWN: usize = 5;

/// An acknowledgement of something that changes the target's state.
#[derive(Clone, Copy)]
struct Act<'r> {
    operation: usize,
    node: &'r Host,
    term: u64,
    invoked: usize,
    completed: usize,
    at: Time,
}

/// The acknowledgements of which it is known who gave them in which term, in the order in which
/// they arrived.
fn acts<'r>(run: &'r Run<'_>) -> Vec<Act<'r>> {
    let act = |(operation, span): (usize, &crate::Span)| {
        let o = &run.operations[operation];
        let (Some(node), Some(term), Some(at)) = (&o.node, o.term, o.ended()) else { return None };
        let completed = span.completed?;
        acknowledged(o).then_some(Act { operation, node, term, invoked: span.invoked, completed, at })
    };
    let mut acts: Vec<Act<'_>> = run.spans.iter().enumerate().filter_map(act).collect();
    acts.sort_by_key(|act| act.completed);
    acts
}

/// Two nodes led in the same term.
pub(super) fn same_term(run: &Run<'_>, findings: &mut Findings) {
    // term → node → when and how it first showed that it led
    let mut led: BTreeMap<u64, BTreeMap<&Host, (Time, &str)>> = BTreeMap::new();
    let mut note = |term, node, at: Time, how| {
        let first = led.entry(term).or_default().entry(node).or_insert((at, how));
        *first = (*first).min((at, how));
    };
    for (at, report) in reports(run) {
        if let (true, Some(term)) = (report.leads, report.term) {
            note(term, &report.node, at, "said that it led");
        }
    }
    for act in acts(run) {
        note(act.term, act.node, act.at, "acknowledged a write");
    }
    let shared: Vec<_> = led.iter().filter(|(_, nodes)| nodes.len() > 1).collect();
    findings.figures.insert("terms", led.len() as f64);
    findings.figures.insert("terms_with_two_leaders", shared.len() as f64);
    let Some((term, nodes)) = shared.first() else { return };
    let word = term_word(run);
    let names: Vec<&str> = nodes.keys().map(|node| node.as_str()).collect();
    let mut lines = Vec::new();
    for (term, nodes) in shared.iter().take(SHOWN) {
        for (node, (at, how)) in *nodes {
            lines.push(format!("{word} {term}: {node} {how} at {at}."));
        }
    }
    if shared.len() > SHOWN {
        lines.push(format!("{} more.", words::count(shared.len() - SHOWN, word)));
    }
    let names = words::list(&names, 9);
    findings.violation(format!("Two leaders in one {word}: {names} both led in {word} {term}."), lines);
}

/// What a node did in one term after another had taken over.
struct Late<'r> {
    acts: Vec<Act<'r>>,
    /// The first acknowledgement in a higher term by another node.
    takeover: Act<'r>,
}

/// A node went on acknowledging after another had acknowledged something in a higher term.
///
/// In a target with one leader at a time this can't be: what the newer leader acknowledged needed
/// a majority (or whatever the target relies on) that had moved on to the newer term, so nothing
/// asked for after that can succeed in the older one.
pub(super) fn acted(run: &Run<'_>, findings: &mut Findings) {
    let acts = acts(run);
    // node → its acknowledgement in the highest term so far
    let mut highest: BTreeMap<&Host, Act<'_>> = BTreeMap::new();
    let mut late: BTreeMap<(&Host, u64), Late<'_>> = BTreeMap::new();
    let mut by_invocation: Vec<Act<'_>> = acts.clone();
    by_invocation.sort_by_key(|act| act.invoked);
    let mut arrived = acts.iter().peekable();
    for act in by_invocation {
        while let Some(earlier) = arrived.next_if(|earlier| earlier.completed < act.invoked) {
            let high = highest.entry(earlier.node).or_insert(*earlier);
            if earlier.term > high.term {
                *high = *earlier;
            }
        }
        if let Some(newer) = highest.values().find(|newer| newer.node != act.node && newer.term > act.term) {
            let late = late.entry((act.node, act.term)).or_insert(Late { acts: Vec::new(), takeover: *newer });
            late.acts.push(act);
        }
    }
    findings
        .figures
        .insert("writes_by_deposed_leaders", late.values().map(|late| late.acts.len()).sum::<usize>() as f64);
    let mut stories: Vec<_> = late.into_values().collect();
    stories.sort_by_key(|late| late.takeover.completed);
    for late in stories.iter().take(SHOWN) {
        tell(run, &acts, late, findings);
    }
    if stories.len() > SHOWN {
        let more = words::count(stories.len() - SHOWN, "deposed leader");
        findings.violation(format!("{more} more went on acknowledging writes."), Vec::new());
    }
}

fn tell(run: &Run<'_>, acts: &[Act<'_>], late: &Late<'_>, findings: &mut Findings) {
    let word = term_word(run);
    let by = late.takeover.node;
    // The first acknowledgement of the new leader; the one that was found may be a later one.
    let first_of = |term| acts.iter().find(|act| act.node == by && act.term > term).copied();
    let (Some(first), Some(last)) = (late.acts.first(), late.acts.iter().max_by_key(|act| act.completed)) else {
        return;
    };
    let takeover = first_of(first.term).unwrap_or(late.takeover);
    let meanwhile: Vec<Act<'_>> = acts
        .iter()
        .filter(|act| {
            act.node == by
                && act.term > first.term
                && act.completed >= takeover.completed
                && act.completed <= last.completed
        })
        .copied()
        .collect();
    let clients = |acts: &[Act<'_>]| {
        let hosts: BTreeSet<&str> = acts
            .iter()
            .filter_map(|act| run.operations[act.operation].client.as_ref())
            .map(|client| client.host.as_str())
            .collect();
        let hosts: Vec<&str> = hosts.into_iter().collect();
        if hosts.is_empty() { String::new() } else { format!(" for clients on {}", words::list(&hosts, 6)) }
    };
    let (old, old_term) = (first.node, first.term);
    let summary = format!(
        "Two leaders: {old} ({word} {old_term}) and {by} ({word} {}) both acknowledged writes between {:.1} and {:.1}: {old} {}{}, {by} {}{}.",
        takeover.term,
        takeover.at,
        last.at,
        words::count(late.acts.len(), "write"),
        clients(&late.acts),
        meanwhile.len(),
        clients(&meanwhile),
    );
    let act = |act: &Act<'_>| {
        let operation = &run.operations[act.operation];
        format!(
            "{} of {} by {} in {word} {} (asked at {})",
            operation.op,
            words::who(operation),
            act.node,
            act.term,
            operation.began()
        )
    };
    let mut lines = vec![format!(
        "{old} went on acknowledging for {} after {by} had taken over.",
        words::span(words::between(takeover.at, last.at))
    )];
    lines.push(format!("taken over at {}: {}.", takeover.at, act(&takeover)));
    lines.push(format!("and yet, at {}: {}.", first.at, act(first)));
    lines.extend(words::faults(run, takeover.at, last.at));
    findings.violation(summary, lines);
}

/// When two nodes believed that they led, in different terms.
#[derive(Default)]
pub(super) struct Belief {
    /// (first, second, from, to), in order.
    spans: Vec<(String, String, Time, Time)>,
}

impl Belief {
    pub(super) fn total(&self) -> Duration {
        self.spans.iter().map(|(.., from, to)| words::between(*from, *to)).sum()
    }

    /// How often two did.
    pub(super) fn times(&self) -> usize {
        self.spans.len()
    }

    pub(super) fn words(&self) -> Option<String> {
        let (first, second, from, _) = self.spans.first()?;
        Some(format!(
            "Remark: {first} and {second} both believed that they led from {from}; in all, two nodes did for {}. Believing harms nobody.",
            words::span(self.total())
        ))
    }
}

/// When two nodes believed at the same time that they led. A belief lasts until the node says
/// otherwise, or is crashed by a fault, or the run ends.
pub(super) fn believed(run: &Run<'_>) -> Belief {
    // (time, node, the term it leads in from then on)
    let mut changes: Vec<(Time, &Host, Option<u64>)> = reports(run)
        // A report of a digest alone says nothing of who leads.
        .filter(|(_, report)| report.role.is_some() || report.term.is_some())
        .map(|(at, report)| (at, &report.node, report.term.filter(|_| report.leads)))
        .collect();
    for fault in run.faults.iter().filter(|fault| fault.kind == "crash") {
        if let Some(start) = fault.start {
            changes.extend(fault.hosts.iter().map(|host| (start, host, None)));
        }
    }
    changes.sort_by_key(|(at, ..)| *at);
    let word = term_word(run);
    let mut leading: BTreeMap<&Host, u64> = BTreeMap::new();
    let mut belief = Belief::default();
    let mut since = Time(0);
    let end = changes.last().map(|_| (run.end, None));
    let steps = changes.into_iter().map(|(at, node, term)| (at, Some((node, term)))).chain(end);
    for (at, change) in steps {
        let mut terms = leading.iter();
        if let (Some((a, s)), Some((b, t)), true) = (terms.next(), terms.next(), at > since)
            && s != t
        {
            let (a, b) = (format!("{a} ({word} {s})"), format!("{b} ({word} {t})"));
            match belief.spans.last_mut() {
                Some((x, y, _, to)) if *to == since && *x == a && *y == b => *to = at,
                _ => belief.spans.push((a, b, since, at)),
            }
        }
        since = at;
        match change {
            Some((node, Some(term))) => {
                leading.insert(node, term);
            }
            Some((node, None)) => {
                leading.remove(node);
            }
            None => {}
        }
    }
    belief
}

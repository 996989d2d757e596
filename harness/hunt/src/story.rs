//! A run as a story, point by point, for somebody who wants to know what went wrong.

use std::collections::{BTreeMap, BTreeSet};

use duress_history::{
    Completion, Event, EventKind, FaultEvent, Host, Invocation, NodeReport, Op, Outcome, Phase, Process, Stage, Time,
};

/// No story has more points than this; what is in the middle of a longer one is left out.
const LONGEST: usize = 60;

/// What happened in a run, each point with its time: who led, what was done to whom, what was
/// asked and answered.
pub fn story(events: &[Event]) -> Vec<String> {
    let points = points(events);
    let count = points.len();
    let mut told: Vec<String> = Vec::new();
    for (number, (at, point)) in points.into_iter().enumerate() {
        let (head, tail) = (LONGEST * 2 / 3, LONGEST / 3);
        if count > LONGEST && number == head {
            told.push(format!("… {} more …", count - head - tail));
        }
        if count <= LONGEST || number < head || number >= count - tail {
            told.push(format!("{}. At {at}: {point}", number + 1));
        }
    }
    told
}

/// Something that is told.
struct Point {
    at: Time,
    text: String,
    /// The operation that begins with it.
    begins: Option<Process>,
}

/// What is known while a story is told.
#[derive(Default)]
struct Teller {
    points: Vec<Point>,
    leading: BTreeMap<Host, u64>,
    /// Operations under way, and from where they were asked.
    asked: BTreeMap<Process, String>,
    probes: BTreeSet<Process>,
}

fn points(events: &[Event]) -> Vec<(Time, String)> {
    let mut teller = Teller::default();
    let mut began = false;
    // What is healed because the main phase is over goes without saying.
    let over = events.iter().find(|event| matches!(event.kind, EventKind::Phase { phase: Phase::Recovery }));
    let over = over.map(|event| event.time);
    for event in events {
        let at = event.time;
        match &event.kind {
            EventKind::Observation(report) => teller.observed(at, report),
            EventKind::Fault(fault) if fault.stage == Stage::Start => teller.fault(at, fault),
            EventKind::Fault(_) if Some(at) == over => {}
            EventKind::Fault(fault) => teller.say(at, deed(fault, false)),
            EventKind::Phase { phase: Phase::Main } => began = true,
            EventKind::Phase { phase: Phase::Recovery } => teller.say(at, "Everything has been healed.".into()),
            EventKind::Phase { phase: Phase::Final } => teller.say(at, "Every node answers again.".into()),
            EventKind::Invoke(invocation) if is_probe(&invocation.op) => {
                teller.probes.insert(invocation.process);
            }
            EventKind::Invoke(invocation) if began => teller.invoked(at, invocation),
            EventKind::Complete(completion) if !teller.probes.remove(&completion.process) && began => {
                teller.completed(at, completion);
            }
            _ => {}
        }
    }
    let end = events.last().map(|event| event.time).unwrap_or_default();
    for (process, from) in std::mem::take(&mut teller.asked) {
        teller.say(end, format!("{}{from} still waits for its answer.", name(process)));
    }
    teller.points.into_iter().map(|point| (point.at, point.text)).collect()
}

impl Teller {
    fn say(&mut self, at: Time, text: String) {
        self.points.push(Point { at, text, begins: None });
    }

    fn observed(&mut self, at: Time, report: &NodeReport) {
        let term = report.term.unwrap_or_default();
        match (report.leads, self.leading.get(&report.node).copied()) {
            (true, known) if known != Some(term) => {
                self.leading.insert(report.node.clone(), term);
                let role = report.role.as_deref().unwrap_or("leader");
                let others = self.leading.keys().filter(|host| **host != report.node);
                let others: Vec<&str> = others.map(|host| host.as_str()).collect();
                let also = match others.len() {
                    0 => String::new(),
                    1 => format!(", while {} has not stepped down", others[0]),
                    _ => format!(", while {} have not stepped down", others.join(" and ")),
                };
                self.say(at, format!("{} is {role} in term {term}{also}.", report.node));
            }
            // A report of the log's state alone says nothing of who leads.
            (false, Some(_)) if report.role.is_some() => {
                self.leading.remove(&report.node);
                self.say(at, format!("{} leads no more.", report.node));
            }
            _ => {}
        }
    }

    fn fault(&mut self, at: Time, fault: &FaultEvent) {
        let mut text = deed(fault, true);
        if matches!(fault.kind.as_str(), "crash" | "power-loss" | "exit" | "fence") {
            for host in &fault.hosts {
                if self.leading.remove(host).is_some() && fault.hosts.len() > 1 {
                    text.push_str(&format!(" {host} had led."));
                }
            }
        }
        self.say(at, text);
    }

    fn invoked(&mut self, at: Time, invocation: &Invocation) {
        let from = invocation.client.as_ref().map_or_else(String::new, |client| format!(" at {}", client.host));
        let text = format!("{}{from} asks: {}.", name(invocation.process), invocation.op);
        self.asked.insert(invocation.process, from);
        self.points.push(Point { at, text, begins: Some(invocation.process) });
    }

    fn completed(&mut self, at: Time, completion: &Completion) {
        self.asked.remove(&completion.process);
        let (who, op) = (name(completion.process), &completion.op);
        let by = completion.node.as_ref().map_or_else(String::new, |node| format!(" by {node}"));
        let error = completion.error.as_deref().unwrap_or("no reason given");
        // Nothing has happened since it was asked: question and answer are one point.
        if let Some(point) = self.points.last_mut().filter(|point| point.begins == Some(completion.process)) {
            let asked = point.text.trim_end_matches('.');
            point.text = match completion.outcome {
                Outcome::Ok => {
                    format!("{asked}; it is told{by} at {at}: {}.", completion.op.answer(&completion.result))
                }
                Outcome::Fail => format!("{asked}; it is refused{by} at {at} ({error})."),
                Outcome::Info => format!("{asked}; it never learns what became of it ({error})."),
            };
            return;
        }
        self.say(
            at,
            match completion.outcome {
                Outcome::Ok => format!("{who} is told{by}: {op}: {}.", completion.op.answer(&completion.result)),
                Outcome::Fail => format!("{who} is refused{by}: {op} ({error})."),
                Outcome::Info => format!("{who} never learns what became of: {op} ({error})."),
            },
        );
    }
}

/// No more links than this are named one by one.
const LINKS: usize = 6;

/// What a fault does, or what its end brings back, as a sentence.
fn deed(fault: &FaultEvent, begins: bool) -> String {
    let links = links(fault);
    let hosts: Vec<&str> = fault.hosts.iter().map(|host| host.as_str()).collect();
    let (who, many) = (hosts.join(", "), hosts.len() != 1);
    let verb = |one: &'static str, several: &'static str| if many { several } else { one };
    match (fault.kind.as_str(), begins) {
        ("partition", _) if !links.is_empty() && links.len() <= LINKS => {
            let (noun, is) = if links.len() == 1 { ("link", "is") } else { ("links", "are") };
            let what = if begins { "cut" } else { "whole again" };
            format!("The {noun} {} {is} {what}.", links.join(", "))
        }
        // What could not be done says so itself.
        _ if hosts.is_empty() || fault.what.contains("not injected") => {
            format!("{}{}.", if begins { "Fault: " } else { "Over: " }, fault.what)
        }
        ("crash", true) => format!("{who} {}.", verb("crashes", "crash")),
        ("power-loss", true) => format!("{who} {} power: what was not synced may be gone.", verb("loses", "lose")),
        ("crash" | "power-loss", false) => format!("{who} {} again.", verb("is started", "are started")),
        ("pause", true) => format!("{who} {} still.", verb("stands", "stand")),
        ("pause", false) => format!("{who} {} on.", verb("goes", "go")),
        ("full-disk", true) => format!("The {} of {who} {} full.", verb("disk", "disks"), verb("is", "are")),
        ("full-disk", false) => format!("{who} {} room on disk again.", verb("has", "have")),
        ("exit" | "fence", _) => format!("{}.", fault.what),
        (_, true) => format!("Fault: {}.", fault.what),
        (_, false) => format!("Healed: {}.", fault.what),
    }
}

/// A fault's links: `n1 <-> n2` where both ways are hit, `n1 -> n2` where one is.
fn links(fault: &FaultEvent) -> Vec<String> {
    let both = |(from, to): &(Host, Host)| fault.links.iter().any(|(a, b)| (a, b) == (to, from));
    let link = |link: &(Host, Host)| {
        let (from, to) = link;
        match both(link) {
            true if from > to => None,
            true => Some(format!("{from} <-> {to}")),
            false => Some(format!("{from} -> {to}")),
        }
    };
    fault.links.iter().filter_map(link).collect()
}

fn name(process: Process) -> String {
    format!("p{}", process.0)
}

/// Whether the harness asks only to see whether a node answers.
pub(crate) fn is_probe(op: &Op) -> bool {
    op.is_probe()
}

/// A line about an event of the history, for a trace.
pub fn noted(event: &Event) -> Option<String> {
    match &event.kind {
        EventKind::Invoke(invocation) => Some(format!("{} asks: {}", name(invocation.process), invocation.op)),
        EventKind::Complete(completion) => {
            let ret = match completion.outcome {
                Outcome::Ok => completion.op.answer(&completion.result),
                _ => completion.error.as_deref().unwrap_or("").to_owned(),
            };
            Some(format!("{}: {} {}: {ret}", name(completion.process), completion.outcome, completion.op))
        }
        EventKind::Fault(fault) => {
            let stage = if fault.stage == Stage::Start { "FAULT" } else { "healed" };
            Some(format!("{stage} {}", fault.what))
        }
        EventKind::Phase { phase } => Some(format!("phase {phase:?}").to_lowercase()),
        EventKind::Observation(report) if report.role.is_some() => Some(format!(
            "{} is {} in term {}",
            report.node,
            report.role.as_deref().unwrap_or_default(),
            report.term.unwrap_or_default()
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use duress_history::{Function, Value};

    use super::*;

    fn event(ms: u64, kind: EventKind) -> Event {
        Event { time: Time(ms * 1_000_000), kind }
    }

    fn cut(ms: u64, stage: Stage, links: &[(&str, &str)]) -> Event {
        let links = links.iter().map(|(from, to)| (Host::from(*from), Host::from(*to))).collect();
        let hosts = vec!["n1".into(), "n2".into()];
        event(
            ms,
            EventKind::Fault(FaultEvent {
                fault: 1,
                stage,
                kind: "partition".into(),
                what: "partition: …".into(),
                hosts,
                links,
            }),
        )
    }

    fn asks(ms: u64, process: u64) -> Event {
        let op = Op::on(Function::Write, "x", 1);
        event(ms, EventKind::Invoke(Invocation { process: Process(process), client: None, op }))
    }

    fn told(ms: u64, process: u64) -> Event {
        let op = Op::on(Function::Write, "x", 1);
        let (process, node) = (Process(process), Some("n1".into()));
        let completion =
            Completion { process, outcome: Outcome::Ok, op, result: Value::Nil, error: None, node, term: None };
        event(ms, EventKind::Complete(completion))
    }

    #[test]
    fn faults_and_operations_are_told_in_order() {
        let events = [
            event(1, EventKind::Phase { phase: Phase::Main }),
            cut(2, Stage::Start, &[("n1", "n2")]),
            asks(3, 1),
            told(4, 1),
            asks(5, 2),
            cut(6, Stage::End, &[("n1", "n2")]),
            cut(6, Stage::Start, &[("n1", "n2"), ("n2", "n1")]),
            told(7, 2),
            asks(8, 3),
            cut(9, Stage::End, &[("n1", "n2"), ("n2", "n1")]),
            event(9, EventKind::Phase { phase: Phase::Recovery }),
        ];
        assert_eq!(
            story(&events),
            [
                "1. At 0.002s: The link n1 -> n2 is cut.",
                "2. At 0.003s: p1 asks: write x = 1; it is told by n1 at 0.004s: ok.",
                "3. At 0.005s: p2 asks: write x = 1.",
                "4. At 0.006s: The link n1 -> n2 is whole again.",
                "5. At 0.006s: The link n1 <-> n2 is cut.",
                "6. At 0.007s: p2 is told by n1: write x = 1: ok.",
                "7. At 0.008s: p3 asks: write x = 1.",
                "8. At 0.009s: Everything has been healed.",
                "9. At 0.009s: p3 still waits for its answer.",
            ]
        );
    }

    #[test]
    fn a_long_story_is_told_in_part() {
        let events: Vec<Event> = (0..200).map(|n| cut(n, Stage::Start, &[("n1", "n2")])).collect();
        let told = story(&events);
        assert_eq!(told.len(), LONGEST + 1);
        assert!(told.iter().any(|line| line == "… 140 more …"), "{told:?}");
    }
}

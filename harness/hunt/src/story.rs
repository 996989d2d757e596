//! A run as a story, point by point, for somebody who wants to know what went wrong.

use std::collections::{BTreeMap, BTreeSet};

use duress_history::{Event, EventKind, Host, Op, Outcome, Phase, Process, Stage};
use smol_str::SmolStr;

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

fn points(events: &[Event]) -> Vec<(duress_history::Time, String)> {
    let mut points = Vec::new();
    let mut leading: BTreeMap<Host, u64> = BTreeMap::new();
    let mut asked: BTreeMap<Process, SmolStr> = BTreeMap::new();
    let mut probes: BTreeSet<Process> = BTreeSet::new();
    let mut began = false;
    for event in events {
        let point = match &event.kind {
            EventKind::Observation(report) => {
                let term = report.term.unwrap_or_default();
                match (report.leads, leading.get(&report.node).copied()) {
                    (true, known) if known != Some(term) => {
                        leading.insert(report.node.clone(), term);
                        let role = report.role.as_deref().unwrap_or("leader");
                        let others: Vec<&str> =
                            leading.keys().filter(|host| **host != report.node).map(SmolStr::as_str).collect();
                        let also = match others.is_empty() {
                            true => String::new(),
                            false => format!(", while {} has not stepped down", others.join(", ")),
                        };
                        Some(format!("{} is {role} in term {term}{also}.", report.node))
                    }
                    // A report of the log's state alone says nothing of who leads.
                    (false, Some(_)) if report.role.is_some() => {
                        leading.remove(&report.node);
                        Some(format!("{} leads no more.", report.node))
                    }
                    _ => None,
                }
            }
            EventKind::Fault(fault) => Some(match fault.stage {
                Stage::Start => {
                    if fault.kind == "crash" || fault.kind == "power-loss" {
                        for host in &fault.hosts {
                            leading.remove(host);
                        }
                    }
                    format!("Fault: {}.", fault.what)
                }
                Stage::End => format!("Healed: {}.", fault.what),
            }),
            EventKind::Phase { phase: Phase::Main } => {
                began = true;
                None
            }
            EventKind::Phase { phase: Phase::Recovery } => Some("Everything has been healed.".into()),
            EventKind::Phase { phase: Phase::Final } => Some("Every node answers again.".into()),
            EventKind::Invoke(invocation) if is_probe(&invocation.op) => {
                probes.insert(invocation.process);
                None
            }
            EventKind::Invoke(invocation) if began => {
                let from = invocation.client.as_ref().map_or_else(String::new, |client| format!(" at {}", client.host));
                asked.insert(invocation.process, from.clone().into());
                Some(format!("{}{from} asks: {}.", name(invocation.process), invocation.op))
            }
            EventKind::Complete(completion) if !probes.remove(&completion.process) && began => {
                asked.remove(&completion.process);
                let by = completion.node.as_ref().map_or_else(String::new, |node| format!(" by {node}"));
                let error = completion.error.as_deref().unwrap_or("no reason given");
                Some(match completion.outcome {
                    Outcome::Ok => {
                        format!("{} is told{by}: {}: {}.", name(completion.process), completion.op, completion.ret)
                    }
                    Outcome::Fail => {
                        format!("{} is refused{by}: {} ({error}).", name(completion.process), completion.op)
                    }
                    Outcome::Info => {
                        format!(
                            "{} never learns what became of: {} ({error}).",
                            name(completion.process),
                            completion.op
                        )
                    }
                })
            }
            _ => None,
        };
        points.extend(point.map(|point| (event.time, point)));
    }
    for (process, from) in asked {
        let end = events.last().map(|event| event.time).unwrap_or_default();
        points.push((end, format!("{}{from} still waits for its answer.", name(process))));
    }
    points
}

fn name(process: Process) -> String {
    format!("p{}", process.0)
}

/// Whether the harness asks only to see whether a node answers.
pub(crate) fn is_probe(op: &Op) -> bool {
    op.key().is_some_and(|key| key.starts_with("probe-"))
}

/// A line about an event of the history, for a trace.
pub fn noted(event: &Event) -> Option<String> {
    match &event.kind {
        EventKind::Invoke(invocation) => Some(format!("{} asks: {}", name(invocation.process), invocation.op)),
        EventKind::Complete(completion) => {
            let ret = match completion.outcome {
                Outcome::Ok => completion.ret.to_string(),
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

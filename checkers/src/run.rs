//! A history made ready for judging: operations paired, faults as spans of time, phases.

use std::borrow::Cow;
use std::collections::BTreeMap;

use duress_history::formats::{Format, Imported};
use duress_history::{
    Conventions, Event, EventKind, Evidence, FaultEvent, Header, Host, Malformed, Operation, Outcome, Phase, Stage,
    Time, operations,
};
use smol_str::SmolStr;

/// One fault, from its start to its end.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultSpan {
    /// Names it within the run.
    pub fault: u64,
    /// `partition`, `crash`, `pause`, ….
    pub kind: SmolStr,
    /// The fault in words.
    pub what: String,
    /// The hosts that were hit.
    pub hosts: Vec<Host>,
    /// The directed links that were hit, as (from, to).
    pub links: Vec<(Host, Host)>,
    /// When it was applied; `None` if the history has no such event.
    pub start: Option<Time>,
    /// When it was healed; `None` if it never was.
    pub end: Option<Time>,
    /// What was measured of it.
    pub evidence: Vec<Evidence>,
}

impl FaultSpan {
    /// Whether the fault was in force at some moment of `from..=to`.
    pub fn overlaps(&self, from: Time, to: Time) -> bool {
        self.start.is_some_and(|start| start <= to) && self.end.is_none_or(|end| end >= from)
    }
}

/// The positions of an operation's events in the history. They order events more finely than
/// times do: what stands earlier in a history happened no later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The invocation.
    pub invoked: usize,
    /// The completion, if there is one.
    pub completed: Option<usize>,
}

impl Span {
    fn of(operation: &Operation) -> Span {
        Span {
            invoked: operation.invoked.index as usize,
            completed: operation.completed.map(|moment| moment.index as usize),
        }
    }
}

/// One history, ready to be judged: of a run of ours, live or stored, or made elsewhere.
#[derive(Clone, Debug)]
pub struct Run<'a> {
    /// All events; none of a history that was made elsewhere.
    pub events: &'a [Event],
    /// The operations, in the order of their invocations.
    pub operations: Cow<'a, [Operation]>,
    /// What the ambiguous cases mean in this history.
    pub conventions: Conventions,
    /// Whether the history was made by something else than a run of ours, so that it has neither
    /// phases nor hosts nor faults that can be judged.
    pub foreign: bool,
    /// Where each operation's events stand; as long as `operations`.
    pub spans: Vec<Span>,
    /// What the run is.
    pub header: Option<Header>,
    /// The faults, in the order in which they first appear.
    pub faults: Vec<FaultSpan>,
    /// When each phase was entered, with the position of that event, in order.
    pub phases: Vec<(Phase, Time, usize)>,
    /// The run came to its end ([`Phase::End`] was seen) and no line was cut off.
    pub complete: bool,
    /// When the last event happened.
    pub end: Time,
}

impl<'a> Run<'a> {
    /// Reads a history. `truncated`: its last line was cut off by a crash.
    pub fn new(events: &'a [Event], truncated: bool) -> Result<Run<'a>, Malformed> {
        Ok(Run::of(events, Cow::Owned(operations(events)?), truncated))
    }

    /// A history that was read from a file of any format. O(n).
    pub fn imported(history: &'a Imported) -> Run<'a> {
        let operations = Cow::Borrowed(&history.operations[..]);
        if history.format == Format::JsonLines {
            let run = Run::of(&history.events, operations, history.truncated);
            return Run { conventions: history.conventions, ..run };
        }
        let end = history.operations.iter().flat_map(|o| [Some(o.invoked), o.completed]).flatten();
        Run {
            events: &[],
            spans: operations.iter().map(Span::of).collect(),
            operations,
            conventions: history.conventions,
            foreign: true,
            header: None,
            faults: Vec::new(),
            phases: Vec::new(),
            complete: true,
            end: end.map(|moment| moment.time()).max().unwrap_or_default(),
        }
    }

    fn of(events: &'a [Event], operations: Cow<'a, [Operation]>, truncated: bool) -> Run<'a> {
        let mut run = Run {
            events,
            spans: operations.iter().map(Span::of).collect(),
            operations,
            conventions: Conventions::OWN,
            foreign: false,
            header: None,
            faults: Vec::new(),
            phases: Vec::new(),
            complete: false,
            end: events.last().map_or(Time(0), |event| event.time),
        };
        // fault → its place in `run.faults`
        let mut known = BTreeMap::new();
        for (at, event) in events.iter().enumerate() {
            match &event.kind {
                EventKind::Header(header) if run.header.is_none() => run.header = Some(header.clone()),
                EventKind::Fault(fault) => run.fault(&mut known, fault.fault, Some((event.time, fault))),
                EventKind::Evidence(evidence) => {
                    run.fault(&mut known, evidence.fault, None);
                    run.faults[known[&evidence.fault]].evidence.push(evidence.clone());
                }
                EventKind::Phase { phase } => run.phases.push((*phase, event.time, at)),
                _ => {}
            }
        }
        run.complete = !truncated && run.phases.iter().any(|(phase, ..)| *phase == Phase::End);
        run
    }

    fn fault(&mut self, known: &mut BTreeMap<u64, usize>, id: u64, event: Option<(Time, &FaultEvent)>) {
        let at = *known.entry(id).or_insert_with(|| {
            self.faults.push(FaultSpan {
                fault: id,
                kind: SmolStr::default(),
                what: String::new(),
                hosts: Vec::new(),
                links: Vec::new(),
                start: None,
                end: None,
                evidence: Vec::new(),
            });
            self.faults.len() - 1
        });
        let span = &mut self.faults[at];
        let Some((time, event)) = event else { return };
        if span.what.is_empty() {
            span.kind = event.kind.clone();
            span.what = event.what.clone();
            span.hosts = event.hosts.clone();
            span.links = event.links.clone();
        }
        match event.stage {
            // A fault that starts again is as long as from its first start to its last end.
            Stage::Start => {
                span.start.get_or_insert(time);
                span.end = None;
            }
            Stage::End => span.end = Some(time),
        }
    }

    /// The faults in force at a moment.
    pub fn faults_in_force(&self, at: Time) -> impl Iterator<Item = &FaultSpan> {
        self.faults_during(at, at)
    }

    /// The faults in force at some moment of `from..=to`.
    pub fn faults_during(&self, from: Time, to: Time) -> impl Iterator<Item = &FaultSpan> {
        self.faults.iter().filter(move |fault| fault.overlaps(from, to))
    }

    /// The same run without what the harness asked by itself, and for each operation left its number
    /// in this one; `None` if there is nothing of that kind.
    pub(crate) fn without_probes(&self) -> Option<(Run<'_>, Vec<usize>)> {
        let is_probe = |operation: &Operation| !self.foreign && operation.op.is_probe();
        if !self.operations.iter().any(is_probe) {
            return None;
        }
        let kept: Vec<usize> = (0..self.operations.len()).filter(|at| !is_probe(&self.operations[*at])).collect();
        let operations = kept.iter().map(|at| self.operations[*at].clone()).collect();
        let spans = kept.iter().map(|at| self.spans[*at]).collect();
        Some((Run { operations: Cow::Owned(operations), spans, ..self.clone() }, kept))
    }

    /// Whether operation `earlier` was over before operation `later` was invoked.
    pub fn precedes(&self, earlier: usize, later: usize) -> bool {
        self.spans[earlier].completed.is_some_and(|completed| completed < self.spans[later].invoked)
    }

    /// The phase that the run was in at a position of the history. Before the first phase event
    /// (and in imported histories, which have none) that is [`Phase::Main`].
    pub fn phase_at(&self, position: usize) -> Phase {
        let entered = self.phases.partition_point(|(_, _, at)| *at <= position);
        entered.checked_sub(1).map_or(Phase::Main, |last| self.phases[last].0)
    }

    /// When a phase was first entered.
    pub fn phase_start(&self, phase: Phase) -> Option<Time> {
        self.phases.iter().find(|(p, ..)| *p == phase).map(|(_, time, _)| *time)
    }

    /// The operations that the target confirmed, with their numbers.
    pub fn confirmed(&self) -> impl Iterator<Item = (usize, &Operation)> {
        self.operations.iter().enumerate().filter(|(_, operation)| operation.outcome == Outcome::Ok)
    }
}

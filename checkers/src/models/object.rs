//! Linearizable objects: what a model of one has to say, and the way from an imported history to
//! a report that all of them share.
//!
//! A history is read as calls of the object, split into parts that can be judged apart (one per
//! key: linearizability is local, Herlihy and Wing, TOPLAS 1990, §3.3), and each part is given to
//! the object's own method where it has one that is sound for it, otherwise to [`crate::wgl`] and
//! [`super::forward`].
//! What is invalid is reduced to operations that contradict each other by themselves
//! ([`super::core`]).

use std::collections::HashMap;
use std::hash::Hash;

use duress_history::formats::{Known, Operation, Value};
use rayon::prelude::*;
use smol_str::SmolStr;
use stateright::semantics::SequentialSpec;

use super::core::{self, Core};
use super::forward;
use super::values::Values;

use crate::budget::Deadline;
use crate::wgl::{self, Entry, Limit, Outcome};
use crate::{Class, Judge, Report, Run, Settings, words};

/// An operation as a call of an object.
pub(crate) struct Call<S: SequentialSpec> {
    /// What was asked.
    pub op: S::Op,
    /// What came back; `None` if nobody knows whether it took effect.
    pub ret: Option<S::Ret>,
    /// See [`Entry::passive`].
    pub passive: bool,
}

impl<S: SequentialSpec> Call<S> {
    /// A call that may change the object.
    pub(crate) fn new(op: S::Op, ret: Option<S::Ret>) -> Self {
        Call { op, ret, passive: false }
    }

    /// A call that only looked.
    pub(crate) fn look(op: S::Op, ret: S::Ret) -> Self {
        Call { op, ret: Some(ret), passive: true }
    }
}

/// The calls of one object.
pub(crate) type Entries<S> = [Entry<<S as SequentialSpec>::Op, <S as SequentialSpec>::Ret>];

/// Calls that can be judged apart from all others.
pub(crate) struct Part<S: SequentialSpec> {
    /// Of which key, where the history has keys.
    pub key: Option<Value>,
    /// The calls, in the order of their invocations.
    pub entries: Vec<Entry<S::Op, S::Ret>>,
    /// Which operation of the history each is.
    pub sources: Vec<u32>,
}

/// What an object's own method found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// There is an order.
    Order,
    /// There is none: these calls, as indices, contradict each other, by the rule told in words.
    Contradiction {
        /// The calls; with them alone there is no order either.
        calls: Vec<usize>,
        /// Which rule they break.
        rule: &'static str,
    },
}

/// A sequential object that histories can be judged against.
pub(crate) trait Object: Send + Sync {
    /// What it does.
    type Spec: SequentialSpec<Op: Clone + Send + Sync, Ret: Clone + Send + Sync> + Clone + Eq + Hash + Send + Sync;

    /// The name that `--model` takes.
    fn name(&self) -> &'static str;

    /// What it says in one line.
    fn about(&self) -> &'static str;

    /// How it is at first.
    fn initial(&self) -> Self::Spec;

    /// Reads an operation of which `known` is known as calls: none if it tells nothing. An error
    /// says why the operation has no meaning here.
    fn calls(
        &self,
        operation: &Operation,
        known: Known<'_>,
        values: &mut Values,
        calls: &mut Vec<Call<Self::Spec>>,
    ) -> Result<(), String>;

    /// Splits what belongs to one key further, where parts of it can be judged apart. By default
    /// it is left whole.
    fn split(&self, part: Part<Self::Spec>) -> Vec<Part<Self::Spec>> {
        vec![part]
    }

    /// Judges without a search. `None`: can't be told this way.
    fn monitor(&self, _: &Entries<Self::Spec>) -> Option<Found> {
        None
    }

    /// Searches for an order. With `certify`, one is given with [`Outcome::Linearizable`].
    fn search(&self, entries: &Entries<Self::Spec>, deadline: Deadline, memory_bytes: usize, certify: bool) -> Outcome {
        forward::either(self.initial(), entries, deadline, memory_bytes, certify)
    }

    /// Whether the search gives up branches for what comes later, so that where it fails is not where
    /// the first return is that no order explains.
    fn looks_ahead(&self) -> bool {
        false
    }

    /// Subsets of some calls that have no order only if those have none, the smallest first: what
    /// remains if all that was over before something that determines the state is left out.
    fn cuts(&self, _entries: &Entries<Self::Spec>, _calls: &[usize]) -> Vec<Vec<usize>> {
        Vec::new()
    }

    /// Calls that must be left out together, or not at all, for what has an order to keep one: a
    /// class per call, `None` for those that have to stay. By default only passive calls may go,
    /// each by itself.
    fn classes(&self, entries: &Entries<Self::Spec>) -> Vec<Option<u64>> {
        entries.iter().enumerate().map(|(at, entry)| entry.passive.then_some(at as u64)).collect()
    }
}

/// What was found of one part.
enum Answer {
    Valid,
    Invalid {
        core: Option<(Vec<usize>, &'static str)>,
        stuck: Option<usize>,
    },
    Unknown {
        valid_up_to: usize,
        limit: Limit,
    },
    /// Two methods differ.
    Conflict(String),
}

/// While parts are searched in parallel each has this share of the memory; one that needs more is
/// searched again alone. Fixed, so that a report doesn't depend on the number of threads.
const MEMORY_SHARES: usize = 32;

/// How many invalid parts are explained; the others are counted.
const EXPLAINED: usize = 3;

/// Judges whether histories of an object are linearizable.
pub(crate) struct Linearizable<O>(pub O);

impl<O: Object> Judge for Linearizable<O> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn about(&self) -> &'static str {
        self.0.about()
    }

    fn judge(&self, history: &Run<'_>, settings: &Settings) -> Report {
        super::of_the_workload(history, |history| match read(&self.0, history) {
            Ok(read) => self.judge(history, &read, settings),
            Err((line, why)) => {
                let summary = format!("Line {line} has no meaning for {}: {why}.", self.name());
                Report::unknown(self.name(), Class::Inconclusive, summary)
            }
        })
    }
}

/// A history as parts.
pub(crate) struct Read<S: SequentialSpec> {
    pub(crate) parts: Vec<Part<S>>,
    /// How many operations tell nothing.
    pub(crate) silent: usize,
}

/// Reads a history. An error is the line of the first operation without a meaning, and why.
pub(crate) fn read<O: Object>(object: &O, history: &Run<'_>) -> Result<Read<O::Spec>, (usize, String)> {
    let mut values = Values::new(history.conventions);
    let mut whole: Vec<Part<O::Spec>> = Vec::new();
    let mut by_key: HashMap<Option<&Value>, usize> = HashMap::new();
    let mut calls = Vec::new();
    let mut silent = 0;
    let mut last = None;
    for (source, operation) in history.operations.iter().enumerate() {
        let known = operation.known(history.conventions);
        if known == Known::Nothing {
            silent += 1;
            continue;
        }
        object.calls(operation, known, &mut values, &mut calls).map_err(|why| (operation.invoked.line, why))?;
        silent += usize::from(calls.is_empty());
        if calls.is_empty() {
            continue;
        }
        let key = operation.op.key.as_ref();
        let at = match last {
            Some((seen, at)) if seen == key => at,
            _ => *by_key.entry(key).or_insert_with(|| {
                whole.push(Part { key: key.cloned(), entries: Vec::new(), sources: Vec::new() });
                whole.len() - 1
            }),
        };
        last = Some((key, at));
        for Call { op, ret, passive } in calls.drain(..) {
            let end = operation.completed.map_or(u64::MAX, |moment| moment.index);
            whole[at].entries.push(Entry {
                op,
                invoked: operation.invoked.index,
                returned: ret.map(|ret| (end, ret)),
                passive,
            });
            whole[at].sources.push(source as u32);
        }
    }
    Ok(Read { parts: whole.into_iter().flat_map(|part| object.split(part)).collect(), silent })
}

impl<O: Object> Linearizable<O> {
    fn judge(&self, history: &Run<'_>, read: &Read<O::Spec>, settings: &Settings) -> Report {
        let deadline = Deadline::after(settings.budget.time);
        // A finding that can't be explained is worth little: some time is kept for that.
        let search_deadline = Deadline::after(settings.budget.time / 5 * 4);
        let memory = settings.budget.memory_bytes;
        let parts = &read.parts;
        let mut largest_first: Vec<usize> = (0..parts.len()).collect();
        largest_first.sort_by_key(|at| std::cmp::Reverse(parts[*at].entries.len()));
        let by_size = largest_first.par_iter().with_max_len(1.max(parts.len() / 1024));
        let one = |part, memory| self.answer(part, search_deadline, memory, settings.certify);
        let mut answers: Vec<(usize, (Answer, bool))> =
            by_size.map(|at| (*at, one(&parts[*at], memory / MEMORY_SHARES))).collect();
        answers.sort_unstable_by_key(|(at, _)| *at);
        for (at, answer) in &mut answers {
            if matches!(answer.0, Answer::Unknown { limit: Limit::Memory, .. }) {
                *answer = one(&parts[*at], memory);
            }
        }
        let monitored = answers.iter().filter(|(_, (_, monitored))| *monitored).count();
        let answers: Vec<Answer> = answers.into_iter().map(|(_, (answer, _))| answer).collect();
        let mut report = self.report(history, read, &answers, deadline, memory / MEMORY_SHARES);
        if settings.certify && report.verdict == crate::Verdict::Invalid {
            report = self.confirm(report, parts, &answers, deadline, memory);
        }
        report.figure("parts", parts.len() as f64);
        report.figure("parts_monitored", monitored as f64);
        report.figure("operations", completed(parts) as f64);
        report.figure("indeterminate", (entries(parts) - completed(parts)) as f64);
        report.figure("without_information", read.silent as f64);
        report
    }

    /// Judges one part, and says whether without a search.
    fn answer(&self, part: &Part<O::Spec>, deadline: Deadline, memory: usize, certify: bool) -> (Answer, bool) {
        let monitored = self.0.monitor(&part.entries);
        match &monitored {
            Some(Found::Contradiction { calls, rule }) => {
                return (Answer::Invalid { core: Some((calls.clone(), rule)), stuck: None }, true);
            }
            Some(Found::Order) if !certify => return (Answer::Valid, true),
            _ => {}
        }
        let answer = match self.0.search(&part.entries, deadline, memory, certify) {
            Outcome::Linearizable { order } if certify => match flaw(self.0.initial(), &part.entries, &order) {
                None => Answer::Valid,
                Some(flaw) => Answer::Conflict(format!("the order that was found is none: {flaw}")),
            },
            Outcome::Linearizable { .. } => Answer::Valid,
            Outcome::NotLinearizable { .. } if monitored.is_some() => {
                Answer::Conflict("the monitor finds an order and the search does not".into())
            }
            Outcome::NotLinearizable { stuck } => Answer::Invalid { core: None, stuck: Some(stuck) },
            Outcome::Unknown { .. } if monitored.is_some() => Answer::Valid,
            Outcome::Unknown { valid_up_to, limit } => Answer::Unknown { valid_up_to, limit },
        };
        (answer, monitored.is_some())
    }

    fn report(
        &self,
        history: &Run<'_>,
        read: &Read<O::Spec>,
        answers: &[Answer],
        deadline: Deadline,
        memory: usize,
    ) -> Report {
        let parts = &read.parts;
        let name = self.name();
        if let Some(why) = answers.iter().find_map(|a| if let Answer::Conflict(why) = a { Some(why) } else { None }) {
            let mut report =
                Report::unknown(name, Class::Infrastructure, format!("The checker contradicts itself: {why}."));
            report.explanation.push("This is a fault of the checker; it says nothing about the history.".into());
            return report;
        }
        let mut invalid: Vec<usize> =
            (0..parts.len()).filter(|at| matches!(answers[*at], Answer::Invalid { .. })).collect();
        if !invalid.is_empty() {
            invalid.sort_by_key(|at| went_wrong(&parts[*at], &answers[*at]));
            let shown = &invalid[..invalid.len().min(EXPLAINED)];
            let cores: Vec<Core> =
                shown.par_iter().map(|at| self.core(&parts[*at], &answers[*at], deadline, memory)).collect();
            let mut lines = Vec::new();
            let mut sentences = Vec::new();
            for (at, core) in shown.iter().zip(&cores) {
                let (sentence, story) = core::tell(history, &parts[*at].key, &parts[*at].sources, core);
                lines.extend((!sentences.is_empty()).then(|| sentence.clone()));
                lines.extend(story);
                sentences.push(sentence);
            }
            if invalid.len() > EXPLAINED {
                let names: Vec<String> = invalid[EXPLAINED..].iter().map(|at| part_name(&parts[*at].key)).collect();
                lines.push(format!("Not linearizable either: {}.", words::list(&names, 10)));
            }
            let summary = match parts.len() {
                1 => sentences.swap_remove(0),
                n => format!("{} of {} not linearizable: {}", invalid.len(), words::count(n, "part"), sentences[0]),
            };
            let mut report = Report::invalid(name, summary);
            report.explanation = lines;
            report.core = core::operations(&parts[shown[0]].sources, &cores[0]);
            return report;
        }
        let undecided: Vec<(usize, usize, Limit)> = answers
            .iter()
            .enumerate()
            .filter_map(|(at, answer)| match answer {
                Answer::Unknown { valid_up_to, limit } => Some((at, *valid_up_to, *limit)),
                _ => None,
            })
            .collect();
        let total = completed(parts);
        if !undecided.is_empty() {
            let open: usize = undecided.iter().map(|(at, ..)| part_completed(&parts[*at])).sum();
            let valid: usize = total - open + undecided.iter().map(|(_, valid, _)| valid).sum::<usize>();
            let what = if undecided.iter().any(|(.., limit)| *limit == Limit::Memory) { "memory" } else { "time" };
            let summary = format!("The search ran out of {what}: valid up to operation {valid} of {total}.");
            let mut report = Report::unknown(name, Class::Inconclusive, summary);
            for (at, valid, _) in undecided.iter().take(10) {
                let (key, all) = (part_name(&parts[*at].key), part_completed(&parts[*at]));
                report.explanation.push(format!("{key}: valid up to operation {valid} of {all}."));
            }
            return report;
        }
        if total == 0 {
            return Report::unknown(name, Class::Inconclusive, "No operation tells anything: nothing to judge.");
        }
        Report::valid(name, format!("{} are linearizable.", words::count(total, "operation")))
    }

    fn core(&self, part: &Part<O::Spec>, answer: &Answer, deadline: Deadline, memory: usize) -> Core {
        let from = match answer {
            Answer::Invalid { core: Some((calls, rule)), .. } => {
                Core { calls: calls.clone(), blocking: None, rule: Some(rule), minimal: true }
            }
            Answer::Invalid { stuck, .. } => {
                Core { calls: (0..part.entries.len()).collect(), blocking: *stuck, rule: None, minimal: true }
            }
            _ => return Core { calls: Vec::new(), blocking: None, rule: None, minimal: false },
        };
        core::of(&self.0, &part.entries, from, deadline, memory)
    }

    /// Confirms by the general search that what a monitor calls contradictory is.
    fn confirm(
        &self,
        report: Report,
        parts: &[Part<O::Spec>],
        answers: &[Answer],
        deadline: Deadline,
        memory: usize,
    ) -> Report {
        for (part, answer) in parts.iter().zip(answers) {
            let Answer::Invalid { core: Some((calls, _)), .. } = answer else { continue };
            let entries: Vec<_> = calls.iter().map(|at| part.entries[*at].clone()).collect();
            if let Outcome::Linearizable { .. } = wgl::search_until(self.0.initial(), &entries, deadline, memory) {
                let summary = "The checker contradicts itself: what its monitor refuses has an order.";
                return Report::unknown(self.name(), Class::Infrastructure, summary);
            }
        }
        report
    }
}

/// The moment at which a part went wrong, for the order in which parts are told.
fn went_wrong<S: SequentialSpec>(part: &Part<S>, answer: &Answer) -> u64 {
    let end = |at: usize| part.entries[at].returned.as_ref().map_or(u64::MAX, |(end, _)| *end);
    match answer {
        Answer::Invalid { core: Some((calls, _)), .. } => calls.iter().map(|at| end(*at)).max().unwrap_or(u64::MAX),
        Answer::Invalid { stuck: Some(stuck), .. } => end(*stuck),
        _ => u64::MAX,
    }
}

fn part_name(key: &Option<Value>) -> String {
    key.as_ref().map_or("the object".into(), ToString::to_string)
}

fn part_completed<S: SequentialSpec>(part: &Part<S>) -> usize {
    part.entries.iter().filter(|entry| entry.returned.is_some()).count()
}

fn completed<S: SequentialSpec>(parts: &[Part<S>]) -> usize {
    parts.iter().map(part_completed).sum()
}

fn entries<S: SequentialSpec>(parts: &[Part<S>]) -> usize {
    parts.iter().map(|part| part.entries.len()).sum()
}

/// Why an order is no linearization, if it is none. Linear, and shares nothing with any search.
fn flaw<S: SequentialSpec>(mut state: S, entries: &Entries<S>, order: &[usize]) -> Option<SmolStr> {
    let mut seen = vec![false; entries.len()];
    let mut latest_call = 0;
    for at in order {
        let Some(entry) = entries.get(*at).filter(|_| !seen[*at]) else {
            return Some("a call that is none, or comes twice".into());
        };
        seen[*at] = true;
        latest_call = latest_call.max(entry.invoked);
        match &entry.returned {
            Some((end, _)) if *end < latest_call => return Some("a call comes after a later one".into()),
            Some((_, ret)) if !state.is_valid_step(&entry.op, ret) => return Some("a call has another result".into()),
            Some(_) => {}
            None => drop(state.invoke(&entry.op)),
        }
    }
    let missing = entries.iter().zip(&seen).any(|(entry, seen)| entry.returned.is_some() && !seen);
    missing.then(|| "a call is missing".into())
}

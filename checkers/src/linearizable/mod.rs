//! Registers: is there one order of reads, writes and cas that explains every result?
//!
//! A history of many registers is linearizable if and only if that of each register is (Herlihy
//! and Wing, *Linearizability* (TOPLAS 1990), §3.3: the property is local), so the keys are
//! searched apart, in parallel. What is found to be invalid is shrunk to the smallest set of
//! operations that can't be ordered, and told as a story with a timeline.

mod certify;
mod history;
mod shrink;
mod story;
mod timeline;

use rayon::prelude::*;

use self::history::KeyHistory;
use crate::budget::Deadline;
use crate::register::Register;
use crate::wgl::{Limit, Outcome};
use crate::{Class, Judge, Report, Run, Settings, engine, words};

/// How many of the registers found invalid are explained; the others are named.
const EXPLAINED: usize = 3;

/// While keys are searched in parallel each has this share of the memory; a key that needs more
/// is searched again alone. Fixed, so that a result doesn't depend on the number of threads.
const MEMORY_SHARES: usize = 32;

/// So few operations are searched without help: asking other threads would take longer.
const ALONE: usize = 1000;

/// Checks that every register is linearizable.
#[derive(Clone, Debug, Default)]
pub struct Linearizable {
    /// What a register holds before the first operation. By default nothing.
    pub model: Register,
}

impl Judge for Linearizable {
    fn name(&self) -> &'static str {
        "linearizable"
    }

    fn about(&self) -> &'static str {
        "registers, one per key, nil at first: read, write v, cas [from to]; told with clients, nodes and faults"
    }

    fn judge(&self, run: &Run<'_>, settings: &Settings) -> Report {
        let budget = &settings.budget;
        let deadline = Deadline::after(budget.time);
        // A finding that can't be explained is worth little: some time is kept for that.
        let search_deadline = Deadline::after(budget.time / 5 * 4);
        let history::Registers { keys, strange, unfit } = history::by_key(run, &self.model);
        let outcomes = search_all(&keys, search_deadline, budget.memory_bytes, settings.certify);
        let mut found: Vec<Found<'_, '_>> = Vec::new();
        let mut undecided = Vec::new();
        for (key, outcome) in keys.iter().zip(outcomes) {
            match outcome {
                Outcome::Linearizable { order } if settings.certify => {
                    if let Some(flaw) = certify::flaw(key.initial, &key.entries, &order) {
                        return contradiction(&format!("the order that was found for {} is none: {flaw}", key.key));
                    }
                }
                Outcome::Linearizable { .. } => {}
                Outcome::NotLinearizable { stuck } => found.push(Found { history: key, stuck }),
                Outcome::Unknown { valid_up_to, limit } => undecided.push((key, valid_up_to, limit)),
            }
        }
        // In the order in which they went wrong.
        found.sort_by_key(|found| found.history.entries[found.stuck].returned.as_ref().map(|(at, _)| *at));

        let checked: usize = keys.iter().map(|key| key.completed()).sum();
        let mut report = if !found.is_empty() {
            self.invalid(run, &keys, &found, deadline, settings)
        } else if !undecided.is_empty() {
            unknown(&keys, &undecided)
        } else if strange > 0 {
            Report::unknown(
                self.name(),
                Class::Inconclusive,
                format!("{} came back with results of the wrong type.", words::count(strange, "operation")),
            )
        } else if let (n, Some(first)) = unfit {
            let summary = words::unfit("registers", n, &run.operations[first]);
            Report::unknown(self.name(), Class::Inconclusive, summary)
        } else if checked == 0 {
            Report::unknown(self.name(), Class::Inconclusive, "No operation on a register succeeded: nothing to judge.")
        } else {
            let (ops, keys) = (words::count(checked, "operation"), words::count(keys.len(), "register"));
            Report::valid(self.name(), format!("{ops} on {keys} are linearizable."))
        };
        report.figure("registers", keys.len() as f64);
        report.figure("operations", checked as f64);
        report.figure("indeterminate", keys.iter().map(|key| key.indeterminate).sum::<usize>() as f64);
        report.figure("invalid_registers", found.len() as f64);
        report.figure("undecided_registers", undecided.len() as f64);
        report
    }
}

/// A register that is not linearizable.
struct Found<'k, 'r> {
    history: &'k KeyHistory<'r>,
    /// The entry at whose return every order fails.
    stuck: usize,
}

impl Linearizable {
    fn invalid(
        &self,
        run: &Run<'_>,
        keys: &[KeyHistory<'_>],
        found: &[Found<'_, '_>],
        deadline: Deadline,
        settings: &Settings,
    ) -> Report {
        let mut sentences = Vec::new();
        let mut lines = Vec::new();
        let explain = |found: &Found<'_, '_>| {
            let memory = settings.budget.memory_bytes / MEMORY_SHARES;
            let window = shrink::smallest(found.history, found.stuck, deadline, memory);
            if settings.certify {
                let entries: Vec<_> = window.members.iter().map(|member| found.history.entry(member)).collect();
                if certify::has_order(found.history.initial, &entries, deadline, memory) == Some(true) {
                    return Err(format!("the operations on {} that were refused have an order", found.history.key));
                }
            }
            let core = window.members.iter().map(|member| found.history.operations[member.entry]).collect();
            Ok((story::tell(run, found.history, &window), core))
        };
        let stories: Result<Vec<(story::Story, Vec<usize>)>, String> =
            found[..found.len().min(EXPLAINED)].par_iter().map(explain).collect();
        let stories = match stories {
            Ok(stories) => stories,
            Err(why) => return contradiction(&why),
        };
        let mut core = Vec::new();
        for (at, (story, of_story)) in stories.into_iter().enumerate() {
            if at == 0 {
                core = of_story;
            }
            // The first sentence opens the report and needn't be said again.
            lines.extend(Some(story.sentence.clone()).filter(|_| !sentences.is_empty()));
            lines.extend(story.lines);
            sentences.push(story.sentence);
        }
        if found.len() > EXPLAINED {
            let names: Vec<String> = found[EXPLAINED..].iter().map(|found| found.history.key.to_string()).collect();
            lines.push(format!("Not linearizable either: {}.", words::list(&names, 10)));
        }
        let first = &sentences[0];
        let summary = format!("{} of {} not linearizable: {first}", found.len(), words::count(keys.len(), "register"));
        let mut report = Report::invalid(self.name(), summary);
        report.explanation = lines;
        core.sort_unstable();
        report.core = core;
        report
    }
}

fn contradiction(why: &str) -> Report {
    let mut report =
        Report::unknown("linearizable", Class::Infrastructure, format!("The checker contradicts itself: {why}."));
    report.explanation.push("This is a fault of the harness; it says nothing about the target.".into());
    report
}

fn search_all(keys: &[KeyHistory<'_>], deadline: Deadline, memory_bytes: usize, certify: bool) -> Vec<Outcome> {
    let search =
        |key: &KeyHistory<'_>, bytes| engine::search_until(key.initial, &key.entries, deadline, bytes, certify);
    let mut largest_first: Vec<usize> = (0..keys.len()).collect();
    largest_first.sort_by_key(|at| std::cmp::Reverse(keys[*at].entries.len()));
    let one = |at: &usize| (*at, search(&keys[*at], memory_bytes / MEMORY_SHARES));
    let mut found: Vec<(usize, Outcome)> = if keys.iter().map(|key| key.entries.len()).sum::<usize>() <= ALONE {
        largest_first.iter().map(one).collect()
    } else {
        // One at a time, so that no thread is left with several large ones at the end.
        largest_first.par_iter().with_max_len(1).map(one).collect()
    };
    found.sort_unstable_by_key(|(at, _)| *at);
    let mut outcomes: Vec<Outcome> = found.into_iter().map(|(_, outcome)| outcome).collect();
    for (key, outcome) in keys.iter().zip(&mut outcomes) {
        if matches!(outcome, Outcome::Unknown { limit: Limit::Memory, .. }) {
            *outcome = search(key, memory_bytes);
        }
    }
    outcomes
}

fn unknown(keys: &[KeyHistory<'_>], undecided: &[(&KeyHistory<'_>, usize, Limit)]) -> Report {
    let sum = |keys: &mut dyn Iterator<Item = usize>| -> usize { keys.sum() };
    let total = sum(&mut keys.iter().map(|key| key.completed()));
    let open = sum(&mut undecided.iter().map(|(key, ..)| key.completed()));
    let valid = total - open + sum(&mut undecided.iter().map(|(_, valid, _)| *valid));
    let what = if undecided.iter().any(|(.., limit)| *limit == Limit::Memory) { "memory" } else { "time" };
    let mut report = Report::unknown(
        "linearizable",
        Class::Inconclusive,
        format!(
            "The search ran out of {what}: valid up to operation {valid} of {total}; {} of {} undecided.",
            undecided.len(),
            words::count(keys.len(), "register"),
        ),
    );
    for (key, valid, _) in undecided.iter().take(10) {
        report.explanation.push(format!("{}: valid up to operation {valid} of {}.", key.key, key.completed()));
    }
    report
}

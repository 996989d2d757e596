//! What is found in a run: which promise was broken, in words.

use std::fmt;

use duress_checkers::faults::FaultsProven;
use duress_checkers::stats::Stats;
use duress_checkers::{Budget, Judge, Report, Run, Verdict, check_all};
use duress_sim::{Ended, SimRun};
use smol_str::SmolStr;

/// What a run violated. Findings of the same property are taken for the same thing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Property {
    /// A checker's verdict was invalid.
    Checker(SmolStr),
    /// Healed, and not every node served within the bound, or nobody ever did.
    Unavailable,
    /// A node's code panicked.
    Panic,
}

impl Property {
    /// Its short name: the checker's, `unavailable` or `panic`.
    pub fn name(&self) -> &str {
        match self {
            Property::Checker(name) => name,
            Property::Unavailable => "unavailable",
            Property::Panic => "panic",
        }
    }

    /// The property with this name. Any other name is a checker's.
    pub fn named(name: &str) -> Property {
        match name {
            "unavailable" => Property::Unavailable,
            "panic" => Property::Panic,
            checker => Property::Checker(checker.into()),
        }
    }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One broken promise of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Violation {
    /// What was violated.
    pub property: Property,
    /// In one sentence.
    pub summary: String,
    /// The story behind it.
    pub explanation: Vec<String>,
}

/// What became of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judgement {
    /// What was violated, the checkers' order first.
    pub violations: Vec<Violation>,
    /// Why it can't be told whether everything was in order; `None` if it can.
    pub unknown: Option<String>,
    /// The simulator itself failed, and this is what it said: nothing is known of the target.
    pub broken: Option<String>,
}

impl Judgement {
    /// The violation of this property.
    pub fn of(&self, property: &Property) -> Option<&Violation> {
        self.violations.iter().find(|violation| violation.property == *property)
    }
}

/// Of a scenario's checkers, those that say something of the target. That a simulated fault takes
/// effect needs no proof, and a hunted run is too short for statistics.
pub(crate) fn judges_the_target(checker: &dyn Judge) -> bool {
    ![FaultsProven.name(), Stats { min_ok: 0 }.name()].contains(&checker.name())
}

/// Judges a run by these checkers, and by whether it came to its end.
pub fn judge(run: &SimRun, checkers: &[Box<dyn Judge>], budget: &Budget) -> Judgement {
    let mut judgement = Judgement::default();
    match Run::new(&run.events, false) {
        Err(malformed) => judgement.unknown = Some(format!("the history makes no sense: {malformed}")),
        Ok(history) => {
            for report in check_all(&history, checkers, &(*budget).into()).reports {
                judgement.add(report, matches!(run.ended, Ended::Complete { .. }));
            }
        }
    }
    let mut violated = |property, summary: String, explanation| {
        judgement.violations.push(Violation { property, summary, explanation });
    };
    match &run.ended {
        Ended::Complete { .. } => {}
        Ended::NeverServed => {
            let said = "No client got an answer, though nothing had been done to the cluster.";
            violated(Property::Unavailable, said.into(), Vec::new());
        }
        Ended::Unavailable { away, stuck } => {
            let names: Vec<&str> = stuck.iter().map(|(host, _)| host.as_str()).collect();
            let healed = match away.is_empty() {
                true => "Everything was healed".to_owned(),
                false => format!("Everything but {} was healed, which is a quorum", away.join(", ")),
            };
            let said = format!("{healed}, and {} did not serve again.", names.join(", "));
            let why = stuck.iter().map(|(host, why)| format!("{host}: {why}"));
            violated(Property::Unavailable, said, why.collect());
        }
        Ended::Panicked { node: Some(node), said } => {
            violated(Property::Panic, format!("{node} panicked: {said}"), Vec::new());
        }
        Ended::Panicked { node: None, said } => judgement.broken = Some(said.clone()),
        Ended::OutOfEvents => {
            judgement.unknown.get_or_insert_with(|| "the run was cut short at its bound on events".into());
        }
    }
    judgement
}

impl Judgement {
    fn add(&mut self, report: Report, complete: bool) {
        match report.verdict {
            Verdict::Valid => {}
            // What is missing at the end of a run that did not end well says nothing new.
            Verdict::Unknown if !complete => {}
            Verdict::Unknown => {
                self.unknown.get_or_insert(report.summary);
            }
            Verdict::Invalid => self.violations.push(Violation {
                property: Property::Checker(report.checker),
                summary: report.summary,
                explanation: report.explanation,
            }),
        }
    }
}

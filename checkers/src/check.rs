//! Running judges so that a fault of theirs is never taken for a fault of the target.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::budget::Deadline;
use crate::{Budget, Class, Report, Results, Run};

/// How to judge.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// How much it may cost.
    pub budget: Budget,
    /// Whether every answer of a search must be confirmed by an independent verifier.
    pub certify: bool,
    /// How many permits a semaphore has, where that is known.
    pub permits: Option<u64>,
}

impl From<Budget> for Settings {
    fn from(budget: Budget) -> Settings {
        Settings { budget, ..Settings::default() }
    }
}

/// From a history to a verdict, whether the history is live, stored or somebody else's.
pub trait Judge: Send + Sync {
    /// A short stable name, by which it is chosen.
    fn name(&self) -> &'static str;

    /// What it says in one line: the operations that it knows, and what must be true of them.
    fn about(&self) -> &'static str;

    /// Judges one history. Always answers, and within the budget: what can't be told within it is
    /// [`Verdict::Unknown`](crate::Verdict::Unknown). An operation that has no meaning for the judge
    /// is told, never passed over.
    fn judge(&self, run: &Run<'_>, settings: &Settings) -> Report;
}

impl<J: Judge + ?Sized> Judge for &J {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn about(&self) -> &'static str {
        (**self).about()
    }

    fn judge(&self, run: &Run<'_>, settings: &Settings) -> Report {
        (**self).judge(run, settings)
    }
}

/// Lets one judge judge. One that panics yields an unknown verdict of class
/// [`Class::Infrastructure`].
pub fn judge(judge: &dyn Judge, run: &Run<'_>, settings: &Settings) -> Report {
    // The judge is not used again, so nothing it left half done can be seen.
    catch_unwind(AssertUnwindSafe(|| judge.judge(run, settings)))
        .unwrap_or_else(|panic| crashed(judge.name(), panic.as_ref()))
}

/// Runs every judge and puts the reports together. The budget's time is shared: a judge gets what
/// the ones before it have left.
pub fn check_all(run: &Run<'_>, judges: &[Box<dyn Judge>], settings: &Settings) -> Results {
    let deadline = Deadline::after(settings.budget.time);
    let check = |one: &dyn Judge| {
        let budget = Budget { time: deadline.remaining(), ..settings.budget };
        judge(one, run, &Settings { budget, ..settings.clone() })
    };
    Results::of(judges.iter().map(|judge| check(judge.as_ref())).collect())
}

fn crashed(checker: &str, panic: &(dyn std::any::Any + Send)) -> Report {
    let said = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&'static str>().copied())
        .unwrap_or("no message");
    let mut report = Report::unknown(checker, Class::Infrastructure, format!("The {checker} checker itself failed."));
    report.explanation.push(format!("It panicked: {said}"));
    report.explanation.push("This is a fault of the harness; it says nothing about the target.".into());
    report
}

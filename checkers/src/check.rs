//! Running checkers so that a fault of theirs is never taken for a fault of the target.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::budget::Deadline;
use crate::{Budget, Class, Report, Results, Run};

/// Judges runs.
pub trait Checker: Send + Sync {
    /// A short stable name.
    fn name(&self) -> &'static str;

    /// Judges one run. Always answers, and within the budget: what can't be told within it is
    /// [`Verdict::Unknown`](crate::Verdict::Unknown).
    fn check(&self, run: &Run<'_>, budget: &Budget) -> Report;
}

/// Runs every checker and puts the reports together. The budget's time is shared: a checker gets
/// what the ones before it have left. A checker that panics yields an unknown verdict of class
/// [`Class::Infrastructure`].
pub fn check_all(run: &Run<'_>, checkers: &[Box<dyn Checker>], budget: &Budget) -> Results {
    let deadline = Deadline::after(budget.time);
    let check = |checker: &dyn Checker| {
        let left = Budget { time: deadline.remaining(), ..*budget };
        // The checker is not used again, so nothing it left half done can be seen.
        catch_unwind(AssertUnwindSafe(|| checker.check(run, &left)))
            .unwrap_or_else(|panic| crashed(checker.name(), panic.as_ref()))
    };
    Results::of(checkers.iter().map(|checker| check(checker.as_ref())).collect())
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

//! Service level: was the target available for the share of the time that was asked for?
//!
//! Availability is that of [`crate::stats`]: the share of the main phase's windows of 100 ms in which
//! at least one operation succeeded. It is a promise like any other only if somebody made it, so
//! this checker is used where a scenario says `min_available`.

use crate::{Class, Judge, Report, Run, Settings, stats};

/// Checks that a target was available for long enough.
#[derive(Clone, Copy, Debug)]
pub struct ServiceLevel {
    /// The least share of the time, in percent.
    pub min_available: u64,
}

impl Judge for ServiceLevel {
    fn name(&self) -> &'static str {
        "service-level"
    }

    fn about(&self) -> &'static str {
        "the target was available for as large a part of the time as was asked for: any operations"
    }

    fn judge(&self, run: &Run<'_>, _: &Settings) -> Report {
        let Some(share) = stats::overall_availability(run) else {
            return Report::unknown(self.name(), Class::Inconclusive, "The main phase is too short to tell.");
        };
        let (percent, asked) = (share * 100.0, self.min_available);
        let mut report = if percent >= asked as f64 {
            Report::valid(self.name(), format!("Available {percent:.1} % of the time; {asked} % were asked for."))
        } else {
            let summary = format!("Available {percent:.1} % of the time only; {asked} % were asked for.");
            Report { class: Some(Class::Unavailable), ..Report::invalid(self.name(), summary) }
        };
        report.figure("available_percent", percent);
        report
    }
}

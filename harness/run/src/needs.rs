//! What a schedule needs of a back end, and the refusal of what it lacks.

use std::collections::BTreeSet;

use duress_backend::{Backend, Family, Lacking};
use duress_fault::{Fault, HostHarm, Schedule};
use thiserror::Error;

/// A schedule needs what a back end lacks. Nothing is left out of it in silence, so nothing begins.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("this scenario's faults of {} ({}) need {}: {}", .lacking.family, .kinds.join(", "), .lacking.needs, .lacking.why)]
pub struct Refusal {
    /// Who lacks it.
    pub backend: &'static str,
    /// The kinds of the schedule's faults that need it, as a scenario names them, in their order.
    pub kinds: Vec<&'static str>,
    /// What it lacks, and what to do about it.
    pub lacking: Lacking,
}

/// Whether a back end has all that a schedule needs; `heal_first` is whether some nodes are to be
/// healed before others, which takes links that can be cut.
///
/// # Errors
/// The first family of faults that is needed and lacking.
pub fn check(backend: &dyn Backend, schedule: &Schedule, heal_first: bool) -> Result<(), Refusal> {
    for family in Family::ALL {
        let faults = schedule.faults().iter().map(|timed| &timed.fault);
        let needing = faults.filter(|fault| families(fault).contains(&family));
        let mut kinds: BTreeSet<&'static str> = needing.map(|fault| fault.kind().name()).collect();
        if heal_first && family == Family::Links {
            kinds.insert("healing a quorum first");
        }
        if kinds.is_empty() {
            continue;
        }
        if let Some(lacking) = backend.lacks(family) {
            return Err(Refusal { backend: backend.name(), kinds: kinds.into_iter().collect(), lacking });
        }
    }
    Ok(())
}

/// What it takes to do a fault. That processes end and are started again is no family: whoever can't do
/// that can't run anything.
fn families(fault: &Fault) -> &'static [Family] {
    match fault {
        Fault::Links { .. } => &[Family::Links],
        Fault::Hosts { harm, .. } if harm.needs_disk() => &[Family::Disks],
        Fault::Hosts { harm, .. } => match harm {
            HostHarm::Kill | HostHarm::CrashLoop { .. } => &[],
            HostHarm::NewAddress => &[Family::Links],
            HostHarm::Clock { .. } => &[Family::Clocks],
            _ => &[Family::Processes],
        },
    }
}

/// Whether a fault is done to disks.
pub(crate) fn needs_disk(fault: &Fault) -> bool {
    families(fault).contains(&Family::Disks)
}

//! The back ends that there are, and the worlds that a user may name: each of them, and the simulator.

use clap::builder::PossibleValuesParser;
use duress_backend::Backend;

/// The simulated world's name.
pub(crate) const SIM: &str = "sim";

/// Every back end; the first is the default. The one place that lists them.
pub(crate) const ALL: &[&dyn Backend] = &[duress_local::BACKEND];

/// The default world's name.
pub(crate) fn default() -> &'static str {
    ALL[0].name()
}

/// The back end with this name.
pub(crate) fn named(name: &str) -> Option<&'static dyn Backend> {
    ALL.iter().copied().find(|backend| backend.name() == name)
}

/// Every world's name: the back ends' and the simulator's.
pub(crate) fn worlds() -> PossibleValuesParser {
    PossibleValuesParser::new(ALL.iter().map(|backend| backend.name()).chain([SIM]))
}

/// The same, or both: the simulator and the default.
pub(crate) fn worlds_or_both() -> PossibleValuesParser {
    PossibleValuesParser::new(["both"].into_iter().chain(ALL.iter().map(|backend| backend.name())).chain([SIM]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_world_has_a_name_of_its_own() {
        let mut names: Vec<&str> = ALL.iter().map(|backend| backend.name()).chain([SIM, "both"]).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len() + 2);
        assert!(ALL.iter().all(|backend| named(backend.name()).is_some() && !backend.about().is_empty()));
    }
}

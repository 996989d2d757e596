//! Targets and workloads, as the core sees them.

use crate::{Bug, Facts, Kind, NO_BUG, Opt, Opts};

/// A system under test.
pub trait Target: Sync {
    /// Its name, as in a scenario.
    fn name(&self) -> &'static str;

    /// What it is, in one line.
    fn about(&self) -> &'static str;

    /// What can be chosen about it.
    fn options(&self) -> &'static [Opt];

    /// What it is with these options.
    ///
    /// # Errors
    /// If they don't go together.
    fn facts(&self, options: &Opts) -> Result<Facts, Problem>;

    /// The bugs that can be planted in it, by an option of [`Kind::Bug`].
    fn bugs(&self) -> Vec<Bug> {
        Vec::new()
    }

    /// The bug that these options plant.
    fn bug(&self, options: &Opts) -> Option<Bug> {
        let (option, _) = options.iter().find(|(option, _)| matches!(option.kind, Kind::Bug))?;
        let name = Some(options.choice(option.name)).filter(|name| *name != NO_BUG)?;
        self.bugs().into_iter().find(|bug| bug.name == name)
    }
}

/// What is asked of a target.
///
/// The core owns three options, which a workload declares by their constructors:
/// [`concurrency`](Opt::concurrency), which every workload has, [`rate`](Opt::rate) and
/// [`ops`](Opt::ops). One without a rate has a pace of its own, which is left alone.
pub trait Workload: Sync {
    /// Its name, as in a scenario.
    fn name(&self) -> &'static str;

    /// What it is, in one line.
    fn about(&self) -> &'static str;

    /// What can be chosen about it.
    fn options(&self) -> &'static [Opt];

    /// Whether these options go together, and with a target of this name and these facts.
    ///
    /// # Errors
    /// If they don't.
    fn check(&self, _options: &Opts, _target: &str, _facts: &Facts) -> Result<(), Problem> {
        Ok(())
    }

    /// The names of the operations that it asks of the target.
    fn functions(&self, options: &Opts) -> Vec<&'static str>;

    /// Options that other workloads have and this one hasn't, although one could think so, and
    /// what to do instead.
    fn lacks(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// Whether its clients hold something for a while, so that a fault can hit who does.
    fn holds(&self) -> bool {
        false
    }

    /// Whether what they hold is protected by fencing tokens.
    fn fences(&self, _options: &Opts) -> bool {
        false
    }
}

/// What is wrong with some options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The first of these that was given is to blame; `mix.cas` is a weight of `mix`. None: all
    /// together.
    pub options: Vec<&'static str>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub suggestion: Option<String>,
}

impl Problem {
    /// The first of these options that was given is to blame.
    pub fn new(options: &[&'static str], message: impl Into<String>) -> Problem {
        Problem { options: options.to_vec(), message: message.into(), suggestion: None }
    }

    /// With what to do about it.
    pub fn suggest(mut self, suggestion: impl Into<String>) -> Problem {
        self.suggestion = Some(suggestion.into());
        self
    }
}

/// The plugs that there are. The first of each is what is meant where none is named.
#[derive(Clone, Copy)]
pub struct Plugs<'a> {
    /// The targets; at least one.
    pub targets: &'a [&'static dyn Target],
    /// The workloads; at least one.
    pub workloads: &'a [&'static dyn Workload],
}

impl Plugs<'_> {
    /// The target of this name.
    pub fn target(&self, name: &str) -> Option<&'static dyn Target> {
        self.targets.iter().copied().find(|target| target.name() == name)
    }

    /// The workload of this name.
    pub fn workload(&self, name: &str) -> Option<&'static dyn Workload> {
        self.workloads.iter().copied().find(|workload| workload.name() == name)
    }
}

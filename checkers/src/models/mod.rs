//! What a history that was made elsewhere can be judged against, by name.
//!
//! A [`Model`] reads an [`Imported`] history (any format, values as they were written) and gives a
//! [`Report`]. `duress check FILE --model NAME` finds it in [`ALL`]; adding one means a module here
//! and a line there. Operations that a model has no meaning for make the report unknown, with the
//! line of the first of them: they are never passed over in silence.

use duress_history::formats::Imported;

use crate::{Budget, Report};

/// How to judge.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// How much it may cost.
    pub budget: Budget,
    /// Whether every answer of a search must be confirmed by an independent verifier.
    pub certify: bool,
}

/// What a history must agree with.
pub trait Model: Sync {
    /// The name that `--model` takes.
    fn name(&self) -> &'static str;

    /// What it says in one line: the operations it knows and what they mean.
    fn about(&self) -> &'static str;

    /// Judges a history.
    fn check(&self, history: &Imported, settings: &Settings) -> Report;
}

/// Every model, in the order in which they are listed.
pub const ALL: &[&dyn Model] = &[];

/// The model of a name.
pub fn named(name: &str) -> Option<&'static dyn Model> {
    ALL.iter().copied().find(|model| model.name() == name)
}

//! What a person reads of a stored run.
//!
//! A report is made of a run's results alone; it knows nothing of where and how the run took place.
//! [`terminal`] is the one form so far.

pub mod terminal;

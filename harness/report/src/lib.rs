//! What a person reads of a stored run.
//!
//! A report is made of a run's results alone; it knows nothing of where and how the run took place.
//! [`terminal`] is a run as text. [`checked`] is a judged history of somebody's, as text and for
//! programs, [`html`] as a page, with the [`timeline`] of what went wrong.

pub mod checked;
pub mod html;
pub mod terminal;
pub mod timeline;

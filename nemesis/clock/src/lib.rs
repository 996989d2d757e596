//! Skews the clocks that a running process sees: any program, static or dynamic, in any language,
//! without a restart and without a preloaded library.
//!
//! Programs read clocks by functions of the vDSO, which the kernel maps into every process. This
//! crate stops a process's threads for a moment, maps two pages of its own near the vDSO, and
//! makes the first instruction of `clock_gettime`, `gettimeofday` and `time` a jump to them. The
//! code there asks the kernel for the true time and answers with another one. [`skew`] sets what;
//! [`read`] tells what is in force and how often the process asked, which is the evidence that the
//! fault took effect: a program that doesn't use the vDSO leaves that number as it is. [`watch`]
//! looks for a while: at what rate a clock runs, whether it flips.
//!
//! | change | what the process sees |
//! |---|---|
//! | [`Change::Jump`] | its clock is suddenly ahead or behind |
//! | [`Change::Rate`] | its clock runs fast or slow |
//! | [`Change::Strobe`] | its clock flips between two offsets |
//! | [`Change::Freeze`] | its clock stands still |
//! | [`Change::Reset`] | the true time again |
//!
//! Limits: only readings are skewed, not the kernel's timers and sleeps; `CLOCK_MONOTONIC_RAW`,
//! `CLOCK_TAI` and CPU-time clocks stay true; a child made by fork has the skew of that moment, a
//! program that it executes has none until [`skew`] is called for it. Needs the right to trace the
//! process: own children, or root. Linux on x86-64 and AArch64.
//!
//! The state is kept in the process itself, so that another controller than the one that skewed it
//! can change and heal it.

mod data;
mod error;
mod maps;
mod patch;
mod stub;
mod tracee;
mod vdso;
mod watch;

pub use data::Clock;
pub use error::ClockError;
pub use patch::{Change, Reading, State, family, read, skew};
pub use watch::{Watch, watch};

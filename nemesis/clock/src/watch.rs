//! Looking at a process's clocks for a while.

use std::thread;
use std::time::{Duration, Instant};

pub use duress_backend::clocks::Watch;

use crate::{ClockError, read};

/// How often is looked.
const LOOK: Duration = Duration::from_millis(1);

/// Watches a process's clocks until `enough` has been seen, or for so long. The process isn't
/// stopped for that, and need not be a child.
///
/// # Errors
/// See [`ClockError`].
pub fn watch(pid: i32, within: Duration, enough: impl Fn(&Watch) -> bool) -> Result<Watch, ClockError> {
    let until = Instant::now() + within;
    let mut seen = Watch::new(read(pid)?);
    while !enough(&seen) && Instant::now() < until {
        thread::sleep(LOOK);
        seen.look(read(pid)?);
    }
    Ok(seen)
}

//! The node's two clocks.
//!
//! Read by the ordinary `clock_gettime` call, which goes through the vDSO: what skews a process's
//! clocks from outside then skews these.

use std::io;
use std::time::Duration;

use duress_machine::Reading;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};

/// What both clocks show now: `CLOCK_REALTIME` and `CLOCK_MONOTONIC`.
pub(crate) fn now() -> Reading {
    Reading { wall: read(ClockId::CLOCK_REALTIME), monotonic: monotonic() }
}

/// What `CLOCK_MONOTONIC` shows now.
pub(crate) fn monotonic() -> Duration {
    read(ClockId::CLOCK_MONOTONIC)
}

fn read(clock: ClockId) -> Duration {
    // Both clocks exist on every Linux and the call has no other way to fail.
    let reading = clock_gettime(clock).map_err(io::Error::from).unwrap_or(TimeSpec::new(0, 0));
    // A wall clock set before 1970 reads as the epoch.
    let seconds = u64::try_from(reading.tv_sec()).unwrap_or(0);
    Duration::new(seconds, u32::try_from(reading.tv_nsec()).unwrap_or(0))
}

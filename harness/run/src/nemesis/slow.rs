//! A slow host: its processes run for a share of the time only, and for no longer at a stretch.

use std::sync::Arc;
use std::thread;

use duress_backend::{Process, Slowness, Watched};
use duress_fault::{SLICE, Share};

/// For how many slices a process is looked at when its share is measured.
const SLICES: u32 = 3;

/// What is asked of a back end for a host that gets this share of the time.
pub(super) fn slowness(share: Share) -> Slowness {
    Slowness { share: share.parts(), slice: SLICE }
}

/// Looks at processes for some slices, all at the same time; blocks. A host without one is never
/// stopped.
pub(super) fn watch(processes: &[Option<Arc<dyn Process>>]) -> Vec<Watched> {
    let one = |process: &Option<Arc<dyn Process>>| match process {
        Some(process) => process.watch(SLICE * SLICES),
        None => Watched { stopped: 0.0, used: 0.0 },
    };
    thread::scope(|scope| {
        let watching: Vec<_> = processes.iter().map(|process| scope.spawn(move || one(process))).collect();
        watching
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

/// Whether that is what is to be seen of a process that runs for this share of the time. On a
/// busy machine the bounds between running and stopped are blurred, and the looks uneven.
pub(super) fn fits(seen: &Watched, share: Share) -> bool {
    let asleep = 1.0 - share.of_one();
    seen.stopped >= asleep * 0.6 && seen.stopped <= asleep + 0.25 && (share == Share::ALL || seen.stopped < 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_watched_is_compared_with_what_is_claimed() {
        let fits = |stopped, percent| super::fits(&Watched { stopped, used: 0.0 }, Share::percent(percent));
        assert!(fits(0.9, 10) && fits(0.8, 10) && fits(0.99, 10));
        assert!(!fits(0.0, 10) && !fits(0.4, 10) && !fits(1.0, 10), "not slowed, or not running at all");
        assert!(fits(0.5, 50) && !fits(0.9, 50));
        assert!(fits(0.0, 100) && fits(0.01, 100) && !fits(0.5, 100), "free again");
    }
}

//! A hunt while it goes on: the line that shows how far it is, and Ctrl-C.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use duress_hunt::{Progress, statistics};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::Failure;

/// The first Ctrl-C ends a hunt, and what it found is reported all the same; the second one ends
/// the program. No signal is missed from here on.
pub(super) fn stop_on_signal(progress: Arc<Progress>) -> Result<(), Failure> {
    let failure = |e| Failure::infrastructure("can't handle signals", e);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failure)?;
    let (mut interrupt, mut terminate, mut hangup) = {
        let _inside = runtime.enter();
        let listen = |kind| signal(kind).map_err(failure);
        (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?, listen(SignalKind::hangup())?)
    };
    let listen = move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
                // The second one means it.
                if progress.stop.swap(true, Ordering::Relaxed) {
                    std::process::exit(254);
                }
            }
        })
    };
    std::thread::Builder::new().name("signals".into()).spawn(listen).map(drop).map_err(failure)
}

/// A target that panics does so in many runs; the first time is enough to see where.
pub(super) fn show_one_panic() {
    static SHOWN: AtomicBool = AtomicBool::new(false);
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !SHOWN.swap(true, Ordering::Relaxed) {
            usual(panic);
        }
    }));
}

/// Draws the line until the hunt is over.
pub(super) fn show(progress: &Progress, over: &AtomicBool) {
    let bar = ProgressBar::new_spinner();
    bar.set_style(ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
    let began = Instant::now();
    while !over.load(Ordering::Relaxed) {
        bar.set_message(line(progress, began.elapsed()));
        bar.tick();
        std::thread::sleep(Duration::from_millis(100));
    }
    bar.finish_and_clear();
}

fn line(progress: &Progress, elapsed: Duration) -> String {
    let elapsed = elapsed.as_secs_f64().max(0.001);
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let simulated = get(&progress.simulated_us) as f64 / 1e6;
    format!(
        "{} seeds, {:.0}/s | {simulated:.0} s simulated, {:.0} x real time | {:.1} M events/s | {} findings | {} situations covered",
        statistics::grouped(get(&progress.runs)),
        get(&progress.runs) as f64 / elapsed,
        simulated / elapsed,
        get(&progress.events) as f64 / 1e6 / elapsed,
        get(&progress.findings),
        get(&progress.situations),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_far_it_is() {
        let progress = Progress::default();
        progress.runs.store(12_345, Ordering::Relaxed);
        progress.simulated_us.store(50_000_000, Ordering::Relaxed);
        progress.events.store(3_000_000, Ordering::Relaxed);
        progress.findings.store(2, Ordering::Relaxed);
        progress.situations.store(17, Ordering::Relaxed);
        assert_eq!(
            line(&progress, Duration::from_secs(10)),
            "12,345 seeds, 1234/s | 50 s simulated, 5 x real time | 0.3 M events/s | 2 findings | 17 situations covered"
        );
    }
}

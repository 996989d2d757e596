//! How long the linearizability engine takes, and how much memory, on generated histories of
//! registers. `cargo bench -p duress-checkers`; a word as argument chooses rows.
//!
//! Times are of checking a history that is in memory, the median of five; memory is the most that
//! was allocated meanwhile, the history apart.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use duress_checkers::Budget;
use duress_checkers::engine;
use duress_checkers::generate::{Anomaly, Options, registers};
use duress_checkers::wgl::Outcome;
use duress_seed::Seed;

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[expect(unsafe_code, reason = "an allocator that counts is an unsafe trait")]
// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(NOW.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let base = Options::default();
    let wide = Options { operations: 1_000_000, clients: 50, keys: 1000, ..base.clone() };
    let unique = Options { values: None, cas: 0.0, ..wide.clone() };
    let stale = Some(Anomaly::StaleRead);
    let short = Options { clients: 10, ..base.clone() };
    let phantom = Some(Anomaly::Phantom);
    let rows = [
        ("1 key, 5 clients, 10k", Options { operations: 10_000, ..base.clone() }),
        ("1 key, 5 clients, 100k", Options { operations: 100_000, ..base.clone() }),
        ("1 key, 20 clients, 10k", Options { operations: 10_000, clients: 20, ..base.clone() }),
        ("1000 keys, 50 clients, 1M", wide.clone()),
        ("same, 1% indeterminate", Options { indeterminate: 0.01, ..wide.clone() }),
        ("1M unique values, one stale read", Options { anomaly: stale, ..unique.clone() }),
        (
            "100 keys, 100k, 1% indeterminate, stale",
            Options { operations: 100_000, keys: 100, indeterminate: 0.01, anomaly: stale, ..wide },
        ),
        ("1 key, 10 clients, 1k, 3% indet., stale", Options { indeterminate: 0.03, anomaly: stale, ..short.clone() }),
        (
            "1 key, 10 clients, 1k, 10% indet., phantom",
            Options { indeterminate: 0.1, anomaly: phantom, ..short.clone() },
        ),
        ("1 key, 10 clients, 1k, 10% indet., stale", Options { indeterminate: 0.1, anomaly: stale, ..short }),
        ("10M unique values, 10,000 keys", Options { operations: 10_000_000, keys: 10_000, ..unique }),
    ];
    println!("{:<44} {:>10} {:>10}  verdict", "history", "ms", "peak MB");
    for (name, options) in rows.iter().filter(|(name, _)| name.contains(&wanted)) {
        let generated = registers(Seed(1), options);
        let budget = Budget { time: Duration::from_secs(30), ..Budget::default() };
        let mut times = Vec::new();
        let mut peak = 0;
        let mut verdict = String::new();
        while times.len() < 5 && times.iter().sum::<Duration>() < Duration::from_secs(10) {
            let before = NOW.load(Relaxed);
            PEAK.store(before, Relaxed);
            let start = Instant::now();
            let answers = engine::check(&generated.history, &budget, false);
            times.push(start.elapsed());
            peak = PEAK.load(Relaxed) - before;
            let invalid = answers.iter().filter(|a| matches!(a.outcome, Outcome::NotLinearizable { .. })).count();
            let unknown = answers.iter().filter(|a| matches!(a.outcome, Outcome::Unknown { .. })).count();
            verdict = format!("{invalid} invalid, {unknown} unknown ({:?})", generated.label);
        }
        times.sort_unstable();
        let median = times[times.len() / 2].as_secs_f64() * 1e3;
        println!("{name:<44} {median:>10.2} {:>10.1}  {verdict}", peak as f64 / 1e6);
    }
}

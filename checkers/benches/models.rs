//! How long models take to judge generated histories, reading apart.
//! `cargo bench -p duress-checkers --bench models`; a word as argument chooses rows.
//!
//! Times are of [`Judge::judge`](duress_checkers::Judge::judge) on a history in memory:
//! reading it as calls, judging and, if it is invalid, finding the operations to blame. The least
//! of a few runs, as other work on the machine only ever adds; and processor time, of all threads.

use std::time::{Duration, Instant};

use duress_checkers::generate::{Request, imported};
use duress_checkers::models::named;
use duress_checkers::{Run, Settings};
use duress_seed::Seed;
use nix::time::{ClockId, clock_gettime};

/// Processor time of all threads so far.
fn on_processor() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("every process has this clock").into()
}

fn main() {
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let million = Request { operations: 1_000_000, clients: 10, ..Request::default() };
    let kv = Request { operations: 1_700, clients: 50, keys: 10, ..Request::default() };
    let with = |request: &Request, anomaly: &str| Request { anomaly: Some(anomaly.into()), ..request.clone() };
    let pending = Request { indeterminate: 0.01, ..kv.clone() };
    let rows = [
        ("queue", million.clone()),
        ("queue", with(&million, "reordered")),
        ("stack", million.clone()),
        ("stack", with(&million, "reordered")),
        ("priority-queue", million.clone()),
        ("priority-queue", with(&million, "reordered")),
        ("set", million.clone()),
        ("cas-register", Request { keys: 1_000, values: Some(5), ..million.clone() }),
        ("lock", Request { operations: 100_000, ..million.clone() }),
        ("counter", Request { operations: 100_000, clients: 5, ..million.clone() }),
        ("append-log", Request { operations: 10_000, ..million }),
        ("kv", kv.clone()),
        ("kv", with(&kv, "stale-get")),
        ("kv", with(&kv, "lost-append")),
        ("kv", pending),
    ];
    println!("{:<16} {:<12} {:>9} {:>10} {:>10}  verdict (label)", "model", "anomaly", "ops", "ms", "cpu ms");
    for (name, request) in rows.iter().filter(|(name, _)| name.contains(&wanted)) {
        let Ok(made) = imported(name, Seed(1), request) else { continue };
        let Some(model) = named(name) else { continue };
        let (mut least, mut processor) = (Duration::MAX, Duration::MAX);
        let mut verdict = String::new();
        let begun = Instant::now();
        for _ in 0..if request.operations > 10_000 { 3 } else { 20 } {
            let (start, spent) = (Instant::now(), on_processor());
            let report = model.judge(&Run::imported(&made.history), &Settings::default());
            least = least.min(start.elapsed());
            processor = processor.min(on_processor() - spent);
            let unsearched = report.figures.get("parts_monitored").copied().unwrap_or_default();
            verdict = format!(
                "{} ({:?}), {unsearched} parts without a search, core {}",
                report.verdict,
                made.label,
                report.core.len()
            );
            if begun.elapsed() > Duration::from_secs(20) {
                break;
            }
        }
        let anomaly = request.anomaly.as_deref().unwrap_or("-");
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        let (wall, cpu) = (millis(least), millis(processor));
        println!("{name:<16} {anomaly:<12} {:>9} {wall:>10.2} {cpu:>10.2}  {verdict}", request.operations);
    }
}

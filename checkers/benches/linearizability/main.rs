//! How long the linearizability engine takes, and how much memory, on generated histories of
//! registers. `cargo bench -p duress-checkers`; a word as argument chooses rows.
//!
//! Times are of checking a history that is in memory, the best of ten: on a clock, and of all
//! processors together, which says more on a busy machine. Memory is the most that was allocated
//! meanwhile, the history apart. Beside it, the time that reading the same history takes, from
//! this project's JSON lines in memory (not for the longest).

mod rows;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use duress_checkers::Budget;
use duress_checkers::engine::{self, Action, History, Operation, PENDING};
use duress_checkers::generate::registers;
use duress_checkers::register::RegisterOp;
use duress_checkers::wgl::Outcome;
use duress_history::{Completion, Event, EventKind, Invocation, Process, Time, Value, jsonl};
use duress_seed::Seed;
use nix::time::{ClockId, clock_gettime};

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
    let rows = rows::all();
    println!("{:<44} {:>9} {:>9} {:>8} {:>9}  verdict", "history", "ms", "cpu ms", "peak MB", "parse ms");
    for (name, options) in rows.iter().filter(|(name, _)| name.contains(&wanted)) {
        let generated = registers(Seed(1), options);
        let budget = Budget { time: Duration::from_secs(30), ..Budget::default() };
        let (mut time, mut processor, mut peak) = (Duration::MAX, Duration::MAX, 0);
        let mut verdict = String::new();
        let began = Instant::now();
        for _ in 0..10 {
            let before = NOW.load(Relaxed);
            PEAK.store(before, Relaxed);
            let (start, start_processor) = (Instant::now(), on_processor());
            let answers = engine::check(&generated.history, &budget, false);
            time = time.min(start.elapsed());
            processor = processor.min(on_processor() - start_processor);
            peak = PEAK.load(Relaxed) - before;
            let invalid = answers.iter().filter(|a| matches!(a.outcome, Outcome::NotLinearizable { .. })).count();
            let unknown = answers.iter().filter(|a| matches!(a.outcome, Outcome::Unknown { .. })).count();
            verdict = format!("{invalid} invalid, {unknown} unknown ({:?})", generated.label);
            if began.elapsed() > Duration::from_secs(10) {
                break;
            }
        }
        let parse = parse(&generated.history).map_or("-".into(), |time| format!("{:.1}", millis(time)));
        let (time, processor, peak) = (millis(time), millis(processor), peak as f64 / 1e6);
        println!("{name:<44} {time:>9.2} {processor:>9.2} {peak:>8.1} {parse:>9}  {verdict}");
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Processor time of all threads so far.
fn on_processor() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("every process has this clock").into()
}

/// How long it takes to read a history, and to pair its events.
fn parse(history: &History) -> Option<Duration> {
    if history.operations.len() > 1_000_000 {
        return None;
    }
    let mut text = Vec::new();
    for event in events(history) {
        jsonl::write(&event, &mut text).expect("memory can be written to");
    }
    let start = Instant::now();
    let stored = jsonl::read(text.as_slice()).expect("what was written can be read");
    let operations = duress_history::operations(&stored.events).expect("what was generated is well-formed");
    let time = start.elapsed();
    assert_eq!(operations.len(), history.operations.len());
    Some(time)
}

/// The history as events; every operation is of a process of its own.
fn events(history: &History) -> Vec<Event> {
    let mut places: Vec<(u32, usize)> = Vec::new();
    for (n, operation) in history.operations.iter().enumerate() {
        places.push((operation.invoked, n));
        places.extend(Some((operation.returned, n)).filter(|_| operation.returned != PENDING));
    }
    places.sort_unstable();
    let event = |(place, n): (u32, usize)| {
        let Operation { key, action, invoked, .. } = history.operations[n];
        let (key, process) = (Value::Text(format!("k{key}").into()), Process(n as u64));
        let int = |value: u32| Value::Int(value.into());
        let (op, result) = match action {
            Action::Read(value) => (RegisterOp::Read.on(key), int(value)),
            Action::Write(to) => (RegisterOp::Write(int(to)).on(key), Value::Nil),
            Action::Cas { from, to } => (RegisterOp::Cas { from: int(from), to: int(to) }.on(key), Value::Nil),
            Action::Differs(from) => (RegisterOp::Cas { from: int(from), to: int(from) }.on(key), Value::Nil),
        };
        let kind = if place == invoked {
            EventKind::Invoke(Invocation { process, client: None, op })
        } else {
            let outcome = duress_history::Outcome::Ok;
            EventKind::Complete(Completion { process, outcome, op, result, error: None, node: None, term: None })
        };
        Event { time: Time(place.into()), kind }
    };
    places.into_iter().map(event).collect()
}

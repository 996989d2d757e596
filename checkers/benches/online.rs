//! How fast the engine follows a growing history, and that its memory doesn't grow with it.
//! `cargo bench -p duress-checkers --bench online`; a number as argument is how many operations
//! (default: ten million).
//!
//! Processor time of feeding all events, single-threaded, and the most bytes that the engine says
//! are in use, looked at every thousand events, after a tenth of the history and after all of it.

use std::time::Duration;

use duress_checkers::Budget;
use duress_checkers::engine::online::Online;
use duress_checkers::engine::{Action, History, PENDING};
use duress_checkers::generate::{Options, registers};
use duress_checkers::register::RegisterOp;
use duress_seed::Seed;
use nix::time::{ClockId, clock_gettime};

fn main() {
    let operations = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(10_000_000);
    println!("{:<36} {:>14} {:>14} {:>14}", "history", "operations/s", "KB at a tenth", "KB at the end");
    for (name, keys, values) in
        [("1 key, values 0-4", 1, Some(5)), ("1 key, unique values", 1, None), ("100 keys, unique values", 100, None)]
    {
        let options = Options { operations, keys, values, clients: 5, ..Options::default() };
        let history = registers(Seed(1), &options).history;
        let (time, [early, late]) = feed(&history);
        let (rate, [early, late]) = (f64::from(operations) / time.as_secs_f64(), [early, late].map(|b| b as f64 / 1e3));
        println!("{name:<36} {rate:>14.0} {early:>14.0} {late:>14.0}");
    }
}

fn feed(history: &History) -> (Duration, [usize; 2]) {
    let mut places = vec![0; history.operations.len() * 2];
    for (n, operation) in history.operations.iter().enumerate() {
        places[operation.invoked as usize] = n as u32 * 2;
        assert_ne!(operation.returned, PENDING);
        places[operation.returned as usize] = n as u32 * 2 + 1;
    }
    let start = on_processor();
    let mut online = Online::new(history.initial, Budget::default());
    let mut most = [0; 2];
    for (at, event) in places.iter().enumerate() {
        let n = event / 2;
        let operation = &history.operations[n as usize];
        let (op, seen) = match operation.action {
            Action::Read(value) | Action::Differs(value) => (RegisterOp::Read, Some(value)),
            Action::Write(to) => (RegisterOp::Write(to), None),
            Action::Cas { from, to } => (RegisterOp::Cas { from, to }, None),
        };
        if event % 2 == 0 {
            online.invoke(n.into(), operation.key, op);
        } else {
            assert_eq!(online.ok(n.into(), seen), None, "it is valid");
        }
        if at % 1000 == 0 {
            most[usize::from(at > places.len() / 10)] = most[usize::from(at > places.len() / 10)].max(online.bytes());
        }
    }
    assert_eq!((online.undecided().count(), online.unjudged()), (0, 0));
    (on_processor() - start, most)
}

/// Processor time so far.
fn on_processor() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("every process has this clock").into()
}

//! How fast histories of other tools are read, and turned into events: operations (invocation and
//! completion together) and bytes per second of processor time, the best of five. `cargo bench -p duress-history`.

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use duress_history::formats::{Options, read};

const OPERATIONS: usize = 500_000;
const PROCESSES: usize = 50;
const ROUNDS: usize = 5;

fn main() {
    // `cargo test --benches` runs this too: then a short history will do.
    let operations = if std::env::args().any(|a| a == "--bench") { OPERATIONS } else { 1000 };
    for (name, text) in [
        ("EDN, with index and time", edn(operations)),
        ("EDN, independent, tagged", independent(operations)),
        ("Jepsen text log", log(operations)),
        ("Porcupine KV text", porcupine(operations)),
    ] {
        measure(name, &text, operations);
    }
}

/// Processor time of this single-threaded program where the kernel tells it, so that a busy machine
/// doesn't count against us; wall-clock time elsewhere.
struct Stopwatch(Instant, Option<Duration>);

impl Stopwatch {
    fn start() -> Stopwatch {
        Stopwatch(Instant::now(), on_processor())
    }

    fn read(&self) -> Duration {
        match (self.1, on_processor()) {
            (Some(before), Some(now)) if now > before => now - before,
            _ => self.0.elapsed(),
        }
    }
}

fn on_processor() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

fn measure(name: &str, text: &str, operations: usize) {
    let mut parse = Duration::MAX;
    let mut convert = Duration::MAX;
    for _ in 0..ROUNDS {
        let start = Stopwatch::start();
        let imported = read(text.as_bytes(), &Options::default()).expect("generated histories are well-formed");
        parse = parse.min(start.read());
        assert_eq!(imported.operations.len(), operations);
        let start = Stopwatch::start();
        black_box(imported.events());
        convert = convert.min(start.read());
    }
    println!(
        "{name:26} {:6.2} M operations/s  {:6.2} M entries/s  {:5.0} MB/s   events: {:6.2} M operations/s",
        operations as f64 / parse.as_secs_f64() / 1e6,
        2.0 * operations as f64 / parse.as_secs_f64() / 1e6,
        text.len() as f64 / parse.as_secs_f64() / 1e6,
        operations as f64 / convert.as_secs_f64() / 1e6,
    );
}

/// What operation number `n` is, the same in every format: (process, function, value, result).
fn script(n: usize) -> (usize, &'static str, String, String) {
    let process = n % PROCESSES;
    match n % 3 {
        0 => (process, "read", "nil".into(), format!("{}", n % 5)),
        1 => (process, "write", format!("{}", n % 5), format!("{}", n % 5)),
        _ => (process, "cas", format!("[{} {}]", n % 5, n % 4), format!("[{} {}]", n % 5, n % 4)),
    }
}

/// Calls `entry` with (index, process, type, function, value): each round of all processes is
/// concurrent.
fn entries(operations: usize, mut entry: impl FnMut(usize, usize, &str, &str, &str)) {
    let mut index = 0;
    for round in (0..operations).step_by(PROCESSES) {
        let numbers = round..(round + PROCESSES).min(operations);
        for kind in ["invoke", "ok"] {
            for n in numbers.clone() {
                let (process, function, value, result) = script(n);
                entry(index, process, kind, function, if kind == "ok" { &result } else { &value });
                index += 1;
            }
        }
    }
}

fn edn(operations: usize) -> String {
    let mut text = String::new();
    entries(operations, |index, process, kind, function, value| {
        let time = index * 15_731;
        let _ = writeln!(
            text,
            "{{:type :{kind}, :f :{function}, :value {value}, :process {process}, :time {time}, :index {index}}}"
        );
    });
    text
}

fn independent(operations: usize) -> String {
    let mut text = String::from("[");
    entries(operations, |index, process, kind, function, value| {
        let key = process / 5;
        let _ = writeln!(
            text,
            "#jepsen.history.Op{{:index {index}, :time {index}, :type :{kind}, :process {process}, :f :{function}, :value [{key} {value}]}}"
        );
    });
    text.push(']');
    text
}

fn log(operations: usize) -> String {
    let mut text = String::new();
    entries(operations, |_, process, kind, function, value| {
        let _ = writeln!(text, "INFO  jepsen.util - {process}\t:{kind}\t:{function}\t{value}");
    });
    text
}

fn porcupine(operations: usize) -> String {
    let mut text = String::new();
    entries(operations, |index, process, kind, function, value| {
        let function = if function == "read" { "get" } else { "append" };
        let value = if value == "nil" { "nil".into() } else { format!("\"x {process} {} y\"", index % 100) };
        let _ = writeln!(
            text,
            "{{:process {process}, :type :{kind}, :f :{function}, :key \"{}\", :value {value}}}",
            process % 10
        );
    });
    text
}

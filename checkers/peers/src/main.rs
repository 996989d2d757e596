//! The linearizability engine beside two others, on the same histories. See `README.md`.

mod porcupine;
#[path = "../../benches/linearizability/rows.rs"]
mod rows;
mod todc;

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use duress_checkers::Budget;
use duress_checkers::engine::{self, History, Operation};
use duress_checkers::generate::registers;
use duress_checkers::wgl::Outcome;
use duress_seed::Seed;
use nix::sys::resource::{Resource, setrlimit};

/// What a checker may spend on one history.
const TIME: Duration = Duration::from_secs(60);
const ADDRESS_SPACE: u64 = 8 << 30;

/// A peer that starts a thread for each key would need too many for more.
const LONGEST: u32 = 1_000_000;

const CHECKERS: [&str; 3] = ["duress", "porcupine-rs", "todc-utils"];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [row, checker] = arguments.as_slice() {
        return measure(row, checker);
    }
    let wanted = arguments.first().map_or("", String::as_str);
    println!("{:<44} {:<13} {:>11} {:>8} {:>9}  verdict", "history", "checker", "ms", "RSS MB", "ratio");
    let rows = rows::all();
    for (name, _) in rows.iter().filter(|(name, options)| name.contains(wanted) && options.operations <= LONGEST) {
        let mut ours = None;
        for checker in CHECKERS {
            match in_a_process(name, checker) {
                Ok((millis, megabytes, verdict)) => {
                    let ratio = millis / *ours.get_or_insert(millis);
                    println!("{name:<44} {checker:<13} {millis:>11.2} {megabytes:>8.0} {ratio:>8.1}x  {verdict}");
                }
                Err(why) => println!("{name:<44} {checker:<13} {why:>30}"),
            }
        }
    }
}

/// Milliseconds, megabytes and the verdict, of one checker on one history.
fn in_a_process(row: &str, checker: &str) -> Result<(f64, f64, String), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.args([row, checker]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    if !ended(&mut child) {
        return Err(format!("no answer in {} s", TIME.as_secs()));
    }
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut words = text.split_whitespace();
    let mut number = || words.next().and_then(|word| word.parse().ok());
    match (number(), number()) {
        (Some(millis), Some(megabytes)) => Ok((millis, megabytes, words.collect::<Vec<_>>().join(" "))),
        _ => Err(format!("needs more than {} GB", ADDRESS_SPACE >> 30)),
    }
}

/// Waits for a child, which is killed if it takes too long. Whether it ended by itself.
fn ended(child: &mut Child) -> bool {
    // Generating the longest history takes some time, too.
    let start = Instant::now();
    while start.elapsed() < TIME + Duration::from_secs(10) {
        if !matches!(child.try_wait(), Ok(None)) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let _ = child.kill();
    let _ = child.wait();
    false
}

/// Checks one history with one checker, and prints what came of it.
fn measure(row: &str, checker: &str) {
    setrlimit(Resource::RLIMIT_AS, ADDRESS_SPACE, ADDRESS_SPACE).expect("a limit may be lowered");
    let rows = rows::all();
    let (_, options) = rows.iter().find(|(name, _)| *name == row).expect("the parent names rows that there are");
    let history = registers(Seed(1), options).history;
    let (time, valid) = match checker {
        "duress" => best(|| history.clone(), |history| is_linearizable(&history)),
        "porcupine-rs" => best(|| porcupine::input(&history), porcupine::is_linearizable),
        _ => best(|| todc::input(&history), todc::is_linearizable),
    };
    let megabytes = most_memory().unwrap_or_default() / 1e6;
    println!("{} {megabytes} {}", time.as_secs_f64() * 1e3, if valid { "valid" } else { "invalid" });
}

fn is_linearizable(history: &History) -> bool {
    let budget = Budget { time: TIME, ..Budget::default() };
    let answers = engine::check(history, &budget, false);
    answers.iter().all(|answer| matches!(answer.outcome, Outcome::Linearizable { .. }))
}

/// The best of a few times, and what was found.
fn best<I>(input: impl Fn() -> I, check: impl Fn(I) -> bool) -> (Duration, bool) {
    let (mut best, mut total, mut valid) = (Duration::MAX, Duration::ZERO, false);
    for _ in 0..5 {
        let input = input();
        let start = Instant::now();
        valid = check(input);
        let time = start.elapsed();
        best = best.min(time);
        total += time;
        if total > TIME / 10 {
            break;
        }
    }
    (best, valid)
}

/// The most memory that this process has had, in bytes.
fn most_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<f64>().ok().map(|kib| kib * 1024.0)
}

/// The operations of each key.
fn by_key(history: &History) -> Vec<Vec<Operation>> {
    let mut keys = vec![Vec::new(); history.keys as usize];
    for operation in &history.operations {
        keys[operation.key as usize].push(*operation);
    }
    keys
}

/// What a register holds after an operation, if it may have been there.
fn step(operation: &Operation, held: u32) -> Option<u32> {
    use duress_checkers::engine::{Action, PENDING};
    match operation.action {
        Action::Read(value) => (value == held || operation.returned == PENDING).then_some(held),
        Action::Differs(value) => (value != held || operation.returned == PENDING).then_some(held),
        Action::Write(to) => Some(to),
        Action::Cas { from, to } if from == held => Some(to),
        Action::Cas { .. } => (operation.returned == PENDING).then_some(held),
    }
}

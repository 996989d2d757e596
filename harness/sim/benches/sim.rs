//! How fast the simulator is: short runs per second, events per second, and virtual time against
//! real time; and what memory many runs take. All figures are for one core.
//!
//! `cargo bench -p duress-sim --bench sim [-- short checked long] [--runs N]`
//!
//! With `--runs`, each measurement is of so many runs, whatever that takes: for counting
//! instructions. `-- memory` is only measured if asked for: it shows the process's memory after
//! 1000, 10,000, … short runs with every checker, up to `--runs` (a million, unless told).

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use duress_seed::Seed;
use duress_sim::{Latency, SimPlan, Stats};
use support::*;

/// How long each measurement lasts.
const FOR: Duration = Duration::from_secs(3);

struct Measured {
    runs: u64,
    events: u64,
    steps: u64,
    operations: u64,
    simulated: Duration,
    took: Duration,
    /// All trace hashes taken together: changes that are to change nothing leave it as it is.
    hash: u64,
}

impl Measured {
    fn print(&self, what: &str) {
        let seconds = self.took.as_secs_f64();
        println!(
            "{what}: {:.0} runs/s, {:.2} M events/s, {:.2} M steps/s, {:.0} x real time; \
             per run {:.0} events, {:.0} steps, {:.1} operations, {:.2} s simulated; hash {:016x}",
            self.runs as f64 / seconds,
            self.events as f64 / seconds / 1e6,
            self.steps as f64 / seconds / 1e6,
            self.simulated.as_secs_f64() / seconds,
            self.events as f64 / self.runs as f64,
            self.steps as f64 / self.runs as f64,
            self.operations as f64 / self.runs as f64,
            self.simulated.as_secs_f64() / self.runs as f64,
            self.hash,
        );
    }
}

fn measure(runs: Option<u64>, mut run: impl FnMut(u64) -> (Stats, u64)) -> Measured {
    let mut measured = Measured {
        runs: 0,
        events: 0,
        steps: 0,
        operations: 0,
        simulated: Duration::ZERO,
        took: Duration::ZERO,
        hash: 0,
    };
    let began = Instant::now();
    let cpu = cpu_time();
    for seed in 0.. {
        let (stats, hash) = run(seed);
        measured.hash ^= hash;
        measured.runs += 1;
        measured.events += stats.events;
        measured.steps += stats.steps;
        measured.operations += stats.operations;
        measured.simulated += stats.simulated;
        if runs.map_or(began.elapsed() > FOR, |runs| measured.runs >= runs) {
            break;
        }
    }
    // On a machine that others use, too, time on the processor is the fairer measure.
    measured.took = cpu_time().zip(cpu).map_or(began.elapsed(), |(after, before)| after - before);
    measured
}

/// This process's time on a processor, where the system tells (Linux).
fn cpu_time() -> Option<Duration> {
    let told = std::fs::read_to_string("/proc/self/schedstat").ok()?;
    Some(Duration::from_nanos(told.split_whitespace().next()?.parse().ok()?))
}

/// This process's memory now, in KiB, where the system tells (Linux).
fn resident() -> Option<u64> {
    let told = std::fs::read_to_string("/proc/self/status").ok()?;
    told.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix("kB")?.trim().parse().ok()
}

fn memory(runs: u64) {
    let mut world = paxos_world();
    let mut next = 1000;
    for seed in 1..=runs {
        let plan = short(seed);
        let run = world.run(&plan, &paxos_config(seed, 5), &mut *registers(&plan, 55));
        std::hint::black_box(judge(&run, &register_options(), true));
        world.recycle(run);
        if seed == next || seed == runs {
            println!("after {seed} runs: {} KiB", resident().map_or("?".into(), |kib| kib.to_string()));
            next = if seed < 100_000 { seed * 10 } else { seed + 100_000 };
        }
    }
}

fn short(seed: u64) -> SimPlan {
    let mut plan = SimPlan::new(5, 5, Duration::from_millis(1500), Seed(seed));
    plan.network.latency = Latency::between(Duration::from_millis(1), Duration::from_millis(10));
    plan.schedule = common_faults(&plan, Duration::from_millis(500), true);
    plan
}

fn main() {
    let mut only: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let flag = only.iter().position(|arg| arg == "--runs");
    let runs = flag.map(|at| only.drain(at..).nth(1).and_then(|runs| runs.parse().ok()).expect("a number of runs"));
    let wanted = |name: &str| only.is_empty() || only.iter().any(|only| name.contains(only.as_str()));
    if only.iter().any(|only| only == "memory") {
        return memory(runs.unwrap_or(1_000_000));
    }
    let mut world = paxos_world();
    if wanted("short") {
        measure(runs, |seed| {
            let plan = short(seed);
            let run = world.run(&plan, &paxos_config(seed, 5), &mut *registers(&plan, 55));
            let done = (run.stats, run.trace_hash);
            world.recycle(run);
            done
        })
        .print("short runs, Paxos 5 nodes 5 clients, 3 faults");
    }
    if wanted("checked") {
        measure(runs, |seed| {
            let plan = short(seed);
            let run = world.run(&plan, &paxos_config(seed, 5), &mut *registers(&plan, 55));
            std::hint::black_box(judge(&run, &register_options(), true));
            let done = (run.stats, run.trace_hash);
            world.recycle(run);
            done
        })
        .print("the same, with every checker");
    }
    if wanted("long") {
        measure(runs, |seed| {
            let mut plan = SimPlan::new(5, 5, Duration::from_secs(100), Seed(seed));
            plan.network.latency = Latency::between(Duration::from_millis(1), Duration::from_millis(10));
            plan.schedule = common_faults(&plan, Duration::from_secs(5), true);
            let run = world.run(&plan, &paxos_config(seed, 5), &mut *registers(&plan, 10_000));
            let done = (run.stats, run.trace_hash);
            world.recycle(run);
            done
        })
        .print("long runs, 100 operations/s");
    }
}

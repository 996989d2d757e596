//! `duress model`: every state that a tiny cluster can reach, instead of those that a run happens to.

use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use duress_checkers::Verdict;
use duress_hunt::{What, trace};
use duress_kv::bugs;
use duress_kv::config::Config;
use duress_model::{Ask, Bounds, Outcome, Place, Progress, Search, Stopped, Story};
use duress_scenario::{Options, Scenario};
use duress_seed::Seed;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use smol_str::ToSmolStr;

use crate::assemble;
use crate::exit::{self, Failure};

pub(crate) const EXAMPLES: &str = "\
Examples:
  duress model primary-backup --set target.failover=timeout     a split brain in three steps
  duress model paxos --nodes 2 --crashes 1                      every state, in a second
  duress model paxos --bug accept-without-checking-promise --in-flight 1
  duress model quorum --client write,read --client write        two clients, one after the other
  duress model paxos --nodes 3 --max-states 500000 --time 2m
  duress model primary-backup --explore 3000                    look around in a browser

The machines are those that run as processes; stateright explores them breadth first, so that a
counterexample is the shortest there is (with --threads 1). What is said holds up to the bounds, which
are printed: messages may always be lost or late, everything else happens as often as is asked for.

Exit codes: 0 every state within the bounds was reached and all is well; 1 a counterexample;
2 bounded: not all states were reached; 255 usage error.";

#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// What to explore: paxos, quorum or primary-backup
    pub(crate) target: String,
    /// How many nodes [default: 3; primary-backup 2, or 3 with a vote]
    #[arg(long, value_name = "N")]
    nodes: Option<String>,
    /// Plant a bug (duress list bugs)
    #[arg(long, value_name = "NAME")]
    bug: Option<String>,
    /// Change one key of the target, such as target.read_quorum=1; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// How many operations: one client writes, another reads, a third writes …
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=30))]
    ops: u8,
    /// What one client asks, in order: read, write, cas; may be repeated, instead of --ops
    #[arg(long = "client", value_name = "OPS", conflicts_with = "ops", value_parser = script)]
    clients: Vec<Script>,
    /// How many timers run out, on all nodes together
    #[arg(long, value_name = "N", default_value_t = 1)]
    timeouts: u8,
    /// How many times a node loses its memory and starts again
    #[arg(long, value_name = "N", default_value_t = 0)]
    crashes: u8,
    /// How many messages arrive twice
    #[arg(long, value_name = "N", default_value_t = 0)]
    duplicates: u8,
    /// How many times a client asks again
    #[arg(long, value_name = "N", default_value_t = 0)]
    retries: u8,
    /// No node goes beyond this term
    #[arg(long, value_name = "N", default_value_t = 4)]
    terms: u64,
    /// How many messages are on their way on a link at most
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..))]
    in_flight: u8,
    /// Messages of a link may overtake each other
    #[arg(long)]
    reordering: bool,
    /// Nodes go on while their disks work
    #[arg(long)]
    overlapping_syncs: bool,
    /// Wall clocks are an hour apart
    #[arg(long)]
    skewed_clocks: bool,
    /// Begin with nodes just started, not with a cluster at work
    #[arg(long)]
    cold: bool,
    /// Give up at about this many states; each takes about a kilobyte
    #[arg(long, value_name = "N", default_value_t = 3_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    max_states: u64,
    /// Give up after this long
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    time: String,
    /// On how many threads [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    threads: Option<u16>,
    /// Serve stateright's explorer at this address, or at this port of the loopback interface
    #[arg(long, value_name = "ADDR", value_parser = address, conflicts_with = "json")]
    explore: Option<SocketAddr>,
    /// Draw a counterexample as a message sequence chart, too
    #[arg(long)]
    chart: bool,
    /// Print the results as JSON instead of a summary
    #[arg(long)]
    json: bool,
}

/// What one client asks.
#[derive(Clone, Debug)]
struct Script(Vec<Ask>);

fn script(text: &str) -> Result<Script, String> {
    let ask = |word: &str| match word.trim() {
        "read" => Ok(Ask::Read),
        "write" => Ok(Ask::Write),
        "cas" => Ok(Ask::Cas),
        other => Err(format!("`{other}` is none of read, write, cas")),
    };
    text.split(',').map(ask).collect::<Result<_, _>>().map(Script)
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let on = |ip: Ipv4Addr, port| SocketAddr::new(IpAddr::V4(ip), port);
    let port = text.parse().map(|port| on(Ipv4Addr::LOCALHOST, port));
    port.or_else(|_| text.parse()).map_err(|_| "write a port, or an address such as 127.0.0.1:3000".into())
}

pub(crate) fn model(args: &ModelArgs) -> Result<ExitCode, Failure> {
    let scenario = scenario(args)?;
    let config = assemble::config(&scenario, Seed(scenario.seed.unwrap_or_default()));
    if let Some(bug) = config.bug().filter(|bug| bug.needs().workload == bugs::Workload::Lock) {
        return Err(Failure::Usage(format!("{bug} shows with locks only, which are not explored; hunt for it")));
    }
    let bounds = bounds(args);
    let cas = bounds.clients.iter().flatten().any(|ask| *ask == Ask::Cas);
    if cas && !scenario.target.facts().serves("cas") {
        return Err(Failure::Usage(format!("--client: a {} target has no cas", scenario.target.kind())));
    }
    if let Some(addr) = args.explore {
        let say = |addr: SocketAddr| println!("explorer at http://{addr}/ (until interrupted)\n{bounds}");
        return match duress_model::explore(config, bounds.clone(), addr, say) {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(e) => Err(Failure::Usage(format!("can't serve at {addr}: {e}"))),
        };
    }
    let time = crate::hunt::duration("--time", &args.time)?;
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let search = Search {
        threads: args.threads.map_or_else(cores, usize::from),
        max_states: usize::try_from(args.max_states).unwrap_or(usize::MAX),
        time,
    };
    let asked = asked(&scenario, &config);
    if !args.json {
        println!("{asked}\nup to: {bounds}\n");
    }
    let (outcome, elapsed) = explored(config, bounds, &search);
    let verdict = verdict(&outcome);
    if args.json {
        println!("{:#}", results(&scenario, &outcome, verdict, elapsed));
    } else {
        print!("{}", words(&scenario, &outcome, elapsed, args.chart));
    }
    Ok(exit::of(verdict))
}

/// The target is described as in a scenario, so that everything has the same names and defaults.
fn scenario(args: &ModelArgs) -> Result<Scenario, Failure> {
    let nodes = args.nodes.clone().or_else(|| (args.target != "primary-backup").then(|| "3".to_owned()));
    let options = Options {
        target: Some(args.target.clone()),
        bug: args.bug.clone(),
        faults: Some("none".into()),
        nodes,
        seed: Some("1".into()),
        set: args.set.clone(),
        ..Options::default()
    };
    Scenario::from_options(&options, &assemble::plugs()).map_err(|e| Failure::Usage(e.to_string()))
}

fn bounds(args: &ModelArgs) -> Bounds {
    let mut bounds = Bounds {
        timeouts: args.timeouts,
        crashes: args.crashes,
        duplicates: args.duplicates,
        retries: args.retries,
        terms: args.terms,
        in_flight: args.in_flight,
        reordering: args.reordering,
        overlapping_syncs: args.overlapping_syncs,
        skewed_clocks: args.skewed_clocks,
        warm: !args.cold,
        max_steps: usize::MAX,
        ..Bounds::new(args.ops.into())
    };
    if !args.clients.is_empty() {
        bounds.clients = args.clients.iter().map(|script| script.0.clone()).collect();
    }
    bounds
}

fn asked(scenario: &Scenario, config: &Config) -> String {
    let bug = config.bug().map_or_else(String::new, |bug| format!("; planted bug: {bug}: {}", bug.description()));
    format!("{} {} nodes{bug}", scenario.target.nodes(), scenario.target.kind())
}

/// Explores, and shows on a terminal how far it has come.
fn explored(config: Config, bounds: Bounds, search: &Search) -> (Outcome, Duration) {
    let bar = match std::io::stderr().is_terminal() {
        true => ProgressBar::new_spinner(),
        false => ProgressBar::hidden(),
    };
    bar.set_style(ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
    let began = std::time::Instant::now();
    let outcome = duress_model::check(config, bounds, search, &mut |progress| {
        let Progress { elapsed, unique_states, depth, .. } = progress;
        let rate = per_second(unique_states, elapsed);
        bar.set_message(format!(
            "{:.1} s | {} states, {}/s | {depth} steps deep",
            elapsed.as_secs_f64(),
            grouped(unique_states),
            grouped(rate)
        ));
        bar.tick();
    });
    bar.finish_and_clear();
    (outcome, began.elapsed())
}

fn per_second(count: usize, elapsed: Duration) -> usize {
    (count as f64 / elapsed.as_secs_f64().max(1e-6)) as usize
}

/// A number with commas between thousands.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn verdict(outcome: &Outcome) -> Verdict {
    match outcome {
        Outcome { counterexample: Some(_), .. } => Verdict::Invalid,
        // A cluster that never does its work keeps every promise.
        outcome if outcome.complete() && outcome.never_seen.is_empty() => Verdict::Valid,
        _ => Verdict::Unknown,
    }
}

/// How much was explored.
fn extent(stopped: Option<Stopped>) -> &'static str {
    match stopped {
        None => "complete: every state within the bounds was reached",
        Some(Stopped::Found) => "ended by the counterexample",
        Some(Stopped::States | Stopped::Steps) => "bounded: not all states were reached; raise --max-states",
        Some(Stopped::Time) => "bounded: not all states were reached in time; raise --time",
    }
}

fn words(scenario: &Scenario, outcome: &Outcome, elapsed: Duration, draw: bool) -> String {
    let mut text = format!(
        "{} states ({} steps tried, {} steps deep) in {:.2} s: {} states/s\n{}\n",
        grouped(outcome.unique_states),
        grouped(outcome.steps),
        outcome.max_depth,
        elapsed.as_secs_f64(),
        grouped(per_second(outcome.unique_states, elapsed)),
        extent(outcome.stopped),
    );
    if outcome.counterexample.is_none() {
        for never in &outcome.never_seen {
            text += &format!("never seen: {never}; nothing follows from the rest\n");
        }
    }
    match &outcome.counterexample {
        Some(story) => {
            text += &format!("\nINVALID\n{story}\n");
            if draw {
                text += &format!("\n{}", chart(scenario, story));
            }
        }
        None if verdict(outcome) == Verdict::Valid => {
            text += "\nVALID: what clients are told is linearizable";
            text += match scenario.target.leads() {
                true => ", at most one node leads in a term, logs agree\n",
                false => "\n",
            };
        }
        None => text += "\nUNKNOWN: nothing was found broken\n",
    }
    text
}

/// A counterexample's messages, each where it arrives.
fn chart(scenario: &Scenario, story: &Story) -> String {
    let steps: Vec<What> = story
        .steps
        .iter()
        .map(|step| match &step.place {
            Place::Link { from, to, message } => {
                What::Received { from: from.to_smolstr(), to: to.to_smolstr(), message: message.clone() }
            }
            Place::Node(node) => What::At { node: node.to_smolstr(), what: step.what.clone() },
            Place::Client => What::Noted(step.what.clone()),
        })
        .collect();
    trace::numbered(&scenario.node_names(), &steps)
}

fn results(scenario: &Scenario, outcome: &Outcome, verdict: Verdict, elapsed: Duration) -> serde_json::Value {
    let counterexample = outcome.counterexample.as_ref().map(|story| {
        let steps: Vec<_> = story.steps.iter().map(|step| json!({ "what": step.what, "then": step.then })).collect();
        json!({ "broken": story.broken, "start": story.start, "steps": steps, "end": story.end })
    });
    json!({
        "verdict": verdict,
        "target": scenario.target.kind(),
        "nodes": scenario.target.nodes(),
        "bug": scenario.target.bug().map(|bug| bug.name),
        "bounds": outcome.bounds.to_string(),
        "complete": outcome.complete(),
        "extent": extent(outcome.stopped),
        "unique_states": outcome.unique_states,
        "steps": outcome.steps,
        "depth": outcome.max_depth,
        "seconds": elapsed.as_secs_f64(),
        "states_per_second": per_second(outcome.unique_states, elapsed),
        "never_seen": outcome.never_seen,
        "counterexample": counterexample,
    })
}

//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::backends;

/// Puts a cluster under duress and says, with proof, whether it kept its promises.
#[derive(Debug, Parser)]
#[command(name = "duress", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  duress run                                      five Paxos nodes under partitions, crashes and pauses
  duress run examples/atc-split-brain.yaml        the air-traffic-control story: a split brain
  duress run examples/atc-split-brain.yaml --set target.failover=vote
  duress run --target quorum --set target.read_quorum=1 --faults partition --time 10s
  duress check duress-runs/paxos-register/latest  judge a stored run again
  duress check history.edn --model cas-register   judge a history of Jepsen, Maelstrom, Porcupine
  duress list                                     targets, workloads, faults, checkers and bugs

Exit codes: 0 valid, 1 invalid, 2 unknown, 254 the harness or the infrastructure failed,
255 usage or configuration error.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Deploy a cluster, hurt it, and judge what it did
    #[command(after_help = RUN_EXAMPLES)]
    Run(Box<RunArgs>),
    /// Run many seeds of a scenario in the simulator, looking for one that breaks a promise
    #[command(after_help = HUNT_EXAMPLES)]
    Hunt(Box<HuntArgs>),
    /// Show what faults a scenario brings, and when, without running anything
    #[command(after_help = crate::schedule::EXAMPLES)]
    Schedule(Box<crate::schedule::ScheduleArgs>),
    /// Repeat what a hunt found
    Replay(ReplayArgs),
    /// Explore every state of a tiny cluster with a model checker
    #[command(after_help = crate::model::EXAMPLES)]
    Model(Box<crate::model::ModelArgs>),
    /// Play scripts in the simulator and on a real cluster, and compare what comes of them
    #[command(after_help = crate::conform::EXAMPLES)]
    Conform(crate::conform::ConformArgs),
    /// Judge a stored run again, or anybody's history
    #[command(after_help = crate::check::EXAMPLES)]
    Check(Box<crate::check::CheckArgs>),
    /// Turn a history from one format into another
    #[command(after_help = crate::convert::EXAMPLES)]
    Convert(Box<crate::convert::ConvertArgs>),
    /// Make a labelled history from a seed, to try checkers with
    #[command(after_help = crate::generate::EXAMPLES)]
    Generate(crate::generate::GenerateArgs),
    /// Skew the clocks of a running process, or tell what they are
    #[command(after_help = crate::clock::EXAMPLES)]
    Clock(crate::clock::ClockArgs),
    /// Show targets, workloads, faults, checkers and planted bugs
    List(ListArgs),
    /// Say what this machine can do, and what to do where it can't
    #[command(alias = "preflight", after_help = crate::doctor::EXAMPLES)]
    Doctor(crate::doctor::DoctorArgs),
    /// Undo what controllers that are gone have left on this machine
    #[command(after_help = crate::cleanup::EXAMPLES)]
    Cleanup(crate::cleanup::CleanupArgs),
    /// One node of the bundled cluster
    #[command(hide = true)]
    Node(InternalArgs),
    /// The clients of one client host
    #[command(hide = true)]
    Client(InternalArgs),
    /// Tells the time whenever asked; `duress doctor` skews its clock
    #[command(hide = true)]
    TellTime,
    /// The harness inside its sandbox
    #[command(hide = true)]
    Inside(InsideArgs),
}

const RUN_EXAMPLES: &str = "\
Examples:
  duress run                                      30 s, five Paxos nodes, partitions, crashes, pauses
  duress run --time 10s --faults loss,clock-jump,power-loss --nodes 3
  duress run --target primary-backup --set target.failover=timeout --faults partition
  duress run --workload lock --target quorum --set workload.fencing=false
  duress run examples/quorum-r1w1.yaml --seed 7 --json

Without SCENARIO the run is made from the options; with it, the options change it. --set takes any
key of a scenario file, by its dotted path. Everything is kept in duress-runs/<scenario>/<time>/.";

/// What is run: a scenario file, or options, or both.
#[derive(Debug, Args)]
pub(crate) struct ScenarioArgs {
    /// A scenario file; without one the scenario is made from the options
    pub(crate) scenario: Option<PathBuf>,
    /// What to put under duress: paxos, quorum or primary-backup [default: paxos]
    #[arg(long, value_name = "KIND")]
    pub(crate) target: Option<String>,
    /// Plant a bug in the target, to test the tester with; `duress list bugs` names them
    #[arg(long, value_name = "NAME")]
    pub(crate) bug: Option<String>,
    /// Change one key of the scenario, such as target.read_quorum=1; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// What the clients do: register, lock or set [default: register]
    #[arg(long, value_name = "KIND")]
    pub(crate) workload: Option<String>,
    /// Faults planned from the seed, by kind: loss, power-loss, clock-jump, … (`duress list faults`),
    /// or none [default: partition, crash, pause]
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    pub(crate) faults: Option<Vec<String>>,
    /// How many nodes [default: 5; primary-backup 3, or 2 without a vote]
    #[arg(long, value_name = "N")]
    pub(crate) nodes: Option<String>,
    /// How many processes are at work at a time [default: 10]
    #[arg(long, value_name = "N")]
    pub(crate) concurrency: Option<String>,
    /// Operations per second of all processes together [default: as many as go]
    #[arg(long, value_name = "N")]
    pub(crate) rate: Option<String>,
    /// Fixes what is asked for: operations and schedule; a hunt's runs have this seed and those
    /// that follow it [default: a new one, printed]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Where runs are kept
    #[arg(long, value_name = "DIR", default_value = "duress-runs")]
    pub(crate) out: PathBuf,
    /// Print the results as JSON instead of a summary
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) asked: ScenarioArgs,
    /// How long the clients work [default: 30s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) time: Option<String>,
    /// Where it is run: local (processes in namespaces) or sim (the simulator)
    #[arg(long, value_name = "WORLD", default_value = backends::default(), value_parser = backends::worlds())]
    pub(crate) world: String,
    /// Stop within a second of an operation on a register that no order explains
    #[arg(long)]
    pub(crate) stop_on_violation: bool,
    /// Write every frame between hosts, and what became of it, to capture.pcapng in the run's
    /// directory, for tshark and Wireshark
    #[arg(long)]
    pub(crate) pcap: bool,
}

const HUNT_EXAMPLES: &str = "\
Examples:
  duress hunt examples/atc-split-brain.yaml            until the first finding, at most a minute
  duress hunt examples/paxos-crashes.yaml --seeds 20000
  duress hunt examples/quorum-r1w1.yaml --keep-going --time 10s
  duress hunt --target paxos --set target.reads=lease --also clock-jump,clock-rate
  duress hunt --bug off-by-one-majority --nodes 4      is a planted bug found?

Each seed draws from the scenario which faults there are, how often and how long, how the network
behaves, and how many clients and keys there are. A finding is made as small as possible and kept
as a *.repro.yaml file, for duress replay. Ctrl-C ends a hunt, which then reports what it has.

Exit codes: 0 nothing was found; 1 something was: a broken promise, a node that panics, or a cluster
that doesn't serve again within the bound though everything is healed (\"unavailable\"); 2 no run
says anything; 254 the harness failed; 255 usage or configuration error.";

#[derive(Debug, Args)]
pub(crate) struct HuntArgs {
    #[command(flatten)]
    pub(crate) asked: ScenarioArgs,
    /// How many seeds to run
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) seeds: Option<u64>,
    /// How long to hunt at most [default: 60s, without --seeds]
    #[arg(long, value_name = "DURATION")]
    pub(crate) time: Option<String>,
    /// On how many threads [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    pub(crate) jobs: Option<u16>,
    /// Go on after the first finding, and group what is found by what was violated
    #[arg(long)]
    pub(crate) keep_going: bool,
    /// Kinds of faults beside the scenario's own, as in `duress list faults`: power-loss, slow-disk,
    /// clock-rate, slow, …, or none [default: what the scenario's faults imply]
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    pub(crate) also: Option<Vec<String>>,
    /// How long a finding may be made smaller
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    pub(crate) shrink: String,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// A *.repro.yaml file
    pub(crate) file: PathBuf,
    /// Show everything that happens: an event log and a message sequence chart
    #[arg(long)]
    pub(crate) trace: bool,
    /// Where to play it: sim repeats it exactly; local plays its faults on a real cluster
    #[arg(long, value_name = "WORLD", default_value = backends::SIM, value_parser = backends::worlds())]
    pub(crate) world: String,
    /// How often
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) times: u32,
    /// On a real cluster the schedule is stretched by this factor: what was shrunk to the least
    /// that does in virtual time leaves no room in real time
    #[arg(long, value_name = "FACTOR", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) stretch: u32,
    /// Where real runs are kept
    #[arg(long, value_name = "DIR", default_value = "duress-runs")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only these: targets, workloads, faults, also, grudges, checkers, models, anomalies or bugs
    #[arg(value_name = "WHAT", value_parser = crate::list::SECTIONS)]
    pub(crate) what: Option<String>,
}

/// For processes that only `duress` itself starts.
#[derive(Debug, Args)]
pub(crate) struct InternalArgs {
    /// The configuration, as JSON
    #[arg(long)]
    pub(crate) config: OsString,
    /// The number of the control channel's file descriptor
    #[arg(long)]
    pub(crate) control_fd: Option<i32>,
}

/// For the harness inside its sandbox.
#[derive(Debug, Args)]
pub(crate) struct InsideArgs {
    /// The run directory, with its scenario.yaml
    #[arg(long)]
    pub(crate) run: PathBuf,
    /// The back end that has started this
    #[arg(long)]
    pub(crate) world: String,
    /// Show nothing while it goes on
    #[arg(long)]
    pub(crate) quiet: bool,
    /// End the main phase when a violation shows
    #[arg(long)]
    pub(crate) stop_on_violation: bool,
    /// Capture every frame
    #[arg(long)]
    pub(crate) pcap: bool,
}

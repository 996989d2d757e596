//! The `paxos` target.

use duress_plug::{Bug, Facts, Group, Opt, Opts, Problem, Target};
use duress_seed::Seed;

use super::{Kit, WAITS, attempt_timeout, check_heartbeat, count, heartbeat, majority, snapshot_every};
use crate::bugs::Mode;
use crate::config::Config;
use crate::paxos;

/// A Multi-Paxos replicated state machine.
pub struct Paxos;

static OPTIONS: &[Opt] = &[
    Opt::nodes(1..=super::MAX_NODES, 5),
    Opt::choice(
        "reads",
        &[
            ("log", "through the log, or as safely"),
            ("lease", "by the leader alone while it holds a lease, which relies on clocks"),
            ("local", "by any node from what it has applied: stale on purpose"),
        ],
        "How reads are served.",
    ),
    Opt::millis("lease", WAITS, 200, "How long a leader's lease lasts; used by `reads: lease`."),
    heartbeat("How often a leader shows that it is there."),
    Opt::millis("election_timeout", WAITS, 300, "How long a node waits for a leader before it stands for election."),
    Opt::integer(
        "max_clock_drift_ppm",
        0..=1_000_000,
        10_000,
        "By how much the rates of two nodes' clocks may differ, in parts per million, for the lease to be safe.",
    ),
    attempt_timeout(500),
    snapshot_every(),
    Opt::bug(),
];

impl Target for Paxos {
    fn name(&self) -> &'static str {
        "paxos"
    }

    fn about(&self) -> &'static str {
        "Multi-Paxos replicated state machine: a stable leader, any minority may fail"
    }

    fn options(&self) -> &'static [Opt] {
        OPTIONS
    }

    fn facts(&self, options: &Opts) -> Result<Facts, Problem> {
        let nodes = count(options, "nodes");
        let (heartbeat, notice) = (options.duration("heartbeat"), options.duration("election_timeout"));
        check_heartbeat(heartbeat, "election_timeout", notice)?;
        let reads = options.choice("reads");
        let lease = options.duration("lease");
        if reads == "lease" && lease < heartbeat {
            let message = format!(
                "target.lease ({lease:?}) is shorter than target.heartbeat ({heartbeat:?}), so no lease would ever be in force"
            );
            return Err(Problem::new(&["lease"], message).suggest("make the lease longer"));
        }
        Ok(Facts {
            groups: vec![Group::servers(nodes)],
            leads: true,
            elects: true,
            roles: &["leader", "follower", "candidate"],
            quorum: Some(majority(nodes)).filter(|enough| *enough < nodes),
            sticky: reads != "local",
            has_log: true,
            exactly_once: true,
            attempt_timeout: options.duration("attempt_timeout"),
            notice,
            clock_drift_ppm: (reads == "lease").then(|| options.integer("max_clock_drift_ppm") as u32),
            probe: "write",
            functions: super::EVERYTHING,
            promises: match reads {
                "local" => "writes and locks are linearizable, a read returns what was once true",
                _ => "every key is linearizable, and everything takes effect once at most",
            },
            assumes: match reads {
                "lease" => "the rates of two nodes' clocks differ by no more than `max_clock_drift_ppm`",
                _ => "",
            },
        })
    }

    fn bugs(&self) -> Vec<Bug> {
        super::bugs(Mode::Paxos)
    }
}

impl Kit for Paxos {
    fn config(&self, options: &Opts, seed: Seed) -> Config {
        Config::Paxos(paxos::Config {
            reads: match options.choice("reads") {
                "lease" => paxos::Reads::Lease,
                "local" => paxos::Reads::Local,
                _ => paxos::Reads::Log,
            },
            heartbeat: options.duration("heartbeat"),
            election_timeout: options.duration("election_timeout"),
            lease: options.duration("lease"),
            max_clock_drift_ppm: options.integer("max_clock_drift_ppm") as u32,
            snapshot_every: options.integer("snapshot_every"),
            bug: super::bug(options),
            ..paxos::Config::new(count(options, "nodes"), seed)
        })
    }
}

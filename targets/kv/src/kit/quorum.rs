//! The `quorum` target.

use duress_plug::{Bug, Draft, Facts, Group, Opt, Opts, Problem, Shrink, Target, Value};
use duress_seed::Seed;

use super::{Kit, MAX_NODES, WAITS, attempt_timeout, count, majority, snapshot_every};
use crate::bugs::Mode;
use crate::config::Config;
use crate::quorum;

/// Replicas with read and write quorums and no leader.
pub struct Quorum;

/// More replicas than nodes are refused, in words of their own.
fn majority_of_replicas(draft: &Draft<'_>) -> Value {
    let [replicas, nodes] = ["replicas", "nodes"].map(|name| draft.integer(name).unwrap_or(1));
    Value::Integer(replicas.min(nodes) / 2 + 1)
}

static OPTIONS: &[Opt] = &[
    Opt::nodes(1..=MAX_NODES, 5),
    // Not more than the most nodes there can be, to begin with: that it is more than the nodes there
    // are deserves words of its own.
    Opt::integer("replicas", 1..=MAX_NODES, 5, "N: how many of them hold each key.")
        .or("all nodes", |draft| Value::Integer(draft.integer("nodes").unwrap_or(1)))
        .shrunk(Shrink::AtMost("nodes")),
    Opt::integer("read_quorum", 1..=MAX_NODES, 3, "R: how many replicas a read waits for.")
        .or("a majority of the replicas", majority_of_replicas),
    Opt::integer("write_quorum", 1..=MAX_NODES, 3, "W: how many replicas a write waits for.")
        .or("a majority of the replicas", majority_of_replicas),
    Opt::choice(
        "timestamps",
        &[("logical", "counters, asked of R replicas before each write"), ("wall", "the coordinator's wall clock")],
        "What orders writes.",
    ),
    Opt::flag("write_back", true, "Whether a read writes what it found back to W replicas before it answers."),
    Opt::flag("read_repair", true, "Whether a read updates the stale replicas that it saw, after it has answered."),
    Opt::millis("request_timeout", WAITS, 500, "How long a node tries to reach a quorum."),
    // A quorum write is never repeated, so there clients are three times as patient.
    attempt_timeout(1_500),
    snapshot_every(),
    Opt::bug(),
];

impl Target for Quorum {
    fn name(&self) -> &'static str {
        "quorum"
    }

    fn about(&self) -> &'static str {
        "leaderless registers: N replicas, R to read, W to write"
    }

    fn options(&self) -> &'static [Opt] {
        OPTIONS
    }

    fn facts(&self, options: &Opts) -> Result<Facts, Problem> {
        let [nodes, replicas, read, write] =
            ["nodes", "replicas", "read_quorum", "write_quorum"].map(|name| count(options, name));
        if replicas > nodes {
            let message = format!("target.replicas is {replicas}, but there are only {nodes} nodes");
            return Err(Problem::new(&["replicas"], message).suggest("raise target.nodes or lower target.replicas"));
        }
        for (key, size) in [("read_quorum", read), ("write_quorum", write)] {
            if size > replicas {
                let message = format!("target.{key} is {size}, but a key has only {replicas} replicas");
                return Err(Problem::new(&[key], message).suggest(format!("choose from 1 to {replicas}")));
            }
        }
        // Where each key has replicas on some nodes only, those may be the ones that are away. Locks
        // are granted by a majority.
        let enough = (replicas == nodes).then(|| read.max(write).max(majority(nodes)));
        let safe = read + write > replicas && options.flag("write_back");
        let wall = options.choice("timestamps") == "wall";
        Ok(Facts {
            groups: vec![Group::servers(nodes)],
            roles: &["replica"],
            quorum: enough.filter(|enough| *enough < nodes),
            // Quorum writes are not remembered, so a repeated one might undo what came in between.
            exactly_once: false,
            attempt_timeout: options.duration("attempt_timeout"),
            notice: options.duration("request_timeout"),
            probe: "write",
            functions: super::ALL_BUT_CAS,
            promises: if safe { "every key is linearizable" } else { "a read returns what was written at some time" },
            assumes: if wall { "clocks differ by less than the time between two writes" } else { "" },
            ..Facts::default()
        })
    }

    fn bugs(&self) -> Vec<Bug> {
        super::bugs(Mode::Quorum)
    }
}

impl Kit for Quorum {
    fn config(&self, options: &Opts, seed: Seed) -> Config {
        let [nodes, replicas, read, write] =
            ["nodes", "replicas", "read_quorum", "write_quorum"].map(|name| count(options, name));
        Config::Quorum(quorum::Config {
            replicas: Some(replicas),
            timestamps: match options.choice("timestamps") {
                "wall" => quorum::Timestamps::Wall,
                _ => quorum::Timestamps::Logical,
            },
            write_back: options.flag("write_back"),
            read_repair: options.flag("read_repair"),
            request_timeout: options.duration("request_timeout"),
            snapshot_every: options.integer("snapshot_every"),
            bug: super::bug(options),
            ..quorum::Config::new(nodes, read, write, seed)
        })
    }
}

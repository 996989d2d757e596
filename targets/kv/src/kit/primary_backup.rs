//! The `primary-backup` target.

use duress_plug::{Bug, Facts, Group, Opt, Opts, Problem, Target, Value};
use duress_seed::Seed;

use super::{Kit, MAX_NODES, WAITS, attempt_timeout, check_heartbeat, count, heartbeat, majority, snapshot_every};
use crate::bugs::Mode;
use crate::config::Config;
use crate::primary_backup;

/// A primary that sends its log to backups, with several ways to fail over.
pub struct PrimaryBackup;

// Nodes and failover depend on each other: a primary and a backup, and a third voter where there is a
// vote, because of two nodes neither can outvote the other.
static OPTIONS: &[Opt] = &[
    Opt::choice(
        "failover",
        &[
            ("none", "never"),
            ("timeout", "when it hasn't heard of the primary for a while; two may lead: split brain"),
            ("fenced", "after the old primary has been shut off out of band"),
            ("vote", "when a majority of the nodes agrees"),
        ],
        "How a backup becomes primary.",
    )
    .or("`vote`; of two nodes `fenced`", |draft| {
        let third = draft.integer("nodes").is_none_or(|nodes| nodes >= 3);
        Value::Name(if third { "vote" } else { "fenced" })
    }),
    Opt::nodes(2..=MAX_NODES, 3).or("3 where a majority votes, else 2", |draft| {
        Value::Integer(if draft.choice("failover") == Some("vote") { 3 } else { 2 })
    }),
    Opt::choice(
        "replication",
        &[("sync", "when the backups have it"), ("async", "when the primary has it")],
        "When a write is acknowledged.",
    ),
    Opt::choice(
        "reads",
        &[("primary", "the primary"), ("any", "any node, from what it has applied: stale on purpose")],
        "Who serves reads.",
    ),
    heartbeat("How often a primary shows that it is there."),
    Opt::millis("failover_timeout", WAITS, 400, "How long a node waits for another before it takes it for dead."),
    attempt_timeout(500),
    snapshot_every(),
    Opt::bug(),
];

impl Target for PrimaryBackup {
    fn name(&self) -> &'static str {
        "primary-backup"
    }

    fn about(&self) -> &'static str {
        "a primary that sends its log to backups; four ways to fail over, two of them safe"
    }

    fn options(&self) -> &'static [Opt] {
        OPTIONS
    }

    fn facts(&self, options: &Opts) -> Result<Facts, Problem> {
        let nodes = count(options, "nodes");
        let vote = options.choice("failover") == "vote";
        if vote && nodes < 3 {
            let message = format!("target.failover: vote needs at least 3 nodes, and target.nodes is {nodes}");
            return Err(Problem::new(&["failover"], message)
                .suggest("of 2 nodes neither can outvote the other; use 3 nodes, or failover: fenced"));
        }
        let notice = options.duration("failover_timeout");
        check_heartbeat(options.duration("heartbeat"), "failover_timeout", notice)?;
        let any = options.choice("reads") == "any";
        Ok(Facts {
            groups: vec![Group::servers(nodes)],
            leads: true,
            elects: vote,
            roles: if vote { &["primary", "backup", "candidate"] } else { &["primary", "backup"] },
            // Without a vote the service waits for its primary, or a backup takes over alone only
            // where it was one when the others went.
            quorum: vote.then(|| majority(nodes)).filter(|enough| *enough < nodes),
            sticky: !any,
            has_log: true,
            exactly_once: true,
            attempt_timeout: options.duration("attempt_timeout"),
            notice,
            clock_drift_ppm: None,
            probe: "write",
            functions: super::EVERYTHING,
            promises: match (options.choice("failover"), options.choice("replication")) {
                ("timeout", _) => "the service goes on when the primary has crashed",
                ("fenced" | "vote", "async") => "one node serves at a time",
                _ if any => "writes and locks are linearizable, a read returns what was once true",
                _ => "every key is linearizable, and everything takes effect once at most",
            },
            assumes: match options.choice("failover") {
                "timeout" => "a node that is silent is dead",
                "fenced" => "the controller shuts a node off when it says so",
                _ => "",
            },
        })
    }

    fn bugs(&self) -> Vec<Bug> {
        super::bugs(Mode::PrimaryBackup)
    }
}

impl Kit for PrimaryBackup {
    fn config(&self, options: &Opts, seed: Seed) -> Config {
        Config::PrimaryBackup(primary_backup::Config {
            replication: match options.choice("replication") {
                "async" => primary_backup::Replication::Async,
                _ => primary_backup::Replication::Sync,
            },
            failover: match options.choice("failover") {
                "none" => primary_backup::Failover::None,
                "timeout" => primary_backup::Failover::Timeout,
                "fenced" => primary_backup::Failover::Fenced,
                _ => primary_backup::Failover::Vote,
            },
            reads: match options.choice("reads") {
                "any" => primary_backup::Reads::Any,
                _ => primary_backup::Reads::Primary,
            },
            heartbeat: options.duration("heartbeat"),
            failover_timeout: options.duration("failover_timeout"),
            snapshot_every: options.integer("snapshot_every"),
            bug: super::bug(options),
            ..primary_backup::Config::new(count(options, "nodes"), seed)
        })
    }
}

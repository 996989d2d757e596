//! The targets and what can be chosen about them. What each choice promises is told in
//! `docs/targets.md`; here it is only read, filled in and checked.

use std::time::Duration;

use duress_kv::bugs::{Bug, Mode};
use serde_yaml::Value;

use crate::document::{self, Located};
use crate::error::Problem;
use crate::fields::{Field, Fields};
use crate::yaml::{map, time};

/// Every target, with one line about it.
pub const ALL: &[(&str, &str)] = &[
    ("paxos", "a Multi-Paxos replicated key-value store and lock service"),
    ("quorum", "replicas with read and write quorums and no leader"),
    ("primary-backup", "a primary that sends its log to backups, with several ways to fail over"),
];

/// The system under test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A Multi-Paxos replicated state machine.
    Paxos(Paxos),
    /// Read and write quorums.
    Quorum(Quorum),
    /// A primary with backups.
    PrimaryBackup(PrimaryBackup),
}

impl Target {
    /// The target's name, as in [`ALL`].
    pub fn kind(&self) -> &'static str {
        match self {
            Target::Paxos(_) => "paxos",
            Target::Quorum(_) => "quorum",
            Target::PrimaryBackup(_) => "primary-backup",
        }
    }

    /// How many nodes it has.
    pub fn nodes(&self) -> u16 {
        match self {
            Target::Paxos(paxos) => paxos.nodes,
            Target::Quorum(quorum) => quorum.nodes,
            Target::PrimaryBackup(primary_backup) => primary_backup.nodes,
        }
    }

    /// Whether one of its nodes leads.
    pub fn leads(&self) -> bool {
        !matches!(self, Target::Quorum(_))
    }

    /// Whether it has a compare-and-set.
    pub fn has_cas(&self) -> bool {
        !matches!(self, Target::Quorum(_))
    }

    /// How long its clients wait for a node's answer before they ask another.
    pub fn attempt_timeout(&self) -> Duration {
        match self {
            Target::Paxos(paxos) => paxos.attempt_timeout,
            Target::Quorum(quorum) => quorum.attempt_timeout,
            Target::PrimaryBackup(primary_backup) => primary_backup.attempt_timeout,
        }
    }

    /// The bug that is planted in it.
    pub fn bug(&self) -> Option<Bug> {
        match self {
            Target::Paxos(paxos) => paxos.bug,
            Target::Quorum(quorum) => quorum.bug,
            Target::PrimaryBackup(primary_backup) => primary_backup.bug,
        }
    }
}

/// Options of the `paxos` target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paxos {
    /// How many nodes, 1 to 9.
    pub nodes: u16,
    /// How reads are served.
    pub reads: PaxosReads,
    /// How long a leader's lease lasts; used by `reads: lease`.
    pub lease: Duration,
    /// How often a leader shows that it is there.
    pub heartbeat: Duration,
    /// How long a node waits for a leader before it stands for election.
    pub election_timeout: Duration,
    /// By how much the rates of two nodes' clocks may differ, in parts per million, for the lease
    /// to be safe.
    pub max_clock_drift_ppm: u32,
    /// How long its clients wait for a node's answer before they ask another.
    pub attempt_timeout: Duration,
    /// After how many records of its log a node writes a snapshot.
    pub snapshot_every: u64,
    /// A planted bug, to test the tester with.
    pub bug: Option<Bug>,
}

impl Default for Paxos {
    fn default() -> Paxos {
        Paxos {
            nodes: 5,
            reads: PaxosReads::Log,
            lease: Duration::from_millis(200),
            heartbeat: Duration::from_millis(50),
            election_timeout: Duration::from_millis(300),
            max_clock_drift_ppm: 10_000,
            attempt_timeout: ATTEMPT_TIMEOUT,
            snapshot_every: SNAPSHOT_EVERY,
            bug: None,
        }
    }
}

/// How a Paxos cluster serves reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PaxosReads {
    /// Through the log, or as safely.
    Log,
    /// By the leader alone while it holds a lease, which relies on clocks.
    Lease,
    /// By any node from what it has applied: stale on purpose.
    Local,
}

/// Options of the `quorum` target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quorum {
    /// How many nodes, 1 to 9.
    pub nodes: u16,
    /// N: how many of them hold each key.
    pub replicas: u16,
    /// R: how many replicas a read waits for.
    pub read_quorum: u16,
    /// W: how many replicas a write waits for.
    pub write_quorum: u16,
    /// What orders writes.
    pub timestamps: Timestamps,
    /// Whether a read writes what it found back to W replicas before it answers.
    pub write_back: bool,
    /// Whether a read updates the stale replicas that it saw, after it has answered.
    pub read_repair: bool,
    /// How long a node tries to reach a quorum.
    pub request_timeout: Duration,
    /// How long its clients wait for a node's answer before they ask another.
    pub attempt_timeout: Duration,
    /// After how many records of its log a node writes a snapshot.
    pub snapshot_every: u64,
    /// A planted bug, to test the tester with.
    pub bug: Option<Bug>,
}

/// What orders the writes of a quorum target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Timestamps {
    /// Counters, asked of R replicas before each write.
    Logical,
    /// The coordinator's wall clock.
    Wall,
}

/// Options of the `primary-backup` target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrimaryBackup {
    /// How many nodes, 2 to 9. Unless given: 3 where a majority votes, else 2.
    pub nodes: u16,
    /// When a write is acknowledged.
    pub replication: Replication,
    /// How a backup becomes primary.
    pub failover: Failover,
    /// Who serves reads.
    pub reads: PrimaryBackupReads,
    /// How often a primary shows that it is there.
    pub heartbeat: Duration,
    /// How long a node waits for another before it takes it for dead.
    pub failover_timeout: Duration,
    /// How long its clients wait for a node's answer before they ask another.
    pub attempt_timeout: Duration,
    /// After how many records of its log a node writes a snapshot.
    pub snapshot_every: u64,
    /// A planted bug, to test the tester with.
    pub bug: Option<Bug>,
}

/// When a primary acknowledges a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Replication {
    /// When the backups have it.
    Sync,
    /// When the primary has it.
    Async,
}

/// How a backup becomes primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failover {
    /// Never.
    None,
    /// When it hasn't heard of the primary for a while. Two may lead: split brain.
    Timeout,
    /// After the old primary has been shut off out of band.
    Fenced,
    /// When a majority of the nodes agrees.
    Vote,
}

/// Who serves reads in a primary-backup target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PrimaryBackupReads {
    /// The primary.
    Primary,
    /// Any node, from what it has applied: stale on purpose.
    Any,
}

const PAXOS_READS: &[(&str, PaxosReads)] =
    &[("log", PaxosReads::Log), ("lease", PaxosReads::Lease), ("local", PaxosReads::Local)];
const TIMESTAMPS: &[(&str, Timestamps)] = &[("logical", Timestamps::Logical), ("wall", Timestamps::Wall)];
const REPLICATION: &[(&str, Replication)] = &[("sync", Replication::Sync), ("async", Replication::Async)];
const FAILOVER: &[(&str, Failover)] =
    &[("none", Failover::None), ("timeout", Failover::Timeout), ("fenced", Failover::Fenced), ("vote", Failover::Vote)];
const PRIMARY_BACKUP_READS: &[(&str, PrimaryBackupReads)] =
    &[("primary", PrimaryBackupReads::Primary), ("any", PrimaryBackupReads::Any)];
const KINDS: &[(&str, &str)] = &[("paxos", "paxos"), ("quorum", "quorum"), ("primary-backup", "primary-backup")];

/// The name of a choice.
fn name<T: PartialEq>(choices: &[(&'static str, T)], choice: &T) -> Value {
    Value::from(choices.iter().find(|(_, other)| other == choice).map_or("", |(name, _)| *name))
}

/// Bounds of heartbeats and timeouts inside a target.
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_secs(60);

const MAX_NODES: u16 = 9;

/// A quorum write is never repeated, so there clients are three times as patient.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(500);

/// Snapshots are rare unless a scenario is about them.
const SNAPSHOT_EVERY: u64 = 10_000;

fn nodes(fields: &mut Fields<'_>, least: u16, default: u16) -> Result<u16, Problem> {
    count(fields, "nodes", least..=MAX_NODES, default)
}

fn count(
    fields: &mut Fields<'_>,
    key: &'static str,
    bounds: std::ops::RangeInclusive<u16>,
    default: u16,
) -> Result<u16, Problem> {
    match fields.get(key) {
        None => Ok(default),
        Some(field) => Ok(field.integer(u64::from(*bounds.start())..=u64::from(*bounds.end()))? as u16),
    }
}

fn wait(fields: &mut Fields<'_>, key: &'static str, default: Duration) -> Result<Duration, Problem> {
    fields.get(key).map_or(Ok(default), |field| field.duration(SHORTEST..=LONGEST))
}

fn flag(fields: &mut Fields<'_>, key: &'static str, default: bool) -> Result<bool, Problem> {
    fields.get(key).map_or(Ok(default), |field| field.flag())
}

fn snapshot_every(fields: &mut Fields<'_>) -> Result<u64, Problem> {
    fields.get("snapshot_every").map_or(Ok(SNAPSHOT_EVERY), |field| field.integer(1..=1_000_000_000))
}

/// The name of no bug, which takes the bug out of a scenario that has one.
const NO_BUG: &str = "none";

fn bug(fields: &mut Fields<'_>, mode: Mode) -> Result<Option<Bug>, Problem> {
    let Some(field) = fields.get("bug") else { return Ok(None) };
    let fit = Bug::ALL.iter().filter(|bug| bug.modes().contains(&mode));
    let choices: Vec<(&str, Option<Bug>)> =
        [(NO_BUG, None)].into_iter().chain(fit.map(|bug| (bug.name(), Some(*bug)))).collect();
    let refused = match field.choice(&choices) {
        Ok(bug) => return Ok(bug),
        Err(problem) => problem,
    };
    match field.text("a bug's name").ok().and_then(Bug::named) {
        None => Err(refused),
        Some(elsewhere) => {
            let modes: Vec<&str> = elsewhere.modes().iter().map(|mode| mode.name()).collect();
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            let message = format!("{} is a bug of {}, not of {mode}", elsewhere, modes.join(" and "));
            Err(field.problem(message).suggest(format!("bugs of {mode}: {}", names.join(", "))))
        }
    }
}

fn bug_name(bug: Option<Bug>) -> Value {
    bug.map_or(NO_BUG, Bug::name).into()
}

/// A heartbeat must fit twice into the timeout that it prevents.
fn check_heartbeat(fields: &Fields<'_>, heartbeat: Duration, key: &str, timeout: Duration) -> Result<(), Problem> {
    if heartbeat * 2 <= timeout {
        return Ok(());
    }
    let blamed = if fields.has("heartbeat") { "heartbeat" } else { key };
    let message = format!(
        "target.heartbeat ({heartbeat:?}) is more than half of target.{key} ({timeout:?}), so every delay would look like a failure"
    );
    Err(fields.problem(blamed, message).suggest("make the heartbeat shorter or the timeout longer"))
}

impl Target {
    pub(crate) fn read(field: &Field<'_>) -> Result<Target, Problem> {
        if let document::Value::Scalar { .. } = &field.node.value {
            let kind = field.choice(KINDS)?;
            let none = Located { place: field.node.place.clone(), value: document::Value::Map(Vec::new()) };
            let field = Field { node: &none, path: field.path.clone() };
            return Target::of_kind(kind, field.fields("a map")?);
        }
        let mut fields = field.fields("the name of a target or a map")?;
        let kind = fields.get("kind").map_or(Ok("paxos"), |kind| kind.choice(KINDS))?;
        Target::of_kind(kind, fields)
    }

    fn of_kind(kind: &str, fields: Fields<'_>) -> Result<Target, Problem> {
        match kind {
            "quorum" => Ok(Target::Quorum(Quorum::read(fields)?)),
            "primary-backup" => Ok(Target::PrimaryBackup(PrimaryBackup::read(fields)?)),
            _ => Ok(Target::Paxos(Paxos::read(fields)?)),
        }
    }

    pub(crate) fn write(&self) -> Value {
        match self {
            Target::Paxos(paxos) => paxos.write(),
            Target::Quorum(quorum) => quorum.write(),
            Target::PrimaryBackup(primary_backup) => primary_backup.write(),
        }
    }
}

impl Paxos {
    fn read(mut fields: Fields<'_>) -> Result<Paxos, Problem> {
        let default = Paxos::default();
        let paxos = Paxos {
            nodes: nodes(&mut fields, 1, default.nodes)?,
            reads: fields.get("reads").map_or(Ok(default.reads), |field| field.choice(PAXOS_READS))?,
            lease: wait(&mut fields, "lease", default.lease)?,
            heartbeat: wait(&mut fields, "heartbeat", default.heartbeat)?,
            election_timeout: wait(&mut fields, "election_timeout", default.election_timeout)?,
            max_clock_drift_ppm: fields
                .get("max_clock_drift_ppm")
                .map_or(Ok(default.max_clock_drift_ppm), |field| Ok(field.integer(0..=1_000_000)? as u32))?,
            attempt_timeout: wait(&mut fields, "attempt_timeout", default.attempt_timeout)?,
            snapshot_every: snapshot_every(&mut fields)?,
            bug: bug(&mut fields, Mode::Paxos)?,
        };
        fields.finish("target (paxos)")?;
        check_heartbeat(&fields, paxos.heartbeat, "election_timeout", paxos.election_timeout)?;
        if paxos.reads == PaxosReads::Lease && paxos.lease < paxos.heartbeat {
            let message = format!(
                "target.lease ({:?}) is shorter than target.heartbeat ({:?}), so no lease would ever be in force",
                paxos.lease, paxos.heartbeat
            );
            return Err(fields.problem("lease", message).suggest("make the lease longer"));
        }
        Ok(paxos)
    }

    fn write(&self) -> Value {
        map([
            ("kind", "paxos".into()),
            ("nodes", self.nodes.into()),
            ("reads", name(PAXOS_READS, &self.reads)),
            ("lease", time(self.lease)),
            ("heartbeat", time(self.heartbeat)),
            ("election_timeout", time(self.election_timeout)),
            ("max_clock_drift_ppm", self.max_clock_drift_ppm.into()),
            ("attempt_timeout", time(self.attempt_timeout)),
            ("snapshot_every", self.snapshot_every.into()),
            ("bug", bug_name(self.bug)),
        ])
    }
}

impl Quorum {
    fn read(mut fields: Fields<'_>) -> Result<Quorum, Problem> {
        let nodes = nodes(&mut fields, 1, 5)?;
        // Not more than the most nodes there can be, to begin with: that it is more than the
        // nodes there are deserves words of its own.
        let replicas = count(&mut fields, "replicas", 1..=MAX_NODES, nodes)?;
        let majority = replicas.min(nodes) / 2 + 1;
        let quorum = Quorum {
            nodes,
            replicas,
            read_quorum: count(&mut fields, "read_quorum", 1..=MAX_NODES, majority)?,
            write_quorum: count(&mut fields, "write_quorum", 1..=MAX_NODES, majority)?,
            timestamps: fields.get("timestamps").map_or(Ok(Timestamps::Logical), |field| field.choice(TIMESTAMPS))?,
            write_back: flag(&mut fields, "write_back", true)?,
            read_repair: flag(&mut fields, "read_repair", true)?,
            request_timeout: wait(&mut fields, "request_timeout", Duration::from_millis(500))?,
            attempt_timeout: wait(&mut fields, "attempt_timeout", ATTEMPT_TIMEOUT * 3)?,
            snapshot_every: snapshot_every(&mut fields)?,
            bug: bug(&mut fields, Mode::Quorum)?,
        };
        fields.finish("target (quorum)")?;
        if replicas > nodes {
            let message = format!("target.replicas is {replicas}, but there are only {nodes} nodes");
            return Err(fields.problem("replicas", message).suggest("raise target.nodes or lower target.replicas"));
        }
        for (key, size) in [("read_quorum", quorum.read_quorum), ("write_quorum", quorum.write_quorum)] {
            if size > replicas {
                let message = format!("target.{key} is {size}, but a key has only {replicas} replicas");
                return Err(fields.problem(key, message).suggest(format!("choose from 1 to {replicas}")));
            }
        }
        Ok(quorum)
    }

    fn write(&self) -> Value {
        map([
            ("kind", "quorum".into()),
            ("nodes", self.nodes.into()),
            ("replicas", self.replicas.into()),
            ("read_quorum", self.read_quorum.into()),
            ("write_quorum", self.write_quorum.into()),
            ("timestamps", name(TIMESTAMPS, &self.timestamps)),
            ("write_back", self.write_back.into()),
            ("read_repair", self.read_repair.into()),
            ("request_timeout", time(self.request_timeout)),
            ("attempt_timeout", time(self.attempt_timeout)),
            ("snapshot_every", self.snapshot_every.into()),
            ("bug", bug_name(self.bug)),
        ])
    }
}

impl PrimaryBackup {
    fn read(mut fields: Fields<'_>) -> Result<PrimaryBackup, Problem> {
        let failover = fields.get("failover").map(|field| field.choice(FAILOVER)).transpose()?;
        // A primary and a backup, and a third voter where there is a vote: of two nodes neither
        // can outvote the other.
        let third = matches!(failover, None | Some(Failover::Vote));
        let nodes = nodes(&mut fields, 2, if third { 3 } else { 2 })?;
        let primary_backup = PrimaryBackup {
            nodes,
            replication: fields.get("replication").map_or(Ok(Replication::Sync), |field| field.choice(REPLICATION))?,
            failover: failover.unwrap_or(if nodes >= 3 { Failover::Vote } else { Failover::Fenced }),
            reads: fields
                .get("reads")
                .map_or(Ok(PrimaryBackupReads::Primary), |field| field.choice(PRIMARY_BACKUP_READS))?,
            heartbeat: wait(&mut fields, "heartbeat", Duration::from_millis(50))?,
            failover_timeout: wait(&mut fields, "failover_timeout", Duration::from_millis(400))?,
            attempt_timeout: wait(&mut fields, "attempt_timeout", ATTEMPT_TIMEOUT)?,
            snapshot_every: snapshot_every(&mut fields)?,
            bug: bug(&mut fields, Mode::PrimaryBackup)?,
        };
        fields.finish("target (primary-backup)")?;
        if primary_backup.failover == Failover::Vote && nodes < 3 {
            let message = format!("target.failover: vote needs at least 3 nodes, and target.nodes is {nodes}");
            return Err(fields
                .problem("failover", message)
                .suggest("of 2 nodes neither can outvote the other; use 3 nodes, or failover: fenced"));
        }
        check_heartbeat(&fields, primary_backup.heartbeat, "failover_timeout", primary_backup.failover_timeout)?;
        Ok(primary_backup)
    }

    fn write(&self) -> Value {
        map([
            ("kind", "primary-backup".into()),
            ("nodes", self.nodes.into()),
            ("replication", name(REPLICATION, &self.replication)),
            ("failover", name(FAILOVER, &self.failover)),
            ("reads", name(PRIMARY_BACKUP_READS, &self.reads)),
            ("heartbeat", time(self.heartbeat)),
            ("failover_timeout", time(self.failover_timeout)),
            ("attempt_timeout", time(self.attempt_timeout)),
            ("snapshot_every", self.snapshot_every.into()),
            ("bug", bug_name(self.bug)),
        ])
    }
}

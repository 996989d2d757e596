//! What is to be run, and how it ended.

use std::path::PathBuf;
use std::time::Duration;

use duress_fault::Schedule;
use duress_history::Host;
use duress_seed::Seed;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use tokio::sync::watch;

use crate::Onlooker;

/// What is to be run.
pub struct Plan {
    /// The scenario's name.
    pub scenario: SmolStr,
    /// The run directory; it exists, and `history.jsonl` in it does not.
    pub directory: PathBuf,
    /// The members of the target.
    pub nodes: Vec<Host>,
    /// The client hosts.
    pub clients: Vec<Host>,
    /// How many processes are at work at a time.
    pub concurrency: usize,
    /// How long the main phase lasts.
    pub time: Duration,
    /// What is done to the target meanwhile.
    pub schedule: Schedule,
    /// Fixes everything that is asked for.
    pub seed: Seed,
    /// How long the healed target may take to answer again.
    pub recovery: Duration,
    /// So many nodes, drawn from the seed, are healed first and must answer within
    /// [`recovery`](Plan::recovery), while all others are down or cut off from everybody. `None`:
    /// everything is healed at once.
    pub heal_first: Option<usize>,
    /// An operation may take this long before its client host is given up on.
    pub patience: Duration,
    /// The name of the operation by which nodes are asked whether they serve.
    pub probe: &'static str,
    /// Whether the resource that locks protect checks tokens.
    pub fencing: bool,
    /// Kinds of faults that are claimed but not carried out: for tests that such a run is not
    /// taken for a proven one.
    pub sabotage: Vec<SmolStr>,
    /// The main phase ends when this many operations have ended.
    pub max_operations: u64,
    /// Who looks on, and may end the main phase.
    pub onlooker: Option<Onlooker>,
    /// Where to write every frame between hosts, as a pcapng file, if anywhere.
    pub capture: Option<PathBuf>,
}

/// How a run ended, apart from its history.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Ended {
    /// From the start of deployment until every node was ready.
    pub deployed: Duration,
    /// From the start of deployment until a client got its first answer.
    pub serving: Duration,
    /// How long the main phase lasted.
    pub main: Duration,
    /// From the healing of all faults until every node answered; `None` if that never came.
    pub recovery: Option<Duration>,
    /// The nodes that were down or cut off when the others, a quorum, did not answer in time; empty
    /// if that was not asked for or did not happen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub away: Vec<Host>,
    /// Somebody stopped the run before its time.
    pub interrupted: bool,
    /// The onlooker ended the main phase before its time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub seen_enough: bool,
    /// CPU time of the harness in the main phase: fabric, clients' slots, nemesis, recorder.
    pub harness_cpu: Duration,
    /// CPU time of the client hosts in the main phase.
    pub clients_cpu: Duration,
    /// Frames in the capture, and frames that came too fast for it or found it full; `None` if
    /// there is no capture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub captured: Option<(u64, u64)>,
}

/// Tells a run to stop early: it heals, stops the target and ends its history properly.
pub type Stop = watch::Receiver<bool>;

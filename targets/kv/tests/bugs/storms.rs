//! The named storms in which planted bugs are looked for. Each takes a bug or none, and a seed.

use std::time::Duration;

use duress_kv::api::Op;
use duress_kv::bugs::Bug;
use duress_kv::paxos::{self, Paxos};
use duress_kv::primary_backup::{self, Failover, PrimaryBackup};
use duress_kv::quorum::{self, Quorum};
use duress_machine::NodeId;
use duress_machine::client::Policy;
use duress_seed::Seed;

use crate::cluster::{Settings, Storm, patient};
use crate::world::{Load, World, judge, millis};

type Found = Option<String>;

fn everything() -> Storm {
    Storm { partitions: true, crashes: true, pauses: true, every: millis(150), until: millis(3000) }
}

fn power_cuts() -> Storm {
    Storm { partitions: false, crashes: true, pauses: false, every: millis(250), until: millis(3000) }
}

/// Repeats what has not been answered soon.
fn impatient() -> Policy {
    Policy { attempt_timeout: millis(40), backoff: millis(5), ..patient() }
}

fn slow_disks(settings: Settings) -> Settings {
    Settings { sync: (millis(1), millis(80)), ..settings }
}

// Paxos.

fn paxos(nodes: u16, bug: Option<Bug>, seed: u64) -> paxos::Config {
    paxos::Config { bug, snapshot_every: 50, ..paxos::Config::new(nodes, Seed(seed)) }
}

fn paxos_world(config: paxos::Config, settings: Settings, storm: Storm) -> World<Paxos> {
    World::new(config, settings, storm)
}

pub(crate) fn paxos_power_cuts(bug: Option<Bug>, seed: u64) -> Found {
    paxos_world(paxos(3, bug, seed), slow_disks(Settings::calm(seed, 3)), power_cuts()).run()
}

pub(crate) fn paxos_slow_disks(bug: Option<Bug>, seed: u64) -> Found {
    paxos_world(paxos(3, bug, seed), slow_disks(Settings::calm(seed, 3)), everything()).run()
}

/// Leaders and candidates come thick and fast.
pub(crate) fn paxos_impatient_five(bug: Option<Bug>, seed: u64) -> Found {
    let config = paxos::Config { heartbeat: millis(10), election_timeout: millis(40), ..paxos(5, bug, seed) };
    paxos_world(config, Settings::rough(seed, 5), everything()).run()
}

pub(crate) fn paxos_impatient_three(bug: Option<Bug>, seed: u64) -> Found {
    let config = paxos::Config { heartbeat: millis(10), election_timeout: millis(40), ..paxos(3, bug, seed) };
    paxos_world(config, Settings::rough(seed, 3), everything()).run()
}

/// Clients repeat what has not been answered soon, and snapshots are taken all the time.
pub(crate) fn paxos_impatient_clients(bug: Option<Bug>, seed: u64) -> Found {
    let config = paxos::Config { heartbeat: millis(15), election_timeout: millis(60), ..paxos(3, bug, seed) };
    let config = paxos::Config { snapshot_every: 4, ..config };
    let storm = Storm { pauses: false, every: millis(60), ..everything() };
    World { policy: impatient(), ..paxos_world(config, slow_disks(Settings::calm(seed, 3)), storm) }.run()
}

/// Messages of leaders that were paused for a while.
pub(crate) fn paxos_pauses(bug: Option<Bug>, seed: u64) -> Found {
    let config = paxos::Config { heartbeat: millis(15), election_timeout: millis(60), ..paxos(3, bug, seed) };
    let storm = Storm { crashes: false, every: millis(100), ..everything() };
    paxos_world(config, Settings::calm(seed, 3), storm).run()
}

/// Snapshots are taken all the time, are sent to whoever missed a little, and arrive late and twice.
pub(crate) fn paxos_late_snapshots(bug: Option<Bug>, seed: u64) -> Found {
    let config = paxos::Config { snapshot_every: 4, ..paxos(3, bug, seed) };
    let settings = Settings { delay: (millis(0), millis(60)), loss: 0.2, duplicate: 0.4, ..Settings::calm(seed, 3) };
    let storm = Storm { crashes: false, until: millis(5000), ..everything() };
    paxos_world(config, settings, storm).run()
}

pub(crate) fn paxos_of_four(bug: Option<Bug>, seed: u64) -> Found {
    paxos_world(paxos(4, bug, seed), Settings::calm(seed, 4), everything()).run()
}

pub(crate) fn paxos_of_five(bug: Option<Bug>, seed: u64) -> Found {
    paxos_world(paxos(5, bug, seed), Settings::calm(seed, 5), everything()).run()
}

/// Messages take longer than nodes have patience.
pub(crate) fn paxos_very_rough(bug: Option<Bug>, seed: u64) -> Found {
    let config = paxos::Config { heartbeat: millis(10), election_timeout: millis(40), ..paxos(3, bug, seed) };
    let settings = Settings { delay: (millis(0), millis(80)), duplicate: 0.2, ..Settings::rough(seed, 3) };
    paxos_world(config, settings, everything()).run()
}

/// Power cuts all the time, on slow disks.
pub(crate) fn paxos_restarts(bug: Option<Bug>, seed: u64) -> Found {
    let config = paxos::Config { heartbeat: millis(10), election_timeout: millis(40), ..paxos(3, bug, seed) };
    let storm = Storm { every: millis(40), pauses: false, ..everything() };
    paxos_world(config, slow_disks(Settings::calm(seed, 3)), storm).run()
}

/// Nodes answer from leases. Clocks run at rates that differ by as much as is allowed. Writers
/// leave a leader that is cut off long before its lease has run out; readers stay.
fn lease_world(lease: Duration, bug: Option<Bug>, seed: u64) -> World<Paxos> {
    let config = paxos::Config {
        reads: paxos::Reads::Lease,
        lease,
        max_clock_drift_ppm: 600_000,
        heartbeat: millis(15),
        election_timeout: millis(60),
        ..paxos(3, bug, seed)
    };
    let world = paxos_world(config, Settings::calm(seed, 3), everything());
    World { policy: impatient(), readers: patient(), drift: 0.3, ..world }
}

/// A script: the leader, whose clock is slow, is cut off; the others, whose clocks are fast, go on
/// and write, while readers stay with the leader. With `restarts` the others restart when the cut
/// comes.
fn deposed_leader(lease: Duration, restarts: bool, bug: Option<Bug>, seed: u64) -> Found {
    let mut cluster = lease_world(lease, bug, seed).started();
    let [n1, n2, n3] = [NodeId(0), NodeId(1), NodeId(2)];
    cluster.run_for(millis(500));
    cluster.partition(&[n1]);
    for (node, rate) in [(n1, 0.7), (n2, 1.3), (n3, 1.3)] {
        cluster.set_rate(node, rate);
        if restarts && node != n1 {
            cluster.crash(node);
            cluster.start(node);
        }
    }
    cluster.run_for(millis(600));
    cluster.stop_clients();
    judge(&cluster, Load::Registers)
}

pub(crate) fn paxos_deposed_leader(bug: Option<Bug>, seed: u64) -> Found {
    deposed_leader(millis(60), false, bug, seed)
}

pub(crate) fn paxos_deposed_long_lease(bug: Option<Bug>, seed: u64) -> Found {
    deposed_leader(millis(180), false, bug, seed)
}

pub(crate) fn paxos_deposed_by_restarted(bug: Option<Bug>, seed: u64) -> Found {
    deposed_leader(millis(180), true, bug, seed)
}

/// A script: again and again the leader is paused, cut off once what was on its way has arrived,
/// and asked when it goes on.
pub(crate) fn paxos_paused_leader(bug: Option<Bug>, seed: u64) -> Found {
    let mut cluster = World { drift: 0.0, ..lease_world(millis(60), bug, seed) }.started();
    for _ in 0..10 {
        cluster.heal();
        cluster.run_for(millis(300));
        let Some(leader) = cluster.leader() else { continue };
        cluster.pause(leader);
        cluster.run_for(millis(10));
        cluster.partition(&[leader]);
        cluster.run_for(millis(250));
        cluster.resume(leader);
        for key in ["k0", "k1", "k2"] {
            cluster.call(leader, Policy { max_attempts: 1, ..patient() }, Op::Read { key: key.into() });
        }
    }
    cluster.stop_clients();
    cluster.run_for(millis(300));
    judge(&cluster, Load::Registers)
}

pub(crate) fn paxos_locks(bug: Option<Bug>, seed: u64) -> Found {
    World { load: Load::Locks, ..paxos_world(paxos(3, bug, seed), Settings::calm(seed, 3), everything()) }.run()
}

// Primary-backup.

fn primary_backup(nodes: u16, failover: Failover, bug: Option<Bug>, seed: u64) -> primary_backup::Config {
    primary_backup::Config { bug, failover, snapshot_every: 64, ..primary_backup::Config::new(nodes, Seed(seed)) }
}

fn vote(nodes: u16, bug: Option<Bug>, settings: Settings, storm: Storm) -> World<PrimaryBackup> {
    World::new(primary_backup(nodes, Failover::Vote, bug, settings.seed), settings, storm)
}

fn slower(storm: Storm) -> Storm {
    Storm { every: millis(300), until: millis(5000), ..storm }
}

pub(crate) fn vote_everything(bug: Option<Bug>, seed: u64) -> Found {
    vote(3, bug, Settings::calm(seed, 3), slower(everything())).run()
}

pub(crate) fn vote_power_cuts(bug: Option<Bug>, seed: u64) -> Found {
    vote(3, bug, slow_disks(Settings::calm(seed, 3)), slower(power_cuts())).run()
}

pub(crate) fn vote_slow_disks(bug: Option<Bug>, seed: u64) -> Found {
    vote(3, bug, slow_disks(Settings::calm(seed, 3)), slower(everything())).run()
}

fn impatient_vote(nodes: u16, bug: Option<Bug>, settings: Settings) -> World<PrimaryBackup> {
    let config = primary_backup(nodes, Failover::Vote, bug, settings.seed);
    let config = primary_backup::Config { heartbeat: millis(15), failover_timeout: millis(60), ..config };
    World::new(config, settings, everything())
}

/// Clients repeat what has not been answered soon.
pub(crate) fn vote_impatient_clients(bug: Option<Bug>, seed: u64) -> Found {
    let policy = impatient();
    World { policy, ..impatient_vote(3, bug, slow_disks(Settings::calm(seed, 3))) }.run()
}

/// Power cuts all the time, on slow disks.
pub(crate) fn vote_restarts(bug: Option<Bug>, seed: u64) -> Found {
    let storm = Storm { every: millis(40), pauses: false, ..everything() };
    World { storm, ..impatient_vote(3, bug, slow_disks(Settings::calm(seed, 3))) }.run()
}

pub(crate) fn vote_of_four(bug: Option<Bug>, seed: u64) -> Found {
    vote(4, bug, Settings::calm(seed, 4), slower(everything())).run()
}

pub(crate) fn vote_locks(bug: Option<Bug>, seed: u64) -> Found {
    World { load: Load::Locks, ..vote(3, bug, Settings::calm(seed, 3), slower(everything())) }.run()
}

pub(crate) fn fenced_everything(bug: Option<Bug>, seed: u64) -> Found {
    let config = primary_backup(3, Failover::Fenced, bug, seed);
    World::<PrimaryBackup>::new(config, Settings::calm(seed, 3), slower(everything())).run()
}

// Quorum.

fn quorum(bug: Option<Bug>, settings: Settings, storm: Storm) -> World<Quorum> {
    let seed = Seed(settings.seed);
    let config = quorum::Config { bug, snapshot_every: 64, ..quorum::Config::new(settings.nodes, 2, 2, seed) };
    // Repeating a write that may have taken effect could write it twice.
    let once = Policy { exactly_once: false, ..patient() };
    World { policy: once, readers: once, ..World::new(config, settings, storm) }
}

pub(crate) fn quorum_everything(bug: Option<Bug>, seed: u64) -> Found {
    quorum(bug, Settings::calm(seed, 3), everything()).run()
}

pub(crate) fn quorum_rough(bug: Option<Bug>, seed: u64) -> Found {
    quorum(bug, Settings::rough(seed, 3), everything()).run()
}

pub(crate) fn quorum_very_rough(bug: Option<Bug>, seed: u64) -> Found {
    let settings = Settings { delay: (millis(0), millis(60)), loss: 0.2, duplicate: 0.2, ..Settings::calm(seed, 3) };
    quorum(bug, settings, everything()).run()
}

pub(crate) fn quorum_power_cuts(bug: Option<Bug>, seed: u64) -> Found {
    quorum(bug, slow_disks(Settings::calm(seed, 3)), power_cuts()).run()
}

pub(crate) fn quorum_locks(bug: Option<Bug>, seed: u64) -> Found {
    World { load: Load::Locks, ..quorum(bug, Settings::calm(seed, 3), everything()) }.run()
}

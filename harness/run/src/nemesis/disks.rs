//! Faults of disks: what is wrong with the file systems under the nodes' data directories, and what
//! system calls show of it.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use duress_backend::disks::{Call, Calls, Conditions, Counters, Disk, Flip, Loss, Syncs};
use duress_fault::{DiskHarm, HostHarm, Resolved};
use duress_history::{Host, Stage};
use duress_seed::Seed;
use tokio::time::Instant;

use super::{Found, InForce, Nemesis, READY, blocking};
use crate::RunError;

/// How often a measurement that contradicts the claim is repeated before it is believed: on a
/// busy machine a call may take long.
const ATTEMPTS: usize = 4;
/// A node that stopped because of its disk is looked for this often.
const GLANCE: Duration = Duration::from_millis(20);

/// What is in force on disks.
#[derive(Default)]
pub(super) struct Force {
    /// What each node's disk does, by the faults' numbers.
    harms: BTreeMap<Host, Vec<(u64, DiskHarm)>>,
    /// The bits that each fault has flipped.
    flips: BTreeMap<(u64, Host), Flip>,
    /// What each fault's power loss took.
    losses: BTreeMap<(u64, Host), Loss>,
    /// What was synced right before the latest power loss.
    planted: BTreeMap<Host, Vec<u8>>,
    /// What had happened on a disk before a fault.
    before: BTreeMap<(u64, Host), Counters>,
}

impl Force {
    /// What is claimed to be wrong with a node's disk.
    fn conditions(&self, host: &Host) -> Conditions {
        let mut all = Conditions::default();
        for (_, harm) in self.harms.get(host).into_iter().flatten() {
            match harm {
                DiskHarm::Slow(by) => all.slow = all.slow.max(*by),
                DiskHarm::Full => all.full = true,
                DiskHarm::ReadOnly => all.read_only = true,
                DiskHarm::ReadError => all.read_error = true,
                DiskHarm::SyncFails => all.syncs = Syncs::Fail,
                // A sync that fails says so, whatever else is wrong.
                DiskHarm::SyncLies if all.syncs != Syncs::Fail => all.syncs = Syncs::Lie,
                DiskHarm::SyncLies | DiskHarm::BitFlip => {}
            }
        }
        all
    }
}

impl Nemesis {
    fn disk(&self, host: &Host) -> Result<Arc<dyn Disk>, RunError> {
        let disk = self.cluster.node_index(host).and_then(|node| self.cluster.disk(node)).cloned();
        disk.ok_or_else(|| RunError::Harness(format!("{host} has no disk that fails on demand")))
    }

    pub(super) async fn harm_disks(
        self: &Arc<Self>,
        in_force: &InForce,
        harm: HostHarm,
        force: &mut super::Force,
        real: bool,
    ) -> Result<(), RunError> {
        let (number, resolved) = (in_force.number, &in_force.resolved);
        for host in &resolved.hosts {
            let disk = self.disk(host)?;
            force.disks.before.insert((number, host.clone()), disk.counters());
            if let HostHarm::PowerLoss { .. } = harm {
                let planted = blocking(move || disk.plant()).await??;
                force.disks.planted.insert(host.clone(), planted);
            }
        }
        match harm {
            HostHarm::PowerLoss { torn } => {
                self.harm_processes(resolved, HostHarm::Kill, force, real).await?;
                for host in resolved.hosts.iter().filter(|_| real) {
                    let (disk, seed) = (self.disk(host)?, self.seed_of("torn", number, host));
                    let loss = blocking(move || disk.power_loss(torn.then_some(seed))).await??;
                    force.disks.losses.insert((number, host.clone()), loss);
                }
            }
            HostHarm::Disk(harm) => {
                for host in &resolved.hosts {
                    force.disks.harms.entry(host.clone()).or_default().push((number, harm));
                    if !real {
                        continue;
                    }
                    let (disk, seed) = (self.disk(host)?, self.seed_of("flip", number, host));
                    let conditions = force.disks.conditions(host);
                    disk.set(conditions);
                    if harm == DiskHarm::BitFlip
                        && let Some(flip) = blocking(move || disk.flip(seed)).await??
                    {
                        force.disks.flips.insert((number, host.clone()), flip);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What is decided about one fault's deed to one disk.
    fn seed_of(&self, what: &str, number: u64, host: &Host) -> Seed {
        let node = self.cluster.node_index(host).unwrap_or_default() as u64;
        Seed(self.seed.derive(what).decide(&[number, node]).bits())
    }

    pub(super) async fn mend_disks(
        self: &Arc<Self>,
        in_force: &InForce,
        harm: HostHarm,
        force: &mut super::Force,
    ) -> Result<(), RunError> {
        let (number, resolved) = (in_force.number, &in_force.resolved);
        if let HostHarm::PowerLoss { .. } = harm {
            return self.mend_processes(resolved, HostHarm::Kill, force).await;
        }
        for host in &resolved.hosts {
            if let Some(harms) = force.disks.harms.get_mut(host) {
                harms.retain(|(other, _)| *other != number);
            }
            let (disk, conditions) = (self.disk(host)?, force.disks.conditions(host));
            disk.set(conditions);
            if let Some(flip) = force.disks.flips.get(&(number, host.clone())).cloned() {
                blocking(move || disk.mend(&flip)).await??;
            }
        }
        Ok(())
    }

    /// What is wrong with disks that a fault is about to hit.
    pub(super) async fn wrong_disks(
        self: &Arc<Self>,
        resolved: &Resolved,
        harm: HostHarm,
        force: &super::Force,
    ) -> Result<Vec<String>, RunError> {
        let mut wrong = match harm {
            HostHarm::PowerLoss { .. } => self.wrong_processes(resolved, force).await,
            _ => Vec::new(),
        };
        for host in &resolved.hosts {
            wrong.extend(self.probe_disk(host, force, None).await?.err());
        }
        Ok(wrong)
    }

    /// Measures what a stage of a fault claims of its disks, and of the nodes that use them.
    pub(super) async fn measure_disks(
        self: &Arc<Self>,
        in_force: &InForce,
        harm: HostHarm,
        force: &super::Force,
        stage: Stage,
    ) -> Result<Found, RunError> {
        let mut found = match (harm, stage) {
            (HostHarm::PowerLoss { .. }, _) => self.measure_processes(in_force, HostHarm::Kill, force, stage).await,
            _ => Found::default(),
        };
        let healed = match harm {
            HostHarm::Disk(DiskHarm::Slow(by)) if stage == Stage::End => Some(by),
            _ => None,
        };
        for host in &in_force.resolved.hosts {
            let key = (in_force.number, host.clone());
            let claim = match (harm, stage) {
                (HostHarm::PowerLoss { .. }, Stage::Start) => self.measure_loss(&key, force).await?,
                (HostHarm::Disk(DiskHarm::BitFlip), Stage::Start) => self.measure_flip(&key, force).await?,
                _ => self.probe_disk(host, force, healed).await?,
            };
            match claim {
                Ok(seen) => found.seen.push(seen),
                Err(wrong) => found.wrong.push(wrong),
            }
            if let (HostHarm::Disk(_), Stage::End) = (harm, stage) {
                match self.is_served(host, force).await? {
                    Ok(seen) => found.seen.push(seen),
                    Err(wrong) => found.wrong.push(wrong),
                }
            }
            let before = force.disks.before.get(&key).copied().unwrap_or_default();
            let now = self.disk(host)?.counters();
            for (name, now, before) in [
                ("calls_failed", now.failed(), before.failed()),
                ("calls_slowed", now.slowed, before.slowed),
                ("syncs_lied", now.syncs_lied, before.syncs_lied),
                ("bits_flipped", now.bits_flipped, before.bits_flipped),
                ("bytes_lost", now.bytes_lost, before.bytes_lost),
                ("names_lost", now.names_lost, before.names_lost),
                ("bytes_torn", now.bytes_torn, before.bytes_torn),
            ] {
                *found.figures.entry(name.into()).or_default() += now.saturating_sub(before) as f64;
            }
        }
        found.figures.retain(|_, figure| *figure > 0.0);
        Ok(found)
    }

    /// After a power loss what had been synced is there, and what had not is not.
    async fn measure_loss(&self, key: &(u64, Host), force: &super::Force) -> Result<Result<String, String>, RunError> {
        let host = &key.1;
        let Some(planted) = force.disks.planted.get(host).cloned() else {
            return Ok(Err(format!("{host}: nothing was written for the power loss to take")));
        };
        let disk = self.disk(host)?;
        let read = blocking(move || disk.planted()).await?;
        let loss = force.disks.losses.get(key).copied().unwrap_or_default();
        let torn = if loss.torn > 0 { format!(", {} of a torn write kept", loss.torn) } else { String::new() };
        Ok(match read {
            Ok(bytes) if bytes == planted => Ok(format!(
                "{host}: what was synced is there and what was not is gone ({} bytes lost{torn})",
                loss.bytes
            )),
            // Another fault lies over this one: then the read proves nothing against it.
            Err(_) if force.disks.conditions(host).read_error => Ok(format!("{host}: {} bytes lost{torn}", loss.bytes)),
            Ok(_) => Err(format!("{host}: what was not synced is still there")),
            Err(error) => Err(format!("{host}: what was synced can't be read: {error}")),
        })
    }

    /// The flipped byte, as programs read it.
    async fn measure_flip(&self, key: &(u64, Host), force: &super::Force) -> Result<Result<String, String>, RunError> {
        let host = &key.1;
        let Some(flip) = force.disks.flips.get(key).cloned() else {
            return Ok(Err(format!("{host}: no bit was flipped")));
        };
        let Flip { path, offset, before, after, .. } = flip;
        let place = format!("byte {offset} of {}", path.display());
        let disk = self.disk(host)?;
        let read = blocking(move || disk.byte(&path, offset)).await?;
        Ok(match read {
            Ok(read) if read == after && (before ^ after).count_ones() == 1 => {
                Ok(format!("{host}: {place} reads {after:#04x} instead of {before:#04x}"))
            }
            Err(_) if force.disks.conditions(host).read_error => Ok(format!("{host}: a bit of {place} is flipped")),
            Ok(read) => Err(format!("{host}: {place} reads {read:#04x}")),
            Err(error) => Err(format!("{host}: {place} can't be read: {error}")),
        })
    }

    /// What a disk does, against all that is claimed to be wrong with it. After a fault that made it
    /// slow was healed, it must also be faster than that.
    async fn probe_disk(
        &self,
        host: &Host,
        force: &super::Force,
        healed: Option<Duration>,
    ) -> Result<Result<String, String>, RunError> {
        let claimed = force.disks.conditions(host);
        let mut result = Ok(String::new());
        for _ in 0..ATTEMPTS {
            let disk = self.disk(host)?;
            let seen = blocking(move || disk.probe()).await?;
            result = against(&seen, &claimed, healed);
            if result.is_ok() {
                break;
            }
        }
        let named = |words: String| format!("{host}: {words}");
        Ok(result.map(named).map_err(named))
    }

    /// Starts a node again that stopped because of its disk, and waits until it answers; unless
    /// something else keeps it away.
    async fn is_served(
        self: &Arc<Self>,
        host: &Host,
        force: &super::Force,
    ) -> Result<Result<String, String>, RunError> {
        let node = self.node(host)?;
        let deadline = Instant::now() + READY;
        if force.processes.down().any(|down| down == host) || force.disks.conditions(host) != Conditions::default() {
            return Ok(Ok(format!("{host} is not free yet")));
        }
        loop {
            // It may hear of the last failed call only now.
            if self.cluster.is_halted(node) {
                self.cluster.repair_node(node, READY).await?;
            }
            if !self.cluster.is_up(node) {
                return Ok(Ok(format!("{host} is kept down by something else")));
            }
            let ready = self.cluster.wait_ready(node, READY).await;
            if ready.is_ok() && self.cluster.is_up(node) {
                return Ok(Ok(format!("{host} runs")));
            }
            if Instant::now() > deadline {
                return Ok(Err(format!("{host} doesn't run")));
            }
            tokio::time::sleep(GLANCE).await;
        }
    }
}

/// What it shows, in words, if it is what these conditions make of a disk; and else what is not.
fn against(answered: &Calls, claimed: &Conditions, healed: Option<Duration>) -> Result<String, String> {
    let Conditions { slow, full, read_only, read_error, syncs } = *claimed;
    let fails = |fails: bool, error: i32| if fails { Err(error) } else { Ok(()) };
    let write = fails(read_only, libc::EROFS);
    let mut calls = vec![
        ("writes", answered.write, write),
        ("reads", answered.read, fails(read_error, libc::EIO)),
        ("longer files", answered.grow, write.and(fails(full, libc::ENOSPC))),
    ];
    if !read_only {
        calls.push(("syncs", answered.sync, fails(syncs == Syncs::Fail, libc::EIO)));
    }
    let mut wrong: Vec<String> = calls
        .iter()
        .filter(|(_, found, claimed)| found != claimed)
        .map(|(what, found, _)| format!("{what} {}", outcome(*found)))
        .collect();
    if !read_only && answered.durable != (syncs == Syncs::Work) {
        wrong.push(format!("what is synced is {}durable", if answered.durable { "" } else { "not " }));
    }
    if answered.quickest < slow {
        wrong.push(format!("a call took {:?} only", answered.quickest));
    }
    if let Some(healed) = healed
        && slow < healed
        && answered.quickest >= healed
    {
        wrong.push(format!("every call still takes {:?} or more", answered.quickest));
    }
    if !wrong.is_empty() {
        return Err(wrong.join(", "));
    }
    let mut seen: Vec<String> = calls
        .iter()
        .filter(|(_, found, _)| found.is_err())
        .map(|(what, found, _)| format!("{what} {}", outcome(*found)))
        .collect();
    if !read_only && syncs == Syncs::Lie {
        seen.push("syncs succeed and nothing is durable".into());
    }
    if !slow.is_zero() {
        seen.push(format!("every call takes {:?} or more", answered.quickest));
    }
    if seen.is_empty() {
        seen.push("writes, syncs and reads work".into());
    }
    Ok(seen.join(", "))
}

fn outcome(call: Call) -> String {
    match call {
        Ok(()) => "work".into(),
        Err(libc::EIO) => "fail with EIO".into(),
        Err(libc::ENOSPC) => "fail with ENOSPC".into(),
        Err(libc::EROFS) => "fail with EROFS".into(),
        Err(other) => format!("fail: {}", io::Error::from_raw_os_error(other)),
    }
}

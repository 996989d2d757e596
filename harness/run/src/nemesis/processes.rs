//! Faults of processes: killed, stopped, and what the kernel shows of that.

use std::collections::BTreeMap;
use std::sync::Arc;

use duress_deploy::ProcessState;
use duress_fault::{HostHarm, Resolved};
use duress_history::{Host, Stage};
use tokio::time::Instant;

use super::{Found, InForce, Nemesis, READY, blocking, release};
use crate::RunError;

/// What is in force on processes.
#[derive(Default)]
pub(super) struct Force {
    paused: BTreeMap<Host, usize>,
    crashed: BTreeMap<Host, usize>,
}

impl Force {
    /// The hosts whose processes don't run.
    pub(super) fn down(&self) -> impl Iterator<Item = &Host> {
        self.paused.keys().chain(self.crashed.keys())
    }
}

/// Whether it can be done to real processes.
pub(super) fn implemented(harm: &HostHarm) -> bool {
    matches!(harm, HostHarm::Kill | HostHarm::Stop)
}

impl Nemesis {
    pub(super) async fn harm_processes(
        self: &Arc<Self>,
        resolved: &Resolved,
        harm: HostHarm,
        force: &mut super::Force,
        real: bool,
    ) -> Result<(), RunError> {
        for host in &resolved.hosts {
            let cluster = self.cluster.clone();
            match harm {
                HostHarm::Kill => {
                    let node = self.node(host)?;
                    *force.processes.crashed.entry(host.clone()).or_default() += 1;
                    if real {
                        blocking(move || cluster.kill_node(node)).await??;
                    }
                }
                _ => {
                    *force.processes.paused.entry(host.clone()).or_default() += 1;
                    let host = host.clone();
                    if real {
                        blocking(move || cluster.set_paused(&host, true)).await??;
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) async fn mend_processes(
        self: &Arc<Self>,
        resolved: &Resolved,
        harm: HostHarm,
        force: &mut super::Force,
    ) -> Result<(), RunError> {
        let force = &mut force.processes;
        for host in &resolved.hosts {
            match harm {
                HostHarm::Kill => {
                    release(&mut force.crashed, host);
                    if !force.crashed.contains_key(host) {
                        self.cluster.start_node(self.node(host)?)?;
                    }
                }
                _ => {
                    release(&mut force.paused, host);
                    if !force.paused.contains_key(host) {
                        let (cluster, host) = (self.cluster.clone(), host.clone());
                        blocking(move || cluster.set_paused(&host, false)).await??;
                    }
                }
            }
        }
        Ok(())
    }

    /// What is wrong with processes that a fault is about to hit.
    pub(super) async fn wrong_processes(&self, resolved: &Resolved, force: &super::Force) -> Vec<String> {
        let mut wrong = Vec::new();
        for host in &resolved.hosts {
            // As for a pause: it runs, unless something else holds it down.
            let (claim, ok) = self.measure_process(HostHarm::Stop, host, &force.processes, Stage::Start).await;
            if !ok {
                wrong.push(claim);
            }
        }
        wrong
    }

    pub(super) async fn measure_processes(
        &self,
        in_force: &InForce,
        harm: HostHarm,
        force: &super::Force,
        stage: Stage,
    ) -> Found {
        let mut found = Found::default();
        for host in &in_force.resolved.hosts {
            let (claim, ok) = self.measure_process(harm, host, &force.processes, stage).await;
            if ok { found.seen.push(claim) } else { found.wrong.push(claim) }
        }
        found
    }

    /// The state of one process against what is claimed of it.
    async fn measure_process(&self, harm: HostHarm, host: &Host, force: &Force, stage: Stage) -> (String, bool) {
        let began = Instant::now();
        let restarted = harm == HostHarm::Kill && stage == Stage::End && !force.crashed.contains_key(host);
        if restarted && !force.paused.contains_key(host) {
            let ready = match self.cluster.node_index(host) {
                Some(node) => self.cluster.wait_ready(node, READY).await,
                None => Err(RunError::Harness(format!("{host} is no node"))),
            };
            return match ready {
                Ok(()) => (format!("{host} answers again after {} ms", began.elapsed().as_millis()), true),
                Err(e) => (e.to_string(), false),
            };
        }
        let state = self.cluster.process_state(host);
        let ok = if force.crashed.contains_key(host) {
            state == ProcessState::Gone
        } else if force.paused.contains_key(host) {
            state == ProcessState::Stopped
        } else {
            state == ProcessState::Running
        };
        (format!("the process of {host} is {state}"), ok)
    }
}

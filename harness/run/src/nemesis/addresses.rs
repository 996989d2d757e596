//! Nodes that come back under another address: killed, moved at the heal, and looked for at both
//! addresses.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use duress_fault::{HostHarm, Resolved};
use duress_history::{Host, Stage};

use super::{Found, InForce, Nemesis, blocking};
use crate::RunError;

/// An address that says nothing for so long is dead.
const SILENCE: Duration = Duration::from_millis(150);

impl Nemesis {
    /// Whether the nodes can be told of each other's new addresses.
    pub(super) fn can_move(&self, resolved: &Resolved) -> bool {
        resolved.hosts.iter().all(|host| self.cluster.node_index(host).is_some_and(|node| self.cluster.can_move(node)))
    }

    /// Moves the hosts and starts their nodes again.
    pub(super) async fn move_nodes(
        self: &Arc<Self>,
        resolved: &Resolved,
        force: &mut super::Force,
    ) -> Result<(), RunError> {
        for host in &resolved.hosts {
            let (cluster, node) = (self.cluster.clone(), self.node(host)?);
            let moved = blocking(move || cluster.renumber(node)).await??;
            force.moved.insert(host.clone(), moved);
        }
        self.mend_processes(resolved, HostHarm::Kill, force).await
    }

    /// Whether the nodes are gone, or back at their new addresses and nowhere else.
    pub(super) async fn measure_moves(
        self: &Arc<Self>,
        in_force: &InForce,
        force: &super::Force,
        stage: Stage,
    ) -> Result<Found, RunError> {
        let mut found = self.measure_processes(in_force, HostHarm::Kill, force, stage).await;
        if stage == Stage::End {
            for host in &in_force.resolved.hosts {
                if let Some((old, new)) = force.moved.get(host).copied() {
                    let (nemesis, host) = (self.clone(), host.clone());
                    found.claim(blocking(move || nemesis.seen_at(&host, old, new)).await??);
                }
            }
        }
        Ok(found)
    }

    /// Whether another host finds this one at its new address and not at the old one. One that is
    /// cut off from it finds it at neither, so all of them are asked.
    fn seen_at(&self, host: &Host, old: Ipv4Addr, new: Ipv4Addr) -> Result<(String, bool), RunError> {
        let site = &self.cluster.site;
        let others = self.cluster.node_names.iter().chain(&self.cluster.client_names);
        for other in others.filter(|other| *other != host) {
            if site.answers(other, new, SILENCE)? {
                let gone = !site.answers(other, old, SILENCE)?;
                let still = if gone { "is silent" } else { "answers still" };
                return Ok((format!("{host} answers {other} at {new}, and {old} {still}"), gone));
            }
        }
        Ok((format!("nobody finds {host} at {new}"), false))
    }
}

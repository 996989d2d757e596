//! Counts which faults meet whom in which situation.

use duress_fault::{Effect, LinkHarm, Resolved};
use duress_machine::Role;

use crate::host::role_name;
use crate::state::Running;

impl Running<'_> {
    /// Counts whom a fault meets in which situation.
    pub(super) fn cover(&mut self, resolved: &Resolved) {
        let nodes = self.plan.nodes.len();
        let roles: Vec<Option<Role>> = (0..nodes).map(|node| self.status(node).map(|status| status.role)).collect();
        let when = self.situation(&roles);
        let role = |host: usize| match roles.get(host) {
            None => "client",
            Some(None) => "dead node",
            Some(Some(role)) => role_name(*role),
        };
        let links = self.links_of(resolved);
        if links.is_empty() {
            for host in self.victims(resolved) {
                self.s.coverage.count(resolved.kind, role(host), when);
            }
            return;
        }
        // A node that can't hear a majority of the nodes, itself included, is isolated.
        for node in 0..nodes {
            let loses = |to: usize| links.iter().filter(|(a, b)| *b == node && *a < to).count();
            let hit = links.iter().any(|(from, to)| *from == node || *to == node);
            let isolated = resolved.effect == Effect::Links(LinkHarm::Cut) && (nodes - loses(nodes)) * 2 <= nodes;
            if isolated {
                self.s.coverage.count("isolated", role(node), when);
            } else if hit {
                self.s.coverage.count(resolved.kind, role(node), when);
            }
        }
    }

    /// What the cluster is doing.
    fn situation(&self, roles: &[Option<Role>]) -> &'static str {
        let any = |wanted: Role| roles.iter().flatten().any(|role| *role == wanted);
        let leaders = roles.iter().flatten().filter(|role| role.leads()).count();
        let leaderless = any(Role::Replica);
        if any(Role::Candidate) {
            "during an election"
        } else if leaders > 1 {
            "with two leaders"
        } else if leaders == 0 && !leaderless {
            "without a leader"
        } else if any(Role::Recovering) {
            "while a node recovers"
        } else if self.s.busy_slots > 0 {
            "with operations under way"
        } else {
            "at rest"
        }
    }
}

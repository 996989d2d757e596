//! Faults of hosts: what they do to simulated nodes and client hosts, and how it shows.

use std::time::Duration;

use duress_fault::{DiskHarm, HostHarm, Share};
use duress_history::{Host, Stage};
use duress_machine::Machine;
use duress_machine::client::Answer;

use super::Measured;
use super::processes::least;
use crate::Service;
use crate::event::Event;
use crate::phases::nanos;
use crate::world::{InForce, Running};

/// Whether the simulator can do this.
pub(super) fn simulated(harm: &HostHarm) -> bool {
    match harm {
        HostHarm::Kill | HostHarm::Stop | HostHarm::Slow(_) | HostHarm::PowerLoss { .. } => true,
        HostHarm::Clock { .. } => true,
        HostHarm::CrashLoop { .. } | HostHarm::Memory { .. } | HostHarm::Descriptors { .. } => true,
        HostHarm::Disk(harm) => matches!(harm, DiskHarm::Slow(_) | DiskHarm::Full),
        _ => false,
    }
}

impl<M: Machine, S: Service<M>> Running<'_, '_, M, S>
where
    M::Response: Answer,
{
    /// Does to one host what a fault does.
    pub(super) fn strike(&mut self, fault: u64, host: usize, harm: HostHarm) {
        let nodes = self.plan.nodes.len();
        if let HostHarm::Clock { clocks, change } = harm {
            return self.skew(host, (clocks, change), false);
        }
        if let Some(client) = host.checked_sub(nodes) {
            match harm {
                HostHarm::Stop => {
                    self.s.hosts[client].paused_by += 1;
                    self.stop_client(client);
                }
                HostHarm::Slow(share) => {
                    self.s.hosts[client].slow.push(share);
                    self.after(0, Event::Again { fault, host: host as u16 });
                }
                _ => {}
            }
            return;
        }
        let node = host as u16;
        match harm {
            HostHarm::Kill | HostHarm::PowerLoss { .. } => {
                self.s.nodes[host].crashed_by += 1;
                self.kill(node, matches!(harm, HostHarm::PowerLoss { .. }));
                self.node_is_back(node, true);
            }
            HostHarm::Stop => {
                let state = &mut self.s.nodes[host];
                state.paused_by += 1;
                state.stopped = state.up();
            }
            HostHarm::Disk(DiskHarm::Slow(by)) => self.s.nodes[host].disk.slower += nanos(by),
            HostHarm::Disk(DiskHarm::Full) => self.s.nodes[host].disk.full = true,
            HostHarm::Slow(share) => self.s.nodes[host].slow.push(share),
            _ => self.strike_process(fault, node, harm),
        }
    }

    /// Undoes it. Returns whether the host has to start.
    pub(super) fn relieve(&mut self, fault: u64, host: usize, harm: HostHarm) -> bool {
        let nodes = self.plan.nodes.len();
        if let HostHarm::Clock { clocks, change } = harm {
            self.skew(host, (clocks, change), true);
            return false;
        }
        if let Some(client) = host.checked_sub(nodes) {
            let state = &mut self.s.hosts[client];
            match harm {
                HostHarm::Stop => state.paused_by -= 1,
                HostHarm::Slow(share) => release(&mut state.slow, share),
                _ => {}
            }
            if state.paused_by == 0 && state.stopped {
                self.resume_client(client);
            }
            return false;
        }
        let node = host as u16;
        let state = &mut self.s.nodes[host];
        match harm {
            HostHarm::Kill | HostHarm::PowerLoss { .. } => state.crashed_by -= 1,
            HostHarm::Stop => {
                state.paused_by -= 1;
                if state.paused_by == 0 {
                    self.resume(node);
                }
            }
            HostHarm::Disk(DiskHarm::Slow(by)) => state.disk.slower -= nanos(by),
            HostHarm::Disk(DiskHarm::Full) => state.disk.full = false,
            HostHarm::Slow(share) => release(&mut state.slow, share),
            _ => self.relieve_process(fault, node, harm),
        }
        let ends_lives = matches!(
            harm,
            HostHarm::Kill
                | HostHarm::PowerLoss { .. }
                | HostHarm::CrashLoop { .. }
                | HostHarm::Memory { .. }
                | HostHarm::Disk(DiskHarm::Full)
        );
        if !ends_lives || self.s.nodes[host].crashed_by > 0 {
            return false;
        }
        self.start_node(node);
        self.s.nodes[host].starting
    }

    /// The state of one host against what is claimed of it.
    pub(super) fn measure_host(
        &self,
        one: &InForce,
        harm: HostHarm,
        host: usize,
        stage: Stage,
        figures: &mut Measured,
    ) -> (String, bool) {
        let nodes = self.plan.nodes.len();
        let name = match host.checked_sub(nodes) {
            None => &self.plan.nodes[host],
            Some(client) => &self.plan.clients[client],
        };
        let start = stage == Stage::Start;
        match harm {
            HostHarm::Clock { clocks, change } => self.measure_clocks(one, (clocks, change), host, stage, figures),
            HostHarm::Disk(DiskHarm::Slow(by)) => {
                let slower = self.s.nodes.get(host).map_or(0, |node| node.disk.slower);
                let words = format!("a sync of {name} takes {:?} longer", Duration::from_nanos(slower));
                (words, !start || slower >= nanos(by))
            }
            HostHarm::Slow(share) if host < nodes => {
                let gets = least(&self.s.nodes[host].slow);
                (format!("{name} runs for {gets} of the time"), !start || gets <= share)
            }
            HostHarm::Disk(DiskHarm::Full) if start => {
                (format!("the disk of {name} is full"), self.s.nodes.get(host).is_some_and(|node| node.disk.full))
            }
            _ => match self.measure_wants(one, harm, host, stage, figures) {
                Some(found) => found,
                None => self.measure_process(one, harm, host, name, stage),
            },
        }
    }

    fn measure_process(&self, one: &InForce, harm: HostHarm, host: usize, name: &Host, stage: Stage) -> (String, bool) {
        let Some(node) = self.s.nodes.get(host) else {
            let client = &self.s.hosts[host - self.plan.nodes.len()];
            let state = if client.stopped { "stopped" } else { "running" };
            let ok = client.stopped == (client.paused_by > 0) || !client.slow.is_empty();
            return (format!("the process of {name} is {state}"), ok);
        };
        let restarted = stage == Stage::End && harm != HostHarm::Stop && node.crashed_by == 0;
        if restarted && node.up() {
            let took = Duration::from_nanos(self.s.now - one.healed_at);
            return (format!("{name} answers again after {} ms", took.as_millis()), true);
        }
        let state = match (node.up(), node.stopped) {
            (false, _) => "gone",
            (true, true) => "stopped",
            (true, false) => "running",
        };
        let expected =
            match (node.crashed_by > 0 || node.down_by.is_some() || node.halted || node.starting, node.paused_by > 0) {
                (true, _) => "gone",
                (false, true) => "stopped",
                (false, false) => "running",
            };
        (format!("the process of {name} is {state}"), state == expected)
    }
}

fn release(shares: &mut Vec<Share>, share: Share) {
    if let Some(at) = shares.iter().position(|other| *other == share) {
        shares.swap_remove(at);
    }
}

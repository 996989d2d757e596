//! Faults of hosts: what they do to simulated nodes and client hosts, and how it shows.

use std::time::Duration;

use duress_conductor::InForce;
use duress_fault::{DiskHarm, HostHarm, Share};
use duress_history::{Host, Stage};

use super::Measured;
use crate::event::Event;
use crate::host::least;
use crate::node::Death;
use crate::state::{Running, about};

impl Running<'_> {
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
            HostHarm::Kill | HostHarm::NewAddress | HostHarm::PowerLoss { .. } => {
                self.s.nodes[host].crashed_by += 1;
                self.kill(
                    node,
                    if let HostHarm::PowerLoss { torn } = harm { Death::PowerLoss { torn } } else { Death::Killed },
                );
                self.node_is_back(node, true);
            }
            HostHarm::Stop => {
                let state = &mut self.s.nodes[host];
                state.paused_by += 1;
                state.stopped = state.up();
            }
            HostHarm::Disk(harm) => {
                let decision = self.decide(about::FLIP, u64::from(node), fault);
                self.s.nodes[host].disk.harm(harm, decision, self.fleet);
            }
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
            // Everybody is told of it out of band, before the node is up: nobody asks at the old one.
            HostHarm::NewAddress => {
                state.crashed_by -= 1;
                state.moves += 1;
            }
            HostHarm::Stop => {
                state.paused_by -= 1;
                if state.paused_by == 0 {
                    self.resume(node);
                }
            }
            HostHarm::Disk(harm) => state.disk.mend(harm),
            HostHarm::Slow(share) => release(&mut state.slow, share),
            _ => self.relieve_process(fault, node, harm),
        }
        let ends_lives = match harm {
            HostHarm::Kill
            | HostHarm::NewAddress
            | HostHarm::PowerLoss { .. }
            | HostHarm::CrashLoop { .. }
            | HostHarm::Memory { .. } => true,
            HostHarm::Disk(_) => self.s.nodes[host].halted,
            _ => false,
        };
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
            HostHarm::Clock { clocks, .. } => self.measure_clocks(clocks, host, stage, figures),
            HostHarm::Slow(share) if host < nodes => {
                let gets = least(&self.s.nodes[host].slow);
                (format!("{name} runs for {gets} of the time"), !start || gets <= share)
            }
            HostHarm::Disk(harm) if start => self.measure_disk(harm, host, name),
            _ => match self.measure_wants(one, harm, host, stage, figures) {
                Some(found) => found,
                None => self.measure_process(one, harm, host, name, stage),
            },
        }
    }

    /// What is wrong with a node's disk, against what is claimed of it.
    fn measure_disk(&self, harm: DiskHarm, host: usize, name: &Host) -> (String, bool) {
        let Some(disk) = self.s.nodes.get(host).map(|node| &node.disk) else {
            return (format!("{name} has no disk"), false);
        };
        let words = match harm {
            DiskHarm::Slow(by) => {
                return (format!("a sync of {name} takes {:?} longer", disk.slower()), disk.slower() >= by);
            }
            DiskHarm::BitFlip if !disk.is_flipped() => return (format!("no bit of {name} is flipped"), false),
            DiskHarm::BitFlip => format!("a bit of the log of {name} is flipped"),
            DiskHarm::Full => format!("the disk of {name} is full"),
            DiskHarm::ReadOnly => format!("the disk of {name} is read-only"),
            DiskHarm::SyncFails => format!("syncs of {name} fail"),
            DiskHarm::SyncLies => format!("syncs of {name} lie"),
            DiskHarm::ReadError => format!("the disk of {name} can't be read"),
        };
        (words, disk.is(harm))
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
            let took = Duration::from_nanos(self.s.now - one.undone_at);
            let place = match harm {
                HostHarm::NewAddress => format!(" at its address no. {}", node.moves + 1),
                _ => String::new(),
            };
            return (format!("{name} answers again after {} ms{place}", took.as_millis()), true);
        }
        let state = match (node.up(), node.stopped) {
            (false, _) => "gone",
            (true, true) => "stopped",
            (true, false) => "running",
        };
        let expected =
            match (node.crashed_by > 0 || self.is_shut_off(host) || node.halted || node.starting, node.paused_by > 0) {
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

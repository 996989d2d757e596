//! Faults of processes that strike more than once, or leave them too little: crash loops, slow
//! client hosts, too little memory, too few descriptors. (Nodes that are slow find their turns by
//! themselves.)

use std::time::Duration;

use duress_conductor::InForce;
use duress_fault::{Effect, HostHarm, SLICE};
use duress_history::Stage;
use smol_str::format_smolstr;

use super::Measured;
use crate::event::Event;
use crate::host::role_name;
use crate::node::Death;
use crate::plan::nanos;
use crate::state::Running;

/// How long a slice of the processor's time is.
const SLICE_NANOS: u64 = SLICE.as_nanos() as u64;

impl Running<'_> {
    /// Does to a node what a fault does, if it is one of these.
    pub(super) fn strike_process(&mut self, fault: u64, node: u16, harm: HostHarm) {
        let wants = &mut self.s.nodes[usize::from(node)].wants;
        match harm {
            HostHarm::CrashLoop { .. } => {
                if wants.loops.is_empty() {
                    wants.looped = 0;
                }
                wants.loops.push(fault);
                self.ends_life(fault, node);
            }
            HostHarm::Memory { .. } => {
                wants.starving.push(fault);
                // It may never want more; if it does, nobody knows when.
                let dies = self.plan.seed.derive("nemesis").decide(&[fault, u64::from(node), 0]);
                if dies.chance(0.75) {
                    let lasts = self.plan.schedule.iter().find(|timed| timed.number == fault);
                    let lasts = nanos(lasts.map_or(Duration::ZERO, |timed| timed.lasts));
                    let when = self.plan.seed.derive("nemesis").decide(&[fault, u64::from(node), 1]);
                    self.after(when.below(lasts.max(1)), Event::Again { fault, host: node });
                }
            }
            HostHarm::Descriptors { spare } => wants.spare.push((fault, spare)),
            _ => {}
        }
    }

    /// Undoes it.
    pub(super) fn relieve_process(&mut self, fault: u64, node: u16, harm: HostHarm) {
        let wants = &mut self.s.nodes[usize::from(node)].wants;
        match harm {
            HostHarm::CrashLoop { .. } => wants.loops.retain(|other| *other != fault),
            HostHarm::Memory { .. } => wants.starving.retain(|other| *other != fault),
            HostHarm::Descriptors { .. } => wants.spare.retain(|(other, _)| *other != fault),
            _ => {}
        }
    }

    /// A client host's turn on the processor begins or ends.
    fn slow_client(&mut self, fault: u64, client: usize) {
        let host = (self.plan.nodes.len() + client) as u16;
        let state = &mut self.s.hosts[client];
        let awake = SLICE_NANOS / 1_000_000 * u64::from(state.share().parts());
        if state.stopped || awake == SLICE_NANOS {
            if state.paused_by == 0 {
                self.resume_client(client);
            }
            self.after(awake, Event::Again { fault, host });
        } else {
            self.stop_client(client);
            self.after(SLICE_NANOS - awake, Event::Again { fault, host });
        }
    }

    /// A fault strikes a host once more, if it is still in force.
    pub(crate) fn strikes_again(&mut self, fault: u64, host: u16) {
        let in_force = self.s.conductor.fault(fault).filter(|one| one.is_standing());
        let Some(Effect::Hosts(harm)) = in_force.map(|one| one.resolved.effect) else { return };
        match harm {
            HostHarm::Memory { .. } => self.starves(host),
            HostHarm::Slow(_) => {
                let Some(client) = usize::from(host).checked_sub(self.plan.nodes.len()) else { return };
                let name = &self.plan.clients[client];
                // Of several such faults the first one tells when its turns are.
                let slows = |one: &&InForce| {
                    let slow = matches!(one.resolved.effect, Effect::Hosts(HostHarm::Slow(_)));
                    slow && one.is_standing() && one.resolved.hosts.contains(name)
                };
                match self.s.conductor.in_force().iter().find(slows).is_some_and(|first| first.number == fault) {
                    true => self.slow_client(fault, client),
                    false => self.after(SLICE_NANOS, Event::Again { fault, host }),
                }
            }
            _ => {}
        }
    }

    /// A crash loop ends a life of a node, and begins another.
    pub(super) fn ends_life(&mut self, fault: u64, node: u16) {
        let state = &mut self.s.nodes[usize::from(node)];
        if state.up() || state.starting {
            state.wants.looped += 1;
            self.kill(node, Death::Killed);
        }
        if self.s.nodes[usize::from(node)].crashed_by == 0 {
            self.start_node(node);
        }
        // Those who wait for its earlier start needn't any longer.
        self.node_is_back(node, true);
        let orders = self.s.conductor.struck(fault, node.into(), self.s.now);
        self.follow(orders);
    }

    /// A node wants more memory than it may have.
    fn starves(&mut self, node: u16) {
        let state = &self.s.nodes[usize::from(node)];
        if !state.up() || state.stopped {
            return;
        }
        let role = self.status(usize::from(node)).map_or("node", |status| role_name(status.role));
        self.s.coverage.count("died of want of memory", role, "");
        self.kill(node, Death::Killed);
        let state = &mut self.s.nodes[usize::from(node)];
        state.halted = true;
        state.wants.starved += 1;
        self.node_is_back(node, true);
    }

    /// What shows of such a fault; `None` if nothing does but that the process runs.
    pub(super) fn measure_wants(
        &self,
        one: &InForce,
        harm: HostHarm,
        host: usize,
        stage: Stage,
        figures: &mut Measured,
    ) -> Option<(String, bool)> {
        let Some(node) = self.s.nodes.get(host) else { return self.measure_slow_client(harm, host, stage) };
        let (name, wants) = (&self.plan.nodes[host], &node.wants);
        Some(match (harm, stage) {
            (HostHarm::CrashLoop { .. }, Stage::Start) => {
                (format!("{name} was killed {} times so far", wants.looped), wants.looped >= 1)
            }
            (HostHarm::CrashLoop { .. }, Stage::End) => {
                figures.insert(format_smolstr!("lives_{name}"), wants.looped as f64);
                let back = node.up() || node.starting || node.crashed_by > 0 || self.is_shut_off(host);
                (format!("{name} was killed {} times", wants.looped), back && wants.looped >= 2)
            }
            (HostHarm::Memory { headroom }, Stage::Start) => {
                let claim = format!("{name} may use {headroom} bytes of memory more");
                (claim, wants.starving.contains(&one.number))
            }
            (HostHarm::Memory { .. }, Stage::End) => {
                figures.insert(format_smolstr!("deaths_{name}"), wants.starved as f64);
                return None;
            }
            (HostHarm::Descriptors { .. }, Stage::Start) => {
                let least = wants.spare.iter().map(|(_, spare)| *spare).min();
                let words = least.map_or("any number of".into(), |least| least.to_string());
                (format!("{name} can make {words} new connections"), least.is_some())
            }
            _ => return None,
        })
    }

    /// Whether the cluster itself has shut a node off, or it has ended by itself.
    pub(super) fn is_shut_off(&self, node: usize) -> bool {
        self.s.conductor.down_by(node).is_some()
    }

    fn measure_slow_client(&self, harm: HostHarm, host: usize, stage: Stage) -> Option<(String, bool)> {
        let HostHarm::Slow(share) = harm else { return None };
        let client = host - self.plan.nodes.len();
        let gets = self.s.hosts[client].share();
        let claim = format!("{} runs for {gets} of the time", self.plan.clients[client]);
        Some((claim, stage == Stage::End || gets <= share))
    }
}

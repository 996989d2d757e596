//! Random faults from the seed.

use std::time::Duration;

use duress_machine::NodeId;

use super::{Cluster, Event, Service};

/// Which faults a storm brings.
#[derive(Clone, Copy, Debug)]
pub struct Storm {
    pub partitions: bool,
    pub crashes: bool,
    pub pauses: bool,
    /// The mean time between faults.
    pub every: Duration,
    pub until: Duration,
}

pub(super) struct Fault(Storm);

impl<M: Service> Cluster<M> {
    /// Lets faults happen until the storm's end; nothing is healed at its end but by
    /// [`heal`](Cluster::heal).
    pub fn storm(&mut self, storm: Storm) {
        self.later(storm.every, Event::Fault(Fault(storm)));
    }

    pub(super) fn fault(&mut self, Fault(storm): Fault) {
        if self.now >= storm.until {
            return;
        }
        let node = NodeId(self.decide(&[20]).below(u64::from(self.settings.nodes)) as u16);
        let choices: Vec<u64> = [
            storm.partitions.then_some(0),
            storm.partitions.then_some(1),
            storm.partitions.then_some(2),
            storm.crashes.then_some(3),
            storm.crashes.then_some(4),
            storm.crashes.then_some(4),
            storm.crashes.then_some(7),
            storm.pauses.then_some(5),
            storm.pauses.then_some(6),
        ]
        .into_iter()
        .flatten()
        .collect();
        match self.decide(&[21]).pick(&choices) {
            Some(0) => self.heal_links(),
            Some(1) => {
                let members = self.decide(&[22]).bits();
                let group: Vec<NodeId> =
                    self.node_ids().into_iter().filter(|node| members >> (node.0 % 64) & 1 == 1).collect();
                self.heal_links();
                self.partition(&group);
            }
            Some(2) => {
                let other = NodeId(self.decide(&[23]).below(u64::from(self.settings.nodes)) as u16);
                if other != node {
                    self.cut(node, other);
                }
            }
            Some(3) => self.crash(node),
            Some(4) => {
                for node in self.node_ids() {
                    if self.decide(&[24]).chance(0.7) {
                        self.start(node);
                    }
                }
            }
            Some(7) => {
                // A power cut: everybody at once, perhaps but for one, and some are back at once.
                let spared = self.decide(&[27]).chance(0.5).then_some(node);
                for node in self.node_ids() {
                    if Some(node) != spared {
                        self.crash(node);
                    }
                }
                for node in self.node_ids() {
                    if self.decide(&[26]).chance(0.7) {
                        self.start(node);
                    }
                }
            }
            Some(5) => self.pause(node),
            Some(6) => {
                for node in self.node_ids() {
                    self.resume(node);
                }
            }
            _ => {}
        }
        let gap = self.decide(&[25]).between(Duration::ZERO, storm.every * 2);
        self.later(gap, Event::Fault(Fault(storm)));
    }
}

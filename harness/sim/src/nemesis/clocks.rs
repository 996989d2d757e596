//! Faults of clocks: what they do to simulated hosts, and how it shows.

use std::time::Duration;

use duress_fault::{ClockChange, Clocks, Effect, HostHarm};
use duress_history::{Host, Stage};

use super::Measured;
use crate::clock::Clock;
use crate::state::Running;

/// A second, in nanoseconds: over which rates are measured.
const SECOND: u64 = 1_000_000_000;

/// One of a host's two clocks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hand {
    Wall,
    Monotonic,
}

impl Hand {
    fn of(clocks: Clocks) -> &'static [Hand] {
        match clocks {
            Clocks::Wall => &[Hand::Wall],
            Clocks::Monotonic => &[Hand::Monotonic],
            Clocks::All => &[Hand::Wall, Hand::Monotonic],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Hand::Wall => "wall",
            Hand::Monotonic => "monotonic",
        }
    }

    fn ahead(self, clock: &Clock, now: u64) -> i64 {
        let ahead = clock.ahead(now);
        if self == Hand::Wall { ahead.wall } else { ahead.monotonic }
    }
}

impl Running<'_> {
    /// Changes a host's clocks, or takes the change back; whatever waits for them there waits anew.
    pub(super) fn skew(&mut self, host: usize, (clocks, change): (Clocks, ClockChange), heal: bool) {
        let (nodes, now) = (self.plan.nodes.len(), self.s.now);
        let clock = match host.checked_sub(nodes) {
            None => &mut self.s.nodes[host].clock,
            Some(client) => &mut self.s.hosts[client].clock,
        };
        match heal {
            false => clock.skew(clocks, change, now),
            true => clock.heal(clocks, change, now),
        }
        match host.checked_sub(nodes) {
            None => self.wait_anew(host as u16),
            Some(client) => self.client_waits_anew(client),
        }
    }

    /// What a host's clocks show, against what is claimed of them; in figures, too.
    pub(super) fn measure_clocks(
        &self,
        clocks: Clocks,
        host: usize,
        stage: Stage,
        figures: &mut Measured,
    ) -> (String, bool) {
        let nodes = self.plan.nodes.len();
        let now = self.s.now;
        let (name, clock) = match host.checked_sub(nodes) {
            None => (&self.plan.nodes[host], &self.s.nodes[host].clock),
            Some(client) => (&self.plan.clients[client], &self.s.hosts[client].clock),
        };
        let in_force = self.changes_of(name);
        let (mut words, mut well) = (Vec::new(), true);
        for hand in Hand::of(clocks) {
            let on: Vec<ClockChange> =
                in_force.iter().filter(|(clocks, _)| Hand::of(*clocks).contains(hand)).map(|(_, c)| *c).collect();
            let ahead = hand.ahead(clock, now);
            // Over twice a strobe's period it is where it was.
            let strobe = on.iter().rev().find_map(|change| match change {
                ClockChange::Strobe { by, every } => Some((*by, nanos(*every).max(1))),
                _ => None,
            });
            let span = strobe.map_or(SECOND, |(_, every)| 2 * every);
            let gained = hand.ahead(clock, now + span) - ahead;
            let ppm = gained as f64 / span as f64 * 1e6;
            let frozen = on.contains(&ClockChange::Freeze);
            let rate = |change: &ClockChange| if let ClockChange::Rate(ppm) = change { f64::from(*ppm) } else { 0.0 };
            let expected = if frozen { -1e6 } else { on.iter().map(rate).sum::<f64>().max(-1e6) };
            // What a rate that is healed by now had gained is still there at the end.
            let as_claimed = match (&on[..], strobe) {
                ([], _) => ppm.abs() <= 1.0 && (ahead == 0 || *hand == Hand::Monotonic && ahead > 0),
                ([ClockChange::Jump(by)], _) if stage == Stage::Start => {
                    ahead == *by || *hand == Hand::Monotonic && ahead > *by
                }
                (_, Some((by, every))) => (hand.ahead(clock, now + every) - ahead).abs() >= by.abs() / 2,
                _ => (ppm - expected).abs() <= 50.0 || frozen && ppm < -400_000.0,
            };
            well &= as_claimed;
            let milliseconds = ahead as f64 / 1e6;
            words.push(format!("the {} clock of {name} is {milliseconds:.3} ms ahead, {ppm:+.1} ppm", hand.name()));
            figures.insert(format!("{name}_{}_ahead_ms", hand.name()).into(), milliseconds);
            figures.insert(format!("{name}_{}_ppm", hand.name()).into(), ppm);
        }
        (words.join(", "), well)
    }

    /// What is in force on a host's clocks.
    fn changes_of(&self, host: &Host) -> Vec<(Clocks, ClockChange)> {
        let others =
            self.s.conductor.in_force().iter().filter(|one| one.is_standing() && one.resolved.hosts.contains(host));
        others
            .filter_map(|one| match one.resolved.effect {
                Effect::Hosts(HostHarm::Clock { clocks, change }) => Some((clocks, change)),
                _ => None,
            })
            .collect()
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX >> 8)
}

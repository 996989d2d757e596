//! Multi-Paxos, for the model checker.

use std::time::Duration;

use duress_kv::paxos::{Ballot, Config, Message, Paxos, Timer};
use duress_machine::{Machine, Role};

use super::{Pace, Subject, command_words};
use crate::model::NOW;

impl Subject for Paxos {
    const HAS_LEADER: bool = true;

    const WARM_UP_TICK: bool = false;

    fn tamed(config: &Config) -> Config {
        config.clone()
    }

    fn nodes(config: &Config) -> u16 {
        config.nodes.max(1)
    }

    fn long(config: &Config) -> Duration {
        (config.election_timeout + config.lease + config.heartbeat) * 10
    }

    fn paces(&self, _: &Config, timer: Timer) -> &'static [Pace] {
        let leads = self.status(NOW).role == Role::Leader;
        match timer {
            // An election timer that runs out before its deadline only sets itself again.
            Timer::Election => &[Pace::Late],
            // A heartbeat, or stepping down for having heard of no majority.
            Timer::Tick if leads => &[Pace::OnTime, Pace::Late],
            // A candidate repeats itself. What it said the first time may as well arrive late.
            Timer::Tick => &[],
        }
    }

    fn bounded_term(config: &Config, term: u64) -> u64 {
        term / u64::from(config.nodes.max(1))
    }

    fn words(_: &Config, message: &Message) -> String {
        let name = |ballot: &Ballot| format!("ballot {}.{}", ballot.round, ballot.node);
        match message {
            Message::PreVote { ballot, .. } => format!("would you promise {}?", name(ballot)),
            Message::PreVoted { ballot, granted: true, .. } => format!("I would promise {}", name(ballot)),
            Message::PreVoted { ballot, granted: false, .. } => format!("I would not promise {}", name(ballot)),
            Message::Prepare { ballot, commit } => format!("prepare {} from slot {}", name(ballot), commit + 1),
            Message::Promise { ballot, first, entries, .. } if entries.is_empty() => {
                format!("promise of {}, nothing accepted from slot {first} on", name(ballot))
            }
            Message::Promise { ballot, first, entries, .. } => format!(
                "promise of {}, accepted from slot {first} on: {}",
                name(ballot),
                command_words(entries.iter().map(|(_, command)| command))
            ),
            Message::Reject { ballot, promised } => format!("no to {}: {} is promised", name(ballot), name(promised)),
            Message::Accept { ballot, commit, commands, .. } if commands.is_empty() => {
                format!("heartbeat of {}, chosen up to {commit}", name(ballot))
            }
            Message::Accept { ballot, commit, first, commands, .. } => format!(
                "accept in {} from slot {first} on: {}; chosen up to {commit}",
                name(ballot),
                command_words(commands.iter())
            ),
            Message::Accepted { ballot, through, .. } => format!("accepted in {} up to slot {through}", name(ballot)),
            Message::Snapshot { index, .. } => format!("snapshot up to slot {index}"),
            Message::SnapshotReceived { index, received, .. } => {
                format!("{received} bytes of the snapshot up to slot {index} are here")
            }
        }
    }

    fn timer_words(&self, timer: Timer, pace: Pace) -> &'static str {
        match (timer, pace) {
            (Timer::Election, _) => "has heard from no leader",
            (Timer::Tick, Pace::OnTime) => "sends heartbeats",
            (Timer::Tick, Pace::Late) => "asks itself who still follows",
        }
    }
}

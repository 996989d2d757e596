//! Primary-backup, for the model checker.

use std::time::Duration;

use duress_kv::primary_backup::{Config, Failover, Message, PrimaryBackup, Tick};
use duress_machine::Machine;

use super::{Pace, Subject, command_words};
use crate::model::NOW;

impl Subject for PrimaryBackup {
    const HAS_LEADER: bool = true;

    /// Backups learn from a heartbeat that they are in sync in their present life.
    const WARM_UP_TICK: bool = true;

    fn tamed(config: &Config) -> Config {
        // A tick as long as the longest patience: each is the last straw. With shorter ones a
        // node would have to tick many times before it acts, and be in a new state after each.
        Config { heartbeat: config.failover_timeout * 2, ..config.clone() }
    }

    fn nodes(config: &Config) -> u16 {
        config.nodes.max(1)
    }

    fn long(config: &Config) -> Duration {
        config.failover_timeout * 20
    }

    fn paces(&self, config: &Config, _: Tick) -> &'static [Pace] {
        let leads = self.status(NOW).role.leads();
        match config.failover {
            // A primary that ticks late forgives the silent and sends again.
            Failover::Vote | Failover::Fenced if leads => &[Pace::OnTime, Pace::Late],
            _ => &[Pace::OnTime],
        }
    }

    fn bounded_term(_: &Config, term: u64) -> u64 {
        term
    }

    fn words(_: &Config, message: &Message) -> String {
        match message {
            Message::Append { view, entries, commit, .. } if entries.is_empty() => {
                format!("heartbeat of view {view}, committed up to {commit}")
            }
            Message::Append { view, previous, entries, commit, .. } => format!(
                "append in view {view} from {} on: {}; committed up to {commit}",
                previous.index + 1,
                command_words(entries.iter().map(|entry| &entry.command))
            ),
            Message::Ack { view, matched, .. } => format!("I have everything up to {matched} in view {view}"),
            Message::Reject { view, last, .. } => format!("your log of view {view} doesn't join mine at {last}"),
            Message::Snapshot { view, position, .. } => format!("snapshot up to {} of view {view}", position.index),
            Message::SnapshotAck { index, received, .. } => {
                format!("{received} bytes of the snapshot up to {index} are here")
            }
            Message::Newer { view } => format!("it is view {view} already"),
            Message::ViewChange { view, firm: false, .. } => format!("would you let me lead in view {view}?"),
            Message::ViewChange { view, firm: true, .. } => format!("let me lead in view {view}"),
            Message::Promise { view, firm, granted, .. } => format!(
                "{} follow you in view {view}",
                match (firm, granted) {
                    (false, true) => "I would",
                    (false, false) => "I would not",
                    (true, true) => "I will",
                    (true, false) => "I won't",
                }
            ),
        }
    }

    fn timer_words(&self, _: Tick, pace: Pace) -> &'static str {
        match (self.status(NOW).role.leads(), pace) {
            (true, Pace::OnTime) => "ticks, and gives the silent up",
            (true, Pace::Late) => "ticks late, and sends again",
            (false, _) => "has heard from no primary",
        }
    }
}

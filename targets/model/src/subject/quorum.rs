//! Quorums, for the model checker.

use std::time::Duration;

use duress_kv::quorum::{Answer, Ask, Config, Message, Quorum, Tick};

use super::{Pace, Subject};

impl Subject for Quorum {
    const HAS_LEADER: bool = false;

    const WARM_UP_TICK: bool = false;

    fn tamed(config: &Config) -> Config {
        config.clone()
    }

    fn nodes(config: &Config) -> u16 {
        config.nodes.max(1)
    }

    fn long(config: &Config) -> Duration {
        config.request_timeout * 10
    }

    fn paces(&self, _: &Config, _: Tick) -> &'static [Pace] {
        // Asking again is nothing new: the first question may as well arrive late. Giving up is.
        &[Pace::Late]
    }

    fn bounded_term(_: &Config, term: u64) -> u64 {
        term
    }

    fn words(_: &Config, message: &Message) -> String {
        match message {
            Message::Ask { ask: Ask::Query { .. }, .. } => "what have you?".into(),
            Message::Ask { ask: Ask::Store { tag, value, .. }, .. } => {
                format!("keep {value} with tag {}.{}", tag.time, tag.round.node)
            }
            Message::Ask { ask, .. } => format!("{ask:?}"),
            Message::Answer { answer: Answer::Value(None), .. } => "I have nothing".into(),
            Message::Answer { answer: Answer::Value(Some((tag, value))), .. } => {
                format!("I have {value} with tag {}.{}", tag.time, tag.round.node)
            }
            Message::Answer { answer: Answer::Stored, .. } => "it is kept".into(),
            Message::Answer { answer, .. } => format!("{answer:?}"),
            Message::Repair { value, tag, .. } => {
                format!("{value} with tag {}.{} is newer than yours", tag.time, tag.round.node)
            }
        }
    }

    fn timer_words(&self, _: Tick, _: Pace) -> &'static str {
        "gives up on what took too long"
    }
}

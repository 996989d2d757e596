//! Actions and answers in words.

use duress_kv::api::{Reply, Response};

use crate::bounds::Ask;
use crate::state::{Envelope, State};
use crate::step::{Action, Cluster};
use crate::subject::{Pace, Subject};

/// What a client is told. [`is_told`] knows it again.
pub(crate) fn told(client: u8, response: &Response) -> String {
    let answer = match &response.result {
        Ok(Reply::Value(None)) => "it is unset".into(),
        Ok(Reply::Value(Some(value))) => format!("it is {value}"),
        Ok(_) => "done".into(),
        Err(refusal) => refusal.name().into(),
    };
    format!("{} tells client {}: {answer}", response.node, client + 1)
}

/// Whether some words are [`told`]'s.
pub(crate) fn is_told(words: &str) -> bool {
    words.contains(" tells client ")
}

impl<M: Subject> Cluster<M> {
    /// An action in words; with the state before it, in more.
    pub(crate) fn words(&self, action: &Action<M>, before: Option<&State<M>>) -> String {
        let kept = |kept: usize| match kept {
            0 => String::new(),
            1 => ", after one more write has reached its disk".into(),
            more => format!(", after {more} more writes have reached its disk"),
        };
        match action {
            Action::Deliver { envelope: Envelope { from, to, message }, again } => {
                let again = if *again { " (and will again)" } else { "" };
                format!("{to} hears from {from}{again}: {}", M::words(&self.config, message))
            }
            Action::TimeOut { node, timer, pace } => {
                let words = before.and_then(|state| state.nodes.get(usize::from(node.0))).map_or_else(
                    || format!("timer {timer:?} runs out"),
                    |at| at.machine.timer_words(*timer, *pace).into(),
                );
                let prefix = if *pace == Pace::Late { "much time passes; " } else { "" };
                format!("{prefix}{node} {words}")
            }
            Action::Hear { id } => format!("client {} hears the answer", (id.0 >> 16) + 1),
            Action::Synced { node } => format!("{node}'s disk is done"),
            Action::Crash { node, kept: count } => format!("{node} crashes{}, and starts again", kept(*count)),
            Action::Fence { by, node, kept: count } => {
                format!("{node} is shut off for {by}{}, and started again", kept(*count))
            }
            Action::Ask { client, node } => {
                let progress = before.and_then(|state| state.clients.get(usize::from(*client)));
                let asked = progress.and_then(|progress| self.operation(*client, progress.ended));
                match asked {
                    Some((Ask::Read, _)) => format!("client {} asks {node} to read", client + 1),
                    Some((ask, value)) => format!("client {} asks {node} to {ask} {value}", client + 1),
                    None => format!("client {} asks {node}", client + 1),
                }
            }
        }
    }
}

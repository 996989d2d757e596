//! The client's side of a target, as a pure state machine: which node to ask, when to follow a
//! redirect, when to try again, when to give up, and above all what may be concluded.
//!
//! It does no IO: the real client and the simulated one drive the same [`Call`]. The rule it
//! exists to keep is that *unknown never becomes failed*: once a request may have reached a node
//! and no definite answer came back, the outcome is [`Outcome::Unknown`], whatever later attempts
//! say, unless the service applies a repeated request at most once and a later attempt succeeds.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::NodeId;

/// What an answer means for the call, told by the service's own response type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Disposition {
    /// The operation took effect and this is its answer.
    Ok,
    /// The operation certainly did not take effect, and asking again would not help.
    Fail,
    /// This attempt certainly had no effect; ask this node instead.
    Redirect(NodeId),
    /// This attempt certainly had no effect; it may go better later or elsewhere.
    Retry,
    /// This attempt may or may not have taken effect.
    Unknown,
}

/// A service's answers, as the client machine needs to read them.
pub trait Answer {
    /// What this answer means for the call.
    fn disposition(&self) -> Disposition;
}

/// How a client goes about its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// How long a call may take in all.
    pub timeout: Duration,
    /// How long one attempt waits for its answer before it counts as unknown.
    pub attempt_timeout: Duration,
    /// How many requests a call may send at most, redirects included.
    pub max_attempts: u32,
    /// The pause before a retry; redirects are followed at once.
    pub backoff: Duration,
    /// The service applies a repeated request at most once, so an unknown attempt may be repeated.
    pub exactly_once: bool,
    /// Try other nodes on a retry; otherwise the call stays with its node (redirects apart).
    pub roam: bool,
}

/// What happened to the attempt in progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<A> {
    /// The node answered.
    Answered(A),
    /// No connection could be made, so the request was certainly not sent.
    NotSent,
    /// The connection broke, or the attempt's time ran out, after the request may have been sent.
    Lost,
    /// The pause asked for by [`Action::Pause`] is over.
    Paused,
}

/// What the driver does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action<A> {
    /// Send the request to this node and wait at most this long for its answer.
    Send {
        /// Whom to ask.
        to: NodeId,
        /// After this long without an answer the event is [`Event::Lost`].
        within: Duration,
    },
    /// Wait, then report [`Event::Paused`].
    Pause(Duration),
    /// The call is over.
    Done(Outcome<A>),
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<A> {
    /// It took effect.
    Ok {
        /// The answer.
        answer: A,
        /// The node that gave it.
        node: NodeId,
    },
    /// It certainly did not take effect.
    Failed {
        /// The last answer, if any node gave one.
        answer: Option<A>,
    },
    /// Nobody knows.
    Unknown {
        /// The last answer, if any node gave one.
        answer: Option<A>,
    },
}

/// One call in progress.
#[derive(Clone, Debug)]
pub struct Call {
    policy: Policy,
    nodes: u16,
    /// Where the next attempt goes.
    at: NodeId,
    started: Duration,
    attempts: u32,
    /// Some attempt may have taken effect.
    tainted: bool,
}

impl Call {
    /// Starts a call at time `now` of the client's monotonic clock, asking `first` among nodes
    /// `0..nodes`.
    pub fn start<A>(policy: Policy, nodes: u16, first: NodeId, now: Duration) -> (Call, Action<A>) {
        let mut call = Call { policy, nodes: nodes.max(1), at: first, started: now, attempts: 0, tainted: false };
        let action = call.attempt(now, None);
        (call, action)
    }

    /// The node asked last: a good first choice for the client's next call.
    pub fn node(&self) -> NodeId {
        self.at
    }

    /// How many requests have been sent.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// What to do after `event`.
    pub fn on<A: Answer>(&mut self, event: Event<A>, now: Duration) -> Action<A> {
        match event {
            Event::Paused => self.attempt(now, None),
            Event::NotSent => self.again(None, now),
            Event::Lost => self.unknown(None, now),
            Event::Answered(answer) => match answer.disposition() {
                Disposition::Ok => Action::Done(Outcome::Ok { answer, node: self.at }),
                // A definite refusal of this attempt says nothing of an earlier one.
                Disposition::Fail if self.tainted => Action::Done(Outcome::Unknown { answer: Some(answer) }),
                Disposition::Fail => Action::Done(Outcome::Failed { answer: Some(answer) }),
                Disposition::Redirect(to) if to.0 < self.nodes && to != self.at => {
                    self.at = to;
                    self.attempt(now, Some(answer))
                }
                Disposition::Redirect(_) | Disposition::Retry => self.again(Some(answer), now),
                Disposition::Unknown => self.unknown(Some(answer), now),
            },
        }
    }

    fn unknown<A>(&mut self, answer: Option<A>, now: Duration) -> Action<A> {
        self.tainted = true;
        if self.policy.exactly_once { self.again(answer, now) } else { self.give_up(answer) }
    }

    fn again<A>(&mut self, answer: Option<A>, now: Duration) -> Action<A> {
        if self.exhausted(now + self.policy.backoff) {
            return self.give_up(answer);
        }
        if self.policy.roam {
            self.at = NodeId((self.at.0 + 1) % self.nodes);
        }
        Action::Pause(self.policy.backoff)
    }

    fn attempt<A>(&mut self, now: Duration, answer: Option<A>) -> Action<A> {
        if self.exhausted(now) {
            return self.give_up(answer);
        }
        self.attempts += 1;
        let left = (self.started + self.policy.timeout).saturating_sub(now);
        Action::Send { to: self.at, within: left.min(self.policy.attempt_timeout) }
    }

    fn exhausted(&self, at: Duration) -> bool {
        self.attempts >= self.policy.max_attempts || at >= self.started + self.policy.timeout
    }

    fn give_up<A>(&self, answer: Option<A>) -> Action<A> {
        Action::Done(if self.tainted { Outcome::Unknown { answer } } else { Outcome::Failed { answer } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Said(Disposition);
    impl Answer for Said {
        fn disposition(&self) -> Disposition {
            self.0
        }
    }

    fn policy() -> Policy {
        Policy {
            timeout: Duration::from_secs(1),
            attempt_timeout: Duration::from_millis(400),
            max_attempts: 6,
            backoff: Duration::from_millis(10),
            exactly_once: false,
            roam: true,
        }
    }

    #[test]
    fn a_redirect_is_followed_at_once() {
        let (mut call, first) = Call::start::<Said>(policy(), 3, NodeId(2), Duration::ZERO);
        assert_eq!(first, Action::Send { to: NodeId(2), within: Duration::from_millis(400) });
        let next = call.on(Event::Answered(Said(Disposition::Redirect(NodeId(0)))), Duration::from_millis(700));
        assert_eq!(next, Action::Send { to: NodeId(0), within: Duration::from_millis(300) });
    }

    #[test]
    fn lost_then_refused_is_unknown() {
        let (mut call, _) =
            Call::start::<Said>(Policy { exactly_once: true, ..policy() }, 3, NodeId(0), Duration::ZERO);
        assert!(matches!(call.on(Event::<Said>::Lost, Duration::from_millis(1)), Action::Pause(_)));
        assert!(matches!(
            call.on(Event::<Said>::Paused, Duration::from_millis(11)),
            Action::Send { to: NodeId(1), .. }
        ));
        let end = call.on(Event::Answered(Said(Disposition::Fail)), Duration::from_millis(12));
        assert_eq!(end, Action::Done(Outcome::Unknown { answer: Some(Said(Disposition::Fail)) }));
    }

    fn dispositions() -> impl Strategy<Value = Event<Said>> {
        prop_oneof![
            Just(Event::NotSent),
            Just(Event::Lost),
            Just(Event::Answered(Said(Disposition::Retry))),
            Just(Event::Answered(Said(Disposition::Unknown))),
            Just(Event::Answered(Said(Disposition::Fail))),
            (0u16..4).prop_map(|n| Event::Answered(Said(Disposition::Redirect(NodeId(n))))),
        ]
    }

    proptest! {
        #[test]
        fn calls_end_and_unknown_never_becomes_failed(
            script in prop::collection::vec((dispositions(), 0u64..300), 30),
            exactly_once: bool,
            roam: bool,
        ) {
            let policy = Policy { exactly_once, roam, ..policy() };
            let mut now = Duration::ZERO;
            let (mut call, mut action) = Call::start::<Said>(policy, 3, NodeId(1), now);
            let mut unknown = false;
            for (event, millis) in script {
                match action {
                    Action::Done(Outcome::Failed { .. }) => { prop_assert!(!unknown); return Ok(()); }
                    Action::Done(_) => { prop_assert!(unknown); return Ok(()); }
                    Action::Pause(pause) => { now += pause; action = call.on(Event::Paused, now); }
                    Action::Send { to, within } => {
                        prop_assert!(to.0 < 3);
                        now += Duration::from_millis(millis).min(within);
                        unknown |= matches!(event, Event::Lost | Event::Answered(Said(Disposition::Unknown)));
                        action = call.on(event, now);
                    }
                }
            }
            prop_assert!(matches!(action, Action::Done(_)), "30 events did not end the call: {:?}", action);
        }
    }
}

//! What the adapter must know of each mode beyond the machine contract: how its timers may run
//! out so that the clock takes few values, and words for its messages.

mod paxos;
mod primary_backup;
mod quorum;

use std::time::Duration;

use duress_kv::api::{Op, Request, Response};
use duress_kv::store::Command;
use duress_machine::Machine;

/// When a timer that is set runs out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Pace {
    /// At its time, or now if that has passed.
    OnTime,
    /// Long after: so late that every time-out of every node has passed.
    Late,
}

/// A machine that can be explored.
pub(crate) trait Subject:
    Machine<Request = Request, Response = Response, Message: Sync, Record: Sync, Timer: Sync, Config: Sync> + Sync
{
    /// The same protocol with times that make for few clock values. No safety argument of any
    /// mode rests on the lengths of time-outs, except that of lease reads.
    fn tamed(config: &Self::Config) -> Self::Config;

    /// How many nodes there are.
    fn nodes(config: &Self::Config) -> u16;

    /// Longer than all time-outs.
    fn long(config: &Self::Config) -> Duration;

    /// The ways in which a timer may run out that differ in what the machine does.
    fn paces(&self, config: &Self::Config, timer: Self::Timer) -> &'static [Pace];

    /// The number that [`Bounds::terms`](crate::Bounds::terms) bounds, from a status' term.
    fn bounded_term(config: &Self::Config, term: u64) -> u64;

    /// Whether some node is to lead.
    const HAS_LEADER: bool;

    /// Whether a cluster is at work only after every timer has run out once, the leader's first.
    const WARM_UP_TICK: bool;

    /// A message in words, as what somebody receives.
    fn words(config: &Self::Config, message: &Self::Message) -> String;

    /// What the node does whose timer runs out, in words.
    fn timer_words(&self, timer: Self::Timer, pace: Pace) -> &'static str;
}

/// An operation in words.
pub(crate) fn operation_words(op: &Op) -> String {
    match op {
        Op::Read { .. } => "read".into(),
        Op::Write { value, .. } => format!("write {value}"),
        Op::Cas { to, .. } => format!("cas to {to}"),
        other => format!("{other:?}"),
    }
}

/// Commands in words.
fn command_words<'a>(commands: impl Iterator<Item = &'a Command>) -> String {
    let words: Vec<String> = commands
        .map(|command| match command {
            Command::Noop => "nothing".into(),
            Command::Request { request, .. } => operation_words(&request.op),
        })
        .collect();
    words.join(", ")
}

//! Locks with leases, and a resource that they protect.
//!
//! Each slot is a small state machine: it asks for a lock; while refused, it waits a little and
//! asks again; once granted, it uses the resource again and again, renewing the lease when half
//! of it is over, and gives the lock back after a while. Whoever is refused an access or a renewal
//! takes the lock for lost and asks anew; after an indeterminate operation the slot's next process
//! knows nothing of the lock and starts from scratch.
//!
//! Why a lease alone can't protect a resource, and why a fencing token can: C. Gray and
//! D. Cheriton, "Leases", SOSP 1989, section 5 on clocks, and M. Kleppmann, "How to do distributed
//! locking", 2016.

use std::time::Duration;

use duress_checkers::Judge;
use duress_checkers::mutex::{LockOp, MutualExclusion};
use duress_history::{Completion, Outcome, Process};
use duress_plug::{Facts, Opt, Opts, Problem, Shrink};
use duress_seed::Seed;
use smol_str::{SmolStr, format_smolstr};

use crate::{Generator, Next, Size, Slot, Workload};

/// What can be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How many locks there are; at least one is.
    pub locks: usize,
    /// How long a grant or renewal is good for.
    pub lease: Duration,
    /// How long a slot keeps a lock, renewals included, before it gives it back.
    pub hold: Duration,
    /// How long the client works between its check of the lease and its write to the resource.
    /// Less than half the lease, or accesses overrun leases without any fault.
    pub work: Duration,
}

static OPTIONS: &[Opt] = &[
    Opt::concurrency(),
    Opt::ops(),
    Opt::integer("locks", 1..=1_000, 1, "How many locks there are.").shrunk(Shrink::Few),
    Opt::millis("lease", 50..=60_000, 1_000, "How long a grant is good for."),
    Opt::millis("hold", 1..=60_000, 2_000, "How long a client keeps a lock, renewals included.")
        .or("twice the lease", |draft| lease(draft).saturating_mul(2).min(MINUTE).into()),
    Opt::millis(
        "work",
        1..=60_000,
        50,
        "How long a client works between its check of the lease and its write to the resource.",
    )
    .or("a twentieth of the lease", |draft| (lease(draft) / 20).max(Duration::from_millis(1)).into()),
    Opt::flag("fencing", true, "Whether the resource refuses tokens older than the newest it has seen."),
];

const MINUTE: Duration = Duration::from_secs(60);

fn lease(draft: &duress_plug::Draft<'_>) -> Duration {
    draft.duration("lease").unwrap_or_default()
}

const PACE: &str = "its pace is set by workload.work, workload.hold and workload.concurrency";

impl Options {
    fn of(options: &Opts) -> Options {
        Options {
            locks: options.integer("locks") as usize,
            lease: options.duration("lease"),
            hold: options.duration("hold"),
            work: options.duration("work"),
        }
    }
}

/// The workload.
pub struct Plug;

impl duress_plug::Workload for Plug {
    fn name(&self) -> &'static str {
        "lock"
    }

    fn about(&self) -> &'static str {
        "locks with leases around a resource; nobody else may use it, tokens must increase"
    }

    fn options(&self) -> &'static [Opt] {
        OPTIONS
    }

    fn check(&self, options: &Opts, _target: &str, _facts: &Facts) -> Result<(), Problem> {
        let Options { work, lease, .. } = Options::of(options);
        if work * 2 >= lease {
            let message = format!(
                "workload.work ({work:?}) must be less than half of workload.lease ({lease:?}), or accesses overrun leases without any fault"
            );
            return Err(Problem::new(&["work", "lease"], message).suggest("make the work shorter or the lease longer"));
        }
        Ok(())
    }

    fn functions(&self, _options: &Opts) -> Vec<&'static str> {
        vec!["acquire", "renew", "release"]
    }

    fn lacks(&self) -> &'static [(&'static str, &'static str)] {
        &[("rate", PACE), ("keys", PACE), ("mix", PACE)]
    }

    fn holds(&self) -> bool {
        true
    }

    fn fences(&self, options: &Opts) -> bool {
        options.flag("fencing")
    }
}

impl Workload for Plug {
    fn generator(&self, options: &Opts, size: &Size, seed: Seed) -> Box<dyn Generator> {
        Box::new(Lock::new(Options::of(options), size.concurrency, seed))
    }

    fn checker(&self, options: &Opts, _require_convergence: bool) -> Box<dyn Judge> {
        Box::new(MutualExclusion { fencing: options.flag("fencing") })
    }
}

/// A refused slot waits at least this part of the lease, and at most twice as long.
const RETRY_PART: u32 = 40;

/// Where a slot stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// It has no lock, and asks for one from this time on.
    Idle { from: Duration },
    /// It holds a lock.
    Holding { lock: SmolStr, token: u64, renew: Duration, release: Duration },
    /// Its operation in progress gives the lock back.
    Releasing,
}

/// What is known of a slot.
#[derive(Clone, Debug)]
struct Client {
    /// Which process knows it.
    process: Option<Process>,
    state: State,
    /// How many operations the slot has begun.
    begun: u64,
    /// When the operation in progress was invoked.
    invoked: Duration,
}

/// The generator.
pub struct Lock {
    options: Options,
    seed: Seed,
    clients: Vec<Client>,
}

/// What a decision is about; the last word of its key.
const WHICH: u64 = 1;
const PAUSE: u64 = 2;

impl Lock {
    /// A generator for `slots` slots.
    pub fn new(options: Options, slots: usize, seed: Seed) -> Lock {
        let idle = State::Idle { from: Duration::ZERO };
        let client = Client { process: None, state: idle, begun: 0, invoked: Duration::ZERO };
        Lock { options, seed, clients: vec![client; slots] }
    }

    /// When a slot that has no lock asks for one again.
    fn pause(&self, slot: usize, now: Duration) -> State {
        let least = (self.options.lease / RETRY_PART).max(Duration::from_millis(1));
        let decision = self.seed.decide(&[slot as u64, self.clients[slot].begun, PAUSE]);
        State::Idle { from: now.saturating_add(decision.between(least, least * 2)) }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Generator for Lock {
    fn next(&mut self, who: Slot, now: Duration) -> Next {
        let options = &self.options;
        let Some(client) = self.clients.get_mut(who.index) else { return Next::Done };
        if client.process.is_some_and(|process| process != who.process) {
            // Another process than the one that got the lock must not use its token.
            client.state = State::Idle { from: now };
        }
        client.process = Some(who.process);
        let lease_ms = milliseconds(options.lease);
        let op = match &client.state {
            State::Idle { from } if *from > now => return Next::Wait(*from),
            State::Idle { .. } | State::Releasing => {
                let decision = self.seed.decide(&[who.index as u64, client.begun, WHICH]);
                let lock = format_smolstr!("l{}", decision.below(options.locks.max(1) as u64));
                LockOp::Acquire { lease_ms }.on(lock)
            }
            State::Holding { lock, token, release, .. } if *release <= now => {
                let op = LockOp::Release { token: *token }.on(lock);
                client.state = State::Releasing;
                op
            }
            State::Holding { lock, token, renew, .. } if *renew <= now => {
                LockOp::Renew { token: *token, lease_ms }.on(lock)
            }
            State::Holding { lock, token, .. } => {
                LockOp::Access { token: *token, work_ms: milliseconds(options.work) }.on(lock)
            }
        };
        client.begun += 1;
        client.invoked = now;
        Next::Op(op)
    }

    fn completed(&mut self, who: Slot, completion: &Completion, now: Duration) {
        if who.index >= self.clients.len() {
            return;
        }
        let lost = self.pause(who.index, now);
        let client = &mut self.clients[who.index];
        // The lease runs from some moment after the request was sent: from the sending is safe.
        let renew_at = client.invoked.saturating_add(self.options.lease / 2);
        let asked = LockOp::of(&completion.op);
        client.state = match (asked, completion.outcome, completion.result.as_u64(), completion.op.key_text()) {
            (Some(LockOp::Acquire { .. }), Outcome::Ok, Some(token), Some(lock)) => State::Holding {
                lock: lock.clone(),
                token,
                renew: renew_at,
                release: now.saturating_add(self.options.hold),
            },
            (Some(LockOp::Renew { .. }), Outcome::Ok, ..) => {
                match std::mem::replace(&mut client.state, State::Releasing) {
                    State::Holding { lock, token, release, .. } => {
                        State::Holding { lock, token, renew: renew_at, release }
                    }
                    _ => lost,
                }
            }
            (Some(LockOp::Access { .. }), Outcome::Ok, ..) => return,
            _ => lost,
        };
    }
}

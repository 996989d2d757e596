//! The ring as a target: its options, its promises, and its clients' words.

use std::time::Duration;

use duress_history::{Function, Op, Value};
use duress_machine::client::Answer;
use duress_machine::{Asker, Protocol, Reply};
use duress_plug::{Facts, Group, Opt, Opts, Problem, Target};
use smol_str::SmolStr;

use crate::api::{Ask, Granted, Request, Response};
use crate::{Config, Ring};

/// The ring, as a target.
pub struct Kit;

/// The name of the operation by which a node is asked whether it serves.
const PING: &str = "ping";

static OPTIONS: &[Opt] = &[
    Opt::nodes(2..=9, 3),
    Opt::millis(
        "regenerate_after",
        50..=60_000,
        400,
        "How long a node hears nothing of the token before it makes another, with a higher epoch.",
    ),
    Opt::millis("pass_after", 1..=1_000, 10, "How long a node that has no use for the token keeps it."),
    Opt::millis(
        "retry_after",
        5..=10_000,
        50,
        "How long a node waits for an acknowledgement before it repeats itself; a successor that is silent four times is skipped.",
    ),
    Opt::millis(
        "attempt_timeout",
        1..=60_000,
        500,
        "How long its clients wait for a node's answer before they ask another; a node answers after half of it.",
    ),
];

impl Target for Kit {
    fn name(&self) -> &'static str {
        "ring"
    }

    fn about(&self) -> &'static str {
        "mutual exclusion by a token that goes round a ring, and is made anew when it seems lost"
    }

    fn options(&self) -> &'static [Opt] {
        OPTIONS
    }

    fn facts(&self, options: &Opts) -> Result<Facts, Problem> {
        let nodes = options.integer("nodes") as u16;
        let [notice, pass] = ["regenerate_after", "pass_after"].map(|name| options.duration(name));
        if pass * 4 > notice {
            let message = format!(
                "target.pass_after ({pass:?}) is more than a quarter of target.regenerate_after ({notice:?}), so a resting token would look lost"
            );
            let problem = Problem::new(&["pass_after", "regenerate_after"], message);
            return Err(problem.suggest("pass the token on sooner or regenerate it later"));
        }
        let majority = nodes / 2 + 1;
        Ok(Facts {
            groups: vec![Group::servers(nodes)],
            roles: &["holder", "waiting", "idle"],
            quorum: Some(majority).filter(|enough| *enough < nodes),
            sticky: true,
            attempt_timeout: options.duration("attempt_timeout"),
            notice,
            probe: PING,
            functions: &["acquire", "renew", "release", PING],
            promises: "one client at a time is in the critical section, and every grant's token is greater than the last one's",
            assumes: "no node stands still or is cut off for `regenerate_after`; token numbers grow regardless",
            ..Facts::default()
        })
    }
}

/// What the ring is asked. `None` of what it doesn't have.
fn asked(op: &Op) -> Option<Ask> {
    let number = |name| op.value.get(name).and_then(Value::as_u64);
    let lease = || number("lease-ms").map(Duration::from_millis);
    let lock = op.key_text()?.clone();
    Some(match op.name() {
        "acquire" => Ask::Acquire { lock, lease: lease()? },
        "renew" => Ask::Renew { lock, token: number("token")?, lease: lease()? },
        "release" => Ask::Release { lock, token: op.value.as_u64()? },
        PING => Ask::Ping,
        _ => return None,
    })
}

impl Protocol for Ring {
    fn target() -> &'static dyn Target {
        &Kit
    }

    fn config(options: &Opts, _seed: u64) -> Config {
        Config {
            nodes: options.integer("nodes") as u16,
            regenerate_after: options.duration("regenerate_after"),
            pass_after: options.duration("pass_after"),
            retry_after: options.duration("retry_after"),
            wait: options.duration("attempt_timeout") / 2,
        }
    }

    fn request(who: Asker, op: &Op) -> Option<Request> {
        Some(Request { who, ask: asked(op)? })
    }

    fn reply(op: &Op, response: &Response) -> Reply {
        let reply = match (response.result, &op.f) {
            (Ok(Granted::Token(token)), Function::Acquire) => Reply::ok(token),
            (Ok(Granted::Done), f) if *f != Function::Acquire => Reply::ok(Value::Nil),
            (Ok(_), _) => Reply::wrong(),
            (Err(refusal), _) => Reply::refused(response.disposition(), SmolStr::new_static(refusal.name())),
        };
        reply.by(response.node, None)
    }
}

//! The service's words: a history's operations as its requests, its answers as replies, the same in
//! every mode.

use std::time::Duration;

use duress_history::{Function, Op, Value};
use duress_machine::client::Answer;
use duress_machine::{Asker, Protocol, Reply};
use duress_plug::{Opts, Target};
use duress_seed::Seed;
use smol_str::{SmolStr, ToSmolStr, format_smolstr};

use super::Kit;
use crate::api::{self, ClientId, Refusal, Request, Response, Token};
use crate::config::Config;
use crate::{paxos, primary_backup, quorum};

/// Elements of a set are stored as keys with this prefix.
const SET: &str = "set/";

/// What the service is asked. `None` of what it doesn't have.
fn asked(op: &Op) -> Option<api::Op> {
    let number = |name| op.value.get(name).and_then(Value::as_u64);
    let lease = || number("lease-ms").map(Duration::from_millis);
    let token = || number("token").map(Token);
    let Some(key) = op.key_text() else {
        return match (&op.f, &op.key) {
            (Function::Add, None) => {
                let element = op.value.as_int()?;
                Some(api::Op::Write { key: format_smolstr!("{SET}{element}"), value: "1".into() })
            }
            (Function::Read, None) => Some(api::Op::Scan { prefix: SET.into() }),
            _ => None,
        };
    };
    let key = key.clone();
    Some(match (op.name(), op.value.as_sequence()) {
        ("read", _) => api::Op::Read { key },
        ("write", _) => api::Op::Write { key, value: text(&op.value).unwrap_or_default() },
        ("cas", Some([from, to])) => api::Op::Cas { key, from: text(from), to: text(to).unwrap_or_default() },
        ("acquire", _) => api::Op::Acquire { lock: key, lease: lease()? },
        ("renew", _) => api::Op::Renew { lock: key, token: token()?, lease: lease()? },
        ("release", _) => api::Op::Release { lock: key, token: Token(op.value.as_u64()?) },
        _ => return None,
    })
}

/// What a successful answer gave back, if it is an answer to that operation.
fn result(reply: &api::Reply, op: &Op) -> Option<Value> {
    Some(match (reply, &op.f, &op.key) {
        (api::Reply::Value(stored), Function::Read, Some(_)) => value(stored.as_ref()),
        (api::Reply::Entries(entries), Function::Read, None) => {
            let element = |(key, _): &(SmolStr, SmolStr)| Some(Value::Int(key.strip_prefix(SET)?.parse().ok()?));
            Value::Vector(entries.iter().map(element).collect::<Option<_>>()?)
        }
        (api::Reply::Granted(token), Function::Acquire, _) => token.0.into(),
        (api::Reply::Done, f, _) if !f.reads() && *f != Function::Acquire => Value::Nil,
        _ => return None,
    })
}

/// A value as the service stores it; an unset key has none.
fn text(value: &Value) -> Option<SmolStr> {
    match value {
        Value::Nil => None,
        Value::Text(text) => Some(text.clone()),
        other => Some(other.to_smolstr()),
    }
}

fn value(stored: Option<&SmolStr>) -> Value {
    match stored {
        None => Value::Nil,
        Some(text) => text.parse().map_or_else(|_| Value::Text(text.clone()), Value::Int),
    }
}

fn request(Asker { client, sequence }: Asker, op: &Op) -> Option<Request> {
    Some(Request { client: ClientId(client), sequence, op: asked(op)? })
}

fn reply(op: &Op, response: &Response) -> Reply {
    let reply = match &response.result {
        Ok(reply) => match result(reply, op) {
            Some(result) => Reply::ok(result),
            None => Reply::wrong(),
        },
        Err(refusal) => {
            let refused = Reply::refused(response.disposition(), SmolStr::new_static(refusal.name()));
            match refusal {
                Refusal::CasMismatch { actual } => Reply { result: value(actual.as_ref()), ..refused },
                _ => refused,
            }
        }
    };
    reply.by(response.node, response.term)
}

macro_rules! protocol {
    ($machine:ty, $kit:expr, $mode:path) => {
        impl Protocol for $machine {
            fn target() -> &'static dyn Target {
                &$kit
            }

            fn config(options: &Opts, seed: u64) -> Self::Config {
                match $kit.config(options, Seed(seed)) {
                    $mode(config) => config,
                    other => unreachable!("{} is another mode", other.mode()),
                }
            }

            fn request(who: Asker, op: &Op) -> Option<Request> {
                request(who, op)
            }

            fn reply(op: &Op, response: &Response) -> Reply {
                reply(op, response)
            }
        }
    };
}

protocol!(paxos::Paxos, super::Paxos, Config::Paxos);
protocol!(quorum::Quorum, super::Quorum, Config::Quorum);
protocol!(primary_backup::PrimaryBackup, super::PrimaryBackup, Config::PrimaryBackup);

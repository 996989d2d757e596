//! The bundled service's words: a history's operations as its requests, its answers as results.
//! Both worlds speak them: `bundled` for real client hosts, [`Clients`] for simulated ones.

use std::time::Duration;

use duress_checkers::mutex::LockOp;
use duress_checkers::register::RegisterOp;
use duress_history::{Function, Op, Outcome, Process, Value};
use duress_kv::api;
use duress_machine::Machine;
use duress_machine::client::{self, Policy};
use duress_sim::{Done, Service};
use smol_str::{SmolStr, ToSmolStr};

/// Elements of a set are stored as keys with this prefix.
const SET: &str = "set/";

/// What the service is asked. `None` of what it doesn't have, and of an access, which asks no node.
pub(crate) fn asked(op: &Op) -> Option<api::Op> {
    let lease = Duration::from_millis;
    let Some(key) = op.key_text() else {
        return match (&op.f, &op.key) {
            (Function::Add, None) => {
                let element = op.value.as_int()?;
                Some(api::Op::Write { key: smol_str::format_smolstr!("{SET}{element}"), value: "1".into() })
            }
            (Function::Read, None) => Some(api::Op::Scan { prefix: SET.into() }),
            _ => None,
        };
    };
    if let Some(asked) = RegisterOp::of(op) {
        return Some(match asked {
            RegisterOp::Read => api::Op::Read { key: key.clone() },
            RegisterOp::Write(value) => api::Op::Write { key: key.clone(), value: text(value).unwrap_or_default() },
            RegisterOp::Cas { from, to } => {
                api::Op::Cas { key: key.clone(), from: text(from), to: text(to).unwrap_or_default() }
            }
        });
    }
    let lock = key.clone();
    Some(match LockOp::of(op)? {
        LockOp::Acquire { lease_ms } => api::Op::Acquire { lock, lease: lease(lease_ms) },
        LockOp::Renew { token, lease_ms } => api::Op::Renew { lock, token: api::Token(token), lease: lease(lease_ms) },
        LockOp::Release { token } => api::Op::Release { lock, token: api::Token(token) },
        LockOp::Access { .. } => return None,
    })
}

/// What an answer gave back, if it is an answer to that operation.
pub(crate) fn result(response: &api::Response, op: &Op) -> Option<Value> {
    Some(match (response.result.as_ref().ok()?, &op.f, &op.key) {
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

/// Why an operation did not succeed, in a short stable name.
pub(crate) fn reason(response: Option<&api::Response>, otherwise: &'static str) -> SmolStr {
    match response.map(|response| &response.result) {
        Some(Err(refusal)) => refusal.name().into(),
        _ => otherwise.into(),
    }
}

/// A value as the service stores it; an unset key has none.
fn text(value: &Value) -> Option<SmolStr> {
    match value {
        Value::Nil => None,
        Value::Int(number) => Some(number.to_smolstr()),
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

/// The clients of the bundled service in the simulated world.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    pub(crate) policy: Policy,
    pub(crate) sticky: bool,
    pub(crate) has_log: bool,
}

impl<M> Service<M> for Clients
where
    M: Machine<Request = api::Request, Response = api::Response>,
{
    fn request(&self, process: Process, sequence: u64, op: &Op) -> api::Request {
        let op = asked(op).expect("the simulator asks no node about an access");
        api::Request { client: api::ClientId(process.0), sequence, op }
    }

    fn completion(&self, op: &Op, outcome: client::Outcome<api::Response>) -> Done {
        let done = |outcome, result, error, by: Option<&api::Response>| Done {
            outcome,
            result,
            error,
            node: by.map(|response| usize::from(response.node.0)),
            term: by.map(|response| response.term),
        };
        match outcome {
            client::Outcome::Ok { answer, .. } => match result(&answer, op) {
                Some(result) => done(Outcome::Ok, result, None, Some(&answer)),
                // An answer to another question: nobody knows what happened to ours.
                None => done(Outcome::Info, Value::Nil, Some("wrong-answer".into()), Some(&answer)),
            },
            client::Outcome::Failed { answer } => {
                done(Outcome::Fail, Value::Nil, Some(reason(answer.as_ref(), "unreachable")), answer.as_ref())
            }
            client::Outcome::Unknown { answer } => {
                done(Outcome::Info, Value::Nil, Some(reason(answer.as_ref(), "timeout")), answer.as_ref())
            }
        }
    }

    fn policy(&self) -> Policy {
        self.policy
    }

    fn sticky(&self) -> bool {
        self.sticky
    }

    fn has_log(&self) -> bool {
        self.has_log
    }
}

//! A client host as a process: it makes calls for its controller.
//!
//! A process of its own, because faults hit clients too. It can be paused between a lease's
//! check and the write that relies on it, which is the classic way for two clients to hold one
//! lock; and its sockets live in its own network namespace.
//!
//! The control channel carries [`Command`]s in and [`Completion`]s out, framed as in
//! [`control`]. Commands are carried out concurrently.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use duress_kv::api::{LockName, Op, Reply, Request, Response, Token};
use duress_machine::NodeId;
use duress_machine::client::{self as machine, Policy};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tokio::sync::{Semaphore, mpsc};
use tracing::warn;

use crate::client::Client;
use crate::clock;
use crate::control::{self, FrameError};

/// How many commands may be in progress; more wait in the channel.
const MAX_IN_PROGRESS: usize = 4096;

/// How many leases are remembered. The one that runs out first is forgotten first.
const MAX_LEASES: usize = 16 << 10;

/// How many completions may wait for the controller.
const QUEUE: usize = 4096;

/// What a client host needs to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClientHostConfig {
    /// The HTTP address of every node, in the order of their ids.
    pub nodes: Vec<SocketAddr>,
    /// How to go about calls.
    #[serde(with = "PolicyFields")]
    pub policy: Policy,
}

/// [`Policy`], serializable.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Policy", deny_unknown_fields)]
struct PolicyFields {
    timeout: Duration,
    attempt_timeout: Duration,
    max_attempts: u32,
    backoff: Duration,
    exactly_once: bool,
    roam: bool,
}

/// What a controller asks of a client host. `call` is the controller's name for the task; the
/// completion carries it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Make a call.
    Call {
        /// Names the task.
        call: u64,
        /// What to ask.
        request: Request,
        /// Whom to ask first.
        first: NodeId,
    },
    /// Use the resource that a lock protects: check by this host's monotonic clock that the lease
    /// still runs, work, then write with the token, without another check. The lease must have
    /// been granted or renewed through this host, or it counts as run out.
    Access {
        /// Names the task.
        call: u64,
        /// The lock.
        lock: LockName,
        /// From the acquisition.
        token: u64,
        /// How long to work between the check and the write.
        work: Duration,
    },
    /// A node answers at another address from now on. Nothing comes back.
    Moved {
        /// Which node.
        node: NodeId,
        /// Where it answers HTTP.
        address: SocketAddr,
    },
    /// The resource's answer to an [`Completion::AccessWrite`].
    ResourceAnswer {
        /// The access.
        call: u64,
        /// Whether the resource took the write.
        accepted: bool,
    },
}

/// How a call ended; [`machine::Outcome`], serializable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallOutcome {
    /// It took effect.
    Ok {
        /// The answer. It names the node that gave it.
        response: Response,
    },
    /// It certainly did not take effect.
    Failed {
        /// The last answer, if any node gave one.
        response: Option<Response>,
    },
    /// Nobody knows.
    Unknown {
        /// The last answer, if any node gave one.
        response: Option<Response>,
    },
}

impl From<machine::Outcome<Response>> for CallOutcome {
    fn from(outcome: machine::Outcome<Response>) -> Self {
        match outcome {
            machine::Outcome::Ok { answer, .. } => CallOutcome::Ok { response: answer },
            machine::Outcome::Failed { answer } => CallOutcome::Failed { response: answer },
            machine::Outcome::Unknown { answer } => CallOutcome::Unknown { response: answer },
        }
    }
}

/// What a client host tells its controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Completion {
    /// A call is over.
    Called {
        /// Names the task.
        call: u64,
        /// How it ended.
        outcome: CallOutcome,
    },
    /// The lease had run out when it was checked, so nothing was done: the end of an access.
    AccessRefused {
        /// Names the task.
        call: u64,
    },
    /// The client writes to the resource: judge it and send [`Command::ResourceAnswer`].
    AccessWrite {
        /// Names the task.
        call: u64,
        /// The lock that should protect the resource.
        lock: LockName,
        /// The token that the client shows.
        token: u64,
    },
    /// The resource's answer has reached the client: the end of an access.
    Accessed {
        /// Names the task.
        call: u64,
        /// Whether the resource took the write.
        accepted: bool,
    },
}

/// Why a client host ended.
#[derive(Debug, Error)]
pub enum ClientHostError {
    /// The control channel broke or carried something else.
    #[error("the control channel failed: {0}")]
    Control(#[from] FrameError),
    /// The system refused something that every process needs.
    #[error("can't {doing}: {source}")]
    System {
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Runs a client host until the controller closes the control channel. Blocks.
pub fn run_client_host(config: ClientHostConfig, control: UnixStream) -> Result<(), ClientHostError> {
    let system = |doing| move |source| ClientHostError::System { doing, source };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system("start a runtime"))?;
    runtime.block_on(async {
        control.set_nonblocking(true).map_err(system("use the control channel"))?;
        let stream = tokio::net::UnixStream::from_std(control).map_err(system("use the control channel"))?;
        run(config, stream).await
    })
}

async fn run(config: ClientHostConfig, stream: tokio::net::UnixStream) -> Result<(), ClientHostError> {
    let (reading, mut writing) = stream.into_split();
    let (completions, mut queue) = mpsc::channel::<Completion>(QUEUE);
    let writer = async move {
        let mut batch = Vec::new();
        let mut frames = Vec::new();
        while queue.recv_many(&mut batch, 256).await > 0 {
            frames.clear();
            for completion in batch.drain(..) {
                encode(completion, &mut frames)?;
            }
            writing.write_all(&frames).await.map_err(FrameError::from)?;
        }
        Ok(())
    };
    let host = Arc::new(Host {
        client: Client::new(config.nodes, config.policy),
        leases: Mutex::default(),
        accesses: Mutex::default(),
        completions,
    });
    let places = Arc::new(Semaphore::new(MAX_IN_PROGRESS));
    let reader = async move {
        let mut commands = control::reader(reading);
        while let Some(command) = commands.next::<Command>().await? {
            // An answer lets an access end, so it must never wait behind one.
            if let Command::ResourceAnswer { call, accepted } = command {
                host.resource_answered(call, accepted).await;
                continue;
            }
            if let Command::Moved { node, address } = command {
                host.client.moved(node, address);
                continue;
            }
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
            let host = Arc::clone(&host);
            tokio::spawn(async move {
                host.carry_out(command).await;
                drop(place);
            });
        }
        Ok(())
    };
    // The controller's end of the channel ends the process; what is in progress goes with it.
    tokio::select! {
        end = reader => end,
        end = writer => end,
    }
}

/// A completion too long for a frame becomes one without its answer: a scan of everything is a
/// read, so that it is unknown does no harm.
fn encode(completion: Completion, frames: &mut Vec<u8>) -> Result<(), FrameError> {
    match control::encode_into(&completion, frames) {
        Err(FrameError::TooLong { length, .. }) => {
            warn!("an answer of {length} bytes is too long to be handed on");
            let Completion::Called { call, .. } = completion else { return Ok(()) };
            control::encode_into(&Completion::Called { call, outcome: CallOutcome::Unknown { response: None } }, frames)
        }
        end => end,
    }
}

#[derive(Debug)]
struct Host {
    client: Client,
    leases: Mutex<Leases>,
    /// Accesses that wait for the resource.
    accesses: Mutex<BTreeSet<u64>>,
    completions: mpsc::Sender<Completion>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Host {
    async fn say(&self, completion: Completion) {
        // When the writer has ended, so does the process.
        let _ = self.completions.send(completion).await;
    }

    async fn resource_answered(&self, call: u64, accepted: bool) {
        if lock(&self.accesses).remove(&call) {
            self.say(Completion::Accessed { call, accepted }).await;
        }
    }

    async fn carry_out(&self, command: Command) {
        match command {
            Command::Call { call, request, first } => {
                let sent = clock::monotonic();
                let op = request.op.clone();
                let outcome = CallOutcome::from(self.client.call(request, first).await);
                lock(&self.leases).learn(&op, &outcome, sent);
                self.say(Completion::Called { call, outcome }).await;
            }
            Command::Access { call, lock: name, token, work } => {
                let now = clock::monotonic();
                let expiry = lock(&self.leases).expiry(&name, token);
                if expiry.is_none_or(|expiry| expiry <= now) {
                    return self.say(Completion::AccessRefused { call }).await;
                }
                tokio::time::sleep(work).await;
                // No second check here: that is the mistake which fencing tokens make harmless.
                lock(&self.accesses).insert(call);
                self.say(Completion::AccessWrite { call, lock: name, token }).await;
            }
            Command::ResourceAnswer { call, accepted } => self.resource_answered(call, accepted).await,
            Command::Moved { node, address } => self.client.moved(node, address),
        }
    }
}

/// Until when this host's leases run, by its monotonic clock.
#[derive(Debug, Default)]
struct Leases {
    expiries: BTreeMap<(LockName, u64), Duration>,
}

impl Leases {
    fn expiry(&self, lock: &LockName, token: u64) -> Option<Duration> {
        self.expiries.get(&(lock.clone(), token)).copied()
    }

    /// What the end of a call sent at `sent` tells of leases. A lease is counted from when it was
    /// asked for: the service counts from later, so the client never believes too long in it.
    fn learn(&mut self, op: &Op, outcome: &CallOutcome, sent: Duration) {
        let happened = match outcome {
            CallOutcome::Ok { response } => response.result.as_ref().ok(),
            CallOutcome::Failed { .. } | CallOutcome::Unknown { .. } => None,
        };
        match (op, happened) {
            (Op::Acquire { lock, lease }, Some(Reply::Granted(Token(token)))) => {
                self.expiries.insert((lock.clone(), *token), sent + *lease);
                self.forget_some();
            }
            (Op::Renew { lock, token, lease }, Some(_)) => {
                self.expiries.insert((lock.clone(), token.0), sent + *lease);
                self.forget_some();
            }
            // It may have been shortened.
            (Op::Renew { lock, token, lease }, None) if matches!(outcome, CallOutcome::Unknown { .. }) => {
                if let Some(expiry) = self.expiries.get_mut(&(lock.clone(), token.0)) {
                    *expiry = (*expiry).min(sent + *lease);
                }
            }
            // It is over, or may be.
            (Op::Release { lock, token }, _) => {
                self.expiries.remove(&(lock.clone(), token.0));
            }
            _ => {}
        }
    }

    fn forget_some(&mut self) {
        if self.expiries.len() > MAX_LEASES
            && let Some(first) = self.expiries.iter().min_by_key(|(_, expiry)| **expiry).map(|(key, _)| key.clone())
        {
            self.expiries.remove(&first);
        }
    }
}

//! A client host as a process: it makes calls for its controller.
//!
//! A process of its own, because faults hit clients too. It can be paused between a lease's
//! check and the write that relies on it, which is the classic way for two clients to hold one
//! lock; and its sockets live in its own network namespace.
//!
//! The control channel carries [`Command`]s in and [`Completion`]s out, framed as in
//! [`control`]. Commands are carried out concurrently.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use duress_history::Op;
use duress_machine::client::{self as machine, Policy};
use duress_machine::{Asker, Ended, NodeId, Reply};
use duress_workloads::client::{Begin, ClientMachine, Leases, Write};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tokio::sync::{Semaphore, mpsc};
use tracing::warn;

use crate::client::Client;
use crate::clock;
use crate::control::{self, FrameError};

/// How many commands may be in progress; more wait in the channel.
const MAX_IN_PROGRESS: usize = 4096;

/// How many completions may wait for the controller.
const QUEUE: usize = 4096;

/// What a client host needs to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClientHostConfig {
    /// The HTTP address of every node, in the order of their ids.
    pub nodes: Vec<SocketAddr>,
    /// How to go about calls.
    pub policy: Policy,
}

/// What a controller asks of a client host. `call` is the controller's name for the task; the
/// completion carries it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Carry out an operation: ask the target, or do what the workload's client does by itself.
    Perform {
        /// Names the task.
        call: u64,
        /// Who asks.
        who: Asker,
        /// What.
        op: Op,
        /// Whom to ask first.
        first: NodeId,
    },
    /// A node answers at another address from now on. Nothing comes back.
    Moved {
        /// Which node.
        node: NodeId,
        /// Where it answers HTTP.
        address: SocketAddr,
    },
    /// The resource's answer to a [`Completion::Write`].
    ResourceAnswer {
        /// The task.
        call: u64,
        /// Why the resource refused; `None`: it took the write.
        refused: Option<SmolStr>,
    },
}

/// How a call ended; [`machine::Outcome`], serializable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallOutcome {
    /// It took effect.
    Ok {
        /// The answer. It names the node that gave it.
        reply: Reply,
        /// The node that was asked.
        node: NodeId,
    },
    /// It certainly did not take effect.
    Failed {
        /// The last answer, if any node gave one.
        reply: Option<Reply>,
    },
    /// Nobody knows.
    Unknown {
        /// The last answer, if any node gave one.
        reply: Option<Reply>,
    },
}

impl From<machine::Outcome<Reply>> for CallOutcome {
    fn from(outcome: machine::Outcome<Reply>) -> Self {
        match outcome {
            machine::Outcome::Ok { answer: reply, node } => CallOutcome::Ok { reply, node },
            machine::Outcome::Failed { answer: reply } => CallOutcome::Failed { reply },
            machine::Outcome::Unknown { answer: reply } => CallOutcome::Unknown { reply },
        }
    }
}

impl From<CallOutcome> for Ended {
    fn from(outcome: CallOutcome) -> Ended {
        Ended::from(match outcome {
            CallOutcome::Ok { reply: answer, node } => machine::Outcome::Ok { answer, node },
            CallOutcome::Failed { reply: answer } => machine::Outcome::Failed { answer },
            CallOutcome::Unknown { reply: answer } => machine::Outcome::Unknown { answer },
        })
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
    /// The client did not go about it at all, for this reason: it certainly did not happen.
    Refused {
        /// Names the task.
        call: u64,
        /// Why.
        error: SmolStr,
    },
    /// The client writes to the resource: judge it and send [`Command::ResourceAnswer`].
    Write {
        /// Names the task.
        call: u64,
        /// The lock that should protect the resource.
        lock: SmolStr,
        /// The token that the client shows.
        token: u64,
    },
    /// The resource's answer has reached the client: the end of what it did by itself.
    Written {
        /// Names the task.
        call: u64,
        /// Why the resource refused; `None`: it took the write.
        refused: Option<SmolStr>,
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
        machine: Mutex::default(),
        writes: Mutex::default(),
        completions,
    });
    let places = Arc::new(Semaphore::new(MAX_IN_PROGRESS));
    let reader = async move {
        let mut commands = control::reader(reading);
        while let Some(command) = commands.next::<Command>().await? {
            // An answer lets an access end, so it must never wait behind one.
            if let Command::ResourceAnswer { call, refused } = command {
                host.resource_answered(call, refused).await;
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
            control::encode_into(&Completion::Called { call, outcome: CallOutcome::Unknown { reply: None } }, frames)
        }
        end => end,
    }
}

#[derive(Debug)]
struct Host {
    client: Client,
    machine: Mutex<Leases>,
    /// Tasks that wait for the resource.
    writes: Mutex<BTreeSet<u64>>,
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

    async fn resource_answered(&self, call: u64, refused: Option<SmolStr>) {
        if lock(&self.writes).remove(&call) {
            self.say(Completion::Written { call, refused }).await;
        }
    }

    async fn carry_out(&self, command: Command) {
        match command {
            Command::Perform { call, who, op, first } => self.perform(call, who, &op, first).await,
            Command::ResourceAnswer { call, refused } => self.resource_answered(call, refused).await,
            Command::Moved { node, address } => self.client.moved(node, address),
        }
    }

    async fn perform(&self, call: u64, who: Asker, op: &Op, first: NodeId) {
        let sent = clock::monotonic();
        let begin = lock(&self.machine).begin(op, sent);
        match begin {
            Begin::Refuse(error) => self.say(Completion::Refused { call, error: error.into() }).await,
            Begin::Ask => {
                let outcome = CallOutcome::from(self.client.call(who, op, first).await);
                let Ended { outcome: ended, result, .. } = outcome.clone().into();
                lock(&self.machine).learn(op, ended, &result, sent);
                self.say(Completion::Called { call, outcome }).await;
            }
            Begin::Work(work) => {
                tokio::time::sleep(work).await;
                // No second look at the lease here: that is the mistake which fencing tokens make
                // harmless.
                let write = lock(&self.machine).worked(op);
                let Some(Write { lock: name, token }) = write else {
                    return self.say(Completion::Refused { call, error: "nothing-to-write".into() }).await;
                };
                lock(&self.writes).insert(call);
                self.say(Completion::Write { call, lock: name, token }).await;
            }
        }
    }
}

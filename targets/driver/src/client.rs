//! A client of the bundled service.
//!
//! What to ask whom, and what may be concluded, is decided by
//! [`duress_machine::client::Call`]; this module only carries requests. Its one duty of its own
//! is to tell "certainly not sent" from "may have been sent", and to say the latter in doubt.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use duress_history::Op;
use duress_machine::client::{Action, Call, Event, Outcome, Policy};
use duress_machine::{Asker, NodeId, Reply};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::checksum;

/// How long a connection may take to be made, at most.
const CONNECT: Duration = Duration::from_millis(500);

/// How many idle connections to one node are kept.
const MAX_IDLE: usize = 64;

/// The longest answer, in bytes: a scan of everything.
const MAX_ANSWER: usize = 64 << 20;

/// What is asked of a node: an operation, and who asks.
#[derive(Serialize)]
struct Question<'a> {
    #[serde(flatten)]
    who: Asker,
    op: &'a Op,
}

/// Calls the service. Any number of calls may be in progress at once; each uses a connection of
/// its own while it waits, and idle connections are used again, so there are never more to a node
/// than there were calls at once.
///
/// Needs a tokio runtime with time and IO enabled.
#[derive(Debug)]
pub struct Client {
    nodes: Vec<Node>,
    policy: Policy,
    started: Instant,
}

#[derive(Debug)]
struct Node {
    at: Mutex<At>,
    idle: Mutex<Vec<Connection>>,
}

/// Where a node is.
#[derive(Clone, Debug)]
struct At {
    address: SocketAddr,
    /// The `Host` header.
    host: HeaderValue,
}

impl At {
    fn new(address: SocketAddr) -> At {
        let host = HeaderValue::from_str(&address.to_string()).unwrap_or(HeaderValue::from_static("node"));
        At { address, host }
    }
}

impl Client {
    /// A client of the nodes whose HTTP addresses are `nodes`, in the order of their ids.
    pub fn new(nodes: Vec<SocketAddr>, policy: Policy) -> Client {
        let node = |address| Node { at: Mutex::new(At::new(address)), idle: Mutex::default() };
        Client { nodes: nodes.into_iter().map(node).collect(), policy, started: Instant::now() }
    }

    /// A node answers at another address from now on. What is on its way to the old one is as lost
    /// as it is without this.
    pub fn moved(&self, node: NodeId, address: SocketAddr) {
        if let Some(node) = self.nodes.get(usize::from(node.0)) {
            *node.at.lock().unwrap_or_else(PoisonError::into_inner) = At::new(address);
            node.idle().clear();
        }
    }

    /// Makes one call, asking `first` first. Returns after at most the policy's timeout.
    pub async fn call(&self, who: Asker, op: &Op, first: NodeId) -> Outcome<Reply> {
        let count = u16::try_from(self.nodes.len()).unwrap_or(u16::MAX);
        let first = if first.0 < count { first } else { NodeId(0) };
        let Ok(body) = serde_json::to_vec(&Question { who, op }) else {
            // A request consists of numbers and text, which JSON has; nothing was sent.
            return Outcome::Failed { answer: None };
        };
        let body = Bytes::from(body);
        let (mut call, mut action) = Call::start(self.policy, count, first, self.started.elapsed());
        loop {
            let event = match action {
                Action::Done(outcome) => return outcome,
                Action::Pause(pause) => {
                    sleep(pause).await;
                    Event::Paused
                }
                Action::Send { to, within } => match self.nodes.get(usize::from(to.0)) {
                    Some(node) => node.ask(body.clone(), within).await,
                    None => Event::NotSent,
                },
            };
            action = call.on(event, self.started.elapsed());
        }
    }
}

impl Node {
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends one request and waits for its answer.
    async fn ask(&self, body: Bytes, within: Duration) -> Event<Reply> {
        let deadline = Instant::now() + within;
        loop {
            let At { address, host } = self.at.lock().unwrap_or_else(PoisonError::into_inner).clone();
            // The one used last is the likeliest to be alive.
            let idle = self.idle().pop();
            let reused = idle.is_some();
            let mut connection = match idle {
                Some(connection) => connection,
                None => match timeout(within.min(CONNECT), Connection::open(address)).await {
                    Ok(Ok(connection)) => connection,
                    Ok(Err(_)) | Err(_) => return Event::NotSent,
                },
            };
            let mut request = hyper::Request::post("/ask").body(Full::new(body.clone())).unwrap_or_default();
            request.headers_mut().insert(HOST, host);
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            request.headers_mut().insert(checksum::CHECKSUM, checksum::of(&body));
            match timeout_at(deadline, connection.exchange(request)).await {
                Ok(Exchange::Answered(response)) => {
                    let mut idle = self.idle();
                    if idle.len() < MAX_IDLE {
                        idle.push(connection);
                    }
                    return Event::Answered(response);
                }
                // An idle connection that had broken: the next one may be whole.
                Ok(Exchange::NotSent) if reused => {}
                Ok(Exchange::NotSent) => return Event::NotSent,
                Ok(Exchange::Lost) | Err(_) => return Event::Lost,
            }
        }
    }
}

/// What became of one request on one connection.
enum Exchange {
    Answered(Reply),
    NotSent,
    Lost,
}

/// A connection, closed when dropped.
#[derive(Debug)]
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    task: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    async fn open(address: SocketAddr) -> Result<Connection, Box<dyn std::error::Error + Send + Sync>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let task = tokio::spawn(async move {
            // What ends a connection is learnt from the request that was on it.
            let _ = connection.await;
        });
        Ok(Connection { sender, task })
    }

    async fn exchange(&mut self, request: hyper::Request<Full<Bytes>>) -> Exchange {
        if self.sender.ready().await.is_err() {
            return Exchange::NotSent;
        }
        let response = match self.sender.try_send_request(request).await {
            Ok(response) => response,
            // The request comes back only if not a byte of it was written.
            Err(mut error) => return if error.take_message().is_some() { Exchange::NotSent } else { Exchange::Lost },
        };
        if response.status() != hyper::StatusCode::OK {
            // Something that is not our node, or another version of it.
            return Exchange::Lost;
        }
        let (head, body) = response.into_parts();
        match Limited::new(body, MAX_ANSWER).collect().await.map(|body| body.to_bytes()) {
            Ok(body) if checksum::matches(&head.headers, &body) => {
                serde_json::from_slice(&body).map_or(Exchange::Lost, Exchange::Answered)
            }
            // Cut off or damaged.
            Ok(_) | Err(_) => Exchange::Lost,
        }
    }
}

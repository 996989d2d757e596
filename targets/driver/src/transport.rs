//! Messages between nodes: one TCP connection to each peer.
//!
//! Messages may be lost, and machines expect it; what matters here is that a link which was cut
//! for long carries messages again soon after it heals. TCP alone would sit in its exponential
//! back-off for as long again, so a connection whose data is not acknowledged for
//! [`UNACKNOWLEDGED`] is given up, and new ones are tried all the while.

use std::mem;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use duress_machine::{Machine, NodeId};
use duress_seed::Seed;
use nix::sys::socket::{setsockopt, sockopt};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use crate::addresses::Addresses;
use crate::frame::{self, FrameError, Reader};

/// The version of what nodes say to each other.
const VERSION: u32 = 1;

/// The longest frame between nodes, in bytes.
const MAX_FRAME: usize = 16 << 20;

/// How much may wait for a connected peer, in bytes; what comes on top is dropped. A single
/// larger message passes when nothing else waits.
const MAX_WAITING: usize = 8 << 20;

/// How much is kept for a peer that can't be reached, in bytes: old news is worth little.
const MAX_WAITING_UNCONNECTED: usize = 64 << 10;

/// After this long without an acknowledgement a connection is dead.
const UNACKNOWLEDGED: Duration = Duration::from_millis(1000);

/// The pause between attempts to connect, growing from the first to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(200));

/// How long one attempt to connect may take. Attempts overlap, so that links with a long delay
/// can be connected and healed ones are found soon.
const CONNECT: Duration = Duration::from_secs(2);

/// How many attempts to connect to one peer may be in progress.
const ATTEMPTS: usize = 8;

/// How long an incoming connection may take to say who it is.
const INTRODUCTION: Duration = Duration::from_secs(5);

/// How many incoming connections may exist at once, per peer, dead ones included.
const INCOMING_PER_PEER: usize = 16;

/// How many messages are handed to the driver at once at most.
const BATCH: usize = 256;

/// The first frame of every connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Hello {
    version: u32,
    cluster: u64,
    from: NodeId,
    to: NodeId,
}

/// Messages from one peer, in the order in which they arrived.
#[derive(Debug)]
pub(crate) struct Received<M: Machine> {
    pub(crate) from: NodeId,
    pub(crate) messages: Vec<M::Message>,
}

/// A number for the cluster's name, so that nodes of another one are turned away. One without a name
/// is named by where its members are.
pub(crate) fn cluster_id(name: Option<&str>, peers: &[SocketAddr]) -> u64 {
    let members = || peers.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(" ");
    Seed(u64::from(VERSION)).derive(&name.map_or_else(members, String::from)).0
}

/// The sending half: what waits for each peer.
#[derive(Debug)]
pub(crate) struct Links {
    peers: Vec<Option<Arc<Outbox>>>,
    /// Peers that got something since the last flush.
    touched: Vec<usize>,
}

#[derive(Debug, Default)]
struct Outbox {
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    frames: Vec<u8>,
    connected: bool,
    dropped: u64,
}

impl Outbox {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks the peer connected or not; returns how many messages were dropped before.
    fn connected(&self, connected: bool) -> u64 {
        let mut waiting = self.waiting();
        waiting.connected = connected;
        mem::take(&mut waiting.dropped)
    }
}

impl Links {
    /// Starts connecting to every other of these nodes. Must be called on a runtime.
    pub(crate) fn start(me: NodeId, cluster: u64, nodes: usize, peers: &Addresses) -> Links {
        let connect = |index: usize| {
            let to = NodeId(index as u16);
            let address = peers.follow(to).filter(|_| to != me)?;
            let outbox = Arc::new(Outbox::default());
            let hello = Hello { version: VERSION, cluster, from: me, to };
            tokio::spawn(keep_connected(hello, address, Arc::clone(&outbox)));
            Some(outbox)
        };
        Links { peers: (0..nodes).map(connect).collect(), touched: Vec::new() }
    }

    /// Queues a message; it leaves with the next [`flush`](Links::flush).
    pub(crate) fn send<T: Serialize>(&mut self, to: NodeId, message: &T) {
        let index = usize::from(to.0);
        let Some(Some(outbox)) = self.peers.get(index) else {
            debug!("a message to {to}, who is not a peer, was dropped");
            return;
        };
        let mut waiting = outbox.waiting();
        if !waiting.connected && waiting.frames.len() > MAX_WAITING_UNCONNECTED {
            waiting.frames.clear();
        }
        if waiting.frames.len() > MAX_WAITING {
            waiting.dropped += 1;
            return;
        }
        if let Err(error) = frame::push_sealed(message, MAX_FRAME, &mut waiting.frames) {
            warn!("a message to {to} can't be sent: {error}");
            return;
        }
        if !self.touched.contains(&index) {
            self.touched.push(index);
        }
    }

    /// Lets what was queued go.
    pub(crate) fn flush(&mut self) {
        for index in self.touched.drain(..) {
            if let Some(Some(outbox)) = self.peers.get(index) {
                outbox.filled.notify_one();
            }
        }
    }
}

/// Connects to a peer, sends what waits for it, and begins anew when the connection breaks.
async fn keep_connected(hello: Hello, mut address: watch::Receiver<SocketAddr>, outbox: Arc<Outbox>) {
    loop {
        let stream = connect(&address).await;
        info!("connected to {}", hello.to);
        outbox.connected(true);
        let end = tokio::select! {
            end = deliver(stream, hello, &outbox) => end,
            () = moved(&mut address) => FrameError::Cut,
        };
        let dropped = outbox.connected(false);
        info!("the connection to {} ended ({}); {dropped} messages were dropped while it was full", hello.to, end);
        sleep(BACKOFF.0).await;
    }
}

/// Waits until the peer is somewhere else.
async fn moved(address: &mut watch::Receiver<SocketAddr>) {
    if address.changed().await.is_err() {
        std::future::pending().await
    }
}

async fn connect(address: &watch::Receiver<SocketAddr>) -> TcpStream {
    let mut attempts = JoinSet::new();
    let mut pause = BACKOFF.0;
    loop {
        if attempts.len() < ATTEMPTS {
            let address = *address.borrow();
            attempts.spawn(timeout(CONNECT, TcpStream::connect(address)));
        }
        let again = sleep(pause);
        tokio::pin!(again);
        loop {
            tokio::select! {
                Some(attempt) = attempts.join_next() => {
                    if let Ok(Ok(Ok(stream))) = attempt {
                        return stream;
                    }
                }
                () = &mut again => break,
            }
        }
        pause = (pause * 2).min(BACKOFF.1);
    }
}

/// Sends until the connection breaks; says why it did.
async fn deliver(mut stream: TcpStream, hello: Hello, outbox: &Outbox) -> FrameError {
    if let Err(error) = set_options(&stream) {
        return error.into();
    }
    let mut frames = Vec::new();
    if let Err(error) = frame::push_sealed(&hello, MAX_FRAME, &mut frames) {
        return error;
    }
    let (mut reading, mut writing) = stream.split();
    // The peer never writes: whatever the reading half brings is the end of the connection.
    let broken = async {
        match reading.read(&mut [0; 1]).await {
            Ok(_) => FrameError::Cut,
            Err(error) => error.into(),
        }
    };
    let sending = async {
        loop {
            if let Err(error) = writing.write_all(&frames).await {
                return error.into();
            }
            frames.clear();
            if frames.capacity() > MAX_WAITING_UNCONNECTED * 16 {
                frames = Vec::new();
            }
            loop {
                mem::swap(&mut outbox.waiting().frames, &mut frames);
                if !frames.is_empty() {
                    break;
                }
                outbox.filled.notified().await;
            }
        }
    };
    tokio::select! {
        end = broken => end,
        end = sending => end,
    }
}

/// Turns batching by the kernel off and early death on.
fn set_options(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let unacknowledged = u32::try_from(UNACKNOWLEDGED.as_millis()).unwrap_or(u32::MAX);
    setsockopt(stream, sockopt::TcpUserTimeout, &unacknowledged)?;
    Ok(())
}

/// Accepts the connections of peers and hands what they say to `received`.
pub(crate) async fn accept<M: Machine>(
    me: NodeId,
    cluster: u64,
    nodes: usize,
    listener: TcpListener,
    received: mpsc::Sender<Received<M>>,
) {
    let places = Arc::new(Semaphore::new(INCOMING_PER_PEER * nodes.max(1)));
    let current: Arc<Mutex<Vec<Option<AbortHandle>>>> = Arc::new(Mutex::new(vec![None; nodes]));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!("can't accept a connection of a peer: {error}");
                sleep(BACKOFF.1).await;
                continue;
            }
        };
        let received = received.clone();
        let current = Arc::clone(&current);
        // The task learns its own abort handle only after it was spawned.
        let (give, take) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move {
            let _place = place;
            let mut reader = Reader::sealed(stream, MAX_FRAME);
            let hello = match timeout(INTRODUCTION, reader.next::<Hello>()).await {
                Ok(Ok(Some(hello))) => hello,
                // An attempt to connect that lost its race says nothing and goes.
                Ok(Ok(None)) | Err(_) => return,
                Ok(Err(error)) => return warn!("a connection without a proper hello: {error}"),
            };
            let from = usize::from(hello.from.0);
            if hello.version != VERSION || hello.cluster != cluster || hello.to != me || from >= nodes {
                return warn!("a connection that is not for us was refused: {hello:?}");
            }
            if let Ok(handle) = take.await {
                let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(old) = current[from].replace(handle) {
                    // The peer has begun anew: the old connection will never say anything again.
                    old.abort();
                }
            }
            match read(hello.from, &mut reader, &received).await {
                Ok(()) => debug!("{} closed its connection", hello.from),
                Err(error) => warn!("the connection of {} was closed: {error}", hello.from),
            }
        });
        // The task may have ended already.
        let _ = give.send(task.abort_handle());
    }
}

async fn read<M: Machine>(
    from: NodeId,
    reader: &mut Reader<TcpStream>,
    received: &mpsc::Sender<Received<M>>,
) -> Result<(), FrameError> {
    while let Some(message) = reader.next().await? {
        let mut messages = vec![message];
        while messages.len() < BATCH
            && let Some(message) = reader.buffered()?
        {
            messages.push(message);
        }
        if received.send(Received { from, messages }).await.is_err() {
            break;
        }
    }
    Ok(())
}

//! One node as a process: puts the log, the driver, the transport, the HTTP side and the control
//! channel together.

use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use duress_machine::{NodeId, Protocol};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::addresses::Addresses;
use crate::control::{self, Order, Report};
use crate::disk::Disk;
use crate::driver::{Driver, Inputs, Outputs, Wish};
use crate::http::{self, Api};
use crate::log::{Log, LogError};
use crate::transport::{self, Links};

/// How many batches of messages, requests or wishes may wait for the driver.
const QUEUE: usize = 1024;

/// How many reports may wait for the controller.
const REPORTS: usize = 16 << 10;

/// Why a node ended.
#[derive(Debug, Error)]
pub enum NodeError {
    /// The configuration makes no sense.
    #[error("the node's configuration is wrong: {0}")]
    Config(String),
    /// The log can't be opened or recovered.
    #[error("can't open the log: {0}")]
    Log(#[from] LogError),
    /// A write to the log failed. What is durable is not known any more, so the node ends; its
    /// next start finds out.
    #[error("the log can't be written, so this node stops: {0}")]
    Disk(Arc<LogError>),
    /// The disk thread ended without saying why.
    #[error("the disk thread ended, so this node stops")]
    DiskThread,
    /// An address can't be listened on.
    #[error("can't listen on {address} for {what}: {source}")]
    Listen {
        /// What for.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused something that every process needs.
    #[error("can't {doing}: {source}")]
    System {
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Everything about one node of a cluster of machines.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// Which node it is: its position in `peers`.
    pub id: NodeId,
    /// The cluster's name: nodes of clusters with other names are turned away. One without a name
    /// goes by the addresses of its nodes, which then must not change.
    #[serde(default)]
    pub cluster: Option<String>,
    /// The node-to-node address of every node, its own included.
    pub peers: Vec<SocketAddr>,
    /// Where it answers HTTP.
    pub http: SocketAddr,
    /// Where every node answers HTTP, as clients reach it: for redirects.
    pub http_peers: Vec<SocketAddr>,
    /// Where its log is. No other process may use the directory.
    pub data_dir: PathBuf,
    /// The name of the target that it runs.
    pub target: String,
    /// The configuration of its machine.
    pub config: serde_json::Value,
}

/// Runs a node of a cluster of these machines; see [`run_machine`].
pub fn run_node<P: Protocol>(config: NodeConfig, control: Option<UnixStream>) -> Result<(), NodeError> {
    let NodeConfig { id, cluster, peers, http, http_peers, data_dir, target, config } = config;
    let machine = serde_json::from_value(config).map_err(|e| NodeError::Config(format!("{target}: {e}")))?;
    let place = Place { id, cluster, peers, http, http_peers, data_dir, mode: P::target().name() };
    run_machine::<P>(place, &machine, control)
}

/// Everything about a node except what it runs.
#[derive(Clone, Debug)]
pub struct Place {
    /// Which node it is: its position in `peers`.
    pub id: NodeId,
    /// The cluster's name, if it has one.
    pub cluster: Option<String>,
    /// The node-to-node address of every node, its own included.
    pub peers: Vec<SocketAddr>,
    /// Where it answers HTTP.
    pub http: SocketAddr,
    /// Where every node answers HTTP, as clients reach it: for redirects.
    pub http_peers: Vec<SocketAddr>,
    /// Where its log is.
    pub data_dir: PathBuf,
    /// What `GET /status` calls the mode.
    pub mode: &'static str,
}

/// Runs a machine as this process's node until it is told to shut down, over `control` or never.
///
/// Blocks. Returns an error when the node can't start, and when its disk fails: the process
/// should then say so and exit with a code other than zero.
pub fn run_machine<M: Protocol>(
    place: Place,
    config: &M::Config,
    control: Option<UnixStream>,
) -> Result<(), NodeError> {
    let me = usize::from(place.id.0);
    if me >= place.peers.len() || place.peers.len() != place.http_peers.len() {
        return Err(NodeError::Config(format!(
            "{} among {} nodes with {} HTTP addresses",
            place.id,
            place.peers.len(),
            place.http_peers.len()
        )));
    }
    let (log, recovered) = Log::open_with(&place.data_dir, |bytes| M::read_log(config, bytes))?;
    info!("{} recovered {} records from {}", place.id, recovered.len(), place.data_dir.display());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| NodeError::System { doing: "start a runtime", source })?;
    runtime.block_on(run::<M>(place, config, control, log, recovered))
}

async fn run<M: Protocol>(
    place: Place,
    config: &M::Config,
    control: Option<UnixStream>,
    log: Log,
    recovered: Vec<M::Record>,
) -> Result<(), NodeError> {
    let own = place.peers[usize::from(place.id.0)];
    let peers = listen("other nodes", own).await?;
    let clients = listen("HTTP", place.http).await?;
    let (disk, progress) =
        Disk::start(log).map_err(|source| NodeError::System { doing: "start the disk thread", source })?;
    let (received_in, received) = mpsc::channel(QUEUE);
    let (calls_in, calls) = mpsc::channel(QUEUE);
    let (wishes_in, wishes) = mpsc::channel(QUEUE);
    let term = Arc::new(AtomicU64::new(0));
    let nodes = place.peers.len();
    let cluster = transport::cluster_id(place.cluster.as_deref(), &place.peers);
    let (peer_addresses, http_addresses) =
        (Arc::new(Addresses::new(&place.peers)), Arc::new(Addresses::new(&place.http_peers)));
    let moves = (Arc::clone(&peer_addresses), Arc::clone(&http_addresses));
    let reports = control.map(|stream| start_control(stream, wishes_in.clone(), moves)).transpose()?;
    tokio::spawn(transport::accept::<M>(place.id, cluster, nodes, peers, received_in));
    let links = Links::start(place.id, cluster, nodes, &peer_addresses);
    let api = Api::<M>::new(place.id, place.mode, http_addresses, calls_in, wishes_in, Arc::clone(&term));
    tokio::spawn(http::serve(clients, http::router(api)));
    let machine = M::new(config, place.id);
    let driver = Driver::start(machine, recovered, Outputs { links, disk, reports, term });
    driver.run(Inputs { received, calls, wishes, progress }).await
}

async fn listen(what: &'static str, address: SocketAddr) -> Result<TcpListener, NodeError> {
    TcpListener::bind(address).await.map_err(|source| NodeError::Listen { what, address, source })
}

/// Starts the two sides of the control channel. When it closes, the node goes on without it.
fn start_control(
    stream: UnixStream,
    wishes: mpsc::Sender<Wish>,
    (peers, clients): (Arc<Addresses>, Arc<Addresses>),
) -> Result<mpsc::Sender<Report>, NodeError> {
    let refused = |source| NodeError::System { doing: "use the control channel", source };
    stream.set_nonblocking(true).map_err(refused)?;
    let stream = tokio::net::UnixStream::from_std(stream).map_err(refused)?;
    let (reading, mut writing) = stream.into_split();
    let (sender, mut reports) = mpsc::channel::<Report>(REPORTS);
    tokio::spawn(async move {
        let mut frames = Vec::new();
        let mut batch = Vec::new();
        while reports.recv_many(&mut batch, 256).await > 0 {
            frames.clear();
            for report in batch.drain(..) {
                if let Err(error) = control::encode_into(&report, &mut frames) {
                    warn!("a report can't be sent: {error}");
                }
            }
            if writing.write_all(&frames).await.is_err() {
                return;
            }
        }
    });
    tokio::spawn(async move {
        let mut orders = control::reader(reading);
        loop {
            let wish = match orders.next::<Order>().await {
                Ok(Some(Order::Fenced { node })) => Wish::Fenced(node),
                Ok(Some(Order::Moved { node, peer, http })) => {
                    info!("{node} is at {peer} from now on");
                    peers.set(node, peer);
                    clients.set(node, http);
                    continue;
                }
                Ok(Some(Order::GetStatus)) => Wish::Report,
                Ok(Some(Order::Shutdown)) => Wish::Shutdown,
                Ok(None) => return info!("the controller closed the control channel; the node goes on"),
                Err(error) => return warn!("the control channel broke ({error}); the node goes on"),
            };
            if wishes.send(wish).await.is_err() {
                return;
            }
        }
    });
    Ok(sender)
}

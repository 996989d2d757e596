//! What the tests of real nodes share: a toy machine, and nodes as processes of their own.
//!
//! A node runs in a process of the test program itself, started anew with one test selected that
//! does nothing unless it finds its configuration in the environment.

#![allow(clippy::allow_attributes, reason = "whether code is dead depends on the test program")]
#![allow(dead_code, reason = "each test program uses a part of this")]

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use duress_driver::client::Client;
use duress_driver::{NodeConfig, NodeError, Place, run_machine};
use duress_history::{Function, Value as Any};
use duress_kv::api::{ClientId, Key, Op, Refusal, Reply, Request, Response, Value};
use duress_kv::paxos::Paxos;
use duress_machine::client::{Outcome, Policy};
use duress_machine::{
    Asker, Effect, Effects, Input, Journal, Machine, NodeId, Observation, Protocol, Reading, RequestId, Role, Status,
};
use duress_plug::{Opts, Target};
use serde::{Deserialize, Serialize};

/// A register store with one fixed leader, `n1`: a write is acknowledged when the leader's log and
/// those of all other nodes have it. Not for faults: it waits for the others forever.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Toy {
    me: NodeId,
    nodes: u16,
    values: BTreeMap<Key, Value>,
    journal: Journal<Toy>,
    /// By log position: who waits, and how many nodes have it.
    waiting: BTreeMap<u64, (RequestId, u16)>,
    position: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Say {
    Store { position: u64, key: Key, value: Value },
    Stored { position: u64 },
}

impl Toy {
    fn status(&self) -> Status {
        let role = if self.me == NodeId(0) { Role::Leader } else { Role::Follower };
        Status { role, term: 1, leader: Some(NodeId(0)), commit_index: self.position, digest: self.position }
    }

    fn stored(&mut self, position: u64, effects: &mut Effects<Self>) {
        let Some((id, count)) = self.waiting.get_mut(&position) else { return };
        *count += 1;
        if *count == self.nodes {
            effects.respond(*id, Response { node: self.me, term: 1, result: Ok(Reply::Done) });
            self.waiting.remove(&position);
        }
    }
}

impl Machine for Toy {
    type Config = u16;
    type Message = Say;
    type Record = (Key, Value);
    type Timer = ();
    type Request = Request;
    type Response = Response;

    fn new(nodes: &u16, me: NodeId) -> Self {
        let journal = Journal::default();
        Toy { me, nodes: *nodes, values: BTreeMap::new(), journal, waiting: BTreeMap::new(), position: 0 }
    }

    fn step(&mut self, input: Input<Self>, _now: Reading, effects: &mut Effects<Self>) {
        match input {
            Input::Started { recovered } => {
                self.position = recovered.len() as u64;
                self.values.extend(recovered);
                effects.observe(Observation::Status(Toy::status(self)));
                effects.set_timer((), Duration::from_millis(1));
            }
            Input::Timer(()) => effects.observe(Observation::Committed { index: self.position, digest: 7 }),
            Input::Request { id, request } => {
                let mut result = match request.op {
                    Op::Write { .. } if self.me != NodeId(0) => Err(Refusal::NotLeader { leader: Some(NodeId(0)) }),
                    Op::Write { key, value } if key != "never" => {
                        self.position += 1;
                        let position = self.position;
                        self.values.insert(key.clone(), value.clone());
                        self.journal.append((key.clone(), value.clone()), effects);
                        self.waiting.insert(position, (id, 0));
                        for to in (1..self.nodes).map(NodeId) {
                            effects.send(to, Say::Store { position, key: key.clone(), value: value.clone() });
                        }
                        // To oneself, by way of the journal: the effect is only a marker here.
                        let mine = Effect::Observe(Observation::Committed { index: position, digest: 0 });
                        self.journal.when_durable(mine, effects);
                        return;
                    }
                    // The request that is never answered.
                    Op::Write { .. } => return,
                    Op::Read { key } => Ok(Reply::Value(self.values.get(&key).cloned())),
                    Op::Scan { prefix } => {
                        let entries = self.values.iter().filter(|(key, _)| key.starts_with(prefix.as_str()));
                        Ok(Reply::Entries(entries.map(|(k, v)| (k.clone(), v.clone())).collect()))
                    }
                    Op::Cas { .. } => Err(Refusal::CasMismatch { actual: Some("x".into()) }),
                    Op::Acquire { .. } => Ok(Reply::Granted(duress_kv::api::Token(4))),
                    Op::Renew { .. } | Op::Release { .. } => Err(Refusal::NotHolder),
                };
                if request.client == ClientId(13) {
                    result = Err(Refusal::Unknown);
                }
                effects.respond(id, Response { node: self.me, term: 1, result });
            }
            Input::Message { from, message: Say::Store { position, key, value } } => {
                self.position = self.position.max(position);
                self.values.insert(key.clone(), value.clone());
                self.journal.append((key, value), effects);
                self.journal.when_durable(Effect::Send { to: from, message: Say::Stored { position } }, effects);
            }
            Input::Message { message: Say::Stored { position }, .. } => self.stored(position, effects),
            Input::Durable { through } => {
                let mut held = Effects::default();
                self.journal.durable(through, &mut held);
                for effect in held.drain() {
                    match effect {
                        Effect::Observe(Observation::Committed { index, .. }) => self.stored(index, effects),
                        other => effects.push(other),
                    }
                }
            }
            Input::Fenced { node } => {
                effects.observe(Observation::Committed { index: u64::from(node.0), digest: 99 });
            }
        }
    }

    fn status(&self, _now: Reading) -> Status {
        Toy::status(self)
    }
}

/// It speaks as the bundled service does.
impl Protocol for Toy {
    fn target() -> &'static dyn Target {
        Paxos::target()
    }

    fn config(_: &Opts, _: u64) -> u16 {
        1
    }

    fn request(who: Asker, op: &duress_history::Op) -> Option<Request> {
        Paxos::request(who, op)
    }

    fn reply(op: &duress_history::Op, response: &Response) -> duress_machine::Reply {
        Paxos::reply(op, response)
    }
}

/// Addresses on the loopback that nobody listened on a moment ago.
pub(crate) fn free_addresses(count: usize) -> Vec<SocketAddr> {
    let listeners: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap()).collect()
}

/// Where the nodes of a test cluster are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Layout {
    pub(crate) peers: Vec<SocketAddr>,
    pub(crate) http: Vec<SocketAddr>,
    pub(crate) directory: PathBuf,
}

impl Layout {
    pub(crate) fn new(nodes: usize, directory: &Path) -> Layout {
        let mut addresses = free_addresses(nodes * 2);
        let http = addresses.split_off(nodes);
        Layout { peers: addresses, http, directory: directory.to_path_buf() }
    }

    pub(crate) fn node(&self, id: u16, target: &str, config: serde_json::Value) -> NodeConfig {
        let Place { id, cluster, peers, http, http_peers, data_dir, .. } = self.place(id, "");
        NodeConfig { id, cluster, peers, http, http_peers, data_dir, target: target.into(), config }
    }

    pub(crate) fn place(&self, id: u16, mode: &'static str) -> Place {
        Place {
            id: NodeId(id),
            cluster: None,
            peers: self.peers.clone(),
            http: self.http[usize::from(id)],
            http_peers: self.http.clone(),
            data_dir: self.directory.join(format!("n{}", id + 1)),
            mode,
        }
    }
}

/// Runs a toy node in this process, on a thread.
pub(crate) fn spawn_toy(
    layout: &Layout,
    id: u16,
    control: Option<UnixStream>,
) -> std::thread::JoinHandle<Result<(), NodeError>> {
    let place = layout.place(id, "toy");
    let nodes = layout.peers.len() as u16;
    std::thread::spawn(move || run_machine::<Toy>(place, &nodes, control))
}

/// A process that is killed when the test is over, however that happens.
#[derive(Debug)]
pub(crate) struct Process(pub(crate) Child);

impl Process {
    /// Starts this test program again, running only `test`, with `value` in the environment.
    pub(crate) fn again(test: &str, value: &str, control: Option<UnixStream>) -> Process {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(CHILD, value);
        command.stderr(Stdio::inherit()).stdout(Stdio::piped()).stdin(Stdio::null());
        if let Some(control) = control {
            command.stdin(Stdio::from(OwnedFd::from(control)));
        }
        Process(command.spawn().unwrap())
    }

    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.0.id() as i32), signal).unwrap();
    }

    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The environment variable that carries a child's configuration.
const CHILD: &str = "DURESS_TEST_CHILD";

/// A child's configuration, if this process is one.
pub(crate) fn child() -> Option<String> {
    std::env::var(CHILD).ok()
}

/// A child's control channel: its standard input.
pub(crate) fn child_control() -> UnixStream {
    use std::os::fd::AsFd;
    UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap())
}

/// Asks again until there is an answer, for ten seconds at most.
pub(crate) fn eventually<T, E: std::fmt::Debug>(what: &str, mut ask: impl FnMut() -> Result<T, E>) -> T {
    let started = Instant::now();
    loop {
        match ask() {
            Ok(value) => return value,
            Err(seen) if started.elapsed() > Duration::from_secs(10) => panic!("{what}: after 10 s still {seen:?}"),
            Err(_) => std::thread::yield_now(),
        }
    }
}

pub(crate) fn policy() -> Policy {
    Policy {
        timeout: Duration::from_secs(5),
        attempt_timeout: Duration::from_secs(2),
        max_attempts: 200,
        backoff: Duration::from_millis(20),
        exactly_once: false,
        roam: false,
    }
}

/// Makes one call.
pub(crate) async fn call(
    client: &Client,
    id: u64,
    sequence: u64,
    op: &duress_history::Op,
    first: NodeId,
) -> Outcome<duress_machine::Reply> {
    client.call(Asker { client: id, sequence }, op, first).await
}

/// What a call gave back, if it took effect.
pub(crate) fn answer(outcome: &Outcome<duress_machine::Reply>) -> Option<&Any> {
    match outcome {
        Outcome::Ok { answer, .. } => Some(&answer.result),
        _ => None,
    }
}

pub(crate) fn write(key: &str, value: &str) -> duress_history::Op {
    duress_history::Op::on(Function::Write, key, value)
}

pub(crate) fn read(key: &str) -> duress_history::Op {
    duress_history::Op::on(Function::Read, key, Any::Nil)
}

/// Asks a node for one operation, given as JSON, as a person would.
pub(crate) fn op(address: SocketAddr, op: &str) -> std::io::Result<(u16, String, serde_json::Value)> {
    http(address, "POST /op", op)
}

/// One HTTP request by hand: what curl would see. Returns the code, the headers and the body.
pub(crate) fn http(
    address: SocketAddr,
    request: &str,
    body: &str,
) -> std::io::Result<(u16, String, serde_json::Value)> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(
        stream,
        "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let broken = || std::io::Error::other(format!("not HTTP: {text}"));
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(broken)?;
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(broken)?;
    Ok((code, head.to_ascii_lowercase(), serde_json::from_str(body).unwrap_or(serde_json::Value::Null)))
}

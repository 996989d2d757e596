//! Load on a loopback cluster of real processes: operations per second and CPU per request.
//!
//! `cargo run --release --example load -p duress-driver -- [MODE] [NODES] [CLIENTS] [REQUESTS]`, by
//! default `paxos 3 10 50000`. Half of the requests are writes. Every node is a process of its
//! own with a log on the disk of the temporary directory.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use duress_driver::client::Client;
use duress_driver::{NodeConfig, run_node};
use duress_history::{Function, Op, Value};
use duress_kv::{paxos, primary_backup, quorum};
use duress_machine::client::{Outcome, Policy};
use duress_machine::{Asker, NodeId};
use duress_seed::Seed;

const POLICY: Policy = Policy {
    timeout: Duration::from_secs(10),
    attempt_timeout: Duration::from_secs(5),
    max_attempts: 200,
    backoff: Duration::from_millis(20),
    exactly_once: false,
    roam: false,
};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "node") {
        return node(&arguments[1..]);
    }
    let mode = arguments.first().map_or("paxos", String::as_str);
    let number =
        |position: usize, otherwise: usize| arguments.get(position).and_then(|n| n.parse().ok()).unwrap_or(otherwise);
    load(mode, number(1, 3), number(2, 10), number(3, 50_000));
    ExitCode::SUCCESS
}

/// Runs one node: `MODE ID DIRECTORY PEERS HTTP`, addresses joined by commas.
fn node(arguments: &[String]) -> ExitCode {
    let [mode, id, directory, peers, http] = arguments else { return ExitCode::from(2) };
    let addresses =
        |text: &str| text.split(',').filter_map(|address| address.parse().ok()).collect::<Vec<SocketAddr>>();
    let id: u16 = id.parse().unwrap_or(0);
    let (peers, http) = (addresses(peers), addresses(http));
    let nodes = peers.len() as u16;
    let majority = nodes / 2 + 1;
    let machine = match mode.as_str() {
        "paxos" => serde_json::to_value(paxos::Config::new(nodes, Seed(1))),
        "primary-backup" => serde_json::to_value(primary_backup::Config::new(nodes, Seed(1))),
        "quorum" => serde_json::to_value(quorum::Config::new(nodes, majority, majority, Seed(1))),
        _ => return ExitCode::from(2),
    };
    let config = NodeConfig {
        id: NodeId(id),
        cluster: None,
        peers,
        http: http[usize::from(id)],
        http_peers: http,
        data_dir: Path::new(directory).join(format!("n{}", id + 1)),
        target: mode.clone(),
        config: machine.expect("a configuration is plain data"),
    };
    let end = match mode.as_str() {
        "paxos" => run_node::<paxos::Paxos>(config, None),
        "primary-backup" => run_node::<primary_backup::PrimaryBackup>(config, None),
        _ => run_node::<quorum::Quorum>(config, None),
    };
    match end {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Kills its process in the end.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn load(mode: &str, nodes: usize, clients: usize, requests: usize) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let free: Vec<TcpListener> = (0..nodes * 2).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
    let addresses: Vec<SocketAddr> = free.iter().map(|listener| listener.local_addr().expect("an address")).collect();
    drop(free);
    let (peers, http) = addresses.split_at(nodes);
    let joined = |some: &[SocketAddr]| some.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(",");
    let program = std::env::current_exe().expect("the program's own path");
    let processes: Vec<Killed> = (0..nodes)
        .map(|id| {
            let id = id.to_string();
            let mut command = Command::new(&program);
            command.args(["node", mode, &id]).arg(directory.path()).args([joined(peers), joined(http)]);
            Killed(command.spawn().expect("a process"))
        })
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let client = Arc::new(Client::new(http.to_vec(), POLICY));
        let begun = Instant::now();
        client.call(Asker { client: 1, sequence: 0 }, &Op::on(Function::Write, "k", "v"), NodeId(0)).await;
        println!("{nodes} nodes of {mode} serve after {:.0?}", begun.elapsed());

        let cpu = |process: &Killed| cpu_seconds(process.0.id());
        let before: Vec<f64> = processes.iter().map(cpu).collect();
        let own = cpu_seconds(std::process::id());
        let begun = Instant::now();
        let each = requests / clients.max(1);
        let tasks: Vec<_> = (0..clients)
            .map(|index| {
                let client = Arc::clone(&client);
                tokio::spawn(async move { one_client(&client, index as u64, each as u64, nodes as u64).await })
            })
            .collect();
        let mut latencies = Vec::new();
        let mut others = 0;
        for task in tasks {
            let (mine, bad) = task.await.expect("a client task");
            latencies.extend(mine);
            others += bad;
        }
        let seconds = begun.elapsed().as_secs_f64();
        latencies.sort_unstable();
        let at =
            |share: f64| latencies.get(((latencies.len() as f64 - 1.0) * share) as usize).copied().unwrap_or_default();
        let count = latencies.len() as f64;
        println!("{count} ok, {others} not, {:.0} op/s", count / seconds);
        println!("latency: median {:.0?}, 99% {:.0?}, longest {:.0?}", at(0.5), at(0.99), at(1.0));
        let after: Vec<f64> = processes.iter().map(cpu).collect();
        for (id, (before, after)) in before.iter().zip(&after).enumerate() {
            println!("n{}: {:.0} µs CPU per request of the cluster", id + 1, (after - before) / count * 1e6);
        }
        println!("clients: {:.0} µs CPU per request", (cpu_seconds(std::process::id()) - own) / count * 1e6);
    });
}

async fn one_client(client: &Client, index: u64, requests: u64, nodes: u64) -> (Vec<Duration>, u64) {
    let mut latencies = Vec::with_capacity(requests as usize);
    let mut others = 0;
    let mut node = NodeId((index % nodes) as u16);
    for sequence in 1..=requests {
        let key = format!("k{}", Seed(index).decide(&[sequence]).below(100));
        let op = match sequence % 2 {
            0 => Op::on(Function::Read, &*key, Value::Nil),
            _ => Op::on(Function::Write, &*key, sequence),
        };
        let begun = Instant::now();
        match client.call(Asker { client: 100 + index, sequence }, &op, node).await {
            Outcome::Ok { node: answered, .. } => {
                node = answered;
                latencies.push(begun.elapsed());
            }
            Outcome::Failed { .. } | Outcome::Unknown { .. } => others += 1,
        }
    }
    (latencies, others)
}

/// User and system time of a process so far, all threads.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, in parentheses, may hold anything; utime and stime are the 12th and 13th after it.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or(Vec::new(), |(_, rest)| rest.split_whitespace().collect());
    let ticks = |position: usize| fields.get(position).and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

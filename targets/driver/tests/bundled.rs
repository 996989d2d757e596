//! The bundled machines as real processes on the loopback, under SIGKILL and SIGSTOP of their
//! leader.

mod support;

use std::time::Duration;

use duress_driver::client::Client;
use duress_driver::{NodeConfig, run_node};
use duress_history::Value;
use duress_kv::config::Config;
use duress_kv::paxos::Paxos;
use duress_kv::primary_backup::PrimaryBackup;
use duress_kv::quorum::Quorum;
use duress_kv::{paxos, primary_backup, quorum};
use duress_machine::NodeId;
use duress_machine::client::Policy;
use duress_seed::Seed;
use nix::sys::signal::Signal;
use support::{Layout, Process, answer, call, child, eventually, http, op, read, write};

const NODES: u16 = 3;

/// A node, when started as a child with its configuration.
#[test]
fn child_node() {
    let Some(config) = child() else { return };
    let config: NodeConfig = serde_json::from_str(&config).unwrap();
    match config.target.as_str() {
        "paxos" => run_node::<Paxos>(config, None).unwrap(),
        "primary-backup" => run_node::<PrimaryBackup>(config, None).unwrap(),
        _ => run_node::<Quorum>(config, None).unwrap(),
    }
}

fn start(layout: &Layout, id: u16, target: &Config) -> Process {
    let config = match target {
        Config::Paxos(config) => serde_json::to_value(config),
        Config::PrimaryBackup(config) => serde_json::to_value(config),
        Config::Quorum(config) => serde_json::to_value(config),
    };
    let config = layout.node(id, target.mode(), config.unwrap());
    Process::again("child_node", &serde_json::to_string(&config).unwrap(), None)
}

/// Who leads, as most nodes see it.
fn leader(layout: &Layout, except: Option<u16>) -> u16 {
    eventually("a leader", || {
        let others = (0..NODES).filter(|id| Some(*id) != except);
        let named = others.filter_map(|id| {
            let (_, _, body) = http(layout.http[usize::from(id)], "GET /status", "").ok()?;
            body["leader"].as_str()?.strip_prefix('n')?.parse::<u16>().ok()
        });
        let named: Vec<u16> = named.collect();
        match named.first() {
            Some(leader)
                if named.len() >= 2 && named.iter().all(|named| named == leader) && Some(leader - 1) != except =>
            {
                Ok(leader - 1)
            }
            _ => Err(named),
        }
    })
}

#[test]
fn paxos_keeps_acknowledged_writes_while_its_leaders_die_and_stop() {
    leaders_die_and_stop(&Config::Paxos(paxos::Config::new(NODES, Seed(1))));
}

#[test]
fn voting_primary_backup_keeps_acknowledged_writes_while_its_primaries_die_and_stop() {
    let config = primary_backup::Config::new(NODES, Seed(1));
    let config = primary_backup::Config { failover: primary_backup::Failover::Vote, ..config };
    leaders_die_and_stop(&Config::PrimaryBackup(config));
}

fn leaders_die_and_stop(target: &Config) {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(usize::from(NODES), directory.path());
    let mut nodes: Vec<Process> = (0..NODES).map(|id| start(&layout, id, target)).collect();
    let policy = Policy {
        timeout: Duration::from_secs(10),
        attempt_timeout: Duration::from_millis(150),
        max_attempts: 500,
        backoff: Duration::from_millis(20),
        exactly_once: true,
        roam: true,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = Client::new(layout.http.clone(), policy);
    let mut sequence = 0;
    let mut write_some = |count: u64| {
        for _ in 0..count {
            sequence += 1;
            let op = write(&format!("k{}", sequence % 10), &sequence.to_string());
            // Retried until it is certain: the service applies it once.
            let outcome = runtime.block_on(call(&client, 1, sequence, &op, NodeId((sequence % 3) as u16)));
            assert_eq!(answer(&outcome), Some(&Value::Nil), "write {sequence}: {outcome:?}");
        }
        for key in 0..10 {
            let newest = (0..=sequence).rev().find(|written| written % 10 == key).unwrap();
            let outcome = runtime.block_on(call(&client, 100 + newest, 1, &read(&format!("k{key}")), NodeId(0)));
            let expected = if newest == 0 { Value::Nil } else { Value::from(newest) };
            assert_eq!(answer(&outcome), Some(&expected), "after write {sequence}");
        }
    };
    write_some(50);

    let dead = leader(&layout, None);
    nodes[usize::from(dead)].kill();
    write_some(50);
    nodes[usize::from(dead)] = start(&layout, dead, target);
    let stopped = leader(&layout, Some(dead));
    nodes[usize::from(stopped)].signal(Signal::SIGSTOP);
    write_some(50);
    nodes[usize::from(stopped)].signal(Signal::SIGCONT);
    write_some(50);

    // All at once, and back.
    for node in &mut nodes {
        node.kill();
    }
    nodes = (0..NODES).map(|id| start(&layout, id, target)).collect();
    write_some(20);

    // The nodes agree on what they have in common, once they have all of it.
    let digests = eventually("equal digests", || {
        let status = |id: u16| http(layout.http[usize::from(id)], "GET /status", "").ok().map(|(_, _, body)| body);
        let seen: Vec<_> = (0..NODES)
            .filter_map(status)
            .map(|body| (body["commit_index"].as_u64(), body["digest"].to_string()))
            .collect();
        if seen.len() == 3 && seen.iter().all(|one| *one == seen[0]) { Ok(seen) } else { Err(seen) }
    });
    assert!(digests[0].0 >= Some(220), "{digests:?}");
    drop(nodes);
}

#[test]
fn a_quorum_answers_while_one_node_is_dead() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(usize::from(NODES), directory.path());
    let target = Config::Quorum(quorum::Config::new(NODES, 2, 2, Seed(1)));
    let mut nodes: Vec<Process> = (0..NODES).map(|id| start(&layout, id, &target)).collect();
    let put = |node: usize, value: &str| {
        eventually("a write", || {
            match op(layout.http[node], &format!(r#"{{"f": "write", "key": "k", "value": "{value}"}}"#)) {
                Ok((200, _, _)) => Ok(()),
                other => Err(other),
            }
        });
    };
    let get = |node: usize| {
        eventually("a read", || match op(layout.http[node], r#"{"f": "read", "key": "k"}"#) {
            Ok((200, _, body)) => Ok(body["result"].as_i64()),
            other => Err(other),
        })
    };
    put(0, "1");
    assert_eq!(get(1), Some(1));
    nodes[0].kill();
    put(1, "2");
    nodes[0] = start(&layout, 0, &target);
    assert_eq!(get(0), Some(2), "the node that was away reads what it missed");
    let (code, _, body) = op(layout.http[1], r#"{"f": "cas", "key": "k", "value": ["2", "3"]}"#).unwrap();
    assert_eq!((code, &body["error"], &body["definite"]), (501, &"not-supported".into(), &true.into()));
}

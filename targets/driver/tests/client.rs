//! The client against a server that breaks connections at every point: what may have been
//! received is never reported as failed.

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use duress_driver::client::Client;
use duress_machine::client::{Disposition, Outcome, Policy};
use duress_machine::{NodeId, Reply};
use duress_seed::Seed;
use support::{call, write};

/// The sequence numbers of all requests that a server has received in full and did not definitely
/// refuse: each of them may have taken effect.
type Effective = Arc<Mutex<BTreeSet<u64>>>;

/// Serves on a port, breaking what it can.
fn chaotic_server(seed: Seed, effective: Effective) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for (connection, stream) in (0..).zip(listener.incoming()) {
            let (seed, effective) = (seed, Arc::clone(&effective));
            // An error here is a connection that broke, as intended.
            std::thread::spawn(move || serve(stream?, seed, connection, &effective));
        }
    });
    address
}

fn serve(stream: TcpStream, seed: Seed, connection: u64, effective: &Effective) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    for exchange in 0.. {
        let what = seed.decide(&[connection, exchange]).below(13);
        if what == 0 {
            return Ok(()); // before anything is read, perhaps while it is being written
        }
        let Some(request) = read_request(&mut reader)? else { return Ok(()) };
        if ![2, 3, 5].contains(&what) {
            effective.lock().unwrap().insert(request);
        }
        let result = match what {
            1 => return Ok(()), // received, not answered
            2 => Reply::refused(Disposition::Retry, "unavailable"),
            3 => Reply::refused(Disposition::Redirect(NodeId(1)), "not-leader"),
            4 => Reply::refused(Disposition::Unknown, "unknown"),
            5 => Reply::refused(Disposition::Fail, "lock-held"),
            _ => Reply::ok(duress_history::Value::Nil),
        };
        let body = serde_json::to_vec(&result.by(NodeId(0), 1))?;
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nduress-checksum: {:08x}\r\ncontent-length: {}\r\n\r\n",
            crc32fast::hash(&body),
            body.len()
        );
        let mut answer = [head.as_bytes(), &body].concat();
        if what == 12 {
            // One bit is wrong, so that it is not an answer any more, whatever it reads like.
            effective.lock().unwrap().remove(&request);
            let bit = seed.decide(&[connection, exchange, 1]).below(body.len() as u64 * 8) as usize;
            answer[head.len() + bit / 8] ^= 1 << (bit % 8);
        }
        if what == 6 {
            return stream.write_all(&answer[..answer.len() / 2]); // half an answer
        }
        stream.write_all(&answer)?;
        if what == 7 {
            return Ok(()); // an idle connection closed
        }
    }
    Ok(())
}

/// The number of the next request.
fn read_request(reader: &mut impl BufRead) -> std::io::Result<Option<u64>> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().map_err(std::io::Error::other)?;
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let question: serde_json::Value = serde_json::from_slice(&body)?;
    question["sequence"].as_u64().map(Some).ok_or_else(|| std::io::Error::other("a question without its number"))
}

#[test]
fn what_may_have_happened_is_never_failed() {
    let policy = Policy {
        timeout: Duration::from_secs(2),
        attempt_timeout: Duration::from_millis(500),
        max_attempts: 3,
        backoff: Duration::from_millis(1),
        exactly_once: false,
        roam: true,
    };
    let effective = Effective::default();
    let nodes = (0..2).map(|node| chaotic_server(Seed(node), Arc::clone(&effective))).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcomes = runtime.block_on(async {
        let client = Arc::new(Client::new(nodes, policy));
        let calls = (0..8_u64).map(|worker| {
            let client = Arc::clone(&client);
            tokio::spawn(async move {
                let mut outcomes = Vec::new();
                for i in 0..150 {
                    let sequence = worker * 1000 + i;
                    let outcome = call(&client, worker, sequence, &write("k", "v"), NodeId((i % 2) as u16)).await;
                    outcomes.push((sequence, outcome));
                }
                outcomes
            })
        });
        let mut outcomes = Vec::new();
        for call in calls.collect::<Vec<_>>() {
            outcomes.extend(call.await.unwrap());
        }
        outcomes
    });
    let effective = effective.lock().unwrap();
    let (mut ok, mut failed, mut unknown) = (0, 0, 0);
    for (sequence, outcome) in outcomes {
        match outcome {
            Outcome::Ok { .. } => {
                assert!(effective.contains(&sequence), "{sequence} is ok though no server has seen it");
                ok += 1;
            }
            Outcome::Failed { .. } => {
                assert!(!effective.contains(&sequence), "{sequence} may have taken effect and is said to have failed");
                failed += 1;
            }
            Outcome::Unknown { .. } => unknown += 1,
        }
    }
    // Each kind is there, or the servers were not chaotic enough to test anything.
    assert!(ok > 300 && failed > 30 && unknown > 100, "{ok} ok, {failed} failed, {unknown} unknown");
}

//! Nodes on the loopback: the HTTP API, the client, the control channel, and what signals and
//! full disks do to them. With a toy machine; the bundled ones have their own tests.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use duress_driver::client::Client;
use duress_driver::control::{self, Order, Report};
use duress_driver::run_machine;
use duress_history::Value;
use duress_machine::client::{Outcome, Policy};
use duress_machine::{NodeId, Observation};
use nix::sys::signal::Signal;
use support::{Layout, Process, Toy, answer, call, child, eventually, http, op, policy, read, spawn_toy, write};

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// What a write of this text reads as.
fn value(text: &str) -> Value {
    text.parse().map_or_else(|_| Value::from(text), Value::Int)
}

/// A node of a toy cluster, when started as a child with its layout and number.
#[test]
fn child_node() {
    let Some(config) = child() else { return };
    let (layout, id): (Layout, u16) = serde_json::from_str(&config).unwrap();
    let end = run_machine::<Toy>(layout.place(id, "toy"), &(layout.peers.len() as u16), None);
    if let Err(error) = end {
        println!("NODE ENDED: {error}");
        std::process::exit(1);
    }
}

fn child_config(layout: &Layout, id: u16) -> String {
    serde_json::to_string(&(layout, id)).unwrap()
}

#[test]
fn a_cluster_serves_http_as_curl_sees_it() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(2, directory.path());
    let _nodes: Vec<_> = (0..2).map(|id| spawn_toy(&layout, id, None)).collect();
    let ask = |node: usize, line: &str, body: &str| eventually(line, || http(layout.http[node], line, body));

    let op = |node: usize, op: &str| ask(node, "POST /op", op);

    let (code, _, body) = op(0, r#"{"f": "write", "key": "a b", "value": "1"}"#);
    assert_eq!((code, &body["node"], &body["term"]), (200, &"n1".into(), &1.into()), "{body}");
    let (code, _, body) = op(0, r#"{"f": "read", "key": "a b"}"#);
    assert_eq!((code, &body["result"]), (200, &1.into()));
    let (code, _, body) = op(1, r#"{"f": "read", "key": "unset"}"#);
    assert_eq!((code, &body["result"], &body["node"]), (200, &serde_json::Value::Null, &"n2".into()));
    assert!(body.as_object().unwrap().contains_key("result"), "{body}");

    let (code, head, body) = op(1, r#"{"f": "write", "key": "k", "value": "2"}"#);
    assert_eq!(
        (code, &body["error"], &body["definite"], &body["leader"]),
        (307, &"not-leader".into(), &true.into(), &"n1".into())
    );
    assert!(head.contains(&format!("location: http://{}/op", layout.http[0])), "{head}");

    let (code, _, body) = op(0, r#"{"f": "cas", "key": "k", "value": [null, "3"]}"#);
    assert_eq!((code, &body["error"], &body["result"]), (409, &"cas-mismatch".into(), &"x".into()), "{body}");
    let (code, _, body) = op(0, r#"{"f": "acquire", "key": "l", "value": {"lease-ms": 1000}}"#);
    assert_eq!((code, &body["result"]), (200, &4.into()), "{body}");
    let (code, _, body) = op(0, r#"{"f": "release", "key": "l", "value": 4}"#);
    assert_eq!((code, &body["error"], &body["definite"]), (409, &"not-holder".into(), &true.into()));
    let (code, _, body) = op(0, r#"{"f": "dance", "key": "k"}"#);
    assert_eq!((code, &body["error"], &body["definite"]), (501, &"not-supported".into(), &true.into()));

    for (line, body) in [
        ("POST /op", "{"),
        ("POST /op", r#"{"key": "k"}"#),
        ("POST /op", r#"{"f": 7}"#),
        ("POST /op HTTP/1.1\r\nduress-client: -1\r\nX: ", r#"{"f": "read", "key": "k"}"#),
        ("POST /ask", "{}"),
    ] {
        let (code, _, answer) = ask(0, line, body);
        assert!(code == 400 || code == 415, "{line} {body}: {code} {answer}");
    }

    let (code, _, body) = ask(0, "GET /status", "");
    assert_eq!(
        (code, &body["node"], &body["mode"], &body["role"], &body["leader"]),
        (200, &"n1".into(), &"toy".into(), &"leader".into(), &"n1".into())
    );
    assert!(body["wall_us"].as_u64() > Some(1_600_000_000_000_000), "{body}");
    assert_eq!(body["digest"].as_str().map(str::len), Some(16));
}

#[test]
fn the_client_follows_redirects_and_uses_connections_again() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(3, directory.path());
    let _nodes: Vec<_> = (0..3).map(|id| spawn_toy(&layout, id, None)).collect();
    block_on(async {
        let client = Client::new(layout.http.clone(), policy());
        for i in 0..50 {
            let text = i.to_string();
            // n3 does not lead: the answer comes from n1.
            let outcome = call(&client, 1, i * 2, &write("k", &text), NodeId(2)).await;
            assert!(matches!(outcome, Outcome::Ok { node: NodeId(0), .. }), "{outcome:?}");
            let outcome = call(&client, 1, i * 2 + 1, &read("k"), NodeId(0)).await;
            assert_eq!(answer(&outcome), Some(&value(&text)));
        }
    });
}

#[test]
fn no_answer_is_unknown_and_no_connection_is_failed() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(1, directory.path());
    let _node = spawn_toy(&layout, 0, None);
    let short = Policy { attempt_timeout: Duration::from_millis(100), max_attempts: 100, ..policy() };
    block_on(async {
        let client = Client::new(layout.http.clone(), policy());
        let outcome = call(&client, 1, 1, &read("k"), NodeId(0)).await;
        assert_eq!(answer(&outcome), Some(&Value::Nil));
        let client = Client::new(layout.http.clone(), short);
        // Never answered by the machine.
        let outcome = call(&client, 1, 2, &write("never", "1"), NodeId(0)).await;
        assert_eq!(outcome, Outcome::Unknown { answer: None });
        // Answered "unknown".
        let client = Client::new(layout.http.clone(), policy());
        let outcome = call(&client, 13, 1, &read("k"), NodeId(0)).await;
        assert!(
            matches!(&outcome, Outcome::Unknown { answer: Some(said) } if said.error.as_deref() == Some("unknown")),
            "{outcome:?}"
        );
        // Nobody listens.
        let nobody = Client::new(support::free_addresses(1), Policy { max_attempts: 3, ..short });
        let outcome = call(&nobody, 1, 3, &read("k"), NodeId(0)).await;
        assert_eq!(outcome, Outcome::Failed { answer: None });
    });
}

#[test]
fn a_server_that_hangs_up_makes_unknown_not_failed() {
    // Reads the request, says nothing, and closes.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 16];
        stream.read_exact(&mut head).unwrap();
        // An answer cut off half-way, the second time.
        let (mut second, _) = listener.accept().unwrap();
        drop(stream);
        second.read_exact(&mut head).unwrap();
        second.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"node\"").unwrap();
    });
    block_on(async {
        let client = Client::new(vec![address], policy());
        let op = write("k", "1");
        let (first, second) = tokio::join!(call(&client, 1, 1, &op, NodeId(0)), call(&client, 2, 1, &op, NodeId(0)));
        assert_eq!(first, Outcome::Unknown { answer: None });
        assert_eq!(second, Outcome::Unknown { answer: None });
    });
    server.join().unwrap();
}

#[test]
fn the_control_channel_reports_and_orders() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(1, directory.path());
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let node = spawn_toy(&layout, 0, Some(theirs));
    let mut channel = &ours;
    let mut next = || control::read_blocking::<Report>(&mut channel).unwrap().expect("the node still reports");

    assert!(matches!(next(), Report::Observation(Observation::Status(_))));
    assert!(matches!(next(), Report::Status { .. }));
    assert_eq!(next(), Report::Ready);
    // Ready means ready.
    assert_eq!(http(layout.http[0], "GET /status", "").unwrap().0, 200);
    // The timer of the machine, and two periodic reports.
    let mut committed = false;
    let mut readings = Vec::new();
    while !committed || readings.len() < 3 {
        match next() {
            Report::Observation(Observation::Committed { digest: 7, .. }) => committed = true,
            Report::Status { wall, monotonic, .. } => readings.push((wall, monotonic)),
            other => panic!("unexpected: {other:?}"),
        }
    }
    assert!(readings.is_sorted_by_key(|(_, monotonic)| *monotonic), "{readings:?}");

    let order = |order: Order| (&ours).write_all(&control::encode(&order).unwrap()).unwrap();
    order(Order::Fenced { node: NodeId(5) });
    while next() != Report::Observation(Observation::Committed { index: 5, digest: 99 }) {}
    order(Order::Shutdown);
    node.join().unwrap().unwrap();
}

#[test]
fn a_node_goes_on_without_its_controller() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(1, directory.path());
    let (ours, theirs) = UnixStream::pair().unwrap();
    let _node = spawn_toy(&layout, 0, Some(theirs));
    control::read_blocking::<Report>(&mut &ours).unwrap();
    drop(ours);
    for _ in 0..20 {
        let (code, _, _) = eventually("a write", || op(layout.http[0], r#"{"f": "write", "key": "k", "value": "1"}"#));
        assert_eq!(code, 200);
    }
}

#[test]
fn acknowledged_writes_survive_sigkill_and_peers_reconnect() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(2, directory.path());
    let mut nodes: Vec<_> = (0..2).map(|id| Process::again("child_node", &child_config(&layout, id), None)).collect();
    let policy = Policy { attempt_timeout: Duration::from_secs(1), ..policy() };
    let mut written = 0_u64;
    for life in 0..4 {
        block_on(async {
            let client = Client::new(layout.http.clone(), policy);
            let outcome = call(&client, 1, 0, &read("k"), NodeId(0)).await;
            if life > 0 {
                assert_eq!(answer(&outcome), Some(&value(&written.to_string())), "life {life}");
            }
            // The first write of a life may be lost with a connection that nobody knew to be dead.
            let mut acknowledged = 0;
            while acknowledged < 30 {
                written += 1;
                let outcome = call(&client, 1, 0, &write("k", &written.to_string()), NodeId(0)).await;
                match outcome {
                    Outcome::Ok { .. } => acknowledged += 1,
                    Outcome::Unknown { .. } => {}
                    Outcome::Failed { .. } => panic!("{outcome:?}"),
                }
            }
        });
        let victim = life % 2;
        nodes[victim].kill();
        nodes[victim] = Process::again("child_node", &child_config(&layout, victim as u16), None);
    }
}

#[test]
fn a_stopped_node_makes_unknown_and_answers_again_when_it_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(1, directory.path());
    let node = Process::again("child_node", &child_config(&layout, 0), None);
    block_on(async {
        let patient = Client::new(layout.http.clone(), policy());
        let hasty = Policy { attempt_timeout: Duration::from_millis(200), ..policy() };
        let hasty = Client::new(layout.http.clone(), hasty);
        let outcome = call(&patient, 1, 1, &write("k", "1"), NodeId(0)).await;
        assert!(matches!(outcome, Outcome::Ok { .. }), "{outcome:?}");
        node.signal(Signal::SIGSTOP);
        let outcome = call(&hasty, 1, 2, &write("k", "2"), NodeId(0)).await;
        assert_eq!(outcome, Outcome::Unknown { answer: None });
        node.signal(Signal::SIGCONT);
        let outcome = call(&patient, 1, 3, &read("k"), NodeId(0)).await;
        assert!(matches!(outcome, Outcome::Ok { .. }), "{outcome:?}");
    });
}

#[test]
fn a_full_disk_stops_the_node_and_it_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(1, directory.path());
    // A limit on the length of files stands in for a full disk: the same call fails the same way.
    let mut node = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 600; exec \"$0\" --exact child_node --nocapture"])
        .arg(std::env::current_exe().unwrap())
        .env("DURESS_TEST_CHILD", child_config(&layout, 0))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .map(Process)
        .unwrap();
    let long = "x".repeat(20_000);
    let mut acknowledged = 0;
    block_on(async {
        let client = Client::new(layout.http.clone(), policy());
        loop {
            match call(&client, 1, 1, &write(&format!("k{acknowledged}"), &long), NodeId(0)).await {
                Outcome::Ok { .. } => acknowledged += 1,
                Outcome::Unknown { .. } => break,
                failed @ Outcome::Failed { .. } => panic!("{failed:?}"),
            }
            assert!(acknowledged < 1000, "the limit was never reached");
        }
    });
    let mut said = String::new();
    node.0.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(node.0.wait().unwrap().code(), Some(1));
    assert!(said.contains("NODE ENDED: the log can't be written, so this node stops: can't extend"), "{said}");
    // What was acknowledged is there when the disk has room again.
    let _node = Process::again("child_node", &child_config(&layout, 0), None);
    assert!(acknowledged > 0);
    for key in 0..acknowledged {
        let read = format!(r#"{{"f": "read", "key": "k{key}"}}"#);
        let (_, _, body) = eventually("a read", || op(layout.http[0], &read));
        assert_eq!(body["result"].as_str().map(str::len), Some(long.len()), "k{key} of {acknowledged}");
    }
}

#[test]
fn a_node_out_of_descriptors_serves_whom_it_has_and_rests() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(1, directory.path());
    let node = std::process::Command::new("sh")
        .args(["-c", "ulimit -n 40; exec \"$0\" --exact child_node --nocapture"])
        .arg(std::env::current_exe().unwrap())
        .env("DURESS_TEST_CHILD", child_config(&layout, 0))
        .stdout(std::process::Stdio::null())
        .spawn()
        .map(Process)
        .unwrap();
    eventually("the node", || http(layout.http[0], "GET /status", ""));
    let pid = node.0.id();
    let open = || std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    block_on(async {
        let client = Client::new(layout.http.clone(), policy());
        let put = async |value: &str| call(&client, 1, 1, &write("k", value), NodeId(0)).await;
        assert!(matches!(put("before").await, Outcome::Ok { .. }));
        // More than it has descriptors for; the system takes them in all the same.
        let crowd: Vec<_> = (0..100).map(|_| std::net::TcpStream::connect(layout.http[0]).unwrap()).collect();
        eventually("all are in use", || if open() >= 40 { Ok(()) } else { Err(open()) });
        let used = || {
            let clock = nix::time::ClockId::pid_cpu_clock_id(nix::unistd::Pid::from_raw(pid as i32)).unwrap();
            Duration::from(nix::time::clock_gettime(clock).unwrap())
        };
        let (began, before) = (std::time::Instant::now(), used());
        // The connection that was made before goes on.
        for i in 0..20 {
            assert!(matches!(put(&i.to_string()).await, Outcome::Ok { .. }));
        }
        std::thread::sleep(Duration::from_millis(500));
        let (took, used) = (began.elapsed(), used() - before);
        assert!(used < took / 2, "it used {used:?} of {took:?} without anything to do");
        drop(crowd);
    });
    let (code, ..) = eventually("a new connection", || op(layout.http[0], r#"{"f": "read", "key": "k"}"#));
    assert_eq!(code, 200);
}

#[test]
fn a_second_node_on_the_same_data_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(1, directory.path());
    let _node = spawn_toy(&layout, 0, None);
    eventually("the first node", || http(layout.http[0], "GET /status", ""));
    let mut second = Process::again("child_node", &child_config(&layout, 0), None);
    let said: Vec<String> = BufReader::new(second.0.stdout.take().unwrap()).lines().map_while(Result::ok).collect();
    assert_eq!(second.0.wait().unwrap().code(), Some(1));
    assert!(said.iter().any(|line| line.contains("is in use by another node")), "{said:?}");
}

#[test]
fn rubbish_from_a_peer_closes_the_connection_and_hurts_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(2, directory.path());
    let _nodes: Vec<_> = (0..2).map(|id| spawn_toy(&layout, id, None)).collect();
    eventually("a node", || http(layout.http[0], "GET /status", ""));
    let hello = |cluster: u64| control::encode(&(1_u32, cluster, NodeId(1), NodeId(0))).unwrap();
    for rubbish in [vec![0xff; 64], vec![0; 64], b"GET / HTTP/1.1\r\n\r\n".to_vec(), hello(1)] {
        let mut stream = std::net::TcpStream::connect(layout.peers[0]).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(&rubbish).unwrap();
        match stream.read(&mut [0; 1]) {
            Ok(0) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            other => panic!("not closed after {rubbish:?}: {other:?}"),
        }
    }
    // The true peer's connection works on: a write needs both nodes.
    let (code, _, body) = eventually("a write", || op(layout.http[0], r#"{"f": "write", "key": "k", "value": "1"}"#));
    assert_eq!(code, 200, "{body}");
}

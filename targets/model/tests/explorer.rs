//! The explorer answers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use duress_kv::config::Config;
use duress_kv::primary_backup;
use duress_model::{Bounds, explore};
use duress_seed::Seed;

#[test]
fn the_explorer_serves_states_at_an_address() {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = Config::PrimaryBackup(primary_backup::Config::new(2, Seed(1)));
    let (say, said) = std::sync::mpsc::channel();
    // It serves until the process ends.
    std::thread::spawn(move || explore(config, Bounds::new(1), any, |addr| say.send(addr).unwrap()));
    let states = get(said.recv_timeout(Duration::from_secs(10)).unwrap(), "/.states");
    assert!(states.contains("200 OK") && states.contains("PrimaryBackup"), "{states}");
}

#[test]
fn an_address_in_use_is_an_error() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = Config::PrimaryBackup(primary_backup::Config::new(2, Seed(1)));
    let error = explore(config, Bounds::new(1), taken.local_addr().unwrap(), |_| {}).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
}

/// Asks as soon as somebody listens, for ten seconds at most.
fn get(addr: SocketAddr, path: &str) -> String {
    let start = Instant::now();
    loop {
        match TcpStream::connect(addr) {
            Ok(mut stream) => {
                stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                write!(stream, "GET {path} HTTP/1.1\r\nHost: model\r\nConnection: close\r\n\r\n").unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).unwrap();
                return answer;
            }
            Err(error) if start.elapsed() > Duration::from_secs(10) => panic!("nobody listens at {addr}: {error}"),
            Err(_) => std::thread::yield_now(),
        }
    }
}

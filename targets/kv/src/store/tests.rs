//! What the store must do, case by case.

use super::*;
use crate::api::{ClientId, Token};

fn request(client: u64, sequence: u64, op: Op) -> Request {
    Request { client: ClientId(client), sequence, op }
}

fn at(seconds: u64, request: Request) -> Command {
    Command::Request { request, at: Duration::from_secs(seconds) }
}

fn write(key: &str, value: &str) -> Op {
    Op::Write { key: key.into(), value: value.into() }
}

fn cas(key: &str, from: Option<&str>, to: &str) -> Op {
    Op::Cas { key: key.into(), from: from.map(Into::into), to: to.into() }
}

fn acquire(lock: &str, seconds: u64) -> Op {
    Op::Acquire { lock: lock.into(), lease: Duration::from_secs(seconds) }
}

#[test]
fn a_repeated_request_is_applied_once() {
    let mut store = Store::default();
    assert_eq!(store.apply(&at(1, request(1, 1, cas("k", None, "a")))), Ok(Reply::Done));
    // Applied again it would be refused: the key is set now.
    assert_eq!(store.apply(&at(2, request(1, 1, cas("k", None, "a")))), Ok(Reply::Done));
    assert_eq!(
        store.apply(&at(2, request(1, 2, cas("k", None, "b")))),
        Err(Refusal::CasMismatch { actual: Some("a".into()) })
    );
    assert_eq!(store.apply(&at(2, request(1, 1, write("k", "z")))), Err(Refusal::Superseded));
    assert_eq!(store.read(&Op::Read { key: "k".into() }), Some(Reply::Value(Some("a".into()))));
    assert_eq!(store.index(), 4);
}

#[test]
fn the_client_applied_longest_ago_is_forgotten() {
    let mut store = Store::default();
    for client in 0..MAX_CLIENTS as u64 {
        assert!(store.apply(&at(1, request(client, 1, write("k", "v")))).is_ok());
    }
    // Client 0 becomes the most recent, so the next newcomer displaces client 1.
    assert!(store.apply(&at(1, request(0, 2, write("k", "v")))).is_ok());
    assert!(store.apply(&at(1, request(u64::MAX, 1, write("k", "v")))).is_ok());
    assert!(store.seen(&request(0, 2, write("k", "v"))).is_some());
    assert!(store.seen(&request(1, 1, write("k", "v"))).is_none());
    assert!(store.seen(&request(2, 1, write("k", "v"))).is_some());
}

#[test]
fn a_lock_is_held_until_its_lease_runs_out() {
    let mut store = Store::default();
    assert_eq!(store.apply(&at(10, request(1, 1, acquire("l", 5)))), Ok(Reply::Granted(Token(1))));
    assert_eq!(store.apply(&at(11, request(1, 2, acquire("l", 5)))), Err(Refusal::LockHeld));
    assert_eq!(store.apply(&at(14, request(2, 1, acquire("l", 5)))), Err(Refusal::LockHeld));
    let renew = |token| Op::Renew { lock: "l".into(), token: Token(token), lease: Duration::from_secs(5) };
    assert_eq!(store.apply(&at(14, request(2, 2, renew(1)))), Err(Refusal::NotHolder));
    assert_eq!(store.apply(&at(14, request(1, 3, renew(1)))), Ok(Reply::Done));
    assert_eq!(store.apply(&at(18, request(2, 3, acquire("l", 5)))), Err(Refusal::LockHeld));
    assert_eq!(store.apply(&at(19, request(1, 4, renew(1)))), Err(Refusal::NotHolder));
    assert_eq!(store.apply(&at(19, request(2, 4, acquire("l", 5)))), Ok(Reply::Granted(Token(2))));
    let release = |token| Op::Release { lock: "l".into(), token: Token(token) };
    assert_eq!(store.apply(&at(19, request(1, 5, release(1)))), Err(Refusal::NotHolder));
    assert_eq!(store.apply(&at(19, request(2, 5, release(2)))), Ok(Reply::Done));
    assert_eq!(store.apply(&at(19, request(1, 6, acquire("l", 5)))), Ok(Reply::Granted(Token(3))));
}

#[test]
fn replicated_time_does_not_go_back() {
    let mut store = Store::default();
    assert!(store.apply(&at(100, request(1, 1, acquire("l", 5)))).is_ok());
    assert!(store.apply(&at(3, request(2, 1, write("k", "v")))).is_ok());
    assert_eq!(store.time(), Duration::from_secs(100));
    // A lease no clock can outlast must not overflow.
    assert!(store.apply(&at(100, request(1, 2, Op::Acquire { lock: "m".into(), lease: Duration::MAX }))).is_ok());
    assert_eq!(store.apply(&at(101, request(2, 2, acquire("m", 1)))), Err(Refusal::LockHeld));
}

#[test]
fn a_scan_gives_the_keys_with_the_prefix_in_order() {
    let mut store = Store::default();
    for (sequence, key) in ["b", "a2", "a1", "a", "\u{10ffff}"].iter().enumerate() {
        assert!(store.apply(&at(1, request(1, sequence as u64, write(key, "v")))).is_ok());
    }
    let keys = |prefix: &str| match store.read(&Op::Scan { prefix: prefix.into() }) {
        Some(Reply::Entries(entries)) => entries.into_iter().map(|(key, _)| key.to_string()).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(keys("a"), ["a", "a1", "a2"]);
    assert_eq!(keys(""), ["a", "a1", "a2", "b", "\u{10ffff}"]);
    assert_eq!(keys("c"), Vec::<String>::new());
}

#[test]
fn the_digest_depends_on_every_command_and_their_order_and_is_pinned() {
    let one = at(1, request(1, 1, write("k", "a")));
    let two = at(2, request(2, 1, write("k", "b")));
    let digest = |commands: &[&Command]| {
        let mut store = Store::default();
        commands.iter().for_each(|command| {
            let _ = store.apply(command);
        });
        store.digest()
    };
    assert_ne!(digest(&[&one, &two]), digest(&[&two, &one]));
    assert_ne!(digest(&[&one]), digest(&[&one, &Command::Noop]));
    // Stored histories hold digests: a change of this value is a change of format.
    assert_eq!(digest(&[&one, &two, &Command::Noop]), 13_760_781_723_636_026_135);
}

#[test]
fn a_store_survives_its_bytes() {
    let mut store = Store::default();
    assert!(store.apply(&at(1, request(1, 1, write("k", "a")))).is_ok());
    assert!(store.apply(&at(1, request(2, 1, acquire("l", 5)))).is_ok());
    assert_eq!(Store::from_bytes(&store.to_bytes()), Some(store));
    assert_eq!(Store::from_bytes(b"\xff\xff"), None);
}

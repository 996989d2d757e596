//! The stored form: every event survives it, and what a crash or a stranger leaves is told apart.

use duress_history::*;
use proptest::prelude::*;

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Nil),
        any::<i64>().prop_map(Value::Int),
        "[a-z\"\\\\\n]{0,8}".prop_map(|t| Value::Text(t.into()))
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let name = || "[a-z][0-9]".prop_map(smol_str::SmolStr::from);
    prop_oneof![
        name().prop_map(|key| Op::Read { key }),
        (name(), value()).prop_map(|(key, value)| Op::Write { key, value }),
        (name(), value(), value()).prop_map(|(key, from, to)| Op::Cas { key, from, to }),
        any::<i64>().prop_map(|element| Op::Add { element }),
        Just(Op::Elements),
        (name(), any::<u64>()).prop_map(|(lock, lease_ms)| Op::Acquire { lock, lease_ms }),
        (name(), any::<u64>(), any::<u64>()).prop_map(|(lock, token, work_ms)| Op::Access { lock, token, work_ms }),
    ]
}

fn ret() -> impl Strategy<Value = Ret> {
    prop_oneof![
        Just(Ret::Done),
        value().prop_map(Ret::Value),
        prop::collection::vec(any::<i64>(), 0..5).prop_map(Ret::Elements),
        any::<u64>().prop_map(Ret::Token),
    ]
}

fn kind() -> impl Strategy<Value = EventKind> {
    let host = || "[nc][1-9]".prop_map(smol_str::SmolStr::from);
    let client = (host(), host()).prop_map(|(host, node)| Client { host, node });
    prop_oneof![
        (any::<u64>(), prop::option::of(client), op()).prop_map(|(p, client, op)| EventKind::Invoke(Invocation {
            process: Process(p),
            client,
            op
        })),
        (any::<u64>(), op(), ret(), prop::option::of(host()), prop::option::of(any::<u64>())).prop_map(
            |(p, op, ret, node, term)| {
                let error = term.map(|_| "timeout".into());
                EventKind::Complete(Completion {
                    process: Process(p),
                    outcome: Outcome::Ok,
                    op,
                    ret,
                    error,
                    node,
                    term,
                })
            }
        ),
        (any::<u64>(), prop::collection::vec((host(), host()), 0..4)).prop_map(|(fault, links)| {
            EventKind::Fault(FaultEvent {
                fault,
                stage: Stage::Start,
                kind: "partition".into(),
                what: "partition: n1 | n2 n3".into(),
                hosts: vec![],
                links,
            })
        }),
        (any::<u64>(), any::<bool>(), 0u32..1000).prop_map(|(fault, proven, n)| {
            let measured = [("frames_dropped".into(), f64::from(n))].into();
            EventKind::Evidence(Evidence { fault, stage: Stage::End, proven, what: "probes".into(), measured })
        }),
        (host(), prop::option::of(any::<u64>()), any::<bool>()).prop_map(|(node, digest, leads)| {
            let term = digest.map(|d| d / 2);
            EventKind::Observation(NodeReport { node, role: None, leads, term, leader: None, index: term, digest })
        }),
        Just(EventKind::Phase { phase: Phase::Main }),
    ]
}

fn stored(events: &[Event]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for event in events {
        jsonl::write(event, &mut bytes).unwrap();
    }
    bytes
}

proptest! {
    #[test]
    fn every_event_survives(events in prop::collection::vec((any::<u64>(), kind()), 0..20)) {
        let events: Vec<Event> = events.into_iter().map(|(time, kind)| Event { time: Time(time), kind }).collect();
        let found = jsonl::read(&stored(&events)[..]).unwrap();
        prop_assert_eq!(found, jsonl::Stored { events, truncated: false });
    }

    #[test]
    fn a_cut_history_is_read_to_its_last_complete_line(events in prop::collection::vec(kind(), 1..6)) {
        let events: Vec<Event> = events.into_iter().map(|kind| Event { time: Time(7), kind }).collect();
        let bytes = stored(&events);
        for cut in 0..bytes.len() {
            let found = jsonl::read(&bytes[..cut]).unwrap();
            let complete = bytes[..cut].iter().filter(|b| **b == b'\n').count();
            prop_assert_eq!(&found.events[..], &events[..complete]);
            prop_assert_eq!(found.truncated, cut > 0 && bytes[cut - 1] != b'\n');
        }
    }

    #[test]
    fn rubbish_is_an_error_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = jsonl::read(&bytes[..]);
    }
}

#[test]
fn errors_have_their_place() {
    let error = jsonl::read(&b"\n{\"time\":1,\"type\":\"invoke\",\"process\":0,\"f\":\"raed\",\"key\":\"k\"}\n"[..])
        .unwrap_err();
    assert!(error.to_string().starts_with("line 2, column "), "{error}");
    let deep = [vec![b'['; 1 << 20], b"\n".to_vec()].concat();
    assert!(jsonl::read(&deep[..]).unwrap_err().to_string().contains("line 1"));
    let newer = b"{\"time\":0,\"type\":\"header\",\"version\":99,\"scenario\":\"s\",\"seed\":1,\"nodes\":[],\"clients\":[],\"started_unix_ms\":0}\n";
    assert!(matches!(jsonl::read(&newer[..]), Err(jsonl::ReadError::Version { found: 99 })));
}

#[test]
fn impossible_orders_are_refused() {
    let invoke =
        |p| EventKind::Invoke(Invocation { process: Process(p), client: None, op: Op::Read { key: "k".into() } });
    let complete = |p, key: &str| {
        EventKind::Complete(Completion {
            process: Process(p),
            outcome: Outcome::Ok,
            op: Op::Read { key: key.into() },
            ret: Ret::Value(Value::Nil),
            error: None,
            node: None,
            term: None,
        })
    };
    let history = |kinds: &[EventKind]| {
        let events: Vec<_> = kinds.iter().map(|kind| Event { time: Time(1), kind: kind.clone() }).collect();
        operations(&events)
    };
    assert!(matches!(history(&[invoke(1), invoke(1)]), Err(Malformed::Overlapping { at: 1, earlier: 0, .. })));
    assert!(matches!(history(&[complete(1, "k")]), Err(Malformed::NotInvoked { at: 0, .. })));
    assert!(matches!(history(&[invoke(1), complete(1, "j")]), Err(Malformed::Different { at: 1, earlier: 0, .. })));
    let fine = history(&[invoke(1), invoke(2), complete(1, "k")]).unwrap();
    assert_eq!(fine.iter().map(|op| op.outcome).collect::<Vec<_>>(), [Outcome::Ok, Outcome::Info]);
}

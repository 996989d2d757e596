//! The stored form: every event survives it, and what a crash or a stranger leaves is told apart.

use duress_history::*;
use proptest::prelude::*;

fn value() -> impl Strategy<Value = Value> {
    let name = || "[a-z#][a-z#\\-]{0,8}".prop_map(smol_str::SmolStr::from);
    let leaf = prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(|f| Value::Number(format!("{f:?}").into())),
        Just(Value::Number("1/3".into())),
        any::<char>().prop_filter("no space", |c| !c.is_whitespace()).prop_map(Value::Char),
        "[a-z\"\\\\\n]{0,8}".prop_map(|t| Value::Text(t.into())),
        Just(Value::Text("r".into())),
        Just(Value::keyword("r")),
        Just(Value::keyword("lease-ms")),
        "x[a-z]{0,5}".prop_map(|t| Value::Symbol(t.into())),
        "[a-z][a-z-]{0,5}".prop_map(|t| Value::Keyword(t.into())),
    ];
    leaf.prop_recursive(3, 16, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Vector),
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            prop::collection::btree_set(inner.clone(), 0..4).prop_map(|s| Value::Set(s.into_iter().collect())),
            prop::collection::btree_map(inner.clone(), inner.clone(), 0..4)
                .prop_map(|m| Value::Map(m.into_iter().collect())),
            (name(), inner)
                .prop_map(|(tag, value)| Value::Tagged(format!("t{}", tag.replace('#', "x")).into(), Box::new(value))),
        ]
    })
}

fn op() -> impl Strategy<Value = Op> {
    let functions = ["read", "write", "cas", "add", "acquire", "renew", "access", "txn", "nobody-knows-it"];
    (prop::sample::select(functions.to_vec()), prop::option::of(value()), value()).prop_map(|(f, key, value)| Op {
        f: Function::named(f),
        key,
        value,
    })
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
        (any::<u64>(), op(), value(), prop::option::of(host()), prop::option::of(any::<u64>())).prop_map(
            |(p, op, result, node, term)| {
                let error = term.map(|_| "timeout".into());
                EventKind::Complete(Completion {
                    process: Process(p),
                    outcome: Outcome::Ok,
                    op,
                    result,
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
        (host(), value()).prop_map(|(node, value)| EventKind::Fact(Fact { node, what: "holds-token".into(), value })),
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
    let error = jsonl::read(&b"\n{\"time\":1,\"type\":\"invoke\",\"process\":0,\"F\":\"read\",\"key\":\"k\"}\n"[..])
        .unwrap_err();
    assert!(error.to_string().starts_with("line 2, column "), "{error}");
    let deep = [vec![b'['; 1 << 20], b"\n".to_vec()].concat();
    assert!(jsonl::read(&deep[..]).unwrap_err().to_string().contains("line 1"));
    let newer = b"{\"time\":0,\"type\":\"header\",\"version\":99,\"scenario\":\"s\",\"seed\":1,\"nodes\":[],\"clients\":[],\"started_unix_ms\":0}\n";
    assert!(matches!(jsonl::read(&newer[..]), Err(jsonl::ReadError::Version { found: 99 })));
}

/// What an operation and its result of format 1 are now.
#[test]
fn format_1_is_still_read() {
    let lines = [
        (r#""f":"read","key":"x""#, r#""ret":{"value":"a"}"#, "read x", r#""a""#),
        (r#""f":"write","key":"x","value":3"#, r#""#, "write x = 3", "3"),
        (r#""f":"cas","key":"x","from":null,"to":3"#, r#""ret":"done""#, "cas x nil -> 3", "[nil 3]"),
        (r#""f":"add","element":7"#, r#""#, "add 7", "7"),
        (r#""f":"elements""#, r#""ret":{"elements":[1,2]}"#, "read", "[1 2]"),
        (r#""f":"acquire","lock":"l","lease_ms":50"#, r#""ret":{"token":4}"#, "acquire l for 50 ms", "4"),
        (r#""f":"renew","lock":"l","token":4,"lease_ms":50"#, "", "renew l token 4", "{:lease-ms 50, :token 4}"),
        (r#""f":"release","lock":"l","token":4"#, "", "release l token 4", "4"),
        (r#""f":"access","lock":"l","token":4,"work_ms":9"#, "", "access l token 4", "{:token 4, :work-ms 9}"),
    ];
    for (asked, answered, shown, result) in lines {
        let comma = if answered.is_empty() { "" } else { "," };
        let text = format!(
            "{{\"time\":1,\"type\":\"invoke\",\"process\":0,{asked}}}\n\
             {{\"time\":2,\"type\":\"complete\",\"process\":0,\"outcome\":\"ok\",{asked}{comma}{answered}}}\n"
        );
        let found = operations(&jsonl::read(text.as_bytes()).unwrap().events).unwrap();
        assert_eq!(found[0].op.to_string(), shown);
        assert_eq!(found[0].result.as_ref().unwrap().to_string(), result, "{asked}");
        let options = formats::Options { format: Some(formats::Format::JsonLines), ..formats::Options::default() };
        let imported = formats::read(text.as_bytes(), &options).unwrap();
        assert_eq!(imported.operations, found);
    }
}

#[test]
fn impossible_orders_are_refused() {
    let invoke = |p| {
        EventKind::Invoke(Invocation { process: Process(p), client: None, op: Op::on(Function::Read, "k", Value::Nil) })
    };
    let complete = |p, key: &str| {
        EventKind::Complete(Completion {
            process: Process(p),
            outcome: Outcome::Ok,
            op: Op::on(Function::Read, key, Value::Nil),
            result: Value::Nil,
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

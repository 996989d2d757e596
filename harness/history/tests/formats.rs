//! Histories of other tools: what is read, what is refused and where, and that nothing panics.

use std::fmt::Write as _;
use std::path::PathBuf;

use duress_history::formats::{
    Conventions, Failed, Format, Function, Imported, Keys, Known, NilRead, Options, detect, losses, read, read_from,
    write,
};
use duress_history::{EventKind, Op, Operation, Outcome, Value, operations};
use proptest::prelude::*;

fn corpus(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/formats").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn import(name: &str) -> Imported {
    read(&corpus(name), &Options::default()).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// The value that a text spells, or the error's line, column and message.
fn value(text: &str) -> Result<Value, (usize, usize, String)> {
    let history = format!("{{:process 0 :type :invoke :f :write :value\n{text}\n}}");
    match read(history.as_bytes(), &Options { keys: Keys::Single, ..Options::default() }) {
        Ok(imported) => Ok(imported.operations[0].op.value.clone()),
        Err(e) => Err((e.line, e.column, e.message)),
    }
}

#[test]
fn operation_maps_of_any_shape_are_read() {
    let history = import("valid/wrapped.edn");
    assert_eq!(history.format, Format::Edn);
    assert_eq!(history.entries, 8);
    assert!(!history.independent);
    assert_eq!(history.nemesis.len(), 1);
    assert_eq!(history.nemesis[0].process, "nemesis");
    let [write, read, cas, open] = &history.operations[..] else { panic!("{:?}", history.operations) };
    assert_eq!((&write.op.value, write.outcome), (&Value::Int(1), Outcome::Ok));
    assert_eq!((&read.op.f, read.result.as_ref()), (&Function::Read, Some(&Value::Int(1))));
    assert_eq!(read.invoked.line, 4);
    assert_eq!(read.completed.map(|m| (m.index, m.time_ns)), Some((4, Some(12))));
    assert_eq!(cas.op.value.as_sequence().map(<[_]>::len), Some(2));
    assert_eq!(cas.error.as_ref().map(ToString::to_string).as_deref(), Some("[:timed-out \"late\"]"));
    assert_eq!((open.completed, open.outcome), (None, Outcome::Info));
    assert_eq!(open.op.value, Value::Char('\n'));
}

#[test]
fn independent_tuples_give_keys() {
    let history = import("valid/independent.edn");
    assert!(history.independent);
    let keys: Vec<String> = history.operations.iter().map(|o| o.op.key.as_ref().unwrap().to_string()).collect();
    assert_eq!(keys, [":x", ":x", ":y"]);
    let [read, cas, write] = &history.operations[..] else { panic!() };
    assert_eq!((&read.op.value, read.result.as_ref()), (&Value::Nil, Some(&Value::Nil)));
    assert_eq!(cas.op.value.to_string(), "[1 2]");
    assert_eq!(cas.error, Some(Value::Keyword("timed-out".into())));
    assert_eq!(write.op.value.to_string(), "[1 2]");
    let single = Options { keys: Keys::Single, ..Options::default() };
    let unsplit = formats_read("valid/independent.edn", &single);
    assert!(unsplit.operations.iter().all(|o| o.op.key.is_none()));
}

fn formats_read(name: &str, options: &Options) -> Imported {
    read(&corpus(name), options).unwrap()
}

#[test]
fn a_cas_is_no_independent_tuple() {
    let transaction = "{:process 0 :type :invoke :f :txn :value [[:r 1 nil] [:w 2 3]]}";
    assert!(!read(transaction.as_bytes(), &Options::default()).unwrap().independent);
    let keyed = "{:process 0 :type :invoke :f :txn :value [7 [[:r 1 nil] [:w 2 3]]]}";
    assert!(read(keyed.as_bytes(), &Options::default()).unwrap().independent);
    let text = "{:process 0 :type :invoke :f :cas :value [1 2]}";
    assert!(!read(text.as_bytes(), &Options::default()).unwrap().independent);
    let keyed = Options { keys: Keys::Independent, ..Options::default() };
    let text = "{:process 0 :type :invoke :f :read :value nil}";
    let error = read(text.as_bytes(), &keyed).unwrap_err();
    assert_eq!((error.line, error.column), (1, 1));
    let other = "{:process 0 :type :invoke :f :read :value [1 nil]}\n{:process 0 :type :ok :f :read :value [2 7]}";
    let error = read(other.as_bytes(), &Options::default()).unwrap_err();
    assert_eq!((error.line, error.column), (2, 1));
}

#[test]
fn text_logs_assert_what_failed() {
    let history = import("valid/etcd.log");
    assert_eq!(history.format, Format::JepsenLog);
    assert_eq!(history.conventions, Conventions { nil_read: NilRead::Unset, failed: Failed::Assert });
    assert_eq!(history.nemesis.len(), 1);
    let known: Vec<Known<'_>> = history.operations.iter().map(|o| o.known(history.conventions)).collect();
    assert_eq!(
        known,
        [Known::Happened(&Value::Nil), Known::NotHeld(&Value::Int(2)), Known::Nothing, Known::Maybe, Known::Maybe]
    );
    let converted = history.events();
    assert_eq!((converted.weakened, converted.unconstrained), (1, 0));
}

#[test]
fn conventions_can_be_chosen() {
    let options = Options { nil_read: Some(NilRead::Unknown), failed: Some(Failed::Drop), ..Options::default() };
    let history = formats_read("valid/etcd.log", &options);
    let known: Vec<Known<'_>> = history.operations.iter().map(|o| o.known(history.conventions)).collect();
    assert_eq!(known[..2], [Known::Nothing, Known::Nothing]);
    assert_eq!(history.events().unconstrained, 1);
}

#[test]
fn porcupine_text_keeps_appends() {
    let history = import("valid/porcupine.txt");
    assert_eq!(history.format, Format::Porcupine);
    let functions: Vec<&str> = history.operations.iter().map(|o| o.op.f.name()).collect();
    assert_eq!(functions, ["append", "get", "put"]);
    assert_eq!(history.operations[1].result, Some(Value::Text("".into())));
    assert_eq!(history.operations[0].op.key, Some(Value::Text("0".into())));
    let converted = history.events();
    let found = operations(&converted.events).unwrap();
    let functions: Vec<&str> = found.iter().map(|o| o.op.name()).collect();
    assert_eq!(functions, ["append", "get", "put"]);
}

#[test]
fn porcupine_without_appends_is_registers() {
    let text = r#"{:process 0, :type :invoke, :f :get, :key "0", :value nil}
{:process 0, :type :ok, :f :get, :key "0", :value ""}
{:process 0, :type :invoke, :f :put, :key "0", :value "7"}"#;
    let converted = read(text.as_bytes(), &Options::default()).unwrap().events();
    let found = operations(&converted.events).unwrap();
    assert_eq!(found[0].result, Some(Value::Nil));
    assert_eq!(found[0].op, Op::on(Function::Get, "0", Value::Nil));
    assert_eq!(found[1].op, Op::on(Function::Put, "0", "7"));
}

#[test]
fn converted_events_are_a_history() {
    let converted = import("valid/wrapped.edn").events();
    let found = operations(&converted.events).unwrap();
    assert_eq!(found.len(), 4);
    assert_eq!(found[1].result, Some(Value::Int(1)));
    assert_eq!(found[2].error_name(), Some("timed-out"));
    // Entry 4 is stamped before entry 3; order is the text's.
    let times: Vec<u64> = converted.events.iter().map(|e| e.time.0).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert!(matches!(converted.events.last().unwrap().kind, EventKind::Phase { .. }));
}

#[test]
fn operations_of_any_model_are_events() {
    let set = "{:process 0 :type :invoke :f :add :value 3}{:process 0 :type :ok :f :add :value 3}
        {:process 1 :type :invoke :f :read}{:process 1 :type :ok :f :read :value #{3 1}}";
    let found = operations(&read(set.as_bytes(), &Options::default()).unwrap().events().events).unwrap();
    assert_eq!(found[0].op, Op::new(Function::Add, 3));
    assert_eq!(found[1].result, Some(Value::Set(vec![Value::Int(1), Value::Int(3)])));
    let others = "({:process 0 :type :invoke :f :enqueue :value 3} {:process 1 :type :invoke :f :transfer
        :value {:from 1 :to 2 :amount 5}} {:process 2 :type :invoke :f :txn :value [[:r 1 nil] [:append 2 3]]})";
    let history = read(others.as_bytes(), &Options::default()).unwrap();
    assert!(!history.independent);
    assert_eq!(history.operations[1].op.value.get("amount").and_then(Value::as_int), Some(5));
    let found = operations(&history.events().events).unwrap();
    let asked = |operations: &[Operation]| operations.iter().map(|o| o.op.clone()).collect::<Vec<_>>();
    assert_eq!(asked(&found), asked(&history.operations));
}

#[test]
fn numbers_are_canonical() {
    for (text, expected) in [
        ("12N", "12"),
        ("+5", "5"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("9223372036854775808", "9223372036854775808"),
        ("1e5", "100000.0"),
        ("100000.0", "100000.0"),
        ("1.50M", "1.50M"),
        ("-2/3", "-2/3"),
        ("0x1F", "31"),
        ("##Inf", "##Inf"),
        ("\\u0041", "\\A"),
        ("\"\\u00e9\\ud83d\\ude00\\101\"", "\"é😀A\""),
        ("#{3 1 3}", "#{1 3}"),
        ("{:b 1, :a [x/y true]}", "{:a [x/y true], :b 1}"),
        ("#inst \"2020\"", "#inst \"2020\""),
        ("#:ns{:a 1}", "#:ns {:a 1}"),
        ("(1 #_ 2 #_#_ 3 4 5) ; six", "(1 5)"),
    ] {
        assert_eq!(value(text).map(|v| v.to_string()), Ok(expected.to_string()), "{text}");
    }
    for text in ["007", "1.", "2r101", "0x", "0x-1", "1/0", "1e", "1.5N", "1_000", "--1"] {
        // `1.` is what Clojure takes for 1.0, and `--1` is a symbol.
        match text {
            "1." => assert_eq!(value(text).map(|v| v.to_string()), Ok("1.0".into())),
            "--1" => assert_eq!(value(text), Ok(Value::Symbol("--1".into()))),
            _ => assert_eq!(value(text).map_err(|e| (e.0, e.1)), Err((2, 1)), "{text}"),
        }
    }
}

#[test]
fn distinct_values_stay_distinct_as_text() {
    // A keyword, a text that looks like it, a symbol and a text, a number and its text.
    let values = [":a", "\":a\"", "b", "\"b\"", "1.0", "\"1.0\"", "true", "\"true\"", "\\c", "\"c\"", "[1]", "\"[1]\""];
    let mut text = String::new();
    for (process, value) in values.iter().enumerate() {
        writeln!(text, "{{:process {process} :type :invoke :f :write :value {value}}}").unwrap();
    }
    let converted = read(text.as_bytes(), &Options::default()).unwrap().events();
    let mut written: Vec<Value> = operations(&converted.events).unwrap().into_iter().map(|o| o.op.value).collect();
    written.sort();
    written.dedup();
    assert_eq!(written.len(), values.len(), "{written:?}");
}

#[test]
fn formats_are_detected() {
    for (text, format) in [
        ("\u{feff} ; x\n [{:type :ok}]", Format::Edn),
        ("#jepsen.history.Op{:process 1}", Format::Edn),
        ("{\"time\":0,\"type\":\"header\",", Format::JsonLines),
        ("{\"time\":0,\"type\":\"invoke\",", Format::Json),
        ("[ {\"type\": \"header\"}", Format::Json),
        ("0\t:invoke\t:read\tnil", Format::HistoryText),
        (":nemesis\t:info\t:start\tnil", Format::HistoryText),
        ("2021-02-26 11:42:48,806{GMT}\tINFO\t[jepsen worker 1] jepsen.util: 1\t:invoke\t:txn\t[]", Format::JepsenLog),
        ("{:f :get, :key \"0\"}", Format::Porcupine),
        ("{:f :read, :key 0}\n{:f :get :key 1}", Format::Edn),
        ("2015-01-01 INFO  jepsen.util - 4\t:invoke\t:read\tnil", Format::JepsenLog),
        ("", Format::Edn),
    ] {
        assert_eq!(detect(text.as_bytes()), format, "{text:?}");
    }
}

#[test]
fn size_is_limited() {
    let options = Options { max_bytes: 10, ..Options::default() };
    for error in [read(&[b' '; 11], &options), read_from(&[b' '; 11][..], &options)] {
        assert!(error.unwrap_err().message.contains("longer than 10 bytes"));
    }
}

#[test]
fn deep_nesting_and_giant_numbers_are_refused() {
    for open in ["[", "(", "{", "#{", "#a ", "#_", "[#_"] {
        let text = open.repeat(1 << 20);
        let error = value(&text).unwrap_err();
        assert_eq!(error.0, 2, "{open}: {error:?}");
        assert!(error.2.contains("deep"), "{open}: {error:?}");
    }
    let error = value(&"9".repeat(1 << 20)).unwrap_err();
    assert_eq!((error.0, error.1), (2, 1));
    let deepest = format!("{}{}", "[".repeat(128), "]".repeat(128));
    assert!(value(&deepest).is_ok());
}

/// Every hostile file is refused, where it is wrong and in words.
#[test]
fn hostile_files_are_refused_where_they_are_wrong() {
    let mut found = String::new();
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/formats/hostile");
    let mut names: Vec<String> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert!(names.len() >= 60, "the corpus is missing");
    for name in names {
        let bytes = corpus(&format!("hostile/{name}"));
        // The extension says the format: a log cut to nothing can't be detected.
        let format = [(".log", Format::JepsenLog), (".json", Format::Json), (".jsonl", Format::JsonLines)]
            .into_iter()
            .find_map(|(extension, format)| name.ends_with(extension).then_some(format));
        let error = read(&bytes, &Options { format, ..Options::default() }).expect_err(&name);
        writeln!(found, "{name}: {error}").unwrap();
    }
    insta::assert_snapshot!(found);
}

#[test]
fn compressed_histories_are_read() {
    for name in ["valid/plain.edn.gz", "valid/plain.edn.zst"] {
        let history = import(name);
        // Two parts, one after the other.
        assert_eq!(history.operations.len(), 2, "{name}");
        assert_eq!(history.operations[1].invoked.line, 2, "{name}");
    }
}

#[test]
fn histories_of_elle_cli_are_read() {
    let bank = import("valid/elle-bank.json");
    assert_eq!((bank.format, bank.independent, bank.nemesis.len()), (Format::Json, false, 1));
    assert_eq!(bank.operations[0].result.as_ref().map(ToString::to_string).as_deref(), Some("{0 90, 1 10}"));
    assert_eq!(bank.operations[1].op.value.get("amount"), Some(&Value::Int(5)));
    assert_eq!(bank.operations[1].error, Some(Value::Text("too-poor".into())));
    let set = import("valid/elle-set-full.json");
    assert!(set.independent);
    assert_eq!(set.operations[1].result, Some(Value::Vector(vec![Value::Int(7)])));
    let append = import("valid/elle-append.json");
    assert_eq!(append.operations[0].op.f, Function::Txn);
    assert_eq!(
        append.operations[0].result.as_ref().map(ToString::to_string).as_deref(),
        Some("[[:append 253 1] [:r 255 [2 3]]]")
    );
    let fork = import("valid/elle-long-fork.edn");
    let processes: Vec<u64> = fork.operations.iter().map(|o| o.process.0).collect();
    assert_eq!((processes, fork.independent), (vec![1, 2], false));
    // Nobody says whose the operations are; the function does.
    let comments = import("valid/elle-comments.edn");
    let [read, write] = &comments.operations[..] else { panic!() };
    assert_eq!((read.completed.map(|m| m.line), write.completed.map(|m| m.line)), (Some(4), Some(3)));
    assert_ne!(read.process, write.process);
}

#[test]
fn histories_of_maelstrom_are_read() {
    let text = import("valid/maelstrom-history.txt");
    assert_eq!((text.format, text.nemesis.len()), (Format::HistoryText, 1));
    assert_eq!(text.operations[1].error, Some(Value::Keyword("net-timeout".into())));
    let log = import("valid/maelstrom.log");
    assert_eq!((log.format, log.independent), (Format::JepsenLog, true));
    assert_eq!(log.operations[0].known(log.conventions), Known::Nothing);
}

#[test]
fn own_events_are_read_and_written_back() {
    let own = import("valid/own.jsonl");
    assert_eq!((own.format, own.nemesis.len(), own.operations.len()), (Format::JsonLines, 1, 3));
    let [put, acquire, access] = &own.operations[..] else { panic!() };
    assert_eq!((put.op.key.as_ref(), &put.op.value), (Some(&Value::Text("x".into())), &Value::Text("7".into())));
    assert_eq!((&acquire.op.f, acquire.result.as_ref()), (&Function::Acquire, Some(&Value::Int(3))));
    assert_eq!((access.outcome, access.error.as_ref()), (Outcome::Info, Some(&Value::Keyword("timeout".into()))));
    let mut text = Vec::new();
    let lost = write(&own, Format::JsonLines, &mut text).unwrap();
    assert_eq!(lost, []);
    assert_eq!(said(&read(&text, &Options::default()).unwrap()), said(&own));
}

/// What a history says, without where and in which format.
type Said = Vec<(u64, Function, Option<Value>, Value, Option<Value>, Outcome, Option<Value>, usize, usize)>;

fn said(history: &Imported) -> Said {
    let mut order: Vec<u64> = Vec::new();
    for operation in &history.operations {
        order.extend([Some(operation.invoked.index), operation.completed.map(|m| m.index)].into_iter().flatten());
    }
    order.sort_unstable();
    let rank = |index| order.binary_search(&index).unwrap();
    let one = |o: &duress_history::formats::Operation| {
        let end = o.completed.map_or(usize::MAX, |m| rank(m.index));
        let (function, key) = (o.op.f.clone(), o.op.key.clone());
        (
            o.process.0,
            function,
            key,
            o.op.value.clone(),
            o.result.clone(),
            o.outcome,
            o.error.clone(),
            rank(o.invoked.index),
            end,
        )
    };
    history.operations.iter().map(one).collect()
}

#[test]
fn what_a_format_cannot_say_is_counted() {
    let bank = import("valid/elle-bank.json");
    let counted = |history: &Imported, format| -> Vec<(String, usize, bool)> {
        losses(history, format).into_iter().map(|l| (l.what, l.count, l.grave)).collect()
    };
    assert_eq!(counted(&bank, Format::Edn), []);
    assert_eq!(counted(&bank, Format::HistoryText), [("times".to_string(), 5, false)]);
    let porcupine = counted(&bank, Format::Porcupine);
    assert!(porcupine.iter().any(|(what, count, grave)| what.contains("get, put and append") && *count == 1 && *grave));
    let log = import("valid/etcd.log");
    let edn = counted(&log, Format::Edn);
    assert_eq!(edn.iter().filter(|(.., grave)| *grave).count(), 2, "{edn:?}");
}

/// Operations of any kind, by processes that each do one thing at a time.
fn histories() -> impl Strategy<Value = (String, bool)> {
    let functions = prop::sample::select(vec![":read", ":write", ":cas", ":txn", ":enqueue", "\"odd name\"", ":get"]);
    let kinds = prop::sample::select(vec!["ok", "fail", "info", "open"]);
    let entry = (0u64..4, functions, edn(), edn(), kinds, any::<bool>(), prop::option::of(edn()));
    (prop::collection::vec(entry, 1..12), any::<bool>()).prop_map(|(entries, keyed)| {
        let mut text = String::new();
        let mut fresh = 10;
        for (process, function, argument, result, kind, timed, error) in entries {
            let time = if timed { ", :time 5" } else { "" };
            // After an operation whose end is unknown a process is used no more.
            let process = if matches!(kind, "info" | "open") {
                fresh += 1;
                fresh
            } else {
                process
            };
            let tuple = |value: &Value| if keyed { format!("[7 {value}]") } else { value.to_string() };
            let argument = if function == ":read" { Value::Nil } else { argument };
            writeln!(text, "{{:process {process} :type :invoke :f {function} :value {}{time}}}", tuple(&argument))
                .unwrap();
            if kind != "open" {
                let value = if kind == "ok" { tuple(&result) } else { tuple(&argument) };
                let error = error
                    .filter(|e| kind != "ok" && *e != Value::Nil)
                    .map_or(String::new(), |e| format!(" :error {e}"));
                writeln!(text, "{{:process {process} :type :{kind} :f {function} :value {value}{error}}}").unwrap();
            }
        }
        (text, keyed)
    })
}

fn edn() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(|f| Value::Number(format!("{f:?}").into())),
        any::<char>().prop_filter("no space", |c| !c.is_whitespace() || *c == '\n').prop_map(Value::Char),
        any::<String>().prop_map(|s| Value::Text(s.into())),
        "[a-z][a-z0-9/*+!?.-]{0,30}".prop_map(|s| Value::Keyword(s.into())),
        "x[a-z0-9/*+!?.-]{0,30}".prop_map(|s| Value::Symbol(s.into())),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Vector),
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            prop::collection::btree_set(inner.clone(), 0..4).prop_map(|s| Value::Set(s.into_iter().collect())),
            prop::collection::btree_map(inner.clone(), inner.clone(), 0..4)
                .prop_map(|m| Value::Map(m.into_iter().collect())),
            ("[a-z]{1,8}", inner).prop_map(|(tag, value)| Value::Tagged(tag.into(), Box::new(value))),
        ]
    })
}

/// Reads whatever it is in every format; an error must lie within the text.
fn survives(bytes: &[u8]) {
    for format in std::iter::once(None).chain(Format::ALL.map(Some)) {
        for keys in [Keys::Auto, Keys::Independent] {
            match read(bytes, &Options { format, keys, ..Options::default() }) {
                Ok(imported) => {
                    let converted = imported.events();
                    operations(&converted.events).expect("converted events are well-formed");
                    for format in Format::ALL {
                        let mut text = Vec::new();
                        write(&imported, format, &mut text).expect("memory can be written to");
                    }
                }
                Err(error) => {
                    // Compressed text has other lines.
                    if bytes.starts_with(&[0x1f, 0x8b]) || bytes.starts_with(&[0x28, 0xb5]) || error.line == 0 {
                        continue;
                    }
                    let lines = bytes.iter().filter(|b| **b == b'\n').count() + 1;
                    assert!((1..=lines).contains(&error.line), "{error}");
                    assert!((1..=bytes.len() + 1).contains(&error.column), "{error}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn values_read_back_as_they_were_printed(edn in edn()) {
        prop_assert_eq!(value(&edn.to_string()), Ok(edn));
    }

    #[test]
    fn histories_read_back_as_they_were_written((text, keyed) in histories()) {
        let keys = if keyed { Keys::Independent } else { Keys::Single };
        let options = Options { keys, ..Options::default() };
        let history = read(text.as_bytes(), &options).unwrap();
        for format in [Format::Edn, Format::Json, Format::HistoryText] {
            let mut written = Vec::new();
            let lost = write(&history, format, &mut written).unwrap();
            let options = Options { format: Some(format), ..options };
            let again = read(&written, &options);
            if lost.iter().any(|loss| loss.grave) {
                continue;
            }
            let again = again.unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&written)));
            prop_assert_eq!(said(&again), said(&history), "{:?}", format);
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        survives(&bytes);
    }

    #[test]
    fn any_tokens_are_survived(tokens in prop::collection::vec(prop::sample::select(vec![
        "{", "}", "[", "]", "(", ")", "#{", "#_", "#", "##NaN", "#tag", "\"", "\\", "\\u00", ";", "\n", "\t", " ", ":",
        "{\"process\":0,\"type\":\"invoke\",\"f\":\"w\",\"value\":", "{\"#edn\":\"", "null", "\\u00e9",
        ":process", ":type", ":invoke", ":ok", ":info", ":f", ":cas", ":read", ":value", ":key", ":index", ":time",
        "0", "1", "-1", "1N", "1.5M", "1/2", "nil", "INFO  jepsen.util - ", "é", "[1 [2 3]]", "[1 nil]",
        "{:process 0 :type :invoke :f :read :value ", "{:process 0 :type :ok :f :read :value ",
    ]), 0..60)) {
        survives(tokens.concat().as_bytes());
    }

    #[test]
    fn damaged_histories_are_survived(
        file in prop::sample::select(vec![
            "wrapped.edn", "independent.edn", "etcd.log", "porcupine.txt", "own.jsonl", "plain.edn.gz", "plain.edn.zst",
            "elle-bank.json", "elle-set-full.json", "elle-append.json", "elle-long-fork.edn", "elle-comments.edn",
            "maelstrom-history.txt", "maelstrom.log",
        ]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..4),
    ) {
        let mut bytes = corpus(&format!("valid/{file}"));
        for (at, byte, change) in changes {
            let at = at.index(bytes.len().max(1));
            match change {
                0 if at < bytes.len() => bytes[at] = byte,
                1 if at < bytes.len() => { bytes.remove(at); }
                _ => bytes.truncate(at),
            }
        }
        survives(&bytes);
    }
}

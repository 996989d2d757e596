//! What is true of every judge.

use std::collections::BTreeSet;

use duress_checkers::{Judge, Report, Run, Settings, Verdict, all, generate, models, named};
use duress_history::formats::{Format, Imported, Options, read, write};
use duress_history::{Client, Completion, Event, EventKind, Function, Invocation, Op, Outcome, Phase, Process};
use duress_history::{Time, Value};
use duress_seed::Seed;

/// Judges that look at any operations, by what they are for.
const ANY: [&str; 5] = ["split-brain", "stats", "service-level", "faults-proven", "exceptions"];

#[test]
fn names_are_unique_and_found() {
    let names: BTreeSet<&str> = all().map(|judge| judge.name()).collect();
    assert_eq!(names.len(), all().count());
    assert!(
        names.iter().all(|name| named(name).is_some_and(|judge| judge.name() == *name && !judge.about().is_empty()))
    );
}

/// A run of two nodes in which operations took a millisecond each, one after the other.
fn live(operations: &[(Op, Value)]) -> Vec<Event> {
    let mut events = Vec::new();
    for (n, (op, result)) in operations.iter().enumerate() {
        let (process, at) = (Process(n as u64), n as u64 * 2_000_000);
        let client = Some(Client { host: "c1".into(), node: "n1".into() });
        let (op, result, node) = (op.clone(), result.clone(), Some("n1".into()));
        let (outcome, error, term) = (Outcome::Ok, None, None);
        let kind = EventKind::Invoke(Invocation { process, client, op: op.clone() });
        events.push(Event { time: Time(at), kind });
        let kind = EventKind::Complete(Completion { process, outcome, op, result, error, node, term });
        events.push(Event { time: Time(at + 1_000_000), kind });
    }
    let time = Time(operations.len() as u64 * 2_000_000);
    events.push(Event { time, kind: EventKind::Phase { phase: Phase::End } });
    events
}

fn judge(judge: &dyn Judge, events: &[Event]) -> Report {
    judge.judge(&Run::new(events, false).expect("it is well-formed"), &Settings::default())
}

#[test]
fn what_has_no_meaning_is_told_by_every_judge() {
    let events = live(&[(Op::new(Function::other("frobnicate"), Value::Int(1)), Value::Int(1))]);
    for one in all().filter(|judge| !ANY.contains(&judge.name())) {
        let report = judge(one, &events);
        assert_eq!(report.verdict, Verdict::Unknown, "{}: {}", one.name(), report.summary);
        let told = report.summary.contains("no meaning");
        assert!(told, "{}: {}", one.name(), report.summary);
    }
}

#[test]
fn live_runs_are_told_by_host_node_and_time() {
    let add = |n| (Op::new(Function::Enqueue, n), Value::Int(n));
    let take = |n: i64| (Op::new(Function::Dequeue, Value::Nil), Value::Int(n));
    let events = live(&[add(1_i64), add(2_i64), take(2), take(1)]);
    for name in ["queue", "session", "exactly-once-queue"] {
        let report = judge(named(name).unwrap(), &events);
        let told = format!("{}\n{}", report.summary, report.explanation.join("\n"));
        assert!(name == "session" || report.verdict != Verdict::Unknown, "{told}");
        assert!(report.verdict != Verdict::Invalid || told.contains("c1 to n1") && !told.contains("lines"), "{told}");
    }
    let x = |n: i64| (Op::on(Function::Write, "x", n), Value::Nil);
    let read = |n: i64| (Op::on(Function::Read, "x", Value::Nil), Value::Int(n));
    let stale = live(&[x(1), x(2), read(1)]);
    let rich = judge(named("linearizable").unwrap(), &stale);
    let model = judge(named("register").unwrap(), &stale);
    assert_eq!((&rich.summary, &rich.explanation, &rich.core), (&model.summary, &model.explanation, &model.core));
    assert_eq!(rich.core, [0, 1, 2]);
}

/// A generated history as a run of ours gives the verdict that its file gives, by every model, in
/// every format that says all of it.
#[test]
fn a_run_and_its_file_get_the_same_verdict() {
    let mut invalid = 0;
    for model in generate::models() {
        let anomalies = generate::anomalies(model).unwrap_or_default();
        let kinds = std::iter::once(None).chain(anomalies.iter().map(|(name, _)| Some((*name).to_string())));
        for (seed, anomaly) in kinds.enumerate() {
            let request = generate::Request { operations: 30, clients: 3, anomaly, ..generate::Request::default() };
            let Ok(made) = generate::imported(model, Seed(seed as u64), &request) else { continue };
            let events = made.history.events().events;
            let run = Run::new(&events, false).expect("it is well-formed");
            let again = |format| {
                let mut text = Vec::new();
                write(&made.history, format, &mut text).expect("memory can be written to");
                let conventions = duress_history::Conventions::OWN;
                let (nil_read, failed) = (Some(conventions.nil_read), Some(conventions.failed));
                let options = Options { format: Some(format), nil_read, failed, ..Options::default() };
                read(&text, &options).expect("what was written can be read")
            };
            let files: Vec<Imported> = [Format::Edn, Format::Json].into_iter().map(again).collect();
            for one in models::ALL {
                let live = one.judge(&run, &Settings::default());
                invalid += u32::from(live.verdict == Verdict::Invalid);
                for file in &files {
                    let report = one.judge(&Run::imported(file), &Settings::default());
                    let (a, b) = (&live.summary, &report.summary);
                    assert_eq!(live.verdict, report.verdict, "{} of {model} {seed}: {a} but {b}", one.name());
                }
            }
        }
    }
    assert!(invalid > 20, "{invalid}");
}

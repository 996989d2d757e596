//! What reports say to people: in words, with the lines of the input.

use duress_checkers::models::{ALL, named};
use duress_checkers::{Budget, Class, Report, Run, Settings, Verdict};
use duress_history::formats::{Options, read};

/// Judges a history of lines such as `0 invoke enqueue 1`.
fn judge(model: &str, lines: &str) -> Report {
    let entry = |line: &str| {
        let mut words = line.trim().splitn(4, ' ');
        let mut word = || words.next().unwrap_or("nil");
        let (process, kind, function) = (word(), word(), word());
        format!("{{:process {process}, :type :{kind}, :f :{function}, :value {}}}\n", word())
    };
    let text: String = lines.trim().lines().map(entry).collect();
    let history = read(text.as_bytes(), &Options::default()).expect("it is a history");
    named(model)
        .expect("it is a model")
        .judge(&Run::imported(&history), &Settings { certify: true, ..Settings::default() })
}

/// A report as it is read.
fn told(model: &str, lines: &str) -> String {
    let report = judge(model, lines);
    format!("{}: {}\n{}\ncore {:?}", report.verdict, report.summary, report.explanation.join("\n"), report.core)
}

#[test]
fn a_queue_out_of_order() {
    insta::assert_snapshot!(told(
        "queue",
        "0 invoke enqueue 1
         0 ok enqueue 1
         1 invoke enqueue 7
         1 ok enqueue 7
         0 invoke enqueue 2
         0 ok enqueue 2
         1 invoke dequeue nil
         1 ok dequeue 2
         0 invoke dequeue nil
         0 ok dequeue 1
         0 invoke dequeue nil
         0 ok dequeue 7"
    ));
}

#[test]
fn a_stack_out_of_order() {
    insta::assert_snapshot!(told(
        "stack",
        "0 invoke push 1
         0 ok push 1
         1 invoke push 2
         1 ok push 2
         0 invoke pop nil
         0 ok pop 1
         1 invoke pop nil
         1 ok pop 2"
    ));
}

#[test]
fn a_smaller_one_was_there() {
    insta::assert_snapshot!(told(
        "priority-queue",
        "0 invoke insert 1
         0 ok insert 1
         1 invoke insert 2
         1 ok insert 2
         0 invoke extract-min nil
         0 ok extract-min 2"
    ));
}

#[test]
fn a_lock_granted_twice() {
    insta::assert_snapshot!(told(
        "lock",
        "3 invoke acquire nil
         3 ok acquire 4
         3 invoke release nil
         3 ok release nil
         0 invoke acquire nil
         0 ok acquire 7
         1 invoke acquire nil
         1 ok acquire 8
         0 invoke release nil
         0 ok release nil"
    ));
}

#[test]
fn a_read_of_the_past() {
    insta::assert_snapshot!(told(
        "cas-register",
        "0 invoke write 1
         0 ok write 1
         1 invoke read nil
         1 ok read 1
         0 invoke cas [1 2]
         0 ok cas [1 2]
         1 invoke read nil
         1 ok read 1"
    ));
}

#[test]
fn a_set_read_twice() {
    insta::assert_snapshot!(told(
        "set",
        "0 invoke add 1
         1 invoke add 2
         0 ok add 1
         1 ok add 2
         0 invoke read nil
         1 invoke read nil
         0 ok read #{1}
         1 ok read #{2}"
    ));
}

#[test]
fn an_operation_without_a_meaning_is_named_by_its_line() {
    let report = judge("queue", "0 invoke enqueue 1\n0 ok enqueue 1\n1 invoke frobnicate 3");
    assert_eq!((report.verdict, report.class), (Verdict::Unknown, Some(Class::Inconclusive)));
    assert_eq!(
        report.summary,
        "Line 3 has no meaning for queue: it is a frobnicate, and only enqueue, dequeue and drain are known."
    );
}

#[test]
fn a_history_that_says_nothing_is_unknown() {
    for model in ALL.iter().filter(|model| model.name().ends_with("register")) {
        let function = if model.name() == "multi-register" { "txn [[:r 1 nil]]" } else { "read nil" };
        let report = judge(model.name(), &format!("0 invoke {function}\n0 info {function}"));
        assert_eq!((report.verdict, report.class), (Verdict::Unknown, Some(Class::Inconclusive)), "{report:?}");
    }
}

/// Adds that all overlap, and a read of what they can't add up to: every subset has to be tried.
fn hard() -> String {
    let adds: Vec<String> = (0..20).map(|i| format!("{i} invoke add {}", 2_i64.pow(i))).collect();
    let ends: Vec<String> = (0..20).map(|i| format!("{i} ok add {}", 2_i64.pow(i))).collect();
    format!("{}\n20 invoke read nil\n20 ok read -1\n{}", adds.join("\n"), ends.join("\n"))
}

#[test]
fn a_budget_that_runs_out_is_unknown() {
    let text: String = hard()
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.splitn(4, ' ').collect();
            format!("{{:process {}, :type :{}, :f :{}, :value {}}}\n", words[0], words[1], words[2], words[3])
        })
        .collect();
    let history = read(text.as_bytes(), &Options::default()).expect("it is a history");
    for budget in [
        Budget { time: std::time::Duration::ZERO, ..Budget::default() },
        Budget { memory_bytes: 100_000, ..Budget::default() },
    ] {
        let settings = Settings { budget, ..Settings::default() };
        let report = named("counter").expect("it is a model").judge(&Run::imported(&history), &settings);
        assert_eq!((report.verdict, report.class), (Verdict::Unknown, Some(Class::Inconclusive)), "{report:?}");
        assert!(report.summary.contains("valid up to operation 0 of 21"), "{report:?}");
    }
}

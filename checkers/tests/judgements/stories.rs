//! What reports say, with the lines of the input, of one planted anomaly each.

use duress_checkers::models::named;
use duress_checkers::{Report, Run, Settings, Verdict};
use duress_history::formats::{NilRead, Options, read};

/// Judges a history of lines such as `0 invoke write [x 1]`.
fn judge(model: &str, lines: &str) -> Report {
    let entry = |line: &str| {
        let mut words = line.trim().splitn(4, ' ');
        let mut word = || words.next().unwrap_or("nil");
        let (process, kind, function) = (word(), word(), word());
        format!("{{:process {process}, :type :{kind}, :f :{function}, :value {}}}\n", word())
    };
    let text: String = lines.trim().lines().map(entry).collect();
    let options = Options { nil_read: Some(NilRead::Unset), ..Options::default() };
    let history = read(text.as_bytes(), &options).expect("it is a history");
    named(model)
        .expect("it is a model")
        .judge(&Run::imported(&history), &Settings { permits: Some(1), ..Settings::default() })
}

fn invalid(model: &str, lines: &str, core: &[usize], says: &[&str]) {
    let report = judge(model, lines);
    let told = format!("{}\n{}", report.summary, report.explanation.join("\n"));
    assert_eq!(report.verdict, Verdict::Invalid, "{told}");
    assert_eq!(report.core, core, "{told}");
    for said in says {
        assert!(told.contains(said), "{said:?} is not in:\n{told}");
    }
}

/// Operations one after the other.
fn in_turn(operations: &str) -> String {
    let both = |line: &str| {
        let mut words = line.trim().splitn(3, ' ');
        let mut word = || words.next().unwrap_or("nil");
        let (process, function, value) = (word(), word(), word());
        let asked = if function == "read" { "nil" } else { value };
        format!("{process} invoke {function} {asked}\n{process} ok {function} {value}\n")
    };
    operations.trim().lines().map(both).collect()
}

#[test]
fn anomalies_are_told_with_their_lines() {
    invalid(
        "set-full",
        &in_turn("0 add 1\n0 add 2\n1 read [1 2]\n1 read [2]"),
        &[0, 3],
        &["1 element lost", "process 0's add 1 (lines 1 to 2)", "(lines 7 to 8)"],
    );
    invalid("set-final", &in_turn("0 add 1\n0 add 2\n1 read [2 9]"), &[0, 2], &["lost: 1", "unexpected: 9"]);
    invalid("counter-bounds", &in_turn("0 add 5\n1 read 4"), &[1], &["too low", "between 5 and 5"]);
    invalid("total-queue", &in_turn("0 enqueue 1\n0 enqueue 2\n1 drain [2]"), &[0, 2], &["lost: 1"]);
    invalid(
        "exactly-once-queue",
        "0 invoke enqueue 1\n0 ok enqueue 1\n1 invoke dequeue\n1 ok dequeue 1\n1 invoke dequeue\n1 ok dequeue 1",
        &[0, 1, 2],
        &["duplicated: 1"],
    );
    invalid("unique-ids", &in_turn("0 generate 7\n1 generate 8\n2 generate 7"), &[0, 2], &["Id 7"]);
    invalid(
        "bank",
        &in_turn("0 read {0 5, 1 5}\n0 read {0 5, 1 5}\n1 read {0 4, 1 5}"),
        &[0, 2],
        &["The total is 9", "and 10"],
    );
    invalid(
        "long-fork",
        &(in_turn("0 write [[:w 1 1]]\n1 write [[:w 2 1]]")
            + "2 invoke read [[:r 1 nil] [:r 2 nil]]\n2 ok read [[:r 1 1] [:r 2 nil]]\n3 invoke read [[:r 1 nil] [:r 2 nil]]\n3 ok read [[:r 1 nil] [:r 2 1]]"),
        &[0, 1, 2, 3],
        &["saw 1 and not 2", "saw 2 and not 1"],
    );
    invalid("comments", &in_turn("0 write 1\n0 write 2\n1 read [2]"), &[0, 1, 2], &["shows 2 and not 1"]);
    invalid("semaphore", &in_turn("0 acquire\n1 acquire"), &[0, 1], &["2 permits were held at once, of 1"]);
    invalid("rw-lock", &in_turn("0 acquire :read\n1 acquire :write"), &[0, 1], &["Processes 0 and 1"]);
    invalid(
        "mutex-fair",
        "0 invoke acquire\n1 invoke acquire\n1 ok acquire\n1 invoke release\n1 ok release\n0 ok acquire",
        &[0, 1],
        &["bypassed 1 time", "process 0's acquire (lines 1 to 6)"],
    );
}

#[test]
fn broken_guarantees_are_told_with_their_lines() {
    let stale = in_turn("0 write 1\n0 write 2\n0 read 1");
    invalid("read-your-writes", &stale, &[0, 1, 2], &["Process 0 did not read what it had written", "lines 5 to 6"]);
    let back = in_turn("0 write 1\n0 write 2\n1 read 2\n1 read 1");
    for model in ["monotonic-reads", "monotonic-writes", "session", "sequential", "causal"] {
        invalid(model, &back, &[0, 1, 2, 3], &["(lines 7 to 8)"]);
    }
    assert_eq!(judge("read-your-writes", &back).verdict, Verdict::Valid);
    let before = in_turn("0 write 1\n1 read 1\n1 write 2\n2 read 2\n2 read 1");
    invalid(
        "writes-follow-reads",
        &before,
        &[0, 1, 2, 3, 4],
        &["Process 1 had its write seen before what it had read"],
    );
    // Two that each missed what the other wrote: causal, but no one order.
    let apart = in_turn("0 write [x 1]\n0 read [y nil]\n1 write [y 1]\n1 read [x nil]")
        .replace("invoke read nil\n0", "invoke read [y nil]\n0")
        .replace("invoke read nil\n1", "invoke read [x nil]\n1");
    assert_eq!(judge("causal", &apart).verdict, Verdict::Valid);
    assert_eq!(judge("sequential-per-key", &apart).verdict, Verdict::Valid);
    invalid("sequential", &apart, &[0, 1, 2, 3], &["No order of the operations"]);
}

#[test]
fn what_has_no_meaning_is_unknown_with_its_line() {
    for (model, lines) in [
        ("set-full", "0 invoke add 1\n0 ok add 1\n0 invoke fly\n0 ok fly"),
        ("causal", "0 invoke write 1\n0 ok write 1\n1 invoke write 1\n1 ok write 1"),
        ("counter-bounds", "0 invoke add 1\n0 ok add 1\n0 invoke add :many\n0 ok add :many"),
    ] {
        let report = judge(model, lines);
        assert_eq!(report.verdict, Verdict::Unknown);
        assert!(report.summary.starts_with("Line 3 has no meaning"), "{}", report.summary);
    }
}

/// Of an exception its class is kept, and told where there is no other error.
#[test]
fn exceptions_are_counted_by_class() {
    let thrown = "{:via [{:type java.net.SocketException, :message \"reset\"}], :trace [[a b]]}";
    let text = format!(
        "{{:process 0, :type :invoke, :f :read}}\n{{:process 0, :type :info, :f :read, :exception {thrown}}}\n\
         {{:process 1, :type :invoke, :f :read}}\n{{:process 1, :type :info, :f :read, :error :late, :exception {thrown}}}"
    );
    let history = read(text.as_bytes(), &Options::default()).expect("it is a history");
    let report = named("exceptions").expect("it is a model").judge(&Run::imported(&history), &Settings::default());
    let kinds: Vec<&str> = report.tables[0].rows.iter().map(|row| row[1].as_str()).collect();
    assert_eq!(kinds, [":late", "java.net.SocketException"]);
}

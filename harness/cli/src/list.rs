//! `duress list`.

use std::process::ExitCode;

use tabled::builder::Builder;
use tabled::settings::Style;

use duress_checkers::generate;
use duress_kv::bugs::Bug;

use crate::args::ListArgs;
use crate::exit::Failure;

/// Targets, with one line each.
const TARGETS: &[(&str, &str)] = &[
    ("paxos", "Multi-Paxos replicated state machine: a stable leader, any minority may fail"),
    ("primary-backup", "a primary that sends its log to backups; four ways to fail over, two of them safe"),
    ("quorum", "leaderless registers: N replicas, R to read, W to write"),
];

/// Checkers, with one line each.
const CHECKERS: &[(&str, &str)] = &[
    ("linearizable", "every register behaves as one copy: Wing-Gong-Lowe search, key by key"),
    ("mutual-exclusion", "no two clients hold a lock at once; fencing tokens only grow"),
    ("split-brain", "one leader per term, nobody acts as leader behind another's back, logs agree"),
    ("set", "no acknowledged element is lost, none appears that was never added"),
    ("faults-proven", "every fault was measured to have happened and to have been healed"),
    ("stats", "enough operations succeeded for a verdict to mean something"),
];

/// What can be listed.
pub(crate) const SECTIONS: [&str; 8] =
    ["targets", "workloads", "faults", "grudges", "checkers", "models", "anomalies", "bugs"];

pub(crate) fn list(args: &ListArgs) -> Result<ExitCode, Failure> {
    for what in SECTIONS.into_iter().filter(|what| args.what.as_ref().is_none_or(|asked| asked == what)) {
        match what {
            "targets" => section("Targets (--target)", TARGETS.iter().copied()),
            "workloads" => section("Workloads (--workload)", duress_workloads::ALL.iter().copied()),
            "faults" => section(
                "Faults (--faults and hunt --also, or faults: in a scenario)",
                duress_fault::Kind::ALL.iter().map(|(kind, description)| (kind.name(), *description)),
            ),
            "grudges" => section(
                "Grudges (which links a fault of links hits)",
                duress_fault::Grudge::ALL.iter().map(|(grudge, description)| (grudge.name(), *description)),
            ),
            "checkers" => section("Checkers", CHECKERS.iter().copied()),
            "models" => models(),
            "anomalies" => anomalies(),
            _ => bugs(),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What a history can be judged against.
pub(crate) fn models() {
    let models = duress_checkers::models::ALL.iter();
    section("Models of histories (duress check FILE --model)", models.map(|model| (model.name(), model.about())));
}

/// What can be wrong with a generated history.
pub(crate) fn anomalies() {
    let mut builder = Builder::default();
    for model in generate::models() {
        for (anomaly, description) in generate::anomalies(model).unwrap_or_default() {
            builder.push_record([model, anomaly, description]);
        }
    }
    println!("Anomalies of generated histories (duress generate --model --anomaly)");
    println!("{}\n", builder.build().with(Style::blank()));
}

/// The bugs of each target.
fn bugs() {
    let mut builder = Builder::default();
    for bug in Bug::ALL {
        let modes: Vec<&str> = bug.modes().iter().map(|mode| mode.name()).collect();
        builder.push_record([bug.name(), &modes.join(", "), bug.description()]);
    }
    println!("Bugs that can be planted (--bug), to test the tester with; never there by default");
    println!("{}\n", builder.build().with(Style::blank()));
}

fn section<'a>(title: &str, rows: impl Iterator<Item = (&'a str, &'a str)>) {
    let mut builder = Builder::default();
    for (name, description) in rows {
        builder.push_record([name, description]);
    }
    println!("{title}\n{}\n", builder.build().with(Style::blank()));
}

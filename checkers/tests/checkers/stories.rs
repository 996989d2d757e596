//! Every history in `histories/` gets the verdict that it says it must have, and its report is
//! pinned by a snapshot. A history opens with `checker: <name>` and `expect: <verdict>`.

use std::path::PathBuf;

use duress_checkers::{Judge, Report, Run, Settings};
use duress_checkers::{faults, linearizable, mutex, set, split_brain, stats};

use crate::notation::parse;

fn checker(name: &str) -> Box<dyn Judge> {
    match name {
        "linearizable" => Box::new(linearizable::Linearizable::default()),
        "mutex" => Box::new(mutex::MutualExclusion { fencing: false }),
        "mutex-fencing" => Box::new(mutex::MutualExclusion { fencing: true }),
        "split-brain" => Box::new(split_brain::SplitBrain),
        "set" => Box::new(set::Set { require_convergence: true }),
        "set-loose" => Box::new(set::Set { require_convergence: false }),
        "stats" => Box::new(stats::Stats { min_ok: 3 }),
        "faults" => Box::new(faults::FaultsProven),
        other => panic!("there is no checker {other}"),
    }
}

fn show(report: &Report) -> String {
    let mut text = format!("{}", report.verdict);
    if let Some(class) = report.class {
        text.push_str(&format!(" ({class})"));
    }
    text.push_str(&format!("\n{}\n", report.summary));
    for line in &report.explanation {
        text.push_str(&format!("| {line}\n"));
    }
    for (name, value) in &report.figures {
        text.push_str(&format!("{name} = {value}\n"));
    }
    for table in &report.tables {
        text.push_str(&format!("[{}] {}\n", table.title, table.columns.join(" | ")));
        for row in &table.rows {
            text.push_str(&format!("    {}\n", row.join(" | ")));
        }
    }
    text
}

#[test]
fn histories_get_their_verdicts_and_reports() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/checkers/histories");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("the folder is there").map(|f| f.expect("readable").path()).collect();
    files.sort();
    assert!(files.len() > 40, "only {} histories", files.len());
    for file in files {
        let text = std::fs::read_to_string(&file).expect("readable");
        let name = file.file_stem().and_then(|stem| stem.to_str()).expect("plain names").to_string();
        let mut lines = text.lines();
        let mut header = |key: &str| {
            let line = lines.next().unwrap_or_default();
            line.strip_prefix(key)
                .unwrap_or_else(|| panic!("{name}: expected {key:?}, found {line:?}"))
                .trim()
                .to_string()
        };
        let (which, expected) = (header("checker:"), header("expect:"));
        let events = parse(&lines.collect::<Vec<_>>().join("\n"));
        let run = Run::new(&events, false).unwrap_or_else(|e| panic!("{name}: {e}"));
        let report = checker(&which).judge(&run, &Settings { certify: true, ..Settings::default() });
        let shown = show(&report);
        assert_eq!(report.verdict.to_string(), expected, "{name}:\n{shown}");
        insta::with_settings!({ snapshot_path => "snapshots", prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(name, shown);
        });
    }
}

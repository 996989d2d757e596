//! How soon each bug is found, and that its twin is clean in many more runs: measured, and kept as
//! data.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::hunt::{hunt, root};
use crate::rows::{ROWS, Row, scenarios};

/// From so many first seeds each bug is hunted.
const STARTS: u64 = 10;
/// The first seeds are this far from each other.
pub(crate) const APART: u64 = 10_000_000;
/// No hunt has more runs.
const MOST: u64 = 200_000;
/// No hunt is longer.
const LONGEST: &str = "60s";
/// So many runs of each twin must be clean.
const TWIN: u64 = 10_000;

const FILE: &str = "docs/bugs-detected.json";

/// The name of a row in the data.
pub(crate) fn name(row: &Row) -> String {
    format!("{} in {}", row.bug, row.mode)
}

/// What was measured.
pub(crate) fn stored() -> Value {
    let text = std::fs::read_to_string(root().join(FILE)).unwrap_or_else(|e| panic!("{FILE}: {e}"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{FILE}: {e}"))
}

fn store(section: &str, name: &str, value: Value) {
    let path = root().join(FILE);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|_| "{}".into());
    let mut data: BTreeMap<String, BTreeMap<String, Value>> = serde_json::from_str(&text).unwrap_or_default();
    data.entry(section.into()).or_default().insert(name.into(), value);
    let text = serde_json::to_string_pretty(&data).expect("plain data");
    std::fs::write(&path, text + "\n").unwrap_or_else(|e| panic!("{FILE}: {e}"));
}

/// Only what has this in its name is measured, if it is set.
fn asked(name: &str) -> bool {
    std::env::var("MEASURE").map_or(true, |wanted| name.contains(&wanted))
}

/// The finding of the first seed.
fn first(results: &Value) -> Option<&Value> {
    results["findings"].as_array()?.iter().min_by_key(|finding| finding["seed"].as_u64())
}

#[test]
#[ignore = "takes most of an hour"]
fn measure_how_soon_bugs_are_found() {
    for row in ROWS.iter().filter(|row| asked(&name(row))) {
        let (mut seeds, mut seconds) = (Vec::new(), Vec::new());
        for base in (1..=STARTS).map(|start| start * APART) {
            let results = hunt(row.scenario, Some(row.bug), base, MOST, &["--time", LONGEST, "--shrink", "0s"]);
            let finding = first(&results);
            seeds.push(finding.and_then(|finding| finding["seed"].as_u64()).map(|seed| seed - base + 1));
            seconds.push(finding.and_then(|_| results["elapsed_s"].as_f64()));
        }
        // Nothing (null) where a hunt found nothing.
        let entry = json!({ "seeds": seeds, "seconds": seconds });
        println!("{}: {entry}", name(row));
        store("found", &name(row), entry);
    }
}

#[test]
#[ignore = "takes some minutes, and is of what was found before"]
fn measure_how_small_findings_become() {
    for row in ROWS.iter().filter(|row| asked(&name(row))) {
        let Some(seed) = stored()["found"][name(row)]["seeds"][0].as_u64() else { continue };
        let results = hunt(row.scenario, Some(row.bug), APART + seed - 1, 1, &["--shrink", "30s"]);
        let Some(finding) = first(&results) else { continue };
        let entry = json!({
            "faults": finding["faults"],
            "nodes": finding["nodes"],
            "operations": finding["operations"],
            "seconds": finding["shrunk_in_s"],
        });
        println!("{}: {entry}", name(row));
        store("shrunk", &name(row), entry);
    }
}

#[test]
#[ignore = "takes some minutes"]
fn measure_that_twins_are_clean() {
    for scenario in scenarios().into_iter().filter(|scenario| asked(scenario)) {
        let results = hunt(scenario, None, 1, TWIN, &["--keep-going", "--shrink", "0s"]);
        let entry = json!({ "runs": results["runs"], "failed": results["failed"], "unknown": results["unknown"] });
        println!("{scenario}: {entry}");
        store("twins", scenario, entry);
        assert_eq!(results["failed"], 0, "{scenario}: {}", results["findings"]);
    }
}

//! The tester, tested: `duress hunt` finds every planted bug with the scenario that is named for it,
//! within a stated number of seeds, and finds nothing in the same scenario without the bug.
//!
//! `docs/bugs.md` is written from the catalogue, the table in `rows.rs` and `docs/bugs-detected.json`,
//! by `UPDATE_DOCS=1 cargo test -p duress-cli --test bugs`. The ignored tests measure what is in the
//! JSON file, one after the other: `cargo test --release -p duress-cli --test bugs measure -- --ignored
//! --test-threads 1`; `MEASURE=vote` takes only what has that in its name.

mod document;
mod hunt;
mod measure;
mod rows;

use duress_kv::bugs::{Bug, Mode};

use hunt::hunt;
use rows::{ROWS, scenarios};

#[test]
fn every_bug_of_every_mode_has_a_row() {
    let rows: Vec<(Bug, Mode)> = ROWS.iter().map(|row| (row.bug, row.mode)).collect();
    let bugs: Vec<(Bug, Mode)> =
        Bug::ALL.iter().flat_map(|bug| bug.modes().iter().map(move |mode| (*bug, *mode))).collect();
    assert_eq!(rows, bugs);
    assert!(Bug::ALL.len() >= 24);
}

/// From the first of the measured seeds on: what is found there once is found there again.
#[test]
fn every_bug_is_found() {
    for row in ROWS {
        let Some(seeds) = row.seeds else { continue };
        let results = hunt(row.scenario, Some(row.bug), measure::APART, seeds, &["--shrink", "0s"]);
        let findings = results["findings"].as_array().map_or(0, Vec::len);
        assert!(findings > 0, "{} in {seeds} seeds of {}: not found", row.bug, row.scenario);
    }
}

/// The first of the runs that were measured to be clean.
#[test]
fn every_twin_is_clean() {
    for scenario in scenarios() {
        let results = hunt(scenario, None, 1, 100, &["--shrink", "0s"]);
        assert_eq!(results["failed"], 0, "{scenario} without a bug: {}", results["findings"]);
        assert!(results["clean"].as_u64() >= Some(95), "{scenario}: {}", results["statistics"]);
    }
}

#[test]
fn the_document_is_fresh() {
    let expected = document::document(&measure::stored());
    let path = hunt::root().join("docs/bugs.md");
    if std::env::var_os("UPDATE_DOCS").is_some_and(|value| value == "1") {
        std::fs::write(&path, &expected).expect("the document can be written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == expected,
        "docs/bugs.md is stale: run `UPDATE_DOCS=1 cargo test -p duress-cli --test bugs` and look at the difference"
    );
}

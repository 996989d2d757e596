//! `docs/bugs.md`.

use std::fmt::Write;

use duress_kv::bugs::{Bug, Trigger};
use serde_json::Value;

use crate::measure::name;
use crate::rows::{ROWS, Row, scenarios};

const HEAD: &str = "\
<!-- Generated from targets/kv/src/bugs/catalogue.rs, harness/cli/tests/bugs/rows.rs and docs/bugs-detected.json. \
Don't edit: run UPDATE_DOCS=1 cargo test -p duress-cli --test bugs -->
# Planted bugs

A tester that finds nothing may just be blind. The bundled service carries small, realistic bugs, chosen by
name and never on by default; `duress list bugs` names them:

    duress hunt examples/bugs/vote.yaml --bug promotion-without-catch-up
    duress hunt examples/bugs/vote.yaml --bug none          # its twin: the same without the bug
    duress run --target quorum --bug tie-broken-by-arrival  # on a real cluster

In a scenario file it is `bug: NAME` under `target`. Each is found by a hunt of a scenario in
`examples/bugs/`, and the same scenario without it is clean.

*Power loss* means that a node loses what it had not synced, or finds it torn; a killed process does not,
since its writes are in the operating system's cache. *Retries* are those of impatient clients, who soon ask
elsewhere when they miss an answer.
";

/// The document.
pub(crate) fn document(data: &Value) -> String {
    let mut text = String::from(HEAD);
    detection(&mut text, data);
    twins(&mut text, data);
    for bug in Bug::ALL {
        section(&mut text, *bug);
    }
    text
}

fn numbers(value: &Value) -> Vec<f64> {
    let mut numbers: Vec<f64> = value.as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
    numbers.sort_by(f64::total_cmp);
    numbers
}

/// The value in the middle, or between the two in the middle.
fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len().checked_sub(1)?;
    Some((sorted[middle / 2] + sorted[sorted.len() / 2]) / 2.0)
}

fn shown(number: Option<f64>, digits: usize) -> String {
    number.map_or("–".into(), |number| format!("{number:.digits$}"))
}

fn detection(text: &mut String, data: &Value) {
    text.push_str(
        "\n## How soon they are found\n\n\
         Each is hunted from ten first seeds, far from each other, for at most 60 seconds, on two threads of a machine \
         with two cores that did other work as well. Seeds and seconds are what it took until the finding. The finding \
         of the first hunt was shrunk, for at most 30 seconds; its size is faults, nodes and operations (final reads and \
         probes not included). Stated is \
         what tests allow. Last is in how many runs of the same scenario without the bug nothing was found. A dash: not \
         measured, or too long for a test.\n\n\
         | bug | in | scenario | found | seeds: median | most | stated | seconds: median | most | shrunk to | in seconds \
         | clean runs without it |\n\
         |---|---|---|--:|--:|--:|--:|--:|--:|---|--:|--:|\n",
    );
    for row in ROWS {
        let found = &data["found"][name(row)];
        let (seeds, seconds) = (numbers(&found["seeds"]), numbers(&found["seconds"]));
        let shrunk = &data["shrunk"][name(row)];
        let size = ["faults", "nodes", "operations"].map(|what| shown(shrunk[what].as_f64(), 0)).join(", ");
        let Row { bug, mode, scenario, seeds: stated } = row;
        let stated = stated.map_or("–".into(), |stated| stated.to_string());
        let _ = writeln!(
            text,
            "| [`{bug}`](#{bug}) | {mode} | {} | {} of {} | {} | {} | {} | {} | {} | {size} | {} | {} |",
            link(scenario),
            seeds.len(),
            found["seeds"].as_array().map_or(0, Vec::len),
            shown(median(&seeds), 0),
            shown(seeds.last().copied(), 0),
            stated,
            shown(median(&seconds), 1),
            shown(seconds.last().copied(), 1),
            shown(shrunk["seconds"].as_f64(), 1),
            shown(clean(&data["twins"][scenario]), 0),
        );
    }
}

/// In how many runs of a twin something was judged and nothing found.
fn clean(twin: &Value) -> Option<f64> {
    let [runs, failed, unknown] = ["runs", "failed", "unknown"].map(|what| twin[what].as_f64());
    Some(runs? - failed? - unknown?)
}

fn link(scenario: &str) -> String {
    format!("[{scenario}](../examples/bugs/{scenario}.yaml)")
}

fn twins(text: &mut String, data: &Value) {
    text.push_str("\n## Their twins\n\nThe same scenarios without a bug, from seed 1. Undecided are runs in which no lock was ever granted, so that \
         there was nothing to judge.\n\n| scenario | runs | violations | undecided |\n|---|--:|--:|--:|\n");
    for scenario in scenarios() {
        let [runs, failed, unknown] =
            ["runs", "failed", "unknown"].map(|what| shown(data["twins"][scenario][what].as_f64(), 0));
        let _ = writeln!(text, "| {} | {runs} | {failed} | {unknown} |", link(scenario));
    }
}

fn section(text: &mut String, bug: Bug) {
    let needs = bug.needs();
    let _ = write!(text, "\n## {bug}\n\n{}\n\n- Resembles: {}\n", bug.description(), bug.resembles());
    let mut words: Vec<&str> = needs.triggers.iter().map(|trigger| trigger.name()).collect();
    if needs.retries {
        words.push("retries");
    }
    let words = if words.is_empty() { "nothing but load".into() } else { words.join(", ") };
    let _ = writeln!(text, "- Needs: the {} workload; {words}.", needs.workload.name());
    if needs.triggers.contains(&Trigger::PowerLoss) {
        text.push_str("- Only the loss of what was not synced shows it: killing processes does not.\n");
    }
    if needs.triggers.contains(&Trigger::ClockDrift) {
        text.push_str("- Only clocks that run at different rates show it.\n");
    }
    for mode in bug.modes() {
        let options = needs.options.iter().filter(|(of, ..)| of == mode);
        let options: Vec<String> = options.map(|(_, name, value)| format!("`{name}: {value}`")).collect();
        if !options.is_empty() {
            let _ = writeln!(text, "- In {mode} with, for example, {}.", options.join(", "));
        }
    }
}

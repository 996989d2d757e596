//! Every model against the naive search, on very many tiny histories. `DURESS_FUZZ` sets how many.

use duress_checkers::models::ALL;
use duress_checkers::{Class, Report, Run, Settings, Verdict};
use duress_history::formats::Imported;
use duress_seed::Seed;

use super::{oracle, tiny};

/// How many histories of all models together, unless the environment says otherwise.
const HISTORIES: u64 = 210_000;

pub(crate) fn count() -> u64 {
    std::env::var("DURESS_FUZZ").ok().and_then(|n| n.parse().ok()).unwrap_or(HISTORIES)
}

fn first() -> u64 {
    std::env::var("DURESS_FUZZ_FROM").ok().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// The part of a history that a report calls contradictory.
fn core(history: &Imported, report: &Report) -> Imported {
    let operations = report.core.iter().map(|at| history.operations[*at].clone()).collect();
    Imported { operations, ..history.clone() }
}

pub(crate) fn judge(model: &str, history: &Imported, certify: bool) -> Report {
    let model = duress_checkers::models::named(model).expect("it is one of the models");
    model.judge(&Run::imported(history), &Settings { certify, ..Settings::default() })
}

/// Histories of one model. How many were valid and invalid, and how many of each were judged
/// without a search.
fn compare(model: &str, seeds: std::ops::Range<u64>) -> [u64; 4] {
    let mut counts = [0; 4];
    for seed in seeds {
        let history = tiny::history(model, Seed(seed));
        let expected = oracle::is_linearizable(model, &history, &None);
        let report = judge(model, &history, seed % 4 == 3);
        let monitored = report.figures.get("parts_monitored").is_some_and(|n| *n > 0.0);
        match report.verdict {
            Verdict::Valid => assert!(expected, "{model} seed {seed}: there is no order: {history:#?}"),
            Verdict::Invalid => {
                assert!(!expected, "{model} seed {seed}: there is an order: {report:#?} {history:#?}");
                let core = core(&history, &report);
                assert!(!report.core.is_empty() && report.core.is_sorted(), "{model} seed {seed}: {report:#?}");
                let has_order = oracle::is_linearizable(model, &core, &None);
                assert!(!has_order, "{model} seed {seed}: the core has an order: {report:#?} {history:#?}");
            }
            Verdict::Unknown => {
                assert_eq!(report.class, Some(Class::Inconclusive), "{model} seed {seed}: {report:#?} {history:#?}");
                assert!(report.summary.contains("nothing to judge"), "{model} seed {seed}: {report:#?}");
                assert!(expected, "{model} seed {seed}: {history:#?}");
            }
        }
        counts[usize::from(!expected) + 2 * usize::from(monitored)] += 1;
    }
    counts
}

fn fuzz(model: &str, at_least_monitored: u64) {
    let share = count() / ALL.len() as u64;
    let counts = compare(model, first()..first() + share);
    println!(
        "{model}: searched {} valid, {} invalid; monitored {} valid, {} invalid",
        counts[0], counts[1], counts[2], counts[3]
    );
    let (valid, invalid) = (counts[0] + counts[2], counts[1] + counts[3]);
    assert!(valid > share / 20 && invalid > share / 20, "{model}: too much of one kind: {counts:?}");
    for kind in [2, 3] {
        assert!(counts[kind] >= share * at_least_monitored / 100, "{model}: too little without a search: {counts:?}");
    }
}

macro_rules! agree {
    ($($test:ident $model:literal $monitored:literal;)*) => {
        $(#[test]
        fn $test() {
            fuzz($model, $monitored);
        })*

        #[test]
        fn no_model_is_left_out() {
            let known = [$($model),*];
            let all = duress_checkers::generate::models().into_iter();
            let missing: Vec<_> = all.filter(|model| !known.contains(model)).collect();
            assert!(missing.is_empty(), "{missing:?}");
        }
    };
}

agree! {
    registers "register" 0;
    cas_registers "cas-register" 0;
    multi_registers "multi-register" 0;
    mutexes "mutex" 0;
    owned_mutexes "owned-mutex" 0;
    reentrant_mutexes "reentrant-mutex" 0;
    locks "lock" 0;
    counters "counter" 0;
    sets "set" 3;
    queues "queue" 5;
    stacks "stack" 5;
    priority_queues "priority-queue" 5;
    logs "append-log" 0;
    key_values "kv" 0;
}

//! Generated histories are what their labels say, for every model and anomaly.

use std::collections::BTreeMap;

use duress_checkers::Verdict;
use duress_checkers::generate::{Label, Request, Unfit, anomalies, imported, models};
use duress_history::Outcome;
use duress_seed::Seed;

use super::fuzz::judge;

fn request(seed: u64, anomaly: Option<&str>) -> Request {
    let draw = |what, below| Seed(seed).decide(&[what]).below(below);
    Request {
        operations: 30 + draw(0, 150) as u32,
        clients: 1 + draw(1, 6) as u32,
        keys: 1 + draw(2, 3) as u32,
        values: [None, None, Some(6)][draw(3, 3) as usize],
        indeterminate: [0.0, 0.0, 0.03][draw(4, 3) as usize],
        failed: [0.0, 0.1][draw(5, 2) as usize],
        anomaly: anomaly.map(str::to_owned),
    }
}

#[test]
fn labels_hold_for_every_model_and_anomaly() {
    for model in models() {
        let mut labels: BTreeMap<(&str, bool), u32> = BTreeMap::new();
        let names = anomalies(model).expect("the model is one that can be generated");
        let kinds = names.iter().map(|(name, _)| Some(*name)).chain([None]);
        for anomaly in kinds {
            for seed in 0..24 {
                let request = request(seed, anomaly);
                let made = imported(model, Seed(seed), &request).expect("the model and the anomaly are known");
                assert_eq!(made.history.operations.len(), request.operations as usize, "{model} {anomaly:?} {seed}");
                let report = judge(model, &made.history, seed % 3 == 0);
                let at = format!("{model} {anomaly:?} seed {seed} planted at {:?}: {report:#?}", made.planted);
                match made.label {
                    Label::Valid => assert_eq!(report.verdict, Verdict::Valid, "{at}"),
                    Label::Invalid => assert_eq!(report.verdict, Verdict::Invalid, "{at}"),
                    Label::Perhaps => assert_ne!(report.verdict, Verdict::Unknown, "{at}"),
                }
                *labels.entry((anomaly.unwrap_or("none"), made.label == Label::Invalid)).or_default() += 1;
            }
        }
        for (name, _) in names {
            let proven = labels.get(&(name, true)).copied().unwrap_or_default();
            assert!(proven >= 4, "{model}: {name} was proven {proven} times of 24: {labels:?}");
        }
    }
}

#[test]
fn a_history_is_a_function_of_its_seed() {
    for model in models() {
        let request = Request { operations: 100, keys: 2, indeterminate: 0.05, ..Request::default() };
        let make = |seed| imported(model, Seed(seed), &request).expect("the model is known").history;
        assert_eq!(make(1), make(1), "{model}");
        assert_ne!(make(1), make(2), "{model}");
    }
}

#[test]
fn what_was_asked_for_is_there() {
    for model in models() {
        let request =
            Request { operations: 600, clients: 8, keys: 3, indeterminate: 0.1, failed: 0.1, ..Request::default() };
        let history = imported(model, Seed(3), &request).expect("the model is known").history;
        let share = |outcome| history.operations.iter().filter(|o| o.outcome == outcome).count();
        let keys: std::collections::BTreeSet<_> = history.operations.iter().map(|o| o.op.key.clone()).collect();
        assert_eq!(keys.len(), 3, "{model}");
        assert!((20..120).contains(&share(Outcome::Info)), "{model}: {}", share(Outcome::Info));
        assert!(share(Outcome::Fail) >= 20, "{model}: {}", share(Outcome::Fail));
        assert!(share(Outcome::Ok) >= 100, "{model}: {}", share(Outcome::Ok));
    }
}

#[test]
fn what_is_not_known_is_refused_with_what_is() {
    let anomaly = Request { anomaly: Some("gremlin".into()), ..Request::default() };
    assert!(matches!(imported("queue", Seed(1), &anomaly), Err(Unfit::Anomaly(known)) if known.contains(&"reordered")));
    assert!(
        matches!(imported("abacus", Seed(1), &Request::default()), Err(Unfit::Model(known)) if known.contains(&"queue"))
    );
}

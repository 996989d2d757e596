//! The histories that the engine's speed is measured on.

use duress_checkers::generate::{Anomaly, Options};

/// Names, and what is generated (from seed 1).
pub(crate) fn all() -> Vec<(&'static str, Options)> {
    let base = Options::default();
    let wide = Options { operations: 1_000_000, clients: 50, keys: 1000, ..base.clone() };
    let unique = Options { values: None, cas: 0.0, ..wide.clone() };
    let stale = Some(Anomaly::StaleRead);
    let short = Options { clients: 10, ..base.clone() };
    let phantom = Some(Anomaly::Phantom);
    vec![
        ("1 key, 5 clients, 10k", Options { operations: 10_000, ..base.clone() }),
        ("1 key, 5 clients, 100k", Options { operations: 100_000, ..base.clone() }),
        ("1 key, 20 clients, 10k", Options { operations: 10_000, clients: 20, ..base.clone() }),
        ("1000 keys, 50 clients, 1M", wide.clone()),
        ("same, 1% indeterminate", Options { indeterminate: 0.01, ..wide.clone() }),
        ("1M unique values, one stale read", Options { anomaly: stale, ..unique.clone() }),
        (
            "100 keys, 100k, 1% indeterminate, stale",
            Options { operations: 100_000, keys: 100, indeterminate: 0.01, anomaly: stale, ..wide },
        ),
        ("1 key, 10 clients, 1k, 3% indet., stale", Options { indeterminate: 0.03, anomaly: stale, ..short.clone() }),
        (
            "1 key, 10 clients, 1k, 10% indet., phantom",
            Options { indeterminate: 0.1, anomaly: phantom, ..short.clone() },
        ),
        ("1 key, 10 clients, 1k, 10% indet., stale", Options { indeterminate: 0.1, anomaly: stale, ..short }),
        ("10M unique values, 10,000 keys", Options { operations: 10_000_000, keys: 10_000, ..unique }),
    ]
}

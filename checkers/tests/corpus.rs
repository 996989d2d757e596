//! The fuzzers' corpus, played through the functions that they call.

#[path = "../../fuzz/src/entries.rs"]
pub mod entries;

use std::path::PathBuf;

/// Plays every file of a corpus; how many there are.
fn play(corpus: &str, entry: fn(&[u8])) -> usize {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(corpus);
    let files = std::fs::read_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let mut played = 0;
    for file in files {
        entry(&std::fs::read(file.unwrap().path()).unwrap());
        played += 1;
    }
    played
}

#[test]
fn every_reader_survives_its_corpus() {
    assert!(play("read", entries::any) >= 10);
    assert!(play("edn", entries::edn) >= 10);
    assert!(play("json", entries::json) >= 8);
    assert!(play("columns", entries::columns) >= 5);
    assert!(play("own", entries::own) >= 4);
}

/// Each model is also tried on what the readers found worth keeping.
#[test]
fn every_model_survives_the_corpus() {
    assert!(play("models", entries::judged) >= 12);
    for corpus in ["read", "edn", "json", "columns", "own"] {
        play(corpus, entries::judged);
    }
}

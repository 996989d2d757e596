//! The entries of the fuzzers: each takes any bytes, and panics only if something is wrong with us.
//! A test of the checkers' crate (`checkers/tests/corpus.rs`) plays the stored corpus through them.

use duress_checkers::models;
use duress_checkers::{Budget, Run, Settings};
use duress_history::formats::{Format, Imported, Keys, Options, read, write};
use duress_history::operations;

/// The largest history that is judged: all models, by searches that may be exponential.
const MAX_JUDGED: usize = 16;

/// Whatever it is, compressed or not.
pub fn any(bytes: &[u8]) {
    read_as(None, bytes);
}

/// EDN, Porcupine's text included.
pub fn edn(bytes: &[u8]) {
    read_as(Some(Format::Edn), bytes);
    read_as(Some(Format::Porcupine), bytes);
}

/// Operation maps in JSON.
pub fn json(bytes: &[u8]) {
    read_as(Some(Format::Json), bytes);
}

/// Jepsen's log and `history.txt`.
pub fn columns(bytes: &[u8]) {
    read_as(Some(Format::JepsenLog), bytes);
    read_as(Some(Format::HistoryText), bytes);
}

/// Our own events.
pub fn own(bytes: &[u8]) {
    read_as(Some(Format::JsonLines), bytes);
}

/// All models, on a small history in any format.
pub fn judged(bytes: &[u8]) {
    let options = Options { max_bytes: 1 << 20, ..Options::default() };
    let Ok(history) = read(bytes, &options) else { return };
    if history.operations.len() > MAX_JUDGED {
        return;
    }
    let budget = Budget { time: std::time::Duration::from_secs(2), memory_bytes: 16 << 20 };
    let run = Run::imported(&history);
    for model in models::ALL {
        let quick = model.judge(&run, &Settings { budget, ..Settings::default() });
        let sure = model.judge(&run, &Settings { budget, certify: true, ..Settings::default() });
        assert_eq!(quick.verdict, sure.verdict, "{}: {} but {}", model.name(), quick.summary, sure.summary);
        assert!(quick.core.iter().all(|at| *at < history.operations.len()), "{}", model.name());
    }
}

fn read_as(format: Option<Format>, bytes: &[u8]) {
    for keys in [Keys::Auto, Keys::Single, Keys::Independent] {
        let options = Options { format, keys, max_bytes: 1 << 20, ..Options::default() };
        match read(bytes, &options) {
            Ok(history) => holds_together(&history),
            Err(error) => assert!(!error.message.is_empty()),
        }
    }
}

/// What must be true of every history that was read: it can be turned into events and written in
/// every format, and reads back with as many operations unless something grave was lost.
fn holds_together(history: &Imported) {
    operations(&history.events().events).expect("converted events are well-formed");
    for format in Format::ALL {
        let mut text = Vec::new();
        let lost = write(history, format, &mut text).expect("memory can be written to");
        // These leave out on purpose what tells nothing.
        let whole = !matches!(format, Format::JsonLines | Format::Porcupine);
        if whole && lost.iter().all(|loss| !loss.grave) {
            let keys = if history.independent { Keys::Independent } else { Keys::Single };
            let keyed_columns = matches!(format, Format::JepsenLog | Format::HistoryText)
                && history.operations.iter().all(|operation| operation.op.key.is_some());
            let keys = if keyed_columns { Keys::Independent } else { keys };
            let options = Options { format: Some(format), keys, ..Options::default() };
            let again = match read(&text, &options) {
                Ok(again) => again,
                Err(error) => panic!("{format:?}: {error}\n{}", String::from_utf8_lossy(&text)),
            };
            assert_eq!(again.operations.len(), history.operations.len(), "{format:?}");
        }
    }
}

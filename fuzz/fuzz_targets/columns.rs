//! Any bytes as Jepsen's log and history.txt.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| duress_fuzz::entries::columns(bytes));

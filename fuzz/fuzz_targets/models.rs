//! Any bytes as a small history, judged by every model.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| duress_fuzz::entries::judged(bytes));

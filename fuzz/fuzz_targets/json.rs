//! Any bytes as operation maps in JSON.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| duress_fuzz::entries::json(bytes));

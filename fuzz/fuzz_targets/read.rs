//! Any bytes as a history of whatever format they look like.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| duress_fuzz::entries::any(bytes));

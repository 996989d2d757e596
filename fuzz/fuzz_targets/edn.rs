//! Any bytes as EDN and as Porcupine's text.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| duress_fuzz::entries::edn(bytes));

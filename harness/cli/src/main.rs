//! The `duress` binary.
fn main() {}

//! Hunting with the real binary.

use std::path::{Path, PathBuf};
use std::process::Command;

use duress_kv::bugs::Bug;
use serde_json::Value;

/// The project's folder.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What a hunt of a scenario of `examples/bugs/` finds in at most so many seeds from `seed` on, with
/// a bug or without.
pub(crate) fn hunt(scenario: &str, bug: Option<Bug>, seed: u64, seeds: u64, options: &[&str]) -> Value {
    let out = tempfile::tempdir().expect("a temporary folder can be made");
    let mut command = Command::new(env!("CARGO_BIN_EXE_duress"));
    command.current_dir(root()).arg("hunt").arg(format!("examples/bugs/{scenario}.yaml")).arg("--json");
    command.args(["--bug", bug.map_or("none", Bug::name)]).args(options);
    command.args(["--seed", &seed.to_string(), "--seeds", &seeds.to_string()]).arg("--out").arg(out.path());
    let output = command.output().expect("duress can be started");
    let words = || String::from_utf8_lossy(&output.stderr).into_owned();
    let results: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{scenario}: {e}: {}", words()));
    // 0 valid, 1 invalid.
    let wanted = if results["failed"] == 0 { 0 } else { 1 };
    assert_eq!(output.status.code(), Some(wanted), "{scenario}: {}", words());
    results
}

//! The house rules that can be checked: dependency arrows, file length, lints, no stray notes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Folder → crates of ours it uses, as the table in ARCHITECTURE.md has it.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let rows =
        text.lines().skip_while(|line| !line.starts_with("| folder |")).skip(2).take_while(|l| l.starts_with('|'));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let uses = cells[3].split(',').map(str::trim).filter(|u| *u != "–").map(String::from).collect();
        (cells[0].trim_matches('`').to_string(), uses)
    })
    .collect()
}

/// The same, as the manifests have it.
fn actual() -> BTreeMap<String, BTreeSet<String>> {
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| {
            let manifest = Path::new(package["manifest_path"].as_str().unwrap());
            let folder = manifest.parent().unwrap().strip_prefix(root()).unwrap().to_str().unwrap().to_string();
            let name = format!("duress-{}", folder.rsplit('/').next().unwrap());
            assert_eq!(package["name"].as_str().unwrap(), name, "the package name of {folder}");
            let dependencies = package["dependencies"].as_array().unwrap().iter();
            let uses = dependencies
                .filter(|d| d["kind"].is_null())
                .filter_map(|d| d["name"].as_str()?.strip_prefix("duress-").map(String::from))
                .collect();
            (folder, uses)
        })
        .collect()
}

#[test]
fn the_arrows_are_those_of_the_map() {
    let (documented, actual) = (documented(), actual());
    assert!(documented.len() > 10, "the table of ARCHITECTURE.md was not found");
    for (folder, uses) in &actual {
        let written = documented.get(folder).unwrap_or_else(|| panic!("{folder} is missing in ARCHITECTURE.md"));
        assert_eq!(uses, written, "what {folder} uses (left) is not what ARCHITECTURE.md says (right)");
    }
    for folder in documented.keys() {
        assert!(actual.contains_key(folder), "ARCHITECTURE.md names {folder}, which does not exist");
    }
}

#[test]
fn the_map_is_short() {
    let lines = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap().lines().count();
    assert!(lines < 300, "ARCHITECTURE.md has {lines} lines");
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && name != "target" && !name.starts_with('.') && name != "duress-runs" {
            sources(&path, found);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

#[test]
fn source_files_are_short_documented_and_without_loose_ends() {
    let mut files = Vec::new();
    sources(&root(), &mut files);
    assert!(files.len() > 30, "only {} source files were found", files.len());
    // Written apart, or this file would find itself.
    let loose_ends = [["TO", "DO"].concat(), ["FIX", "ME"].concat()];
    let mut wrong = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let lines = text.lines().count();
        if lines > 800 {
            wrong.push(format!("{} has {lines} lines; find the two things in it", file.display()));
        }
        if !text.starts_with("//!") && !text.starts_with("#!") {
            wrong.push(format!("{} does not say what it is for", file.display()));
        }
        if loose_ends.iter().any(|note| text.contains(note)) {
            wrong.push(format!("{} has an unowned note", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_crate_inherits_the_lints() {
    for folder in actual().keys() {
        let manifest = std::fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[lints]\nworkspace = true"), "{folder} does not inherit the workspace's lints");
    }
}

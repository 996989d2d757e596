//! The generated parts of the documents.
//!
//! Each is written and compared by a test of the crate that knows the truth; so they can't be stale
//! where the tests pass. This runs those tests, and no others.

use std::path::Path;

/// A document with generated parts, and the test that knows them.
struct Generated {
    document: &'static str,
    package: &'static str,
    target: &'static str,
    test: &'static str,
}

const GENERATED: &[Generated] = &[
    Generated { document: "docs/bugs.md", package: "duress-cli", target: "bugs", test: "the_document_is_fresh" },
    Generated {
        document: "docs/checking.md",
        package: "duress-cli",
        target: "check",
        test: "documented_models_are_those_there_are",
    },
];

/// Tells those tests to write.
const UPDATE: &str = "UPDATE_DOCS";

/// Writes them, or says which is stale.
pub(crate) fn run(root: &Path, check: bool) -> Result<(), String> {
    let mut stale = Vec::new();
    for Generated { document, package, target, test } in GENERATED {
        let mut command =
            crate::cargo(root, &["test", "--quiet", "-p", package, "--test", target, "--", "--exact", test]);
        if check {
            command.env_remove(UPDATE);
        } else {
            command.env(UPDATE, "1");
        }
        match crate::run(command) {
            Ok(()) => println!("{document}: {}", if check { "fresh" } else { "written" }),
            Err(_) if check => stale.push(*document),
            Err(problem) => return Err(problem),
        }
    }
    match stale.as_slice() {
        [] => Ok(()),
        stale => Err(format!("stale: {}; `cargo xtask docs` writes them", stale.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documents_and_their_tests_exist() {
        let root = crate::root();
        for Generated { document, target, test, .. } in GENERATED {
            assert!(root.join(document).is_file(), "{document}");
            let tests = root.join("harness/cli/tests");
            let source = [format!("{target}.rs"), format!("{target}/main.rs")]
                .iter()
                .find_map(|name| std::fs::read_to_string(tests.join(name)).ok());
            let source = source.unwrap_or_else(|| panic!("no source of the test {target}"));
            assert!(source.contains(&format!("fn {test}()")) && source.contains(UPDATE), "{target} has no {test}");
        }
    }
}

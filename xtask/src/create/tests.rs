//! Against trees of a few files.

use clap::ValueEnum as _;

use super::*;

/// A tree with a template and a list for every kind, as the real one has.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Tree {
        let tree = Tree(tempfile::tempdir().unwrap());
        for kind in Kind::value_variants() {
            let plan = kind.plan();
            tree.put(&format!("xtask/templates/{}/Cargo.toml.template", plan.template), "name = \"duress-{{name}}\"\n");
            tree.put(
                &format!("xtask/templates/{}/src/{{{{snake}}}}.rs.template", plan.template),
                "//! {{name}}\npub struct {{Camel}};\nconst {{SHOUT}}: {{Camel}} = {{Camel}};\n",
            );
            tree.put(&format!("xtask/templates/{}/README.md", plan.template), "about the template itself: {{name}}\n");
            for line in plan.lines {
                let old = fs::read_to_string(tree.0.path().join(line.file)).unwrap_or_default();
                tree.put(line.file, &format!("{old}first = 1\n  {}\nlast = 2\n", line.above));
            }
        }
        tree
    }

    fn put(&self, path: &str, text: &str) {
        write(&self.0.path().join(path), text).unwrap();
    }

    /// Every file and what is in it.
    fn all(&self) -> Vec<(PathBuf, String)> {
        let (mut found, mut folders) = (Vec::new(), vec![self.0.path().to_path_buf()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let text = fs::read_to_string(&path).unwrap();
                    found.push((path, text));
                }
            }
        }
        found.sort();
        found
    }

    /// Why it isn't made. Nothing may have changed.
    fn refused(&self, kind: Kind, name: &str) -> String {
        let before = self.all();
        let problem = create(self.0.path(), kind, name).unwrap_err();
        assert_eq!(self.all(), before, "it was refused, and yet something changed");
        problem
    }
}

#[test]
fn a_folder_is_made_and_one_line_added() {
    for kind in Kind::value_variants() {
        let tree = Tree::new();
        let before = tree.all();
        let said = create(tree.0.path(), *kind, "token-ring2").unwrap().to_string();
        let folder = tree.0.path().join(kind.plan().folder.replace("{{name}}", "token-ring2"));
        assert_eq!(fs::read_to_string(folder.join("Cargo.toml")).unwrap(), "name = \"duress-token-ring2\"\n");
        assert_eq!(
            fs::read_to_string(folder.join("src/token_ring2.rs")).unwrap(),
            "//! token-ring2\npub struct TokenRing2;\nconst TOKEN_RING2: TokenRing2 = TokenRing2;\n"
        );
        assert!(!folder.join("README.md").exists(), "it belongs to the template");
        let changed: Vec<_> = tree.all().into_iter().filter(|(path, _)| !path.starts_with(&folder)).collect();
        for ((path, was), (_, is)) in before.iter().zip(&changed) {
            let line = kind.plan().lines.iter().find(|line| path.ends_with(line.file));
            let wanted = line.map_or(was.clone(), |line| {
                let new = line.text.replace("{{name}}", "token-ring2").replace("{{snake}}", "token_ring2");
                was.replace(&format!("  {}", line.above), &format!("  {new}\n  {}", line.above))
            });
            assert_eq!(*is, wanted, "{}", path.display());
        }
        assert!(said.contains("Next:\n1. ") && !said.contains("{{"), "{said}");
    }
}

/// In the tree itself: what a template needs is there, so that it can't rot unseen.
#[test]
fn every_template_has_its_place() {
    let root = crate::root();
    for kind in Kind::value_variants() {
        let plan = kind.plan();
        if root.join("xtask/templates").join(plan.template).exists() {
            let name = Name::parse("some-name").unwrap();
            filled(&root.join("xtask/templates").join(plan.template), &name).unwrap();
            plan.lines.iter().for_each(|line| drop(with_line(&root, line, &name).unwrap()));
        }
    }
}

#[test]
fn names_are_checked() {
    let tree = Tree::new();
    for name in ["", "-", "a-", "-a", "a--b", "2pc", "a-2", "Raft", "a_b", "a b", "../a", "a/b", "ä", "{{name}}"] {
        let problem = tree.refused(Kind::Target, name);
        assert!(problem.contains("is no name"), "{name}: {problem}");
    }
    for name in ["self", "type", "std", "test", "duress", "proc-macro"] {
        assert!(tree.refused(Kind::Target, name).contains("means something else"), "{name}");
    }
    assert!(tree.refused(Kind::Target, &"a".repeat(33)).contains("longer"));
    assert!(create(tree.0.path(), Kind::Target, &"a".repeat(32)).is_ok());
}

#[test]
fn nothing_is_overwritten() {
    let tree = Tree::new();
    create(tree.0.path(), Kind::Target, "raft").unwrap();
    assert!(tree.refused(Kind::Target, "raft").contains("targets/raft exists"));
    assert!(tree.refused(Kind::Workload, "raft").contains("targets/raft has this name"));
}

#[test]
fn templates_and_lists_are_looked_at_before_anything_is_written() {
    let tree = Tree::new();
    tree.put("xtask/templates/target/src/zz.rs.template", "{{oops}}");
    assert!(tree.refused(Kind::Target, "raft").contains("something unknown: {{oops}}"));
    let tree = Tree::new();
    tree.put("Cargo.toml", "");
    assert!(tree.refused(Kind::Target, "raft").contains("Cargo.toml has no line"));
    tree.put("Cargo.toml", "duress-raft = { path = \"targets/raft\" }\n# cargo xtask new target\n");
    assert!(tree.refused(Kind::Target, "raft").contains("already"));
    let tree = Tree::new();
    fs::remove_dir_all(tree.0.path().join("xtask/templates/checker")).unwrap();
    assert!(tree.refused(Kind::Checker, "raft").contains("can't read the template"));
}

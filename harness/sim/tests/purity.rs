//! Nothing that decides or judges in a simulated run may know a clock, a random stream or the
//! order of a hash map: the sources of the pure crates are searched for them.

use std::fs;
use std::path::{Path, PathBuf};

/// The pure crates, from the workspace's root.
const PURE: &[&str] = &[
    "checkers",
    "harness/history",
    "harness/scenario",
    "harness/seed",
    "harness/sim",
    "nemesis/conductor",
    "nemesis/fault",
    "targets/kv",
    "targets/machine",
    "workloads",
];

/// What must not be named, and why.
const FORBIDDEN: &[(&str, &str)] = &[
    ("SystemTime", "reads the wall clock"),
    ("Instant", "reads a clock"),
    ("thread_rng", "draws from a random stream"),
    ("rand::", "draws from a random stream"),
    ("RandomState", "orders by chance"),
    ("std::thread", "threads"),
    ("std::net", "sockets"),
    ("std::fs", "files"),
    ("std::env", "the environment"),
    ("tokio", "async"),
];

/// Maps and sets without an order. Looking things up in them is harmless, so they may be used; going
/// through them is not.
const UNORDERED: &[&str] = &["HashMap", "HashSet"];

/// What goes through a map or a set, behind its name.
const GOES_THROUGH: &[&str] = &[
    ".iter()",
    ".iter_mut()",
    ".keys()",
    ".values()",
    ".values_mut()",
    ".into_iter()",
    ".drain(",
    ".retain(",
    ".into_keys()",
];

/// What is allowed after all: file, word, reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("checkers/src/budget.rs", "Instant", "the budget's deadline; running out of it is never a finding"),
    ("harness/seed/src/lib.rs", "rand::", "what is drawn is a pure function of a decision and its key"),
    ("harness/seed/src/stream.rs", "rand::", "the stream of one decision, whose key is its seed"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("a folder can be read").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The code of a source file: without comments, and without the tests at its end.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]"));
    lines.enumerate().map(|(number, line)| (number + 1, line.split("//").next().unwrap_or_default()))
}

fn names(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let joins = |c: char| c.is_alphanumeric() || c == '_';
        !before.is_some_and(joins) && (word.ends_with([':', '(']) || !after.is_some_and(joins))
    })
}

/// The names of fields and variables of a file that are unordered maps or sets: `name: HashMap<…>`
/// and `let name = HashMap::new()`.
fn unordered(text: &str) -> Vec<&str> {
    let last_word = |text: &'_ str| text.rfind(|c: char| !(c.is_alphanumeric() || c == '_')).map_or(0, |at| at + 1);
    let mut found = Vec::new();
    for (_, line) in code(text) {
        for word in UNORDERED.iter().filter(|word| names(line, word)) {
            let before = line.split(word).next().unwrap_or_default().trim_end();
            let before = before.trim_end_matches(['&', '<']).trim_end().trim_end_matches("mut").trim_end();
            if let Some(named) = before.strip_suffix(':').or(before.strip_suffix('=')) {
                let named = named.trim_end();
                found.extend(named.get(last_word(named)..).filter(|name| !name.is_empty()));
            }
        }
    }
    found
}

/// Whether a line goes through one of these maps or sets.
fn goes_through(line: &str, maps: &[&str]) -> bool {
    maps.iter().any(|map| {
        let by_method = GOES_THROUGH.iter().any(|how| names(line, &format!("{map}{how}").replace("()", "(")));
        let by_loop = line.split_once(" in ").is_some_and(|(head, what)| {
            let what = what.trim_start_matches(['&', ' ']).trim_start_matches("mut ").trim_start_matches("self.");
            head.trim_start().starts_with("for ") && what.trim_end_matches([' ', '{']) == *map
        });
        by_method || by_loop
    })
}

#[test]
fn pure_crates_stay_pure() {
    let mut wrong = Vec::new();
    let mut searched = 0;
    for pure in PURE {
        let mut files = Vec::new();
        sources(&root().join(pure).join("src"), &mut files);
        for file in files {
            let name = file.display().to_string();
            let text = fs::read_to_string(&file).expect("a source file can be read");
            searched += 1;
            let maps = unordered(&text);
            for (number, line) in code(&text) {
                if goes_through(line, &maps) {
                    wrong.push(format!("{name}:{number}: goes through a map in an order of chance"));
                }
                for (word, why) in FORBIDDEN {
                    let excepted = EXCEPTIONS.iter().any(|(path, what, _)| name.ends_with(path) && what == word);
                    if names(line, word) && !excepted {
                        wrong.push(format!("{name}:{number}: {word} ({why})"));
                    }
                }
            }
        }
    }
    assert!(searched > 60, "only {searched} files were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_search_finds_what_it_looks_for() {
    assert!(names("    let now = Instant::now();", "Instant"));
    assert!(!names("    fn instantly() -> MyInstant {", "Instant"));
    assert!(code("let x = 1; // Instant\n").all(|(_, line)| !names(line, "Instant")));
    let text = "struct S {\n    seen: HashMap<u64, u64>,\n}\nlet mut open = HashSet::new();\n";
    let maps = unordered(text);
    assert_eq!(maps, ["seen", "open"]);
    for line in ["for x in &self.seen {", "self.seen.iter().map(f)", "open.drain()", "for x in open {"] {
        assert!(goes_through(line, &maps), "{line}");
    }
    for line in ["self.seen.get(&1)", "for x in &self.foreseen {", "unseen.iter()"] {
        assert!(!goes_through(line, &maps), "{line}");
    }
}

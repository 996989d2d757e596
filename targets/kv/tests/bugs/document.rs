//! `docs/bugs.md`.

use std::fmt::Write;

use duress_kv::bugs::{Bug, Mode};

/// The document. `rows`: bug, mode, the storm that finds it, and within how many seeds.
pub(crate) fn document(rows: &[(Bug, Mode, &str, u64)]) -> String {
    let mut text = String::from(
        "<!-- Generated from targets/kv/src/bugs/catalogue.rs and targets/kv/tests/bugs.rs. Don't edit: \
         run UPDATE_DOCS=1 cargo test -p duress-kv --test bugs -->\n\
         # Planted bugs\n\n\
         A tester that finds nothing may just be blind. The bundled service carries small, realistic bugs, chosen by \
         name and never on by default, and the tests insist that each is found, and that the same runs are clean \
         without it.\n\n\
         *Power loss* means that a node loses what it had not synced; a killed process does not, since its writes are \
         in the operating system's cache: bugs that need power loss can't be shown by killing processes. *Retries* \
         are those of impatient clients, who soon ask elsewhere when they miss an answer. *Found by* names a storm of \
         `targets/kv/tests/bugs/storms.rs` (where every crash is a power loss) and within how many seeds it finds \
         the bug at the latest.\n\n\
         | bug | modes | workload | needs |\n|---|---|---|---|\n",
    );
    for bug in Bug::ALL {
        let modes: Vec<&str> = bug.modes().iter().map(|mode| mode.name()).collect();
        let _ = writeln!(
            text,
            "| [`{bug}`](#{bug}) | {} | {} | {} |",
            modes.join(", "),
            bug.needs().workload.name(),
            triggers(*bug)
        );
    }
    for bug in Bug::ALL {
        let _ = write!(text, "\n## {bug}\n\n{}\n\n", bug.description());
        let _ = writeln!(text, "- Resembles: {}", bug.resembles());
        let _ = writeln!(text, "- Needs: the {} workload; {}.", bug.needs().workload.name(), triggers(*bug));
        for mode in bug.modes() {
            let options: Vec<String> = bug
                .needs()
                .options
                .iter()
                .filter(|(of, ..)| of == mode)
                .map(|(_, name, value)| format!("`{name}: {value}`"))
                .collect();
            let with = if options.is_empty() { String::new() } else { format!(" with {}", options.join(", ")) };
            for (_, _, storm, seeds) in rows.iter().filter(|(of, in_mode, ..)| of == bug && in_mode == mode) {
                let _ = writeln!(text, "- In {mode}{with}: found by `{storm}` within {seeds} seeds.");
            }
        }
    }
    text
}

fn triggers(bug: Bug) -> String {
    let needs = bug.needs();
    let mut words: Vec<&str> = needs.triggers.iter().map(|trigger| trigger.name()).collect();
    if needs.retries {
        words.push("retries");
    }
    if words.is_empty() { "nothing but load".into() } else { words.join(", ") }
}

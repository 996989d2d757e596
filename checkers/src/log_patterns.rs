//! Logs: does a node's own log tell of a failure that no client saw?
//!
//! A line that holds one of the patterns is such a tale: a panic, an abort, memory misused. Jepsen's
//! `log-file-pattern` checker does the same with one expression given by the test. Logs are not part
//! of a history, so whoever has them hands them over.

use crate::{Report, words};

/// What a program writes when it fails by its own fault.
pub const FAILURES: &[&str] = &[
    "panicked at",
    "fatal runtime error",
    "has overflowed its stack",
    "memory allocation of",
    "AddressSanitizer",
    "ThreadSanitizer",
    "UndefinedBehaviorSanitizer",
    "Segmentation fault",
    "java.lang.OutOfMemoryError",
    "fatal error: ",
];

/// What a program writes when it can't have more memory: no fault of its own if it was given
/// none.
pub const OUT_OF_MEMORY: &[&str] =
    &["memory allocation of", "java.lang.OutOfMemoryError", "fatal error: runtime: out of memory"];

/// A log without the lines that hold one of the patterns; the others keep their numbers.
pub fn without(log: &str, patterns: &[&str]) -> String {
    let keep = |line: &str| !patterns.iter().any(|pattern| line.contains(pattern));
    log.split('\n').map(|line| if keep(line) { line } else { "" }).collect::<Vec<_>>().join("\n")
}

/// No more lines than this are quoted, and of each only so many characters.
const QUOTED: usize = 10;
const WIDTH: usize = 200;

/// Judges logs, each with the name of its node. O(n) in their length.
pub fn check<'a>(logs: impl IntoIterator<Item = (&'a str, &'a str)>, patterns: &[&str]) -> Report {
    const NAME: &str = "log-patterns";
    let (mut lines, mut files, mut found) = (0u64, 0usize, 0usize);
    let mut quoted = Vec::new();
    for (node, log) in logs {
        files += 1;
        for (number, line) in log.lines().enumerate() {
            lines += 1;
            if patterns.iter().any(|pattern| line.contains(pattern)) {
                found += 1;
                if quoted.len() < QUOTED {
                    let line: String = line.trim().chars().take(WIDTH).collect();
                    quoted.push(format!("{node}, line {}: {line}", number + 1));
                }
            }
        }
    }
    let mut report = if found > 0 {
        let first = quoted[0].clone();
        Report::invalid(NAME, format!("{} of a failure: {first}", words::count(found, "log line")))
    } else {
        Report::valid(NAME, format!("{} tell of no failure.", words::count(files, "log")))
    };
    if found > QUOTED {
        quoted.push(format!("… and {} more", found - QUOTED));
    }
    report.explanation = quoted.into_iter().skip(1).collect();
    report.figure("lines", lines as f64);
    report.figure("failures", found as f64);
    report
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Verdict;

    #[test]
    fn a_panic_is_found_with_its_place() {
        let log = "starting\nthread 'main' panicked at src/main.rs:1:1:\nboom\n";
        let report = check([("n1", "all is well\n"), ("n2", log)], FAILURES);
        assert_eq!(report.verdict, Verdict::Invalid);
        assert!(report.summary.contains("n2, line 2: thread 'main' panicked"), "{}", report.summary);
    }

    #[test]
    fn what_a_fault_brought_about_is_left_out() {
        let log = "starting\nmemory allocation of 7 bytes failed\nthread 'main' panicked at src/main.rs:1:1:\n";
        let rest = without(log, OUT_OF_MEMORY);
        assert_eq!(rest, "starting\n\nthread 'main' panicked at src/main.rs:1:1:\n");
        assert!(check([("n1", rest.as_str())], FAILURES).summary.contains("n1, line 3"));
    }

    #[test]
    fn a_quiet_log_is_valid_and_many_failures_are_counted() {
        assert_eq!(check([("n1", "an error was answered\n")], FAILURES).verdict, Verdict::Valid);
        let many = "fatal error: x\n".repeat(25);
        let report = check([("n1", many.as_str())], FAILURES);
        assert_eq!(report.explanation.len(), QUOTED);
        assert_eq!(report.explanation.last().map(String::as_str), Some("… and 15 more"));
        assert_eq!(report.figures.get("failures"), Some(&25.0));
    }
}

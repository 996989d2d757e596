//! `duress doctor`: says what this machine can do, by trying it, and what to do where it can't.

mod checks;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use tabled::builder::Builder;
use tabled::settings::Style;

use crate::exit::Failure;

pub(crate) use checks::tell_time;

pub(crate) const EXAMPLES: &str = "\
Examples:
  duress doctor              a table, on a terminal
  duress doctor --json | jq '.checks[] | select(.state != \"ok\")'

Everything is tried, in namespaces and files that are gone afterwards, not guessed from settings.
What is lacking keeps `duress run` from working; without what is optional only some faults, or
some comforts, are missing.

Exit codes: 0 everything that `duress run` needs is there; 254 something is lacking.";

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Print what was found as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Where runs are to be kept: that disk's syncs are measured
    #[arg(long, value_name = "DIR", default_value = "duress-runs")]
    pub(crate) out: PathBuf,
}

/// How something was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// It is there.
    Ok,
    /// It isn't there, and `duress run` needs it.
    Lacking,
    /// It isn't there, and only what it is said to be for needs it.
    Optional,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Lacking => "LACKING",
            State::Optional => "optional",
        }
    }
}

/// One thing that was tried.
#[derive(Clone, Debug, Serialize)]
struct Check {
    name: String,
    state: State,
    /// What it is needed for.
    needed_for: String,
    /// What was found: a figure, a version, or what is wrong.
    found: String,
    /// What to do about it; empty if it is there, or nothing is known.
    fix: String,
}

impl Check {
    /// Something that runs need.
    fn needed(name: &str, needed_for: &str, result: Result<String, Lack>) -> Check {
        Check::new(name, needed_for, State::Lacking, result)
    }

    /// Something that runs can do without.
    fn optional(name: &str, needed_for: &str, result: Result<String, Lack>) -> Check {
        Check::new(name, needed_for, State::Optional, result)
    }

    fn new(name: &str, needed_for: &str, otherwise: State, result: Result<String, Lack>) -> Check {
        let (state, found, fix) = match result {
            Ok(found) => (State::Ok, found, String::new()),
            Err(Lack { what, fix }) => (otherwise, what, fix),
        };
        Check { name: name.into(), state, needed_for: needed_for.into(), found, fix }
    }
}

/// What is wrong, and what to do about it.
#[derive(Clone, Debug)]
struct Lack {
    what: String,
    fix: String,
}

impl Lack {
    fn new(what: impl std::fmt::Display, fix: impl Into<String>) -> Lack {
        Lack { what: what.to_string(), fix: fix.into() }
    }
}

pub(crate) fn doctor(args: &DoctorArgs) -> Result<ExitCode, Failure> {
    let checks = checks::all(&args.out);
    let lacking = checks.iter().filter(|check| check.state == State::Lacking).count();
    if args.json {
        let text = serde_json::to_string_pretty(&serde_json::json!({ "ok": lacking == 0, "checks": checks }));
        println!("{}", text.map_err(|e| Failure::infrastructure("can't write JSON", e))?);
    } else if std::io::stdout().is_terminal() {
        println!("{}", table(&checks));
    } else {
        print!("{}", plain(&checks));
    }
    match lacking {
        0 => Ok(ExitCode::SUCCESS),
        1 => Err(Failure::Infrastructure("this machine can't run clusters yet: one thing is lacking".into())),
        n => Err(Failure::Infrastructure(format!("this machine can't run clusters yet: {n} things are lacking"))),
    }
}

/// For a person.
fn table(checks: &[Check]) -> String {
    let mut builder = Builder::default();
    builder.push_record(["", "what", "needed for", "found, and what to do about it"]);
    for check in checks {
        let fix = if check.fix.is_empty() { String::new() } else { format!("\n{}", wrapped(&check.fix, 60)) };
        let found = wrapped(&check.found, 60) + &fix;
        builder.push_record([check.state.name(), &wrapped(&check.name, 34), &wrapped(&check.needed_for, 24), &found]);
    }
    builder.build().with(Style::sharp()).to_string()
}

/// Words in lines of no more than so many characters, where they allow it.
fn wrapped(text: &str, width: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.into()),
        }
    }
    lines.join("\n")
}

/// For a log: a line for each thing, and one for what to do about it.
fn plain(checks: &[Check]) -> String {
    let mut text = String::new();
    for Check { name, state, needed_for, found, fix } in checks {
        let found = if found.is_empty() { String::new() } else { format!(": {found}") };
        match state {
            State::Ok => text += &format!("{:<8} {name}{found}\n", state.name()),
            _ => text += &format!("{:<8} {name}{found} (needed for {needed_for})\n", state.name()),
        }
        if !fix.is_empty() {
            text += &format!("         {}.\n", fix.trim_end_matches('.'));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_wrapped_between_words() {
        assert_eq!(wrapped("one two  three four", 9), "one two\nthree\nfour");
        assert_eq!(wrapped("unbreakable x", 3), "unbreakable\nx");
        assert_eq!(wrapped("", 3), "");
    }

    #[test]
    fn what_is_lacking_is_shown_with_its_fix() {
        let checks = [
            Check::needed("veth pairs", "every run", Ok("made one".into())),
            Check::needed("namespaces", "every run", Err(Lack::new("refused", "Run it as root"))),
            Check::optional("tshark", "reading captures", Err(Lack::new("not found", "apt install tshark"))),
        ];
        assert_eq!(
            plain(&checks),
            "ok       veth pairs: made one\n\
             LACKING  namespaces: refused (needed for every run)\n         Run it as root.\n\
             optional tshark: not found (needed for reading captures)\n         apt install tshark.\n"
        );
        let table = table(&checks);
        for word in ["LACKING", "optional", "Run it as root", "reading captures", "made one"] {
            assert!(table.contains(word), "no {word} in\n{table}");
        }
    }
}

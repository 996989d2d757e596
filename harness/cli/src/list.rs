//! `duress list`.

use std::process::ExitCode;

use tabled::builder::Builder;
use tabled::settings::Style;

use duress_checkers::generate;
use duress_plug::{Bug, Opt, Plugs, docs};

use crate::args::ListArgs;
use crate::assemble;
use crate::exit::Failure;

/// What judges nodes' logs, which are no part of a history.
const LOG_PATTERNS: (&str, &str) =
    ("log-patterns", "no node's log tells of a crash or of damage; a finding beside the verdict");

/// Every judge, with one line each.
fn checkers() -> impl Iterator<Item = (&'static str, &'static str)> {
    duress_checkers::all().map(|judge| (judge.name(), judge.about())).chain([LOG_PATTERNS])
}

/// What can be listed.
pub(crate) const SECTIONS: [&str; 8] =
    ["targets", "workloads", "faults", "grudges", "checkers", "models", "anomalies", "bugs"];

pub(crate) fn list(args: &ListArgs) -> Result<ExitCode, Failure> {
    let (plugs, asked) = (assemble::plugs(), args.what.is_some());
    for what in SECTIONS.into_iter().filter(|what| args.what.as_ref().is_none_or(|asked| asked == what)) {
        match what {
            "targets" => {
                let all = plugs.targets.iter().map(|target| (target.name(), target.about(), target.options()));
                section("Targets (--target)", all.clone().map(|(name, about, _)| (name, about)));
                all.filter(|_| asked).for_each(|(name, _, of)| options(&format!("target: {name}"), of));
            }
            "workloads" => {
                let all = plugs.workloads.iter().map(|plug| (plug.name(), plug.about(), plug.options()));
                section("Workloads (--workload)", all.clone().map(|(name, about, _)| (name, about)));
                all.filter(|_| asked).for_each(|(name, _, of)| options(&format!("workload: {name}"), of));
            }
            "faults" => section(
                "Faults (--faults and hunt --also, or faults: in a scenario)",
                duress_fault::Kind::ALL.iter().map(|(kind, description)| (kind.name(), *description)),
            ),
            "grudges" => section(
                "Grudges (which links a fault of links hits)",
                duress_fault::Grudge::ALL.iter().map(|(grudge, description)| (grudge.name(), *description)),
            ),
            "checkers" => section("Checkers", checkers()),
            "models" => models(),
            "anomalies" => anomalies(),
            _ => bugs(&plugs),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What a history can be judged against.
pub(crate) fn models() {
    let models = duress_checkers::all();
    section("Models of histories (duress check PATH --model)", models.map(|model| (model.name(), model.about())));
}

/// What can be wrong with a generated history.
pub(crate) fn anomalies() {
    let mut builder = Builder::default();
    for model in generate::models() {
        for (anomaly, description) in generate::anomalies(model).unwrap_or_default() {
            builder.push_record([model, anomaly, description]);
        }
    }
    println!("Anomalies of generated histories (duress generate --model --anomaly)");
    println!("{}\n", builder.build().with(Style::blank()));
}

/// What can be chosen about a plug; all of it, in a scenario or by `--set`.
fn options(of: &str, options: &[Opt]) {
    let mut builder = Builder::default();
    for option in options {
        let is = docs::possible(&option.kind).replace('`', "");
        let empty = if option.optional { ", or empty" } else { "" };
        let usual = docs::usual(option).replace('`', "");
        builder.push_record([option.name, &format!("{is}{empty} [{usual}]"), &option.doc.replace('`', "")]);
    }
    println!("Options of {of} [default]\n{}\n", builder.build().with(Style::blank()));
}

/// The bugs of each target.
fn bugs(plugs: &Plugs<'_>) {
    // In the order in which they are first named, each with all targets that have it.
    let mut all: Vec<(Bug, Vec<&str>)> = Vec::new();
    for target in plugs.targets {
        for bug in target.bugs() {
            match all.iter_mut().find(|(known, _)| *known == bug) {
                Some((_, targets)) => targets.push(target.name()),
                None => all.push((bug, vec![target.name()])),
            }
        }
    }
    let mut builder = Builder::default();
    for (bug, targets) in &all {
        builder.push_record([bug.name, &targets.join(", "), bug.about]);
    }
    println!("Bugs that can be planted (--bug), to test the tester with; never there by default");
    println!("{}\n", builder.build().with(Style::blank()));
}

fn section<'a>(title: &str, rows: impl Iterator<Item = (&'a str, &'a str)>) {
    let mut builder = Builder::default();
    for (name, description) in rows {
        builder.push_record([name, description]);
    }
    println!("{title}\n{}\n", builder.build().with(Style::blank()));
}

#[cfg(test)]
mod tests {
    use duress_scenario::{Options, Scenario};

    use super::*;

    /// A checker that may judge a run and isn't listed could not be looked up.
    #[test]
    fn every_checker_of_a_run_is_listed() {
        let listed: Vec<&str> = checkers().map(|(name, _)| name).collect();
        let plugs = assemble::plugs();
        let mut pairs = 0;
        for target in plugs.targets {
            for workload in plugs.workloads {
                let options = Options {
                    target: Some(target.name().into()),
                    workload: Some(workload.name().into()),
                    set: vec!["limits.min_available=50".into()],
                    ..Options::default()
                };
                let scenario = match Scenario::from_options(&options, &plugs) {
                    Ok(scenario) => scenario,
                    // Not every target has what every workload asks for.
                    Err(error) if error.to_string().contains("does not serve") => continue,
                    Err(error) => panic!("{error}"),
                };
                pairs += 1;
                for checker in assemble::checkers(&scenario) {
                    assert!(listed.contains(&checker.name()), "{} is not listed", checker.name());
                }
            }
        }
        assert!(pairs >= 10, "only {pairs} targets and workloads go together");
        let logs = duress_checkers::log_patterns::check(std::iter::empty(), duress_checkers::log_patterns::FAILURES);
        assert!(listed.contains(&&*logs.checker), "{} is not listed", logs.checker);
    }
}

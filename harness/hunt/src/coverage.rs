//! What a hunt could have tested, so that what it did not test shows.

use std::collections::BTreeMap;

use duress_fault::Kind;
use duress_plug::Facts;
use duress_scenario::{Faults, Scenario};
use duress_sim::{Coverage, Situation};

/// How often each situation came about, those included that could have come about and never did.
/// Sorted.
pub fn with_zeros(coverage: &Coverage, scenario: &Scenario, extras: &[Kind]) -> BTreeMap<Situation, u64> {
    let mut counts: BTreeMap<Situation, u64> = possible(scenario, extras).into_iter().map(|one| (one, 0)).collect();
    counts.extend(coverage.counts().iter().map(|(situation, count)| (*situation, *count)));
    counts
}

/// What goes on in a target: the words of the simulator.
fn moments(facts: &Facts) -> &'static [&'static str] {
    const CALM: &[&str] = &["with operations under way", "at rest"];
    const LED: &[&str] =
        &["with operations under way", "at rest", "without a leader", "with two leaders", "while a node recovers"];
    const ELECTED: &[&str] = &[
        "with operations under way",
        "at rest",
        "without a leader",
        "with two leaders",
        "while a node recovers",
        "during an election",
    ];
    match facts {
        Facts { elects: true, .. } => ELECTED,
        Facts { leads: true, .. } => LED,
        _ => CALM,
    }
}

/// What could come about in a hunt of this scenario.
fn possible(scenario: &Scenario, extras: &[Kind]) -> Vec<Situation> {
    let facts = scenario.target.facts();
    let (roles, moments) = (facts.roles, moments(facts));
    let kinds: Vec<Kind> = match &scenario.faults {
        Faults::None => Vec::new(),
        Faults::Planned(plan) => plan.kinds.clone(),
        Faults::Scripted(faults) => faults.iter().map(|timed| timed.fault.kind()).collect(),
    };
    let mut deeds: Vec<&'static str> = Vec::new();
    for kind in &kinds {
        deeds.push(kind.name());
        if *kind == Kind::Partition {
            deeds.push("isolated");
        }
    }
    deeds.extend(extras.iter().map(|extra| extra.name()));
    let mut all = Vec::new();
    for what in &deeds {
        for whom in roles {
            all.extend(moments.iter().map(|when| Situation { what, whom, when }));
        }
    }
    let power = extras.contains(&Kind::PowerLoss);
    if kinds.contains(&Kind::Crash) || power {
        let mut found = vec!["with nothing unsynced", "with all unsynced records kept"];
        if power {
            found.extend(["with unsynced records lost", "with a torn last record"]);
        }
        all.extend(found.into_iter().map(|when| Situation { what: "restart", whom: "node", when }));
    }
    all
}

#[cfg(test)]
mod tests {
    use duress_plug::Plugs;

    use super::*;

    #[test]
    fn what_never_came_about_is_there_with_a_zero() {
        let text = "target: {kind: paxos}\nworkload: {kind: register}\nfaults: {interval: 2s, duration: 1s, kinds: [partition]}\n";
        let plugs = Plugs { targets: duress_kv::kit::TARGETS, workloads: duress_workloads::plugs() };
        let scenario = Scenario::parse(text, "test", &[], &plugs).unwrap_or_else(|e| panic!("{e}"));
        let counts = with_zeros(&Coverage::default(), &scenario, &[Kind::PowerLoss]);
        let leader = Situation { what: "isolated", whom: "leader", when: "during an election" };
        assert_eq!(counts.get(&leader), Some(&0));
        let torn = Situation { what: "restart", whom: "node", when: "with a torn last record" };
        assert_eq!(counts.get(&torn), Some(&0));
        assert!(counts.keys().all(|situation| situation.what != "crash"));
    }
}

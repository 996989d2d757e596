//! What a hunt could have tested, so that what it did not test shows.

use std::collections::BTreeMap;

use duress_fault::Kind;
use duress_scenario::{Faults, Scenario, Target, target};
use duress_sim::{Coverage, Situation};

/// How often each situation came about, those included that could have come about and never did.
/// Sorted.
pub fn with_zeros(coverage: &Coverage, scenario: &Scenario, extras: &[Kind]) -> BTreeMap<Situation, u64> {
    let mut counts: BTreeMap<Situation, u64> = possible(scenario, extras).into_iter().map(|one| (one, 0)).collect();
    counts.extend(coverage.counts().iter().map(|(situation, count)| (*situation, *count)));
    counts
}

/// The parts that the nodes of a target take, and what goes on in it: the words of the simulator.
fn parts(target: &Target) -> (&'static [&'static str], &'static [&'static str]) {
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
    match target {
        Target::Paxos(_) => (&["leader", "follower", "candidate"], ELECTED),
        Target::PrimaryBackup(asked) if asked.failover == target::Failover::Vote => {
            (&["primary", "backup", "candidate"], ELECTED)
        }
        Target::PrimaryBackup(_) => (&["primary", "backup"], LED),
        Target::Quorum(_) => (&["replica"], CALM),
    }
}

/// What could come about in a hunt of this scenario.
fn possible(scenario: &Scenario, extras: &[Kind]) -> Vec<Situation> {
    let (roles, moments) = parts(&scenario.target);
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
    use super::*;

    #[test]
    fn what_never_came_about_is_there_with_a_zero() {
        let text = "target: {kind: paxos}\nworkload: {kind: register}\nfaults: {interval: 2s, duration: 1s, kinds: [partition]}\n";
        let scenario = Scenario::parse(text, "test", &[]).unwrap_or_else(|e| panic!("{e}"));
        let counts = with_zeros(&Coverage::default(), &scenario, &[Kind::PowerLoss]);
        let leader = Situation { what: "isolated", whom: "leader", when: "during an election" };
        assert_eq!(counts.get(&leader), Some(&0));
        let torn = Situation { what: "restart", whom: "node", when: "with a torn last record" };
        assert_eq!(counts.get(&torn), Some(&0));
        assert!(counts.keys().all(|situation| situation.what != "crash"));
    }
}

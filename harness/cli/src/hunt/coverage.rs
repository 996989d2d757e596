//! How a hunt's coverage is shown and stored.

use std::collections::{BTreeMap, BTreeSet};

use duress_hunt::statistics;
use duress_sim::Situation;
use serde_json::json;
use tabled::builder::Builder;
use tabled::settings::Style;

/// So many of what was never tested are named.
const NAMED: usize = 5;

/// What was tested: each fault and whom it met, by what the cluster was doing. A zero is something
/// that this hunt says nothing about.
pub(super) fn table(counts: &BTreeMap<Situation, u64>) -> String {
    if counts.is_empty() {
        return "\nNothing was done to the cluster: there is no coverage.\n".into();
    }
    /// (what, whom) → when → how often.
    type Rows<'a> = BTreeMap<(&'a str, &'a str), BTreeMap<&'a str, u64>>;
    // What happens to nodes by themselves has other columns than what is done to them.
    let group = |what: &str| match what {
        "restart" => 1,
        "connection broken" | "fence" | "stopped by a full disk" => 2,
        _ => 0,
    };
    let mut groups: BTreeMap<u8, Rows<'_>> = BTreeMap::new();
    for (situation, count) in counts {
        let rows = groups.entry(group(situation.what)).or_default();
        rows.entry((situation.what, situation.whom)).or_default().insert(situation.when, *count);
    }
    let mut text = String::new();
    for rows in groups.values() {
        let columns: BTreeSet<&str> = rows.values().flat_map(|row| row.keys().copied()).collect();
        let mut builder = Builder::default();
        let name = |column: &str| if column.is_empty() { "times".to_owned() } else { column.to_owned() };
        let headings = ["tested", "whom"].into_iter().map(str::to_owned);
        builder.push_record(headings.chain(columns.iter().map(|column| name(column))));
        for ((what, whom), row) in rows {
            // A dash is what can't be or isn't looked for; a zero is what did not happen.
            let cells = columns.iter().map(|column| row.get(column).map_or_else(|| "-".into(), |n| n.to_string()));
            builder.push_record([what.to_string(), whom.to_string()].into_iter().chain(cells));
        }
        text.push_str(&format!("\n{}\n", builder.build().with(Style::sharp())));
    }
    let never: Vec<&Situation> = counts.iter().filter(|(_, count)| **count == 0).map(|(one, _)| one).collect();
    if !never.is_empty() {
        let first: Vec<String> = never.iter().take(NAMED).map(|one| format!("{}: 0 times", words(one))).collect();
        let more = if never.len() > NAMED { ", ..." } else { "" };
        text.push_str(&format!(
            "{} of {} situations were never tested: {}{more}\n",
            never.len(),
            statistics::grouped(counts.len() as u64),
            first.join(", ")
        ));
    }
    text
}

/// `leader isolated during an election`.
fn words(situation: &Situation) -> String {
    let Situation { what, whom, when } = situation;
    match *what {
        "isolated" => format!("{whom} isolated {when}"),
        "restart" => format!("restart {when}"),
        _ => format!("{what} of {whom} {when}"),
    }
}

/// The same for programs.
pub(super) fn stored(counts: &BTreeMap<Situation, u64>) -> serde_json::Value {
    let row = |(one, count): (&Situation, &u64)| json!({ "what": one.what, "whom": one.whom, "when": one.when, "count": count });
    counts.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_shown_and_named() {
        let situation = |what, whom, when| Situation { what, whom, when };
        let counts = BTreeMap::from([
            (situation("isolated", "leader", "during an election"), 0),
            (situation("isolated", "follower", "during an election"), 3),
            (situation("restart", "node", "with a torn last record"), 37),
        ]);
        let text = table(&counts);
        assert!(
            text.contains("1 of 3 situations were never tested: leader isolated during an election: 0 times"),
            "{text}"
        );
        assert!(text.contains("37") && text.contains("with a torn last record"), "{text}");
    }
}

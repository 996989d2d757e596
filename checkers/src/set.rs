//! A set to which unique elements are added, and which is read at the end from every node.
//!
//! | element | means |
//! |---|---|
//! | acknowledged | its add succeeded |
//! | lost | acknowledged, and in no node's final read |
//! | stale | acknowledged, in one node's final read and missing in another's |
//! | unexpected | read, though nobody asked for it, or its add definitely failed |
//! | recovered | its add was indeterminate, and it is there: it happened |
//! | never read | its add was indeterminate, and it isn't there: it didn't, or was undone |

use std::collections::{BTreeMap, BTreeSet};

use duress_history::{Function, Host, Operation, Outcome, Phase, Value};

use crate::{Class, Judge, Report, Run, Settings, Table, words};

/// How many elements are named.
const SHOWN: usize = 12;

/// Checks that no acknowledged element is lost and no element appears from nowhere.
#[derive(Clone, Copy, Debug)]
pub struct Set {
    /// Every node must have every acknowledged element at the end; otherwise stale nodes are only
    /// reported.
    pub require_convergence: bool,
}

/// All that is known of one element's adds.
#[derive(Clone, Copy)]
struct Added {
    /// Position of the first invocation.
    invoked: usize,
    /// Position of the first acknowledgement, and the operation.
    acknowledged: Option<(usize, usize)>,
    /// Some add of it may have happened.
    possible: bool,
}

/// A final read.
struct Final<'a> {
    operation: usize,
    invoked: usize,
    elements: BTreeSet<&'a Value>,
}

impl Judge for Set {
    fn name(&self) -> &'static str {
        "set-replicas"
    }

    fn about(&self) -> &'static str {
        "a set of unique elements, read at the end from every node of a run: none acknowledged is missing: add x, read -> all"
    }

    fn judge(&self, run: &Run<'_>, _: &Settings) -> Report {
        let unfit = run.operations.iter().filter(|o| !fits(o) && !o.op.is_probe()).collect::<Vec<_>>();
        let added = added(run);
        let unexpected = unexpected(run, &added);
        let (finals, refused) = finals(run);
        let acknowledged = added.values().filter(|a| a.acknowledged.is_some()).count();

        let mut lost = Vec::new();
        let mut stale: BTreeMap<&Host, Vec<&Value>> = BTreeMap::new();
        let (mut recovered, mut never_read) = (0, 0);
        for (element, add) in &added {
            let present = finals.values().any(|read| read.elements.contains(element));
            match add.acknowledged {
                Some((at, _)) => {
                    // A read that began before the acknowledgement need not show the element.
                    let mut judges = finals.values().filter(|read| read.invoked > at).peekable();
                    if !present && judges.peek().is_some() && judges.count() == finals.len() {
                        lost.push(*element);
                        continue;
                    }
                    for (node, read) in &finals {
                        if read.invoked > at && !read.elements.contains(element) {
                            stale.entry(node).or_default().push(element);
                        }
                    }
                }
                None if !add.possible || finals.is_empty() => {}
                None if present => recovered += 1,
                None => never_read += 1,
            }
        }
        let silent: Vec<&Host> = match &run.header {
            Some(header) => header.nodes.iter().filter(|node| !finals.contains_key(node)).collect(),
            None => Vec::new(),
        };
        let stale_count = stale.values().flatten().collect::<BTreeSet<_>>().len();
        let findings = Findings {
            run,
            added: &added,
            finals: &finals,
            lost: &lost,
            stale: &stale,
            stale_count,
            unexpected: &unexpected,
        };

        let elements = words::count(acknowledged, "acknowledged element");
        let reads = words::count(finals.len(), "node");
        let mut report = if !lost.is_empty() || !unexpected.is_empty() || (self.require_convergence && stale_count > 0)
        {
            Report::invalid(self.name(), findings.summary(acknowledged))
        } else if let Some(first) = unfit.first() {
            Report::unknown(self.name(), Class::Inconclusive, words::unfit("a set", unfit.len(), first))
        } else if finals.is_empty() {
            let class = if refused > 0 { Class::Unavailable } else { Class::Inconclusive };
            let why = if refused > 0 { "every final read failed" } else { "there were no final reads" };
            Report::unknown(self.name(), class, format!("It can't be told whether anything was lost: {why}."))
        } else if self.require_convergence && !silent.is_empty() {
            let class = if refused > 0 { Class::Unavailable } else { Class::Inconclusive };
            let names: Vec<&str> = silent.iter().map(|node| node.as_str()).collect();
            Report::unknown(self.name(), class, format!("There is no final read from {}.", words::list(&names, 9)))
        } else {
            Report::valid(self.name(), format!("None of {elements} is missing from the final reads of {reads}."))
        };
        findings.explain(&mut report);
        if !silent.is_empty() && !self.require_convergence && !finals.is_empty() {
            let names: Vec<&str> = silent.iter().map(|node| node.as_str()).collect();
            report.explanation.push(format!("No final read came from {}.", words::list(&names, 9)));
        }
        for (name, value) in [
            ("attempted", added.len()),
            ("acknowledged", acknowledged),
            ("lost", lost.len()),
            ("stale", stale_count),
            ("unexpected", unexpected.len()),
            ("recovered", recovered),
            ("never_read", never_read),
            ("final_reads", finals.len()),
        ] {
            report.figure(name, value as f64);
        }
        report.tables.push(Table {
            title: "Final reads".into(),
            columns: vec!["node".into(), "elements".into(), "stale".into()],
            rows: finals
                .iter()
                .map(|(node, read)| {
                    let stale = stale.get(node).map_or(0, Vec::len);
                    vec![node.to_string(), read.elements.len().to_string(), stale.to_string()]
                })
                .collect(),
        });
        report
    }
}

struct Findings<'f, 'r> {
    run: &'f Run<'r>,
    added: &'f BTreeMap<&'f Value, Added>,
    finals: &'f BTreeMap<&'f Host, Final<'f>>,
    lost: &'f [&'f Value],
    stale: &'f BTreeMap<&'f Host, Vec<&'f Value>>,
    stale_count: usize,
    unexpected: &'f [(&'f Value, usize)],
}

impl Findings<'_, '_> {
    fn summary(&self, acknowledged: usize) -> String {
        let mut parts = Vec::new();
        if !self.lost.is_empty() {
            let elements = words::count(acknowledged, "acknowledged element");
            parts.push(format!("{} of {elements} lost", self.lost.len()));
        }
        if !self.unexpected.is_empty() {
            parts.push(format!("{} read that nobody added", words::count(self.unexpected.len(), "element")));
        }
        if self.stale_count > 0 {
            parts.push(format!("{} missing on some nodes", words::count(self.stale_count, "acknowledged element")));
        }
        format!("{}.", words::list(&parts, 3))
    }

    fn explain(&self, report: &mut Report) {
        for element in self.lost.iter().take(SHOWN) {
            let Some((_, by)) = self.added[element].acknowledged else { continue };
            let operation = &self.run.operations[by];
            let node = operation.node.as_ref().map_or(String::new(), |node| format!(" by {node}"));
            let nodes: Vec<&str> = self.finals.keys().map(|node| node.as_str()).collect();
            let at = operation.ended().unwrap_or_default();
            report.explanation.push(format!(
                "lost: {element}, added by {}, acknowledged{node} at {at}, is in no final read ({}).",
                words::who(operation),
                words::list(&nodes, 9)
            ));
        }
        if self.lost.len() > SHOWN {
            report.explanation.push(format!("lost: {} more.", self.lost.len() - SHOWN));
        }
        for (element, read) in self.unexpected.iter().take(SHOWN) {
            let operation = &self.run.operations[*read];
            let why =
                if self.added.contains_key(element) { "no add of it can have succeeded" } else { "nobody added it" };
            let at = operation.ended().unwrap_or_default();
            report
                .explanation
                .push(format!("unexpected: {element} was read by {} at {at}, but {why}.", words::who(operation)));
        }
        for (node, elements) in self.stale {
            let at = self.run.operations[self.finals[node].operation].ended().unwrap_or_default();
            let names: Vec<String> = elements.iter().map(ToString::to_string).collect();
            report.explanation.push(format!(
                "stale: {node} still lacks {} at {at} that other nodes have: {}.",
                words::count(elements.len(), "acknowledged element"),
                words::list(&names, SHOWN)
            ));
        }
    }
}

fn added<'r>(run: &'r Run<'_>) -> BTreeMap<&'r Value, Added> {
    let mut added: BTreeMap<&Value, Added> = BTreeMap::new();
    for (at, (operation, span)) in run.operations.iter().zip(&run.spans).enumerate() {
        if operation.op.f != Function::Add {
            continue;
        }
        let element = &operation.op.value;
        let this = added.entry(element).or_insert(Added { invoked: span.invoked, acknowledged: None, possible: false });
        this.possible |= operation.outcome != Outcome::Fail;
        if let (Outcome::Ok, Some(completed)) = (operation.outcome, span.completed)
            && this.acknowledged.is_none_or(|(earlier, _)| completed < earlier)
        {
            this.acknowledged = Some((completed, at));
        }
    }
    added
}

/// Whether an operation is one of a set's, with a result that a set can give.
fn fits(operation: &Operation) -> bool {
    match (&operation.op.f, operation.outcome) {
        (Function::Add, _) => true,
        (Function::Read, Outcome::Ok) => read(operation).is_some(),
        (Function::Read, _) => true,
        _ => false,
    }
}

/// The elements that a successful read of the set gave.
fn read(operation: &Operation) -> Option<&[Value]> {
    match (&operation.op.f, operation.outcome, &operation.result) {
        (Function::Read, Outcome::Ok, Some(elements)) => elements.as_elements(),
        _ => None,
    }
}

/// Elements that were read but can't be there, each with the first operation that read it.
fn unexpected<'r>(run: &'r Run<'_>, added: &BTreeMap<&Value, Added>) -> Vec<(&'r Value, usize)> {
    let mut first: BTreeMap<&Value, usize> = BTreeMap::new();
    for (at, operation) in run.operations.iter().enumerate() {
        let completed = run.spans[at].completed;
        for element in read(operation).unwrap_or_default() {
            let possible = added.get(element).is_some_and(|a| a.possible && completed.is_some_and(|c| a.invoked < c));
            if !possible {
                first.entry(element).or_insert(at);
            }
        }
    }
    first.into_iter().collect()
}

/// The last successful final read of each node, and how many final reads did not succeed. A node
/// is the one that answered or, where that isn't known, the one that was asked.
fn finals<'a>(run: &'a Run<'_>) -> (BTreeMap<&'a Host, Final<'a>>, usize) {
    let mut finals = BTreeMap::new();
    let mut refused = 0;
    for (at, (operation, span)) in run.operations.iter().zip(&run.spans).enumerate() {
        if operation.op.f != Function::Read || run.phase_at(span.invoked) < Phase::Final {
            continue;
        }
        let node = operation.node.as_ref().or(operation.client.as_ref().map(|client| &client.node));
        match (read(operation), node) {
            (Some(elements), Some(node)) => {
                let elements = elements.iter().collect();
                finals.insert(node, Final { operation: at, invoked: span.invoked, elements });
            }
            _ => refused += 1,
        }
    }
    (finals, refused)
}

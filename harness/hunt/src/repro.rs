//! The file that a finding is kept in: everything that its run depends on but the code.
//!
//! Such a file may come from anywhere. It is read strictly: nothing unknown, nothing out of
//! bounds, no more of anything than a run can have.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use duress_fault::{Host, Part, Trigger, Turn};
use duress_plug::{Plugs, duration};
use duress_scenario::{Scenario, fault_to_yaml};
use duress_sim::{Chance, Clocks, Crash, Disk, Latency, Network, Timed, Transport};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Case, Property, Selection};
use counted::Counted;

mod counted;

/// A finding that can be repeated.
#[derive(Clone, Debug, PartialEq)]
pub struct Repro {
    /// The version of Duress that wrote it.
    pub version: String,
    /// What is violated.
    pub property: Property,
    /// How, in a sentence.
    pub summary: String,
    /// The hash of everything that happens in the run.
    pub trace_hash: u64,
    /// The run.
    pub case: Case,
}

/// What is wrong with a repro file.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{file}: {problem}")]
pub struct ReproError {
    file: String,
    problem: String,
}

/// The version of the format.
const FORMAT: u32 = 2;
/// No repro file is longer, in bytes.
const MAX_FILE: usize = 1 << 20;
const MAX_FAULTS: usize = 1_000;
const MAX_NAMES: usize = 1_000;
const MAX_OPERATIONS: usize = 100_000;
const MAX_EVENTS: u64 = 20_000_000;
const DAY: Duration = Duration::from_secs(24 * 3600);
const SECOND: Duration = Duration::from_secs(1);

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    duress: String,
    violates: String,
    summary: String,
    trace_hash: String,
    scenario: serde_yaml::Value,
    schedule: Vec<TimedRow>,
    operations: SelectionRow,
    network: NetworkRow,
    /// Which messages are left to chance; all of them, if it isn't there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chance: Option<Vec<ChanceRow>>,
    disk: DiskRow,
    clocks: ClocksRow,
    startup: LatencyRow,
    max_events: u64,
}

/// Messages of a link that are left to chance: from the first number to the second.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct ChanceRow {
    from: String,
    to: String,
    messages: Vec<(u64, u64)>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct TimedRow {
    number: u64,
    at: Span,
    lasts: Span,
    /// As in a scenario.
    fault: serde_yaml::Value,
    /// What it waits for first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    when: Option<TriggerRow>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum TriggerRow {
    Becomes {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<String>,
        part: String,
        nth: u32,
    },
    Starts(Vec<u64>),
    Ends(Vec<u64>),
    Operations(u64),
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct SelectionRow {
    limits: BTreeMap<usize, u64>,
    skipped: Vec<(usize, u64)>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct LatencyRow {
    low: Span,
    high: Span,
    spikes: f64,
    spike: Span,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct NetworkRow {
    latency: LatencyRow,
    spread: f64,
    datagrams: bool,
    loss: f64,
    duplicate: f64,
    reorder: f64,
    reorder_by: Span,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
enum CrashRow {
    Kill,
    Power,
    Either,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct DiskRow {
    sync: LatencyRow,
    crash: CrashRow,
    corruption: f64,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct ClocksRow {
    offset: Span,
    drift_ppm: u32,
}

/// A duration, written to the nanosecond: `1s 500ms`.
struct Span(Duration);

impl Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&duration::exact(self.0))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        let text = String::deserialize(deserializer)?;
        let shown: String = text.chars().take(40).collect();
        let wrong = |what: &str| serde::de::Error::custom(format!("`{shown}` is {what}"));
        match duration::parse(&text) {
            None => Err(wrong("no duration such as 1s or 250ms")),
            Some(duration) if duration > DAY => Err(wrong("longer than a day")),
            Some(duration) => Ok(Span(duration)),
        }
    }
}

impl Repro {
    /// The repro as a file.
    pub fn to_yaml(&self) -> String {
        let case = &self.case;
        let scenario = serde_yaml::from_str(&case.bare_scenario().to_yaml());
        let file = File {
            format: FORMAT,
            duress: self.version.clone(),
            violates: self.property.name().into(),
            summary: self.summary.clone(),
            trace_hash: format!("{:016x}", self.trace_hash),
            scenario: scenario.expect("a scenario's text is YAML"),
            schedule: case.schedule.iter().map(write_timed).collect(),
            operations: SelectionRow {
                limits: case.operations.limits.clone(),
                skipped: case.operations.skipped.iter().copied().collect(),
            },
            network: write_network(&case.network),
            chance: write_chance(&case.chance),
            disk: DiskRow {
                sync: write_latency(case.disk.sync),
                crash: match case.disk.crash {
                    Crash::Kill => CrashRow::Kill,
                    Crash::Power => CrashRow::Power,
                    Crash::Either => CrashRow::Either,
                },
                corruption: case.disk.corruption,
            },
            clocks: ClocksRow { offset: Span(case.clocks.offset), drift_ppm: case.clocks.drift_ppm },
            startup: write_latency(case.startup),
            max_events: case.max_events,
        };
        // Strings, numbers, lists and maps: nothing that YAML can't say.
        serde_yaml::to_string(&file).expect("a repro can be written as YAML")
    }

    /// Reads a repro file; `file` is its name, for messages.
    ///
    /// # Errors
    /// If it is none, or asks for what can't be.
    pub fn parse(bytes: &[u8], file: &str, plugs: &Plugs<'_>) -> Result<Repro, ReproError> {
        let read = || {
            if bytes.len() > MAX_FILE {
                return Err(format!("longer than {} KiB, so it is no repro file", MAX_FILE >> 10));
            }
            let text = std::str::from_utf8(bytes).map_err(|e| format!("this is not UTF-8 text: {e}"))?;
            serde_yaml::from_str::<Counted>(text).map_err(|e| clipped(&e.to_string()))?;
            let file: File = serde_yaml::from_str(text).map_err(|e| clipped(&e.to_string()))?;
            file.check(plugs)
        };
        read().map_err(|problem: String| ReproError { file: file.into(), problem })
    }
}

/// Messages show a part of what they are about, which may be long.
fn clipped(message: &str) -> String {
    message.chars().take(500).collect()
}

type Checked<T> = Result<T, String>;

impl File {
    fn check(self, plugs: &Plugs<'_>) -> Checked<Repro> {
        if self.format != FORMAT {
            return Err(format!("its format is {}, and this version of Duress reads format {FORMAT}", self.format));
        }
        let name = |text: &str, what: &str, longest: usize| {
            let fits = !text.is_empty() && text.len() <= longest && !text.chars().any(char::is_control);
            if fits { Ok(text.to_owned()) } else { Err(format!("{what} must be a short text")) }
        };
        let scenario = serde_yaml::to_string(&self.scenario).map_err(|e| clipped(&e.to_string()))?;
        let scenario = Scenario::parse(&scenario, "its scenario", &[], plugs).map_err(|e| e.to_string())?;
        if scenario.seed.is_none() {
            return Err("its scenario has no `seed`, so there is nothing to repeat".into());
        }
        most("schedule", self.schedule.len(), MAX_FAULTS)?;
        most("operations.skipped", self.operations.skipped.len(), MAX_OPERATIONS)?;
        most("operations.limits", self.operations.limits.len(), MAX_OPERATIONS)?;
        let hosts: BTreeSet<Host> = scenario.node_names().into_iter().chain(scenario.client_names()).collect();
        let schedule = self.schedule.iter().map(|row| read_timed(row, &hosts, &scenario));
        let schedule = schedule.collect::<Checked<Vec<Timed>>>()?;
        let numbers: BTreeSet<u64> = schedule.iter().map(|timed| timed.number).collect();
        if numbers.len() < schedule.len() {
            return Err("two faults of its schedule have the same number".into());
        }
        if !(1..=MAX_EVENTS).contains(&self.max_events) {
            return Err(format!("max_events must be from 1 to {MAX_EVENTS}"));
        }
        if self.clocks.drift_ppm > 500_000 {
            return Err("clocks.drift_ppm must be at most 500000".into());
        }
        let chance = read_chance(self.chance.as_ref(), &hosts)?;
        let hexadecimal = self.trace_hash.len() == 16 && self.trace_hash.bytes().all(|b| b.is_ascii_hexdigit());
        let trace_hash = hexadecimal.then(|| u64::from_str_radix(&self.trace_hash, 16).ok());
        let case = Case {
            schedule,
            operations: Selection {
                limits: self.operations.limits,
                skipped: self.operations.skipped.into_iter().collect(),
            },
            network: read_network(&self.network)?,
            chance,
            disk: Disk {
                sync: read_latency("disk.sync", &self.disk.sync)?,
                crash: match self.disk.crash {
                    CrashRow::Kill => Crash::Kill,
                    CrashRow::Power => Crash::Power,
                    CrashRow::Either => Crash::Either,
                },
                corruption: share("disk.corruption", self.disk.corruption)?,
            },
            clocks: Clocks { offset: self.clocks.offset.0, drift_ppm: self.clocks.drift_ppm },
            startup: read_latency("startup", &self.startup)?,
            max_events: self.max_events,
            scenario,
        };
        Ok(Repro {
            version: name(&self.duress, "duress", 64)?,
            property: Property::named(&name(&self.violates, "violates", 64)?),
            summary: self.summary.chars().filter(|c| !c.is_control()).take(1_000).collect(),
            trace_hash: trace_hash.flatten().ok_or("trace_hash must be 16 hexadecimal digits")?,
            case,
        })
    }
}

fn most(what: &str, count: usize, most: usize) -> Checked<()> {
    if count <= most { Ok(()) } else { Err(format!("{what} has {count} entries, and {most} is the most")) }
}

fn share(what: &str, share: f64) -> Checked<f64> {
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err(format!("{what} must be from 0 to 1")) }
}

fn write_latency(latency: Latency) -> LatencyRow {
    let Latency { low, high, spikes, spike } = latency;
    LatencyRow { low: Span(low), high: Span(high), spikes, spike: Span(spike) }
}

fn read_latency(what: &str, row: &LatencyRow) -> Checked<Latency> {
    if row.low.0 > row.high.0 {
        return Err(format!("{what}.low must not be more than {what}.high"));
    }
    if row.high.0.saturating_add(row.spike.0) > 100 * SECOND {
        return Err(format!("{what} is longer than 100 s"));
    }
    let spikes = share(&format!("{what}.spikes"), row.spikes)?;
    Ok(Latency { low: row.low.0, high: row.high.0, spikes, spike: row.spike.0 })
}

fn write_network(network: &Network) -> NetworkRow {
    NetworkRow {
        latency: write_latency(network.latency),
        spread: network.spread,
        datagrams: network.transport == Transport::Datagram,
        loss: network.loss,
        duplicate: network.duplicate,
        reorder: network.reorder,
        reorder_by: Span(network.reorder_by),
    }
}

fn read_network(row: &NetworkRow) -> Checked<Network> {
    if !(1.0..=1_000.0).contains(&row.spread) {
        return Err("network.spread must be from 1 to 1000".into());
    }
    Ok(Network {
        latency: read_latency("network.latency", &row.latency)?,
        spread: row.spread,
        transport: if row.datagrams { Transport::Datagram } else { Transport::Stream },
        loss: share("network.loss", row.loss)?,
        duplicate: share("network.duplicate", row.duplicate)?,
        reorder: share("network.reorder", row.reorder)?,
        reorder_by: row.reorder_by.0,
    })
}

fn write_chance(chance: &Chance) -> Option<Vec<ChanceRow>> {
    let Chance::Only(links) = chance else { return None };
    let row = |((from, to), ranges): (&(Host, Host), &Vec<RangeInclusive<u64>>)| ChanceRow {
        from: from.to_string(),
        to: to.to_string(),
        messages: ranges.iter().map(|range| (*range.start(), *range.end())).collect(),
    };
    Some(links.iter().map(row).collect())
}

fn read_chance(rows: Option<&Vec<ChanceRow>>, hosts: &BTreeSet<Host>) -> Checked<Chance> {
    let Some(rows) = rows else { return Ok(Chance::All) };
    most("chance", rows.len(), MAX_NAMES)?;
    let mut links = BTreeMap::new();
    for (number, ChanceRow { from, to, messages }) in rows.iter().enumerate() {
        let host = |name: &String| {
            let unknown = || format!("chance[{number}]: there is no host named `{}`", clip_name(name));
            hosts.get(name.as_str()).cloned().ok_or_else(unknown)
        };
        most(&format!("chance[{number}].messages"), messages.len(), MAX_NAMES)?;
        if let Some((first, last)) = messages.iter().find(|(first, last)| *first == 0 || first > last) {
            return Err(format!("chance[{number}].messages: there are no messages from {first} to {last}"));
        }
        let ranges = messages.iter().map(|(first, last)| *first..=*last).collect();
        if links.insert((host(from)?, host(to)?), ranges).is_some() {
            return Err(format!("chance[{number}]: this link was there before"));
        }
    }
    Ok(Chance::Only(links))
}

fn write_trigger(trigger: &Trigger) -> TriggerRow {
    match trigger {
        Trigger::Becomes { node, part, nth } => {
            TriggerRow::Becomes { node: node.as_ref().map(ToString::to_string), part: part.name().into(), nth: *nth }
        }
        Trigger::Faults { numbers, turn: Turn::Starts } => TriggerRow::Starts(numbers.iter().copied().collect()),
        Trigger::Faults { numbers, turn: Turn::Ends } => TriggerRow::Ends(numbers.iter().copied().collect()),
        Trigger::Operations(count) => TriggerRow::Operations(*count),
    }
}

fn write_timed(timed: &Timed) -> TimedRow {
    let fault = fault_to_yaml(&timed.fault);
    let when = timed.when.as_ref().map(write_trigger);
    TimedRow { number: timed.number, at: Span(timed.at), lasts: Span(timed.lasts), fault, when }
}

/// What a row's names are checked against.
struct Reader<'a> {
    hosts: &'a BTreeSet<Host>,
    scenario: &'a Scenario,
    number: u64,
}

impl Reader<'_> {
    fn host(&self, name: &str) -> Checked<Host> {
        let unknown = || format!("fault {}: there is no host named `{}`", self.number, clip_name(name));
        self.hosts.get(name).cloned().ok_or_else(unknown)
    }

    /// A fault that waits for one that isn't there never begins, which does no harm.
    fn trigger(&self, row: &TriggerRow) -> Checked<Trigger> {
        let faults = |numbers: &[u64], turn| {
            most("the faults that a fault waits for", numbers.len(), MAX_FAULTS)?;
            Ok(Trigger::Faults { numbers: numbers.iter().copied().collect(), turn })
        };
        match row {
            TriggerRow::Becomes { node, part, nth } => {
                let unknown = || format!("fault {}: no node becomes `{}`", self.number, clip_name(part));
                let part = Part::named(part).filter(|part| part.fits(self.scenario.target.leads()));
                let node = node.as_ref().map(|node| self.host(node)).transpose()?;
                Ok(Trigger::Becomes { node, part: part.ok_or_else(unknown)?, nth: *nth })
            }
            TriggerRow::Starts(numbers) => faults(numbers, Turn::Starts),
            TriggerRow::Ends(numbers) => faults(numbers, Turn::Ends),
            TriggerRow::Operations(count) => Ok(Trigger::Operations(*count)),
        }
    }
}

fn clip_name(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(40).collect()
}

fn read_timed(row: &TimedRow, hosts: &BTreeSet<Host>, scenario: &Scenario) -> Checked<Timed> {
    let reader = Reader { hosts, scenario, number: row.number };
    let fault = serde_yaml::to_string(&row.fault).map_err(|e| clipped(&e.to_string()))?;
    let fault = scenario.fault(&fault, &format!("fault {}", row.number)).map_err(|e| clipped(&e.to_string()))?;
    Ok(Timed {
        number: row.number,
        at: row.at.0,
        lasts: row.lasts.0,
        fault,
        when: row.when.as_ref().map(|when| reader.trigger(when)).transpose()?,
    })
}

//! The scenario as a whole.

use std::path::Path;
use std::time::Duration;

use duress_fault::{Fault, Schedule};
use duress_plug::{Opts, Plugs};
use duress_seed::Seed;
use serde_yaml::Value;

use crate::document::{self, Located};
use crate::error::{Error, Place, Problem};
use crate::faults::Surroundings;
use crate::fields::{Field, Fields};
use crate::yaml::{map, optional, time};
use crate::{Faults, Heal, Options, Override, Target, Workload};

/// What is run, and within which limits.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Its name: letters, digits, `-`, `_` and `.`; the file's name unless given.
    pub name: String,
    /// The system under test.
    pub target: Target,
    /// What is asked of it.
    pub workload: Workload,
    /// How many client hosts there are: `c1`, `c2`, …. Clients are spread over them.
    pub clients: u16,
    /// How long operations are invoked and faults injected.
    pub time: Duration,
    /// What is done to it.
    pub faults: Faults,
    /// What a run may cost, and what it must achieve.
    pub limits: Limits,
    /// Fixes every choice; drawn anew for each run if absent.
    pub seed: Option<u64>,
}

/// What a run may cost, and what it must achieve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// With fewer successful operations than this the verdict is unknown.
    pub min_ok: u64,
    /// The least share of the main phase in which the target must serve, in percent; nothing is asked
    /// for unless it is said.
    pub min_available: Option<u64>,
    /// How long the target may take to answer again when everything is healed.
    pub recovery: Duration,
    /// What is healed first. Unless it is said, a run heals everything, and a hunt draws it for
    /// each of its runs where the target has a [quorum](Target::quorum).
    pub heal: Option<Heal>,
    /// How long checking may take.
    pub check_time: Duration,
    /// How much memory checking may take, in MiB.
    pub check_memory_mb: u64,
    /// How many events a history may have; the workload is ended when it has as many.
    pub history_events: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            min_ok: 10,
            min_available: None,
            recovery: Duration::from_secs(20),
            heal: None,
            check_time: Duration::from_secs(60),
            check_memory_mb: 2_048,
            history_events: MAX_EVENTS,
        }
    }
}

const MAX_EVENTS: u64 = 50_000_000;
const MAX_CLIENTS: u16 = 16;
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const SECOND: Duration = Duration::from_secs(1);

/// The name of a scenario that has no file.
const NAMELESS: &str = "command-line";

impl Scenario {
    /// Reads a scenario file's text, with what the command line sets on top of it. `file` is the
    /// file's name, for messages and for the scenario's name.
    ///
    /// # Errors
    /// If the text is not a scenario, or asks for what can't be.
    pub fn parse(text: &str, file: &str, overrides: &[Override], plugs: &Plugs<'_>) -> Result<Scenario, Error> {
        let stem = Path::new(file).file_stem().map(|stem| stem.to_string_lossy()).unwrap_or_default();
        let read = || {
            let mut root = document::parse(text, None)?;
            if root.is_null() {
                let start = Place::Text { line: 1, column: 1, width: 1 };
                let problem = Problem::new(&start, "the scenario is empty");
                return Err(problem.suggest(least(plugs)));
            }
            for one in overrides {
                one.apply(&mut root)?;
            }
            let scenario = Scenario::read(&root, &name_from(&stem), plugs)?;
            let has_target =
                matches!(&root.value, document::Value::Map(entries) if entries.iter().any(|e| e.key == "target"));
            if !has_target {
                let problem = Problem::new(&root.place, "the scenario has no `target`");
                return Err(problem.suggest(least(plugs)));
            }
            Ok(scenario)
        };
        read().map_err(|problem: Problem| problem.locate(file, text))
    }

    /// Reads a scenario file's bytes, which must be UTF-8; otherwise like [`parse`](Scenario::parse).
    ///
    /// # Errors
    /// If the bytes are not a scenario's text, or ask for what can't be.
    pub fn parse_bytes(bytes: &[u8], file: &str, overrides: &[Override], plugs: &Plugs<'_>) -> Result<Scenario, Error> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Scenario::parse(text, file, overrides, plugs),
            Err(error) => {
                let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned();
                let line = good.matches('\n').count() + 1;
                let column = good.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
                let problem = Problem::new(&Place::Text { line, column, width: 1 }, "this is not UTF-8 text");
                Err(problem.suggest("is it a scenario file?").locate(file, &good))
            }
        }
    }

    /// Reads one fault of this scenario, as [`fault_to_yaml`](crate::fault_to_yaml) wrote it: its kind
    /// and what belongs to it. `file` is for messages.
    ///
    /// # Errors
    /// If it is none, or can't be done in this scenario.
    pub fn fault(&self, text: &str, file: &str) -> Result<Fault, Error> {
        let read = || {
            let root = document::parse(text, None)?;
            let around = Surroundings {
                target: &self.target,
                workload: &self.workload,
                holding: None,
                clients: self.clients,
                time: self.time,
            };
            around.lone_fault(&Field { node: &root, path: "fault".into() })
        };
        read().map_err(|problem: Problem| problem.locate(file, text))
    }

    /// The scenario that the command line alone describes; the first target under the first workload
    /// and all kinds of faults, unless it says otherwise.
    ///
    /// # Errors
    /// If the options ask for what can't be.
    pub fn from_options(options: &Options, plugs: &Plugs<'_>) -> Result<Scenario, Error> {
        Scenario::from_overrides(&options.overrides()?, plugs)
    }

    /// Like [`from_options`](Scenario::from_options), with the options taken apart already.
    ///
    /// # Errors
    /// If they ask for what can't be.
    pub fn from_overrides(overrides: &[Override], plugs: &Plugs<'_>) -> Result<Scenario, Error> {
        let read = || {
            let mut root = Located { place: Place::Whole, value: document::Value::Map(Vec::new()) };
            for one in overrides {
                one.apply(&mut root)?;
            }
            Scenario::read(&root, "", plugs)
        };
        let mut scenario = read().map_err(|problem| problem.locate(NAMELESS, ""))?;
        if scenario.name.is_empty() {
            scenario.name = format!("{}-{}", scenario.target.kind(), scenario.workload.kind());
        }
        Ok(scenario)
    }

    /// The scenario of a target's name with every default.
    ///
    /// # Errors
    /// If there is no such target.
    pub fn default_for(target: &str, plugs: &Plugs<'_>) -> Result<Scenario, Error> {
        Scenario::from_options(&Options { target: Some(target.into()), ..Options::default() }, plugs)
    }

    /// The schedule of this scenario's faults, every choice drawn from `seed`.
    pub fn schedule(&self, seed: Seed) -> Schedule {
        self.faults.schedule(seed, self.time)
    }

    /// The names of the target's nodes: `n1`, `n2`, ….
    pub fn node_names(&self) -> Vec<duress_fault::Host> {
        self.target.facts().names()
    }

    /// The names of the client hosts: `c1`, `c2`, ….
    pub fn client_names(&self) -> Vec<duress_fault::Host> {
        (1..=self.clients).map(|i| smol_str::format_smolstr!("c{i}")).collect()
    }

    /// Whether a file can say this: what was changed in memory may be out of bounds.
    pub fn can_be_written(&self) -> bool {
        let plugs = Plugs { targets: &[self.target.plug], workloads: &[self.workload.plug] };
        Scenario::parse(&self.to_yaml(), "candidate", &[], &plugs).as_ref() == Ok(self)
    }

    fn read(root: &Located, name: &str, plugs: &Plugs<'_>) -> Result<Scenario, Problem> {
        let mut fields = match &root.value {
            document::Value::Map(_) => Field { node: root, path: String::new() }.fields("a map")?,
            _ => {
                let problem = Problem::new(&root.place, format!("a scenario must be a map, not {}", root.words()));
                return Err(problem.suggest(least(plugs).replace("write at least", "write it like")));
            }
        };
        let given_name = fields.get("name");
        let target = fields.get("target");
        let workload = fields.get("workload");
        let clients = fields.get("clients");
        let time = fields.get("time");
        let faults = fields.get("faults");
        let limits = fields.get("limits");
        let seed = fields.get("seed");
        // Before anything else: a misspelt key must not look like its own absence.
        fields.finish("the scenario")?;
        let name = given_name.map_or(Ok(name.to_string()), |field| read_name(&field))?;
        let target = match target {
            Some(target) => Target::read(&target, plugs)?,
            None => Target::usual(plugs)?,
        };
        let workload = Workload::read(workload.as_ref(), &target, plugs)?;
        let clients = clients.map_or(Ok(2), |field| field.integer(1..=MAX_CLIENTS.into()).map(|n| n as u16))?;
        let time = time.map_or(Ok(Duration::from_secs(30)), |field| field.duration(SECOND..=DAY))?;
        let holding = plugs.workloads.iter().find(|workload| workload.holds()).map(|workload| workload.name());
        let around = Surroundings { target: &target, workload: &workload, holding, clients, time };
        let faults = Faults::read(faults.as_ref(), &around)?;
        let limits = match limits {
            Some(field) => Limits::read(field.fields("a map")?, &target, plugs)?,
            None => Limits::default(),
        };
        let seed = seed.and_then(Field::some).map(|field| field.integer(0..=u64::MAX)).transpose()?;
        Ok(Scenario { name, target, workload, clients, time, faults, limits, seed })
    }

    /// The scenario as a file, with every default spelled out. Reading it gives this scenario.
    pub fn to_yaml(&self) -> String {
        let value = map([
            ("name", self.name.as_str().into()),
            ("target", self.target.write()),
            ("workload", self.workload.write()),
            ("clients", self.clients.into()),
            ("time", time(self.time)),
            ("faults", self.faults.write()),
            ("limits", self.limits.write()),
            ("seed", optional(self.seed)),
        ]);
        // Strings, numbers, lists and maps with string keys: nothing that YAML can't say.
        serde_yaml::to_string(&value).expect("a scenario can be written as YAML")
    }
}

impl Limits {
    fn read(mut fields: Fields<'_>, target: &Target, plugs: &Plugs<'_>) -> Result<Limits, Problem> {
        let default = Limits::default();
        let number =
            |field: Option<Field<'_>>, bounds, default| field.map_or(Ok(default), |field| field.integer(bounds));
        let wait =
            |field: Option<Field<'_>>, bounds, default| field.map_or(Ok(default), |field| field.duration(bounds));
        let limits = Limits {
            min_ok: number(fields.get("min_ok"), 0..=MAX_EVENTS, default.min_ok)?,
            min_available: fields
                .get("min_available")
                .and_then(Field::some)
                .map(|field| field.integer(0..=100))
                .transpose()?,
            recovery: wait(fields.get("recovery"), SECOND..=HOUR, default.recovery)?,
            heal: fields.get("heal").and_then(Field::some).map(|field| read_heal(&field, target, plugs)).transpose()?,
            check_time: wait(fields.get("check_time"), SECOND..=DAY, default.check_time)?,
            check_memory_mb: number(fields.get("check_memory_mb"), 16..=1 << 20, default.check_memory_mb)?,
            history_events: number(fields.get("history_events"), 1_000..=MAX_EVENTS, default.history_events)?,
        };
        fields.finish("limits")?;
        Ok(limits)
    }

    fn write(&self) -> Value {
        map([
            ("min_ok", self.min_ok.into()),
            ("min_available", optional(self.min_available)),
            ("recovery", time(self.recovery)),
            ("heal", optional(self.heal.map(Heal::name))),
            ("check_time", time(self.check_time)),
            ("check_memory_mb", self.check_memory_mb.into()),
            ("history_events", self.history_events.into()),
        ])
    }
}

fn read_heal(field: &Field<'_>, target: &Target, plugs: &Plugs<'_>) -> Result<Heal, Problem> {
    let heal = field.choice(Heal::ALL)?;
    if heal == Heal::Quorum && target.quorum().is_none() {
        let (kind, nodes) = (target.kind(), target.nodes());
        let message =
            format!("{}: this {kind} target of {nodes} nodes promises nothing while some are away", field.path);
        let usual = |plug: &&&'static dyn duress_plug::Target| plug.facts(&Opts::usual(plug.options()));
        let with = plugs.targets.iter().find(|plug| usual(plug).is_ok_and(|facts| facts.quorum.is_some()));
        let such = with.map_or_else(String::new, |plug| format!(", such as {}", plug.name()));
        return Err(field
            .problem(message)
            .suggest(format!("leave `heal` out, or choose a target with a quorum{such}")));
    }
    Ok(heal)
}

/// The least that a scenario must say.
fn least(plugs: &Plugs<'_>) -> String {
    format!("write at least `target: {}`", plugs.targets.first().map_or("NAME", |plug| plug.name()))
}

const LONGEST_NAME: usize = 64;

fn fits_a_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

/// A name that can be a directory's, from a file's.
fn name_from(stem: &str) -> String {
    let name: String = stem.chars().take(LONGEST_NAME).map(|c| if fits_a_name(c) { c } else { '-' }).collect();
    let name = name.trim_start_matches('.');
    if name.is_empty() { "scenario".into() } else { name.into() }
}

fn read_name(field: &Field<'_>) -> Result<String, Problem> {
    let wanted = "letters, digits, `-`, `_` and `.`";
    let text = field.text(wanted)?;
    if text.is_empty() || text.len() > LONGEST_NAME || text.starts_with('.') || !text.chars().all(fits_a_name) {
        let problem = field.problem(format!("name must be {wanted}, not {}", field.node.words()));
        return Err(
            problem.suggest(format!("it names a directory: at most {LONGEST_NAME} characters, no `.` in front"))
        );
    }
    Ok(text.to_string())
}

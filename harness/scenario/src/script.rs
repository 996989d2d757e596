//! Scripted faults: when each begins, what it waits for, how often, in sequence and in parallel.
//!
//! Whatever form they are written in, what is read is a plain list of faults, each with its time
//! or its trigger. A resolved scenario spells it out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use duress_fault::{Kind, Part, Schedule, Timed, Trigger, Turn};
use serde_yaml::Value;

use crate::document;
use crate::error::{Problem, did_you_mean, shown};
use crate::faults::{KINDS, MAX_FAULTS, Surroundings, write_fault};
use crate::fields::{Field, Fields};
use crate::yaml::{list, map_of, time};

/// The longest that anything may last or be waited for.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// What a script's entry must look like.
const ENTRY: &str = "a map with `at`, `lasts` and a fault, such as {at: 5s, lasts: 2s, crash: one}";

/// Reads a list of scripted faults.
pub(crate) fn read(field: &Field<'_>, around: &Surroundings<'_>) -> Result<Vec<Timed>, Problem> {
    let mut script = Script { around, faults: Vec::new(), names: BTreeMap::new(), waits: Vec::new() };
    for item in field.list("a list of timed faults", MAX_FAULTS)? {
        script.entry(&item)?;
    }
    script.resolve()
}

/// Faults as they are read, in order; their numbers are their positions, from one.
struct Script<'a, 'b> {
    around: &'b Surroundings<'b>,
    faults: Vec<(Timed, Field<'a>)>,
    /// The faults that each name stands for.
    names: BTreeMap<&'a str, BTreeSet<u64>>,
    /// Faults that wait for others, named here: they may come later in the file.
    waits: Vec<(u64, Vec<Field<'a>>)>,
}

/// When something begins.
#[derive(Clone)]
struct Start<'a> {
    at: Duration,
    when: Option<Trigger>,
    /// The names of what the trigger waits for, if it waits for other faults by name.
    names: Vec<Field<'a>>,
}

/// Where in the list an entry stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// On its own: it says when it begins.
    Top,
    /// In a block, which says that.
    Step,
}

/// An entry's repetition.
#[derive(Clone, Copy)]
struct Repeat {
    times: u32,
    every: Option<Duration>,
}

impl<'a> Script<'a, '_> {
    /// One entry of the list.
    fn entry(&mut self, field: &Field<'a>) -> Result<(), Problem> {
        let mut fields = field.fields(ENTRY)?;
        let (at, when) = (fields.get("at"), fields.get("when"));
        let time = self.around.time;
        let start = match (at, when) {
            (Some(at), None) => Start { at: at.duration(Duration::ZERO..=time)?, when: None, names: Vec::new() },
            (None, Some(when)) => {
                let (when, names) = self.trigger(&when)?;
                Start { at: Duration::ZERO, when: Some(when), names }
            }
            (Some(_), Some(when)) => {
                let problem = when.problem(format!("{} has both `at` and `when`", field.path));
                return Err(problem.suggest("leave one out; a delay after `when` is `after`"));
            }
            (None, None) => {
                // A key that we don't know is more likely the cause than a missing one.
                self.known(&mut fields)?;
                let problem = field.problem(format!("{} has no `at`", field.path));
                return Err(problem.suggest(
                    "say when it begins, as in `at: 5s`, or what it waits for, as in `when: {node: n2, becomes: down}`",
                ));
            }
        };
        self.begin(field, fields, Place::Top, &start).map(drop)
    }

    /// A step of a block. Returns the faults that the block's next step waits for.
    fn step(&mut self, field: &Field<'a>, start: &Start<'a>) -> Result<BTreeSet<u64>, Problem> {
        let fields = field.fields("a map with `lasts` and a fault, such as {lasts: 2s, crash: one}")?;
        if let Some(key) = ["at", "when"].into_iter().find(|key| fields.has(key)) {
            let problem = fields.problem(key, format!("{} stands in a block and can't have `{key}`", field.path));
            return Err(problem.suggest("the block says when its steps begin; a delay is `after`"));
        }
        self.begin(field, fields, Place::Step, start)
    }

    /// Asks for every key that an entry may have, so that a misspelt one is named.
    fn known(&self, fields: &mut Fields<'a>) -> Result<(), Problem> {
        for key in ["name", "at", "when", "after", "lasts", "times", "every", "sequence", "parallel"] {
            fields.get(key);
        }
        for kind in KINDS {
            fields.get(kind);
        }
        fields.finish("a fault")
    }

    /// Everything of an entry but when it begins. Returns the faults with whose ends it ends.
    fn begin(
        &mut self,
        field: &Field<'a>,
        mut fields: Fields<'a>,
        place: Place,
        start: &Start<'a>,
    ) -> Result<BTreeSet<u64>, Problem> {
        self.known(&mut fields)?;
        let name = fields.get("name").map(|name| self.name(&name)).transpose()?;
        let mut start = start.clone();
        if let Some(after) = fields.get("after") {
            if place == Place::Top && start.when.is_none() {
                let problem = after.problem("`after` is a delay after `when`, or after a block's earlier step");
                return Err(problem.suggest("leave it out and raise `at`"));
            }
            start.at = start.at.saturating_add(after.duration(Duration::ZERO..=LONGEST)?);
        }
        let repeat = self.repeat(&mut fields, &start)?;
        let first = self.faults.len() as u64 + 1;
        let mut ends = BTreeSet::new();
        for round in 0..repeat.times {
            let mut start = start.clone();
            match (repeat.every, &mut start.when) {
                (Some(every), _) => start.at = start.at.saturating_add(every.saturating_mul(round)),
                (None, Some(Trigger::Becomes { nth, .. })) => *nth = nth.saturating_add(round),
                _ => {}
            }
            ends.append(&mut self.body(field, &mut fields, start)?);
        }
        if let Some(name) = name {
            self.names.insert(name, (first..=self.faults.len() as u64).collect());
        }
        Ok(ends)
    }

    fn name(&self, field: &Field<'a>) -> Result<&'a str, Problem> {
        let wanted = "letters, digits, `-`, `_` and `.`, at most 64 of them";
        let text = field.text(wanted)?;
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if text.is_empty() || text.len() > 64 || !text.chars().all(fits) {
            return Err(field.problem(format!("{} must be {wanted}, not {}", field.path, field.node.words())));
        }
        if self.names.contains_key(text) {
            let problem = field.problem(format!("two faults are named `{text}`"));
            return Err(problem.suggest("give each a name of its own"));
        }
        Ok(text)
    }

    fn repeat(&self, fields: &mut Fields<'a>, start: &Start<'a>) -> Result<Repeat, Problem> {
        let (times, every) = (fields.get("times"), fields.get("every"));
        let most = MAX_FAULTS as u64;
        let count = times.as_ref().map_or(Ok(1), |times| times.integer(1..=most))? as u32;
        let Some(every) = every else {
            if let Some(times) = times
                && !matches!(start.when, Some(Trigger::Becomes { .. }))
            {
                let problem = times.problem("`times` doesn't say at which distance");
                return Err(problem.suggest("write `every: 5s`; only what a node becomes can be waited for again"));
            }
            return Ok(Repeat { times: count, every: None });
        };
        if times.is_none() {
            return Err(every.problem("`every` has no bound").suggest("say how often, as in `times: 4`"));
        }
        Ok(Repeat { times: count, every: Some(every.duration(Duration::from_millis(1)..=LONGEST)?) })
    }

    /// What an entry is: a fault, or a block of steps.
    fn body(&mut self, field: &Field<'a>, fields: &mut Fields<'a>, start: Start<'a>) -> Result<BTreeSet<u64>, Problem> {
        let path = &field.path;
        let lasts = fields.get("lasts");
        let faults: Vec<(Kind, Field<'_>)> =
            KINDS.iter().filter_map(|name| Some((Kind::named(name)?, fields.get(name)?))).collect();
        let blocks: Vec<_> =
            ["sequence", "parallel"].into_iter().filter_map(|key| Some((key, fields.get(key)?))).collect();
        match (&faults[..], &blocks[..]) {
            ([(kind, what)], []) => {
                let lasts = lasts.ok_or_else(|| {
                    let problem = field.problem(format!("{path} has no `lasts`"));
                    problem.suggest("say how long it lasts, as in `lasts: 2s`")
                })?;
                let fault = self.around.fault(*kind, what)?;
                self.push(field, &lasts, start, fault)
            }
            ([], [(key, steps)]) => {
                if let Some(lasts) = lasts {
                    let problem = lasts.problem(format!("a {key} lasts as long as its steps"));
                    return Err(problem.suggest("give each step its `lasts`"));
                }
                let steps = steps.list("a list of steps", MAX_FAULTS)?;
                if steps.is_empty() {
                    return Err(field.problem(format!("{path} has no steps")).suggest("give at least one"));
                }
                self.block(*key == "sequence", &steps, start)
            }
            _ => {
                let message = match faults.len() + blocks.len() {
                    0 => format!("{path} names no fault"),
                    count => format!("{path} names {count} faults"),
                };
                let suggestion = "give exactly one kind of fault, such as crash or loss, or one of sequence, parallel; faults may overlap in time";
                Err(field.problem(message).suggest(suggestion))
            }
        }
    }

    fn block(&mut self, sequence: bool, steps: &[Field<'a>], mut start: Start<'a>) -> Result<BTreeSet<u64>, Problem> {
        let mut ends = BTreeSet::new();
        for step in steps {
            let mut last = self.step(step, &start)?;
            if sequence {
                let when = Trigger::Faults { numbers: last.clone(), turn: Turn::Ends };
                start = Start { at: Duration::ZERO, when: Some(when), names: Vec::new() };
                ends = last;
            } else {
                ends.append(&mut last);
            }
        }
        Ok(ends)
    }

    fn push(
        &mut self,
        field: &Field<'a>,
        lasts: &Field<'a>,
        start: Start<'a>,
        fault: duress_fault::Fault,
    ) -> Result<BTreeSet<u64>, Problem> {
        if self.faults.len() >= MAX_FAULTS {
            return Err(field.problem(format!("with its repetitions this makes more than {MAX_FAULTS} faults")));
        }
        let number = self.faults.len() as u64 + 1;
        let longest = lasts.duration(Duration::from_millis(1)..=LONGEST)?;
        let timed = Timed { number, at: start.at, lasts: longest, fault, when: start.when };
        if !start.names.is_empty() {
            self.waits.push((number, start.names));
        }
        self.faults.push((timed, lasts.clone()));
        Ok([number].into())
    }

    /// What a fault waits for, and the names of the faults in it.
    fn trigger(&self, field: &Field<'a>) -> Result<(Trigger, Vec<Field<'a>>), Problem> {
        let mut fields = field.fields("a map such as {node: n2, becomes: primary} or {ends: cut}")?;
        let [node, becomes, nth] = ["node", "becomes", "nth"].map(|key| fields.get(key));
        let [starts, ends, operations] = ["starts", "ends", "operations"].map(|key| fields.get(key));
        fields.finish("a trigger")?;
        let what = [becomes.is_some(), starts.is_some(), ends.is_some(), operations.is_some()];
        if what.into_iter().filter(|given| *given).count() != 1 {
            let problem = field.problem(format!("{} must say one thing to wait for", field.path));
            return Err(problem.suggest("give exactly one of becomes, starts, ends, operations"));
        }
        if let Some(becomes) = &becomes {
            let node = match &node {
                Some(node) => self.node(node)?,
                None => None,
            };
            let nth = nth.map_or(Ok(1), |nth| nth.integer(1..=MAX_FAULTS as u64))? as u32;
            return Ok((Trigger::Becomes { node, part: self.part(becomes)?, nth }, Vec::new()));
        }
        for (key, given) in [("node", &node), ("nth", &nth)] {
            if let Some(given) = given {
                return Err(given.problem(format!("`{key}` goes with `becomes` only")).suggest("leave it out"));
            }
        }
        if let Some(operations) = operations {
            return Ok((Trigger::Operations(operations.integer(1..=50_000_000)?), Vec::new()));
        }
        let (named, turn) = match (starts, ends) {
            (Some(starts), _) => (starts, Turn::Starts),
            (None, ends) => (ends.unwrap_or_else(|| field.clone()), Turn::Ends),
        };
        let names = match &named.node.value {
            document::Value::List(_) => named.list("the names of faults", MAX_FAULTS)?,
            _ => vec![named.clone()],
        };
        if names.is_empty() {
            return Err(named.problem(format!("{} is empty", named.path)).suggest("name at least one fault"));
        }
        Ok((Trigger::Faults { numbers: BTreeSet::new(), turn }, names))
    }

    fn node(&self, field: &Field<'a>) -> Result<Option<duress_fault::Host>, Problem> {
        let text = field.text("the name of a node, such as n1, or any")?;
        if text == "any" {
            return Ok(None);
        }
        let host = self.around.host(field)?;
        if host.starts_with('c') {
            let problem = field.problem(format!("{host} is a client host, and only nodes say what they are"));
            return Err(problem.suggest("name a node, or any"));
        }
        Ok(Some(host))
    }

    fn part(&self, field: &Field<'a>) -> Result<Part, Problem> {
        let text = field.text("what a node becomes, such as primary or down")?;
        let leads = self.around.target.leads();
        let known: Vec<&str> = Part::ALL.iter().filter(|(part, _)| part.fits(leads)).map(|(p, _)| p.name()).collect();
        match Part::named(text) {
            Some(part) if part.fits(leads) => Ok(part),
            Some(_) => {
                let kind = self.around.target.kind();
                let problem = field.problem(format!("no node of a {kind} target becomes `{}`", shown(text)));
                Err(problem.suggest(format!("choose from {}", known.join(", "))))
            }
            None => {
                let problem = field.problem(format!("no node becomes `{}`", shown(text)));
                Err(problem.suggest(did_you_mean(text, &known, "parts")))
            }
        }
    }

    /// Puts numbers for names, and refuses what can't begin or end within the scenario's time.
    fn resolve(mut self) -> Result<Vec<Timed>, Problem> {
        let known: Vec<&str> = self.names.keys().copied().collect();
        for (waiting, names) in &self.waits {
            let mut waited = BTreeSet::new();
            for name in names {
                let text = name.text("the name of a fault")?;
                let Some(numbers) = self.names.get(text) else {
                    let problem = name.problem(format!("there is no fault named `{}`", shown(text)));
                    return Err(match known.is_empty() {
                        true => problem.suggest("give the other fault a `name`"),
                        false => problem.suggest(did_you_mean(text, &known, "names")),
                    });
                };
                waited.extend(numbers);
            }
            if let Some(Trigger::Faults { numbers, .. }) = &mut self.faults[*waiting as usize - 1].0.when {
                *numbers = waited;
            }
        }
        let schedule = Schedule::new(self.faults.iter().map(|(timed, _)| timed.clone()).collect());
        let earliest = schedule.earliest();
        for (timed, lasts) in &self.faults {
            // The path of the entry, without the key.
            let path = lasts.path.rsplit_once('.').map_or(lasts.path.as_str(), |(path, _)| path);
            let Some(begins) = earliest.get(&timed.number) else {
                let problem = lasts.problem(format!("{path} can never begin: it waits for itself"));
                return Err(problem.suggest("let one of the faults that wait for each other begin at a time"));
            };
            let end = begins.saturating_add(timed.lasts);
            let all = self.around.time;
            if end > all {
                let message = match timed.when {
                    None => format!("{path} ends at {end:?}, after the scenario's time of {all:?}"),
                    Some(_) => format!("{path} ends at {end:?} at the earliest, after the scenario's time of {all:?}"),
                };
                let suggestion = "let it begin earlier or last shorter, or raise `time`";
                return Err(lasts.problem(message).suggest(suggestion));
            }
        }
        Ok(self.faults.into_iter().map(|(timed, _)| timed).collect())
    }
}

/// The name under which a resolved scenario refers to a fault.
fn name(number: u64) -> String {
    format!("f{number}")
}

/// Writes faults that are numbered by their positions, from one. Reading gives the same.
pub(crate) fn write(faults: &[Timed]) -> Value {
    let waited: BTreeSet<u64> = faults
        .iter()
        .filter_map(|timed| match &timed.when {
            Some(Trigger::Faults { numbers, .. }) => Some(numbers.iter().copied()),
            _ => None,
        })
        .flatten()
        .collect();
    list(faults.iter().map(|timed| {
        let mut entries = Vec::new();
        if waited.contains(&timed.number) {
            entries.push(("name", name(timed.number).into()));
        }
        match &timed.when {
            None => entries.push(("at", time(timed.at))),
            Some(trigger) => {
                entries.push(("when", write_trigger(trigger)));
                entries.push(("after", time(timed.at)));
            }
        }
        entries.push(("lasts", time(timed.lasts)));
        entries.push((timed.fault.kind().name(), write_fault(&timed.fault)));
        map_of(entries)
    }))
}

fn write_trigger(trigger: &Trigger) -> Value {
    match trigger {
        Trigger::Becomes { node, part, nth } => map_of([
            ("node", node.as_deref().unwrap_or("any").into()),
            ("becomes", part.name().into()),
            ("nth", (*nth).into()),
        ]),
        Trigger::Faults { numbers, turn } => {
            let key = if *turn == Turn::Starts { "starts" } else { "ends" };
            map_of([(key, list(numbers.iter().map(|number| name(*number).into())))])
        }
        Trigger::Operations(count) => map_of([("operations", (*count).into())]),
    }
}

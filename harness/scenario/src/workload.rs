//! What is asked of the target: a plug, and what was chosen about it.

use std::fmt;

use duress_plug::{CONCURRENCY, Kind, OPS, Opts, Plugs, RATE, Shrink, Value};

use crate::Target;
use crate::error::Problem;
use crate::fields::{Field, Fields};
use crate::plugs::{self, Reader};

/// What is asked of the target.
#[derive(Clone)]
pub struct Workload {
    /// What it is.
    pub plug: &'static dyn duress_plug::Workload,
    /// What was chosen about it.
    pub options: Opts,
}

impl Workload {
    /// The workload's name.
    pub fn kind(&self) -> &'static str {
        self.plug.name()
    }

    /// How many clients work side by side.
    pub fn concurrency(&self) -> u16 {
        self.options.integer(CONCURRENCY) as u16
    }

    /// As many clients as that, or as many as there can be. Rates stay what they were.
    pub fn set_concurrency(&mut self, count: u16) {
        self.set_within(CONCURRENCY, count.into());
    }

    /// Whether the workload goes at a pace of its own: nobody can give it a rate.
    pub fn has_own_pace(&self) -> bool {
        !self.options.has(RATE)
    }

    /// Operations per second in all; `None` is as fast as possible, or at the workload's own pace.
    pub fn rate(&self) -> Option<f64> {
        self.options.has(RATE).then(|| self.options.maybe_number(RATE)).flatten()
    }

    /// Changes that, if the workload's pace can be chosen.
    pub fn set_rate(&mut self, rate: Option<f64>) {
        if self.options.has(RATE) {
            // One out of bounds can't be written either, and is found out by who tries that.
            let _ = self.options.set(RATE, rate.map_or(Value::Nothing, Value::Number));
        }
    }

    /// Operations in all; `None` is as many as time allows.
    pub fn ops(&self) -> Option<u64> {
        self.options.has(OPS).then(|| self.options.maybe_integer(OPS)).flatten()
    }

    /// At most so many operations in all.
    pub fn limit_ops(&mut self, most: u64) {
        if self.options.has(OPS) {
            self.set_within(OPS, self.ops().map_or(most, |ops| ops.min(most)));
        }
    }

    /// As many operations as time allows; at least so many, where a number must be given.
    pub fn free_ops(&mut self, least: u64) {
        if self.options.has(OPS) && self.options.set(OPS, Value::Nothing).is_err() {
            self.set_within(OPS, self.ops().unwrap_or_default().max(least));
        }
    }

    /// How many registers, locks or the like there are: of what a few are as good as many. One, if
    /// it isn't to be chosen.
    pub fn keys(&self) -> u64 {
        let few: Vec<u64> = self.few().into_iter().map(|(_, count)| count).collect();
        if few.is_empty() { 1 } else { few.iter().sum() }
    }

    /// The options of which a few are as good as many, and what they are.
    pub fn few(&self) -> Vec<(&'static str, u64)> {
        let few = self.options.iter().filter_map(|(option, value)| match (option.shrink, value) {
            (Shrink::Few, Value::Integer(count)) => Some((option.name, *count)),
            _ => None,
        });
        few.collect()
    }

    /// Whether what its clients hold is protected by fencing tokens.
    pub fn fencing(&self) -> bool {
        self.plug.fences(&self.options)
    }

    /// Changes a whole number, to what is nearest within its bounds.
    pub fn set_within(&mut self, name: &'static str, number: u64) {
        let kind = self.options.iter().find(|(option, _)| option.name == name).map(|(option, _)| option.kind);
        if let Some(Kind::Integer { least, most }) = kind {
            // It is within its bounds now.
            let _ = self.options.set(name, Value::Integer(number.clamp(least, most)));
        }
    }

    pub(crate) fn read(field: Option<&Field<'_>>, target: &Target, plugs: &Plugs<'_>) -> Result<Workload, Problem> {
        let of = |plug, fields: Fields<'_>| Workload::of(plug, fields, target, plugs);
        match (field, plugs.workloads.first()) {
            (Some(field), _) => {
                let known: Vec<_> = plugs.workloads.iter().map(|plug| (plug.name(), *plug)).collect();
                plugs::named(field, &known, "the name of a workload or a map", of)
            }
            (None, Some(usual)) => of(*usual, Fields::none("workload")),
            (None, None) => Err(Fields::none("workload").problem("", "there is no workload at all")),
        }
    }

    fn of(
        plug: &'static dyn duress_plug::Workload,
        mut fields: Fields<'_>,
        target: &Target,
        plugs: &Plugs<'_>,
    ) -> Result<Workload, Problem> {
        let name = plug.name();
        let facts = Some(target.facts());
        let reader = Reader { plug: name, options: plug.options(), facts, bugs: Vec::new(), plugs };
        let options = reader.read(&mut fields)?;
        for (absent, instead) in plug.lacks() {
            if fields.has(absent) {
                return Err(fields.problem(absent, format!("the {name} workload has no {absent}")).suggest(*instead));
            }
        }
        fields.finish(&format!("workload ({name})"))?;
        plug.check(&options, target.kind(), target.facts()).map_err(|problem| plugs::located(problem, &fields))?;
        if let Some(function) = plug.functions(&options).into_iter().find(|function| !target.facts().serves(function)) {
            let kind = target.kind();
            let problem = fields.problem(
                "kind",
                format!("the {name} workload asks for `{function}`, which a {kind} target does not serve"),
            );
            return Err(problem.suggest(format!("it serves {}", target.facts().functions.join(", "))));
        }
        Ok(Workload { plug, options })
    }

    pub(crate) fn write(&self) -> serde_yaml::Value {
        plugs::write(self.kind(), &self.options)
    }
}

impl PartialEq for Workload {
    fn eq(&self, other: &Workload) -> bool {
        self.kind() == other.kind() && self.options == other.options
    }
}

impl fmt::Debug for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.kind(), self.options)
    }
}

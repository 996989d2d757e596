//! The system under test: a plug, what was chosen about it, and what follows from that.

use std::fmt;
use std::time::Duration;

use duress_plug::{Bug, Facts, Opts, Plugs, Shrink, Value};

use crate::error::Problem;
use crate::fields::{Field, Fields};
use crate::plugs::{self, Reader};

/// The system under test.
#[derive(Clone)]
pub struct Target {
    /// What it is.
    pub plug: &'static dyn duress_plug::Target,
    /// What was chosen about it.
    options: Opts,
    /// What follows from that.
    facts: Facts,
}

impl Target {
    /// A target with these options.
    ///
    /// # Errors
    /// If they don't go together.
    pub fn new(plug: &'static dyn duress_plug::Target, options: Opts) -> Result<Target, duress_plug::Problem> {
        let facts = plug.facts(&options)?;
        Ok(Target { plug, options, facts })
    }

    /// What was chosen about it.
    pub fn options(&self) -> &Opts {
        &self.options
    }

    /// What it consists of, promises and assumes.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The target's name.
    pub fn kind(&self) -> &'static str {
        self.plug.name()
    }

    /// How many nodes it has.
    pub fn nodes(&self) -> u16 {
        self.facts.nodes()
    }

    /// Whether one of its nodes leads.
    pub fn leads(&self) -> bool {
        self.facts.leads
    }

    /// The least number of nodes with which it promises to serve, whichever they are; see
    /// [`Facts::quorum`].
    pub fn quorum(&self) -> Option<u16> {
        self.facts.quorum
    }

    /// How long its clients wait for a node's answer before they ask another.
    pub fn attempt_timeout(&self) -> Duration {
        self.facts.attempt_timeout
    }

    /// The bug that is planted in it.
    pub fn bug(&self) -> Option<Bug> {
        self.plug.bug(&self.options)
    }

    /// The same target with so many servers; options that must not be more than that follow it down.
    /// `None` if it can't be so.
    pub fn with_nodes(&self, nodes: u16) -> Option<Target> {
        let option = self.facts.groups.iter().find(|group| group.serves)?.option?;
        let mut options = self.options.clone();
        options.set(option, Value::Integer(nodes.into())).ok()?;
        for (follows, value) in self.options.iter() {
            if let (Shrink::AtMost(other), Value::Integer(number)) = (follows.shrink, value)
                && other == option
            {
                options.set(follows.name, Value::Integer((*number).min(nodes.into()))).ok()?;
            }
        }
        Target::new(self.plug, options).ok()
    }

    pub(crate) fn read(field: &Field<'_>, plugs: &Plugs<'_>) -> Result<Target, Problem> {
        let known: Vec<_> = plugs.targets.iter().map(|plug| (plug.name(), *plug)).collect();
        plugs::named(field, &known, "the name of a target or a map", |plug, fields| Target::of(plug, fields, plugs))
    }

    /// What is meant where nothing is said.
    pub(crate) fn usual(plugs: &Plugs<'_>) -> Result<Target, Problem> {
        match plugs.targets.first() {
            Some(plug) => Target::of(*plug, Fields::none("target"), plugs),
            None => Err(Fields::none("target").problem("", "there is no target at all")),
        }
    }

    fn of(
        plug: &'static dyn duress_plug::Target,
        mut fields: Fields<'_>,
        plugs: &Plugs<'_>,
    ) -> Result<Target, Problem> {
        let bugs = plug.bugs().iter().map(|bug| bug.name).collect();
        let reader = Reader { plug: plug.name(), options: plug.options(), facts: None, bugs, plugs };
        let options = reader.read(&mut fields)?;
        fields.finish(&format!("target ({})", plug.name()))?;
        Target::new(plug, options).map_err(|problem| plugs::located(problem, &fields))
    }

    pub(crate) fn write(&self) -> serde_yaml::Value {
        plugs::write(self.kind(), &self.options)
    }
}

impl PartialEq for Target {
    fn eq(&self, other: &Target) -> bool {
        self.kind() == other.kind() && self.options == other.options
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.kind(), self.options)
    }
}

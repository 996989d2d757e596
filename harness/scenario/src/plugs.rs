//! Options of plugs in a file: read, filled in and written as they are declared.

use duress_plug::{Draft, Facts, Kind, NO_BUG, Opt, Opts, Plugs, Value};
use serde_yaml::Value as Yaml;

use crate::document::{self, Located};
use crate::error::{Problem, shown};
use crate::fields::{Field, Fields};
use crate::yaml::{map, map_of, time};

/// Reads which plug is meant and what is said about it: a name alone, or a map with a `kind`.
/// `wanted` says so in words; what is meant by no name comes first.
pub(crate) fn named<'a, P: Copy, R>(
    field: &Field<'a>,
    known: &[(&str, P)],
    wanted: &str,
    read: impl FnOnce(P, Fields<'_>) -> Result<R, Problem>,
) -> Result<R, Problem> {
    if let document::Value::Scalar { .. } = &field.node.value {
        let plug = field.choice(known)?;
        let none = Located { place: field.node.place.clone(), value: document::Value::Map(Vec::new()) };
        let field = Field { node: &none, path: field.path.clone() };
        return read(plug, field.fields("a map")?);
    }
    let mut fields = field.fields(wanted)?;
    let plug = match (fields.get("kind"), known) {
        (None, [(_, usual), ..]) => *usual,
        (None, []) => return Err(field.problem(format!("there is no {} at all", field.path))),
        (Some(kind), _) => kind.choice(known)?,
    };
    read(plug, fields)
}

/// What options are read with.
pub(crate) struct Reader<'a> {
    /// The plug's name.
    pub(crate) plug: &'static str,
    /// Its options.
    pub(crate) options: &'static [Opt],
    /// The facts of the target that a workload is for.
    pub(crate) facts: Option<&'a Facts>,
    /// Its bugs.
    pub(crate) bugs: Vec<&'static str>,
    /// What else there is.
    pub(crate) plugs: &'a Plugs<'a>,
}

impl Reader<'_> {
    /// The options that are given, and defaults for the others. Unknown ones are not looked for.
    pub(crate) fn read(&self, fields: &mut Fields<'_>) -> Result<Opts, Problem> {
        let mut draft = Draft::new(self.options, self.facts);
        for option in self.options {
            let Some(field) = fields.get(option.name) else { continue };
            let value = match option.optional {
                true => field.some().map_or(Ok(Value::Nothing), |field| self.value(option, &field))?,
                false => self.value(option, &field)?,
            };
            draft.set(option.name, value);
        }
        Ok(draft.finish())
    }

    fn value(&self, option: &Opt, field: &Field<'_>) -> Result<Value, Problem> {
        Ok(match option.kind {
            Kind::Integer { least, most } => Value::Integer(field.integer(least..=most)?),
            Kind::Number { least, most } => Value::Number(field.number(least..=most)?),
            Kind::Duration { least, most } => Value::Duration(field.duration(least..=most)?),
            Kind::Flag => Value::Flag(field.flag()?),
            Kind::Choice(of) => {
                let names: Vec<(&str, &'static str)> = of.iter().map(|(name, _)| (*name, *name)).collect();
                Value::Name(field.choice(&names)?)
            }
            Kind::Text { wanted, fits, .. } => {
                let text = field.text(wanted)?;
                if !fits(text) {
                    return Err(field.mismatch(wanted));
                }
                if let Some(reserved) = option.reserved(text) {
                    let problem = field.problem(format!("{} can't be `{}`", field.path, shown(text)));
                    return Err(
                        problem.suggest(format!("what begins with `{reserved}` is Duress's own; choose another"))
                    );
                }
                Value::Text(text.into())
            }
            Kind::Weights { names, most } => {
                let mut fields = field.fields(&format!("a map of weights, such as {}", self.example(option, names)))?;
                let weight = |name: &&'static str| {
                    // Whoever gives weights gives them all; what is left out is left out.
                    fields.get(name).map_or(Ok(0), |field| field.integer(0..=most))
                };
                let weights = names.iter().map(weight).collect::<Result<_, _>>()?;
                fields.finish(&field.path)?;
                Value::Weights(weights)
            }
            Kind::Bug => self.bug(field)?,
        })
    }

    /// What weights usually are, as they would be written.
    fn example(&self, option: &Opt, names: &[&str]) -> String {
        let usual = Opts::usual(self.options);
        let weights = usual.weights(option.name).iter().zip(names).map(|(weight, name)| format!("{name}: {weight}"));
        format!("{{{}}}", weights.collect::<Vec<_>>().join(", "))
    }

    fn bug(&self, field: &Field<'_>) -> Result<Value, Problem> {
        let names: Vec<&'static str> = std::iter::once(NO_BUG).chain(self.bugs.iter().copied()).collect();
        let choices: Vec<(&str, &'static str)> = names.iter().map(|name| (*name, *name)).collect();
        let refused = match field.choice(&choices) {
            Ok(bug) => return Ok(Value::Name(bug)),
            Err(problem) => problem,
        };
        let Ok(name) = field.text("a bug's name") else { return Err(refused) };
        let has = |target: &&&'static dyn duress_plug::Target| target.bugs().iter().any(|bug| bug.name == name);
        let elsewhere: Vec<&str> = self.plugs.targets.iter().filter(has).map(|target| target.name()).collect();
        if elsewhere.is_empty() {
            return Err(refused);
        }
        let message = format!("{name} is a bug of {}, not of {}", elsewhere.join(" and "), self.plug);
        Err(field.problem(message).suggest(format!("bugs of {}: {}", self.plug, names.join(", "))))
    }
}

/// A problem that a plug has with its options, where the option stands that is to blame.
pub(crate) fn located(problem: duress_plug::Problem, fields: &Fields<'_>) -> Problem {
    let duress_plug::Problem { options, message, suggestion } = problem;
    let given = options.iter().find(|path| fields.has_path(path)).or(options.last());
    let found = Problem::new(fields.place_of_path(given.copied().unwrap_or_default()), message);
    match suggestion {
        Some(suggestion) => found.suggest(suggestion),
        None => found,
    }
}

/// A plug with every option spelled out.
pub(crate) fn write(plug: &'static str, options: &Opts) -> Yaml {
    let options = options.iter().map(|(option, value)| (option.name, yaml(option, value)));
    map_of(std::iter::once(("kind", plug.into())).chain(options))
}

fn yaml(option: &Opt, value: &Value) -> Yaml {
    match (value, option.kind) {
        (Value::Integer(number), _) => (*number).into(),
        (Value::Number(number), _) => (*number).into(),
        (Value::Duration(duration), _) => time(*duration),
        (Value::Flag(flag), _) => (*flag).into(),
        (Value::Name(name), _) => (*name).into(),
        (Value::Text(text), _) => text.as_str().into(),
        (Value::Weights(weights), Kind::Weights { names, .. }) => {
            map_of(names.iter().zip(weights).map(|(name, weight)| (*name, (*weight).into())))
        }
        (Value::Weights(_), _) => map([]),
        (Value::Nothing, _) => Yaml::Null,
    }
}

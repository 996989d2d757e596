//! The faults of a scenario: none, drawn from the seed, or scripted.

use std::time::Duration;

use duress_fault::{Fault, Grudge, Host, Kind, Plan, Schedule, Selector, Sides, Timed};
use duress_seed::Seed;
use serde_yaml::Value;

use crate::document;
use crate::error::{Problem, did_you_mean, shown};
use crate::fields::{Field, Fields};
use crate::yaml::{list, map, map_of, time};
use crate::{Target, Workload, script};

/// The faults of a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Faults {
    /// None.
    None,
    /// Drawn from the seed.
    Planned(Plan),
    /// Exactly these.
    Scripted(Vec<Timed>),
}

impl Faults {
    /// The schedule for a main phase of length `total`, every choice drawn from `seed`.
    pub fn schedule(&self, seed: Seed, total: Duration) -> Schedule {
        match self {
            Faults::None => Schedule::default(),
            Faults::Planned(plan) => plan.schedule(seed, total),
            Faults::Scripted(faults) => Schedule::new(faults.clone()),
        }
    }
}

/// What faults are checked against.
pub(crate) struct Surroundings<'a> {
    pub(crate) target: &'a Target,
    pub(crate) workload: &'a Workload,
    pub(crate) clients: u16,
    pub(crate) time: Duration,
}

/// No scenario may script more faults.
pub(crate) const MAX_FAULTS: usize = 1_000;
/// No list of names in a fault may be longer.
const MAX_NAMES: usize = 100;

const SIDES: &[(&str, Sides)] = &[("stay", Sides::Stay), ("split", Sides::Split)];
pub(crate) const KINDS: &[&str] = &["partition", "crash", "pause", "delay"];
/// No kind of faults may be used more often than this for another one's once.
const MAX_WEIGHT: u64 = 100;
/// No more faults than this may be planned to be in force at a time.
const MAX_OVERLAP: u64 = 10;
const MAX_DELAY: Duration = Duration::from_secs(60);

impl Faults {
    /// Without a word on faults, all kinds that a cluster must stand are drawn from the seed.
    pub(crate) fn read(field: Option<&Field<'_>>, around: &Surroundings<'_>) -> Result<Faults, Problem> {
        let Some(field) = field else { return Ok(Faults::Planned(around.fit(Plan::default()))) };
        let wanted = "`none`, a list of kinds, a list of timed faults, or a map";
        match &field.node.value {
            document::Value::Scalar { text, .. } if text == "none" => Ok(Faults::None),
            document::Value::Scalar { .. } if !field.node.is_null() => {
                around.planned(vec![kind(field, &["none", "partition", "crash", "pause", "delay"])?])
            }
            document::Value::Scalar { .. } => {
                let problem = field.problem(format!("faults has no value; it must be {wanted}"));
                Err(problem.suggest("write `faults: none` for a run without faults"))
            }
            document::Value::List(items) if items.is_empty() => Ok(Faults::None),
            document::Value::List(items) if matches!(items[0].value, document::Value::Map(_)) => {
                Ok(Faults::Scripted(script::read(field, around)?))
            }
            document::Value::List(_) => around.planned(kinds(field)?),
            document::Value::Map(_) => around.plan(field.fields(wanted)?),
        }
    }

    pub(crate) fn write(&self) -> Value {
        match self {
            Faults::None => "none".into(),
            Faults::Planned(plan) => map([
                ("kinds", write_kinds(&plan.kinds)),
                ("interval", time(plan.interval)),
                ("duration", time(plan.duration)),
                ("overlap", plan.overlap.into()),
                ("keep_majority", plan.keep_majority.into()),
                ("grudges", list(plan.grudges.iter().map(|grudge| grudge.name().into()))),
                ("clients", sides(plan.clients)),
                ("crash", list(plan.crash.iter().map(write_selector))),
                ("pause", list(plan.pause.iter().map(write_selector))),
                ("delay", time(plan.delay)),
            ]),
            Faults::Scripted(faults) => script::write(faults),
        }
    }
}

/// A list of kinds, or a map with how often each is used, compared to the others.
fn kinds(field: &Field<'_>) -> Result<Vec<Kind>, Problem> {
    let mut found = Vec::new();
    if let document::Value::Map(_) = &field.node.value {
        let mut fields = field.fields("a map of kinds")?;
        for name in KINDS {
            if let (Some(kind), Some(weight)) = (Kind::named(name), fields.get(name)) {
                found.extend(std::iter::repeat_n(kind, weight.integer(0..=MAX_WEIGHT)? as usize));
            }
        }
        fields.finish("faults.kinds")?;
        return Ok(found);
    }
    for item in field.list("a list of kinds of faults", MAX_NAMES)? {
        let kind = kind(&item, KINDS)?;
        if !found.contains(&kind) {
            found.push(kind);
        }
    }
    Ok(found)
}

fn write_kinds(kinds: &[Kind]) -> Value {
    let weight = |kind: &Kind| kinds.iter().filter(|other| *other == kind).count();
    if kinds.iter().all(|kind| weight(kind) == 1) {
        return list(kinds.iter().map(|kind| kind.name().into()));
    }
    let used = Kind::ALL.iter().map(|(kind, _)| kind).filter(|kind| kinds.contains(kind));
    map_of(used.map(|kind| (kind.name(), weight(kind).into())))
}

fn kind(field: &Field<'_>, known: &[&str]) -> Result<Kind, Problem> {
    let text = field.text("a kind of fault")?;
    Kind::named(text).ok_or_else(|| {
        let problem = field.problem(format!("there is no kind of fault named `{}`", shown(text)));
        problem.suggest(did_you_mean(text, known, "kinds"))
    })
}

impl Surroundings<'_> {
    fn nodes(&self) -> usize {
        self.target.nodes().into()
    }

    /// Leaves out what can't be in this scenario.
    fn fit(&self, plan: Plan) -> Plan {
        plan.fit(self.nodes(), self.target.leads())
    }

    fn planned(&self, kinds: Vec<Kind>) -> Result<Faults, Problem> {
        Ok(if kinds.is_empty() { Faults::None } else { Faults::Planned(self.fit(Plan { kinds, ..Plan::default() })) })
    }

    fn plan(&self, mut fields: Fields<'_>) -> Result<Faults, Problem> {
        let keep_majority = fields.get("keep_majority").map_or(Ok(false), |field| field.flag())?;
        let default = self.fit(Plan { keep_majority, ..Plan::default() });
        let ms = Duration::from_millis;
        let longest = Duration::from_secs(24 * 3600);
        let mut wait = |key, least, default| {
            fields.get(key).map_or(Ok(default), |field: Field<'_>| field.duration(least..=longest))
        };
        let interval = wait("interval", ms(100), default.interval)?;
        let duration = wait("duration", ms(10), default.duration.min(interval / 2))?;
        let overlap = fields.get("overlap").map_or(Ok(1), |field| field.integer(1..=MAX_OVERLAP))? as u32;
        let plan = Plan {
            kinds: fields.get("kinds").map_or(Ok(default.kinds), |field| kinds(&field))?,
            interval,
            duration,
            overlap,
            keep_majority,
            grudges: match fields.get("grudges") {
                None => default.grudges,
                Some(field) => {
                    let items = field.list("a list of grudges", MAX_NAMES)?;
                    items.iter().map(|item| self.grudge(item)).collect::<Result<_, _>>()?
                }
            },
            clients: fields.get("clients").map_or(Ok(Sides::Stay), |field| field.choice(SIDES))?,
            crash: self.selectors(fields.get("crash"), default.crash, Kind::Crash)?,
            pause: self.selectors(fields.get("pause"), default.pause, Kind::Pause)?,
            delay: fields.get("delay").map_or(Ok(default.delay), |field| field.duration(ms(1)..=MAX_DELAY))?,
        };
        fields.finish("faults")?;
        let room = interval * overlap;
        if duration >= room {
            let message = match overlap {
                1 => format!(
                    "faults.duration ({duration:?}) must be shorter than faults.interval ({interval:?}): each fault is healed before the next"
                ),
                _ => format!(
                    "faults.duration ({duration:?}) must be shorter than {overlap} times faults.interval ({interval:?}), or more than {overlap} faults overlap"
                ),
            };
            let blamed = if fields.has("duration") { "duration" } else { "interval" };
            return Err(fields
                .problem(blamed, message)
                .suggest("make faults shorter or rarer, or raise faults.overlap"));
        }
        if keep_majority {
            self.check_majority(&plan, &fields)?;
        }
        for (kind, key, empty) in [
            (Kind::Partition, "grudges", plan.grudges.is_empty()),
            (Kind::Delay, "grudges", plan.grudges.is_empty()),
            (Kind::Crash, "crash", plan.crash.is_empty()),
            (Kind::Pause, "pause", plan.pause.is_empty()),
        ] {
            if empty && plan.kinds.contains(&kind) && keep_majority && !fields.has(key) {
                let message = format!("no {kind} of this plan leaves a majority of {} nodes", self.nodes());
                return Err(fields.problem("keep_majority", message).suggest("use more nodes, or other kinds"));
            }
            if empty && plan.kinds.contains(&kind) {
                let message = format!("faults.kinds asks for {kind}, but faults.{key} is an empty list");
                return Err(fields.problem(key, message).suggest(format!("give at least one, or leave out `{key}`")));
            }
        }
        Ok(if plan.kinds.is_empty() { Faults::None } else { Faults::Planned(plan) })
    }

    /// Whether every fault that the plan names leaves a majority.
    fn check_majority(&self, plan: &Plan, fields: &Fields<'_>) -> Result<(), Problem> {
        if plan.overlap > 1 {
            let problem = fields.problem("overlap", "faults that overlap may together leave no majority");
            return Err(problem.suggest("leave `overlap` or `keep_majority` out"));
        }
        let nodes = self.nodes();
        let grudge = plan.grudges.iter().find(|grudge| !grudge.leaves_majority(nodes));
        let of =
            |selectors: &[Selector]| selectors.iter().find(|one| !one.leaves_majority(nodes)).map(ToString::to_string);
        let found =
            [("grudges", grudge.map(ToString::to_string)), ("crash", of(&plan.crash)), ("pause", of(&plan.pause))];
        for (key, name) in found {
            if let Some(name) = name {
                let message = format!("faults.{key} has `{name}`, which leaves no majority of {nodes} nodes");
                return Err(fields.problem(key, message).suggest("leave it out, or `keep_majority`"));
            }
        }
        Ok(())
    }

    fn selectors(
        &self,
        field: Option<Field<'_>>,
        default: Vec<Selector>,
        kind: Kind,
    ) -> Result<Vec<Selector>, Problem> {
        let Some(field) = field else { return Ok(default) };
        let items = field.list("a list of whom to hit", MAX_NAMES)?;
        items.iter().map(|item| self.selector(item, kind)).collect()
    }

    /// What is done, and to whom.
    pub(crate) fn fault(&self, kind: Kind, field: &Field<'_>) -> Result<Fault, Problem> {
        match kind {
            Kind::Crash => Ok(Fault::Crash(self.selector(field, kind)?)),
            Kind::Pause => Ok(Fault::Pause(self.selector(field, kind)?)),
            Kind::Partition => {
                if let document::Value::Scalar { .. } = &field.node.value {
                    return Ok(self.grudge(field)?.into());
                }
                let mut fields = field.fields("a grudge or a map")?;
                let grudge = self.links(&mut fields, field)?;
                let clients = fields.get("clients");
                fields.finish("a partition")?;
                let sides = clients.as_ref().map_or(Ok(Sides::Stay), |clients| clients.choice(SIDES))?;
                match clients {
                    Some(clients) if sides == Sides::Split && !grudge.has_sides() => {
                        let message = format!("a {} partition has no sides to put client hosts on", grudge.name());
                        Err(clients.problem(message).suggest("leave `clients` out"))
                    }
                    _ => Ok(Fault::Partition { grudge, clients: sides }),
                }
            }
            Kind::Delay => {
                let mut fields = field.fields("a map such as {links: [[n1, n2]], by: 100ms}")?;
                let grudge = self.links(&mut fields, field)?;
                let by = fields.get("by");
                fields.finish("a delay")?;
                let by = by.ok_or_else(|| {
                    field.problem(format!("{} doesn't say by how much", field.path)).suggest("write `by: 100ms`")
                })?;
                Ok(Fault::Delay { grudge, by: by.duration(Duration::from_millis(1)..=MAX_DELAY)? })
            }
        }
    }

    /// `grudge: …`, or `links: …` with `one_way: …`.
    fn links(&self, fields: &mut Fields<'_>, owner: &Field<'_>) -> Result<Grudge, Problem> {
        let (named, links, one_way) = (fields.get("grudge"), fields.get("links"), fields.get("one_way"));
        let path = &owner.path;
        match (named, links) {
            (Some(_), Some(links)) => {
                Err(links.problem(format!("{path} has both `grudge` and `links`")).suggest("leave one out"))
            }
            (None, None) => {
                // A key that we don't know is more likely the cause than a missing one.
                fields.get("clients");
                fields.get("by");
                fields.finish("a partition or delay")?;
                Err(owner
                    .problem(format!("{path} doesn't say which links"))
                    .suggest("write `grudge: halves` or `links: [[n1, n2]]`"))
            }
            (Some(named), None) => match one_way {
                Some(one_way) => Err(one_way.problem("`one_way` goes with `links` only").suggest("leave it out")),
                None => self.grudge(&named),
            },
            (None, Some(field)) => {
                let wanted = "a list of pairs of hosts, such as [[n1, n2], [c1, n1]]";
                let mut links = Vec::new();
                for pair in field.list(wanted, MAX_NAMES)? {
                    let ends = pair.list("a pair of hosts, such as [n1, n2]", MAX_NAMES)?;
                    let [from, to] = &ends[..] else {
                        let message = format!("{} must be a pair of hosts, and has {} of them", pair.path, ends.len());
                        return Err(pair.problem(message).suggest("write a link like [n1, n2]"));
                    };
                    let link = (self.host(from)?, self.host(to)?);
                    if link.0 == link.1 {
                        return Err(pair.problem(format!("{} leads from {} to itself", pair.path, link.0)));
                    }
                    links.push(link);
                }
                if links.is_empty() {
                    return Err(field.problem(format!("{} is empty", field.path)).suggest("name at least one link"));
                }
                let one_way = one_way.map_or(Ok(false), |field| field.flag())?;
                Ok(Grudge::Links { links, one_way })
            }
        }
    }

    fn grudge(&self, field: &Field<'_>) -> Result<Grudge, Problem> {
        let text = field.text("a grudge")?;
        let Some(grudge) = Grudge::named(text) else {
            let known: Vec<&str> = Grudge::ALL.iter().map(|(grudge, _)| grudge.name()).collect();
            let problem = field.problem(format!("there is no grudge named `{}`", shown(text)));
            return Err(problem.suggest(did_you_mean(text, &known, "grudges")));
        };
        if grudge.needs_primary() && !self.target.leads() {
            return Err(self.nobody_leads(field, text));
        }
        if self.nodes() < grudge.least_nodes() {
            let (least, nodes) = (grudge.least_nodes(), self.nodes());
            return Err(field
                .problem(format!("the grudge {text} needs at least {least} nodes, and target.nodes is {nodes}"))
                .suggest("choose another grudge or raise target.nodes"));
        }
        Ok(grudge)
    }

    fn nobody_leads(&self, field: &Field<'_>, what: &str) -> Problem {
        let problem = field.problem(format!("`{what}` needs a node that leads, and in a quorum target nobody does"));
        problem.suggest("choose nodes by name or number, such as one or minority")
    }

    /// Whom a crash or a pause hits: a selector's name, a host's name, or a list of hosts.
    fn selector(&self, field: &Field<'_>, kind: Kind) -> Result<Selector, Problem> {
        let hosts = match &field.node.value {
            document::Value::List(_) => field.list("whom to hit", MAX_NAMES)?,
            _ => {
                let text = field.text("whom to hit: a selector such as one or primary, a host, or a list of hosts")?;
                match Selector::named(text) {
                    Some(selector) => return self.check_selector(selector, field, kind),
                    None => vec![field.clone()],
                }
            }
        };
        if hosts.is_empty() {
            return Err(field.problem(format!("{} is empty", field.path)).suggest("name at least one host"));
        }
        let mut names = Vec::new();
        for host in &hosts {
            let name = self.host(host)?;
            if kind == Kind::Crash && name.starts_with('c') {
                return Err(self.only_nodes_crash(host));
            }
            names.push(name);
        }
        Ok(Selector::Names(names))
    }

    fn check_selector(&self, selector: Selector, field: &Field<'_>, kind: Kind) -> Result<Selector, Problem> {
        if selector.needs_primary() && !self.target.leads() {
            return Err(self.nobody_leads(field, selector.name()));
        }
        if self.nodes() < selector.least_nodes() {
            let (name, least, nodes) = (selector.name(), selector.least_nodes(), self.nodes());
            let message = format!("`{name}` needs at least {least} nodes, and target.nodes is {nodes}");
            return Err(field.problem(message));
        }
        if selector == Selector::Holder && !matches!(self.workload, Workload::Lock(_)) {
            let message = format!(
                "`holder` is a client host that holds a lock, and the {} workload takes none",
                self.workload.kind()
            );
            return Err(field.problem(message).suggest("use the lock workload, or another selector"));
        }
        if kind == Kind::Crash && matches!(selector, Selector::Holder | Selector::Client) {
            return Err(self.only_nodes_crash(field));
        }
        Ok(selector)
    }

    fn only_nodes_crash(&self, field: &Field<'_>) -> Problem {
        field.problem("only nodes can be crashed, not client hosts").suggest("a client host can be paused")
    }

    /// The name of a node or client host of this scenario.
    pub(crate) fn host(&self, field: &Field<'_>) -> Result<Host, Problem> {
        let text = field.text("the name of a host, such as n1 or c1")?;
        let (nodes, clients) = (self.target.nodes(), self.clients);
        let number =
            |prefix| text.strip_prefix(prefix).filter(|n| !n.starts_with(['0', '+'])).and_then(|n| n.parse().ok());
        let known = |number: Option<u16>, count| number.is_some_and(|n| (1..=count).contains(&n));
        if known(number('n'), nodes) || known(number('c'), clients) {
            return Ok(Host::from(text));
        }
        let span =
            |prefix, count| if count == 1 { format!("{prefix}1") } else { format!("{prefix}1 to {prefix}{count}") };
        let (nodes, clients) = (span("n", nodes), span("c", clients));
        let problem = field.problem(format!("there is no host named `{}`", shown(text)));
        let hosts = format!("nodes are {nodes}, client hosts are {clients}");
        Err(match Selector::named(text) {
            Some(_) => problem.suggest(format!("a selector stands alone, not in a list; {hosts}")),
            None => problem.suggest(hosts),
        })
    }
}

fn sides(sides: Sides) -> Value {
    SIDES.iter().find(|(_, other)| *other == sides).map_or(Value::Null, |(name, _)| Value::from(*name))
}

fn write_selector(selector: &Selector) -> Value {
    match selector {
        Selector::Names(names) => list(names.iter().map(|name| name.as_str().into())),
        other => other.name().into(),
    }
}

pub(crate) fn write_fault(fault: &Fault) -> Value {
    match fault {
        Fault::Crash(selector) | Fault::Pause(selector) => write_selector(selector),
        Fault::Partition { grudge: Grudge::Links { links, one_way }, .. } => {
            map([("links", write_links(links)), ("one_way", (*one_way).into())])
        }
        Fault::Partition { grudge, clients } => map([("grudge", grudge.name().into()), ("clients", sides(*clients))]),
        Fault::Delay { grudge: Grudge::Links { links, one_way }, by } => {
            map([("links", write_links(links)), ("one_way", (*one_way).into()), ("by", time(*by))])
        }
        Fault::Delay { grudge, by } => map([("grudge", grudge.name().into()), ("by", time(*by))]),
    }
}

fn write_links(links: &[(Host, Host)]) -> Value {
    list(links.iter().map(|(from, to)| list([from.as_str().into(), to.as_str().into()])))
}

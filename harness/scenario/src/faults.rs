//! The faults of a scenario: none, drawn from the seed, or scripted.

use std::collections::BTreeMap;
use std::time::Duration;

use duress_fault::{Effect, Fault, Grudge, Host, HostHarm, Kind, On, Plan, Schedule, Selector, Sides, Timed};
use duress_seed::Seed;
use serde_yaml::Value;

use crate::document;
use crate::error::{Problem, did_you_mean, shown};
use crate::fields::{Field, Fields};
use crate::yaml::{list, map_of, time};
use crate::{Target, Workload, harms, script};

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
    /// A workload whose clients hold something, to be recommended.
    pub(crate) holding: Option<&'static str>,
    pub(crate) clients: u16,
    pub(crate) time: Duration,
}

/// No scenario may script more faults.
pub(crate) const MAX_FAULTS: usize = 1_000;
/// No list of names in a fault may be longer.
const MAX_NAMES: usize = 100;

const SIDES: &[(&str, Sides)] = &[("stay", Sides::Stay), ("split", Sides::Split)];
/// The names of all kinds of faults.
pub(crate) const KINDS: &[&str] = &{
    let mut names = [""; Kind::ALL.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = Kind::ALL[at].0.name();
        at += 1;
    }
    names
};
/// No kind of faults may be used more often than this for another one's once.
const MAX_WEIGHT: u64 = 100;
/// No more faults than this may be planned to be in force at a time.
const MAX_OVERLAP: u64 = 10;

impl Faults {
    /// Without a word on faults, all kinds that a cluster must stand are drawn from the seed.
    pub(crate) fn read(field: Option<&Field<'_>>, around: &Surroundings<'_>) -> Result<Faults, Problem> {
        let Some(field) = field else { return Ok(Faults::Planned(around.fit(Plan::default()))) };
        let wanted = "`none`, a list of kinds, a list of timed faults, or a map";
        match &field.node.value {
            document::Value::Scalar { text, .. } if text == "none" => Ok(Faults::None),
            document::Value::Scalar { .. } if !field.node.is_null() => {
                let known: Vec<&str> = std::iter::once("none").chain(KINDS.iter().copied()).collect();
                around.planned(vec![kind(field, &known)?])
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
            Faults::Planned(plan) => {
                let mut entries = vec![
                    ("kinds", write_kinds(&plan.kinds)),
                    ("interval", time(plan.interval)),
                    ("duration", time(plan.duration)),
                    ("overlap", plan.overlap.into()),
                    ("keep_majority", plan.keep_majority.into()),
                    ("grudges", list(plan.grudges.iter().map(|grudge| grudge.name().into()))),
                    ("clients", sides(plan.clients)),
                    ("crash", list(plan.crash.iter().map(write_selector))),
                    ("pause", list(plan.pause.iter().map(write_selector))),
                    ("who", list(plan.who.iter().map(write_selector))),
                ];
                entries.extend(plan.measures.iter().map(|(kind, effects)| {
                    (kind.name(), list(effects.iter().map(|effect| map_of(harms::write(effect)))))
                }));
                map_of(entries)
            }
            Faults::Scripted(faults) => script::write(faults),
        }
    }
}

/// Whether a plan can say what faults of this kind do.
fn measured(kind: Kind) -> bool {
    harms::example(kind).is_some() || matches!(kind, Kind::ClockFreeze | Kind::PowerLoss)
}

/// What faults of these kinds do, with what is typical where nothing was said.
fn spelled_out(kinds: &[Kind], mut measures: BTreeMap<Kind, Vec<Effect>>) -> BTreeMap<Kind, Vec<Effect>> {
    for kind in kinds.iter().filter(|kind| measured(**kind)) {
        measures.entry(*kind).or_insert_with(|| kind.typical());
    }
    measures
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
        let measures = spelled_out(&kinds, BTreeMap::new());
        Ok(match kinds.is_empty() {
            true => Faults::None,
            false => Faults::Planned(self.fit(Plan { kinds, measures, ..Plan::default() })),
        })
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
        let kinds = fields.get("kinds").map_or(Ok(default.kinds), |field| kinds(&field))?;
        let measures = self.measures(&mut fields)?;
        if let Some(kind) = measures.keys().find(|kind| !kinds.contains(kind)) {
            let problem = fields.problem(kind.name(), format!("faults.{kind} is of no use: no {kind} is planned"));
            return Err(problem.suggest(format!("add {kind} to faults.kinds, or leave it out")));
        }
        let plan = Plan {
            measures: spelled_out(&kinds, measures),
            kinds,
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
            who: self.selectors(fields.get("who"), default.who, Kind::Slow)?,
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
        for (kind, _) in Kind::ALL {
            let (key, empty) = match (kind, kind.on()) {
                (_, On::Links) => ("grudges", plan.grudges.is_empty()),
                (Kind::Crash, _) => ("crash", plan.crash.is_empty()),
                (Kind::Pause, _) => ("pause", plan.pause.is_empty()),
                _ => ("who", plan.who.is_empty()),
            };
            if empty && plan.kinds.contains(kind) && keep_majority && !fields.has(key) {
                let message = format!("no {kind} of this plan leaves a majority of {} nodes", self.nodes());
                return Err(fields.problem("keep_majority", message).suggest("use more nodes, or other kinds"));
            }
            if empty && plan.kinds.contains(kind) {
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
        let found = [
            ("grudges", grudge.map(ToString::to_string)),
            ("crash", of(&plan.crash)),
            ("pause", of(&plan.pause)),
            ("who", of(&plan.who)),
        ];
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

    /// What faults of some kinds do, in a plan.
    fn measures(&self, fields: &mut Fields<'_>) -> Result<BTreeMap<Kind, Vec<Effect>>, Problem> {
        let mut measures = BTreeMap::new();
        for (kind, _) in Kind::ALL.iter().filter(|(kind, _)| measured(*kind)) {
            let Some(field) = fields.get(kind.name()) else { continue };
            let effects = match &field.node.value {
                document::Value::List(_) => {
                    let items = field.list("a list of what such faults do", MAX_NAMES)?;
                    items.iter().map(|item| harms::measure(*kind, item)).collect::<Result<Vec<_>, _>>()?
                }
                _ => vec![harms::measure(*kind, &field)?],
            };
            if effects.is_empty() {
                let problem = field.problem(format!("{} is empty", field.path));
                return Err(problem.suggest("leave it out for what is typical"));
            }
            measures.insert(*kind, effects);
        }
        Ok(measures)
    }

    /// A map of one kind of fault, and what is done to whom.
    pub(crate) fn lone_fault(&self, field: &Field<'_>) -> Result<Fault, Problem> {
        let mut fields = field.fields("a fault such as {crash: one}")?;
        let found: Vec<(Kind, Field<'_>)> =
            Kind::ALL.iter().filter_map(|(kind, _)| Some((*kind, fields.get(kind.name())?))).collect();
        fields.finish("a fault")?;
        match &found[..] {
            [(kind, what)] => self.fault(*kind, what),
            _ => Err(field.problem(format!("{} must have exactly one kind of fault", field.path))),
        }
    }

    /// What is done, and to whom.
    pub(crate) fn fault(&self, kind: Kind, field: &Field<'_>) -> Result<Fault, Problem> {
        match kind.on() {
            On::Links => self.fault_of_links(kind, field),
            On::Hosts => self.fault_of_hosts(kind, field),
        }
    }

    fn fault_of_links(&self, kind: Kind, field: &Field<'_>) -> Result<Fault, Problem> {
        if let (None, document::Value::Scalar { .. }) = (harms::example(kind), &field.node.value) {
            let Effect::Links(harm) = harms::read(kind, &mut Fields::none(&field.path), field)? else {
                return Err(field.problem(format!("a {kind} is no fault of links")));
            };
            return Ok(Fault::links(self.grudge(field)?, harm));
        }
        let wanted = match harms::example(kind) {
            None => "a grudge or a map".to_owned(),
            Some(example) => format!("a map such as {{links: [[n1, n2]], {example}}}"),
        };
        let mut fields = field.fields(&wanted)?;
        let grudge = self.links(kind, &mut fields, field)?;
        let clients = fields.get("clients");
        let effect = harms::read(kind, &mut fields, field)?;
        fields.finish(&format!("a {kind}"))?;
        let sides = clients.as_ref().map_or(Ok(Sides::Stay), |clients| clients.choice(SIDES))?;
        match (clients, effect) {
            (Some(clients), _) if sides == Sides::Split && !grudge.has_sides() => {
                let message = format!("a {} {kind} has no sides to put client hosts on", grudge.name());
                Err(clients.problem(message).suggest("leave `clients` out"))
            }
            (_, Effect::Links(harm)) => Ok(Fault::Links { grudge, clients: sides, harm }),
            (_, Effect::Hosts(_)) => Err(field.problem(format!("a {kind} is no fault of links"))),
        }
    }

    fn fault_of_hosts(&self, kind: Kind, field: &Field<'_>) -> Result<Fault, Problem> {
        let (who, effect) = match (&field.node.value, harms::example(kind)) {
            (document::Value::Map(_), _) => {
                let mut fields = field.fields("whom to hit, or a map")?;
                let who = fields.get("who");
                let effect = harms::read(kind, &mut fields, field);
                // A key that we don't know is more likely the cause than a missing one.
                fields.finish(&format!("a {kind}"))?;
                let who = who.ok_or_else(|| {
                    let problem = field.problem(format!("{} doesn't say whom it hits", field.path));
                    problem.suggest("write `who: one` or `who: [n1, n2]`")
                })?;
                (who, effect?)
            }
            (_, Some(example)) => {
                let problem = field.problem(format!("{} doesn't say how much", field.path));
                return Err(problem.suggest(format!("write a map such as {{who: n1, {example}}}")));
            }
            (_, None) => (field.clone(), harms::read(kind, &mut Fields::none(&field.path), field)?),
        };
        let who = self.selector(&who, kind)?;
        match effect {
            Effect::Hosts(harm) => Ok(Fault::Hosts { who, harm }),
            Effect::Links(_) => Err(field.problem(format!("a {kind} is no fault of hosts"))),
        }
    }

    /// `grudge: …`, or `links: …` with `one_way: …`.
    fn links<'a>(&self, kind: Kind, fields: &mut Fields<'a>, owner: &Field<'a>) -> Result<Grudge, Problem> {
        let (named, links, one_way) = (fields.get("grudge"), fields.get("links"), fields.get("one_way"));
        let path = &owner.path;
        match (named, links) {
            (Some(_), Some(links)) => {
                Err(links.problem(format!("{path} has both `grudge` and `links`")).suggest("leave one out"))
            }
            (None, None) => {
                // A key that we don't know is more likely the cause than a missing one.
                fields.get("clients");
                let _ = harms::read(kind, fields, owner);
                fields.finish(&format!("a {kind}"))?;
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
        let kind = self.target.kind();
        let problem = field.problem(format!("`{what}` needs a node that leads, and in a {kind} target nobody does"));
        problem.suggest("choose nodes by name or number, such as one or minority")
    }

    /// Whom a fault of hosts hits: a selector's name, a host's name, or a list of hosts.
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
            if nodes_only(kind) && name.starts_with('c') {
                return Err(only_nodes(kind, host));
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
        if selector == Selector::Holder && !self.workload.plug.holds() {
            let message = format!(
                "`holder` is a client host that holds a lock, and the {} workload takes none",
                self.workload.kind()
            );
            return Err(field.problem(message).suggest(match self.holding {
                Some(holding) => format!("use the {holding} workload, or another selector"),
                None => "use another selector".into(),
            }));
        }
        if nodes_only(kind) && matches!(selector, Selector::Holder | Selector::Client) {
            return Err(only_nodes(kind, field));
        }
        Ok(selector)
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

/// Whether faults of this kind hit nodes only.
fn nodes_only(kind: Kind) -> bool {
    kind.typical().iter().any(|effect| matches!(effect, Effect::Hosts(harm) if harm.nodes_only()))
}

fn only_nodes(kind: Kind, field: &Field<'_>) -> Problem {
    let problem = field.problem(format!("a {kind} hits nodes only, not client hosts"));
    problem.suggest("client hosts can be paused, and their clocks skewed")
}

pub(crate) fn write_fault(fault: &Fault) -> Value {
    let keys = harms::write(&fault.effect());
    match fault {
        Fault::Hosts { who, harm: HostHarm::Kill | HostHarm::Stop } => write_selector(who),
        Fault::Hosts { who, .. } => map_of(std::iter::once(("who", write_selector(who))).chain(keys)),
        Fault::Links { grudge: Grudge::Links { links, one_way }, .. } => {
            map_of([("links", write_links(links)), ("one_way", (*one_way).into())].into_iter().chain(keys))
        }
        Fault::Links { grudge, clients, .. } => {
            map_of([("grudge", grudge.name().into()), ("clients", sides(*clients))].into_iter().chain(keys))
        }
    }
}

/// A fault as a map of its kind and what belongs to it, which [`Scenario::fault`](crate::Scenario::fault)
/// reads.
pub fn fault_to_yaml(fault: &Fault) -> Value {
    map_of([(fault.kind().name(), write_fault(fault))])
}

fn write_links(links: &[(Host, Host)]) -> Value {
    list(links.iter().map(|(from, to)| list([from.as_str().into(), to.as_str().into()])))
}

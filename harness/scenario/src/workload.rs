//! The workloads and what can be chosen about them.

use std::time::Duration;

use serde_yaml::Value;
use smol_str::SmolStr;

use crate::Target;
use crate::document::{self, Located};
use crate::error::Problem;
use crate::fields::{Field, Fields};
use crate::yaml::{map, optional, time};

/// What is asked of the target.
#[derive(Clone, Debug, PartialEq)]
pub enum Workload {
    /// Reads, writes and compare-and-sets of many keys.
    Register(Register),
    /// Locks around a resource.
    Lock(Lock),
    /// Adds of unique elements.
    Set(Set),
}

impl Workload {
    /// The workload's name: `register`, `lock`, `set`.
    pub fn kind(&self) -> &'static str {
        match self {
            Workload::Register(_) => "register",
            Workload::Lock(_) => "lock",
            Workload::Set(_) => "set",
        }
    }

    /// How many clients work side by side.
    pub fn concurrency(&self) -> u16 {
        match self {
            Workload::Register(register) => register.concurrency,
            Workload::Lock(lock) => lock.concurrency,
            Workload::Set(set) => set.concurrency,
        }
    }
}

/// Options of the `register` workload.
#[derive(Clone, Debug, PartialEq)]
pub struct Register {
    /// How many clients work side by side.
    pub concurrency: u16,
    /// Operations per second in all; as fast as possible if absent.
    pub rate: Option<f64>,
    /// Operations in all; as many as time allows if absent.
    pub ops: Option<u64>,
    /// Keys in use at a time.
    pub keys: u32,
    /// Operations on a key before it is replaced by a fresh one.
    pub ops_per_key: u32,
    /// What keys are called: this and a number.
    pub prefix: SmolStr,
    /// How often each kind of operation is chosen.
    pub mix: Mix,
}

/// Weights of the operations of the `register` workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    /// Weight of reads.
    pub read: u32,
    /// Weight of writes.
    pub write: u32,
    /// Weight of compare-and-sets; zero for targets that have none.
    pub cas: u32,
}

/// Options of the `lock` workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// How many clients work side by side.
    pub concurrency: u16,
    /// Operations in all; as many as time allows if absent.
    pub ops: Option<u64>,
    /// How many locks there are.
    pub locks: u32,
    /// How long a grant is good for.
    pub lease: Duration,
    /// How long a client keeps a lock, renewals included.
    pub hold: Duration,
    /// How long a client works between its check of the lease and its write to the resource.
    pub work: Duration,
    /// Whether the resource refuses tokens older than the newest it has seen.
    pub fencing: bool,
}

/// Options of the `set` workload.
#[derive(Clone, Debug, PartialEq)]
pub struct Set {
    /// How many clients work side by side.
    pub concurrency: u16,
    /// Operations per second in all; as fast as possible if absent.
    pub rate: Option<f64>,
    /// Elements in all.
    pub ops: u64,
}

const KINDS: &[(&str, &str)] = &[("register", "register"), ("lock", "lock"), ("set", "set")];

const MAX_CONCURRENCY: u64 = 1_000;
const MAX_OPS: u64 = 50_000_000;
/// Every node returns the whole set at the end.
const MAX_ELEMENTS: u64 = 100_000;

fn concurrency(fields: &mut Fields<'_>) -> Result<u16, Problem> {
    fields.get("concurrency").map_or(Ok(10), |field| field.integer(1..=MAX_CONCURRENCY).map(|n| n as u16))
}

fn rate(fields: &mut Fields<'_>, default: Option<f64>) -> Result<Option<f64>, Problem> {
    match fields.get("rate") {
        None => Ok(default),
        Some(field) => field.some().map(|field| field.number(0.01..=1_000_000.0)).transpose(),
    }
}

fn ops(fields: &mut Fields<'_>) -> Result<Option<u64>, Problem> {
    fields.get("ops").and_then(Field::some).map(|field| field.integer(1..=MAX_OPS)).transpose()
}

fn number(fields: &mut Fields<'_>, key: &'static str, most: u32, default: u32) -> Result<u32, Problem> {
    fields.get(key).map_or(Ok(default), |field| field.integer(1..=u64::from(most)).map(|n| n as u32))
}

/// No key's name needs to begin with more than this.
const MAX_PREFIX: usize = 16;

fn prefix(fields: &mut Fields<'_>) -> Result<SmolStr, Problem> {
    let Some(field) = fields.get("prefix") else { return Ok("r".into()) };
    let wanted = "1 to 16 letters, digits, `-` and `_`";
    let text = field.text(wanted)?;
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if text.is_empty() || text.len() > MAX_PREFIX || !text.chars().all(fits) {
        return Err(field.problem(format!("{} must be {wanted}, not {}", field.path, field.node.words())));
    }
    Ok(text.into())
}

impl Workload {
    pub(crate) fn read(field: Option<&Field<'_>>, target: &Target) -> Result<Workload, Problem> {
        let Some(field) = field else { return Workload::of_kind("register", Fields::none("workload"), target) };
        if let document::Value::Scalar { .. } = &field.node.value {
            let kind = field.choice(KINDS)?;
            let none = Located { place: field.node.place.clone(), value: document::Value::Map(Vec::new()) };
            let field = Field { node: &none, path: field.path.clone() };
            return Workload::of_kind(kind, field.fields("a map")?, target);
        }
        let mut fields = field.fields("the name of a workload or a map")?;
        let kind = fields.get("kind").map_or(Ok("register"), |kind| kind.choice(KINDS))?;
        Workload::of_kind(kind, fields, target)
    }

    fn of_kind(kind: &str, fields: Fields<'_>, target: &Target) -> Result<Workload, Problem> {
        match kind {
            "lock" => Ok(Workload::Lock(Lock::read(fields)?)),
            "set" => Ok(Workload::Set(Set::read(fields)?)),
            _ => Ok(Workload::Register(Register::read(fields, target)?)),
        }
    }

    pub(crate) fn write(&self) -> Value {
        match self {
            Workload::Register(register) => map([
                ("kind", "register".into()),
                ("concurrency", register.concurrency.into()),
                ("rate", optional(register.rate)),
                ("ops", optional(register.ops)),
                ("keys", register.keys.into()),
                ("ops_per_key", register.ops_per_key.into()),
                ("prefix", register.prefix.as_str().into()),
                ("mix", register.mix.write()),
            ]),
            Workload::Lock(lock) => map([
                ("kind", "lock".into()),
                ("concurrency", lock.concurrency.into()),
                ("ops", optional(lock.ops)),
                ("locks", lock.locks.into()),
                ("lease", time(lock.lease)),
                ("hold", time(lock.hold)),
                ("work", time(lock.work)),
                ("fencing", lock.fencing.into()),
            ]),
            Workload::Set(set) => map([
                ("kind", "set".into()),
                ("concurrency", set.concurrency.into()),
                ("rate", optional(set.rate)),
                ("ops", set.ops.into()),
            ]),
        }
    }
}

impl Register {
    fn read(mut fields: Fields<'_>, target: &Target) -> Result<Register, Problem> {
        let register = Register {
            concurrency: concurrency(&mut fields)?,
            rate: rate(&mut fields, None)?,
            ops: ops(&mut fields)?,
            keys: number(&mut fields, "keys", 10_000, 5)?,
            ops_per_key: number(&mut fields, "ops_per_key", 1_000, 150)?,
            prefix: prefix(&mut fields)?,
            mix: Mix::read(fields.get("mix"), target)?,
        };
        fields.finish("workload (register)")?;
        Ok(register)
    }
}

impl Mix {
    fn read(field: Option<Field<'_>>, target: &Target) -> Result<Mix, Problem> {
        let mut fields = match &field {
            None => Fields::none("workload.mix"),
            Some(field) => field.fields("a map of weights, such as {read: 50, write: 30, cas: 20}")?,
        };
        let mut weight = |key, default| fields.get(key).map_or(Ok(default), |f| f.integer(0..=1_000).map(|n| n as u32));
        // Whoever gives weights gives them all; what is left out is left out.
        let given = field.is_some();
        let default = |weight| if given { 0 } else { weight };
        let mix = Mix {
            read: weight("read", default(50))?,
            write: weight("write", default(30))?,
            cas: weight("cas", if target.has_cas() { default(20) } else { 0 })?,
        };
        fields.finish("workload.mix")?;
        if mix.cas > 0 && !target.has_cas() {
            let message =
                format!("workload.mix.cas is {}, but a {} target has no compare-and-set", mix.cas, target.kind());
            return Err(fields.problem("cas", message).suggest("set it to 0, or leave it out"));
        }
        if mix.read + mix.write + mix.cas == 0 {
            let problem = fields.problem("", "workload.mix has no weight above zero, so nothing would be done");
            return Err(problem.suggest("give one of read, write and cas a weight"));
        }
        Ok(mix)
    }

    fn write(self) -> Value {
        map([("read", self.read.into()), ("write", self.write.into()), ("cas", self.cas.into())])
    }
}

impl Lock {
    fn read(mut fields: Fields<'_>) -> Result<Lock, Problem> {
        let ms = Duration::from_millis;
        let minute = Duration::from_secs(60);
        let wait = |fields: &mut Fields<'_>, key, least, default| {
            fields.get(key).map_or(Ok(default), |field| field.duration(least..=minute))
        };
        let lease = wait(&mut fields, "lease", ms(50), ms(1_000))?;
        let lock = Lock {
            concurrency: concurrency(&mut fields)?,
            ops: ops(&mut fields)?,
            locks: number(&mut fields, "locks", 1_000, 1)?,
            lease,
            hold: wait(&mut fields, "hold", ms(1), lease.saturating_mul(2).min(minute))?,
            work: wait(&mut fields, "work", ms(1), (lease / 20).max(ms(1)))?,
            fencing: fields.get("fencing").map_or(Ok(true), |field| field.flag())?,
        };
        for absent in ["rate", "keys", "mix"] {
            if fields.has(absent) {
                let message = format!("the lock workload has no {absent}");
                return Err(fields
                    .problem(absent, message)
                    .suggest("its pace is set by workload.work, workload.hold and workload.concurrency"));
            }
        }
        fields.finish("workload (lock)")?;
        if lock.work * 2 >= lock.lease {
            let message = format!(
                "workload.work ({:?}) must be less than half of workload.lease ({:?}), or accesses overrun leases without any fault",
                lock.work, lock.lease
            );
            let blamed = if fields.has("work") { "work" } else { "lease" };
            return Err(fields.problem(blamed, message).suggest("make the work shorter or the lease longer"));
        }
        Ok(lock)
    }
}

impl Set {
    fn read(mut fields: Fields<'_>) -> Result<Set, Problem> {
        let set = Set {
            concurrency: concurrency(&mut fields)?,
            rate: rate(&mut fields, Some(300.0))?,
            ops: fields.get("ops").map_or(Ok(20_000), |field| field.integer(1..=MAX_ELEMENTS))?,
        };
        fields.finish("workload (set)")?;
        Ok(set)
    }
}

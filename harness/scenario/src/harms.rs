//! What faults do, and how much: the keys of a fault beside whom or what it hits.
//!
//! The same keys stand in a scripted fault, beside `links` or `who`, and in a plan, where they say
//! what its faults of that kind do.

use std::time::Duration;

use duress_fault::{Checksum, ClockChange, Clocks, DiskHarm, Effect, HostHarm, Kind, LinkHarm, Nanos, Shape, Share};
use duress_plug::duration;
use serde_yaml::Value;

use crate::document;
use crate::error::Problem;
use crate::fields::{Field, Fields};
use crate::yaml::time;

const MAX_DELAY: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const MS: Duration = Duration::from_millis(1);
/// No clock is set by more, in either direction.
const MAX_JUMP: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

const SHAPES: &[(&str, Shape)] =
    &[("constant", Shape::Constant), ("uniform", Shape::Uniform), ("normal", Shape::Normal), ("pareto", Shape::Pareto)];
const CHECKSUMS: &[(&str, Checksum)] = &[("wrong", Checksum::Wrong), ("right", Checksum::Right)];
const CLOCKS: &[(&str, Clocks)] = &[("wall", Clocks::Wall), ("monotonic", Clocks::Monotonic), ("all", Clocks::All)];

/// An example of the keys of a kind that needs some; nothing if it needs none.
pub(crate) fn example(kind: Kind) -> Option<&'static str> {
    Some(match kind {
        Kind::Delay => "by: 100ms",
        Kind::Loss | Kind::Duplicate | Kind::Corrupt => "share: 5%",
        Kind::Reorder => "share: 5%, by: 10ms",
        Kind::Bandwidth => "rate: 1mbit",
        Kind::BlackHole => "above: 576",
        Kind::Flap => "every: 200ms",
        Kind::Slow => "share: 10%",
        Kind::CrashLoop => "every: 20ms",
        Kind::Memory => "headroom: 1MB",
        Kind::Descriptors => "spare: 1",
        Kind::ClockJump => "by: -500ms",
        Kind::ClockRate => "by: 500ppm",
        Kind::ClockStrobe => "by: 200ms, every: 10ms",
        Kind::SlowDisk => "by: 20ms",
        _ => return None,
    })
}

/// Reads what a fault of this kind does; `owner` is the map that the fields are of.
pub(crate) fn read<'a>(kind: Kind, fields: &mut Fields<'a>, owner: &Field<'a>) -> Result<Effect, Problem> {
    let mut keys = Keys { kind, fields, owner };
    let us = Duration::from_micros(1);
    Ok(match kind {
        Kind::Partition => Effect::Links(LinkHarm::Cut),
        Kind::Reset => Effect::Links(LinkHarm::Reset),
        Kind::Delay => Effect::Links(keys.delay()?),
        Kind::Loss => Effect::Links(LinkHarm::Loss(keys.share()?)),
        Kind::Duplicate => Effect::Links(LinkHarm::Duplicate(keys.share()?)),
        Kind::Reorder => {
            let (share, by) = (keys.share()?, keys.must("by")?);
            Effect::Links(LinkHarm::Reorder { share, by: by.duration(us..=MAX_DELAY)? })
        }
        Kind::Corrupt => {
            let (share, checksum) = (keys.share()?, keys.fields.get("checksum"));
            let checksum = checksum.map_or(Ok(Checksum::Wrong), |field| field.choice(CHECKSUMS))?;
            Effect::Links(LinkHarm::Corrupt { share, checksum })
        }
        Kind::Bandwidth => Effect::Links(LinkHarm::Bandwidth { rate: bits(&keys.must("rate")?)? }),
        Kind::BlackHole => {
            Effect::Links(LinkHarm::BlackHole { above: keys.must("above")?.integer(100..=65_000)? as u32 })
        }
        Kind::Flap => Effect::Links(LinkHarm::Flap { every: keys.must("every")?.duration(MS..=HOUR)? }),
        Kind::Crash => Effect::Hosts(HostHarm::Kill),
        Kind::Pause => Effect::Hosts(HostHarm::Stop),
        Kind::NewAddress => Effect::Hosts(HostHarm::NewAddress),
        Kind::Slow => Effect::Hosts(HostHarm::Slow(keys.share()?)),
        Kind::CrashLoop => Effect::Hosts(HostHarm::CrashLoop { every: keys.must("every")?.duration(MS..=HOUR)? }),
        Kind::Memory => Effect::Hosts(HostHarm::Memory { headroom: bytes(&keys.must("headroom")?)? }),
        Kind::Descriptors => {
            Effect::Hosts(HostHarm::Descriptors { spare: keys.must("spare")?.integer(0..=1_000_000)? as u32 })
        }
        Kind::ClockJump => {
            let by = signed(&keys.must("by")?)?;
            keys.clock(ClockChange::Jump(by))?
        }
        Kind::ClockRate => {
            let by = rate(&keys.must("by")?)?;
            keys.clock(ClockChange::Rate(by))?
        }
        Kind::ClockStrobe => {
            let (by, every) = (signed(&keys.must("by")?)?, keys.must("every")?.duration(MS..=HOUR)?);
            keys.clock(ClockChange::Strobe { by, every })?
        }
        Kind::ClockFreeze => keys.clock(ClockChange::Freeze)?,
        Kind::PowerLoss => {
            let torn = keys.fields.get("torn").map_or(Ok(false), |field| field.flag())?;
            Effect::Hosts(HostHarm::PowerLoss { torn })
        }
        Kind::SlowDisk => disk(DiskHarm::Slow(keys.must("by")?.duration(MS..=MAX_DELAY)?)),
        Kind::FullDisk => disk(DiskHarm::Full),
        Kind::ReadOnlyDisk => disk(DiskHarm::ReadOnly),
        Kind::SyncFails => disk(DiskHarm::SyncFails),
        Kind::SyncLies => disk(DiskHarm::SyncLies),
        Kind::BitFlip => disk(DiskHarm::BitFlip),
        Kind::ReadError => disk(DiskHarm::ReadError),
    })
}

fn disk(harm: DiskHarm) -> Effect {
    Effect::Hosts(HostHarm::Disk(harm))
}

struct Keys<'k, 'f> {
    kind: Kind,
    fields: &'k mut Fields<'f>,
    owner: &'k Field<'f>,
}

impl<'f> Keys<'_, 'f> {
    fn must(&mut self, key: &'static str) -> Result<Field<'f>, Problem> {
        self.fields.get(key).ok_or_else(|| {
            let problem = self.owner.problem(format!("{} doesn't say `{key}`", self.owner.path));
            problem.suggest(format!("write `{}`", example(self.kind).unwrap_or(key)))
        })
    }

    fn share(&mut self) -> Result<Share, Problem> {
        let field = self.must("share")?;
        let wanted = "a share such as 5% or 0.05";
        let text = field.text(wanted)?;
        let number = match text.strip_suffix('%') {
            Some(percent) => percent.trim_end().parse::<f64>().map(|percent| percent / 100.0),
            None => text.parse::<f64>(),
        };
        let ppm = number.ok().map(|share| (share * 1e6).round()).filter(|ppm| (1.0..=1e6).contains(ppm));
        ppm.map(|ppm| Share::ppm(ppm as u32)).ok_or_else(|| {
            field.problem(format!("{} must be {wanted}, from 0.0001% to 100%, not {}", field.path, field.node.words()))
        })
    }

    fn delay(&mut self) -> Result<LinkHarm, Problem> {
        let by = self.must("by")?.duration(MS..=MAX_DELAY)?;
        let (jitter, shape) = (self.fields.get("jitter"), self.fields.get("shape"));
        match (jitter, shape) {
            (None, None) => Ok(LinkHarm::Delay { by, jitter: Duration::ZERO, shape: Shape::Constant }),
            (Some(jitter), shape) => {
                let shape = shape.map_or(Ok(Shape::Uniform), |field| field.choice(SHAPES))?;
                let time = jitter.duration(Duration::ZERO..=MAX_DELAY)?;
                if (shape == Shape::Constant) != time.is_zero() {
                    let problem = jitter.problem(format!("{} and a constant shape don't go together", jitter.path));
                    return Err(problem.suggest("leave both out, or choose uniform, normal or pareto"));
                }
                if shape == Shape::Uniform && time > by {
                    let problem = jitter.problem(format!("{} must not be more than `by`", jitter.path));
                    return Err(problem.suggest("no frame arrives before it was sent"));
                }
                Ok(LinkHarm::Delay { by, jitter: time, shape })
            }
            (None, Some(shape)) => match shape.choice(SHAPES)? {
                Shape::Constant => Ok(LinkHarm::Delay { by, jitter: Duration::ZERO, shape: Shape::Constant }),
                _ => Err(shape.problem("this shape needs `jitter`").suggest("write `jitter: 20ms`")),
            },
        }
    }

    fn clock(&mut self, change: ClockChange) -> Result<Effect, Problem> {
        let field = self.fields.get("clocks");
        let clocks = field.as_ref().map_or(Ok(Clocks::Wall), |field| field.choice(CLOCKS))?;
        let back = match change {
            ClockChange::Jump(by) | ClockChange::Strobe { by, .. } => by < 0,
            ClockChange::Rate(_) | ClockChange::Freeze => false,
        };
        // A strobe goes back every time.
        let back = back || matches!(change, ClockChange::Strobe { .. });
        match field {
            Some(field) if back && clocks != Clocks::Wall => {
                let problem = field.problem("monotonic clocks never run backwards");
                Err(problem.suggest("let them jump ahead, or say `clocks: wall`"))
            }
            _ => Ok(Effect::Hosts(HostHarm::Clock { clocks, change })),
        }
    }
}

/// A time with a sign, in nanoseconds.
fn signed(field: &Field<'_>) -> Result<Nanos, Problem> {
    let wanted = "a time such as 500ms or -2s, within ten years";
    let text = field.text(wanted)?;
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let time = duration::parse(rest).filter(|time| *time <= MAX_JUMP && time.as_micros() > 0);
    let nanos = time.and_then(|time| Nanos::try_from(time.as_micros() * 1_000).ok());
    nanos.map(|nanos| sign * nanos).ok_or_else(|| field.mismatch(wanted))
}

/// By how much a clock runs fast: `500ppm`, `-200ppm`, `1.05x`. In parts per million.
fn rate(field: &Field<'_>) -> Result<i32, Problem> {
    let wanted = "a rate such as 500ppm, -200ppm or 1.05x, from half to double speed";
    let text = field.text(wanted)?;
    let ppm = match (text.strip_suffix("ppm"), text.strip_suffix('x')) {
        (Some(ppm), _) => ppm.trim_end().parse::<f64>().ok(),
        (_, Some(times)) => times.trim_end().parse::<f64>().ok().map(|times| (times - 1.0) * 1e6),
        _ => None,
    };
    let ppm = ppm.map(f64::round).filter(|ppm| (-500_000.0..=1_000_000.0).contains(ppm) && *ppm != 0.0);
    ppm.map(|ppm| ppm as i32).ok_or_else(|| field.mismatch(wanted))
}

/// Splits a number from its unit.
fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let split = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(split);
    let (_, scale) = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    number.trim_end().parse::<u64>().ok()?.checked_mul(*scale)
}

const BITS: &[(&str, u64)] = &[("gbit", 1_000_000_000), ("mbit", 1_000_000), ("kbit", 1_000), ("bit", 1)];
const BYTES: &[(&str, u64)] = &[("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10), ("B", 1)];

/// Bits per second.
fn bits(field: &Field<'_>) -> Result<u64, Problem> {
    let wanted = "a rate a second such as 1mbit or 64kbit, from 8kbit to 100gbit";
    let rate = with_unit(field.text(wanted)?, BITS).filter(|rate| (8_000..=100_000_000_000).contains(rate));
    rate.ok_or_else(|| field.mismatch(wanted))
}

fn bytes(field: &Field<'_>) -> Result<u64, Problem> {
    let wanted = "a size such as 512KB or 8MB, up to 64GB";
    let size = with_unit(field.text(wanted)?, BYTES).filter(|size| *size <= 64 << 30);
    size.ok_or_else(|| field.mismatch(wanted))
}

/// What a fault does, for a plan: a map of its keys; of a delay also just `by`.
pub(crate) fn measure(kind: Kind, field: &Field<'_>) -> Result<Effect, Problem> {
    if let (Kind::Delay, document::Value::Scalar { .. }) = (kind, &field.node.value) {
        let by = field.duration(MS..=MAX_DELAY)?;
        return Ok(Effect::Links(LinkHarm::Delay { by, jitter: Duration::ZERO, shape: Shape::Constant }));
    }
    let wanted = format!("a map such as {{{}}}", example(kind).unwrap_or(""));
    let mut fields = field.fields(&wanted)?;
    let effect = read(kind, &mut fields, field)?;
    fields.finish(&format!("a {kind}"))?;
    Ok(effect)
}

fn name_of<T: PartialEq>(names: &[(&'static str, T)], value: &T) -> Value {
    names.iter().find(|(_, other)| other == value).map_or(Value::Null, |(name, _)| Value::from(*name))
}

fn unit(value: u64, units: &[(&str, u64)]) -> Value {
    let fits = units.iter().find(|(_, scale)| value > 0 && value.is_multiple_of(*scale));
    fits.map_or_else(
        || Value::from(format!("0{}", units[units.len() - 1].0)),
        |(name, scale)| Value::from(format!("{}{name}", value / scale)),
    )
}

fn write_signed(nanos: Nanos) -> Value {
    let sign = if nanos < 0 { "-" } else { "" };
    Value::from(format!("{sign}{}", duration::format(Duration::from_nanos(nanos.unsigned_abs()))))
}

/// The keys of what a fault does.
pub(crate) fn write(effect: &Effect) -> Vec<(&'static str, Value)> {
    let share = |share: Share| ("share", Value::from(share.to_string()));
    match effect {
        Effect::Links(harm) => match harm {
            LinkHarm::Cut | LinkHarm::Reset => Vec::new(),
            LinkHarm::Delay { by, shape: Shape::Constant, .. } => vec![("by", time(*by))],
            LinkHarm::Delay { by, jitter, shape } => {
                vec![("by", time(*by)), ("jitter", time(*jitter)), ("shape", name_of(SHAPES, shape))]
            }
            LinkHarm::Loss(of) | LinkHarm::Duplicate(of) => vec![share(*of)],
            LinkHarm::Reorder { share: of, by } => vec![share(*of), ("by", time(*by))],
            LinkHarm::Corrupt { share: of, checksum } => vec![share(*of), ("checksum", name_of(CHECKSUMS, checksum))],
            LinkHarm::Bandwidth { rate } => vec![("rate", unit(*rate, BITS))],
            LinkHarm::BlackHole { above } => vec![("above", (*above).into())],
            LinkHarm::Flap { every } => vec![("every", time(*every))],
        },
        Effect::Hosts(harm) => match harm {
            HostHarm::Kill | HostHarm::Stop | HostHarm::NewAddress => Vec::new(),
            HostHarm::Slow(of) => vec![share(*of)],
            HostHarm::CrashLoop { every } => vec![("every", time(*every))],
            HostHarm::Memory { headroom } => vec![("headroom", unit(*headroom, BYTES))],
            HostHarm::Descriptors { spare } => vec![("spare", (*spare).into())],
            HostHarm::Clock { clocks, change } => {
                let mut keys = match change {
                    ClockChange::Jump(by) => vec![("by", write_signed(*by))],
                    ClockChange::Rate(ppm) => vec![("by", Value::from(format!("{ppm}ppm")))],
                    ClockChange::Strobe { by, every } => vec![("by", write_signed(*by)), ("every", time(*every))],
                    ClockChange::Freeze => Vec::new(),
                };
                keys.push(("clocks", name_of(CLOCKS, clocks)));
                keys
            }
            HostHarm::PowerLoss { torn } => vec![("torn", (*torn).into())],
            HostHarm::Disk(DiskHarm::Slow(by)) => vec![("by", time(*by))],
            HostHarm::Disk(_) => Vec::new(),
        },
    }
}

//! Drawing runs from a scenario, each different from the others.
//!
//! A hunt is a *swarm* (A. Groce et al., "Swarm testing", ISSTA 2012): every run leaves out some
//! of what could be done and does the rest in its own measure, because a run that does everything
//! at once seldom gets into the corners. Runs are short: about 60 to 300 operations.
//!
//! The scenario bounds what is drawn. Its target is taken as it is; there are at most as many
//! clients, keys and client hosts; only its kinds of faults are used, plus, where it has crashes,
//! what a real machine's crash brings with it (power loss, slow disks). Scripted faults are kept,
//! all of them, but their pace is drawn.

use std::collections::BTreeMap;
use std::time::Duration;

use duress_fault::{
    ClockChange, Clocks, DiskHarm, Effect, Fault, HostHarm, Kind, LinkHarm, Nanos, Plan, Selector, Share, Sides, Timed,
    Trigger,
};
use duress_scenario::{Faults, Heal, Scenario, Target};
use duress_seed::{Decision, Seed};
use duress_sim::{Crash, Latency, Transport};

use crate::Case;

/// The kinds of faults that a hunt of this scenario uses beside the scenario's own unless told
/// otherwise: no more than those imply. Clocks are left alone, because some settings promise nothing
/// without them; but leases say how well they need them to run.
pub fn implied(scenario: &Scenario) -> Vec<Kind> {
    let mut extras = implied_by_faults(&scenario.faults);
    if scenario.faults != Faults::None && lease_drift(&scenario.target).is_some() {
        extras.push(Kind::ClockRate);
    }
    extras
}

fn implied_by_faults(faults: &Faults) -> Vec<Kind> {
    match faults {
        // Extra faults may come on top of others.
        Faults::Planned(plan) if plan.keep_majority => vec![Kind::Slow],
        Faults::Planned(plan) if plan.kinds.contains(&Kind::Crash) => vec![Kind::PowerLoss, Kind::SlowDisk, Kind::Slow],
        Faults::Planned(plan) if !plan.kinds.is_empty() => vec![Kind::Slow],
        _ => Vec::new(),
    }
}

/// What a decision is about; the first word of its key.
mod about {
    pub(super) const SIZE: u64 = 1;
    pub(super) const PACE: u64 = 2;
    pub(super) const KINDS: u64 = 3;
    pub(super) const GRUDGES: u64 = 4;
    pub(super) const CRASHES: u64 = 5;
    pub(super) const PAUSES: u64 = 6;
    pub(super) const FAULTS: u64 = 7;
    pub(super) const EXTRAS: u64 = 8;
    pub(super) const NETWORK: u64 = 9;
    pub(super) const DISK: u64 = 10;
    pub(super) const SCRIPT: u64 = 11;
    pub(super) const HEAL: u64 = 12;
    pub(super) const WHO: u64 = 13;
}

/// No hunted run is longer than this many events, 50 times what an ordinary one takes.
const MAX_EVENTS: u64 = 2_000_000;
/// Extra faults are numbered from here, so that they never share decisions with the others.
const EXTRA_NUMBERS: u64 = 1_000;

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// To the microsecond, which is what scenario files hold.
fn round(duration: Duration) -> Duration {
    Duration::from_micros(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

struct Draw {
    seed: Seed,
}

impl Draw {
    fn decide(&self, about: u64, what: u64) -> Decision {
        self.seed.decide(&[about, what])
    }

    /// From 1 to `most`: all of them half the time.
    fn some(&self, about: u64, what: u64, least: u64, most: u64) -> u64 {
        if most <= least || self.decide(about, what).chance(0.5) {
            return most;
        }
        least + self.decide(about, what + 1_000).below(most - least + 1)
    }

    /// A duration on a logarithmic scale: short ones are as likely as long ones.
    fn scale(&self, about: u64, what: u64, low: Duration, high: Duration) -> Duration {
        let ratio = high.as_secs_f64() / low.as_secs_f64().max(1e-9);
        round(low.mul_f64(self.decide(about, what).log_uniform(1.0, ratio)))
    }

    /// Some of these, at least one if there is any; each is left out half the time.
    fn subset<T: Clone>(&self, about: u64, of: &[T]) -> Vec<T> {
        let kept: Vec<T> = (0u64..)
            .zip(of)
            .filter(|(at, _)| self.decide(about, *at).chance(0.5))
            .map(|(_, one)| one.clone())
            .collect();
        if !kept.is_empty() {
            return kept;
        }
        self.decide(about, 1_000).pick(of).cloned().into_iter().collect()
    }
}

/// How long the target waits before it takes a silent node for dead: faults much shorter than
/// this are not noticed.
fn notice(target: &Target) -> Duration {
    target.facts().notice
}

/// By how many parts per million the rates of two clocks may differ for the target's leases.
fn lease_drift(target: &Target) -> Option<u32> {
    target.facts().clock_drift_ppm
}

/// Clocks run at a rate that is wrong by at most this many parts per million: what the target says
/// that it can stand, or 5 %.
fn wrong_rate(target: &Target) -> u32 {
    lease_drift(target).unwrap_or(50_000).min(500_000)
}

/// Where every message or sync takes longer than this, elections or calls may fail for ever, and only
/// the timeouts that the scenario chose are to blame.
fn bearable(target: &Target) -> Duration {
    (notice(target) / 4).min(target.attempt_timeout() / 8)
}

/// The run that `seed` draws from a scenario, with these extra kinds of faults.
pub fn draw(scenario: &Scenario, extras: &[Kind], seed: Seed) -> Case {
    let draw = Draw { seed: seed.derive("swarm") };
    let mut case = Case::of(&Scenario { seed: Some(seed.0), ..scenario.clone() });
    case.max_events = MAX_EVENTS;
    let own_pace = scenario.workload.has_own_pace();
    case.scenario.clients = draw.some(about::SIZE, 0, 1, u64::from(scenario.clients)) as u16;
    let hosts = scripted_clients(&scenario.faults).max(1);
    case.scenario.clients = case.scenario.clients.max(hosts.min(scenario.clients));
    let pace = match &scenario.faults {
        Faults::Scripted(_) => {
            // What a workload of its own pace waits for, as leases, doesn't change with the pace, so it
            // keeps the pace it was given.
            let pace = if own_pace { 1.0 } else { 1.0 / (2.0 + 6.0 * draw.decide(about::PACE, 0).unit()) };
            pace.max(1.0 / scenario.time.as_secs_f64()).min(1.0)
        }
        // A second or more, as the scenario allows.
        _ => {
            (1.0 + 3.0 * draw.decide(about::PACE, 0).unit()).min(scenario.time.as_secs_f64())
                / scenario.time.as_secs_f64()
        }
    };
    let pace = if own_pace && pace < 1.0 { (4.0 * pace).min(1.0) } else { pace };
    case.scenario.time = round(scenario.time.mul_f64(pace)).max(Duration::from_secs(1)).min(scenario.time);
    let operations = 60 + draw.decide(about::SIZE, 2).below(241);
    size_workload(&mut case.scenario, &draw, operations);
    case.schedule = match &scenario.faults {
        Faults::None => Vec::new(),
        Faults::Scripted(faults) => script(faults, (pace, operations), &case.scenario, &draw),
        Faults::Planned(plan) => planned(plan, &case.scenario, &draw),
    };
    if case.scenario.limits.heal.is_none() && scenario.target.quorum().is_some() {
        let quorum = draw.decide(about::HEAL, 0).chance(0.5);
        case.scenario.limits.heal = Some(if quorum { Heal::Quorum } else { Heal::All });
    }
    case.schedule.extend(extra(extras, &case.scenario, &draw));
    case.schedule.sort_by_key(|timed| (timed.at, timed.number));
    network(&mut case, &draw);
    if extras.contains(&Kind::PowerLoss) && draw.decide(about::DISK, 0).chance(0.5) {
        case.disk.crash =
            draw.decide(about::DISK, 3).pick(&[Crash::Either, Crash::Power]).copied().unwrap_or(Crash::Either);
    }
    if draw.decide(about::DISK, 1).chance(0.3) {
        let slowest = draw.scale(about::DISK, 2, ms(2), ms(40)).min(bearable(&case.scenario.target));
        case.disk.sync = Latency::between(ms(1).min(slowest), slowest);
    }
    case
}

/// The highest client host that a script names.
fn scripted_clients(faults: &Faults) -> u16 {
    let Faults::Scripted(faults) = faults else { return 0 };
    let number = |host: &duress_fault::Host| host.strip_prefix('c').and_then(|n| n.parse().ok()).unwrap_or(0);
    let of = |timed: &Timed| {
        let links = match timed.fault.grudge() {
            Some(duress_fault::Grudge::Links { links, .. }) => {
                links.iter().flat_map(|(from, to)| [number(from), number(to)]).max()
            }
            _ => None,
        };
        let names = match timed.fault.selector() {
            Some(Selector::Names(names)) => names.iter().map(number).max(),
            _ => None,
        };
        links.max(names).unwrap_or(0)
    };
    faults.iter().map(of).max().unwrap_or(0)
}

fn size_workload(scenario: &mut Scenario, draw: &Draw, operations: u64) {
    let time = scenario.time.as_secs_f64();
    let clients = u64::from(scenario.clients);
    let some = |what, most: u64| draw.some(about::SIZE, what, 2.min(most), most);
    // Fewer processes than client hosts would leave hosts without any.
    let processes = |most: u16| (some(10, u64::from(most).min(16)).max(clients).min(u64::from(most))) as u16;
    let rate = (operations as f64 / time).ceil();
    let workload = &mut scenario.workload;
    workload.set_concurrency(processes(workload.concurrency()));
    for (at, (name, count)) in (0u64..).zip(workload.few()) {
        workload.set_within(name, draw.some(about::SIZE, 12 + 10_000 * at, 1, count.min(4)));
    }
    if workload.has_own_pace() {
        workload.limit_ops(operations * 2);
    } else {
        workload.set_rate(Some(workload.rate().map_or(rate, |asked| asked.min(rate))));
        workload.limit_ops(operations);
    }
}

/// The scripted faults at another pace. None is made so short that it can't be noticed.
fn script(faults: &[Timed], (pace, operations): (f64, u64), scenario: &Scenario, draw: &Draw) -> Vec<Timed> {
    let noticed = notice(&scenario.target).mul_f64(1.0 + 3.0 * draw.decide(about::SCRIPT, 0).unit());
    let timed = faults.iter().map(|fault| {
        let mut timed = fault.clone();
        match &mut timed.when {
            // How long after something the target does has nothing to do with the pace of the run.
            Some(Trigger::Becomes { .. }) => {}
            // A hunted run is shorter than the scenario's.
            Some(Trigger::Operations(count)) => {
                let share = draw.decide(about::SCRIPT, fault.number);
                *count = (*count).min(1 + share.below(operations * 3 / 4));
            }
            _ => timed.at = round(fault.at.mul_f64(pace)),
        }
        timed.lasts = round(fault.lasts.mul_f64(pace).max(noticed.min(fault.lasts)));
        timed
    });
    timed.collect()
}

fn planned(plan: &Plan, scenario: &Scenario, draw: &Draw) -> Vec<Timed> {
    let notice = notice(&scenario.target);
    let kinds = draw.subset(about::KINDS, &plan.kinds);
    let interval = draw.scale(about::FAULTS, 0, ms(150), (scenario.time / 2).max(ms(200)));
    // From too short to be noticed to long enough for a change of leaders and more.
    let duration = draw.scale(about::FAULTS, 1, ms(20), notice * 4).min(interval.mul_f64(0.8) * plan.overlap.max(1));
    let split = plan.clients == Sides::Split || draw.decide(about::FAULTS, 2).chance(0.25);
    let drawn = Plan {
        interval,
        duration,
        overlap: plan.overlap,
        keep_majority: plan.keep_majority,
        grudges: draw.subset(about::GRUDGES, &plan.grudges),
        clients: if split { Sides::Split } else { Sides::Stay },
        crash: draw.subset(about::CRASHES, &plan.crash),
        pause: draw.subset(about::PAUSES, &plan.pause),
        who: draw.subset(about::WHO, &plan.who),
        measures: measures(plan, draw),
        kinds,
    };
    let schedule = drawn.schedule(draw.seed.derive("schedule"), scenario.time);
    schedule
        .faults()
        .iter()
        .map(|fault| {
            let mut timed = fault.clone();
            (timed.at, timed.lasts) = (round(timed.at), round(timed.lasts).max(ms(1)));
            timed
        })
        .collect()
}

/// What the faults of a plan do: what it says, but delays of any size up to that.
fn measures(plan: &Plan, draw: &Draw) -> BTreeMap<Kind, Vec<Effect>> {
    let mut measures = plan.measures.clone();
    if plan.kinds.contains(&Kind::Delay) {
        for effect in measures.entry(Kind::Delay).or_insert_with(|| Kind::Delay.typical()) {
            if let Effect::Links(LinkHarm::Delay { by, jitter, .. }) = effect {
                *by = draw.scale(about::FAULTS, 3, ms(5), (*by).max(ms(10)));
                *jitter = (*jitter).min(*by);
            }
        }
    }
    measures
}

fn extra(extras: &[Kind], scenario: &Scenario, draw: &Draw) -> Vec<Timed> {
    if extras.is_empty() || draw.decide(about::EXTRAS, 0).chance(0.4) {
        return Vec::new();
    }
    let kinds = draw.subset(about::EXTRAS, extras);
    let count = 1 + draw.decide(about::EXTRAS, 2_000).below(4);
    let faults = (0..count).filter_map(|number| {
        let decide = |what: u64| draw.decide(about::EXTRAS, 3_000 + number * 10 + what);
        let who = [Selector::One, Selector::Minority, Selector::Majority, Selector::All];
        let who = decide(0).pick(&who)?.clone();
        let by = draw.scale(about::EXTRAS, 3_000 + number * 10 + 1, ms(1), ms(50));
        let kind = *decide(2).pick(&kinds)?;
        let effect = match kind {
            Kind::SlowDisk => Effect::Hosts(HostHarm::Disk(DiskHarm::Slow(by))),
            Kind::ClockJump => {
                let by = Nanos::try_from((by * 60).as_nanos()).unwrap_or(Nanos::MAX);
                let by = if decide(3).chance(0.5) { -by } else { by };
                Effect::Hosts(HostHarm::Clock { clocks: Clocks::Wall, change: ClockChange::Jump(by) })
            }
            Kind::ClockRate => {
                let ppm = rate(decide(4), &scenario.target);
                Effect::Hosts(HostHarm::Clock { clocks: Clocks::All, change: ClockChange::Rate(ppm) })
            }
            Kind::Slow => Effect::Hosts(HostHarm::Slow(Share::percent(2 + decide(4).below(60) as u32))),
            other => *decide(4).pick(&other.typical())?,
        };
        let fault = match effect {
            Effect::Hosts(harm) => Fault::Hosts { who, harm },
            Effect::Links(harm) => {
                let fit = Plan::default().fit(scenario.target.nodes().into(), scenario.target.leads());
                Fault::links(decide(7).pick(&fit.grudges)?.clone(), harm)
            }
        };
        let lasts = draw.scale(about::EXTRAS, 3_000 + number * 10 + 5, ms(10), notice(&scenario.target) * 3);
        // A clock that is wrong stays wrong.
        let lasts = if kind == Kind::ClockRate { scenario.time } else { lasts };
        let latest = scenario.time.saturating_sub(lasts);
        let at = round(decide(6).between(Duration::ZERO, latest));
        Some(Timed { number: EXTRA_NUMBERS + number, at, lasts, fault, when: None })
    });
    let mut faults: Vec<Timed> = faults.collect();
    // Two wrong rates may differ by more than each is wrong by.
    let mut rates = 0;
    faults.retain(|timed| {
        let rate = timed.fault.kind() == Kind::ClockRate;
        rates += u32::from(rate);
        !rate || rates == 1
    });
    faults
}

/// A clock's rate, wrong by as much as may be half the time.
fn rate(decision: Decision, target: &Target) -> i32 {
    let most = i64::from(wrong_rate(target));
    let ppm = decision.below(4 * most as u64 + 1) as i64 - 2 * most;
    ppm.clamp(-most, most) as i32
}

fn network(case: &mut Case, draw: &Draw) {
    let decide = |what| draw.decide(about::NETWORK, what);
    if decide(4).chance(0.3) {
        case.network.spread = 1.0 + (decide(5).unit() * 40.0).floor() / 10.0;
    }
    let slowest = round(bearable(&case.scenario.target).div_f64(case.network.spread.max(1.0)));
    let fast = draw.scale(about::NETWORK, 0, Duration::from_micros(100), ms(4)).min(slowest);
    let slow = draw.scale(about::NETWORK, 1, fast.max(ms(1)), ms(12)).min(slowest);
    case.network.latency = Latency::between(fast, slow.max(fast));
    if decide(2).chance(0.3) {
        case.network.latency.spikes = 0.01;
        case.network.latency.spike = draw.scale(about::NETWORK, 3, ms(5), ms(60));
    }
    if decide(6).chance(0.3) {
        case.network.loss = 0.001 * (1 + decide(7).below(30)) as f64;
    }
    if decide(8).chance(0.2) {
        case.network.transport = Transport::Datagram;
        case.network.duplicate = decide(9).pick(&[0.0, 0.01, 0.05, 0.3]).copied().unwrap_or_default();
        case.network.reorder = 0.01 * decide(10).below(11) as f64;
    }
}

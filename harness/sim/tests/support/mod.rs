//! The bundled service, run in the simulator and judged.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::allow_attributes,
    reason = "each test file and the benchmark use their part of it"
)]

use std::time::Duration;

use duress_checkers::{Budget, Results, Run, Verdict, check_all};
use duress_fault::{
    ClockChange, Clocks, DiskHarm, Effect, Fault, Grudge, HostHarm, Kind, LinkHarm, Plan, Selector, Shape, Share, Sides,
};
use duress_history::{Op, Outcome, Process, Ret, Value};
use duress_kv::{api, paxos, primary_backup, quorum};
use duress_machine::Machine;
use duress_machine::client::{self, Policy};
use duress_seed::Seed;
use duress_sim::{Done, Ended, Service, SimPlan, SimRun, Timed, World};
use duress_workloads::{Chosen, Generator, Size, register};
use smol_str::{SmolStr, ToSmolStr, format_smolstr};

const SET: &str = "set/";

/// A machine of the bundled service.
pub trait Bundled: Machine<Request = api::Request, Response = api::Response> {}
impl<M: Machine<Request = api::Request, Response = api::Response>> Bundled for M {}

/// The bundled service's clients.
#[derive(Clone, Debug)]
pub struct Kv {
    pub policy: Policy,
    pub sticky: bool,
    pub has_log: bool,
}

impl Kv {
    pub fn logged() -> Kv {
        Kv { policy: policy(true), sticky: true, has_log: true }
    }

    pub fn quorum() -> Kv {
        Kv { policy: policy(false), sticky: false, has_log: false }
    }
}

fn policy(exactly_once: bool) -> Policy {
    Policy {
        timeout: Duration::from_secs(2),
        attempt_timeout: Duration::from_millis(if exactly_once { 500 } else { 1500 }),
        max_attempts: 100,
        backoff: Duration::from_millis(20),
        exactly_once,
        roam: true,
    }
}

fn text(value: &Value) -> Option<SmolStr> {
    match value {
        Value::Nil => None,
        Value::Int(number) => Some(number.to_smolstr()),
        Value::Text(text) => Some(text.clone()),
    }
}

fn value(stored: Option<&SmolStr>) -> Value {
    match stored {
        None => Value::Nil,
        Some(text) => text.parse().map_or_else(|_| Value::Text(text.clone()), Value::Int),
    }
}

fn ret(reply: &api::Reply, op: &Op) -> Ret {
    match (reply, op) {
        (api::Reply::Value(stored), Op::Read { .. }) => Ret::Value(value(stored.as_ref())),
        (api::Reply::Entries(entries), Op::Elements) => {
            let element = |(key, _): &(SmolStr, SmolStr)| key.strip_prefix(SET).unwrap().parse().unwrap();
            Ret::Elements(entries.iter().map(element).collect())
        }
        (api::Reply::Granted(token), Op::Acquire { .. }) => Ret::Token(token.0),
        (api::Reply::Done, _) => Ret::Done,
        other => panic!("a wrong answer: {other:?}"),
    }
}

impl<M: Bundled> Service<M> for Kv {
    fn request(&self, process: Process, sequence: u64, op: &Op) -> api::Request {
        let lease = |ms: &u64| Duration::from_millis(*ms);
        let op = match op {
            Op::Read { key } => api::Op::Read { key: key.clone() },
            Op::Write { key, value } => api::Op::Write { key: key.clone(), value: text(value).unwrap_or_default() },
            Op::Cas { key, from, to } => {
                api::Op::Cas { key: key.clone(), from: text(from), to: text(to).unwrap_or_default() }
            }
            Op::Add { element } => api::Op::Write { key: format_smolstr!("{SET}{element}"), value: "1".into() },
            Op::Elements => api::Op::Scan { prefix: SET.into() },
            Op::Acquire { lock, lease_ms } => api::Op::Acquire { lock: lock.clone(), lease: lease(lease_ms) },
            Op::Renew { lock, token, lease_ms } => {
                api::Op::Renew { lock: lock.clone(), token: api::Token(*token), lease: lease(lease_ms) }
            }
            Op::Release { lock, token } => api::Op::Release { lock: lock.clone(), token: api::Token(*token) },
            Op::Access { .. } => unreachable!("an access asks no node"),
        };
        api::Request { client: api::ClientId(process.0), sequence, op }
    }

    fn completion(&self, op: &Op, outcome: client::Outcome<api::Response>) -> Done {
        let (outcome, answer, otherwise) = match outcome {
            client::Outcome::Ok { answer, .. } => (Outcome::Ok, Some(answer), "wrong-answer"),
            client::Outcome::Failed { answer } => (Outcome::Fail, answer, "unreachable"),
            client::Outcome::Unknown { answer } => (Outcome::Info, answer, "timeout"),
        };
        let (ret, error) = match answer.as_ref().map(|answer| &answer.result) {
            Some(Ok(reply)) => (ret(reply, op), None),
            Some(Err(refusal)) => (Ret::Done, Some(SmolStr::new_static(refusal.name()))),
            None => (Ret::Done, Some(SmolStr::new_static(otherwise))),
        };
        let node = answer.as_ref().map(|answer| usize::from(answer.node.0));
        Done { outcome, ret, error, node, term: answer.map(|answer| answer.term) }
    }

    fn policy(&self) -> Policy {
        self.policy
    }

    fn sticky(&self) -> bool {
        self.sticky
    }

    fn has_log(&self) -> bool {
        self.has_log
    }
}

/// The generator of a register workload of about so many operations over the plan's time.
pub fn registers(plan: &SimPlan, ops: u64) -> Box<dyn Generator> {
    let rate = ops as f64 / plan.time.as_secs_f64();
    let options = [("keys", 2.into()), ("ops_per_key", 60.into()), ("rate", rate.into())];
    workload(plan, &Chosen::new(&register::Plug, &options))
}

pub fn workload(plan: &SimPlan, chosen: &Chosen) -> Box<dyn Generator> {
    chosen.generator(&Size { nodes: plan.nodes.len(), concurrency: plan.concurrency, time: plan.time }, plan.seed)
}

/// What a run is judged by.
pub fn judge(run: &SimRun, chosen: &Chosen, leads: bool) -> Results {
    let mut checkers = chosen.checkers(1, true);
    if leads {
        checkers.push(Box::new(duress_checkers::split_brain::SplitBrain));
    }
    let run = Run::new(&run.events, false).expect("a simulated history is well formed");
    check_all(&run, &checkers, &Budget::default())
}

pub fn register_options() -> Chosen {
    Chosen::new(&register::Plug, &[])
}

/// Faults of the common kinds, drawn from the seed for the plan's time.
pub fn common_faults(plan: &SimPlan, every: Duration, leads: bool) -> Vec<Timed> {
    let delay = LinkHarm::Delay { by: Duration::from_millis(100), jitter: Duration::ZERO, shape: Shape::Constant };
    let drawn = Plan {
        kinds: vec![Kind::Partition, Kind::Crash, Kind::Pause, Kind::Delay],
        interval: every,
        duration: every / 2,
        measures: [(Kind::Delay, vec![Effect::Links(delay)])].into(),
        clients: if plan.seed.decide(&[77]).chance(0.5) { Sides::Split } else { Sides::Stay },
        grudges: Grudge::ALL.iter().map(|(grudge, _)| grudge.clone()).collect(),
        ..Plan::default()
    }
    .fit(plan.nodes.len(), leads);
    let drawn = drawn.schedule(plan.seed.derive("schedule"), plan.time);
    drawn.faults().to_vec()
}

/// Every kind of fault, several at a time.
pub fn all_faults(plan: &SimPlan, leads: bool) -> Vec<Timed> {
    let mut faults = common_faults(plan, Duration::from_millis(600), leads);
    let seed = plan.seed.derive("more faults");
    let total = plan.time.saturating_sub(Duration::from_millis(100));
    for number in 0..6 {
        let decide = |what: u64| seed.decide(&[number, what]);
        let who = [Selector::One, Selector::Minority, Selector::All][decide(0).below(3) as usize].clone();
        let by = decide(1).between(Duration::from_millis(1), Duration::from_millis(40));
        let fault = match decide(2).below(9) {
            0 => Fault::Hosts { who, harm: HostHarm::PowerLoss { torn: true } },
            1 => Fault::Hosts { who, harm: HostHarm::Disk(DiskHarm::Slow(by)) },
            2 => Fault::Hosts { who, harm: HostHarm::Disk(DiskHarm::Full) },
            3 => {
                let by = (by * 100).as_nanos() as i64;
                let change = ClockChange::Jump(if decide(3).chance(0.5) { -by } else { by });
                Fault::Hosts { who, harm: HostHarm::Clock { clocks: Clocks::Wall, change } }
            }
            4 => {
                let change = ClockChange::Rate(decide(4).below(8000) as i32 - 4000);
                Fault::Hosts { who, harm: HostHarm::Clock { clocks: Clocks::All, change } }
            }
            5 => Fault::Hosts { who, harm: HostHarm::CrashLoop { every: by } },
            6 => Fault::Hosts { who, harm: HostHarm::Memory { headroom: 1 << 20 } },
            7 => Fault::Hosts { who, harm: HostHarm::Descriptors { spare: decide(4).below(3) as u32 } },
            _ => Fault::Hosts { who, harm: HostHarm::Slow(Share::percent(5 + decide(4).below(50) as u32)) },
        };
        let at = decide(5).between(Duration::ZERO, total);
        let lasts = decide(6).between(Duration::from_millis(10), Duration::from_millis(500));
        faults.push(Timed { number: 1000 + number, at, lasts, fault, when: None });
    }
    faults
}

/// Says everything about a run that went wrong.
pub fn explain(seed: u64, run: &SimRun, results: &Results) -> String {
    let reports: Vec<String> = results
        .reports
        .iter()
        .filter(|report| report.verdict != Verdict::Valid)
        .map(|report| format!("{}: {}\n{}", report.checker, report.summary, report.explanation.join("\n")))
        .collect();
    format!("seed {seed}: {:?}\n{}", run.ended, reports.join("\n"))
}

pub fn complete(run: &SimRun) -> bool {
    matches!(run.ended, Ended::Complete { converged: true, .. })
}

pub fn paxos_world() -> World<paxos::Paxos, Kv> {
    World::new(Kv::logged())
}

pub fn primary_backup_world() -> World<primary_backup::PrimaryBackup, Kv> {
    World::new(Kv::logged())
}

pub fn quorum_world() -> World<quorum::Quorum, Kv> {
    World::new(Kv::quorum())
}

pub fn paxos_config(seed: u64, nodes: u16) -> paxos::Config {
    paxos::Config::new(nodes, Seed(seed).derive("target"))
}

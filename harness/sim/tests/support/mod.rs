//! The bundled service, run in the simulator and judged.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::allow_attributes,
    reason = "each test file and the benchmark use their part of it"
)]

use std::time::Duration;

use duress_checkers::{Results, Run, Settings, Verdict, check_all};
use duress_fault::{
    ClockChange, Clocks, DiskHarm, Effect, Fault, Grudge, HostHarm, Kind, LinkHarm, Plan, Selector, Shape, Share, Sides,
};
use duress_history::{Function, Op, Outcome, Process, Value};
use duress_kv::{api, paxos, primary_backup, quorum};
use duress_machine::Machine;
use duress_machine::client::{self, Policy};
use duress_seed::Seed;
use duress_sim::{Done, Ended, Service, SimPlan, SimRun, Timed, Typed, Watch, World};
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
        other => panic!("the service has no value {other}"),
    }
}

fn value(stored: Option<&SmolStr>) -> Value {
    match stored {
        None => Value::Nil,
        Some(text) => text.parse().map_or_else(|_| Value::Text(text.clone()), Value::Int),
    }
}

fn result(reply: &api::Reply, op: &Op) -> Value {
    match (reply, &op.f, &op.key) {
        (api::Reply::Value(stored), Function::Read, Some(_)) => value(stored.as_ref()),
        (api::Reply::Entries(entries), Function::Read, None) => {
            let element = |(key, _): &(SmolStr, SmolStr)| Value::Int(key.strip_prefix(SET).unwrap().parse().unwrap());
            Value::Vector(entries.iter().map(element).collect())
        }
        (api::Reply::Granted(token), Function::Acquire, _) => token.0.into(),
        (api::Reply::Done, ..) => Value::Nil,
        other => panic!("a wrong answer: {other:?}"),
    }
}

/// What an operation asks of the service.
fn asked(op: &Op) -> api::Op {
    let number = |name| op.value.get(name).and_then(Value::as_u64).unwrap();
    let lease = || Duration::from_millis(number("lease-ms"));
    let Some(key) = op.key_text().cloned() else {
        return match op.f {
            Function::Add => api::Op::Write { key: format_smolstr!("{SET}{}", op.value), value: "1".into() },
            Function::Read => api::Op::Scan { prefix: SET.into() },
            _ => panic!("the service has no {op}"),
        };
    };
    match (op.name(), op.value.as_sequence()) {
        ("read", _) => api::Op::Read { key },
        ("write", _) => api::Op::Write { key, value: text(&op.value).unwrap_or_default() },
        ("cas", Some([from, to])) => api::Op::Cas { key, from: text(from), to: text(to).unwrap_or_default() },
        ("acquire", _) => api::Op::Acquire { lock: key, lease: lease() },
        ("renew", _) => api::Op::Renew { lock: key, token: api::Token(number("token")), lease: lease() },
        ("release", _) => api::Op::Release { lock: key, token: api::Token(op.value.as_u64().unwrap()) },
        _ => panic!("the service has no {op}"),
    }
}

impl<M: Bundled> Service<M> for Kv {
    fn request(&self, process: Process, sequence: u64, op: &Op) -> Option<api::Request> {
        let op = asked(op);
        Some(api::Request { client: api::ClientId(process.0), sequence, op })
    }

    fn completion(&self, op: &Op, outcome: client::Outcome<api::Response>) -> Done {
        let (outcome, answer, otherwise) = match outcome {
            client::Outcome::Ok { answer, .. } => (Outcome::Ok, Some(answer), "wrong-answer"),
            client::Outcome::Failed { answer } => (Outcome::Fail, answer, "unreachable"),
            client::Outcome::Unknown { answer } => (Outcome::Info, answer, "timeout"),
        };
        let (result, error) = match answer.as_ref().map(|answer| &answer.result) {
            Some(Ok(reply)) => (result(reply, op), None),
            Some(Err(refusal)) => (Value::Nil, Some(SmolStr::new_static(refusal.name()))),
            None => (Value::Nil, Some(SmolStr::new_static(otherwise))),
        };
        let node = answer.as_ref().map(|answer| usize::from(answer.node.0));
        Done { outcome, result, error, node, term: answer.map(|answer| answer.term) }
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
    check_all(&run, &checkers, &Settings::default())
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

/// A world, and a fleet of the service for it.
pub struct Cluster<M: Bundled> {
    pub world: World,
    pub service: Kv,
    pub fleet: Option<Typed<M, Kv>>,
}

impl<M: Bundled> Cluster<M> {
    pub fn new(service: Kv) -> Cluster<M> {
        Cluster { world: World::new(), service, fleet: None }
    }

    /// A fleet with this configuration, in used memory.
    fn configured<'a>(fleet: &'a mut Option<Typed<M, Kv>>, config: &M::Config, service: &Kv) -> &'a mut Typed<M, Kv> {
        let fleet = fleet.get_or_insert_with(|| Typed::new(config.clone(), service.clone()));
        fleet.configure(config.clone(), service.clone());
        fleet
    }

    pub fn run(&mut self, plan: &SimPlan, config: &M::Config, generator: &mut dyn Generator) -> SimRun {
        self.world.run(Self::configured(&mut self.fleet, config, &self.service), plan, generator)
    }

    pub fn run_watched(
        &mut self,
        plan: &SimPlan,
        config: &M::Config,
        generator: &mut dyn Generator,
        watch: &mut dyn Watch,
    ) -> SimRun {
        self.world.run_watched(Self::configured(&mut self.fleet, config, &self.service), plan, generator, watch)
    }

    pub fn recycle(&mut self, run: SimRun) {
        self.world.recycle(run);
    }
}

pub fn paxos_world() -> Cluster<paxos::Paxos> {
    Cluster::new(Kv::logged())
}

pub fn primary_backup_world() -> Cluster<primary_backup::PrimaryBackup> {
    Cluster::new(Kv::logged())
}

pub fn quorum_world() -> Cluster<quorum::Quorum> {
    Cluster::new(Kv::quorum())
}

pub fn paxos_config(seed: u64, nodes: u16) -> paxos::Config {
    paxos::Config::new(nodes, Seed(seed).derive("target"))
}

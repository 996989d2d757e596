//! Generators and checkers together: what a correct service answers is valid, and each kind of
//! wrong answer is found.

mod asked;

use std::collections::BTreeMap;
use std::time::Duration;

use duress_checkers::{Budget, Run, Verdict, check_all};
use duress_history::{
    Completion, Event, EventKind, Header, Host, Invocation, Op, Outcome, Phase, Process, Time, Value,
};
use duress_seed::Seed;
use duress_workloads::{Chosen, Next, Size, Slot, lock, register, set};
use smol_str::SmolStr;

use asked::{Asked, asked};

/// A service in one place, which answers at once and can be made to lie.
#[derive(Default)]
struct Service {
    registers: BTreeMap<SmolStr, (Value, Value)>,
    elements: Vec<i64>,
    held: BTreeMap<SmolStr, (u64, u64)>,
    tokens: u64,
    answered: u64,
    lie: bool,
}

impl Service {
    fn answer(&mut self, op: &Op, now_ms: u64) -> (Outcome, Value) {
        self.answered += 1;
        let lie = self.lie && self.answered > 500;
        match &asked(op) {
            Asked::Read { key } => {
                let (value, before) = self.registers.get(key).cloned().unwrap_or((Value::Nil, Value::Nil));
                (Outcome::Ok, if lie { before } else { value })
            }
            Asked::Write { key, value } => {
                let old = self.registers.get(key).map_or(Value::Nil, |(value, _)| value.clone());
                self.registers.insert(key.clone(), (value.clone(), old));
                (Outcome::Ok, Value::Nil)
            }
            Asked::Add { element } => {
                if !(lie && element % 7 == 0) {
                    self.elements.push(*element);
                }
                (Outcome::Ok, Value::Nil)
            }
            Asked::Elements => (Outcome::Ok, Value::Vector(self.elements.iter().copied().map(Value::Int).collect())),
            Asked::Acquire { lock, lease_ms } => {
                if self.held.get(lock).is_some_and(|(_, until)| *until > now_ms) && !lie {
                    return (Outcome::Fail, Value::Nil);
                }
                self.tokens += 1;
                self.held.insert(lock.clone(), (self.tokens, now_ms + lease_ms));
                (Outcome::Ok, self.tokens.into())
            }
            Asked::Renew { lock, token, lease_ms } => match self.held.get_mut(lock) {
                Some((holder, until)) if holder == token => {
                    *until = now_ms + lease_ms;
                    (Outcome::Ok, Value::Nil)
                }
                _ => (Outcome::Fail, Value::Nil),
            },
            Asked::Release { lock, token } => match self.held.get(lock) {
                Some((holder, _)) if holder == token => {
                    self.held.remove(lock);
                    (Outcome::Ok, Value::Nil)
                }
                _ => (Outcome::Fail, Value::Nil),
            },
            Asked::Access { .. } => (Outcome::Ok, Value::Nil),
            Asked::Cas { .. } => (Outcome::Fail, Value::Nil),
        }
    }
}

/// Runs a workload against the service and judges the history.
fn verdict(chosen: &Chosen, lie: bool) -> Verdict {
    let checkers = chosen.checkers(10, true);
    let size = Size { nodes: 3, concurrency: 4, time: Duration::from_secs(8) };
    let mut generator = chosen.generator(&size, Seed(1));
    let mut service = Service { lie, ..Service::default() };
    let hosts = |prefix: &str, n| (1..=n).map(|i| Host::from(format!("{prefix}{i}"))).collect();
    let header = Header {
        version: Header::VERSION,
        scenario: "judged".into(),
        seed: 1,
        nodes: hosts("n", 3),
        clients: hosts("c", 1),
        started_unix_ms: 0,
    };
    let mut events = vec![EventKind::Header(header), EventKind::Phase { phase: Phase::Main }]
        .into_iter()
        .map(|kind| Event { time: Time(0), kind })
        .collect::<Vec<_>>();
    let mut agenda: BTreeMap<(Duration, usize), Option<Completion>> =
        (0..4).map(|slot| ((Duration::ZERO, slot), None)).collect();
    let mut now = Duration::ZERO;
    while let Some(((at, index), completion)) = agenda.pop_first() {
        now = at;
        let slot = Slot { index, process: Process(index as u64) };
        if let Some(completion) = completion {
            generator.completed(slot, &completion, now);
            events.push(Event { time: now.into(), kind: EventKind::Complete(completion) });
        }
        match generator.next(slot, now) {
            Next::Done => {}
            Next::Wait(until) => {
                agenda.insert((until, index), None);
            }
            Next::Op(op) => {
                let invocation = Invocation { process: slot.process, client: None, op: op.clone() };
                events.push(Event { time: now.into(), kind: EventKind::Invoke(invocation) });
                let (outcome, result) = service.answer(&op, now.as_millis() as u64);
                let takes = match &asked(&op) {
                    Asked::Access { work_ms, .. } => Duration::from_millis(*work_ms),
                    _ => Duration::from_millis(1 + index as u64),
                };
                let process = slot.process;
                let completion = Completion { process, outcome, op, result, error: None, node: None, term: None };
                agenda.insert((now + takes, index), Some(completion));
            }
        }
    }
    let mut record = |kind| {
        now += Duration::from_millis(1);
        events.push(Event { time: now.into(), kind });
    };
    record(EventKind::Phase { phase: Phase::Recovery });
    record(EventKind::Phase { phase: Phase::Final });
    for (i, last) in generator.finale().into_iter().enumerate() {
        let process = Process(1_000 + i as u64);
        let node = Host::from(format!("n{}", last.node + 1));
        let client = Some(duress_history::Client { host: "c1".into(), node: node.clone() });
        record(EventKind::Invoke(Invocation { process, client, op: last.op.clone() }));
        let (outcome, result) = service.answer(&last.op, u64::MAX / 2);
        let node = Some(node);
        record(EventKind::Complete(Completion {
            process,
            outcome,
            op: last.op,
            result,
            error: None,
            node,
            term: None,
        }));
    }
    record(EventKind::Phase { phase: Phase::End });
    let run = Run::new(&events, false).expect("a well-formed history");
    let budget = Budget { time: Duration::from_secs(20), memory_bytes: 1 << 30 }.into();
    check_all(&run, &checkers, &budget).verdict
}

#[test]
fn truth_is_valid_and_lies_are_found() {
    let hold = Duration::from_millis(400);
    for chosen in [
        Chosen::new(&register::Plug, &[]),
        Chosen::new(&set::Plug, &[("rate", duress_plug::Value::Nothing)]),
        Chosen::new(&lock::Plug, &[("fencing", false.into()), ("hold", hold.into())]),
    ] {
        assert_eq!(verdict(&chosen, false), Verdict::Valid, "{}", chosen.workload.name());
        assert_eq!(verdict(&chosen, true), Verdict::Invalid, "{}", chosen.workload.name());
    }
}

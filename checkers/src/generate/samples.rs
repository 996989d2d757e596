//! What clients ask of each model's object, and how it can go wrong.

use std::sync::Arc;

use duress_history::formats::{Format, Function, Value};

use super::Named;
use super::client::{Draws, FOREIGN, Maker, Sample, Written};
use super::proof::{self, First, Ops};
use crate::models::containers::{self, Container, ContainerOp, ContainerRet};
use crate::models::counter::{Counter, CounterOp, CounterRet};
use crate::models::kv::{KvOp, KvRet, Text};
use crate::models::locks::{self, Lock, LockOp, LockRet};
use crate::models::log::{Log, LogOp, LogRet};
use crate::models::multi_register::{MultiRegister, Seen, Step};
use crate::models::set::{Set, SetOp, SetRet};
use crate::register::{Register, RegisterOp, RegisterRet};

/// Every sample, in the order of [`crate::models::ALL`].
pub(super) const ALL: &[&dyn Maker] = &[
    &Registers { cas: false },
    &Registers { cas: true },
    &MultiRegisters,
    &Locks(locks::Discipline::Anyone),
    &Locks(locks::Discipline::Holder),
    &Locks(locks::Discipline::Reentrant),
    &Locks(locks::Discipline::Fenced),
    &Counters,
    &Sets,
    &Containers(containers::Discipline::Queue),
    &Containers(containers::Discipline::Stack),
    &Containers(containers::Discipline::Priority),
    &Logs,
    &KeyValue,
];

fn other(name: &str) -> Function {
    Function::Other(name.into())
}

/// A register's value; zero is nil.
fn value(number: u32) -> Value {
    if number == 0 { Value::Nil } else { Value::Int(number.into()) }
}

/// [`FOREIGN`] as a number of the size that most objects hold.
const FOREIGN_NUMBER: u32 = u32::MAX - 1;

const STALE: Named = ("stale-read", "a read returns what had been overwritten before");
const LOST_WRITE: Named = ("lost-write", "a confirmed write has no effect");
const PHANTOM: Named = ("phantom", "a value is returned that nobody wrote");

struct Registers {
    cas: bool,
}

impl Sample for Registers {
    type Spec = Register<u32>;

    fn model(&self) -> &'static str {
        if self.cas { "cas-register" } else { "register" }
    }

    fn anomalies(&self) -> &'static [Named] {
        &[STALE, LOST_WRITE, PHANTOM]
    }

    fn initial(&self) -> Register<u32> {
        Register(0)
    }

    fn draw(&self, draws: &Draws, _: u64, _: u32, state: &Register<u32>) -> RegisterOp<u32> {
        match draws.below(1, 3) {
            0 => RegisterOp::Read,
            1 if self.cas && state.0 != 0 => RegisterOp::Cas { from: state.0, to: draws.value() as u32 },
            1 if draws.below(2, 2) == 0 => RegisterOp::Read,
            _ => RegisterOp::Write(draws.value() as u32),
        }
    }

    fn write(&self, op: &RegisterOp<u32>, ret: Option<&RegisterRet<u32>>) -> Written {
        let read = match ret {
            Some(RegisterRet::Value(number)) => value(*number),
            _ => Value::Nil,
        };
        let same = |function, argument: Value| Written::new(function, argument.clone(), argument);
        match op {
            RegisterOp::Read => Written::new(Function::Read, Value::Nil, read),
            RegisterOp::Write(number) => same(Function::Write, value(*number)),
            RegisterOp::Cas { from, to } => same(Function::Cas, Value::Vector(vec![value(*from), value(*to)])),
        }
    }

    /// A cas whose register has changed meanwhile waits, and is given up at last.
    fn waits(&self, ret: &RegisterRet<u32>) -> bool {
        *ret == RegisterRet::Mismatch
    }

    fn deviate(
        &self,
        anomaly: &str,
        state: &mut Register<u32>,
        older: Option<&Register<u32>>,
        op: &RegisterOp<u32>,
    ) -> Option<RegisterRet<u32>> {
        match (anomaly, op) {
            ("stale-read", RegisterOp::Read) => {
                older.filter(|older| older.0 != 0 && *older != state).map(|older| RegisterRet::Value(older.0))
            }
            ("phantom", RegisterOp::Read) => Some(RegisterRet::Value(FOREIGN_NUMBER)),
            ("lost-write", RegisterOp::Write(_)) => Some(RegisterRet::Done),
            _ => None,
        }
    }

    fn proves(&self, anomaly: &str, ops: &Ops<'_>, planted: usize) -> bool {
        anomaly == "phantom" || proof::overwritten(ops, planted, proof::register)
    }
}

struct MultiRegisters;

/// How many registers are read and written together.
const REGISTERS: u64 = 3;

impl Sample for MultiRegisters {
    type Spec = MultiRegister;

    fn model(&self) -> &'static str {
        "multi-register"
    }

    fn anomalies(&self) -> &'static [Named] {
        &[STALE, LOST_WRITE, ("torn-read", "a read of several registers sees only a part of a write"), PHANTOM]
    }

    fn initial(&self) -> MultiRegister {
        MultiRegister::default()
    }

    fn draw(&self, draws: &Draws, _: u64, _: u32, _: &MultiRegister) -> Vec<Step> {
        let number = draws.value() as u32;
        let wanted = |register: &u64| draws.below(3 + register, 3) > 0;
        let mut registers: Vec<u64> = (0..REGISTERS).filter(wanted).collect();
        if registers.is_empty() {
            registers.push(0);
        }
        let writes = draws.below(1, 2) == 0;
        let step = |register: u64| match writes {
            true => Step::Write(register as u32 + 1, number),
            false => Step::Read(register as u32 + 1),
        };
        registers.into_iter().map(step).collect()
    }

    fn write(&self, op: &Vec<Step>, ret: Option<&Seen>) -> Written {
        let mut seen = ret.into_iter().flatten().copied();
        let step = |what: &str, register: u32, value: Value| {
            Value::Vector(vec![Value::Keyword(what.into()), Value::Int(register.into()), value])
        };
        let asked = op.iter().map(|op| match op {
            Step::Read(register) => step("r", *register, Value::Nil),
            Step::Write(register, number) => step("w", *register, value(*number)),
        });
        let answered = op.iter().map(|op| match op {
            Step::Read(register) => step("r", *register, seen.next().flatten().map_or(Value::Nil, value)),
            Step::Write(register, number) => step("w", *register, value(*number)),
        });
        Written::new(Function::Txn, Value::Vector(asked.collect()), Value::Vector(answered.collect()))
    }

    fn deviate(
        &self,
        anomaly: &str,
        state: &mut MultiRegister,
        older: Option<&MultiRegister>,
        op: &Vec<Step>,
    ) -> Option<Seen> {
        use stateright::semantics::SequentialSpec as _;
        let reads = op.iter().all(|step| matches!(step, Step::Read(_)));
        let now = state.clone().invoke(op);
        match anomaly {
            "lost-write" if !reads => Some(Vec::new()),
            "phantom" if reads => Some(now.iter().map(|_| Some(FOREIGN_NUMBER)).collect()),
            "stale-read" | "torn-read" if reads => {
                let then = older?.clone().invoke(op);
                if then == now || then.contains(&Some(0)) {
                    return None;
                }
                if anomaly == "stale-read" {
                    return Some(then);
                }
                // The first that differs is old, the rest is new.
                let torn = then.iter().zip(&now).position(|(then, now)| then != now)?;
                let mut seen = now.clone();
                seen[torn] = then[torn];
                (seen != then).then_some(seen)
            }
            _ => None,
        }
    }

    fn proves(&self, anomaly: &str, ops: &Ops<'_>, planted: usize) -> bool {
        anomaly == "phantom" || proof::overwritten(ops, planted, proof::transaction)
    }
}

struct Locks(locks::Discipline);

const DOUBLE_GRANT: Named = ("double-grant", "a lock is granted to one while another holds it");
const FOREIGN_RELEASE: Named = ("foreign-release", "a lock is released by one who does not hold it");

impl Sample for Locks {
    type Spec = Lock;

    fn model(&self) -> &'static str {
        match self.0 {
            locks::Discipline::Anyone => "mutex",
            locks::Discipline::Holder => "owned-mutex",
            locks::Discipline::Reentrant => "reentrant-mutex",
            locks::Discipline::Fenced => "lock",
        }
    }

    fn anomalies(&self) -> &'static [Named] {
        match self.0 {
            locks::Discipline::Anyone => &[DOUBLE_GRANT],
            locks::Discipline::Holder | locks::Discipline::Reentrant => &[DOUBLE_GRANT, FOREIGN_RELEASE],
            locks::Discipline::Fenced => &[
                DOUBLE_GRANT,
                FOREIGN_RELEASE,
                ("token-regression", "a grant's token is below that of an earlier one"),
                ("duplicate-token", "two grants have the same token"),
            ],
        }
    }

    fn initial(&self) -> Lock {
        Lock::new(self.0)
    }

    fn draw(&self, draws: &Draws, process: u64, held: u32, _: &Lock) -> LockOp {
        let again = self.0 == locks::Discipline::Reentrant && held < 3 && draws.below(1, 3) == 0;
        // Who holds nothing tries to release now and then, and is refused.
        let blunders = self.0 != locks::Discipline::Anyone && held == 0 && draws.below(2, 16) == 0;
        if (held > 0 && !again) || blunders { LockOp::Release(process) } else { LockOp::Acquire(process) }
    }

    fn write(&self, op: &LockOp, ret: Option<&LockRet>) -> Written {
        let result = match ret {
            // Tokens count from one, whatever the lowest is.
            Some(LockRet::Token(token)) => Value::Int(token.wrapping_sub(i64::MIN)),
            _ => Value::Nil,
        };
        match op {
            LockOp::Acquire(_) => Written::new(Function::Acquire, Value::Nil, result),
            LockOp::Release(_) => Written::new(Function::Release, Value::Nil, Value::Nil),
        }
    }

    fn waits(&self, ret: &LockRet) -> bool {
        *ret == LockRet::Blocked
    }

    fn grants(&self, op: &LockOp) -> i32 {
        if matches!(op, LockOp::Acquire(_)) { 1 } else { -1 }
    }

    /// A lock granted to one who doesn't know would be held for ever.
    fn forced(&self, op: &LockOp) -> Option<bool> {
        Some(matches!(op, LockOp::Release(_)))
    }

    fn deviate(&self, anomaly: &str, state: &mut Lock, _: Option<&Lock>, op: &LockOp) -> Option<LockRet> {
        use stateright::semantics::SequentialSpec as _;
        let process = match *op {
            LockOp::Acquire(process) => process,
            LockOp::Release(process) => {
                let foreign = anomaly == "foreign-release" && state.holder().is_some_and(|holder| holder != process);
                return foreign.then_some(LockRet::Done);
            }
        };
        match anomaly {
            "double-grant" => {
                state.holder().filter(|holder| *holder != process)?;
                Some(match (self.0, state.last_token()) {
                    // It holds it after that, with a token of its own.
                    (locks::Discipline::Fenced, Some(last)) => {
                        *state = Lock::after(self.0, process, last + 1);
                        LockRet::Token(last + 1)
                    }
                    _ => {
                        *state = Lock::after(self.0, process, i64::MIN);
                        LockRet::Done
                    }
                })
            }
            "token-regression" | "duplicate-token" => {
                let last = state.last_token().filter(|last| *last > i64::MIN + 2)?;
                state.holder().is_none().then_some(())?;
                state.invoke(op);
                Some(LockRet::Token(if anomaly == "duplicate-token" { last } else { last - 1 }))
            }
            _ => None,
        }
    }

    fn proves(&self, anomaly: &str, ops: &Ops<'_>, planted: usize) -> bool {
        match anomaly {
            "double-grant" => proof::held(ops, planted, self.0 != locks::Discipline::Anyone),
            "foreign-release" => proof::not_held(ops, planted),
            _ => proof::old_token(ops, planted),
        }
    }

    fn needs_unique(&self, _: &str) -> bool {
        false
    }
}

struct Counters;

impl Sample for Counters {
    type Spec = Counter;

    fn model(&self) -> &'static str {
        "counter"
    }

    fn anomalies(&self) -> &'static [Named] {
        &[("lost-update", "a confirmed add has no effect"), STALE, ("phantom", "a count that nobody added up to")]
    }

    fn initial(&self) -> Counter {
        Counter(0)
    }

    fn draw(&self, draws: &Draws, _: u64, _: u32, _: &Counter) -> CounterOp {
        if draws.below(1, 3) == 0 { CounterOp::Add(draws.below(2, 9) as i64 + 1) } else { CounterOp::Read }
    }

    fn write(&self, op: &CounterOp, ret: Option<&CounterRet>) -> Written {
        let count = match ret {
            Some(CounterRet::Count(count)) => Value::Int(i64::try_from(*count).unwrap_or(i64::MAX)),
            _ => Value::Nil,
        };
        match op {
            CounterOp::Add(amount) => Written::new(Function::Add, Value::Int(*amount), Value::Int(*amount)),
            CounterOp::Read => Written::new(Function::Read, Value::Nil, count),
        }
    }

    fn deviate(
        &self,
        anomaly: &str,
        state: &mut Counter,
        older: Option<&Counter>,
        op: &CounterOp,
    ) -> Option<CounterRet> {
        match (anomaly, op) {
            ("lost-update", CounterOp::Add(_)) => Some(CounterRet::Done),
            ("stale-read", CounterOp::Read) => {
                older.filter(|older| *older != state).map(|older| CounterRet::Count(older.0))
            }
            ("phantom", CounterOp::Read) => Some(CounterRet::Count(FOREIGN.into())),
            _ => None,
        }
    }

    fn proves(&self, _: &str, ops: &Ops<'_>, _: usize) -> bool {
        proof::miscounted(ops)
    }

    fn needs_unique(&self, _: &str) -> bool {
        false
    }
}

struct Sets;

/// Sets larger than this are not read as a whole, nor those of so many operations.
const READ_WHOLE: usize = 64;
const SMALL: u32 = 10_000;

impl Sample for Sets {
    type Spec = Set;

    fn model(&self) -> &'static str {
        "set"
    }

    fn anomalies(&self) -> &'static [Named] {
        &[("lost-add", "a confirmed add has no effect"), STALE, ("phantom", "an element is seen that nobody added")]
    }

    fn initial(&self) -> Set {
        Set::default()
    }

    fn draw(&self, draws: &Draws, _: u64, _: u32, state: &Set) -> SetOp {
        let element = draws.value() as u32;
        let known = state.0.iter().nth(draws.below(2, state.0.len().min(READ_WHOLE) as u64) as usize).copied();
        match draws.below(1, 8) {
            0..=2 => SetOp::Add(element),
            3 if state.0.len() > 8 => SetOp::Remove(known.unwrap_or(element)),
            // A large set is never read as a whole, not even while it is small.
            7 if draws.operations <= SMALL && state.0.len() < READ_WHOLE && draws.below(3, 3) == 0 => SetOp::Read,
            _ => SetOp::Contains(known.unwrap_or(element)),
        }
    }

    fn write(&self, op: &SetOp, ret: Option<&SetRet>) -> Written {
        let result = match ret {
            Some(SetRet::Holds(holds)) => Value::Bool(*holds),
            Some(SetRet::Changed(changed)) => Value::Bool(*changed),
            Some(SetRet::Elements(elements)) => Value::Set(elements.iter().map(|e| Value::Int((*e).into())).collect()),
            _ => Value::Nil,
        };
        let element = |element: &u32| Value::Int((*element).into());
        match op {
            SetOp::Add(e) => Written::new(Function::Add, element(e), element(e)),
            SetOp::Remove(e) => Written::new(other("remove"), element(e), result),
            SetOp::Contains(e) => Written::new(other("contains"), element(e), result),
            SetOp::Read => Written::new(Function::Read, Value::Nil, result),
        }
    }

    fn deviate(&self, anomaly: &str, state: &mut Set, older: Option<&Set>, op: &SetOp) -> Option<SetRet> {
        use stateright::semantics::SequentialSpec as _;
        match (anomaly, op) {
            ("lost-add", SetOp::Add(element)) if !state.0.contains(element) => Some(SetRet::Done),
            ("stale-read", SetOp::Contains(_) | SetOp::Read) => {
                let then = older?.clone().invoke(op);
                (then != state.clone().invoke(op)).then_some(then)
            }
            ("phantom", SetOp::Read) => {
                let mut elements = state.0.clone();
                elements.insert(FOREIGN_NUMBER);
                Some(SetRet::Elements(Arc::new(elements)))
            }
            _ => None,
        }
    }

    fn proves(&self, anomaly: &str, ops: &Ops<'_>, planted: usize) -> bool {
        anomaly == "phantom" || proof::wrong_element(ops, planted)
    }
}

struct Containers(containers::Discipline);

impl Sample for Containers {
    type Spec = Container;

    fn model(&self) -> &'static str {
        match self.0 {
            containers::Discipline::Queue => "queue",
            containers::Discipline::Stack => "stack",
            containers::Discipline::Priority => "priority-queue",
        }
    }

    fn anomalies(&self) -> &'static [Named] {
        &[
            ("reordered", "an element is taken though another was to come first"),
            ("duplicate", "an element is taken and stays inside"),
            ("lost-element", "an element that was confirmed to be put in is not inside"),
            ("false-empty", "nothing is taken though something is inside"),
            ("phantom", "an element is taken that nobody put in"),
        ]
    }

    fn initial(&self) -> Container {
        Container::new(self.0)
    }

    fn draw(&self, draws: &Draws, _: u64, _: u32, state: &Container) -> ContainerOp {
        // As many go in as come out, and not too many are inside.
        let inserts = if state.items().len() > 1_000 { 4 } else { 8 };
        if draws.below(1, 16) < inserts {
            // In no order, so that the smallest isn't always the first.
            let ordered = self.0 == containers::Discipline::Priority && draws.unique();
            let spread = if ordered { draws.below(2, 1 << 20) as i64 } else { 0 };
            let unique = spread << 20 | draws.value() & 0xf_ffff;
            ContainerOp::Insert(if spread == 0 { draws.value() } else { unique })
        } else {
            ContainerOp::Remove
        }
    }

    fn write(&self, op: &ContainerOp, ret: Option<&ContainerRet>) -> Written {
        let taken = match ret {
            Some(ContainerRet::Taken(Some(item))) => Value::Int(*item),
            _ => Value::Nil,
        };
        match (op, self.0) {
            (ContainerOp::Insert(item), discipline) => {
                let function = match discipline {
                    containers::Discipline::Queue => Function::Enqueue,
                    containers::Discipline::Stack => other("push"),
                    containers::Discipline::Priority => other("insert"),
                };
                Written::new(function, Value::Int(*item), Value::Int(*item))
            }
            (_, containers::Discipline::Queue) => Written::new(Function::Dequeue, Value::Nil, taken),
            (_, containers::Discipline::Stack) => Written::new(other("pop"), Value::Nil, taken),
            (_, containers::Discipline::Priority) => Written::new(other("extract-min"), Value::Nil, taken),
        }
    }

    fn deviate(
        &self,
        anomaly: &str,
        state: &mut Container,
        _: Option<&Container>,
        op: &ContainerOp,
    ) -> Option<ContainerRet> {
        let items = state.items().len();
        let (next, second) = match self.0 {
            containers::Discipline::Stack => (items.checked_sub(1), items.checked_sub(2)),
            _ => (Some(0), Some(1)),
        };
        match (anomaly, op) {
            ("lost-element", ContainerOp::Insert(_)) => Some(ContainerRet::Done),
            ("reordered", ContainerOp::Remove) if items > 1 => {
                second.and_then(|at| state.take(at)).map(|item| ContainerRet::Taken(Some(item)))
            }
            ("duplicate", ContainerOp::Remove) if items > 0 => {
                let item = next.and_then(|at| state.items().get(at).copied())?;
                Some(ContainerRet::Taken(Some(item)))
            }
            ("false-empty", ContainerOp::Remove) if items > 0 => Some(ContainerRet::Taken(None)),
            ("phantom", ContainerOp::Remove) => Some(ContainerRet::Taken(Some(FOREIGN + 1))),
            _ => None,
        }
    }

    fn proves(&self, anomaly: &str, ops: &Ops<'_>, planted: usize) -> bool {
        let first = match self.0 {
            containers::Discipline::Queue => First::Earlier,
            containers::Discipline::Stack => First::Later,
            containers::Discipline::Priority => First::Smaller,
        };
        anomaly == "phantom" || proof::misplaced(ops, planted, first)
    }
}

struct Logs;

impl Sample for Logs {
    type Spec = Log;

    fn model(&self) -> &'static str {
        "append-log"
    }

    fn anomalies(&self) -> &'static [Named] {
        &[
            ("lost-append", "a confirmed append has no effect"),
            STALE,
            ("reordered", "a read sees the last two elements the other way round"),
            ("duplicate-offset", "an append gets the offset of the one before"),
            PHANTOM,
        ]
    }

    fn initial(&self) -> Log {
        Log::default()
    }

    fn draw(&self, draws: &Draws, _: u64, _: u32, state: &Log) -> LogOp {
        let length = state.0.len() as u64;
        match draws.below(1, 8) {
            0..=2 => LogOp::Append(draws.value() as u32),
            // The longer it is, the rarer it is read as a whole.
            3 | 4 if draws.below(2, length.max(1)) < READ_WHOLE as u64 => LogOp::Read,
            _ => LogOp::Get(draws.below(3, length + 1)),
        }
    }

    fn write(&self, op: &LogOp, ret: Option<&LogRet>) -> Written {
        let element = |number: &u32| Value::Int((*number).into());
        let offset = |offset: u64| Value::Int(offset.try_into().unwrap_or(i64::MAX));
        match op {
            LogOp::Append(number) => {
                let result = match ret {
                    Some(LogRet::Offset(at)) => Value::Vector(vec![offset(*at), element(number)]),
                    _ => element(number),
                };
                Written::new(Function::Append, element(number), result)
            }
            LogOp::Read => {
                let read = match ret {
                    Some(LogRet::Elements(elements)) => Value::Vector(elements.iter().map(element).collect()),
                    _ => Value::Nil,
                };
                Written::new(Function::Read, Value::Nil, read)
            }
            LogOp::Get(at) => {
                let got = match ret {
                    Some(LogRet::Element(Some(number))) => element(number),
                    _ => Value::Nil,
                };
                Written::new(Function::Get, offset(*at), got)
            }
        }
    }

    fn deviate(&self, anomaly: &str, state: &mut Log, older: Option<&Log>, op: &LogOp) -> Option<LogRet> {
        use stateright::semantics::SequentialSpec as _;
        let length = state.0.len();
        match (anomaly, op) {
            ("lost-append", LogOp::Append(_)) => Some(LogRet::Offset(length as u64)),
            ("stale-read", LogOp::Read) => {
                older.filter(|older| older.0.len() < length).map(|older| LogRet::Elements(older.0.clone()))
            }
            ("reordered", LogOp::Read) if length > 1 => {
                let mut elements = state.0.clone();
                elements.swap(length - 1, length - 2);
                Some(LogRet::Elements(elements))
            }
            ("duplicate-offset", LogOp::Append(_)) if length > 0 => {
                state.invoke(op);
                Some(LogRet::Offset(length as u64 - 1))
            }
            ("phantom", LogOp::Get(at)) if *at < length as u64 => Some(LogRet::Element(Some(FOREIGN_NUMBER))),
            _ => None,
        }
    }

    fn proves(&self, anomaly: &str, ops: &Ops<'_>, planted: usize) -> bool {
        anomaly == "phantom" || proof::unlogged(ops, planted)
    }
}

struct KeyValue;

impl Sample for KeyValue {
    type Spec = Text;

    fn model(&self) -> &'static str {
        "kv"
    }

    fn anomalies(&self) -> &'static [Named] {
        &[
            ("stale-get", "a get returns what had been replaced before"),
            ("lost-append", "a confirmed append has no effect"),
            ("phantom", "a get returns a text that nobody wrote"),
        ]
    }

    fn initial(&self) -> Text {
        Text::default()
    }

    fn draw(&self, draws: &Draws, process: u64, _: u32, state: &Text) -> KvOp {
        let number = draws.value();
        let text = || match draws.unique() {
            true => format!("x {process} {number} y").into(),
            false => format!("x {number} y").into(),
        };
        // Long texts are replaced before they take too much room.
        let puts = if state.0.len() > 4_000 { 50 } else { 5 };
        match draws.below(1, 100) {
            draw if draw < puts => KvOp::Put(text()),
            50.. => KvOp::Get,
            _ => KvOp::Append(text()),
        }
    }

    fn write(&self, op: &KvOp, ret: Option<&KvRet>) -> Written {
        let text = |text: &smol_str::SmolStr| Value::Text(text.clone());
        let read = match ret {
            Some(KvRet::Text(read)) => text(read),
            _ => Value::Nil,
        };
        match op {
            KvOp::Get => Written::new(Function::Get, Value::Nil, read),
            KvOp::Put(written) => Written::new(Function::Put, text(written), text(written)),
            KvOp::Append(written) => Written::new(Function::Append, text(written), text(written)),
        }
    }

    fn deviate(&self, anomaly: &str, state: &mut Text, older: Option<&Text>, op: &KvOp) -> Option<KvRet> {
        match (anomaly, op) {
            ("stale-get", KvOp::Get) => {
                older.filter(|older| *older != state).map(|older| KvRet::Text(older.0.as_str().into()))
            }
            ("lost-append", KvOp::Append(_)) => Some(KvRet::Done),
            ("phantom", KvOp::Get) => Some(KvRet::Text(format!("{}z", state.0).into())),
            _ => None,
        }
    }

    fn proves(&self, anomaly: &str, ops: &Ops<'_>, planted: usize) -> bool {
        anomaly == "phantom" || proof::unread_append(ops, planted)
    }

    fn format(&self) -> Format {
        Format::Porcupine
    }
}

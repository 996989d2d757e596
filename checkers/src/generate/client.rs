//! Clients of an object, simulated step by step.

use duress_history::formats::{Conventions, Format, Function, Imported, Moment, Operation, Value};
use duress_history::{Outcome, Process};
use duress_seed::Seed;
use stateright::semantics::SequentialSpec;

use super::proof::Ops;
use super::{Label, Labelled, Named, Request};

/// Decisions about one operation.
pub(super) struct Draws {
    seed: Seed,
    /// Its number among all operations, from zero.
    pub(super) number: u32,
    values: Option<u32>,
    /// How many operations there will be.
    pub(super) operations: u32,
}

impl Draws {
    /// A number below a bound; a different one for each question.
    pub(super) fn below(&self, question: u64, bound: u64) -> u64 {
        self.seed.decide(&[20 + question, self.number.into()]).below(bound)
    }

    /// Whether every value is used once.
    pub(super) fn unique(&self) -> bool {
        self.values.is_none()
    }

    /// A value to write: one of the domain, or a new one. From one on.
    pub(super) fn value(&self) -> i64 {
        match self.values {
            Some(values) => self.below(0, values.max(1).into()) as i64 + 1,
            None => i64::from(self.number) + 1,
        }
    }
}

/// An operation in the words of a history.
pub(super) struct Written {
    pub(super) function: Function,
    pub(super) argument: Value,
    /// What it returns if it succeeds.
    pub(super) result: Value,
}

impl Written {
    pub(super) fn new(function: Function, argument: Value, result: Value) -> Written {
        Written { function, argument, result }
    }
}

/// A value that nobody ever writes: above all others.
pub(super) const FOREIGN: i64 = 1 << 40;

/// A model that histories can be made of.
pub(super) trait Sample: Sync {
    /// The object.
    type Spec: SequentialSpec<Op: Clone> + Clone + PartialEq;

    /// The model's name.
    fn model(&self) -> &'static str;

    /// What can be wrong.
    fn anomalies(&self) -> &'static [Named];

    /// The object at first.
    fn initial(&self) -> Self::Spec;

    /// What a process asks next. `held`: how many grants it has; `state`: how the object is.
    fn draw(&self, draws: &Draws, process: u64, held: u32, state: &Self::Spec) -> <Self::Spec as SequentialSpec>::Op;

    /// An operation in words; without a result, its result doesn't count.
    fn write(
        &self,
        op: &<Self::Spec as SequentialSpec>::Op,
        ret: Option<&<Self::Spec as SequentialSpec>::Ret>,
    ) -> Written;

    /// Whether the operation can't be done now and has to wait.
    fn waits(&self, _: &<Self::Spec as SequentialSpec>::Ret) -> bool {
        false
    }

    /// How an operation changes the number of its process's grants when it has succeeded.
    fn grants(&self, _: &<Self::Spec as SequentialSpec>::Op) -> i32 {
        0
    }

    /// Whether an operation takes effect if nobody learns of it; `None`: it may or may not.
    fn forced(&self, _: &<Self::Spec as SequentialSpec>::Op) -> Option<bool> {
        None
    }

    /// Does something wrong instead of the operation, if this is a fit place. `older` is a state
    /// that was surely over when the operation was invoked.
    fn deviate(
        &self,
        anomaly: &str,
        state: &mut Self::Spec,
        older: Option<&Self::Spec>,
        op: &<Self::Spec as SequentialSpec>::Op,
    ) -> Option<<Self::Spec as SequentialSpec>::Ret>;

    /// Whether operations that surely followed each other prove the anomaly; given that values are
    /// used once.
    fn proves(&self, anomaly: &str, ops: &Ops<'_>, planted: usize) -> bool;

    /// Whether an anomaly is proven even if values are used again.
    fn needs_unique(&self, anomaly: &str) -> bool {
        anomaly != "phantom"
    }

    /// The format whose conventions the history has.
    fn format(&self) -> Format {
        Format::Edn
    }
}

/// The same for every kind of sample.
pub(super) trait Maker: Sync {
    fn model(&self) -> &'static str;
    fn anomalies(&self) -> &'static [Named];
    fn make(&self, seed: Seed, request: &Request) -> Labelled;
}

impl<S: Sample> Maker for S {
    fn model(&self) -> &'static str {
        Sample::model(self)
    }

    fn anomalies(&self) -> &'static [Named] {
        Sample::anomalies(self)
    }

    fn make(&self, seed: Seed, request: &Request) -> Labelled {
        Making::new(self, seed, request).run()
    }
}

type Op<S> = <<S as Sample>::Spec as SequentialSpec>::Op;
type Ret<S> = <<S as Sample>::Spec as SequentialSpec>::Ret;

/// How many states an object's past holds.
const PAST: usize = 4;

struct Asked<S: Sample> {
    key: usize,
    op: Op<S>,
    /// What it returned; `None` before it took effect.
    ret: Option<Ret<S>>,
}

#[derive(Clone, Copy)]
enum Client {
    Idle,
    Busy(usize),
}

struct Making<'s, S: Sample> {
    sample: &'s S,
    seed: Seed,
    request: &'s Request,
    objects: Vec<S::Spec>,
    /// Of each object, states that were replaced lately, and by which operation.
    past: Vec<Vec<(S::Spec, usize)>>,
    asked: Vec<Asked<S>>,
    operations: Vec<Operation>,
    entries: u64,
    planted: Option<usize>,
}

impl<'s, S: Sample> Making<'s, S> {
    fn new(sample: &'s S, seed: Seed, request: &'s Request) -> Self {
        let keys = request.keys.max(1) as usize;
        Making {
            sample,
            seed,
            request,
            objects: vec![sample.initial(); keys],
            past: vec![Vec::new(); keys],
            asked: Vec::with_capacity(request.operations as usize),
            operations: Vec::with_capacity(request.operations as usize),
            entries: 0,
            planted: None,
        }
    }

    fn run(mut self) -> Labelled {
        let clients = self.request.clients.max(1) as usize;
        let mut client = vec![Client::Idle; clients];
        let mut process: Vec<u64> = (0..clients as u64).collect();
        let mut held = vec![0u32; clients];
        // Indeterminate operations that are yet to take effect.
        let mut floating: Vec<usize> = Vec::new();
        let (mut step, mut busy) = (0u64, 0);
        let mut idle_steps = 0u32;
        while (self.asked.len() as u32) < self.request.operations || busy > 0 {
            step += 1;
            let draw = self.seed.decide(&[1, step]).bits();
            if !floating.is_empty() && draw >> 54 == 0 {
                let at = (draw % floating.len() as u64) as usize;
                if self.effect(floating[at]) {
                    floating.swap_remove(at);
                }
            }
            let who = ((u64::from(draw as u32) * clients as u64) >> 32) as usize;
            match client[who] {
                Client::Idle if (self.asked.len() as u32) < self.request.operations => {
                    client[who] = Client::Busy(self.invoke(process[who], held[who]));
                    busy += 1;
                }
                Client::Idle => {}
                Client::Busy(op) if self.asked[op].ret.is_some() => {
                    let outcome = Outcome::Ok;
                    self.complete(op, outcome);
                    held[who] = held[who].saturating_add_signed(self.sample.grants(&self.asked[op].op));
                    (client[who], busy, idle_steps) = (Client::Idle, busy - 1, 0);
                }
                Client::Busy(op) => {
                    let ended = if self.chance(3, op, self.request.failed) {
                        Some(Outcome::Fail)
                    } else if self.lets_go(op, held[who]) && self.chance(4, op, self.request.indeterminate) {
                        Some(Outcome::Info)
                    } else if self.effect(op) {
                        None
                    } else {
                        // It waits; and if nobody gets on any more it is given up.
                        idle_steps += 1;
                        (idle_steps as usize > clients * 8).then_some(Outcome::Fail)
                    };
                    let Some(outcome) = ended else { continue };
                    self.complete(op, outcome);
                    (client[who], busy, idle_steps) = (Client::Idle, busy - 1, 0);
                    if outcome == Outcome::Info {
                        process[who] += clients as u64;
                        held[who] = 0;
                        if self.sample.forced(&self.asked[op].op).unwrap_or_else(|| self.chance(5, op, 0.5)) {
                            floating.push(op);
                        }
                    }
                }
            }
        }
        self.finish()
    }

    /// Whether its process holds nothing if nobody learns of an operation's end: it is never heard
    /// of again.
    fn lets_go(&self, op: usize, held: u32) -> bool {
        let op = &self.asked[op].op;
        let takes_effect = self.sample.forced(op) == Some(true);
        held.saturating_add_signed(if takes_effect { self.sample.grants(op) } else { 0 }) == 0
    }

    fn chance(&self, what: u64, op: usize, share: f64) -> bool {
        share > 0.0 && self.seed.decide(&[what, op as u64]).chance(share)
    }

    fn moment(&mut self) -> Moment {
        let index = self.entries;
        self.entries += 1;
        Moment { index, time_ns: Some(index as i64 * 1_000), line: index as usize + 1 }
    }

    fn invoke(&mut self, process: u64, held: u32) -> usize {
        let number = self.asked.len();
        let keys = self.request.keys.max(1);
        let key = self.seed.decide(&[6, number as u64]).below(keys.into()) as usize;
        // A process that holds something goes on with what it holds.
        let last = (held > 0).then(|| self.operations.iter().rposition(|o| o.process.0 == process)).flatten();
        let key = last.map_or(key, |last| self.asked[last].key);
        let Request { values, operations, .. } = *self.request;
        let draws = Draws { seed: self.seed, number: number as u32, values, operations };
        let op = self.sample.draw(&draws, process, held, &self.objects[key]);
        let written = self.sample.write(&op, None);
        let invoked = self.moment();
        let name = match self.sample.format() {
            Format::Porcupine => Some(Value::Text(key.to_string().into())),
            _ => (keys > 1).then_some(Value::Int(key as i64)),
        };
        self.asked.push(Asked { key, op, ret: None });
        self.operations.push(Operation {
            process: Process(process),
            client: None,
            op: duress_history::Op { f: written.function, key: name, value: written.argument },
            result: None,
            invoked,
            completed: None,
            outcome: Outcome::Info,
            error: None,
            node: None,
            term: None,
        });
        number
    }

    fn complete(&mut self, op: usize, outcome: Outcome) {
        let completed = Some(self.moment());
        let asked = &self.asked[op];
        let result = (outcome == Outcome::Ok).then(|| self.sample.write(&asked.op, asked.ret.as_ref()).result);
        let operation = &mut self.operations[op];
        (operation.completed, operation.outcome, operation.result) = (completed, outcome, result);
        operation.error = match outcome {
            Outcome::Ok => None,
            Outcome::Fail => Some(Value::Keyword("refused".into())),
            Outcome::Info => Some(Value::Keyword("timed-out".into())),
        };
    }

    /// Lets an operation take effect. False if it has to wait.
    fn effect(&mut self, op: usize) -> bool {
        let Asked { key, op: asked, .. } = &self.asked[op];
        let (key, invoked) = (*key, self.operations[op].invoked.index);
        let late = op >= self.request.operations as usize / 2;
        let planting = self.request.anomaly.as_deref().filter(|_| late && self.planted.is_none());
        let before = planting.map(|_| self.objects[key].clone());
        if let (Some(anomaly), Some(before)) = (planting, &before) {
            let over = |by: usize| self.operations[by].completed.is_some_and(|end| end.index < invoked);
            let older = self.past[key].iter().find(|(_, by)| over(*by)).map(|(state, _)| state);
            let mut state = before.clone();
            if let Some(ret) = self.sample.deviate(anomaly, &mut state, older, asked) {
                self.planted = Some(op);
                self.objects[key] = state;
                self.asked[op].ret = Some(ret);
                return true;
            }
        }
        let ret = self.objects[key].invoke(asked);
        if self.sample.waits(&ret) {
            return false;
        }
        if let Some(before) = before.filter(|before| *before != self.objects[key]) {
            let past = &mut self.past[key];
            past.push((before, op));
            if past.len() > PAST {
                past.remove(0);
            }
        }
        self.asked[op].ret = Some(ret);
        true
    }

    fn finish(self) -> Labelled {
        let format = self.sample.format();
        let history = Imported {
            format,
            conventions: Conventions::of(format),
            operations: self.operations,
            nemesis: Vec::new(),
            entries: self.entries,
            independent: format != Format::Porcupine && self.request.keys > 1,
            events: Vec::new(),
            truncated: false,
        };
        let label = match (&self.request.anomaly, self.planted) {
            (None, _) | (_, None) => Label::Valid,
            (Some(anomaly), Some(planted)) => {
                let unique = self.request.values.is_none() || !self.sample.needs_unique(anomaly);
                let ops = Ops::of(&history, planted);
                if unique && self.sample.proves(anomaly, &ops, planted) { Label::Invalid } else { Label::Perhaps }
            }
        };
        Labelled { history, label, planted: self.planted }
    }
}

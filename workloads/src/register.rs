//! Reads, writes and compare-and-sets of many registers.
//!
//! A fixed number of keys is in use at any time. Each is retired after a bounded number of
//! operations and replaced by a fresh one, so that the history of one key stays short enough to be
//! checked cheaply (linearizability is local: Herlihy & Wing, "Linearizability", 1990, section
//! 3.1), while the contention stays as it is.

use std::collections::VecDeque;
use std::time::Duration;

use duress_checkers::Judge;
use duress_checkers::linearizable::Linearizable;
use duress_checkers::register::RegisterOp;
use duress_history::{Completion, Outcome, Value};
use duress_plug::{Facts, Opt, Opts, Problem, Shrink, Value as Setting};
use duress_seed::Seed;
use smol_str::{SmolStr, format_smolstr};

use crate::{FinalOp, Generator, Next, PROBES, Size, Slot, Workload};

/// How often each kind of operation is chosen, relative to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mix {
    /// Weight of reads.
    pub read: u32,
    /// Weight of writes.
    pub write: u32,
    /// Weight of compare-and-sets.
    pub cas: u32,
}

/// What can be chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Keys in use at a time; at least one is.
    pub keys: usize,
    /// Operations on a key before it is retired.
    pub ops_per_key: u32,
    /// What keys are called: this and a number.
    pub prefix: SmolStr,
    /// How often each kind of operation is chosen. If all weights are zero: reads only.
    pub mix: Mix,
}

static OPTIONS: &[Opt] = &[
    Opt::concurrency(),
    Opt::rate(),
    Opt::ops(),
    Opt::integer("keys", 1..=10_000, 5, "Keys in use at a time.").shrunk(Shrink::Few),
    Opt::integer("ops_per_key", 1..=1_000, 150, "Operations on a key before it is replaced by a fresh one."),
    Opt::text(
        "prefix",
        "1 to 16 letters, digits, `-` and `_`",
        is_prefix,
        "r",
        "What keys are called: this and a number.",
    )
    .reserving(&[PROBES]),
    Opt::weights(
        "mix",
        &["read", "write", "cas"],
        1_000,
        &[50, 30, 20],
        "How often each kind of operation is chosen; of those that aren't named, none.",
    )
    .or("read 50, write 30, cas 20 if the target has one", |draft| {
        Setting::Weights(vec![50, 30, if draft.serves("cas") { 20 } else { 0 }])
    }),
];

/// No key's name needs to begin with more than 16 characters.
fn is_prefix(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    !text.is_empty() && text.len() <= 16 && text.chars().all(fits)
}

impl Options {
    fn of(options: &Opts) -> Options {
        let weight = |at: usize| options.weights("mix").get(at).map_or(0, |weight| *weight as u32);
        Options {
            keys: options.integer("keys") as usize,
            ops_per_key: options.integer("ops_per_key") as u32,
            prefix: options.text("prefix").clone(),
            mix: Mix { read: weight(0), write: weight(1), cas: weight(2) },
        }
    }
}

impl Default for Options {
    fn default() -> Options {
        Options::of(&Opts::usual(OPTIONS))
    }
}

/// The workload.
pub struct Plug;

impl duress_plug::Workload for Plug {
    fn name(&self) -> &'static str {
        "register"
    }

    fn about(&self) -> &'static str {
        "reads, writes and compare-and-sets of many keys; must be linearizable"
    }

    fn options(&self) -> &'static [Opt] {
        OPTIONS
    }

    fn check(&self, options: &Opts, target: &str, facts: &Facts) -> Result<(), Problem> {
        let Mix { read, write, cas } = Options::of(options).mix;
        if cas > 0 && !facts.serves("cas") {
            let message = format!("workload.mix.cas is {cas}, but a {target} target has no compare-and-set");
            return Err(Problem::new(&["mix.cas"], message).suggest("set it to 0, or leave it out"));
        }
        if read + write + cas == 0 {
            let problem = Problem::new(&["mix"], "workload.mix has no weight above zero, so nothing would be done");
            return Err(problem.suggest("give one of read, write and cas a weight"));
        }
        Ok(())
    }

    fn functions(&self, options: &Opts) -> Vec<&'static str> {
        let Mix { write, cas, .. } = Options::of(options).mix;
        // At the end there are reads in any case.
        [("read", 1), ("write", write), ("cas", cas)].iter().filter(|(_, w)| *w > 0).map(|(name, _)| *name).collect()
    }
}

impl Workload for Plug {
    fn generator(&self, options: &Opts, size: &Size, seed: Seed) -> Box<dyn Generator> {
        Box::new(Register::new(Options::of(options), size.nodes, size.concurrency, seed))
    }

    fn checker(&self, _options: &Opts, _require_convergence: bool) -> Box<dyn Judge> {
        Box::new(Linearizable::default())
    }
}

/// A key is retired early after this many indeterminate operations: each stays concurrent with
/// everything after it, which is what makes checking expensive.
const MAX_INDETERMINATE: u32 = 12;

/// No more than this many keys are read in the final phase, and each at two nodes.
const FINAL_KEYS: usize = 100;

/// A key in use.
struct Active {
    name: SmolStr,
    generation: u64,
    used: u32,
    indeterminate: u32,
    /// Values given out; each write or cas of a key carries another one.
    values: i64,
    /// What the key was last known to hold; compare-and-sets expect it.
    last: Value,
}

/// The generator.
pub struct Register {
    options: Options,
    seed: Seed,
    nodes: usize,
    active: Vec<Active>,
    retired: VecDeque<SmolStr>,
    /// For each slot, how many operations it has begun.
    begun: Vec<u64>,
}

/// What a decision is about; the last word of its key.
const KEY: u64 = 1;
const KIND: u64 = 2;

impl Register {
    /// A generator for `slots` slots over a target of `nodes` nodes.
    pub fn new(options: Options, nodes: usize, slots: usize, seed: Seed) -> Register {
        let keys = options.keys.max(1);
        let active = (0..keys).map(|index| fresh(&options.prefix, index, 0, keys)).collect();
        Register { options, seed, nodes, active, retired: VecDeque::new(), begun: vec![0; slots] }
    }

    fn retire(&mut self, index: usize) {
        let keys = self.active.len();
        let next = fresh(&self.options.prefix, index, self.active[index].generation + 1, keys);
        let old = std::mem::replace(&mut self.active[index], next);
        self.retired.push_back(old.name);
        if self.retired.len() > FINAL_KEYS {
            self.retired.pop_front();
        }
    }
}

/// A key's name tells its place and generation, so that one place's pace doesn't rename the keys
/// of another.
fn fresh(prefix: &str, index: usize, generation: u64, keys: usize) -> Active {
    let name = format_smolstr!("{prefix}{}", generation.saturating_mul(keys as u64) + index as u64);
    Active { name, generation, used: 0, indeterminate: 0, values: 0, last: Value::Nil }
}

impl Generator for Register {
    fn next(&mut self, who: Slot, _now: Duration) -> Next {
        let Some(begun) = self.begun.get_mut(who.index) else { return Next::Done };
        let number = *begun;
        *begun += 1;
        let decide = |about| self.seed.decide(&[who.index as u64, number, about]);
        let index = decide(KEY).below(self.active.len() as u64) as usize;
        let Mix { read, write, cas } = self.options.mix;
        let chosen = decide(KIND).below(u64::from(read) + u64::from(write) + u64::from(cas));
        let key = &mut self.active[index];
        let name = key.name.clone();
        let op = if chosen < u64::from(read) || (write == 0 && cas == 0) {
            RegisterOp::Read
        } else {
            key.values += 1;
            let value = Value::Int(key.values);
            if chosen < u64::from(read) + u64::from(write) {
                RegisterOp::Write(value)
            } else {
                RegisterOp::Cas { from: key.last.clone(), to: value }
            }
        };
        key.used += 1;
        if key.used >= self.options.ops_per_key {
            self.retire(index);
        }
        Next::Op(op.on(name))
    }

    fn completed(&mut self, _who: Slot, completion: &Completion, _now: Duration) {
        let (Some(name), Some(op)) = (completion.op.key_text(), RegisterOp::of(&completion.op)) else { return };
        let Some(index) = self.active.iter().position(|key| key.name == *name) else { return };
        let key = &mut self.active[index];
        match completion.outcome {
            Outcome::Ok => key.last = op.sets().unwrap_or(&completion.result).clone(),
            Outcome::Fail => {}
            // An indeterminate read had no effect to wonder about.
            Outcome::Info if op == RegisterOp::Read => {}
            Outcome::Info => {
                key.indeterminate += 1;
                if key.indeterminate >= MAX_INDETERMINATE {
                    self.retire(index);
                }
            }
        }
    }

    /// Reads of all keys in use and of those last retired, each at two nodes, all nodes in turn.
    fn finale(&self) -> Vec<FinalOp> {
        let nodes = self.nodes.max(1);
        let keys = self.active.iter().map(|key| &key.name).chain(self.retired.iter().rev()).take(FINAL_KEYS);
        let reads = keys.enumerate().flat_map(|(i, key)| {
            (0..nodes.min(2)).map(move |n| FinalOp { node: (2 * i + n) % nodes, op: RegisterOp::Read.on(key) })
        });
        reads.collect()
    }
}

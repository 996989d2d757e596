//! Labelled histories of registers, from a seed: what clients of correct registers could have
//! seen, or that with one anomaly planted. For benchmarks, fuzzing, and trying other checkers.

use duress_seed::Seed;

use crate::engine::{Action, History, Operation, PENDING};

/// What a generated history is like.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// How many operations.
    pub operations: u32,
    /// How many clients; each has one operation in progress at most, indeterminate ones apart.
    pub clients: u32,
    /// How many registers; clients choose among them at random.
    pub keys: u32,
    /// How many different values are written, 0 among them; `None`: each is written once.
    pub values: Option<u32>,
    /// The share of cas among the operations; what is left is half reads, half writes.
    pub cas: f64,
    /// The share of operations of which nobody learns whether they took effect. Half of them do.
    pub indeterminate: f64,
    /// The share of operations that fail before they take effect. They aren't in the history.
    pub failed: f64,
    /// What is wrong with it.
    pub anomaly: Option<Anomaly>,
}

impl Default for Options {
    /// 1,000 operations of 5 clients on one key, with values 0 to 4, a third of each kind.
    fn default() -> Self {
        Options {
            operations: 1_000,
            clients: 5,
            keys: 1,
            values: Some(5),
            cas: 1.0 / 3.0,
            indeterminate: 0.0,
            failed: 0.0,
            anomaly: None,
        }
    }
}

/// What can be wrong with a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anomaly {
    /// One read returned a value that had been overwritten before.
    StaleRead,
    /// One confirmed write never took effect.
    LostWrite,
    /// One read returned a value that nobody wrote.
    Phantom,
}

/// What a generated history must be judged to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// It has an order: the one in which it was made.
    Valid,
    /// It has none.
    Invalid,
    /// An anomaly was planted where it can't be told from a rare but allowed order, as when other
    /// writes may have set the same value.
    Perhaps,
}

/// A history and what it must be judged to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// The history.
    pub history: History,
    /// What it is.
    pub label: Label,
    /// The operation that the anomaly was planted at; `None` if there was no fit place.
    pub planted: Option<usize>,
}

/// Clients' progress.
#[derive(Clone, Copy)]
enum Client {
    Idle,
    /// With this operation; whether it has taken effect.
    Busy(usize, bool),
}

/// Generates a history: a function of the seed and the options.
pub fn registers(seed: Seed, options: &Options) -> Generated {
    let mut making = Making {
        seed,
        options,
        operations: Vec::with_capacity(options.operations as usize),
        held: vec![(0, None); options.keys.max(1) as usize],
        fate: Vec::new(),
        lost: None,
        planted: None,
        certain: false,
    };
    making.run();
    let label = match (options.anomaly, making.planted) {
        (None, _) | (_, None) => Label::Valid,
        (Some(_), Some(_)) if making.certain => Label::Invalid,
        _ => Label::Perhaps,
    };
    let operations = making.operations;
    let history = History { operations, keys: options.keys.max(1), initial: 0 };
    Generated { history, label, planted: making.planted }
}

struct Making<'o> {
    seed: Seed,
    options: &'o Options,
    operations: Vec<Operation>,
    /// Each register's value, and which operation set it.
    held: Vec<(u32, Option<usize>)>,
    /// For each operation: the one that had set what it overwrote or saw.
    fate: Vec<Option<usize>>,
    /// The write that is lost.
    lost: Option<usize>,
    planted: Option<usize>,
    certain: bool,
}

impl Making<'_> {
    fn run(&mut self) {
        let clients = self.options.clients.max(1) as usize;
        let mut client = vec![Client::Idle; clients];
        // Indeterminate operations that are yet to take effect.
        let mut floating: Vec<usize> = Vec::new();
        let (mut started, mut step, mut place, mut busy) = (0, 0u64, 0u32, 0);
        while started < self.options.operations || busy > 0 {
            step += 1;
            let draw = self.seed.decide(&[1, step]).bits();
            if !floating.is_empty() && draw >> 54 == 0 {
                let op = floating.swap_remove((draw % floating.len() as u64) as usize);
                self.effect(op);
            }
            let who = ((u64::from(draw as u32) * clients as u64) >> 32) as usize;
            match client[who] {
                Client::Idle if started < self.options.operations => {
                    started += 1;
                    if let Some(op) = self.invoke(started, place) {
                        place += 1;
                        busy += 1;
                        client[who] = Client::Busy(op, false);
                    }
                }
                Client::Idle => {}
                Client::Busy(op, false) => {
                    let pending = self.chance(4, op, self.options.indeterminate);
                    if pending {
                        client[who] = Client::Idle;
                        busy -= 1;
                        if self.chance(5, op, 0.5) {
                            floating.push(op);
                        }
                    } else {
                        client[who] = Client::Busy(op, true);
                        self.effect(op);
                    }
                }
                Client::Busy(op, true) => {
                    self.operations[op].returned = place;
                    place += 1;
                    busy -= 1;
                    client[who] = Client::Idle;
                    self.plant_at_return(op);
                }
            }
        }
    }

    fn chance(&self, what: u64, op: usize, share: f64) -> bool {
        share > 0.0 && self.seed.decide(&[what, op as u64]).chance(share)
    }

    fn invoke(&mut self, number: u32, place: u32) -> Option<usize> {
        if self.chance(3, number as usize, self.options.failed) {
            return None;
        }
        let op = self.operations.len();
        let draw = self.seed.decide(&[2, op as u64]);
        let bits = draw.bits().wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let value = match self.options.values {
            Some(values) => ((u64::from(bits as u32) * u64::from(values)) >> 32) as u32,
            None => op as u32 + 1,
        };
        let key = self.seed.decide(&[6, op as u64]).below(u64::from(self.options.keys)) as u32;
        let action = if draw.chance(self.options.cas) {
            Action::Cas { from: 0, to: value }
        } else if bits >> 63 == 0 {
            Action::Read(0)
        } else {
            Action::Write(value)
        };
        self.operations.push(Operation { key, action, invoked: place, returned: PENDING });
        self.fate.push(None);
        Some(op)
    }

    fn effect(&mut self, op: usize) {
        let key = self.operations[op].key as usize;
        let (held, setter) = self.held[key];
        self.fate[op] = setter;
        let is_late = op >= self.options.operations as usize / 2;
        match &mut self.operations[op].action {
            Action::Read(value) => *value = held,
            Action::Write(_) if self.options.anomaly == Some(Anomaly::LostWrite) && is_late && self.lost.is_none() => {
                self.lost = Some(op);
                self.planted = Some(op);
            }
            Action::Write(value) => self.held[key] = (*value, Some(op)),
            // It asks for what is there: one that doesn't match would tell nothing.
            Action::Cas { from, to } => {
                *from = held;
                self.held[key] = (*to, Some(op));
            }
            Action::Differs(_) => {}
        }
    }

    /// Whether operation `a` returned before `b` was invoked; the initial value's "write" did.
    fn precedes(&self, a: Option<usize>, b: usize) -> bool {
        a.is_none_or(|a| self.operations[a].returned < self.operations[b].invoked)
    }

    fn plant_at_return(&mut self, op: usize) {
        let Action::Read(_) = self.operations[op].action else { return };
        let unique = self.options.values.is_none();
        let setter = self.fate[op];
        match self.options.anomaly {
            Some(Anomaly::Phantom) if self.planted.is_none() && op >= self.options.operations as usize / 2 => {
                self.operations[op].action = Action::Read(self.options.values.unwrap_or(u32::MAX / 2));
                (self.planted, self.certain) = (Some(op), true);
            }
            Some(Anomaly::StaleRead) if self.planted.is_none() && op >= self.options.operations as usize / 2 => {
                // What was there before the value that was seen, if it was surely gone.
                let Some(setter) = setter.filter(|setter| self.precedes(Some(*setter), op)) else { return };
                let before = self.fate[setter];
                let old = before.map_or(0, |before| match self.operations[before].action {
                    Action::Write(to) | Action::Cas { to, .. } => to,
                    _ => 0,
                });
                if !self.precedes(before, setter) || self.operations[op].action == Action::Read(old) {
                    return;
                }
                self.operations[op].action = Action::Read(old);
                (self.planted, self.certain) = (Some(op), unique);
            }
            Some(Anomaly::LostWrite) => {
                // Someone saw what was there before, surely after it should have been overwritten.
                let Some(lost) = self.lost else { return };
                self.certain |= unique
                    && self.operations[lost].key == self.operations[op].key
                    && setter == self.fate[lost]
                    && self.precedes(setter, lost)
                    && self.precedes(Some(lost), op);
            }
            _ => {}
        }
    }
}

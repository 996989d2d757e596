//! Several registers that are read and written together, atomically.

use std::collections::BTreeMap;

use duress_history::formats::{Function, Known, Operation, Value};
use stateright::semantics::SequentialSpec;

use super::cannot;
use super::object::{Call, Object, Part};
use super::values::{NIL, Values};

/// Registers and what they hold. Those not in it hold `nil`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct MultiRegister(BTreeMap<u32, u32>);

/// One step of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Reads a register.
    Read(u32),
    /// Sets a register to a value.
    Write(u32, u32),
}

/// What the steps of an operation saw: for each read the value, or `None` if it isn't known.
pub type Seen = Vec<Option<u32>>;

impl SequentialSpec for MultiRegister {
    type Op = Vec<Step>;
    type Ret = Seen;

    fn invoke(&mut self, op: &Vec<Step>) -> Seen {
        let mut seen = Vec::new();
        for step in op {
            match step {
                Step::Read(register) => seen.push(Some(self.0.get(register).copied().unwrap_or(NIL))),
                Step::Write(register, NIL) => drop(self.0.remove(register)),
                Step::Write(register, value) => drop(self.0.insert(*register, *value)),
            }
        }
        seen
    }

    fn is_valid_step(&mut self, op: &Vec<Step>, ret: &Seen) -> bool {
        let seen = self.invoke(op);
        seen.len() == ret.len() && seen.iter().zip(ret).all(|(is, said)| said.is_none() || is == said)
    }
}

/// Registers that are read and written together.
pub(crate) struct MultiRegisters;

impl Object for MultiRegisters {
    type Spec = MultiRegister;

    fn name(&self) -> &'static str {
        "multi-register"
    }

    fn about(&self) -> &'static str {
        "registers, nil at first, of which several are read or written at once: txn [[:r k v] [:w k v] ...], \
         or read and write of maps {k v}"
    }

    fn initial(&self) -> MultiRegister {
        MultiRegister::default()
    }

    fn calls(
        &self,
        operation: &Operation,
        known: Known<'_>,
        values: &mut Values,
        calls: &mut Vec<Call<MultiRegister>>,
    ) -> Result<(), String> {
        let said = match known {
            Known::Happened(result) => Some(result),
            _ => None,
        };
        let mut steps = Vec::new();
        let mut seen = Vec::new();
        match (&operation.op.f, said.unwrap_or(&operation.op.value)) {
            (Function::Txn, Value::Vector(micro) | Value::List(micro)) => {
                for micro in micro {
                    match micro.as_sequence() {
                        Some([Value::Keyword(what), register, value]) if matches!(what.as_str(), "r" | "read") => {
                            steps.push(Step::Read(values.number(register)));
                            seen.push(said.and_then(|_| values.tells(value)));
                        }
                        Some([Value::Keyword(what), register, value]) if matches!(what.as_str(), "w" | "write") => {
                            steps.push(Step::Write(values.number(register), values.number(value)));
                        }
                        _ => return Err(format!("{micro} is neither [:r key value] nor [:w key value]")),
                    }
                }
            }
            (Function::Read, Value::Map(read)) => {
                for (register, value) in read {
                    steps.push(Step::Read(values.number(register)));
                    seen.push(said.and_then(|_| values.tells(value)));
                }
            }
            (Function::Write, _) => {
                let Value::Map(written) = &operation.op.value else {
                    return Err(format!("a write of {}, which is no map", operation.op.value));
                };
                for (register, value) in written {
                    steps.push(Step::Write(values.number(register), values.number(value)));
                }
            }
            (Function::Read, _) if said.is_none() => return Ok(()),
            (Function::Txn | Function::Read, other) => {
                return Err(format!("{other} is no result of a {}", operation.op.f));
            }
            _ => return cannot(operation, "txn, read and write"),
        }
        let looks = steps.iter().all(|step| matches!(step, Step::Read(_)));
        match said {
            Some(_) if looks => calls.push(Call::look(steps, seen)),
            Some(_) => calls.push(Call::new(steps, Some(seen))),
            None if looks => {}
            None => calls.push(Call::new(steps, None)),
        }
        Ok(())
    }

    /// Registers that no operation touches together can be judged apart.
    fn split(&self, part: Part<MultiRegister>) -> Vec<Part<MultiRegister>> {
        let register = |step: &Step| match step {
            Step::Read(register) | Step::Write(register, _) => *register,
        };
        let mut groups = Groups::default();
        for entry in &part.entries {
            for pair in entry.op.windows(2) {
                groups.join(register(&pair[0]), register(&pair[1]));
            }
        }
        let mut parts: Vec<Part<MultiRegister>> = Vec::new();
        let mut by_group: BTreeMap<u32, usize> = BTreeMap::new();
        for (entry, source) in part.entries.into_iter().zip(part.sources) {
            let Some(first) = entry.op.first() else { continue };
            let at = *by_group.entry(groups.of(register(first))).or_insert_with(|| {
                parts.push(Part { key: part.key.clone(), entries: Vec::new(), sources: Vec::new() });
                parts.len() - 1
            });
            parts[at].entries.push(entry);
            parts[at].sources.push(source);
        }
        parts
    }
}

/// Disjoint sets of registers.
#[derive(Default)]
struct Groups(BTreeMap<u32, u32>);

impl Groups {
    fn of(&mut self, register: u32) -> u32 {
        let mut at = register;
        while let Some(up) = self.0.get(&at).copied() {
            if let Some(above) = self.0.get(&up).copied() {
                self.0.insert(at, above);
            }
            at = up;
        }
        at
    }

    fn join(&mut self, a: u32, b: u32) {
        let (a, b) = (self.of(a), self.of(b));
        if a != b {
            self.0.insert(a, b);
        }
    }
}
